//! What is not a product: eight columns with partial pivoting, exchanges of rows, and inverses of 8 × 8 triangles.

#![allow(clippy::needless_range_loop, reason = "small matrices are indexed as in their formula")]

use super::BLOCK;
use super::product::View;
use crate::conv::simd::{Level, Task, Vector, dispatch};

/// Decomposes `BLOCK` columns of `rows` rows in place and notes with which row each pivot row was exchanged.
///
/// A column without a pivot other than zero is left as it is. NaN is taken before every number.
///
/// # Safety
/// The view is valid for `rows × BLOCK`, and rows is a positive multiple of `BLOCK`.
pub(super) unsafe fn decompose(level: Level, a: View, rows: usize) -> [usize; BLOCK] {
    dispatch(level, Panel { a, rows })
}

struct Panel {
    a: View,
    rows: usize,
}

impl Task<f64> for Panel {
    type Output = [usize; BLOCK];

    #[inline(always)]
    unsafe fn run<X: Vector<Item = f64>>(self) -> [usize; BLOCK] {
        let mut pivots = [0; BLOCK];
        // SAFETY: `decompose` promises a valid panel, and the indices are those of its columns.
        unsafe {
            pivots[0] = self.eliminate::<X, 0>();
            pivots[1] = self.eliminate::<X, 1>();
            pivots[2] = self.eliminate::<X, 2>();
            pivots[3] = self.eliminate::<X, 3>();
            pivots[4] = self.eliminate::<X, 4>();
            pivots[5] = self.eliminate::<X, 5>();
            pivots[6] = self.eliminate::<X, 6>();
            pivots[7] = self.eliminate::<X, 7>();
        }
        pivots
    }
}

impl Panel {
    /// Pivot, multipliers and rank-one update of column J; returns the pivot's row.
    #[inline(always)]
    unsafe fn eliminate<X: Vector<Item = f64>, const J: usize>(&self) -> usize {
        // SAFETY: rows and columns stay within the panel, and the rows below the first block are whole registers.
        unsafe {
            let pivot_row = self.pivot_row::<J>();
            if pivot_row != J {
                for c in 0..BLOCK {
                    std::ptr::swap(self.a.at(J, c).p, self.a.at(pivot_row, c).p);
                }
            }
            let pivot = *self.a.at(J, J).p;
            if pivot == 0.0 {
                return pivot_row;
            }
            let column = std::slice::from_raw_parts_mut(self.a.at(0, J).p, self.rows);
            // The inverse of a subnormal number may overflow.
            let inverse = if pivot.abs() < f64::MIN_POSITIVE {
                column[J + 1..].iter_mut().for_each(|x| *x /= pivot);
                1.0
            } else {
                pivot.recip()
            };
            column[J + 1..BLOCK].iter_mut().for_each(|x| *x *= inverse);
            let mut multipliers = [0.0; BLOCK];
            multipliers[J + 1..].copy_from_slice(&column[J + 1..BLOCK]);
            let mut row = [X::splat(0.0); BLOCK];
            for c in J + 1..BLOCK {
                let y = *self.a.at(J, c).p;
                row[c] = X::splat(y);
                let top = std::slice::from_raw_parts_mut(self.a.at(0, c).p, BLOCK);
                for r in 0..BLOCK {
                    top[r] -= multipliers[r] * y;
                }
            }
            let scale = X::splat(inverse);
            for i in (BLOCK..self.rows).step_by(X::LANES) {
                let p = self.a.at(i, J).p;
                let l = X::load(p).mul_add(scale, X::splat(0.0));
                l.store(p);
                for c in J + 1..BLOCK {
                    let p = self.a.at(i, c).p;
                    l.neg_mul_add(row[c], X::load(p)).store(p);
                }
            }
            pivot_row
        }
    }

    /// The row ≥ J whose element of column J has the largest modulus; the first of equals.
    #[inline(always)]
    unsafe fn pivot_row<const J: usize>(&self) -> usize {
        // SAFETY: column J has `rows` elements.
        let column = unsafe { std::slice::from_raw_parts(self.a.at(0, J).p, self.rows) };
        // As integers, moduli are ordered like the numbers, and the searches vectorise.
        let modulus = |x: f64| x.to_bits() & (u64::MAX >> 1);
        let largest = column[J..].iter().fold(0, |m, &x| modulus(x).max(m));
        column[J..].iter().position(|&x| modulus(x) == largest).map_or(J, |i| J + i)
    }
}

/// Exchanges row `first + i` with row `pivots[i]`, in order, in `columns` columns.
///
/// # Safety
/// The view is valid for these rows and columns.
pub(super) unsafe fn exchange_rows(a: View, first: usize, pivots: &[usize], columns: usize) {
    for c in (0..columns).step_by(BLOCK) {
        let columns: [*mut f64; BLOCK] = std::array::from_fn(|l| a.at(0, c + l).p);
        for (i, &pivot) in pivots.iter().enumerate() {
            if pivot != first + i {
                for column in columns {
                    // SAFETY: both rows exist, as the caller promises.
                    unsafe { std::ptr::swap(column.wrapping_add(first + i), column.wrapping_add(pivot)) };
                }
            }
        }
    }
}

/// An 8 × 8 matrix by columns.
pub(super) type Small = [[f64; BLOCK]; BLOCK];

/// # Safety
/// The view is valid for 8 × 8 elements.
unsafe fn read(a: View) -> Small {
    let mut m = [[0.0; BLOCK]; BLOCK];
    for (c, column) in m.iter_mut().enumerate() {
        // SAFETY: promised by the caller.
        *column = unsafe { a.at(0, c).p.cast::<[f64; BLOCK]>().read() };
    }
    m
}

/// The inverse of the unit lower triangle of a block.
///
/// # Safety
/// The view is valid for 8 × 8 elements.
pub(super) unsafe fn invert_unit_lower(a: View) -> Small {
    // SAFETY: promised by the caller.
    let mut l = unsafe { read(a) };
    let mut x = [[0.0; BLOCK]; BLOCK];
    for c in 0..BLOCK {
        l[c][..=c].fill(0.0);
        x[c][c] = 1.0;
    }
    for k in 0..BLOCK {
        for c in 0..BLOCK {
            let y = x[c][k];
            for r in 0..BLOCK {
                x[c][r] -= l[k][r] * y;
            }
        }
    }
    x
}

/// The inverse of the upper triangle of a block, zeros below; infinite or NaN where a diagonal element is zero.
///
/// # Safety
/// The view is valid for 8 × 8 elements.
pub(super) unsafe fn invert_upper(a: View) -> Small {
    // SAFETY: promised by the caller.
    let mut u = unsafe { read(a) };
    let mut x = [[0.0; BLOCK]; BLOCK];
    let mut diagonal = [0.0; BLOCK];
    for c in 0..BLOCK {
        diagonal[c] = u[c][c];
        u[c][c..].fill(0.0);
        x[c][c] = 1.0;
    }
    for k in (0..BLOCK).rev() {
        for c in k..BLOCK {
            x[c][k] /= diagonal[k];
            let y = x[c][k];
            for r in 0..BLOCK {
                x[c][r] -= u[k][r] * y;
            }
        }
    }
    x
}
