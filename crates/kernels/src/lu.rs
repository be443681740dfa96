//! LU decomposition with partial pivoting of real matrices in f64: determinants, inverses, solutions.
//!
//! ```text
//! Π A = L U,   log |det A| = Σ_i log |U_ii|,   A⁻¹ = U⁻¹ L⁻¹ Π
//! ```
//!
//! One matrix at a time on the calling thread, in memory the thread keeps: a batch is a parallel loop over its matrices, which
//! from eight rows to a thousand is where two cores do twice the work. A matrix is stored by columns and padded to blocks
//! of eight with a unit matrix, so that there are no remainders; the padding is never a pivot of the rest.

mod blocked;
mod panel;
mod product;
mod scaled;
#[cfg(test)]
mod tests;

pub use scaled::ScaledMatrix;

use crate::conv::scratch::{take, whole_lines, with_scratch};
use crate::conv::simd::Level;
use blocked::{Decomposition, invert_triangle};
use product::View;

/// Rows and columns of the blocks the recursions end at.
const BLOCK: usize = 8;

/// A determinant as its logarithm and its sign.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Determinant {
    /// log |det A|; −∞ for a matrix with a vanishing pivot, NaN for one with NaN.
    pub log_abs: f64,
    /// The sign of det A; zero or NaN where `log_abs` is −∞ or NaN.
    pub sign: f64,
}

/// An n × n matrix to be filled.
#[derive(Debug)]
pub struct Matrix<'a> {
    order: usize,
    level: Level,
    a: &'a mut [f64],
    /// Room for the inverse.
    x: &'a mut [f64],
}

/// Π A = L U.
#[derive(Debug)]
pub struct Lu<'a> {
    matrix: Matrix<'a>,
    pivots: Vec<usize>,
    inverses: Vec<panel::Small>,
    determinant: Determinant,
}

/// A⁻¹.
#[derive(Debug)]
pub struct Inverse<'a> {
    order: usize,
    x: &'a [f64],
    /// Column j of A⁻¹ is column `position[j]` of U⁻¹ L⁻¹.
    position: Vec<usize>,
}

