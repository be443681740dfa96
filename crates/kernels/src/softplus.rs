//! SoftPlus and its derivatives, for networks whose own derivatives are written out as forward passes.
//!
//! ```text
//! s(a) = log(1 + e^a) = max(a, 0) + log(1 + e),      e = e^{−|a|},  r = 1/(1 + e)
//! s′ = σ = r or e r,    s″ = σ (1 − σ) = e r²,    s‴ = s″ (1 − 2σ)                       for a ≥ 0 or a < 0
//! ```
//!
//! No branch and no library call, so that all of it vectorises; nothing overflows, and nothing cancels.

use crate::conv::simd::{Level, Task, Vector, dispatch};
use crate::conv::with_slices;
use crate::host::contiguous_slice;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// The derivative of order 0, 1 or 2 of SoftPlus, f64, itself differentiable.
///
/// # Errors
/// When the order is above 2 or the element type is not f64.
pub fn softplus(a: &Tensor, order: usize) -> Result<Tensor> {
    if order > 2 || a.dtype() != DType::F64 {
        candle_core::bail!("softplus: derivative {order} of {:?}, expected 0, 1 or 2 of F64", a.dtype());
    }
    if !a.device().is_cpu() {
        return softplus_composed(a, order);
    }
    a.contiguous()?.apply_op1(SoftPlus { order })
}

/// [`softplus`] from candle's own operations: the oracle of the tests and the path on a GPU.
///
/// # Errors
/// When the order is above 2.
pub fn softplus_composed(a: &Tensor, order: usize) -> Result<Tensor> {
    // No expression depends on m, which only prevents overflow, so m is a constant to the derivative; at a = 0, too.
    let m = a.detach().relu()?;
    let (p, q) = ((a - &m)?.exp()?, m.neg()?.exp()?);
    let sum = (&p + &q)?;
    match order {
        0 => m + sum.log()?,
        1 => p / sum,
        2 => (p / &sum)? * (q / sum)?,
        _ => candle_core::bail!("softplus: derivative {order}, expected 0, 1 or 2"),
    }
}

struct SoftPlus {
    order: usize,
}

/// Elements a task: a function of nothing, so results do not depend on the number of threads.
const TASK: usize = 1 << 14;

impl CustomOp1 for SoftPlus {
    fn name(&self) -> &'static str {
        "softplus"
    }

    fn cpu_fwd(&self, a: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = contiguous_slice::<f64>(a, layout)?.to_vec();
        let (order, level) = (self.order, Level::detect());
        y.par_chunks_mut(TASK).for_each(|y| dispatch(level, Derivative { order, y }));
        Ok((CpuStorage::F64(y), layout.shape().clone()))
    }

    fn bwd(&self, a: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (order, level) = (self.order + 1, Level::detect());
        let da = with_slices::<f64, _>(&[a, grad], |t| {
            let mut da = t[0].to_vec();
            da.par_chunks_mut(TASK).zip(t[1].par_chunks(TASK)).for_each(|(da, grad)| {
                dispatch(level, Derivative { order, y: da });
                da.iter_mut().zip(grad).for_each(|(d, g)| *d *= g);
            });
            da
        })?;
        Ok(Some(Tensor::from_vec(da, a.shape(), a.device())?))
    }
}

/// y ← s^{(order)}(y).
struct Derivative<'a> {
    order: usize,
    y: &'a mut [f64],
}

impl Task<f64> for Derivative<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = f64>>(self) {
        match self.order {
            0 => self.y.iter_mut().for_each(|y| {
                let positive = if *y > 0.0 { *y } else { 0.0 };
                *y = positive + log_one_plus(exp_minus_abs(*y));
            }),
            1 => self.y.iter_mut().for_each(|y| {
                let e = exp_minus_abs(*y);
                *y = if *y >= 0.0 { 1.0 } else { e } / (1.0 + e);
            }),
            2 => self.y.iter_mut().for_each(|y| {
                let e = exp_minus_abs(*y);
                *y = e / ((1.0 + e) * (1.0 + e));
            }),
            _ => self.y.iter_mut().for_each(|y| {
                let e = exp_minus_abs(*y);
                let change = if *y >= 0.0 { e - 1.0 } else { 1.0 - e };
                *y = e * change / ((1.0 + e) * (1.0 + e) * (1.0 + e));
            }),
        }
    }
}

