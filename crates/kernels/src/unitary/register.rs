//! Registers with operators: real and complex numbers, one a lane.
//!
//! A [`Real`] is made by [`Instructions`] alone, and those only where the processor is known to have them: everything computed
//! with them is safe code.

use crate::conv::simd::Vector;
use candle_core::WithDType;
use std::marker::PhantomData;
use std::ops::{Add, Mul, Sub};

/// The instruction set of `X`, known to be there.
pub(crate) struct Instructions<X>(PhantomData<X>);

impl<X> Clone for Instructions<X> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<X> Copy for Instructions<X> {}

impl<X: Vector> Instructions<X> {
    /// # Safety
    /// The processor supports the instruction set of `X`.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Self(PhantomData)
    }

    /// The same number in every lane.
    #[inline(always)]
    pub(crate) fn number(self, x: f64) -> Real<X> {
        // SAFETY: `self` is the promise that the instruction exists.
        Real(unsafe { X::splat(X::Item::from_f64(x)) })
    }

    /// The first `LANES` numbers of a slice.
    #[inline(always)]
    pub(crate) fn load(self, from: &[X::Item]) -> Real<X> {
        assert!(from.len() >= X::LANES);
        // SAFETY: the instruction exists by `self`, and the slice holds LANES elements.
        Real(unsafe { X::load(from.as_ptr()) })
    }

    #[inline(always)]
    pub(crate) fn complex(self, re: f64, im: f64) -> Complex<X> {
        Complex { re: self.number(re), im: self.number(im) }
    }
}

/// One real number a lane.
#[derive(Clone, Copy)]
pub(crate) struct Real<X>(X);

impl<X: Vector> Real<X> {
    #[inline(always)]
    pub(crate) fn store(self, to: &mut [X::Item]) {
        assert!(to.len() >= X::LANES);
        // SAFETY: a `Real` exists only where its instructions do, and the slice holds LANES elements.
        unsafe { self.0.store(to.as_mut_ptr()) }
    }

    /// self · b + c
    #[inline(always)]
    pub(crate) fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: a `Real` exists only where its instructions do.
        Self(unsafe { self.0.mul_add(b.0, c.0) })
    }

    /// c − self · b
    #[inline(always)]
    pub(crate) fn neg_mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: as in `mul_add`.
        Self(unsafe { self.0.neg_mul_add(b.0, c.0) })
    }

    /// One lane after another.
    #[inline(always)]
    pub(crate) fn to_array(self) -> [X::Item; MAX_LANES] {
        let mut lanes = [X::Item::default(); MAX_LANES];
        self.store(&mut lanes);
        lanes
    }
}

/// Lanes of the widest register.
pub(crate) const MAX_LANES: usize = 16;

impl<X: Vector> Add for Real<X> {
    type Output = Self;

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        // SAFETY: as in `mul_add`.
        Self(unsafe { self.0.add(b.0) })
    }
}

impl<X: Vector> Sub for Real<X> {
    type Output = Self;

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        // SAFETY: as in `mul_add`.
        Self(unsafe { self.0.sub(b.0) })
    }
}

impl<X: Vector> Mul for Real<X> {
    type Output = Self;

    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        // SAFETY: as in `mul_add`.
        Self(unsafe { self.0.mul_add(b.0, X::splat(X::Item::from_f64(0.0))) })
    }
}

/// One complex number a lane.
#[derive(Clone, Copy)]
pub(crate) struct Complex<X> {
    pub(crate) re: Real<X>,
    pub(crate) im: Real<X>,
}

impl<X: Vector> Complex<X> {
    /// self · b + c
    #[inline(always)]
    pub(crate) fn mul_add(self, b: Self, c: Self) -> Self {
        let re = self.re.mul_add(b.re, c.re);
        let im = self.re.mul_add(b.im, c.im);
        Self { re: self.im.neg_mul_add(b.im, re), im: self.im.mul_add(b.re, im) }
    }

    /// self* · b + c
    #[inline(always)]
    pub(crate) fn conj_mul_add(self, b: Self, c: Self) -> Self {
        let re = self.re.mul_add(b.re, c.re);
        let im = self.re.mul_add(b.im, c.im);
        Self { re: self.im.mul_add(b.im, re), im: self.im.neg_mul_add(b.re, im) }
    }

    /// x · self + c for real x
    #[inline(always)]
    pub(crate) fn scale_add(self, x: Real<X>, c: Self) -> Self {
        Self { re: self.re.mul_add(x, c.re), im: self.im.mul_add(x, c.im) }
    }
}

impl<X: Vector> Add for Complex<X> {
    type Output = Self;

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        Self { re: self.re + b.re, im: self.im + b.im }
    }
}
