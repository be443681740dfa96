//! Kernels for links of SU(2) and SU(3) in double precision on the CPU, where the composed operations of this module have a fused
//! twin. Who measures or flows links asks [`applies`] and composes otherwise.

use crate::{Links, Result};
use candle_core::DType;

pub use latflow_kernels::gauge::{LinkBlock, LinkTangent, Plaquettes, Stage};

/// Whether these links have kernels.
pub fn applies(links: &Links) -> bool {
    links.tensor().dtype() == DType::F64 && latflow_kernels::unitary::fused(links.tensor())
}

/// The kernels of a lattice.
///
/// # Errors
/// When it has fewer than two directions.
pub fn plaquettes(lattice: &crate::Lattice) -> Result<Plaquettes> {
    Ok(Plaquettes::new(lattice.dims())?)
}
