//! Complex 3 × 3 matrices side by side: entry by entry, one matrix a lane.

use crate::conv::simd::Vector;

/// Matrices of a block.
pub(super) const LANES: usize = 8;

/// One number of each matrix of a block.
pub(super) type Lane = [f64; LANES];

/// Numbers of a matrix in a tensor `[…, 3, 3, 2]`.
pub(super) const NUMBERS: usize = 18;

/// A complex number.
#[derive(Clone, Copy)]
pub(super) struct Complex {
    pub(super) re: f64,
    pub(super) im: f64,
}

impl Complex {
    #[inline(always)]
    pub(super) fn new(re: f64, im: f64) -> Self {
        Self { re, im }
    }

    #[inline(always)]
    pub(super) fn conj(self) -> Self {
        Self::new(self.re, -self.im)
    }

    /// self · b
    #[inline(always)]
    pub(super) fn times<X: Vector>(self, b: Self) -> Self {
        Self::new(fused::<X>(self.re, b.re, -(self.im * b.im)), fused::<X>(self.re, b.im, self.im * b.re))
    }

    /// self · b + c
    #[inline(always)]
    pub(super) fn times_add<X: Vector>(self, b: Self, c: Self) -> Self {
        let re = fused::<X>(self.re, b.re, c.re);
        let im = fused::<X>(self.re, b.im, c.im);
        Self::new(fused::<X>(-self.im, b.im, re), fused::<X>(self.im, b.re, im))
    }

    /// x · self
    #[inline(always)]
    pub(super) fn scaled(self, x: f64) -> Self {
        Self::new(x * self.re, x * self.im)
    }
}

/// a · b + c in one instruction where the registers of `X` have it; without hardware it would be a library call.
#[inline(always)]
pub(super) fn fused<X: Vector>(a: f64, b: f64, c: f64) -> f64 {
    if X::LANES > 2 { a.mul_add(b, c) } else { a * b + c }
}

/// One matrix of a block.
pub(super) type Matrix = [[Complex; 3]; 3];

/// [`LANES`] matrices, entry by entry.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Block {
    pub(super) re: [[Lane; 3]; 3],
    pub(super) im: [[Lane; 3]; 3],
}

impl Block {
    pub(super) fn identity() -> Self {
        let mut one = Self { re: [[[0.0; LANES]; 3]; 3], im: [[[0.0; LANES]; 3]; 3] };
        (0..3).for_each(|i| one.re[i][i] = [1.0; LANES]);
        one
    }

    /// The matrices of a slice; missing ones are 1.
    pub(super) fn pack(matrices: &[f64]) -> Self {
        let mut block = Self::identity();
        for (l, m) in matrices.chunks_exact(NUMBERS).enumerate() {
            for i in 0..3 {
                for j in 0..3 {
                    block.re[i][j][l] = m[2 * (3 * i + j)];
                    block.im[i][j][l] = m[2 * (3 * i + j) + 1];
                }
            }
        }
        block
    }

    /// Writes as many matrices as the slice holds.
    pub(super) fn unpack(&self, matrices: &mut [f64]) {
        for (l, m) in matrices.chunks_exact_mut(NUMBERS).enumerate() {
            for i in 0..3 {
                for j in 0..3 {
                    m[2 * (3 * i + j)] = self.re[i][j][l];
                    m[2 * (3 * i + j) + 1] = self.im[i][j][l];
                }
            }
        }
    }

    #[inline(always)]
    pub(super) fn at(&self, i: usize, j: usize, l: usize) -> Complex {
        Complex::new(self.re[i][j][l], self.im[i][j][l])
    }

    #[inline(always)]
    pub(super) fn set(&mut self, i: usize, j: usize, l: usize, z: Complex) {
        self.re[i][j][l] = z.re;
        self.im[i][j][l] = z.im;
    }

    #[inline(always)]
    pub(super) fn matrix(&self, l: usize) -> Matrix {
        std::array::from_fn(|i| std::array::from_fn(|j| self.at(i, j, l)))
    }

    /// X† A X, matrix by matrix.
    #[inline(always)]
    pub(super) fn in_frame<X: Vector>(&self, frame: &Self) -> Self {
        let mut out = Self::identity();
        for l in 0..LANES {
            let x = frame.matrix(l);
            for j in 0..3 {
                // A X e_j, then its components along X.
                let column: [Complex; 3] = std::array::from_fn(|i| {
                    let z = self.at(i, 0, l).times::<X>(x[0][j]);
                    let z = self.at(i, 1, l).times_add::<X>(x[1][j], z);
                    self.at(i, 2, l).times_add::<X>(x[2][j], z)
                });
                let [x0, x1, x2] = x;
                for (i, ((x0, x1), x2)) in x0.iter().zip(x1).zip(x2).enumerate() {
                    let z = x0.conj().times::<X>(column[0]);
                    let z = x1.conj().times_add::<X>(column[1], z);
                    out.set(i, j, l, x2.conj().times_add::<X>(column[2], z));
                }
            }
        }
        out
    }

    /// X diag(d) X†, matrix by matrix.
    #[inline(always)]
    pub(super) fn of_diagonal<X: Vector>(frame: &Self, re: &[Lane; 3], im: &[Lane; 3]) -> Self {
        let mut out = Self::identity();
        for l in 0..LANES {
            let x = frame.matrix(l);
            for j in 0..3 {
                let column: [Complex; 3] =
                    std::array::from_fn(|k| Complex::new(re[k][l], im[k][l]).times::<X>(x[j][k].conj()));
                for (i, x) in x.iter().enumerate() {
                    let z = x[0].times::<X>(column[0]);
                    let z = x[1].times_add::<X>(column[1], z);
                    out.set(i, j, l, x[2].times_add::<X>(column[2], z));
                }
            }
        }
        out
    }

    /// X A X†, matrix by matrix.
    #[inline(always)]
    pub(super) fn out_of_frame<X: Vector>(&self, frame: &Self) -> Self {
        let mut out = Self::identity();
        for l in 0..LANES {
            let x = frame.matrix(l);
            for j in 0..3 {
                let column: [Complex; 3] = std::array::from_fn(|i| {
                    let z = self.at(i, 0, l).times::<X>(x[j][0].conj());
                    let z = self.at(i, 1, l).times_add::<X>(x[j][1].conj(), z);
                    self.at(i, 2, l).times_add::<X>(x[j][2].conj(), z)
                });
                for (i, x) in x.iter().enumerate() {
                    let z = x[0].times::<X>(column[0]);
                    let z = x[1].times_add::<X>(column[1], z);
                    out.set(i, j, l, x[2].times_add::<X>(column[2], z));
                }
            }
        }
        out
    }
}
