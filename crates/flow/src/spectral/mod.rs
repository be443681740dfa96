//! Gauge-equivariant coupling layers that move the eigenvalues of Wilson loops [QCD Sec. 3.1].

mod coupling;

pub use coupling::{Coordinate, LoopNetwork, SpectralCoupling};
