//! Observables of gauge fields [QCD Sec. 3.2].
//!
//! All of them take [`Links`](latflow_lattice::Links) `[B, d, V, N, N, 2]` and keep no gradient. Time is the last direction:
//! where the paper counts μ = 0 … 3 from time, we count x, y, z, t.

mod clover;
mod flowed;
mod pion;
mod plaquette;
mod polyakov;
mod runge_kutta;
mod sums;
mod wilson_flow;

pub use clover::{CloverCharge, CloverEnergy};
pub use flowed::{AlongFlow, Flowed};
pub use pion::PionCorrelator;
pub use plaquette::{LinkTrace, PaperPlaquette, PlanePlaquettes, Plaquette, PlaquetteEnergy};
pub use polyakov::PolyakovLoop;
pub use sums::field_strength;
pub use wilson_flow::{FlowStep, WilsonFlow, wilson_velocity};

/// The planes (μ, ν), μ < ν, in lexicographic order.
fn planes(ndim: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..ndim).flat_map(move |mu| (mu + 1..ndim).map(move |nu| (mu, nu)))
}
