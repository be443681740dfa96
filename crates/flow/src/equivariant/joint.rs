//! Flows of a scalar and a pseudofermion field together.
//!
//! ```text
//! fully joint:   q(φ, ϕ) = r(ζ) r(χ) Π_k 1/(det J_k^φ det J_k^ϕ)                          [YUK (39)]
//! restricted:    χ_{k+1} = g_k(χ_k),    ζ_{k+1} = h_k(ζ_k; χ_k)
//!                q(φ|ϕ) = r(ζ) Π_k 1/det J_k^φ                                           [YUK (35)]
//!                q(ϕ)   = r(χ) Π_k 1/det J_k^ϕ                                           [YUK (36)]
//! ```
//!
//! The fully joint flow is a [`crate::Chain`] of [`UpdateScalar`] and [`UpdatePseudofermion`]. Its pseudofermion layers see φ;
//! those of the restricted flow do not, which makes the marginal of ϕ and the conditional of φ densities of their own.

use crate::{Bijection, Result};
use candle_core::Tensor;

/// (φ, ϕ) → (f(φ; ϕ), ϕ).
#[derive(Debug, Clone)]
pub struct UpdateScalar<L>(
    /// The layer that updates φ.
    pub L,
);

/// (φ, ϕ) → (φ, f(ϕ; φ)).
#[derive(Debug, Clone)]
pub struct UpdatePseudofermion<L>(
    /// The layer that updates ϕ.
    pub L,
);

type Pair = (Tensor, Tensor);

impl<L: Bijection<Tensor, Tensor>> Bijection<Pair> for UpdateScalar<L> {
    fn forward(&self, (phi, pf): &Pair, (): &()) -> Result<(Pair, Tensor)> {
        let (phi, log_det_jacobian) = self.0.forward(phi, pf)?;
        Ok(((phi, pf.clone()), log_det_jacobian))
    }

    fn inverse(&self, (phi, pf): &Pair, (): &()) -> Result<(Pair, Tensor)> {
        let (phi, log_det_jacobian) = self.0.inverse(phi, pf)?;
        Ok(((phi, pf.clone()), log_det_jacobian))
    }
}

impl<L: Bijection<Tensor, Tensor>> Bijection<Pair> for UpdatePseudofermion<L> {
    fn forward(&self, (phi, pf): &Pair, (): &()) -> Result<(Pair, Tensor)> {
        let (pf, log_det_jacobian) = self.0.forward(pf, phi)?;
        Ok(((phi.clone(), pf), log_det_jacobian))
    }

    fn inverse(&self, (phi, pf): &Pair, (): &()) -> Result<(Pair, Tensor)> {
        let (pf, log_det_jacobian) = self.0.inverse(pf, phi)?;
        Ok(((phi.clone(), pf), log_det_jacobian))
    }
}

/// Pairs (h_k, g_k) of a layer of φ given χ_k and a layer of χ alone. As `Bijection<(Tensor, Tensor)>` it is the joint flow, as
/// `Bijection<Tensor, Tensor>` the flow of φ given ϕ, and as `Bijection<Tensor>` that of ϕ.
#[derive(Debug, Clone)]
pub struct RestrictedFlow<S, P> {
    /// (h_k, g_k) in the order in which they act.
    pub steps: Vec<(S, P)>,
}

impl<S, P: Bijection<Tensor>> RestrictedFlow<S, P> {
    /// χ_0, …, χ_{n−1} and the sum of the log-determinants of g_k⁻¹, from ϕ = χ_n.
    fn states(&self, pf: &Tensor) -> Result<(Vec<Tensor>, Tensor)> {
        let (mut chi, mut sum) = (pf.clone(), zero(pf)?);
        let mut states = Vec::with_capacity(self.steps.len());
        for (_, layer) in self.steps.iter().rev() {
            let (before, log_det_jacobian) = layer.inverse(&chi, &())?;
            states.push(before.clone());
            chi = before;
            sum = (sum + log_det_jacobian)?;
        }
        states.reverse();
        Ok((states, sum))
    }
}

