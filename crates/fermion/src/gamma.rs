//! Dirac matrices acting on Wilson vectors; the matrices themselves are the kernel's, so that there is one table.

use crate::Result;
use candle_core::Tensor;
pub use latflow_kernels::wilson::gamma::{GAMMA, GAMMA5, matrix};

/// γ₅ v for v `[B, 2, 12 · sites]` in the order (site, spin, colour).
///
/// # Errors
/// When the length is no multiple of twelve.
pub fn gamma5(v: &Tensor) -> Result<Tensor> {
    let (batch, parts, n) = v.dims3()?;
    let signs = Tensor::new(&GAMMA5, v.device())?.to_dtype(v.dtype())?.reshape((1, 4, 1))?;
    let spins = v.reshape((batch * parts * (n / 12), 4, 3))?.broadcast_mul(&signs)?;
    Ok(spins.reshape((batch, parts, n))?)
}
