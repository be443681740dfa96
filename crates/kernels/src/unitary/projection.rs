//! From a matrix that is almost in SU(N), after rounding errors of many steps or single precision in a file, back to the group.
//!
//! ```text
//! U ← ½ U (3 − U†U)                      towards the unitary factor of the polar decomposition: δ ← ¾ δ²
//! U ← U (1 − i Im det U / N)             towards determinant 1
//! ```
//!
//! Both commute with gauge transformations, unlike orthonormalising columns in order.

use super::blocks::{Buffer, Operation, apply};
use super::colours;
use super::matrix::Matrix;
use super::register::{Complex, Instructions};
use crate::conv::simd::Vector;
use crate::host::with_slice;
use candle_core::{Result, Tensor};

/// From the largest deviation allowed, 0.1, to rounding: 1e-2, 1e-4, 1e-8, 1e-16, and one more.
const STEPS: usize = 5;

/// What still counts as a matrix of SU(N) with errors.
const LARGEST_DEVIATION: f64 = 0.1;

/// The unitary factors of matrices `[…, N, N, 2]`, N = 2 or 3, f64, turned to determinant 1; without autodiff history.
///
/// # Errors
/// When a matrix is further than 0.1 from SU(N) (see [`su_n_deviation`]) or not finite, or the tensor holds no such matrices.
pub fn project_to_su_n(u: &Tensor) -> Result<Tensor> {
    let deviation = su_n_deviation(u)?;
    // Not a number fails as well.
    if !matches!(deviation.partial_cmp(&LARGEST_DEVIATION), Some(std::cmp::Ordering::Less)) {
        candle_core::bail!(
            "projection to SU(N): expected matrices within {LARGEST_DEVIATION} of the group, got one at a distance of {deviation:e}"
        );
    }
    let projected = with_slice::<f64, _>(u, |u_slice| match u.dims()[u.rank() - 2] {
        2 => apply(Project::<2>, [u_slice]),
        _ => apply(Project::<3>, [u_slice]),
    })?;
    Tensor::from_vec(projected, u.shape(), u.device())
}

/// max (‖U†U − 1‖² + |det U − 1|²)^½ over all matrices `[…, N, N, 2]`, N = 2 or 3, f64; NaN when one is not finite.
///
/// # Errors
/// When the tensor holds no such matrices.
pub fn su_n_deviation(u: &Tensor) -> Result<f64> {
    let n = colours("matrices of SU(N)", u)?;
    with_slice::<f64, _>(u, |u| {
        let squares = if n == 2 { apply(Deviation::<2>, [u]) } else { apply(Deviation::<3>, [u]) };
        // f64::max drops NaN.
        let worst = |a: f64, b: f64| if a.is_nan() || a > b { a } else { b };
        squares.into_iter().fold(0.0, worst).sqrt()
    })
}

#[derive(Clone, Copy)]
struct Project<const N: usize>;

impl<const N: usize> Operation<1> for Project<N> {
    #[inline(always)]
    fn sizes(self) -> ([usize; 1], usize) {
        ([2 * N * N], 2 * N * N)
    }

    #[inline(always)]
    fn run<X: Vector>(self, isa: Instructions<X>, [u]: &[Buffer<X::Item>; 1], out: &mut Buffer<X::Item>) {
        let mut u = Matrix::<X, N>::load(isa, &u.0, X::LANES);
        let minus = isa.number(-0.5);
        for _ in 0..STEPS {
            let mut step = u.adjoint_times(isa, &u).scaled(minus);
            for i in 0..N {
                step.0[i][i].re = step.0[i][i].re + isa.number(1.5);
            }
            u = u.times(isa, &step);
            let angle = determinant(isa, &u).im * isa.number(-1.0 / N as f64);
            let phase = Complex { re: isa.number(1.0), im: angle };
            for i in 0..N {
                for j in 0..N {
                    u.0[i][j] = phase.mul_add(u.0[i][j], isa.complex(0.0, 0.0));
                }
            }
        }
        u.store(&mut out.0, X::LANES);
    }
}

#[derive(Clone, Copy)]
struct Deviation<const N: usize>;

impl<const N: usize> Operation<1> for Deviation<N> {
    #[inline(always)]
    fn sizes(self) -> ([usize; 1], usize) {
        ([2 * N * N], 1)
    }

    #[inline(always)]
    fn run<X: Vector>(self, isa: Instructions<X>, [u]: &[Buffer<X::Item>; 1], out: &mut Buffer<X::Item>) {
        let u = Matrix::<X, N>::load(isa, &u.0, X::LANES);
        let (mut gram, det) = (u.adjoint_times(isa, &u), determinant(isa, &u));
        for i in 0..N {
            gram.0[i][i].re = gram.0[i][i].re - isa.number(1.0);
        }
        let re = det.re - isa.number(1.0);
        re.mul_add(re, det.im.mul_add(det.im, gram.inner(isa, &gram))).store(&mut out.0);
    }
}

/// det of a 2 × 2 or 3 × 3 matrix.
#[inline(always)]
fn determinant<X: Vector, const N: usize>(isa: Instructions<X>, u: &Matrix<X, N>) -> Complex<X> {
    if N == 2 {
        return minor(isa, u, 0, 1);
    }
    let sum = u.0[0][0].mul_add(minor(isa, u, 1, N - 1), isa.complex(0.0, 0.0));
    let sum = u.0[0][1].mul_add(minor(isa, u, N - 1, 0), sum);
    u.0[0][N - 1].mul_add(minor(isa, u, 0, 1), sum)
}

/// Of the last two rows, columns i and j.
#[inline(always)]
fn minor<X: Vector, const N: usize>(
    isa: Instructions<X>,
    u: &Matrix<X, N>,
    i: usize,
    j: usize,
) -> Complex<X> {
    let zero = isa.complex(0.0, 0.0);
    let (a, b) = (u.0[N - 2][i].mul_add(u.0[N - 1][j], zero), u.0[N - 2][j].mul_add(u.0[N - 1][i], zero));
    Complex { re: a.re - b.re, im: a.im - b.im }
}
