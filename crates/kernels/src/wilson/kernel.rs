//! The hop in registers.
//!
//! ```text
//! y(x) = c w(x) + k Σ_μ [ (1 ∓ γ_μ) U_μ(x) ψ(x+μ̂) + (1 ± γ_μ) U_μ(x−μ̂)† ψ(x−μ̂) ]
//! ```
//!
//! A term is projected to two spin components, multiplied by the link, and its lower half follows from the upper one:
//! 8 · (12 + 2 · 66) + 7 · 24 = 1,320 operations a site. Lanes never mix, except that neighbours on another node are copied
//! with their lanes exchanged before they are used.

use super::gamma::{projector, reconstruction};
use super::geometry::{Table, Tap};
use crate::conv::simd::{Element, Task, Vector};
use crate::lanes::{exchange, lanes_of};

/// Lines of a spinor: (spin, colour, re/im).
pub(super) const SPINOR: usize = 24;
/// Lines of a link: (row, column, re/im).
pub(super) const LINK: usize = 18;
/// Elements of the largest line that is copied.
const ROOM: usize = SPINOR * 16;

/// Lines that are read with their lanes exchanged.
#[repr(align(64))]
pub(super) struct Exchanged<T>([T; ROOM]);

impl<T: Element> Exchanged<T> {
    pub(super) fn new() -> Self {
        Self([T::default(); ROOM])
    }

    /// `lines` with the lanes of each exchanged; the lines themselves where nothing is to be exchanged.
    #[inline(always)]
    pub(super) fn read<'a>(&'a mut self, lines: &'a [T], mask: u32) -> &'a [T] {
        if mask == 0 {
            return lines;
        }
        let to = &mut self.0[..lines.len()];
        exchange(lines, to, mask as usize);
        to
    }
}

/// c w + k H ψ for consecutive targets of one block.
pub(super) struct Hop<'a, T> {
    pub(super) taps: &'a [[Tap; 8]],
    pub(super) links: &'a [T],
    pub(super) source: &'a [T],
    /// (c, w at the targets).
    pub(super) own: Option<(T, &'a [T])>,
    pub(super) factor: T,
    /// H† instead of H.
    pub(super) adjoint: bool,
    pub(super) out: &'a mut [T],
}

impl<'a, T: Element> Hop<'a, T> {
    /// The part of the targets `range` of a whole block.
    pub(super) fn part(
        table: &'a Table,
        range: std::ops::Range<usize>,
        (links, source): (&'a [T], &'a [T]),
        own: Option<(T, &'a [T])>,
        (factor, adjoint): (T, bool),
        out: &'a mut [T],
    ) -> Self {
        let line = lanes_of::<T>();
        let elements = range.start * SPINOR * line..range.end * SPINOR * line;
        let own = own.map(|(c, w)| (c, &w[elements]));
        Self { taps: &table.taps[range], links, source, own, factor, adjoint, out }
    }
}

impl<T: Element> Task<T> for Hop<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(self) {
        // SAFETY: the instructions exist, by the caller's promise.
        unsafe {
            if self.adjoint {
                self.sites::<X, false>();
            } else {
                self.sites::<X, true>();
            }
        }
    }
}

impl<T: Element> Hop<'_, T> {
    /// `MINUS`: 1 − γ_μ belongs to the step forwards.
    #[inline(always)]
    unsafe fn sites<X: Vector<Item = T>, const MINUS: bool>(self) {
        let line = lanes_of::<T>();
        let spinor = SPINOR * line;
        let mut lanes = Exchanged::new();
        let mut links = Exchanged::new();
        for (i, (taps, out)) in self.taps.iter().zip(self.out.chunks_exact_mut(spinor)).enumerate() {
            let own = self.own.map(|(c, w)| (c, &w[i * spinor..][..spinor]));
            for offset in (0..line).step_by(X::LANES) {
                let mut sum = Terms {
                    taps,
                    links: self.links,
                    source: self.source,
                    offset,
                    spinor: &mut lanes,
                    link: &mut links,
                };
                // SAFETY: the instructions exist; all pointers are into slices of whole lines, at an offset that leaves a
                // register's worth of lanes.
                unsafe {
                    let mut y = [X::splat(T::default()); SPINOR];
                    match MINUS {
                        true => {
                            sum.add::<X, 0, true, true>(&mut y);
                            sum.add::<X, 1, true, true>(&mut y);
                            sum.add::<X, 2, true, true>(&mut y);
                            sum.add::<X, 3, true, true>(&mut y);
                            sum.add::<X, 0, false, false>(&mut y);
                            sum.add::<X, 1, false, false>(&mut y);
                            sum.add::<X, 2, false, false>(&mut y);
                            sum.add::<X, 3, false, false>(&mut y);
                        }
                        false => {
                            sum.add::<X, 0, true, false>(&mut y);
                            sum.add::<X, 1, true, false>(&mut y);
                            sum.add::<X, 2, true, false>(&mut y);
                            sum.add::<X, 3, true, false>(&mut y);
                            sum.add::<X, 0, false, true>(&mut y);
                            sum.add::<X, 1, false, true>(&mut y);
                            sum.add::<X, 2, false, true>(&mut y);
                            sum.add::<X, 3, false, true>(&mut y);
                        }
                    }
                    let factor = X::splat(self.factor);
                    let zero = X::splat(T::default());
                    let out = out.as_mut_ptr().add(offset);
                    match own {
                        Some((c, w)) => {
                            let c = X::splat(c);
                            for (n, y) in y.into_iter().enumerate() {
                                let w = X::load(w.as_ptr().add(offset + n * line)).mul_add(c, zero);
                                y.mul_add(factor, w).store(out.add(n * line));
                            }
                        }
                        None => {
                            for (n, y) in y.into_iter().enumerate() {
                                y.mul_add(factor, zero).store(out.add(n * line));
                            }
                        }
                    }
                }
            }
        }
    }
}

