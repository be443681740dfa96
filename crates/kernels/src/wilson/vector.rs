//! Spinors of one block in lanes, and the arithmetic solvers need.
//!
//! ```text
//! [site][spin, colour, re/im][lane]
//! ```

use super::geometry::{Geometry, Sites};
use super::kernel::SPINOR;
use crate::conv::scratch::Aligned;
use crate::conv::simd::{Element, Level, Task, Vector, dispatch};
use crate::lanes::lanes_of;
use rayon::prelude::*;

/// Sites that one task treats in arithmetic on whole vectors.
const TASK: usize = 128;

pub(super) fn zeros<T: Element>(geometry: &Geometry, sites: Sites) -> Aligned<T> {
    Aligned::zeros(geometry.table(sites).sites.len() * SPINOR * lanes_of::<T>())
}

/// Calls `f(element of the batch-first vectors, element of the block)` for all elements of the block's own lanes, and of idle ones, which
/// repeat the last configuration, if `fill`. Site by site, so that the lines of a site stay in the cache.
fn each(geometry: &Geometry, sites: Sites, block: usize, fill: bool, mut f: impl FnMut(usize, usize)) {
    let lattice = &geometry.lattice;
    let positions = sites.count(lattice.volume());
    let lanes = lattice.lanes();
    let last = |lane: usize| fill.then(|| (lattice.batch() - 1, lane % lattice.nodes()));
    let owners: Vec<Option<(usize, usize)>> =
        (0..lanes).map(|lane| lattice.lane(block, lane).or_else(|| last(lane))).collect();
    for (i, &site) in geometry.table(sites).sites.iter().enumerate() {
        for (lane, owner) in owners.iter().enumerate() {
            let Some((configuration, node)) = *owner else { continue };
            let position = geometry.position(sites, lattice.lattice_site(site as usize, node));
            for part in 0..2 {
                let from = ((configuration * 2 + part) * positions + position) * 12;
                let to = (i * SPINOR + part) * lanes + lane;
                for e in 0..12 {
                    f(from + e, to + 2 * e * lanes);
                }
            }
        }
    }
}

pub(super) fn pack<T: Element>(geometry: &Geometry, sites: Sites, block: usize, v: &[T], out: &mut [T]) {
    each(geometry, sites, block, true, |from, to| out[to] = v[from]);
}

/// `v`: the configurations of this block only.
pub(super) fn unpack<T: Element>(geometry: &Geometry, sites: Sites, block: usize, lanes: &[T], v: &mut [T]) {
    let first = block * geometry.lattice.configurations() * sites.count(geometry.lattice.volume()) * 24;
    each(geometry, sites, block, false, |from, to| v[from - first] = lanes[to]);
}

/// Σ x* y over sites and components of every lane, as a line of real and a line of imaginary parts.
struct Inner<'a, T> {
    x: &'a [T],
    y: &'a [T],
    re: &'a mut [T],
    im: &'a mut [T],
}

impl<T: Element> Task<T> for Inner<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(self) {
        let line = lanes_of::<T>();
        for offset in (0..line).step_by(X::LANES) {
            // SAFETY: the instructions exist; all slices are whole lines, and the offset leaves LANES elements of each.
            unsafe {
                let zero = X::splat(T::default());
                let (mut re, mut im) = ([zero; 4], [zero; 4]);
                for (x, y) in self.x.chunks_exact(4 * line).zip(self.y.chunks_exact(4 * line)) {
                    let (x, y) = (x.as_ptr().add(offset), y.as_ptr().add(offset));
                    for n in 0..2 {
                        let (xr, xi) = (X::load(x.add(2 * n * line)), X::load(x.add((2 * n + 1) * line)));
                        let (yr, yi) = (X::load(y.add(2 * n * line)), X::load(y.add((2 * n + 1) * line)));
                        re[2 * n] = xr.mul_add(yr, re[2 * n]);
                        re[2 * n + 1] = xi.mul_add(yi, re[2 * n + 1]);
                        im[2 * n] = xr.mul_add(yi, im[2 * n]);
                        im[2 * n + 1] = xi.neg_mul_add(yr, im[2 * n + 1]);
                    }
                }
                let sum = |z: [X; 4]| z[0].add(z[1]).add(z[2].add(z[3]));
                sum(re).store(self.re.as_mut_ptr().add(offset));
                sum(im).store(self.im.as_mut_ptr().add(offset));
            }
        }
    }
}

