//! One evaluation of the network: u, ∇u by the adjoint pass, H_u v by the tangent of both.
//!
//! ```text
//! t_M = p,   b_k = t_k σ(a_k),   t_k = Ŵ_kᵀ b_{k+1}                          t_k = ∂u/∂s_k,  b_k = ∂u/∂a_k
//! ∇u = Σ_k L̂_kᵀ b_k + c + w2 φ
//!
//! ȧ_1 = L̂_1 v,   ȧ_{k+1} = Ŵ_k σ(a_k) ȧ_k + L̂_{k+1} v
//! r_M = c_M ȧ_M,   r_k = c_k ȧ_k + σ(a_k) Ŵ_kᵀ r_{k+1},   c_k = t_k σ′(a_k) > 0
//! H_u v = Σ_k L̂_kᵀ r_k + w2 v = Σ_k A_kᵀ c_k A_k v + w2 v,   A_k = ∂a_k/∂φ
//! ```

use super::weights::Weights;
use candle_core::{Result, Tensor};
use latflow_fermion::{HermitianPositive, LinearOperator};
use latflow_kernels::softplus;
use latflow_lattice::sum_per_configuration;

/// The network at a batch of fields.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    pub(super) weights: Weights,
    phi: Tensor,
    /// a_k, `[B, V, C]`.
    normalised: Vec<Tensor>,
    /// SoftPlus(a_M), `[B, V, C]`.
    last: Tensor,
    /// σ(a_k), `[B, V, C]`.
    pub(super) slope: Vec<Tensor>,
    /// c_k, `[B, V, C]`.
    pub(super) curvature: Vec<Tensor>,
    /// b_k, `[B, V, C]`.
    backward: Vec<Tensor>,
}

impl Pass {
    pub(super) fn new(weights: Weights, phi: &Tensor) -> Result<Self> {
        let (channels, depth) = (weights.channels, weights.depth);
        let skips = weights.skips(phi)?;
        let skip = |k: usize| skips.narrow(2, k * channels, channels);
        let mut normalised = vec![skip(0)?.contiguous()?];
        let mut value = softplus(&normalised[0], 0)?;
        for k in 1..depth {
            let a = (weights.positive(k - 1, &value)? + skip(k)?)?;
            value = softplus(&a, 0)?;
            normalised.push(a);
        }
        let slope: Vec<Tensor> = normalised.iter().map(|a| softplus(a, 1)).collect::<Result<_>>()?;
        let (mut backward, mut curvature) = (Vec::with_capacity(depth), Vec::with_capacity(depth));
        let mut t = weights.last.broadcast_as(normalised[0].shape())?;
        for k in (0..depth).rev() {
            let b = (&t * &slope[k])?;
            curvature.push((&t * softplus(&normalised[k], 2)?)?);
            if k > 0 {
                t = weights.positive_adjoint(k - 1, &b)?;
            }
            backward.push(b);
        }
        backward.reverse();
        curvature.reverse();
        Ok(Self { weights, phi: phi.clone(), normalised, last: value, slope, curvature, backward })
    }

    /// a_k of layer k, counted from 0.
    pub(super) fn normalised(&self, k: usize) -> &Tensor {
        &self.normalised[k]
    }

    /// u, `[B]`.
    pub(super) fn value(&self) -> crate::Result<Tensor> {
        let nonlinear = sum_per_configuration(&self.last.broadcast_mul(&self.weights.last)?)?;
        let linear = sum_per_configuration(&self.phi)?.broadcast_mul(&self.weights.shift)?;
        let quadratic = sum_per_configuration(&self.phi.sqr()?)?.broadcast_mul(&self.weights.quadratic)?;
        Ok(((nonlinear + linear)? + (quadratic * 0.5)?)?)
    }

    /// ∇u, `[B, V]`.
    pub(super) fn gradient(&self) -> Result<Tensor> {
        let quadratic = self.phi.broadcast_mul(&self.weights.quadratic)?;
        self.weights.skips_adjoint(&self.backward, &self.weights.shift)? + quadratic
    }

    /// H_u v, `[B, V]`.
    fn hessian_apply(&self, v: &Tensor) -> Result<Tensor> {
        let weights = &self.weights;
        let (channels, depth) = (weights.channels, weights.depth);
        let skips = weights.skips_linear(v)?;
        let skip = |k: usize| skips.narrow(2, k * channels, channels);
        let mut tangents = vec![skip(0)?];
        for k in 1..depth {
            let s = (&tangents[k - 1] * &self.slope[k - 1])?;
            tangents.push((weights.positive(k - 1, &s)? + skip(k)?)?);
        }
        let mut r: Vec<Tensor> = Vec::with_capacity(depth);
        for k in (0..depth).rev() {
            let own = (&tangents[k] * &self.curvature[k])?;
            r.push(match r.last() {
                Some(next) => (own + (weights.positive_adjoint(k, next)? * &self.slope[k])?)?,
                None => own,
            });
        }
        r.reverse();
        let zero = weights.shift.zeros_like()?;
        weights.skips_adjoint(&r, &zero)? + v.broadcast_mul(&weights.quadratic)?
    }
}

/// v ↦ H_u(φ) v on vectors `[B, V]`: symmetric, and positive because u is strongly convex.
#[derive(Debug, Clone)]
pub struct Hessian(pub(super) Pass);

impl LinearOperator for Hessian {
    fn apply(&self, v: &Tensor) -> latflow_fermion::Result<Tensor> {
        Ok(self.0.hessian_apply(v)?)
    }

    fn apply_adjoint(&self, v: &Tensor) -> latflow_fermion::Result<Tensor> {
        self.apply(v)
    }
}

impl HermitianPositive for Hessian {}
