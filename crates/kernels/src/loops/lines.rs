//! Straight loops that wind around the lattice in one direction.
//!
//! ```text
//! L_μ = Σ_lines Re tr Π_x U_μ(x)          ΔL_μ = −(4/3) (extent of μ) L_μ
//! ```

use super::number::Number;
use super::staples::{Sink, Source};
use crate::lanes::LaneLattice;
use crate::unitary::Instructions;

/// Σ tr of the lines of direction μ; with a coefficient, its derivative as well.
#[inline(always)]
pub(super) fn lines<Z: Number>(
    isa: Instructions<Z::Vector>,
    lattice: &LaneLattice,
    mu: usize,
    links: &impl Source<Z>,
    coefficient: Option<f64>,
    sink: &mut impl Sink<Z>,
) -> Z {
    let (extent, mut sum) = (lattice.dims()[mu], Z::constant(isa, 0.0, 0.0));
    let stride: usize = lattice.dims()[mu + 1..].iter().product();
    for start in 0..lattice.node_volume() {
        // Each line once, from where its coordinate is zero.
        if !(start / stride).is_multiple_of(extent) {
            continue;
        }
        let mut around = links.link(mu, start);
        for step in 1..extent {
            around = around.times(isa, &links.link(mu, start + step * stride));
        }
        sum = sum.plus(around.trace());
        let Some(c) = coefficient else { continue };
        around = around.scaled(isa.number(c));
        for step in 0..extent {
            let site = start + step * stride;
            sink.add(mu, site, &around);
            let u = links.link(mu, site);
            around = u.adjoint_times(isa, &around).times(isa, &u);
        }
    }
    sum
}
