//! Fused tensor operations for lattice fields, as candle custom ops with hand-written backward passes.
//!
//! No physics lives here: a kernel knows sites, neighbour tables and channels, not actions. Every op has a composed twin
//! in plain candle operations, which is its oracle in the tests and its path on a GPU.

mod blas;
mod hop;
mod host;

pub use blas::{add_scaled, dot};
pub use hop::{Hop, hop, hop_composed};
pub use host::with_slice;
