//! Staples of a link, and how a derivative with respect to them reaches their links.
//!
//! ```text
//! A_{ν+} = U_ν(x+μ̂) U_μ(x+ν̂)† U_ν(x)†          A_{ν−} = U_ν(x+μ̂−ν̂)† U_μ(x−ν̂)† U_ν(x−ν̂)
//! df = Re tr(dA G),  dV = iY V   →   df = Re tr(iY Z_V) for each link V of the staple
//! ```

use super::features::STAPLES;
use super::number::{Number, Square};
use crate::lanes::LaneLattice;
use crate::unitary::Instructions;

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

/// All staples of a link, and their number; `link(direction, site)` loads one.
#[inline(always)]
pub(super) fn staples<Z: Number>(
    isa: Instructions<Z::Vector>,
    lattice: &LaneLattice,
    (mu, site): (usize, usize),
    link: impl Fn(usize, usize) -> Square<Z>,
) -> ([Square<Z>; STAPLES], usize) {
    let (places, count) = places(lattice, mu, site);
    let mut a = [Square::zero(isa); STAPLES];
    for (k, places) in places.iter().enumerate().take(count) {
        let [v1, v2, v3] = places.map(|(direction, site)| link(direction, site));
        a[k] = if k % 2 == 0 {
            v1.times_adjoint(isa, &v3.times(isa, &v2))
        } else {
            v2.times(isa, &v1).adjoint_times(isa, &v3)
        };
    }
    (a, count)
}

/// Adds Z_V of every link of every staple, `add(direction, site, Z_V)`, for the derivatives G_k with respect to the staples.
#[inline(always)]
pub(super) fn spread<Z: Number>(
    isa: Instructions<Z::Vector>,
    lattice: &LaneLattice,
    (mu, site): (usize, usize),
    (a, g): (&[Square<Z>; STAPLES], &[Square<Z>; STAPLES]),
    link: impl Fn(usize, usize) -> Square<Z>,
    mut add: impl FnMut(usize, usize, &Square<Z>),
) {
    let (places, count) = places(lattice, mu, site);
    let minus = isa.number(-1.0);
    for (k, places) in places.iter().enumerate().take(count) {
        let [v1, v2, v3] = places.map(|(direction, site)| link(direction, site));
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
        for (&(direction, site), z) in places.iter().zip(&z) {
            add(direction, site, z);
        }
    }
}
