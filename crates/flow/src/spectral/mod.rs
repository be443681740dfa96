//! Gauge-equivariant coupling layers that move the eigenvalues of Wilson loops [QCD Sec. 3.1].

mod coupling;
mod stack;

pub use coupling::{Coordinate, LoopNetwork, SpectralCoupling};
pub use stack::{SpectralFlow, SpectralShape};
