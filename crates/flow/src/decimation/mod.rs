//! Decimation flow: the lattice is filled from coarse to fine, every site from a one-dimensional density that knows the sites
//! before it.
//!
//! ```text
//! Λ_0 = lattice ⊃ Λ_1 ⊃ Λ_2 ⊃ …        Λ_{k+1}: every other site of Λ_k
//! q(φ) = Π_stages Π_{x in stage} q(φ_x | φ on the sites before),   log q(φ_x|…) = Σ_n θ_n φ_x^n − log z(θ)
//! ```
//!
//! Two facts about a local action make few stages enough. The finest stage, one half of the checkerboard, is *exactly*
//! independent given the other half, with θ_1 = Σ_y K(x − y) φ_y: a heat bath. And whatever stage is integrated out couples
//! the sites of the next one only weakly, so that two interleaved halves of each level take up nearly all of it. What remains
//! is a smooth function θ(φ before) of near neighbours *in units of the level's own spacing*: one small network a stage.

mod coupling;
mod source;
mod stages;

pub use coupling::{LocalField, LocalPotential, SiteCoupling, SiteShape};
pub use source::{MeanField, PseudofermionSource};
pub use stages::{Stage, stages};
