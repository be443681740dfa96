//! Batches of complex N × N matrices as real tensors `[…, N, N, 2]` (row, column, re/im), differentiable.
//!
//! N = 2 and 3 on the CPU have kernels; other N and devices take candle's own operations, which are public as oracles.

use crate::{Error, Result};
use candle_core::{D, DType, Device, Tensor};
use latflow_kernels::unitary;

/// Rows N of a batch of square matrices `[…, N, N, 2]`.
///
/// # Errors
/// When the tensor is not of that shape.
pub fn colours(a: &Tensor) -> Result<usize> {
    match a.dims() {
        [.., n, m, 2] if n == m => Ok(*n),
        got => Err(Error::Shape { what: "matrices", expected: "[…, N, N, 2]".into(), got: got.to_vec() }),
    }
}

fn part(a: &Tensor, part: usize) -> Result<Tensor> {
    Ok(a.narrow(D::Minus1, part, 1)?.squeeze(D::Minus1)?)
}

/// A B, matrix by matrix.
///
/// # Errors
/// When the shapes differ.
pub fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if unitary::fused(a) && a.dims() == b.dims() && a.dtype() == b.dtype() {
        return Ok(unitary::matrix_product(a, b, false, false)?);
    }
    product_composed(a, b)
}

/// [`product`] from candle's own operations.
///
/// # Errors
/// As [`product`].
pub fn product_composed(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let n = colours(a)?;
    let shape = a.dims();
    let flat = |x: &Tensor, k: usize| -> Result<Tensor> { Ok(part(x, k)?.reshape(((), n, n))?) };
    let (ar, ai, br, bi) = (flat(a, 0)?, flat(a, 1)?, flat(b, 0)?, flat(b, 1)?);
    let re = (ar.matmul(&br)? - ai.matmul(&bi)?)?;
    let im = (ar.matmul(&bi)? + ai.matmul(&br)?)?;
    Ok(Tensor::stack(&[re, im], 3)?.reshape(shape)?)
}

/// A†.
///
/// # Errors
/// When the tensor does not hold matrices.
pub fn adjoint(a: &Tensor) -> Result<Tensor> {
    colours(a)?;
    let rank = a.rank();
    let transposed = a.transpose(rank - 3, rank - 2)?;
    Ok(Tensor::stack(&[part(&transposed, 0)?, part(&transposed, 1)?.neg()?], rank - 1)?)
}

/// tr A as `[…, 2]`.
///
/// # Errors
/// When the tensor does not hold matrices.
pub fn trace(a: &Tensor) -> Result<Tensor> {
    let n = colours(a)?;
    let mut sum: Option<Tensor> = None;
    for i in 0..n {
        let d =
            a.narrow(D::Minus(3), i, 1)?.narrow(D::Minus2, i, 1)?.squeeze(D::Minus2)?.squeeze(D::Minus2)?;
        sum = Some(match sum {
            Some(s) => (s + d)?,
            None => d,
        });
    }
    Ok(sum.expect("N is at least 1"))
}

/// Re tr A as `[…]`.
///
/// # Errors
/// When the tensor does not hold matrices.
pub fn re_trace(a: &Tensor) -> Result<Tensor> {
    part(&trace(a)?, 0)
}

/// Unit matrices of the given batch shape: `[…, N, N, 2]`, f64.
///
/// # Errors
/// When the device refuses the upload.
pub fn identity(batch: &[usize], n: usize, device: &Device) -> Result<Tensor> {
    let mut one = vec![0.0; 2 * n * n];
    (0..n).for_each(|i| one[2 * (i * n + i)] = 1.0);
    let mut shape = vec![1; batch.len()];
    shape.extend([n, n, 2]);
    let mut full = batch.to_vec();
    full.extend([n, n, 2]);
    Ok(Tensor::from_vec(one, shape, device)?.broadcast_as(full)?.contiguous()?.to_dtype(DType::F64)?)
}

/// exp X for anti-hermitian X.
///
/// # Errors
/// When the tensor does not hold matrices.
pub fn exponential(x: &Tensor) -> Result<Tensor> {
    if unitary::fused(x) { Ok(unitary::matrix_exponential(x)?) } else { exponential_composed(x) }
}

/// [`exponential`] from candle's own operations: scaling and squaring of the Taylor series, to rounding for any X of ordinary
/// size.
///
/// # Errors
/// As [`exponential`].
pub fn exponential_composed(x: &Tensor) -> Result<Tensor> {
    const SQUARINGS: i32 = 6;
    const TERMS: u32 = 14;
    let n = colours(x)?;
    let one = identity(&x.dims()[..x.rank() - 3], n, x.device())?;
    let x = (x * f64::from(2f32).powi(-SQUARINGS))?;
    let mut sum = one.clone();
    for k in (1..=TERMS).rev() {
        sum = (&one + (product_composed(&x, &sum)? / f64::from(k))?)?;
    }
    for _ in 0..SQUARINGS {
        sum = product_composed(&sum, &sum)?;
    }
    Ok(sum)
}
