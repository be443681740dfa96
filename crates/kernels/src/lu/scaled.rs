//! A constant matrix plus another one with scaled rows and columns: its determinant and the derivatives in both scales.
//!
//! ```text
//! A(r, c) = K + diag(r) C diag(c)
//! ∂ log|det A| / ∂r_i = Σ_j (A⁻¹)_ji C_ij c_j,      ∂ log|det A| / ∂c_j = Σ_i (A⁻¹)_ji C_ij r_i
//! ```
//!
//! The matrix is filled, not multiplied, and the derivatives are elementwise products with the inverse: next to the
//! decomposition both cost nothing.

use super::{Determinant, Inverse, Matrix, padded, stride, with_matrix_at};
use crate::conv::scratch::Aligned;
use crate::conv::simd::{Level, Task, Vector, dispatch};
use std::fmt;
use std::sync::Arc;

/// The family A(r, c) = K + diag(r) C diag(c) of n × n matrices, f64.
#[derive(Clone)]
pub struct ScaledMatrix(Arc<Family>);

struct Family {
    order: usize,
    /// By columns, padded, with the unit matrix in the padding.
    constant: Aligned<f64>,
    /// C by columns and by rows, padded with zeros.
    by_columns: Aligned<f64>,
    by_rows: Aligned<f64>,
}

impl fmt::Debug for ScaledMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScaledMatrix").field("order", &self.0.order).finish_non_exhaustive()
    }
}

impl ScaledMatrix {
    /// K and C by their elements (i, j).
    pub fn new(
        order: usize,
        constant: impl Fn(usize, usize) -> f64,
        scaled: impl Fn(usize, usize) -> f64,
    ) -> Self {
        let (size, stride) = (padded(order), stride(order));
        let table = |element: &dyn Fn(usize, usize) -> f64, padding: f64| {
            let mut table = Aligned::zeros(size * stride);
            for j in 0..size {
                for (i, x) in table.as_mut_slice()[j * stride..][..size].iter_mut().enumerate() {
                    *x = match (i < order && j < order, i == j) {
                        (true, _) => element(i, j),
                        (false, true) => padding,
                        (false, false) => 0.0,
                    };
                }
            }
            table
        };
        Self(Arc::new(Family {
            order,
            constant: table(&constant, 1.0),
            by_columns: table(&scaled, 0.0),
            by_rows: table(&|i, j| scaled(j, i), 0.0),
        }))
    }

    /// det A(r, c).
    ///
    /// # Panics
    /// When r or c has another length than A.
    pub fn determinant(&self, r: &[f64], c: &[f64]) -> Determinant {
        self.determinant_at(Level::detect(), r, c)
    }

    pub(super) fn determinant_at(&self, level: Level, r: &[f64], c: &[f64]) -> Determinant {
        with_matrix_at(level, self.0.order, |mut matrix| {
            self.fill(&mut matrix, r, c);
            matrix.decompose().determinant()
        })
    }

    /// det A(r, c), and the derivatives of log |det A| in r and in c, which are NaN for a singular matrix.
    ///
    /// # Panics
    /// When a slice has another length than A.
    pub fn determinant_and_gradients(
        &self,
        r: &[f64],
        c: &[f64],
        dr: &mut [f64],
        dc: &mut [f64],
    ) -> Determinant {
        self.gradients_at(Level::detect(), r, c, dr, dc)
    }

    pub(super) fn gradients_at(
        &self,
        level: Level,
        r: &[f64],
        c: &[f64],
        dr: &mut [f64],
        dc: &mut [f64],
    ) -> Determinant {
        let n = self.0.order;
        assert!(dr.len() == n && dc.len() == n, "derivatives {} and {} for {n} rows", dr.len(), dc.len());
        with_matrix_at(level, n, |mut matrix| {
            self.fill(&mut matrix, r, c);
            let lu = matrix.decompose();
            let determinant = lu.determinant();
            match lu.inverse() {
                Some(inverse) => {
                    let (c, mut sums) = (self.pad(c), self.pad(&[]));
                    let by_rows = self.0.by_rows.as_slice();
                    let columns = sums.as_mut_slice();
                    let task = Contract { inverse: &inverse, by_rows, r, c: c.as_slice(), dr, dc: columns };
                    dispatch(level, task);
                    dc.copy_from_slice(&columns[..n]);
                }
                None => {
                    dr.fill(f64::NAN);
                    dc.fill(f64::NAN);
                }
            }
            determinant
        })
    }

