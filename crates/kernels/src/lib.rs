//! Fused tensor operations for lattice fields, as candle custom ops with hand-written backward passes.
//!
//! No physics lives here: a kernel knows sites, neighbour tables and channels, not actions. Every op has a composed twin
//! in plain candle operations, which is its oracle in the tests and its path on a GPU.

mod activation;
mod bidiagonal;
mod blas;
mod conv;
pub mod gauge;
pub mod hermitian;
mod hop;
mod host;
pub(crate) mod lanes;
mod loops;
mod lu;
mod net;
pub mod peak;
mod site_density;
mod softplus;
mod spectral;
mod spline;
mod stencil;
mod superalgebra;
mod triangular;
mod tune;
pub mod unitary;
pub mod wilson;
pub mod window;

pub use activation::Activation;
pub use bidiagonal::{BidiagonalProduct, Cycles};
pub use blas::{add_scaled, dot};
pub use conv::{Convolution, convolution, convolution_composed};
pub use hop::{Hop, hop, hop_composed};
pub use host::with_slice;
pub use loops::LoopFeatures;
pub use lu::{Determinant, Inverse, Lu, Matrix, ScaledMatrix, with_matrix};
pub use net::{ConvNet, LayerRange};
pub use site_density::SiteDensity;
pub use softplus::{softplus, softplus_composed};
pub use spectral::{LinkLoops, Spectrum, haar_log_density, multiply_links};
pub use spline::Spline;
pub use stencil::Stencil;
pub use superalgebra::{Grade, graded_products, graded_products_composed, odd_logarithm, tilted};
pub use triangular::{Triangle, unit_triangular_solve, unit_triangular_solve_composed};
pub use tune::tune_process;
