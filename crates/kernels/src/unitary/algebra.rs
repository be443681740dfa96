//! Elements of su(N) from and to their components in the generators T^a, in Gell-Mann's order.
//!
//! ```text
//! H = Σ_a ω^a T^a,   tr T^aT^b = ½ δ^{ab};   for k = 2 … N: (1, k), …, (k − 1, k), symmetric and antisymmetric, then diagonal
//! ```

use super::matrix::Matrix;
use super::register::{Complex, Instructions};
use crate::conv::simd::Vector;

/// Σ_a ω^a T^a of the components that start at a · `stride`.
#[inline(always)]
pub(crate) fn hermitian<X: Vector, const N: usize>(
    isa: Instructions<X>,
    omega: &[X::Item],
    stride: usize,
) -> Matrix<X, N> {
    let mut h = Matrix::zero(isa);
    let half = isa.number(0.5);
    let mut a = 0;
    for k in 1..N {
        for j in 0..k {
            let re = isa.load(&omega[a * stride..]) * half;
            let im = isa.load(&omega[(a + 1) * stride..]) * half;
            h.0[j][k] = Complex { re, im: isa.number(0.0) - im };
            h.0[k][j] = Complex { re, im };
            a += 2;
        }
        let x = isa.load(&omega[a * stride..]) * isa.number(diagonal(k));
        for j in 0..k {
            h.0[j][j].re = h.0[j][j].re + x;
        }
        h.0[k][k].re = h.0[k][k].re - x * isa.number(k as f64);
        a += 1;
    }
    h
}

/// `scale` · Re tr(T^a M), a = 1 … N² − 1, stored at a · `stride`.
#[inline(always)]
pub(crate) fn components<X: Vector, const N: usize>(
    isa: Instructions<X>,
    m: &Matrix<X, N>,
    scale: f64,
    omega: &mut [X::Item],
    stride: usize,
) {
    let half = isa.number(0.5 * scale);
    let mut sum = m.0[0][0].re;
    let mut a = 0;
    for k in 1..N {
        for j in 0..k {
            ((m.0[j][k].re + m.0[k][j].re) * half).store(&mut omega[a * stride..]);
            ((m.0[k][j].im - m.0[j][k].im) * half).store(&mut omega[(a + 1) * stride..]);
            a += 2;
        }
        let x = m.0[k][k].re.neg_mul_add(isa.number(k as f64), sum);
        (x * isa.number(scale * diagonal(k))).store(&mut omega[a * stride..]);
        sum = sum + m.0[k][k].re;
        a += 1;
    }
}

/// The first elements of the diagonal generator diag(1, …, 1, −k, 0, …) / √(2k(k+1)).
#[inline(always)]
fn diagonal(k: usize) -> f64 {
    1.0 / ((2 * k * (k + 1)) as f64).sqrt()
}
