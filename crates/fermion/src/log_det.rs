//! Quadratic forms of an inverse, and stochastic gradients of log-determinants, with one solve and no second derivative.
//!
//! ```text
//! ϕ†(DD†)⁻¹ϕ = max_η [ 2 Re⟨ϕ, η⟩ − ‖D†η‖² ],   attained at η = (DD†)⁻¹ϕ
//! ∇ log det DD† = E[ η† (∇DD†) η ],   η = (D†)⁻¹χ,   χ ~ e^{−χ†χ}                     [YUK (C2)–(C4)]
//! ```
//!
//! In both, η is solved for without autodiff and held fixed; what is differentiated is one application of D†(φ).

use crate::{ConjugateGradient, Dirac, LinearOperator, NormalOperator, Result, Solution};
use candle_core::{DType, Tensor};
use latflow_lattice::{Configuration, Rng, normal_tensor, sum_per_configuration};

/// ϕ†(DD†)⁻¹ϕ, `[B]`, with gradients in the background field and in ϕ `[B, 2, N]`. The value errs by the square of the solver's residual.
///
/// # Errors
/// When the solver does not converge.
pub fn quadratic_form_of_inverse<D: Dirac>(
    dirac: &D,
    field: &D::Field,
    pf: &Tensor,
    solver: &ConjugateGradient,
) -> Result<(Tensor, Solution)> {
    let solution = solver.solve(&NormalOperator(dirac.bind(&field.detach())?), pf)?;
    let eta = &solution.x;
    let cross = sum_per_configuration(&(pf * eta)?)?;
    let norm = sum_per_configuration(&dirac.bind(field)?.apply_adjoint(eta)?.sqr()?)?;
    Ok((((cross * 2.0)? - norm)?, solution))
}

/// A tensor `[B]` whose *gradient* in the background field is an unbiased estimate of ∇ log det D D†, averaged over `draws` noise vectors.
/// Its value is not log det: it is ‖χ‖² up to the solver's residual.
///
/// # Errors
/// When the solver does not converge.
pub fn stochastic_log_det<D: Dirac>(
    dirac: &D,
    field: &D::Field,
    solver: &ConjugateGradient,
    draws: usize,
    rng: &mut Rng,
) -> Result<Tensor> {
    let batch = field.batch()?;
    let detached = dirac.bind(&field.detach())?;
    let tracked = dirac.bind(field)?;
    let mut sum: Option<Tensor> = None;
    for _ in 0..draws.max(1) {
        // e^{−χ†χ}: real and imaginary part have variance ½ each.
        let sigma = std::f64::consts::FRAC_1_SQRT_2;
        let chi = normal_tensor(rng, sigma, &dirac.vector_shape(batch), DType::F64, field.device())?;
        // (D†)⁻¹χ = (DD†)⁻¹ D χ
        let eta = solver.solve(&NormalOperator(detached.clone()), &detached.apply(&chi)?)?.x;
        let form = sum_per_configuration(&tracked.apply_adjoint(&eta)?.sqr()?)?;
        sum = Some(match sum {
            Some(s) => (s + form)?,
            None => form,
        });
    }
    let sum = sum.expect("at least one draw");
    Ok((sum / draws.max(1) as f64)?)
}
