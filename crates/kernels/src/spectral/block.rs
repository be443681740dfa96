//! Complex 3 × 3 matrices side by side: number by number, one matrix a lane.

use crate::conv::simd::Vector;
use crate::unitary::{Instructions, Matrix};

/// Matrices of a block.
pub(super) const LANES: usize = 8;

/// One number of each matrix of a block.
pub(super) type Lane = [f64; LANES];

/// Numbers of a matrix in a tensor `[…, 3, 3, 2]`.
pub(super) const NUMBERS: usize = 18;

/// A complex number of one lane.
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

/// [`LANES`] matrices: `[row][column][re, im][lane]`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Block([[[Lane; 2]; 3]; 3]);

impl Block {
    pub(super) fn zero() -> Self {
        Self([[[[0.0; LANES]; 2]; 3]; 3])
    }

    pub(super) fn identity() -> Self {
        let mut one = Self::zero();
        (0..3).for_each(|i| one.0[i][i][0] = [1.0; LANES]);
        one
    }

    fn flat(&self) -> &[f64] {
        self.0.as_flattened().as_flattened().as_flattened()
    }

    fn flat_mut(&mut self) -> &mut [f64] {
        self.0.as_flattened_mut().as_flattened_mut().as_flattened_mut()
    }

    /// The matrices of a slice; missing ones are 1.
    pub(super) fn pack(matrices: &[f64]) -> Self {
        let mut block = Self::identity();
        matrices.chunks_exact(NUMBERS).enumerate().for_each(|(l, m)| block.load(l, m));
        block
    }

    /// Writes as many matrices as the slice holds.
    pub(super) fn unpack(&self, matrices: &mut [f64]) {
        matrices.chunks_exact_mut(NUMBERS).enumerate().for_each(|(l, m)| self.store(l, m));
    }

    /// The matrices of a slice with the given numbers; missing ones are 1.
    pub(super) fn gather(matrices: &[f64], at: &[u32]) -> Self {
        let mut block = Self::identity();
        at.iter().enumerate().for_each(|(l, i)| block.load(l, &matrices[*i as usize * NUMBERS..]));
        block
    }

    /// The inverse of [`Block::gather`].
    pub(super) fn scatter(&self, matrices: &mut [f64], at: &[u32]) {
        at.iter().enumerate().for_each(|(l, i)| self.store(l, &mut matrices[*i as usize * NUMBERS..]));
    }

    /// Lane `l` becomes the matrix a slice begins with.
    pub(super) fn load(&mut self, l: usize, matrix: &[f64]) {
        let lanes = self.flat_mut()[l..].iter_mut().step_by(LANES);
        lanes.zip(&matrix[..NUMBERS]).for_each(|(lane, number)| *lane = *number);
    }

    /// The beginning of a slice becomes the matrix of lane `l`.
    pub(super) fn store(&self, l: usize, matrix: &mut [f64]) {
        let lanes = self.flat()[l..].iter().step_by(LANES);
        lanes.zip(&mut matrix[..NUMBERS]).for_each(|(lane, number)| *number = *lane);
    }

    #[inline(always)]
    pub(super) fn at(&self, i: usize, j: usize, l: usize) -> Complex {
        Complex::new(self.0[i][j][0][l], self.0[i][j][1][l])
    }

    #[inline(always)]
    pub(super) fn set(&mut self, i: usize, j: usize, l: usize, z: Complex) {
        self.0[i][j][0][l] = z.re;
        self.0[i][j][1][l] = z.im;
    }

    /// Real and imaginary parts of an entry.
    #[inline(always)]
    pub(super) fn entry(&self, i: usize, j: usize) -> &[Lane; 2] {
        &self.0[i][j]
    }

    /// Real and imaginary parts of an entry.
    #[inline(always)]
    pub(super) fn entry_mut(&mut self, i: usize, j: usize) -> &mut [Lane; 2] {
        &mut self.0[i][j]
    }

    // Loops, not closures: a closure is compiled without the instruction set of the function it is written in.

    #[inline(always)]
    fn registers<X: Vector<Item = f64>>(&self, isa: Instructions<X>, first: usize) -> Matrix<X, 3> {
        Matrix::load(isa, &self.flat()[first..], LANES)
    }

    /// self · b, matrix by matrix.
    #[inline(always)]
    pub(super) fn times<X: Vector<Item = f64>>(&self, isa: Instructions<X>, b: &Self) -> Self {
        let mut out = Self::zero();
        for first in (0..LANES).step_by(X::LANES) {
            let product = self.registers(isa, first).times(isa, &b.registers(isa, first));
            product.store(&mut out.flat_mut()[first..], LANES);
        }
        out
    }

    /// self · b†, matrix by matrix.
    #[inline(always)]
    pub(super) fn times_adjoint<X: Vector<Item = f64>>(&self, isa: Instructions<X>, b: &Self) -> Self {
        let mut out = Self::zero();
        for first in (0..LANES).step_by(X::LANES) {
            let product = self.registers(isa, first).times_adjoint(isa, &b.registers(isa, first));
            product.store(&mut out.flat_mut()[first..], LANES);
        }
        out
    }

    /// self† · b, matrix by matrix.
    #[inline(always)]
    pub(super) fn adjoint_times<X: Vector<Item = f64>>(&self, isa: Instructions<X>, b: &Self) -> Self {
        let mut out = Self::zero();
        for first in (0..LANES).step_by(X::LANES) {
            let product = self.registers(isa, first).adjoint_times(isa, &b.registers(isa, first));
            product.store(&mut out.flat_mut()[first..], LANES);
        }
        out
    }

    /// tr(self · b†): real and imaginary parts.
    #[inline(always)]
    pub(super) fn inner<X: Vector<Item = f64>>(&self, isa: Instructions<X>, b: &Self) -> [Lane; 2] {
        let (mut re, mut im) = ([0.0; LANES], [0.0; LANES]);
        for first in (0..LANES).step_by(X::LANES) {
            let (a, b) = (self.registers(isa, first), b.registers(isa, first));
            a.inner(isa, &b).store(&mut re[first..]);
            // Im z = Re(−iz).
            a.over_i(isa).inner(isa, &b).store(&mut im[first..]);
        }
        [re, im]
    }

    /// self ← self + b
    pub(super) fn add(&mut self, b: &Self) {
        self.flat_mut().iter_mut().zip(b.flat()).for_each(|(sum, b)| *sum += b);
    }

    /// X† A X, matrix by matrix.
    #[inline(always)]
    pub(super) fn in_frame<X: Vector<Item = f64>>(&self, isa: Instructions<X>, frame: &Self) -> Self {
        frame.adjoint_times(isa, &self.times(isa, frame))
    }

    /// X A X†, matrix by matrix.
    #[inline(always)]
    pub(super) fn out_of_frame<X: Vector<Item = f64>>(&self, isa: Instructions<X>, frame: &Self) -> Self {
        frame.times(isa, &self.times_adjoint(isa, frame))
    }

    /// X diag(d) X†, matrix by matrix, for d given as (re, im).
    #[inline(always)]
    pub(super) fn of_diagonal<X: Vector<Item = f64>>(
        isa: Instructions<X>,
        frame: &Self,
        diagonal: &[[Lane; 2]; 3],
    ) -> Self {
        let mut turned = *frame;
        for (k, [re, im]) in diagonal.iter().enumerate() {
            for i in 0..3 {
                for (l, (re, im)) in re.iter().zip(im).enumerate() {
                    turned.set(i, k, l, frame.at(i, k, l).times::<X>(Complex::new(*re, *im)));
                }
            }
        }
        turned.times_adjoint(isa, frame)
    }
}
