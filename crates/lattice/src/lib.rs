//! Lattice geometry, boundary conditions, masks, field configurations and seeded random streams.
//!
//! Fields are candle tensors, batch first, with one flattened site axis V: a scalar field is `[B, V]`, a staggered
//! fermion vector `[B, 2, V]`, links `[B, d, V, N, N, 2]`. Sites are numbered lexicographically with the last direction, which is time, fastest.
//! The crate knows no action and no network.

pub mod check;
mod configuration;
mod error;
pub mod gauge;
mod lattice;
mod link_mask;
mod mask;
mod rng;

pub use configuration::{Configuration, Manifold, sum_per_configuration};
pub use error::{Error, Result};
pub use gauge::Links;
pub use lattice::{Boundary, Lattice};
pub use link_mask::{LinkMask, PlaquetteClass, plaquette_links};
pub use mask::{Parity, checkerboard};
pub use rng::{Rng, Streams, normal_tensor, uniform};
