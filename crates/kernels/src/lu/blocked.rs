//! The recursions: everything by halves, down to blocks of eight, so that the work is products as large as can be.
//!
//! ```text
//! (A₁ A₂):  decompose A₁,  exchange rows of A₂,  U₁₂ = L₁₁⁻¹ A₁₂,  A₂₂ ← A₂₂ − L₂₁ U₁₂,  decompose A₂₂
//! U⁻¹:      U₁₁⁻¹ and U₂₂⁻¹,  then −U₁₁⁻¹ U₁₂ U₂₂⁻¹ above
//! X L = B:  X₂ = B₂ L₂₂⁻¹,  B₁ ← B₁ − X₂ L₂₁,  X₁ = B₁ L₁₁⁻¹
//! ```
//!
//! Triangles of 8 × 8 are inverted once and multiplied with.

use super::BLOCK;
use super::panel::{Small, decompose, exchange_rows, invert_unit_lower, invert_upper};
use super::product::{View, add, left, right, subtract};
use crate::conv::simd::Level;

/// The larger half of a size in whole blocks.
fn half(size: usize) -> usize {
    (size / 2).next_multiple_of(BLOCK)
}

/// A block of inverted triangles as a view.
fn small(block: &Small) -> View {
    View { p: block.as_ptr().cast_mut().cast(), stride: BLOCK }
}

/// A decomposition in place: Π A = L U.
pub(super) struct Decomposition<'a> {
    pub(super) level: Level,
    pub(super) a: View,
    /// Rows, a multiple of [`BLOCK`].
    pub(super) size: usize,
    /// Row i was exchanged with row `pivots[i]`, in order.
    pub(super) pivots: &'a mut [usize],
    /// Inverses of the diagonal blocks of L.
    pub(super) inverses: &'a mut [Small],
}

impl Decomposition<'_> {
    /// Decomposes columns `first..first + width` from row `first` down.
    ///
    /// # Safety
    /// `a` is valid for size × size, `pivots` has size elements and `inverses` one a block; the columns are whole blocks.
    pub(super) unsafe fn run(&mut self, first: usize, width: usize) {
        let (level, a) = (self.level, self.a);
        let rows = self.size - first;
        // SAFETY: all blocks lie within the matrix, on and below the diagonal block or to its right.
        unsafe {
            if width <= BLOCK {
                let panel = a.at(first, first);
                let pivots = decompose(level, panel, rows);
                for (i, pivot) in pivots.into_iter().enumerate() {
                    self.pivots[first + i] = first + pivot;
                }
                self.inverses[first / BLOCK] = invert_unit_lower(panel);
                return;
            }
            let (w1, w2) = (half(width), width - half(width));
            let second = first + w1;
            self.run(first, w1);
            exchange_rows(a.at(0, second), first, &self.pivots[first..second], w2);
            self.solve_lower(first, w1, a.at(first, second), w2);
            subtract(
                level,
                a.at(second, second),
                a.at(second, first),
                a.at(first, second),
                [rows - w1, w1, w2],
            );
            self.run(second, w2);
            exchange_rows(a.at(0, first), second, &self.pivots[second..second + w2], w1);
        }
    }

    /// B ← L⁻¹ B with the diagonal block of L at `first`.
    unsafe fn solve_lower(&self, first: usize, size: usize, b: View, columns: usize) {
        // SAFETY: as in `run`.
        unsafe {
            if size <= BLOCK {
                left(self.level, false, b, small(&self.inverses[first / BLOCK]), columns);
                return;
            }
            let (s1, s2) = (half(size), size - half(size));
            self.solve_lower(first, s1, b, columns);
            let l21 = self.a.at(first + s1, first);
            subtract(self.level, b.at(s1, 0), l21, b, [s2, s1, columns]);
            self.solve_lower(first + s1, s2, b.at(s1, 0), columns);
        }
    }

    /// X ← X L⁻¹ with the diagonal block of L at `first`.
    ///
    /// # Safety
    /// As for [`Self::run`], after it; `x` is valid for rows × size and does not overlap the decomposition.
    pub(super) unsafe fn solve_lower_right(&self, first: usize, size: usize, x: View, rows: usize) {
        // SAFETY: as in `run`.
        unsafe {
            if size <= BLOCK {
                right(self.level, x, small(&self.inverses[first / BLOCK]), rows);
                return;
            }
            let (s1, s2) = (half(size), size - half(size));
            self.solve_lower_right(first + s1, s2, x.at(0, s1), rows);
            let l21 = self.a.at(first + s1, first);
            subtract(self.level, x, x.at(0, s1), l21, [rows, s2, s1]);
            self.solve_lower_right(first, s1, x, rows);
        }
    }
}

/// Inverts an upper triangle in place. What is below the diagonal must be zero, and is left so.
///
/// # Safety
/// `u` is valid for size × size, a multiple of [`BLOCK`].
pub(super) unsafe fn invert_triangle(level: Level, u: View, size: usize) {
    // SAFETY: all blocks lie within the matrix.
    unsafe {
        if size <= BLOCK {
            let inverse = invert_upper(u);
            for (c, column) in inverse.into_iter().enumerate() {
                u.at(0, c).p.cast::<[f64; BLOCK]>().write(column);
            }
            return;
        }
        let (s1, s2) = (half(size), size - half(size));
        let (u12, u22) = (u.at(0, s1), u.at(s1, s1));
        invert_triangle(level, u, s1);
        invert_triangle(level, u22, s2);
        negative_triangle_times(level, u, s1, u12, s2);
        times_triangle(level, u12, s1, u22, s2);
    }
}

/// B ← −T B with an upper triangle T of `size`, from the top row down.
unsafe fn negative_triangle_times(level: Level, t: View, size: usize, b: View, columns: usize) {
    // SAFETY: as in `invert_triangle`.
    unsafe {
        if size <= BLOCK {
            left(level, true, b, t, columns);
            return;
        }
        let (s1, s2) = (half(size), size - half(size));
        let below = b.at(s1, 0);
        negative_triangle_times(level, t, s1, b, columns);
        subtract(level, b, t.at(0, s1), below, [s1, s2, columns]);
        negative_triangle_times(level, t.at(s1, s1), s2, below, columns);
    }
}

/// B ← B T with an upper triangle T of `size`, from the last column back.
unsafe fn times_triangle(level: Level, b: View, rows: usize, t: View, size: usize) {
    // SAFETY: as in `invert_triangle`.
    unsafe {
        if size <= BLOCK {
            right(level, b, t, rows);
            return;
        }
        let (s1, s2) = (half(size), size - half(size));
        let right_half = b.at(0, s1);
        times_triangle(level, right_half, rows, t.at(s1, s1), s2);
        add(level, right_half, b, t.at(0, s1), [rows, s1, s2]);
        times_triangle(level, b, rows, t, s1);
    }
}
