//! The F distribution, by the regularised incomplete beta function; the distribution of Kolmogorov.
//!
//! ```text
//! I_x(a, b) = 1/B(a, b) ∫_0^x t^{a−1} (1 − t)^{b−1} dt
//!           = x^a (1 − x)^b / (a B(a, b)) · 1/(1 + d_1/(1 + d_2/(1 + …)))
//! d_{2m+1}  = −(a + m)(a + b + m) x / ((a + 2m)(a + 2m + 1))
//! d_{2m}    = m (b − m) x / ((a + 2m − 1)(a + 2m))
//! ```
//!
//! (Abramowitz & Stegun 26.5.8), summed by Lentz's method where it converges fast, x < (a + 1)/(a + b + 2), and by the
//! reflection I_x(a, b) = 1 − I_{1−x}(b, a) elsewhere.

use crate::{Error, Result};

/// I_x(a, b) for 0 ≤ x ≤ 1 and a, b > 0.
pub fn regularized_incomplete_beta(a: f64, b: f64, x: f64) -> Result<f64> {
    incomplete_beta(a, b, x, 1.0 - x)
}

/// Probability that an F-distributed number with (d1, d2) degrees of freedom exceeds `f`:
///
/// ```text
/// P(F > f) = I_y(d2/2, d1/2),   y = d2/(d2 + d1 f)
/// ```
///
/// The degrees of freedom need not be integers.
pub fn f_survival(f: f64, d1: f64, d2: f64) -> Result<f64> {
    if f.is_nan() || f < 0.0 {
        return Err(Error::Parameter { what: "F", expected: "not negative", got: f });
    }
    if f == f64::INFINITY {
        return Ok(0.0);
    }
    let total = d2 + d1 * f;
    incomplete_beta(d2 / 2.0, d1 / 2.0, d2 / total, d1 * f / total)
}

/// I_x(a, b) with 1 − x given beside x, so that neither loses digits near its end.
fn incomplete_beta(a: f64, b: f64, x: f64, complement: f64) -> Result<f64> {
    for (what, got) in [("a of the incomplete beta function", a), ("b of the incomplete beta function", b)] {
        if !(got.is_finite() && got > 0.0) {
            return Err(Error::Parameter { what, expected: "positive", got });
        }
    }
    if !(0.0..=1.0).contains(&x) {
        let what = "x of the incomplete beta function";
        return Err(Error::Parameter { what, expected: "between 0 and 1", got: x });
    }
    if x == 0.0 || complement == 0.0 {
        return Ok(x);
    }
    let log_front =
        libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) + a * x.ln() + b * complement.ln();
    let front = log_front.exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        Ok(front / a * continued_fraction(a, b, x)?)
    } else {
        Ok(1.0 - front / b * continued_fraction(b, a, complement)?)
    }
}

/// 1/(1 + d_1/(1 + d_2/(1 + …))). About √max(a, b) terms are needed.
fn continued_fraction(a: f64, b: f64, x: f64) -> Result<f64> {
    const TERMS: usize = 20_000;
    let nonzero = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let mut c = 1.0;
    let mut d = 1.0 / nonzero(1.0 - (a + b) * x / (a + 1.0));
    let mut value = d;
    for m in 1..TERMS {
        let m = m as f64;
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for coefficient in [even, odd] {
            d = 1.0 / nonzero(1.0 + coefficient * d);
            c = nonzero(1.0 + coefficient / c);
            change = c * d;
            value *= change;
        }
        if (change - 1.0).abs() < 4.0 * f64::EPSILON {
            return Ok(value);
        }
    }
    Err(Error::SpecialFunction { function: "incomplete beta", iterations: TERMS })
}

/// Kolmogorov's Q(λ): probability that the distance of an empirical from the true distribution function, times √n, exceeds λ > 0 for
/// large n.
///
/// ```text
/// Q(λ) = 2 Σ_{k≥1} (−1)^{k−1} e^{−2k²λ²} = 1 − (√(2π)/λ) Σ_{k≥1} e^{−(2k−1)²π²/8λ²}
/// ```
///
/// The first series for large λ, the second for small.
pub fn kolmogorov_survival(lambda: f64) -> f64 {
    use std::f64::consts::PI;
    if lambda <= 0.0 {
        return 1.0;
    }
    if lambda < 1.0 {
        // Five terms: the sixth is below e^{−11²π²/8} = e^{−149}.
        let term = |k: i32| (-(f64::from(2 * k - 1) * PI / lambda).powi(2) / 8.0).exp();
        return 1.0 - (2.0 * PI).sqrt() / lambda * (1..=5).map(term).sum::<f64>();
    }
    let term =
        |k: i32| (if k % 2 == 1 { 2.0 } else { -2.0 }) * (-2.0 * (f64::from(k) * lambda).powi(2)).exp();
    (1..=5).map(term).sum()
}
