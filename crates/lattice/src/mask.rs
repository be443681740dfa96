//! Which sites a coupling layer updates and which it keeps.

use crate::{Lattice, Result};
use candle_core::{DType, Device, Tensor};

/// The two halves of a checkerboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parity {
    /// x_1 + … + x_d even.
    Even,
    /// x_1 + … + x_d odd.
    Odd,
}

impl Parity {
    /// The other half.
    pub fn flip(self) -> Self {
        match self {
            Self::Even => Self::Odd,
            Self::Odd => Self::Even,
        }
    }
}

/// 1 on the sites of the given parity, 0 elsewhere: `[V]`.
///
/// # Errors
/// When the device refuses the upload.
pub fn checkerboard(lattice: &Lattice, parity: Parity, dtype: DType, device: &Device) -> Result<Tensor> {
    let mask: Vec<f64> =
        (0..lattice.volume()).map(|s| f64::from(u8::from(lattice.parity(s) == parity))).collect();
    Ok(Tensor::from_vec(mask, lattice.volume(), device)?.to_dtype(dtype)?)
}
