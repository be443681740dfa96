//! Checkers that return a defect as a number, so that tests choose the tolerance.

use crate::{LinearOperator, Result};
use candle_core::Tensor;
use latflow_lattice::check::max_difference;
use latflow_lattice::sum_per_configuration;

/// max_b |⟨w, D v⟩ − ⟨D† w, v⟩| over the batch, for real or (re, im) vectors: zero when the adjoint is the adjoint.
///
/// # Errors
/// When the operator fails.
pub fn adjoint_defect(operator: &dyn LinearOperator, v: &Tensor, w: &Tensor) -> Result<f64> {
    let left = sum_per_configuration(&(w * operator.apply(v)?)?)?;
    let right = sum_per_configuration(&(operator.apply_adjoint(w)? * v)?)?;
    Ok(max_difference(&left, &right)?)
}

/// max |D(a v + w) − a D v − D w|: zero when the operator is linear.
///
/// # Errors
/// When the operator fails.
pub fn linearity_defect(operator: &dyn LinearOperator, a: f64, v: &Tensor, w: &Tensor) -> Result<f64> {
    let together = operator.apply(&((v * a)? + w)?)?;
    let apart = ((operator.apply(v)? * a)? + operator.apply(w)?)?;
    Ok(max_difference(&together, &apart)?)
}
