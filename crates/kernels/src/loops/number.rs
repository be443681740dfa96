//! Complex numbers, with or without a derivative along one direction, and 3 × 3 matrices of them: one formula serves values,
//! directional derivatives, gradients and their directional derivatives.

use crate::conv::simd::Vector;
use crate::unitary::{Complex, Instructions, Real};

/// A complex number a lane.
pub(super) trait Number: Copy {
    type Vector: Vector;
    fn constant(isa: Instructions<Self::Vector>, re: f64, im: f64) -> Self;
    /// self · b + c
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// self* · b + c
    fn conj_mul_add(self, b: Self, c: Self) -> Self;
    fn plus(self, b: Self) -> Self;
    fn conj(self, isa: Instructions<Self::Vector>) -> Self;
    fn scaled(self, x: Real<Self::Vector>) -> Self;
    /// What a computation with these numbers is for: the value, or the derivative where there is one.
    fn result(self) -> Complex<Self::Vector>;
}

impl<X: Vector> Number for Complex<X> {
    type Vector = X;

    #[inline(always)]
    fn constant(isa: Instructions<X>, re: f64, im: f64) -> Self {
        isa.complex(re, im)
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        Complex::mul_add(self, b, c)
    }

    #[inline(always)]
    fn conj_mul_add(self, b: Self, c: Self) -> Self {
        Complex::conj_mul_add(self, b, c)
    }

    #[inline(always)]
    fn plus(self, b: Self) -> Self {
        self + b
    }

    #[inline(always)]
    fn conj(self, isa: Instructions<X>) -> Self {
        Self { re: self.re, im: isa.number(0.0) - self.im }
    }

    #[inline(always)]
    fn scaled(self, x: Real<X>) -> Self {
        Self { re: self.re * x, im: self.im * x }
    }

    #[inline(always)]
    fn result(self) -> Self {
        self
    }
}

/// A number and its derivative.
#[derive(Clone, Copy)]
pub(super) struct Dual<X> {
    pub(super) value: Complex<X>,
    pub(super) slope: Complex<X>,
}

impl<X: Vector> Number for Dual<X> {
    type Vector = X;

    #[inline(always)]
    fn constant(isa: Instructions<X>, re: f64, im: f64) -> Self {
        Self { value: isa.complex(re, im), slope: isa.complex(0.0, 0.0) }
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        let slope = self.value.mul_add(b.slope, self.slope.mul_add(b.value, c.slope));
        Self { value: self.value.mul_add(b.value, c.value), slope }
    }

    #[inline(always)]
    fn conj_mul_add(self, b: Self, c: Self) -> Self {
        let slope = self.value.conj_mul_add(b.slope, self.slope.conj_mul_add(b.value, c.slope));
        Self { value: self.value.conj_mul_add(b.value, c.value), slope }
    }

    #[inline(always)]
    fn plus(self, b: Self) -> Self {
        Self { value: self.value + b.value, slope: self.slope + b.slope }
    }

    #[inline(always)]
    fn conj(self, isa: Instructions<X>) -> Self {
        Self { value: self.value.conj(isa), slope: self.slope.conj(isa) }
    }

    #[inline(always)]
    fn scaled(self, x: Real<X>) -> Self {
        Self { value: self.value.scaled(x), slope: self.slope.scaled(x) }
    }

    #[inline(always)]
    fn result(self) -> Complex<X> {
        self.slope
    }
}

/// A 3 × 3 matrix, row by row.
#[derive(Clone, Copy)]
pub(super) struct Square<Z>(pub(super) [[Z; 3]; 3]);

impl<Z: Number> Square<Z> {
    #[inline(always)]
    pub(super) fn zero(isa: Instructions<Z::Vector>) -> Self {
        Self([[Z::constant(isa, 0.0, 0.0); 3]; 3])
    }

    /// self · b
    #[inline(always)]
    pub(super) fn times(&self, isa: Instructions<Z::Vector>, b: &Self) -> Self {
        self.times_plus(b, &Self::zero(isa))
    }

    /// self · b + c
    #[inline(always)]
    pub(super) fn times_plus(&self, b: &Self, c: &Self) -> Self {
        let mut c = *c;
        for i in 0..3 {
            for k in 0..3 {
                for j in 0..3 {
                    c.0[i][j] = self.0[i][k].mul_add(b.0[k][j], c.0[i][j]);
                }
            }
        }
        c
    }

    /// self · b†
    #[inline(always)]
    pub(super) fn times_adjoint(&self, isa: Instructions<Z::Vector>, b: &Self) -> Self {
        let mut c = Self::zero(isa);
        for i in 0..3 {
            for k in 0..3 {
                for j in 0..3 {
                    c.0[i][j] = b.0[j][k].conj_mul_add(self.0[i][k], c.0[i][j]);
                }
            }
        }
        c
    }

    /// self† · b
    #[inline(always)]
    pub(super) fn adjoint_times(&self, isa: Instructions<Z::Vector>, b: &Self) -> Self {
        let mut c = Self::zero(isa);
        for i in 0..3 {
            for k in 0..3 {
                for j in 0..3 {
                    c.0[i][j] = self.0[k][i].conj_mul_add(b.0[k][j], c.0[i][j]);
                }
            }
        }
        c
    }

    /// self†
    #[inline(always)]
    pub(super) fn adjoint(&self, isa: Instructions<Z::Vector>) -> Self {
        let mut c = Self::zero(isa);
        for i in 0..3 {
            for j in 0..3 {
                c.0[i][j] = self.0[j][i].conj(isa);
            }
        }
        c
    }

    #[inline(always)]
    pub(super) fn plus(&self, b: &Self) -> Self {
        let mut c = *self;
        for i in 0..3 {
            for j in 0..3 {
                c.0[i][j] = c.0[i][j].plus(b.0[i][j]);
            }
        }
        c
    }

    /// x · self for real x
    #[inline(always)]
    pub(super) fn scaled(&self, x: Real<Z::Vector>) -> Self {
        let mut c = *self;
        for row in &mut c.0 {
            for z in row {
                *z = z.scaled(x);
            }
        }
        c
    }

    /// z added to the diagonal.
    #[inline(always)]
    pub(super) fn plus_diagonal(&self, z: Z) -> Self {
        let mut c = *self;
        for i in 0..3 {
            c.0[i][i] = c.0[i][i].plus(z);
        }
        c
    }

    /// tr self
    #[inline(always)]
    pub(super) fn trace(&self) -> Z {
        self.0[0][0].plus(self.0[1][1]).plus(self.0[2][2])
    }

    /// tr(self · b)
    #[inline(always)]
    pub(super) fn trace_times(&self, isa: Instructions<Z::Vector>, b: &Self) -> Z {
        let mut sum = Z::constant(isa, 0.0, 0.0);
        for i in 0..3 {
            for k in 0..3 {
                sum = self.0[i][k].mul_add(b.0[k][i], sum);
            }
        }
        sum
    }

    /// tr(self† · b)
    #[inline(always)]
    pub(super) fn trace_adjoint_times(&self, isa: Instructions<Z::Vector>, b: &Self) -> Z {
        let mut sum = Z::constant(isa, 0.0, 0.0);
        for i in 0..3 {
            for k in 0..3 {
                sum = self.0[k][i].conj_mul_add(b.0[k][i], sum);
            }
        }
        sum
    }
}
