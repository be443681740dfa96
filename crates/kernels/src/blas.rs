//! Per-configuration vector arithmetic for iterative solvers: one scalar a configuration, no autodiff.
//!
//! ```text
//! dot:         d_b = Σ_i x_{b,i} y_{b,i}
//! add_scaled:  z_{b,i} = x_{b,i} + α_b y_{b,i}
//! ```
//!
//! Complex vectors are stored as (re, im) pairs of real ones, so `dot(x, y)` is Re⟨x, y⟩.

use crate::host::with_slice;
use candle_core::{D, Result, Tensor};

/// d_b = Σ_i x_{b,i} y_{b,i} for x, y of shape `[B, …]`, f64. Returns B numbers, summed in a fixed order.
///
/// # Errors
/// When the shapes differ or the element type is not f64.
pub fn dot(x: &Tensor, y: &Tensor) -> Result<Vec<f64>> {
    if x.dims() != y.dims() {
        candle_core::bail!("dot: shapes differ: {:?} and {:?}", x.dims(), y.dims());
    }
    let batch = x.dim(0)?;
    if !x.device().is_cpu() {
        return (x * y)?.reshape((batch, ()))?.sum(D::Minus1)?.to_vec1::<f64>();
    }
    with_slice::<f64, _>(x, |x| {
        with_slice::<f64, _>(y, |y| {
            let n = (x.len() / batch.max(1)).max(1);
            x.chunks_exact(n).zip(y.chunks_exact(n)).map(|(x, y)| dot_slices(x, y)).collect()
        })
    })?
}

/// Eight running sums: the compiler may use vector registers without changing the order of additions.
fn dot_slices(x: &[f64], y: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (xs, ys) = (x.chunks_exact(8), y.chunks_exact(8));
    let tail: f64 = xs.remainder().iter().zip(ys.remainder()).map(|(a, b)| a * b).sum();
    for (x, y) in xs.zip(ys) {
        for l in 0..8 {
            lanes[l] += x[l] * y[l];
        }
    }
    lanes.iter().sum::<f64>() + tail
}

/// z_{b,i} = x_{b,i} + α_b y_{b,i} for x, y of shape `[B, …]`, f64, and B scalars α.
///
/// # Errors
/// When the shapes differ, α has not B entries, or the element type is not f64.
pub fn add_scaled(x: &Tensor, alpha: &[f64], y: &Tensor) -> Result<Tensor> {
    let batch = x.dim(0)?;
    if x.dims() != y.dims() || alpha.len() != batch {
        candle_core::bail!("add_scaled: x {:?}, y {:?}, {} scalars", x.dims(), y.dims(), alpha.len());
    }
    if !x.device().is_cpu() {
        let mut shape = vec![1; x.rank()];
        shape[0] = batch;
        let alpha = Tensor::from_slice(alpha, shape, x.device())?;
        return x + y.broadcast_mul(&alpha)?;
    }
    let z = with_slice::<f64, _>(x, |x| {
        with_slice::<f64, _>(y, |y| {
            let n = (x.len() / batch.max(1)).max(1);
            let mut z = Vec::with_capacity(x.len());
            for ((x, y), &a) in x.chunks_exact(n).zip(y.chunks_exact(n)).zip(alpha) {
                z.extend(x.iter().zip(y).map(|(x, y)| x + a * y));
            }
            z
        })
    })??;
    Tensor::from_vec(z, x.shape(), x.device())
}