struct Terms<'a, T> {
    taps: &'a [Tap; 8],
    links: &'a [T],
    source: &'a [T],
    offset: usize,
    spinor: &'a mut Exchanged<T>,
    link: &'a mut Exchanged<T>,
}

impl<T: Element> Terms<'_, T> {
    /// y ← y + the term of one neighbour.
    #[inline(always)]
    unsafe fn add<X: Vector<Item = T>, const MU: usize, const FORWARDS: bool, const MINUS: bool>(
        &mut self,
        y: &mut [X; SPINOR],
    ) {
        let line = lanes_of::<T>();
        let tap = self.taps[if FORWARDS { MU } else { 4 + MU }];
        let source = &self.source[tap.source as usize * SPINOR * line..][..SPINOR * line];
        let source = self.spinor.read(source, tap.mask);
        let link = &self.links[tap.link as usize * LINK * line..][..LINK * line];
        let link = self.link.read(link, if FORWARDS { 0 } else { tap.mask });
        // SAFETY: the instructions exist; both slices hold whole lines, and the offset leaves LANES elements of each.
        unsafe {
            let h = project::<X, MU, MINUS>(source.as_ptr().add(self.offset), line);
            let link = link.as_ptr().add(self.offset);
            for i in 0..3 {
                let mut r = [[X::splat(T::default()); 2]; 2];
                for k in 0..3 {
                    let at = if FORWARDS { i * 3 + k } else { k * 3 + i };
                    let re = X::load(link.add(2 * at * line));
                    let im = X::load(link.add((2 * at + 1) * line));
                    for (r, h) in r.iter_mut().zip(&h) {
                        let [hr, hi] = h[k];
                        r[0] = re.mul_add(hr, r[0]);
                        r[1] = re.mul_add(hi, r[1]);
                        if FORWARDS {
                            r[0] = im.neg_mul_add(hi, r[0]);
                            r[1] = im.mul_add(hr, r[1]);
                        } else {
                            r[0] = im.mul_add(hi, r[0]);
                            r[1] = im.neg_mul_add(hr, r[1]);
                        }
                    }
                }
                for s in 0..2 {
                    add_power(y, 2 * (3 * s + i), r[s], 0);
                    let lower = reconstruction(MU, MINUS, s);
                    add_power(y, 2 * (3 * lower.column + i), r[s], lower.power);
                }
            }
        }
    }
}

/// y_n ← y_n + i^power z, for the complex number at lines n and n + 1.
#[inline(always)]
unsafe fn add_power<X: Vector>(y: &mut [X], n: usize, z: [X; 2], power: usize) {
    // SAFETY: the instructions exist, by the caller's promise.
    unsafe {
        let [re, im] = times_power_plus([y[n], y[n + 1]], z, power);
        y[n] = re;
        y[n + 1] = im;
    }
}

/// a + i^power b.
#[inline(always)]
unsafe fn times_power_plus<X: Vector>(a: [X; 2], b: [X; 2], power: usize) -> [X; 2] {
    // SAFETY: the instructions exist, by the caller's promise.
    unsafe {
        match power {
            0 => [a[0].add(b[0]), a[1].add(b[1])],
            1 => [a[0].sub(b[1]), a[1].add(b[0])],
            2 => [a[0].sub(b[0]), a[1].sub(b[1])],
            _ => [a[0].add(b[1]), a[1].sub(b[0])],
        }
    }
}

/// The upper half of (1 ∓ γ_μ)ψ: `[spin][colour][re/im]`.
#[inline(always)]
pub(super) unsafe fn project<X: Vector, const MU: usize, const MINUS: bool>(
    psi: *const X::Item,
    line: usize,
) -> [[[X; 2]; 3]; 2] {
    // SAFETY: the caller's promise: psi points to 24 lines of LANES elements each.
    unsafe {
        let at = |spin: usize, colour: usize| {
            let p = psi.add(2 * (3 * spin + colour) * line);
            [X::load(p), X::load(p.add(line))]
        };
        let mut h = [[[X::splat(X::Item::default()); 2]; 3]; 2];
        for (s, h) in h.iter_mut().enumerate() {
            let other = projector(MU, MINUS, s);
            for (c, h) in h.iter_mut().enumerate() {
                *h = times_power_plus(at(s, c), at(other.column, c), other.power);
            }
        }
        h
    }
}
