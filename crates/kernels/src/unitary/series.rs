//! exp(iH) of hermitian matrices, and its derivative, from the characteristic polynomial.
//!
//! ```text
//! H^N = Σ_k h_k H^k                                                   (Cayley and Hamilton)
//! exp(iH) = Σ_k p_k H^k,      d exp(iH) = Σ_kl r_kl H^k dH H^l,       k, l < N
//! ```
//!
//! Multiplying by H takes coefficients to coefficients, so that Taylor's series costs a few numbers a term instead of a product
//! of matrices: Horner's scheme P ← c_n + HP has the derivative dP ← dH P + H dP. Matrices above norm 1 are halved until they
//! are below, lane by lane, and the series squared as often: P ← P², dP ← dP P + P dP. h_k is real.

use super::matrix::Matrix;
use super::register::{Complex, Instructions, MAX_LANES, Real};
use crate::conv::simd::Vector;
use candle_core::WithDType;

/// Terms of the series: at norm 1 the next one of the derivative is 2·10⁻²⁰ / 20.
const TERMS: usize = 20;

/// Beyond, the phases of exp(iH) have no correct digit in double precision.
const MAX_HALVINGS: u32 = 60;

/// Powers of 2^{−s} H and the coefficients in them.
pub(crate) struct Series<X, const N: usize> {
    /// H^k at k; the unit matrix at 0.
    powers: [Matrix<X, N>; N],
    /// p_k
    value: [Complex<X>; N],
    /// r_kl, when asked for.
    derivative: [[Complex<X>; N]; N],
}

impl<X: Vector, const N: usize> Series<X, N> {
    /// The series of exp(iH), with its derivative or not.
    #[inline(always)]
    pub(crate) fn new<const DERIVATIVE: bool>(isa: Instructions<X>, h: &Matrix<X, N>) -> Self {
        let (halvings, most) = halvings(h.inner(isa, h));
        let scale = powers_of_two(isa, &halvings);
        let mut powers = [Matrix::one(isa); N];
        powers[1] = if most == 0 { *h } else { h.scaled(scale) };
        for k in 2..N {
            powers[k] = powers[k - 1].times(isa, &powers[1]);
        }
        let h = characteristic(isa, &powers);
        let zero = isa.complex(0.0, 0.0);
        let (mut value, mut derivative) = ([zero; N], [[zero; N]; N]);
        let mut n = TERMS;
        value[0] = isa.complex(coefficient(n)[0], coefficient(n)[1]);
        while n > 0 {
            n -= 1;
            if DERIVATIVE {
                raise_rows(&h, &mut derivative);
                for l in 0..N {
                    derivative[0][l] = derivative[0][l] + value[l];
                }
            }
            raise(&h, &mut value);
            value[0] = value[0] + isa.complex(coefficient(n)[0], coefficient(n)[1]);
        }
        for k in 0..most {
            let squared = flags(isa, &halvings, k);
            if DERIVATIVE {
                let twice = double(isa, &h, &value, &derivative);
                for i in 0..N {
                    for j in 0..N {
                        derivative[i][j] = squared.choose(isa, twice[i][j], derivative[i][j]);
                    }
                }
            }
            let square = multiply(isa, &h, &value, &value);
            for i in 0..N {
                value[i] = squared.choose(isa, square[i], value[i]);
            }
        }
        if DERIVATIVE && most > 0 {
            for row in &mut derivative {
                for r in row {
                    *r = Complex { re: r.re * scale, im: r.im * scale };
                }
            }
        }
        Self { powers, value, derivative }
    }

    /// exp(iH).
    #[inline(always)]
    pub(crate) fn exponential(&self, isa: Instructions<X>) -> Matrix<X, N> {
        combine(isa, &self.powers, &self.value)
    }

    /// K of Re tr(G† d exp(iH)) = Re tr(K† dH): K = Σ r_kl* H^k G H^l.
    #[inline(always)]
    pub(crate) fn pull_back(&self, isa: Instructions<X>, g: &Matrix<X, N>) -> Matrix<X, N> {
        let mut right = [*g; N];
        for l in 1..N {
            right[l] = right[l - 1].times(isa, &self.powers[1]);
        }
        let mut sum = weighted(isa, &right, &self.derivative[N - 1]);
        for k in (0..N - 1).rev() {
            let row = weighted(isa, &right, &self.derivative[k]);
            sum = self.powers[1].times(isa, &sum).plus(&row);
        }
        sum
    }
}

/// Σ_l r_l* M_l.
#[inline(always)]
fn weighted<X: Vector, const N: usize>(
    isa: Instructions<X>,
    matrices: &[Matrix<X, N>; N],
    r: &[Complex<X>; N],
) -> Matrix<X, N> {
    let mut sum = Matrix::zero(isa);
    for l in 0..N {
        for i in 0..N {
            for j in 0..N {
                sum.0[i][j] = r[l].conj_mul_add(matrices[l].0[i][j], sum.0[i][j]);
            }
        }
    }
    sum
}

/// iⁿ/n!
#[inline(always)]
fn coefficient(n: usize) -> [f64; 2] {
    const INVERSE_FACTORIAL: [f64; TERMS + 1] = {
        let (mut inverse, mut factorial, mut n) = ([1.0; TERMS + 1], 1.0, 1);
        while n <= TERMS {
            factorial *= n as f64;
            inverse[n] = 1.0 / factorial;
            n += 1;
        }
        inverse
    };
    let c = INVERSE_FACTORIAL[n];
    match n % 4 {
        0 => [c, 0.0],
        1 => [0.0, c],
        2 => [-c, 0.0],
        _ => [0.0, -c],
    }
}

