//! Staples of a link, and how a derivative with respect to them reaches their links.
//!
//! ```text
//! A_{ν+} = U_ν(x+μ̂) U_μ(x+ν̂)† U_ν(x)†          A_{ν−} = U_ν(x+μ̂−ν̂)† U_μ(x−ν̂)† U_ν(x−ν̂)
//! df = Re tr(dA G),  dV = iY V   →   df = Re tr(iY Z_V) for each link V of the staple
//! ```
//!
//! No closure here touches a register: closures do not inherit the instruction set they are called under.

use super::features::STAPLES;
use super::number::{Number, Square};
use crate::lanes::LaneLattice;
use crate::unitary::Instructions;

/// Where links come from.
pub(super) trait Source<Z> {
    fn link(&self, direction: usize, site: usize) -> Square<Z>;
}

/// Where derivatives with respect to links go.
pub(super) trait Sink<Z> {
    fn add(&mut self, direction: usize, site: usize, z: &Square<Z>);
}

/// (direction, site) of the three links of a staple, in the order of the formula.
type Places = [(usize, usize); 3];

/// The staples of the link (μ, site): planes in order of ν, forward side first.
#[inline(always)]
fn places(lattice: &LaneLattice, mu: usize, site: usize) -> ([Places; STAPLES], usize) {
    let mut all = [[(0, 0); 3]; STAPLES];
    let mut k = 0;
    let ahead = lattice.forward(site, mu).site as usize;
    for nu in (0..lattice.ndim()).filter(|nu| *nu != mu) {
        let back = lattice.backward(site, nu).site as usize;
        let up = lattice.forward(site, nu).site as usize;
        all[k] = [(nu, ahead), (mu, up), (nu, site)];
        all[k + 1] = [(nu, lattice.backward(ahead, nu).site as usize), (mu, back), (nu, back)];
        k += 2;
    }
    (all, k)
}

#[inline(always)]
fn load<Z: Number>(links: &impl Source<Z>, places: &Places) -> [Square<Z>; 3] {
    let [(d1, x1), (d2, x2), (d3, x3)] = *places;
    [links.link(d1, x1), links.link(d2, x2), links.link(d3, x3)]
}

/// All staples of a link, and their number.
#[inline(always)]
pub(super) fn staples<Z: Number>(
    isa: Instructions<Z::Vector>,
    lattice: &LaneLattice,
    (mu, site): (usize, usize),
    links: &impl Source<Z>,
) -> ([Square<Z>; STAPLES], usize) {
    let (places, count) = places(lattice, mu, site);
    let mut a = [Square::zero(isa); STAPLES];
    for k in 0..count {
        let [v1, v2, v3] = load(links, &places[k]);
        a[k] = if k % 2 == 0 {
            v1.times_adjoint(isa, &v3.times(isa, &v2))
        } else {
            v2.times(isa, &v1).adjoint_times(isa, &v3)
        };
    }
    (a, count)
}

/// Hands over Z_V of every link of every staple, for the derivatives G_k with respect to the staples.
#[inline(always)]
pub(super) fn spread<Z: Number>(
    isa: Instructions<Z::Vector>,
    lattice: &LaneLattice,
    (mu, site): (usize, usize),
    (a, g): (&[Square<Z>; STAPLES], &[Square<Z>; STAPLES]),
    links: &impl Source<Z>,
    sink: &mut impl Sink<Z>,
) {
    let (places, count) = places(lattice, mu, site);
    let minus = isa.number(-1.0);
    for k in 0..count {
        let [v1, v2, v3] = load(links, &places[k]);
        let z = if k % 2 == 0 {
            // V₃†G V₁V₂†
            let middle = v3.adjoint_times(isa, &g[k]).times(isa, &v1).times_adjoint(isa, &v2);
            [a[k].times(isa, &g[k]), middle.scaled(minus), g[k].times(isa, &a[k]).scaled(minus)]
        } else {
            // V₁†V₂†V₃ G = A G in the frame of V₁: V₂†V₃ G V₁†
            let first = v2.adjoint_times(isa, &v3.times(isa, &g[k])).times_adjoint(isa, &v1);
            let last = v2.times(isa, &first).times_adjoint(isa, &v2);
            [first.scaled(minus), last.scaled(minus), last]
        };
        for l in 0..3 {
            sink.add(places[k][l].0, places[k][l].1, &z[l]);
        }
    }
}
