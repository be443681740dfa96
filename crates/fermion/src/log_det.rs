//! Quadratic forms of an inverse, and stochastic gradients of log-determinants, with one solve and no second derivative.
//!
//! ```text
//! ϕ†(DD†)⁻¹ϕ = max_η [ 2 Re⟨ϕ, η⟩ − ‖D†η‖² ],   attained at η = (DD†)⁻¹ϕ
//! ∇ log det DD† = E[ η† (∇DD†) η ],   η = (D†)⁻¹χ,   χ ~ e^{−χ†χ}                     [YUK (C2)–(C4)]
//! ```
//!
//! In both, η is solved for without autodiff and held fixed; what is differentiated is one application of D†(φ). Training regulates
//! D D† by a shift [QCD Sec. 3.1]:
//!
//! ```text
//! ϕ†(DD† + μ₀)⁻¹ϕ = max_η [ 2 Re⟨ϕ, η⟩ − ‖D†η‖² − μ₀‖η‖² ]
//! ∇ log det (DD† + μ₀) = E[ η† (∇DD†) χ ],   η = (DD† + μ₀)⁻¹χ
//! ```

use crate::{ConjugateGradient, Dirac, LinearOperator, NormalOperator, Result, Shifted, Solution};
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
    regulated_quadratic_form(dirac, field, pf, 0.0, solver)
}

/// ϕ†(DD† + μ₀)⁻¹ϕ, `[B]`, as [`quadratic_form_of_inverse`] [QCD Sec. 3.1].
///
/// # Errors
/// When the solver does not converge or μ₀ is negative.
pub fn regulated_quadratic_form<D: Dirac>(
    dirac: &D,
    field: &D::Field,
    pf: &Tensor,
    shift: f64,
    solver: &ConjugateGradient,
) -> Result<(Tensor, Solution)> {
    let normal = Shifted::new(NormalOperator(dirac.bind(&field.detach())?), shift)?;
    let solution = solver.solve(&normal, pf)?;
    let eta = &solution.x;
    let cross = sum_per_configuration(&(pf * eta)?)?;
    let norm = sum_per_configuration(&dirac.bind(field)?.apply_adjoint(eta)?.sqr()?)?;
    let regulator = (sum_per_configuration(&eta.sqr()?)? * shift)?;
    let form = (((cross * 2.0)? - norm)? - regulator)?;
    Ok((form, solution))
}

/// A tensor `[B]` whose *gradient* in the background field is an unbiased estimate of ∇ log det (D D† + μ₀), averaged over `draws` noise
/// vectors [QCD Sec. 3.1]. Its value means nothing.
///
/// # Errors
/// When the solver does not converge or μ₀ is negative.
pub fn regulated_log_det<D: Dirac>(
    dirac: &D,
    field: &D::Field,
    shift: f64,
    solver: &ConjugateGradient,
    draws: usize,
    rng: &mut Rng,
) -> Result<Tensor> {
    let normal = Shifted::new(NormalOperator(dirac.bind(&field.detach())?), shift)?;
    let tracked = dirac.bind(field)?;
    let form = || -> Result<Tensor> {
        let chi = unit_noise(dirac, field, rng)?;
        let eta = solver.solve(&normal, &chi)?.x;
        let product = (tracked.apply_adjoint(&eta)? * tracked.apply_adjoint(&chi)?)?;
        Ok(sum_per_configuration(&product)?)
    };
    mean(draws, form)
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
    let detached = dirac.bind(&field.detach())?;
    let tracked = dirac.bind(field)?;
    let form = || -> Result<Tensor> {
        // (D†)⁻¹χ = (DD†)⁻¹ D χ
        let source = detached.apply(&unit_noise(dirac, field, rng)?)?;
        let eta = solver.solve(&NormalOperator(detached.clone()), &source)?.x;
        Ok(sum_per_configuration(&tracked.apply_adjoint(&eta)?.sqr()?)?)
    };
    mean(draws, form)
}

/// χ ~ e^{−χ†χ}: real and imaginary part have variance ½ each.
fn unit_noise<D: Dirac>(dirac: &D, field: &D::Field, rng: &mut Rng) -> Result<Tensor> {
    let shape = dirac.vector_shape(field.batch()?);
    Ok(normal_tensor(rng, std::f64::consts::FRAC_1_SQRT_2, &shape, DType::F64, field.device())?)
}

/// The mean of `draws` tensors, at least one.
fn mean(draws: usize, mut draw: impl FnMut() -> Result<Tensor>) -> Result<Tensor> {
    let mut sum = draw()?;
    for _ in 1..draws {
        sum = (sum + draw()?)?;
    }
    Ok((sum / draws.max(1) as f64)?)
}
