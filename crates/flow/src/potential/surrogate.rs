//! Values computed without a graph that carry a derivative computed when it is asked for.
//!
//! ```text
//! ∂ log det H_u = Tr[G ∂H_u],   G = H_u⁻¹                                        from the inverse matrix
//!               = E[(H_u⁻¹χ)ᵀ ∂H_u χ]                                            from noise [YUK (32)]
//! z = (∇u)⁻¹(x):   ∂z = H_u⁻¹(∂x − ∂_θ∇u ∂θ)                                      the implicit function theorem
//! ```
//!
//! On the right, H_u and ∇u are forward operations and what multiplies them is a constant, so each is one first derivative. The
//! graph of the Jacobians lives only while a part of the batch is differentiated.

use super::determinant;
use super::network::ConvexPotential;
use super::noise::Noise;
use super::pass::Hessian;
use crate::Result;
use candle_core::{CustomOp3, Tensor, Var};
use latflow_fermion::{ConjugateGradient, LinearOperator};
use latflow_lattice::sum_per_configuration;

/// Where G comes from.
pub(super) enum Source {
    /// The inverse of these matrices, `[B, V, V]`.
    Hessian(Tensor),
    /// Noise vectors.
    Noise { noise: Noise, probes: usize, solver: ConjugateGradient },
}

/// `value` `[B]` with the derivative of log det H_u(z) in z and in the parameters.
pub(super) fn log_det(
    potential: &ConvexPotential,
    z: &Tensor,
    value: &Tensor,
    source: Source,
) -> Result<Tensor> {
    let op = LogDet { potential: potential.clone(), source };
    Ok(z.apply_op3(potential.theta(), &value.detach(), op)?)
}

/// The value z with the derivative of (∇u)⁻¹(x) in x and in the parameters.
pub(super) fn inverse(
    potential: &ConvexPotential,
    x: &Tensor,
    z: &Tensor,
    solver: ConjugateGradient,
) -> Result<Tensor> {
    let op = Inverse { potential: potential.clone(), solver };
    Ok(x.apply_op3(potential.theta(), &z.detach().contiguous()?, op)?)
}

struct LogDet {
    potential: ConvexPotential,
    source: Source,
}

impl LogDet {
    /// Derivatives of Σ_b grad_b log det H_u(z_b).
    fn gradients(&self, z: &Tensor, theta: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
        let batch = z.dim(0)?;
        let chunks = match self.source {
            Source::Hessian(_) => self.potential.chunks(z)?,
            Source::Noise { .. } => vec![(0, batch)],
        };
        let theta = Var::from_tensor(&theta.detach())?;
        let mut dtheta = theta.zeros_like()?;
        let mut dz = Vec::with_capacity(chunks.len());
        for (start, len) in chunks {
            let part = Var::from_tensor(&z.detach().narrow(0, start, len)?)?;
            let traces = match &self.source {
                Source::Hessian(h) => {
                    let g = determinant::inverse(&h.narrow(0, start, len)?)?;
                    let pass = self.potential.pass_with(theta.as_tensor(), part.as_tensor())?;
                    self.potential.geometry().trace(&pass, &g)?
                }
                Source::Noise { noise, probes, solver } => {
                    self.estimate(part.as_tensor(), theta.as_tensor(), &noise.draw(&part, *probes)?, solver)?
                }
            };
            let grad = grad.detach().narrow(0, start, len)?;
            let mut gradients = (traces * grad)?.sum_all()?.backward()?;
            let missing = || candle_core::Error::Msg("log det: an argument has no gradient".to_owned());
            dz.push(gradients.remove(&part).ok_or_else(missing)?.detach());
            dtheta = (dtheta + gradients.remove(&theta).ok_or_else(missing)?.detach())?;
        }
        Ok((Tensor::cat(&dz, 0)?, dtheta))
    }

    /// Mean over probes of (H_u⁻¹χ)ᵀ H_u χ with H_u⁻¹χ held fixed, `[B]`.
    fn estimate(
        &self,
        z: &Tensor,
        theta: &Tensor,
        probes: &[Tensor],
        solver: &ConjugateGradient,
    ) -> Result<Tensor> {
        let failed = latflow_action::Error::from;
        let fixed = Hessian(self.potential.pass_with(&theta.detach(), &z.detach())?);
        let tracked = Hessian(self.potential.pass_with(theta, z)?);
        let mut sum = Tensor::zeros(z.dim(0)?, z.dtype(), z.device())?;
        for chi in probes {
            let solved = solver.solve(&fixed, chi).map_err(failed)?.x;
            let form = (tracked.apply(chi).map_err(failed)? * solved)?;
            sum = (sum + sum_per_configuration(&form)?)?;
        }
        Ok((sum / probes.len() as f64)?)
    }
}

type Gradients = candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)>;

impl CustomOp3 for LogDet {
    crate::value_op::value_is_the_third_argument!("log-det-hessian");

    fn bwd(&self, z: &Tensor, theta: &Tensor, _: &Tensor, _: &Tensor, grad: &Tensor) -> Gradients {
        let (dz, dtheta) = self.gradients(z, theta, grad).map_err(candle_core::Error::wrap)?;
        Ok((Some(dz), Some(dtheta), None))
    }
}

struct Inverse {
    potential: ConvexPotential,
    solver: ConjugateGradient,
}

impl Inverse {
    fn gradients(&self, theta: &Tensor, z: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
        let fixed = Hessian(self.potential.pass_with(&theta.detach(), &z.detach())?);
        let dx = self.solver.solve(&fixed, &grad.detach()).map_err(latflow_action::Error::from)?.x;
        let theta = Var::from_tensor(&theta.detach())?;
        let gradient = self.potential.pass_with(theta.as_tensor(), &z.detach())?.gradient()?;
        let mut gradients = (gradient * &dx)?.sum_all()?.neg()?.backward()?;
        let missing = || candle_core::Error::Msg("inverse: the parameters have no gradient".to_owned());
        let dtheta = gradients.remove(&theta).ok_or_else(missing)?.detach();
        Ok((dx, dtheta))
    }
}

impl CustomOp3 for Inverse {
    crate::value_op::value_is_the_third_argument!("inverse-gradient-map");

    fn bwd(&self, _: &Tensor, theta: &Tensor, z: &Tensor, _: &Tensor, grad: &Tensor) -> Gradients {
        let (dx, dtheta) = self.gradients(theta, z, grad).map_err(candle_core::Error::wrap)?;
        Ok((Some(dx), Some(dtheta), None))
    }
}
