//! Batches of small complex matrices, `[…, N, N, 2]` (row, column, re/im): products, the exponential map, projection to SU(N).
//!
//! ```text
//! product:      A B,  A† B,  A B†,  A† B†
//! exponential:  exp X of anti-hermitian X
//! rotation:     exp(i ω^a T^a) U
//! ```
//!
//! N = 2 and 3, unrolled, eight (f64) or sixteen (f32) matrices side by side. Whoever has other N, or another device, composes
//! the same from candle's operations: [`fused`] says which it is.

#![allow(clippy::needless_range_loop, reason = "matrix elements are indexed as in the formulas")]

mod algebra;
mod blocks;
mod exponential;
mod matrix;
mod product;
mod projection;
mod register;
mod rotation;
mod series;
#[cfg(test)]
mod tests;

pub(crate) use algebra::{components, hermitian};
pub use exponential::matrix_exponential;
pub(crate) use matrix::Matrix;
pub use product::matrix_product;
pub use projection::{project_to_su_n, su_n_deviation};
pub(crate) use register::{Complex, Instructions, Real};
pub use rotation::rotate;
pub(crate) use series::Series;

use candle_core::{DType, Result, Tensor};

/// Whether matrices of this kind have kernels: `[…, N, N, 2]` with N = 2 or 3, f64 or f32, on the CPU.
pub fn fused(matrices: &Tensor) -> bool {
    matches!(matrices.dims(), [.., 2, 2, 2] | [.., 3, 3, 2])
        && matches!(matrices.dtype(), DType::F64 | DType::F32)
        && matrices.device().is_cpu()
}

/// N of matrices with kernels.
fn colours(name: &str, matrices: &Tensor) -> Result<usize> {
    if fused(matrices) {
        return Ok(matrices.dims()[matrices.rank() - 2]);
    }
    candle_core::bail!(
        "{name}: expected […, N, N, 2] with N = 2 or 3 of f64 or f32 on the CPU, got {:?} of {:?} on {:?}",
        matrices.dims(),
        matrices.dtype(),
        matrices.device().location()
    )
}

/// The error for element types without a kernel.
pub(crate) fn unsupported<R>(dtype: DType) -> Result<R> {
    candle_core::bail!("matrices of {dtype:?}, expected f64 or f32")
}