/// ⟨x, y⟩ of each configuration of the block; summed in an order that does not depend on the number of threads.
pub(super) fn inner<T: Element>(geometry: &Geometry, x: &[T], y: &[T], parallel: bool) -> Vec<[f64; 2]> {
    let (line, level) = (lanes_of::<T>(), Level::detect());
    let task = TASK * SPINOR * line;
    let mut sums = vec![T::default(); x.len().div_ceil(task) * 2 * line];
    let one = |sums: &mut [T], x: &[T], y: &[T]| {
        let (re, im) = sums.split_at_mut(line);
        dispatch(level, Inner { x, y, re, im });
    };
    if parallel {
        let parts = sums.par_chunks_mut(2 * line).zip(x.par_chunks(task).zip(y.par_chunks(task)));
        parts.for_each(|(sums, (x, y))| one(sums, x, y));
    } else {
        let parts = sums.chunks_mut(2 * line).zip(x.chunks(task).zip(y.chunks(task)));
        parts.for_each(|(sums, (x, y))| one(sums, x, y));
    }
    let nodes = geometry.lattice.nodes();
    let mut total = vec![[0.0; 2]; geometry.lattice.configurations()];
    for part in sums.chunks_exact(2 * line) {
        for lane in 0..line {
            total[lane / nodes][0] += part[lane].to_f64();
            total[lane / nodes][1] += part[line + lane].to_f64();
        }
    }
    total
}

/// y ← a x + b y with a complex number for every lane: lines of real and imaginary parts.
struct Combine<'a, T> {
    a: &'a [T],
    b: &'a [T],
    x: &'a [T],
    y: &'a mut [T],
    real: bool,
}

impl<T: Element> Task<T> for Combine<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(self) {
        let line = lanes_of::<T>();
        for (x, y) in self.x.chunks_exact(2 * line).zip(self.y.chunks_exact_mut(2 * line)) {
            for offset in (0..line).step_by(X::LANES) {
                // SAFETY: the instructions exist; all slices are whole lines, and the offset leaves LANES elements of each.
                unsafe {
                    let zero = X::splat(T::default());
                    let pair =
                        |p: &[T]| (X::load(p.as_ptr().add(offset)), X::load(p.as_ptr().add(offset + line)));
                    let ((ar, ai), (br, bi)) = (pair(self.a), pair(self.b));
                    let ((xr, xi), (yr, yi)) = (pair(x), pair(y));
                    let mut re = ar.mul_add(xr, br.mul_add(yr, zero));
                    let mut im = ar.mul_add(xi, br.mul_add(yi, zero));
                    if !self.real {
                        re = ai.neg_mul_add(xi, bi.neg_mul_add(yi, re));
                        im = ai.mul_add(xr, bi.mul_add(yr, im));
                    }
                    re.store(y.as_mut_ptr().add(offset));
                    im.store(y.as_mut_ptr().add(offset + line));
                }
            }
        }
    }
}

/// y ← a x + b y with complex numbers for each configuration of the block.
pub(super) fn combine<T: Element>(
    geometry: &Geometry,
    (a, x): (&[[f64; 2]], &[T]),
    (b, y): (&[[f64; 2]], &mut [T]),
    parallel: bool,
) {
    let (line, level, nodes) = (lanes_of::<T>(), Level::detect(), geometry.lattice.nodes());
    let lines = |z: &[[f64; 2]]| -> Vec<T> {
        (0..2 * line).map(|l| T::from_f64(z[l % line / nodes][l / line])).collect()
    };
    let real = a.iter().chain(b).all(|z| z[1] == 0.0);
    let (a, b) = (lines(a), lines(b));
    let task = TASK * SPINOR * line;
    let one = |x: &[T], y: &mut [T]| dispatch(level, Combine { a: &a, b: &b, x, y, real });
    if parallel {
        y.par_chunks_mut(task).zip(x.par_chunks(task)).for_each(|(y, x)| one(x, y));
    } else {
        one(x, y);
    }
}
