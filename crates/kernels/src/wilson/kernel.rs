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
use std::sync::atomic::{Ordering, compiler_fence};

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
                let mut site = Site {
                    taps,
                    next: self.taps.get(i + 1).unwrap_or(taps),
                    links: self.links,
                    source: self.source,
                    offset,
                    spinor: &mut lanes,
                    link: &mut links,
                };
                // SAFETY: the instructions exist; all pointers are into slices of whole lines, at an offset that leaves a
                // register's worth of lanes.
                unsafe {
                    let out = out.as_mut_ptr().add(offset);
                    site.direction::<X, 0, MINUS, true>(out);
                    site.direction::<X, 1, MINUS, false>(out);
                    site.direction::<X, 2, MINUS, false>(out);
                    site.direction::<X, 3, MINUS, false>(out);
                    let factor = X::splat(self.factor);
                    let zero = X::splat(T::default());
                    if let Some((c, w)) = own {
                        let c = X::splat(c);
                        for n in 0..SPINOR {
                            let w = X::load(w.as_ptr().add(offset + n * line)).mul_add(c, zero);
                            let y = out.add(n * line);
                            X::load(y).mul_add(factor, w).store(y);
                        }
                    } else if self.factor != T::from_f64(1.0) {
                        for n in 0..SPINOR {
                            let y = out.add(n * line);
                            X::load(y).mul_add(factor, zero).store(y);
                        }
                    }
                }
            }
        }
    }
}

struct Site<'a, T> {
    taps: &'a [Tap; 8],
    /// Those of the site after this one.
    next: &'a [Tap; 8],
    links: &'a [T],
    source: &'a [T],
    offset: usize,
    spinor: &'a mut Exchanged<T>,
    link: &'a mut Exchanged<T>,
}

impl<T: Element> Site<'_, T> {
    /// y ← y + both terms of a direction, or without y for the `FIRST`.
    ///
    /// Of a = U P ψ(x+μ̂) and b = U† P' ψ(x−μ̂), upper halves, a + b goes to the upper half of y and i^p (a − b) to the lower one. Twelve
    /// registers for a, twelve for the projected spinor, four for a row of b and two for the link are what AVX-512 has; y is
    /// in memory, and fences keep the compiler from loading everything first, which would spill most of it.
    #[inline(always)]
    unsafe fn direction<X: Vector<Item = T>, const MU: usize, const MINUS: bool, const FIRST: bool>(
        &mut self,
        y: *mut T,
    ) {
        let line = lanes_of::<T>();
        // SAFETY: the instructions exist, and y has 24 lines, by the caller's promise; spinors and links are whole lines, and the
        // offset leaves LANES elements of each.
        unsafe {
            let (psi, link) = self.term::<MU, true>();
            let h =
                if MINUS { project::<X, MU, true>(psi, line) } else { project::<X, MU, false>(psi, line) };
            compiler_fence(Ordering::SeqCst);
            let mut ahead = [[[X::splat(T::default()); 2]; 2]; 3];
            for (i, ahead) in ahead.iter_mut().enumerate() {
                *ahead = row::<X, true>(link, &h, i, line);
                self.prefetch(MU, i);
                compiler_fence(Ordering::SeqCst);
            }
            let (psi, link) = self.term::<MU, false>();
            let h =
                if MINUS { project::<X, MU, false>(psi, line) } else { project::<X, MU, true>(psi, line) };
            compiler_fence(Ordering::SeqCst);
            for (i, ahead) in ahead.iter().enumerate() {
                let behind = row::<X, false>(link, &h, i, line);
                self.prefetch(4 + MU, i);
                for s in 0..2 {
                    let (a, b) = (ahead[s], behind[s]);
                    let lower = reconstruction(MU, MINUS, s);
                    let sum = [a[0].add(b[0]), a[1].add(b[1])];
                    let difference = [a[0].sub(b[0]), a[1].sub(b[1])];
                    add::<X, FIRST>(y.add(2 * (3 * s + i) * line), sum, 0, line);
                    add::<X, FIRST>(y.add(2 * (3 * lower.column + i) * line), difference, lower.power, line);
                }
                compiler_fence(Ordering::SeqCst);
            }
        }
    }

    /// Asks for a third of a link of the next site. Links that come from far away are a stream of short pieces, which the hardware does not
    /// foresee; asking for them a few at a time, between the rows, hides most of their way and costs next to nothing.
    #[inline(always)]
    fn prefetch(&self, tap: usize, third: usize) {
        let (line, lines) = (lanes_of::<T>(), LINK / 3);
        let first = (self.next[tap].link as usize * LINK + third * lines) * line;
        let part = self.links.as_ptr().wrapping_add(first);
        (0..lines).for_each(|n| prefetch(part.wrapping_add(n * line)));
    }

    /// The neighbour's spinor and the link to it, in this site's lanes.
    #[inline(always)]
    unsafe fn term<const MU: usize, const FORWARDS: bool>(&mut self) -> (*const T, *const T) {
        let line = lanes_of::<T>();
        let tap = self.taps[if FORWARDS { MU } else { 4 + MU }];
        let source = &self.source[tap.source as usize * SPINOR * line..][..SPINOR * line];
        let link = &self.links[tap.link as usize * LINK * line..][..LINK * line];
        let source = self.spinor.read(source, tap.mask);
        let link = self.link.read(link, if FORWARDS { 0 } else { tap.mask });
        // SAFETY: whole lines hold more than the offset.
        unsafe { (source.as_ptr().add(self.offset), link.as_ptr().add(self.offset)) }
    }
}

/// Asks for a cache line; any address will do.
#[inline(always)]
fn prefetch<T>(line: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: part of every x86-64 processor, and a hint: it changes nothing but the cache.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

/// Row i of U h, or of U† h: both spins.
#[inline(always)]
unsafe fn row<X: Vector, const FORWARDS: bool>(
    link: *const X::Item,
    h: &[[[X; 2]; 3]; 2],
    i: usize,
    line: usize,
) -> [[X; 2]; 2] {
    // SAFETY: the caller's promise: link points to 18 lines of LANES elements each.
    unsafe {
        let mut r = [[X::splat(X::Item::default()); 2]; 2];
        for k in 0..3 {
            let at = if FORWARDS { i * 3 + k } else { k * 3 + i };
            let re = X::load(link.add(2 * at * line));
            let im = X::load(link.add((2 * at + 1) * line));
            for (r, h) in r.iter_mut().zip(h) {
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
        r
    }
}

/// y ← y + i^power z, or y ← i^power z, for the complex number in two lines at y.
#[inline(always)]
unsafe fn add<X: Vector, const FIRST: bool>(y: *mut X::Item, z: [X; 2], power: usize, line: usize) {
    // SAFETY: the instructions exist and y points to two lines, by the caller's promise.
    unsafe {
        let zero = X::splat(X::Item::default());
        let before = if FIRST { [zero; 2] } else { [X::load(y), X::load(y.add(line))] };
        let [re, im] = match (FIRST, power) {
            (true, 0) => z,
            _ => times_power_plus(before, z, power),
        };
        re.store(y);
        im.store(y.add(line));
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
