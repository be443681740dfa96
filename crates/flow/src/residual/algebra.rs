//! Linear maps of complex matrices that the layers need, as real matrices, and products of matrices.

use crate::Result;
use candle_core::{D, Device, Tensor};
use latflow_kernels::unitary;
use latflow_lattice::gauge::{generators, matrix};
use nalgebra::Complex;

/// A B with A† for A and B† for B where the flags say so; all of one shape `[…, N, N, 2]`.
pub(super) fn product(a: &Tensor, b: &Tensor, adjoint_a: bool, adjoint_b: bool) -> Result<Tensor> {
    if unitary::fused(a) {
        return Ok(unitary::matrix_product(&a.contiguous()?, &b.contiguous()?, adjoint_a, adjoint_b)?);
    }
    let of = |m: &Tensor, adjoint: bool| if adjoint { matrix::adjoint(m) } else { Ok(m.clone()) };
    Ok(matrix::product(&of(a, adjoint_a)?, &of(b, adjoint_b)?)?)
}

/// Constants of su(N): each is a matrix that acts from the right on flat matrices `[…, 2N²]`, or on components.
#[derive(Debug, Clone)]
pub(super) struct Algebra {
    /// N² − 1.
    pub(super) dimension: usize,
    n: usize,
    /// W → Re tr T^aW and Im tr T^aW, `[2N², D]`.
    re_t: Tensor,
    im_t: Tensor,
    /// W → Re tr T^aT^bW and Im tr T^aT^bW, `[2N², D²]`.
    re_tt: Tensor,
    im_tt: Tensor,
    /// W → T^aW, `[2N², D 2N²]`.
    times_t: Tensor,
    /// ω → ad_Z, [Z, iT^b] = (ad_Z)_ab iT^a, `[D, D²]`.
    ad: Tensor,
}

/// A constant matrix, row by row.
type Square = Vec<Complex<f64>>;

impl Algebra {
    pub(super) fn new(n: usize, device: &Device) -> Result<Self> {
        let size = 2 * n * n;
        let t: Vec<Square> = generators(n)
            .chunks_exact(size)
            .map(|m| m.chunks_exact(2).map(|z| Complex::new(z[0], z[1])).collect())
            .collect();
        let d = t.len();
        let times = |a: &Square, b: &Square| -> Square {
            let entry = |k: usize| (0..n).map(|j| a[k / n * n + j] * b[j * n + k % n]).sum();
            (0..n * n).map(entry).collect()
        };
        let pairs: Vec<Square> = (0..d * d).map(|ab| times(&t[ab / d], &t[ab % d])).collect();
        // (re, im) of tr X W for every number of W in turn: W_ji times X_ij.
        let rows = |all: &[Square], imaginary: bool| -> Result<Tensor> {
            let mut matrix = vec![0.0; size * all.len()];
            for (column, x) in all.iter().enumerate() {
                for k in 0..n * n {
                    let z = x[k % n * n + k / n];
                    let (of_re, of_im) = if imaginary { (z.im, z.re) } else { (z.re, -z.im) };
                    matrix[2 * k * all.len() + column] = of_re;
                    matrix[(2 * k + 1) * all.len() + column] = of_im;
                }
            }
            Ok(Tensor::from_vec(matrix, (size, all.len()), device)?)
        };
        let mut times_t = vec![0.0; size * d * size];
        for (a, t) in t.iter().enumerate() {
            for (i, j, k) in (0..n * n * n).map(|m| (m / (n * n), m / n % n, m % n)) {
                // (TW)_ij gets T_ik W_kj.
                let (z, from, to) = (t[i * n + k], 2 * (k * n + j), 2 * (i * n + j));
                let mut set = |part: usize, out: usize, value: f64| {
                    times_t[(from + part) * d * size + a * size + to + out] = value;
                };
                set(0, 0, z.re);
                set(0, 1, z.im);
                set(1, 0, -z.im);
                set(1, 1, z.re);
            }
        }
        let mut ad = vec![0.0; d * d * d];
        for (c, a, b) in (0..d * d * d).map(|m| (m / (d * d), m / d % d, m % d)) {
            // [iT^c, iT^b] = −[T^c, T^b], whose component is 2 Im tr T^a(…).
            let commutator: Square =
                pairs[c * d + b].iter().zip(&pairs[b * d + c]).map(|(x, y)| y - x).collect();
            let trace: Complex<f64> = times(&t[a], &commutator).iter().step_by(n + 1).sum();
            ad[c * d * d + a * d + b] = 2.0 * trace.im;
        }
        Ok(Self {
            dimension: d,
            n,
            re_t: rows(&t, false)?,
            im_t: rows(&t, true)?,
            re_tt: rows(&pairs, false)?,
            im_tt: rows(&pairs, true)?,
            times_t: Tensor::from_vec(times_t, (size, d * size), device)?,
            ad: Tensor::from_vec(ad, (d, d * d), device)?,
        })
    }

