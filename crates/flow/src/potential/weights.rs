//! Where the parameters lie in theta, and the weights of the convolutions made from them.
//!
//! ```text
//! a_1 = L̂_1 φ + b_1,   a_{k+1} = Ŵ_k SoftPlus(a_k) + L̂_{k+1} φ + b_{k+1}
//! Ŵ_k = softplus(ω_k) / (fan-in · σ_{k+1}),   L̂_k = L_k/σ_k,   b_k = −μ_k/σ_k
//! u = Σ_{x,i} p_i SoftPlus(a_M)_i(x) + c Σ_x φ(x) + w2 ‖φ‖²/2,   p = w1 softplus(ω_M)/C,   M = K − 1
//! ```
//!
//! The adjoint of a convolution with a centred kernel is the convolution with the kernel reflected and channels exchanged.

use candle_core::{DType, Result, Tensor};
use latflow_kernels::{Stencil, convolution, softplus};
use std::ops::Range;

/// Places of the parameters in theta.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) taps: usize,
    pub(super) channels: usize,
    /// M, the number of softplus layers.
    pub(super) depth: usize,
    /// L_1 … L_M, `[T, M·C]`.
    pub(super) skip: Range<usize>,
    /// μ_1 … μ_M, `[M·C]`.
    pub(super) offset: Range<usize>,
    /// log σ_1 … log σ_M, `[M·C]`.
    pub(super) log_scale: Range<usize>,
    /// ω_1 … ω_{M−1}, each `[T·C, C]`.
    pub(super) positive: Vec<Range<usize>>,
    /// ω_M, `[C]`.
    pub(super) last: Range<usize>,
    pub(super) shift: usize,
    pub(super) log_nonlinear: usize,
    pub(super) log_quadratic: usize,
}

impl Layout {
    pub(super) fn new(taps: usize, channels: usize, depth: usize) -> Self {
        let mut end = 0;
        let mut take = |n: usize| {
            end += n;
            end - n..end
        };
        Self {
            taps,
            channels,
            depth,
            skip: take(taps * depth * channels),
            offset: take(depth * channels),
            log_scale: take(depth * channels),
            positive: (1..depth).map(|_| take(taps * channels * channels)).collect(),
            last: take(channels),
            shift: take(1).start,
            log_nonlinear: take(1).start,
            log_quadratic: take(1).start,
        }
    }

    /// Length of theta.
    pub(super) fn len(&self) -> usize {
        self.log_quadratic + 1
    }
}

/// The weights; f64. Gradients in theta are recorded.
#[derive(Debug, Clone)]
pub(super) struct Weights {
    pub(super) channels: usize,
    pub(super) depth: usize,
    stencil: Stencil,
    /// L̂, `[T, M·C]`.
    pub(super) skip: Tensor,
    bias: Tensor,
    skip_adjoint: Tensor,
    /// Ŵ_k, `[T·C, C]`.
    pub(super) positive: Vec<Tensor>,
    positive_adjoint: Vec<Tensor>,
    /// No bias, `[C]`.
    pub(super) zero: Tensor,
    /// p, `[C]`.
    pub(super) last: Tensor,
    /// c, `[1]`.
    pub(super) shift: Tensor,
    /// w2, `[1]`.
    pub(super) quadratic: Tensor,
}

impl Weights {
    pub(super) fn new(theta: &Tensor, layout: &Layout, stencil: &Stencil) -> Result<Self> {
        let theta = theta.to_dtype(DType::F64)?;
        let (taps, channels, depth) = (layout.taps, layout.channels, layout.depth);
        let part = |range: &Range<usize>| theta.narrow(0, range.start, range.len());
        let one = |at: usize| theta.narrow(0, at, 1);
        let scale = part(&layout.log_scale)?.neg()?.exp()?;
        let skip = part(&layout.skip)?.reshape((taps, depth * channels))?.broadcast_mul(&scale)?;
        let bias = (part(&layout.offset)? * &scale)?.neg()?;
        let mut positive = Vec::with_capacity(depth - 1);
        for (k, range) in layout.positive.iter().enumerate() {
            let raw = softplus(&part(range)?.reshape((taps * channels, channels))?, 0)?;
            let scale = (scale.narrow(0, (k + 1) * channels, channels)? / (taps * channels) as f64)?;
            positive.push(raw.broadcast_mul(&scale)?);
        }
        let nonlinear = one(layout.log_nonlinear)?.exp()?;
        let last = (softplus(&part(&layout.last)?, 0)? / channels as f64)?;
        Ok(Self {
            channels,
            depth,
            stencil: stencil.clone(),
            skip_adjoint: adjoint(&skip, taps)?,
            positive_adjoint: positive.iter().map(|w| adjoint(w, taps)).collect::<Result<_>>()?,
            zero: Tensor::zeros(channels, DType::F64, theta.device())?,
            skip,
            bias,
            positive,
            last: last.broadcast_mul(&nonlinear)?,
            shift: (one(layout.shift)? * nonlinear)?,
            quadratic: one(layout.log_quadratic)?.exp()?,
        })
    }

    /// L̂ φ + b of all layers side by side, `[B, V, M·C]`.
    pub(super) fn skips(&self, phi: &Tensor) -> Result<Tensor> {
        convolution(&phi.unsqueeze(2)?, &self.skip, &self.bias, &self.stencil)
    }

    /// L̂ v of all layers side by side, `[B, V, M·C]`.
    pub(super) fn skips_linear(&self, v: &Tensor) -> Result<Tensor> {
        let zero = self.bias.zeros_like()?;
        convolution(&v.unsqueeze(2)?, &self.skip, &zero, &self.stencil)
    }

    /// Σ_k L̂_kᵀ r_k + c, `[B, V]`, for r side by side and a constant c `[1]`.
    pub(super) fn skips_adjoint(&self, r: &[Tensor], constant: &Tensor) -> Result<Tensor> {
        let all = Tensor::cat(r, 2)?;
        convolution(&all, &self.skip_adjoint, constant, &self.stencil)?.squeeze(2)
    }

    /// Ŵ_k s, `[B, V, C]`.
    pub(super) fn positive(&self, k: usize, s: &Tensor) -> Result<Tensor> {
        convolution(s, &self.positive[k], &self.zero, &self.stencil)
    }

    /// Ŵ_kᵀ r, `[B, V, C]`.
    pub(super) fn positive_adjoint(&self, k: usize, r: &Tensor) -> Result<Tensor> {
        convolution(r, &self.positive_adjoint[k], &self.zero, &self.stencil)
    }
}

/// `[T·I, O]` to `[T·O, I]`. Taps are in lexicographic order, so that the reflection of the kernel reverses them.
fn adjoint(w: &Tensor, taps: usize) -> Result<Tensor> {
    let (rows, outputs) = w.dims2()?;
    let inputs = rows / taps;
    let reflected = w.reshape((taps, inputs, outputs))?.flip(&[0])?;
    reflected.transpose(1, 2)?.contiguous()?.reshape((taps * outputs, inputs))
}
