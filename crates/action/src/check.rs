//! Checkers that return a defect as a number, so that tests choose the tolerance.

use crate::{Action, Result, action_and_force};
use candle_core::Tensor;
use latflow_lattice::{Manifold, sum_per_configuration};

/// max_b of the relative difference between ⟨F, ω⟩ and a four-point finite difference of −S along the tangent ω.
///
/// # Errors
/// When the action fails.
pub fn force_defect<X: Manifold>(action: &impl Action<X>, x: &X, omega: &Tensor, step: f64) -> Result<f64> {
    let (_, force) = action_and_force(action, x)?;
    let along = sum_per_configuration(&(force * omega)?)?.to_vec1::<f64>()?;
    let at = |h: f64| -> Result<Vec<f64>> { Ok(action.action(&x.exp(&(omega * h)?)?)?.to_vec1::<f64>()?) };
    let (p1, m1, p2, m2) = (at(step)?, at(-step)?, at(2.0 * step)?, at(-2.0 * step)?);
    let defect = |b: usize| {
        let difference = -(8.0 * (p1[b] - m1[b]) - (p2[b] - m2[b])) / (12.0 * step);
        (along[b] - difference).abs() / (1.0 + difference.abs())
    };
    Ok((0..along.len()).map(defect).fold(0.0, f64::max))
}