    /// Flat matrices `[n, 2N²]` of `[…, N, N, 2]`.
    fn flat(&self, w: &Tensor) -> Result<Tensor> {
        Ok(w.contiguous()?.reshape(((), 2 * self.n * self.n))?)
    }

    fn squares(&self, flat: Tensor) -> Result<Tensor> {
        Ok(flat.reshape(((), self.dimension, self.dimension))?)
    }

    /// Re tr T^aW, `[n, D]`.
    pub(super) fn re_component(&self, w: &Tensor) -> Result<Tensor> {
        Ok(self.flat(w)?.matmul(&self.re_t)?)
    }

    /// Im tr T^aW, `[n, D]`.
    pub(super) fn im_component(&self, w: &Tensor) -> Result<Tensor> {
        Ok(self.flat(w)?.matmul(&self.im_t)?)
    }

    /// Re tr T^aT^bW, `[n, D, D]`.
    pub(super) fn re_pairs(&self, w: &Tensor) -> Result<Tensor> {
        self.squares(self.flat(w)?.matmul(&self.re_tt)?)
    }

    /// Im tr T^aT^bW, `[n, D, D]`.
    pub(super) fn im_pairs(&self, w: &Tensor) -> Result<Tensor> {
        self.squares(self.flat(w)?.matmul(&self.im_tt)?)
    }

    /// Re tr T^aWT^bW, `[n, D, D]`, symmetric.
    pub(super) fn re_sandwiches(&self, w: &Tensor) -> Result<Tensor> {
        let (n, d) = (self.n, self.dimension);
        let flat = self.flat(w)?;
        let count = flat.dims()[0];
        let tw = flat.matmul(&self.times_t)?.reshape((count, d, n, n, 2))?;
        let w = flat.reshape((count, 1, n, n, 2))?.broadcast_as((count, d, n, n, 2))?;
        self.squares(self.re_component(&product(&w, &tw, false, false)?)?)
    }

    /// ad_Z of Z = iω^aT^a, `[n, D]` → `[n, D, D]`.
    pub(super) fn adjoint(&self, omega: &Tensor) -> Result<Tensor> {
        self.squares(omega.matmul(&self.ad)?)
    }
}

/// φ_1(−ad_Z) M = Σ_k (−ad_Z)^k M/(k+1)!, to rounding: |ad_Z| ≤ |ω|.
pub(super) fn phi_one(ad: &Tensor, m: &Tensor, largest_omega: f64) -> Result<Tensor> {
    let mut sum = m.clone();
    for k in (1..=terms(largest_omega, 1)).rev() {
        sum = (m + (ad.matmul(&sum)? * (-1.0 / (k + 1) as f64))?)?;
    }
    Ok(sum)
}

/// e^{ad} M.
pub(super) fn exponential(ad: &Tensor, m: &Tensor, largest_omega: f64) -> Result<Tensor> {
    let mut sum = m.clone();
    for k in (1..=terms(largest_omega, 0)).rev() {
        sum = (m + (ad.matmul(&sum)? / k as f64)?)?;
    }
    Ok(sum)
}

/// Terms until r^k/(k + shift)! is below rounding; steps that are invertible by the bound are at most √(2N) long.
fn terms(r: f64, shift: usize) -> usize {
    let (mut term, mut k) = (1.0, 0);
    while term > 1e-17 {
        k += 1;
        term *= r / (k + shift) as f64;
    }
    k
}

/// ‖A‖₈ ≥ ‖A‖ of matrices `[n, N, N, 2]`: (Σ σ_i⁸)^{1/8}, `[n]`.
pub(super) fn norm(a: &Tensor) -> Result<Tensor> {
    let square = product(a, a, true, false)?;
    let fourth = product(&square, &square, false, false)?;
    Ok(frobenius(&fourth)?.powf(0.25)?)
}

/// ‖A‖_F, `[n]`.
pub(super) fn frobenius(a: &Tensor) -> Result<Tensor> {
    Ok(a.flatten_from(D::Minus(3))?.sqr()?.sum(D::Minus1)?.sqrt()?)
}
