//! Complex N × N matrices, one a lane.

use super::register::{Complex, Instructions, Real};
use crate::conv::simd::Vector;

/// N × N matrices in registers or on the stack, row by row.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<X, const N: usize>(pub(crate) [[Complex<X>; N]; N]);

impl<X: Vector, const N: usize> Matrix<X, N> {
    /// All elements zero.
    #[inline(always)]
    pub(crate) fn zero(isa: Instructions<X>) -> Self {
        Self([[isa.complex(0.0, 0.0); N]; N])
    }

    /// The unit matrix.
    #[inline(always)]
    pub(crate) fn one(isa: Instructions<X>) -> Self {
        let mut one = Self::zero(isa);
        for i in 0..N {
            one.0[i][i].re = isa.number(1.0);
        }
        one
    }

    /// Component c, in the order (row, column, re/im), is what starts at c · `stride`.
    #[inline(always)]
    pub(crate) fn load(isa: Instructions<X>, from: &[X::Item], stride: usize) -> Self {
        let from = &from[..(2 * N * N - 1) * stride + X::LANES];
        let mut m = Self::zero(isa);
        for i in 0..N {
            for j in 0..N {
                let c = 2 * (i * N + j);
                m.0[i][j] =
                    Complex { re: isa.load(&from[c * stride..]), im: isa.load(&from[(c + 1) * stride..]) };
            }
        }
        m
    }

    /// The inverse of [`Matrix::load`].
    #[inline(always)]
    pub(crate) fn store(&self, to: &mut [X::Item], stride: usize) {
        let to = &mut to[..(2 * N * N - 1) * stride + X::LANES];
        for i in 0..N {
            for j in 0..N {
                let c = 2 * (i * N + j);
                self.0[i][j].re.store(&mut to[c * stride..]);
                self.0[i][j].im.store(&mut to[(c + 1) * stride..]);
            }
        }
    }

    /// self · b
    #[inline(always)]
    pub(crate) fn times(&self, isa: Instructions<X>, b: &Self) -> Self {
        let mut c = Self::zero(isa);
        for i in 0..N {
            for k in 0..N {
                for j in 0..N {
                    c.0[i][j] = self.0[i][k].mul_add(b.0[k][j], c.0[i][j]);
                }
            }
        }
        c
    }

    /// self · b†
    #[inline(always)]
    pub(crate) fn times_adjoint(&self, isa: Instructions<X>, b: &Self) -> Self {
        let mut c = Self::zero(isa);
        for i in 0..N {
            for k in 0..N {
                for j in 0..N {
                    c.0[i][j] = b.0[j][k].conj_mul_add(self.0[i][k], c.0[i][j]);
                }
            }
        }
        c
    }

    /// self† · b
    #[inline(always)]
    pub(crate) fn adjoint_times(&self, isa: Instructions<X>, b: &Self) -> Self {
        let mut c = Self::zero(isa);
        for i in 0..N {
            for k in 0..N {
                for j in 0..N {
                    c.0[i][j] = self.0[k][i].conj_mul_add(b.0[k][j], c.0[i][j]);
                }
            }
        }
        c
    }

    /// self†
    #[inline(always)]
    pub(crate) fn adjoint(&self, isa: Instructions<X>) -> Self {
        let mut c = Self::zero(isa);
        for i in 0..N {
            for j in 0..N {
                let Complex { re, im } = self.0[j][i];
                c.0[i][j] = Complex { re, im: isa.number(0.0) - im };
            }
        }
        c
    }

    /// −i self
    #[inline(always)]
    pub(crate) fn over_i(&self, isa: Instructions<X>) -> Self {
        let mut c = Self::zero(isa);
        for i in 0..N {
            for j in 0..N {
                let Complex { re, im } = self.0[i][j];
                c.0[i][j] = Complex { re: im, im: isa.number(0.0) - re };
            }
        }
        c
    }

    /// self + b
    #[inline(always)]
    pub(crate) fn plus(&self, b: &Self) -> Self {
        let mut c = *self;
        for i in 0..N {
            for j in 0..N {
                c.0[i][j] = c.0[i][j] + b.0[i][j];
            }
        }
        c
    }

    /// x · self for real x
    #[inline(always)]
    pub(crate) fn scaled(&self, x: Real<X>) -> Self {
        let mut c = *self;
        for i in 0..N {
            for j in 0..N {
                c.0[i][j] = Complex { re: c.0[i][j].re * x, im: c.0[i][j].im * x };
            }
        }
        c
    }

    /// Re tr(self · b†)
    #[inline(always)]
    pub(crate) fn inner(&self, isa: Instructions<X>, b: &Self) -> Real<X> {
        let (mut re, mut im) = (isa.number(0.0), isa.number(0.0));
        for i in 0..N {
            for j in 0..N {
                re = self.0[i][j].re.mul_add(b.0[i][j].re, re);
                im = self.0[i][j].im.mul_add(b.0[i][j].im, im);
            }
        }
        re + im
    }

    /// Re tr self
    #[inline(always)]
    pub(crate) fn re_trace(&self) -> Real<X> {
        let mut sum = self.0[0][0].re;
        for i in 1..N {
            sum = sum + self.0[i][i].re;
        }
        sum
    }
}