    fn pad(&self, x: &[f64]) -> Aligned<f64> {
        let mut all = Aligned::zeros(padded(self.0.order));
        all.as_mut_slice()[..x.len()].copy_from_slice(x);
        all
    }

    fn fill(&self, matrix: &mut Matrix<'_>, r: &[f64], c: &[f64]) {
        let n = self.0.order;
        assert!(r.len() == n && c.len() == n, "scales {} and {} for {n} rows and columns", r.len(), c.len());
        let (r, c) = (self.pad(r), self.pad(c));
        let task = Fill { family: &self.0, matrix: matrix.a, r: r.as_slice(), c: c.as_slice() };
        dispatch(matrix.level, task);
    }
}

/// Columns of K + diag(r) C diag(c), with the padding.
struct Fill<'a> {
    family: &'a Family,
    matrix: &'a mut [f64],
    r: &'a [f64],
    c: &'a [f64],
}

impl Task<f64> for Fill<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = f64>>(self) {
        let (size, stride) = (padded(self.family.order), stride(self.family.order));
        let (constant, scaled) = (self.family.constant.as_slice(), self.family.by_columns.as_slice());
        let columns = self.matrix.chunks_exact_mut(stride).zip(constant.chunks_exact(stride));
        for (((a, k), s), &c) in columns.zip(scaled.chunks_exact(stride)).zip(self.c) {
            let (a, k, s, r) = (&mut a[..size], &k[..size], &s[..size], &self.r[..size]);
            for i in (0..size).step_by(X::LANES) {
                // SAFETY: the four slices have `size` elements, a multiple of the register length, and the processor has
                // the instructions of X by the caller's promise.
                unsafe {
                    let row = X::load(r[i..].as_ptr()).mul_add(X::splat(c), X::splat(0.0));
                    row.mul_add(X::load(s[i..].as_ptr()), X::load(k[i..].as_ptr()))
                        .store(a[i..].as_mut_ptr());
                }
            }
        }
    }
}

/// Row and column sums of (A⁻¹)ᵀ ∘ C, weighted with c and r.
struct Contract<'a> {
    inverse: &'a Inverse<'a>,
    by_rows: &'a [f64],
    r: &'a [f64],
    /// Padded, as `dc`, which starts as zero.
    c: &'a [f64],
    dr: &'a mut [f64],
    dc: &'a mut [f64],
}

impl Task<f64> for Contract<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = f64>>(self) {
        let size = self.c.len();
        let rows = self.by_rows.chunks_exact(stride(self.inverse.order));
        for (i, (row, dr)) in rows.zip(self.dr).enumerate() {
            let (x, row, dc) = (self.inverse.padded_column(i), &row[..size], &mut self.dc[..size]);
            // SAFETY: all slices have `size` elements, a multiple of the register length; instructions as in `Fill`.
            unsafe {
                let zero = X::splat(0.0);
                let (weight, mut sum) = (X::splat(self.r[i]), zero);
                for j in (0..size).step_by(X::LANES) {
                    let w = X::load(x[j..].as_ptr()).mul_add(X::load(row[j..].as_ptr()), zero);
                    sum = w.mul_add(X::load(self.c[j..].as_ptr()), sum);
                    let p = dc[j..].as_mut_ptr();
                    w.mul_add(weight, X::load(p)).store(p);
                }
                *dr = sum.sum();
            }
        }
    }
}