/// `[B]` zeros.
fn zero(field: &Tensor) -> Result<Tensor> {
    Ok(Tensor::zeros(field.dim(0)?, field.dtype(), field.device())?)
}

impl<S: Bijection<Tensor, Tensor>, P> RestrictedFlow<S, P> {
    fn scalar_forward(&self, zeta: &Tensor, states: &[Tensor]) -> Result<(Tensor, Tensor)> {
        let (mut phi, mut sum) = (zeta.clone(), zero(zeta)?);
        for ((layer, _), chi) in self.steps.iter().zip(states) {
            let (next, log_det_jacobian) = layer.forward(&phi, chi)?;
            phi = next;
            sum = (sum + log_det_jacobian)?;
        }
        Ok((phi, sum))
    }

    fn scalar_inverse(&self, phi: &Tensor, states: &[Tensor]) -> Result<(Tensor, Tensor)> {
        let (mut zeta, mut sum) = (phi.clone(), zero(phi)?);
        for ((layer, _), chi) in self.steps.iter().zip(states).rev() {
            let (before, log_det_jacobian) = layer.inverse(&zeta, chi)?;
            zeta = before;
            sum = (sum + log_det_jacobian)?;
        }
        Ok((zeta, sum))
    }
}

/// φ given ϕ [YUK (35)].
impl<S: Bijection<Tensor, Tensor>, P: Bijection<Tensor>> Bijection<Tensor, Tensor> for RestrictedFlow<S, P> {
    fn forward(&self, zeta: &Tensor, pf: &Tensor) -> Result<(Tensor, Tensor)> {
        self.scalar_forward(zeta, &self.states(pf)?.0)
    }

    fn inverse(&self, phi: &Tensor, pf: &Tensor) -> Result<(Tensor, Tensor)> {
        self.scalar_inverse(phi, &self.states(pf)?.0)
    }
}

/// ϕ alone [YUK (36)].
impl<S, P: Bijection<Tensor>> Bijection<Tensor> for RestrictedFlow<S, P> {
    fn forward(&self, chi: &Tensor, (): &()) -> Result<(Tensor, Tensor)> {
        let (mut pf, mut sum) = (chi.clone(), zero(chi)?);
        for (_, layer) in &self.steps {
            let (next, log_det_jacobian) = layer.forward(&pf, &())?;
            pf = next;
            sum = (sum + log_det_jacobian)?;
        }
        Ok((pf, sum))
    }

    fn inverse(&self, pf: &Tensor, (): &()) -> Result<(Tensor, Tensor)> {
        let (states, sum) = self.states(pf)?;
        Ok((states.into_iter().next().unwrap_or_else(|| pf.clone()), sum))
    }
}

/// Both.
impl<S: Bijection<Tensor, Tensor>, P: Bijection<Tensor>> Bijection<Pair> for RestrictedFlow<S, P> {
    fn forward(&self, (zeta, chi): &Pair, (): &()) -> Result<(Pair, Tensor)> {
        let (mut pf, mut sum) = (chi.clone(), zero(chi)?);
        let mut states = Vec::with_capacity(self.steps.len());
        for (_, layer) in &self.steps {
            let (next, log_det_jacobian) = layer.forward(&pf, &())?;
            states.push(std::mem::replace(&mut pf, next));
            sum = (sum + log_det_jacobian)?;
        }
        let (phi, scalar) = self.scalar_forward(zeta, &states)?;
        Ok(((phi, pf), (sum + scalar)?))
    }

    fn inverse(&self, (phi, pf): &Pair, (): &()) -> Result<(Pair, Tensor)> {
        let (states, sum) = self.states(pf)?;
        let (zeta, scalar) = self.scalar_inverse(phi, &states)?;
        let chi = states.into_iter().next().unwrap_or_else(|| pf.clone());
        Ok(((zeta, chi), (sum + scalar)?))
    }
}
