//! Plaquettes and staples at the sites of a block, and what is made of them: sums, gradients, forces.

use super::links::{BlockLinks, Place};
use crate::conv::simd::{Task, Vector};
use crate::unitary::{Instructions, Matrix, Real, components};
use std::ops::Range;

/// The plane of two directions among all, (0, 1), (0, 2), …, (d − 2, d − 1).
#[inline(always)]
pub(super) fn plane(d: usize, mu: usize, nu: usize) -> usize {
    let (low, high) = if mu < nu { (mu, nu) } else { (nu, mu) };
    low * (2 * d - low - 1) / 2 + high - low - 1
}

/// Planes of d directions.
pub(super) fn planes(d: usize) -> usize {
    d * (d - 1) / 2
}

/// Σ_x Re tr P_{μν}(x) over some sites of a block: `[plane][lane]`.
pub(super) struct Sums<'a, T, const N: usize> {
    pub(super) links: BlockLinks<'a, T>,
    pub(super) sites: Range<usize>,
    pub(super) out: &'a mut [T],
}

impl<T: crate::conv::simd::Element, const N: usize> Task<T> for Sums<'_, T, N> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(self) {
        // SAFETY: the instructions exist, by the caller's promise.
        let isa = unsafe { Instructions::<X>::assume() };
        let Self { links, sites, out } = self;
        let (lattice, lanes, d) = (links.lattice, links.lattice.lanes(), links.lattice.ndim());
        for x in sites {
            let here = Place::at(x);
            for first in (0..lanes).step_by(X::LANES) {
                for mu in 0..d {
                    let u_mu = links.link::<X, N>(isa, here, mu, first);
                    for nu in mu + 1..d {
                        let ahead_mu = links.link(isa, here.forward(lattice, mu), nu, first);
                        let there = u_mu.times(isa, &ahead_mu);
                        let u_nu = links.link::<X, N>(isa, here, nu, first);
                        let ahead_nu = links.link(isa, here.forward(lattice, nu), mu, first);
                        let back = u_nu.times(isa, &ahead_nu);
                        let line = &mut out[plane(d, mu, nu) * lanes + first..];
                        (isa.load(line) + there.inner(isa, &back)).store(line);
                    }
                }
            }
        }
    }
}

/// What is written for each link.
#[derive(Clone, Copy)]
pub(super) enum Output {
    /// The gradient Σ_ν w_{μν} S_{μν}: a matrix.
    Staples,
    /// −Σ_ν w_{μν} Im tr(T^a U S_{μν}†): N² − 1 components; and Σ w_{μν} Re tr(U S_{μν}†) in the sums.
    Force,
}

/// The links of some sites of a block: S_{μν} weighted by w, `[plane][lane]`.
pub(super) struct Gradient<'a, T, const N: usize> {
    pub(super) links: BlockLinks<'a, T>,
    pub(super) sites: Range<usize>,
    pub(super) weights: &'a [T],
    pub(super) output: Output,
    pub(super) out: &'a mut [T],
    /// `[lane]`, zero before.
    pub(super) sums: &'a mut [T],
}

impl<T: crate::conv::simd::Element, const N: usize> Task<T> for Gradient<'_, T, N> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(self) {
        // SAFETY: the instructions exist, by the caller's promise.
        let isa = unsafe { Instructions::<X>::assume() };
        let Self { links, sites, weights, output, out, sums } = self;
        let (lanes, d) = (links.lattice.lanes(), links.lattice.ndim());
        let numbers = lanes
            * match output {
                Output::Staples => 2 * N * N,
                Output::Force => N * N - 1,
            };
        for (out, x) in out.chunks_exact_mut(d * numbers).zip(sites) {
            for (mu, out) in out.chunks_exact_mut(numbers).enumerate() {
                for first in (0..lanes).step_by(X::LANES) {
                    let staples = staples::<X, N>(isa, &links, weights, x, mu, first);
                    match output {
                        Output::Staples => staples.store(&mut out[first..], lanes),
                        Output::Force => {
                            let u = links.link(isa, Place::at(x), mu, first);
                            let line = &mut sums[first..];
                            (isa.load(line) + u.inner(isa, &staples)).store(line);
                            // −Im tr(T M) = −Re tr(T M/i) with M = U S†.
                            let m = u.times_adjoint(isa, &staples).over_i(isa);
                            components(isa, &m, -1.0, &mut out[first..], lanes);
                        }
                    }
                }
            }
        }
    }
}

/// Σ_{ν≠μ} w_{μν} [ U_ν(x) U_μ(x+ν̂) U_ν(x+μ̂)† + U_ν(x−ν̂)† U_μ(x−ν̂) U_ν(x−ν̂+μ̂) ].
#[inline(always)]
pub(super) fn staples<X: Vector, const N: usize>(
    isa: Instructions<X>,
    links: &BlockLinks<'_, X::Item>,
    weights: &[X::Item],
    x: usize,
    mu: usize,
    first: usize,
) -> Matrix<X, N> {
    let (lattice, d) = (links.lattice, links.lattice.ndim());
    let here = Place::at(x);
    let mut sum = Matrix::zero(isa);
    for nu in 0..d {
        if nu == mu {
            continue;
        }
        let up = links
            .link::<X, N>(isa, here, nu, first)
            .times(isa, &links.link(isa, here.forward(lattice, nu), mu, first))
            .times_adjoint(isa, &links.link(isa, here.forward(lattice, mu), nu, first));
        let below = here.backward(lattice, nu);
        let down = links
            .link::<X, N>(isa, below, nu, first)
            .adjoint_times(isa, &links.link(isa, below, mu, first))
            .times(isa, &links.link(isa, below.forward(lattice, mu), nu, first));
        let weight: Real<X> = isa.load(&weights[plane(d, mu, nu) * lattice.lanes() + first..]);
        sum = sum.plus(&up.plus(&down).scaled(weight));
    }
    sum
}