/// Calls `f` with an n × n matrix of zeros.
pub fn with_matrix<R>(order: usize, f: impl FnOnce(Matrix<'_>) -> R) -> R {
    with_matrix_at(Level::detect(), order, |mut matrix| {
        matrix.clear();
        f(matrix)
    })
}

/// A matrix of unspecified content, for a given instruction set.
fn with_matrix_at<R>(level: Level, order: usize, f: impl FnOnce(Matrix<'_>) -> R) -> R {
    let len = padded(order) * stride(order);
    with_scratch(2 * whole_lines::<f64>(len), |mut buffer| {
        let (a, x) = (take(&mut buffer, len), take(&mut buffer, len));
        f(Matrix { order, level, a, x })
    })
}

fn padded(order: usize) -> usize {
    order.next_multiple_of(BLOCK)
}

/// An odd number of cache lines: columns do not compete for the same sets of a cache.
fn stride(order: usize) -> usize {
    let size = padded(order);
    if (size / BLOCK).is_multiple_of(2) { size + BLOCK } else { size }
}

impl<'a> Matrix<'a> {
    /// All zeros, with the padding.
    fn clear(&mut self) {
        self.a.fill(0.0);
        for i in self.order..padded(self.order) {
            self.a[i * stride(self.order) + i] = 1.0;
        }
    }

    /// Number of rows and columns.
    pub fn order(&self) -> usize {
        self.order
    }

    /// Column j from the first row to the last.
    pub fn column_mut(&mut self, j: usize) -> &mut [f64] {
        &mut self.a[j * stride(self.order)..][..self.order]
    }

    /// Π A = L U.
    pub fn decompose(self) -> Lu<'a> {
        let (size, stride) = (padded(self.order), stride(self.order));
        let mut pivots = vec![0; size];
        let mut inverses = vec![[[0.0; BLOCK]; BLOCK]; size / BLOCK];
        let a = View { p: self.a.as_mut_ptr(), stride };
        if size > 0 {
            let mut d =
                Decomposition { level: self.level, a, size, pivots: &mut pivots, inverses: &mut inverses };
            // SAFETY: the matrix has `size` columns of `stride` ≥ size elements, and the vectors were made for it.
            unsafe { d.run(0, size) };
        }
        let (mut log_abs, mut sign) = (0.0, 1.0);
        for (i, &pivot) in pivots.iter().enumerate() {
            let u = self.a[i * stride + i];
            log_abs += u.abs().ln();
            sign *= if u == 0.0 { 0.0 } else { u.signum() };
            if pivot != i {
                sign = -sign;
            }
        }
        Lu { matrix: self, pivots, inverses, determinant: Determinant { log_abs, sign } }
    }
}

impl<'a> Lu<'a> {
    /// det A.
    pub fn determinant(&self) -> Determinant {
        self.determinant
    }

    /// Whether a pivot vanishes exactly.
    pub fn is_singular(&self) -> bool {
        let stride = stride(self.matrix.order);
        (0..self.matrix.order).any(|i| self.matrix.a[i * stride + i] == 0.0)
    }

    /// b ← A⁻¹ b; `None` when a pivot vanishes.
    ///
    /// # Panics
    /// When b has another length than A.
    pub fn solve(&self, b: &mut [f64]) -> Option<()> {
        let (n, stride) = (self.matrix.order, stride(self.matrix.order));
        assert_eq!(b.len(), n, "a right-hand side for a matrix of {n} rows");
        if self.is_singular() {
            return None;
        }
        for (i, &pivot) in self.pivots[..n].iter().enumerate() {
            b.swap(i, pivot);
        }
        for j in 0..n {
            let y = b[j];
            let l = &self.matrix.a[j * stride..][j + 1..n];
            b[j + 1..].iter_mut().zip(l).for_each(|(b, l)| *b -= l * y);
        }
        for j in (0..n).rev() {
            let u = &self.matrix.a[j * stride..][..=j];
            b[j] /= u[j];
            let y = b[j];
            b[..j].iter_mut().zip(u).for_each(|(b, u)| *b -= u * y);
        }
        Some(())
    }

    /// A⁻¹; `None` when a pivot vanishes.
    pub fn inverse(mut self) -> Option<Inverse<'a>> {
        if self.is_singular() {
            return None;
        }
        let Matrix { order, level, a, x } = self.matrix;
        let (size, stride) = (padded(order), stride(order));
        for j in 0..size {
            let (from, to) = (&a[j * stride..][..size], &mut x[j * stride..][..size]);
            to[..=j].copy_from_slice(&from[..=j]);
            to[j + 1..].fill(0.0);
        }
        let view = View { p: x.as_mut_ptr(), stride };
        let lower = View { p: a.as_mut_ptr(), stride };
        if size > 0 {
            let d = Decomposition {
                level,
                a: lower,
                size,
                pivots: &mut self.pivots,
                inverses: &mut self.inverses,
            };
            // SAFETY: both buffers hold `size` columns of `stride` ≥ size elements, and `a` has been decomposed.
            unsafe {
                invert_triangle(level, view, size);
                d.solve_lower_right(0, size, view, size);
            }
        }
        // Row i of Π A is row order[i] of A, so column order[i] of A⁻¹ is column i of U⁻¹ L⁻¹.
        let mut order_of_rows: Vec<usize> = (0..size).collect();
        for (i, &pivot) in self.pivots.iter().enumerate() {
            order_of_rows.swap(i, pivot);
        }
        let mut position = vec![0; size];
        for (i, &row) in order_of_rows.iter().enumerate() {
            position[row] = i;
        }
        Some(Inverse { order, x, position })
    }
}

impl Inverse<'_> {
    /// Column j from the first row to the last.
    pub fn column(&self, j: usize) -> &[f64] {
        &self.padded_column(j)[..self.order]
    }

    /// With the padding, which is zero.
    fn padded_column(&self, j: usize) -> &[f64] {
        &self.x[self.position[j] * stride(self.order)..][..padded(self.order)]
    }
}
