//! Sums of products of the clover field strength.
//!
//! ```text
//! G^a_{μν}(x) = ½ Im tr T^a C_{μν}(x),      C the sum of the four plaquettes around x in the plane
//! Σ_x Σ_a G^a_p(x) G^a_q(x)                 for all pairs of planes p ≤ q
//! ```

use super::super::SITES;
use super::super::links::{BlockLinks, Place};
use super::super::staples::planes;
use super::{LinkBlock, Of};
use crate::conv::simd::{Task, Vector, dispatch};
use crate::unitary::{Instructions, Matrix, components};
use rayon::prelude::*;

impl LinkBlock {
    /// Σ_x Σ_a G^a_p(x) G^a_q(x) for pairs of planes p ≤ q in lexicographic order, `[b][pairs]`, flat: the planes are
    /// (0, 1), (0, 2), …, (d − 2, d − 1), and d(d−1)/2 · (d(d−1)/2 + 1)/2 the number of pairs, 21 in four dimensions.
    pub fn clover_sums(&self) -> Vec<f64> {
        let (lanes, planes) = (self.lattice.lanes(), planes(self.lattice.ndim()));
        let (volume, pairs) = (self.lattice.node_volume(), planes * (planes + 1) / 2);
        let mut parts = vec![0.0; volume.div_ceil(SITES) * pairs * lanes];
        parts.par_chunks_mut(pairs * lanes).enumerate().for_each(|(task, out)| {
            let sites = task * SITES..((task + 1) * SITES).min(volume);
            let clover = Clover { links: self.links(), sites, out };
            match self.n {
                2 => dispatch(self.level, Of::<_, 2>(clover)),
                _ => dispatch(self.level, Of::<_, 3>(clover)),
            }
        });
        let mut sums = vec![0.0; self.batch() * pairs];
        for part in parts.chunks_exact(pairs * lanes) {
            for lane in 0..lanes {
                let Some((configuration, _)) = self.lattice.lane(0, lane) else { continue };
                for pair in 0..pairs {
                    sums[configuration * pairs + pair] += part[pair * lanes + lane];
                }
            }
        }
        sums
    }
}

/// Σ_x Σ_a G^a_p G^a_q over some sites, `[pair][lane]`, zero before.
struct Clover<'a> {
    links: BlockLinks<'a, f64>,
    sites: std::ops::Range<usize>,
    out: &'a mut [f64],
}

impl<const N: usize> Task<f64> for Of<Clover<'_>, N> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = f64>>(self) {
        // SAFETY: the instructions exist, by the caller's promise.
        let isa = unsafe { Instructions::<X>::assume() };
        let Clover { links, sites, out } = self.0;
        let (lanes, d) = (links.lattice.lanes(), links.lattice.ndim());
        let (planes, components_) = (planes(d), N * N - 1);
        let mut g = vec![0.0; planes * components_ * X::LANES];
        for x in sites {
            for lane in (0..lanes).step_by(X::LANES) {
                let mut plane = 0;
                for mu in 0..d {
                    for nu in mu + 1..d {
                        let c = leaves::<X, N>(isa, &links, x, [mu, nu], lane).over_i(isa);
                        let g = &mut g[plane * components_ * X::LANES..];
                        components(isa, &c, 0.5, g, X::LANES);
                        plane += 1;
                    }
                }
                let mut pair = 0;
                for p in 0..planes {
                    for q in p..planes {
                        let line = &mut out[pair * lanes + lane..];
                        let mut sum = isa.load(line);
                        for a in 0..components_ {
                            let left = isa.load(&g[(p * components_ + a) * X::LANES..]);
                            sum = left.mul_add(isa.load(&g[(q * components_ + a) * X::LANES..]), sum);
                        }
                        sum.store(line);
                        pair += 1;
                    }
                }
            }
        }
    }
}

/// The four plaquettes around x in the plane (μ, ν), each running from μ to ν.
#[inline(always)]
fn leaves<X: Vector<Item = f64>, const N: usize>(
    isa: Instructions<X>,
    links: &BlockLinks<'_, f64>,
    x: usize,
    [mu, nu]: [usize; 2],
    first: usize,
) -> Matrix<X, N> {
    let lattice = links.lattice;
    let here = Place::at(x);
    let link = |place: Place, mu: usize| links.link::<X, N>(isa, place, mu, first);
    let (left, below) = (here.backward(lattice, mu), here.backward(lattice, nu));
    // Forwards and up: U_μ(x) U_ν(x+μ̂) U_μ(x+ν̂)† U_ν(x)†.
    let u_nu = link(here, nu);
    let one = link(here, mu)
        .times(isa, &link(here.forward(lattice, mu), nu))
        .times_adjoint(isa, &u_nu.times(isa, &link(here.forward(lattice, nu), mu)));
    // Up and backwards: U_ν(x) U_μ(x−μ̂+ν̂)† U_ν(x−μ̂)† U_μ(x−μ̂).
    let u_left = link(left, mu);
    let two = u_nu
        .times_adjoint(isa, &link(left.forward(lattice, nu), mu))
        .times(isa, &link(left, nu).adjoint_times(isa, &u_left));
    // Backwards and down: U_μ(x−μ̂)† U_ν(x−μ̂−ν̂)† U_μ(x−μ̂−ν̂) U_ν(x−ν̂).
    let corner = left.then_backward(lattice, nu);
    let u_below = link(below, nu);
    let three =
        link(corner, nu).times(isa, &u_left).adjoint_times(isa, &link(corner, mu).times(isa, &u_below));
    // Down and forwards: U_ν(x−ν̂)† U_μ(x−ν̂) U_ν(x−ν̂+μ̂) U_μ(x)†.
    let four = u_below
        .adjoint_times(isa, &link(below, mu))
        .times(isa, &link(below.forward(lattice, mu), nu).times_adjoint(isa, &link(here, mu)));
    one.plus(&two).plus(&three).plus(&four)
}