/// 1/n! from n = 13 down to 0.
const INVERSE_FACTORIALS: [f64; 14] = {
    let mut c = [1.0; 14];
    let mut n = 1;
    let mut factorial = 1.0;
    while n < 14 {
        factorial *= n as f64;
        c[13 - n] = 1.0 / factorial;
        n += 1;
    }
    c
};

/// e^{−|a|} = 2^k e^r with −|a| = k ln 2 + r, |r| ≤ ½ ln 2, e^r by its Taylor series.
#[inline(always)]
fn exp_minus_abs(a: f64) -> f64 {
    // Below the limit the result would be subnormal. A comparison, not max, so that NaN stays NaN.
    let t = -a.abs();
    let t = if t < -700.0 { -700.0 } else { t };
    // Adding it rounds to an integer and leaves that in the low bits, from where it is shifted into an exponent.
    const ROUND: f64 = 1.5 * (1u64 << 52) as f64;
    let shifted = t * std::f64::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let scale = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    let r = (t - k * 0.693_147_180_369_123_8) - k * 1.908_214_929_270_587_7e-10;
    let mut series = 0.0;
    for c in INVERSE_FACTORIALS {
        series = series * r + c;
    }
    scale * series
}

/// 1/(2n + 1) from n = 16 down to 0.
const ODD_RECIPROCALS: [f64; 17] = {
    let mut c = [1.0; 17];
    let mut n = 0;
    while n < 17 {
        c[16 - n] = 1.0 / (2 * n + 1) as f64;
        n += 1;
    }
    c
};

/// log(1 + e) = 2 artanh(e/(2 + e)) for 0 ≤ e ≤ 1, where the argument is at most ⅓.
#[inline(always)]
fn log_one_plus(e: f64) -> f64 {
    let s = e / (2.0 + e);
    let square = s * s;
    let mut series = 0.0;
    for c in ODD_RECIPROCALS {
        series = series * square + c;
    }
    2.0 * s * series
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derivative(level: Level, order: usize, a: &[f64]) -> Vec<f64> {
        let mut y = a.to_vec();
        dispatch(level, Derivative { order, y: &mut y });
        y
    }

    #[test]
    fn values_are_those_of_the_library_to_the_last_places() {
        let a: Vec<f64> =
            (-6_000..=6_000).map(|i| 0.11 * f64::from(i) * (1.0 + 1e-3 * f64::from(i % 7))).collect();
        let [s, s1, s2, s3] = [0, 1, 2, 3].map(|order| derivative(Level::detect(), order, &a));
        let close = |got: f64, expected: f64| (got - expected).abs() <= 2e-15 * expected.abs();
        for (i, &a) in a.iter().enumerate() {
            let e = (-a.abs()).exp();
            assert!(close(s[i], a.max(0.0) + e.ln_1p()), "s({a}) = {}", s[i]);
            let (larger, smaller) = (1.0 / (1.0 + e), e / (1.0 + e));
            let (slope, rest) = if a >= 0.0 { (larger, smaller) } else { (smaller, larger) };
            assert!(close(s1[i], slope), "s'({a}) = {}", s1[i]);
            assert!(close(s2[i], slope * rest), "s''({a}) = {}", s2[i]);
            let sign = if a >= 0.0 { -1.0 } else { 1.0 };
            assert!(
                close(s3[i], sign * slope * rest * -(-a.abs()).exp_m1() / (1.0 + e)),
                "s'''({a}) = {}",
                s3[i]
            );
        }
    }

    #[test]
    fn extremes_are_finite_and_nan_stays() {
        let a = [f64::INFINITY, 1e300, -1e300, 0.0, f64::NAN];
        for &level in Level::available() {
            let value = derivative(level, 0, &a);
            assert_eq!(value[..2], [f64::INFINITY, 1e300]);
            assert!(value[2] >= 0.0 && value[2] < 1e-300 && (value[3] - 2f64.ln()).abs() < 3e-16);
            assert_eq!(derivative(level, 1, &a)[..2], [1.0, 1.0]);
            assert!((0..4).all(|order| derivative(level, order, &a)[4].is_nan()));
        }
    }
}