/// How often each lane is halved to be at most 1, and the most of all.
#[inline(always)]
fn halvings<X: Vector>(norm_squared: Real<X>) -> ([u32; MAX_LANES], u32) {
    let norms = norm_squared.to_array();
    let (mut halvings, mut most) = ([0; MAX_LANES], 0);
    for l in 0..X::LANES {
        let mut norm = norms[l].to_f64();
        while norm > 1.0 && halvings[l] < MAX_HALVINGS {
            norm *= 0.25;
            halvings[l] += 1;
        }
        most = most.max(halvings[l]);
    }
    (halvings, most)
}

#[inline(always)]
fn powers_of_two<X: Vector>(isa: Instructions<X>, halvings: &[u32; MAX_LANES]) -> Real<X> {
    let mut scale = [X::Item::default(); MAX_LANES];
    for l in 0..MAX_LANES {
        scale[l] = X::Item::from_f64(1.0 / (1u64 << halvings[l]) as f64);
    }
    isa.load(&scale)
}

/// One or zero a lane.
struct Flags<X>(Real<X>);

#[inline(always)]
fn flags<X: Vector>(isa: Instructions<X>, halvings: &[u32; MAX_LANES], round: u32) -> Flags<X> {
    let mut flags = [X::Item::default(); MAX_LANES];
    for l in 0..MAX_LANES {
        flags[l] = X::Item::from_f64(f64::from(u8::from(round < halvings[l])));
    }
    Flags(isa.load(&flags))
}

impl<X: Vector> Flags<X> {
    /// `yes` where the flag is one.
    #[inline(always)]
    fn choose(&self, isa: Instructions<X>, yes: Complex<X>, no: Complex<X>) -> Complex<X> {
        let not = isa.number(1.0) - self.0;
        let kept = Complex { re: no.re * not, im: no.im * not };
        yes.scale_add(self.0, kept)
    }
}

/// h_k from the traces of powers, by Newton's identities.
#[inline(always)]
fn characteristic<X: Vector, const N: usize>(
    isa: Instructions<X>,
    powers: &[Matrix<X, N>; N],
) -> [Real<X>; N] {
    let zero = isa.number(0.0);
    let mut tau = [zero; N];
    for k in 1..N {
        tau[k - 1] = powers[k].re_trace();
    }
    // H is hermitian: tr H^N = tr H^{N−1} H†.
    tau[N - 1] = powers[N - 1].inner(isa, &powers[1]);
    // e_k = (1/k) Σ_{i=1}^{k} (−1)^{i−1} e_{k−i} τ_i with e_0 = 1, and h_{N−k} = (−1)^{k−1} e_k: hence
    // h_{N−k} = (1/k) [τ_k − Σ_{i<k} h_{N−k+i} τ_i].
    let mut h = [zero; N];
    for k in 1..=N {
        let mut sum = tau[k - 1];
        for i in 1..k {
            sum = h[N - k + i].neg_mul_add(tau[i - 1], sum);
        }
        h[N - k] = sum * isa.number(1.0 / k as f64);
    }
    h
}

/// Coefficients of HP from those of P.
#[inline(always)]
fn raise<X: Vector, const N: usize>(h: &[Real<X>; N], p: &mut [Complex<X>; N]) {
    let top = p[N - 1];
    for k in (1..N).rev() {
        p[k] = top.scale_add(h[k], p[k - 1]);
    }
    p[0] = Complex { re: top.re * h[0], im: top.im * h[0] };
}

/// The same in the first index of r_kl.
#[inline(always)]
fn raise_rows<X: Vector, const N: usize>(h: &[Real<X>; N], r: &mut [[Complex<X>; N]; N]) {
    for l in 0..N {
        let top = r[N - 1][l];
        for k in (1..N).rev() {
            r[k][l] = top.scale_add(h[k], r[k - 1][l]);
        }
        r[0][l] = Complex { re: top.re * h[0], im: top.im * h[0] };
    }
}

/// Coefficients of PQ.
#[inline(always)]
fn multiply<X: Vector, const N: usize>(
    isa: Instructions<X>,
    h: &[Real<X>; N],
    p: &[Complex<X>; N],
    q: &[Complex<X>; N],
) -> [Complex<X>; N] {
    // Horner's scheme in the powers of p.
    let mut product = [isa.complex(0.0, 0.0); N];
    for k in (0..N).rev() {
        raise(h, &mut product);
        for l in 0..N {
            product[l] = p[k].mul_add(q[l], product[l]);
        }
    }
    product
}

/// r of dP P + P dP.
#[inline(always)]
fn double<X: Vector, const N: usize>(
    isa: Instructions<X>,
    h: &[Real<X>; N],
    p: &[Complex<X>; N],
    r: &[[Complex<X>; N]; N],
) -> [[Complex<X>; N]; N] {
    let mut twice = [[isa.complex(0.0, 0.0); N]; N];
    for k in 0..N {
        twice[k] = multiply(isa, h, p, &r[k]);
    }
    for l in 0..N {
        let mut column = [isa.complex(0.0, 0.0); N];
        for k in 0..N {
            column[k] = r[k][l];
        }
        let column = multiply(isa, h, p, &column);
        for k in 0..N {
            twice[k][l] = twice[k][l] + column[k];
        }
    }
    twice
}

/// Σ_k p_k H^k.
#[inline(always)]
fn combine<X: Vector, const N: usize>(
    isa: Instructions<X>,
    powers: &[Matrix<X, N>; N],
    p: &[Complex<X>; N],
) -> Matrix<X, N> {
    let mut sum = Matrix::zero(isa);
    for i in 0..N {
        sum.0[i][i] = p[0];
    }
    for k in 1..N {
        for i in 0..N {
            for j in 0..N {
                sum.0[i][j] = p[k].mul_add(powers[k].0[i][j], sum.0[i][j]);
            }
        }
    }
    sum
}
