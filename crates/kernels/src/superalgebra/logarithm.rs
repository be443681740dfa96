//! log(1 + x) for x ≥ 0 without branch, table or library call, so that it vectorises.
//!
//! ```text
//! z = 1 + x = 2^k m,  √½ ≤ m < √2,   log(1 + x) = k ln 2 + 2 artanh((m − 1)/(m + 1)) + (x − (z − 1))/z
//! ```
//!
//! The last term is what rounding took from x when z was formed; without it small x would lose their digits.

use crate::activation::Real;

/// Elements with such a logarithm.
pub(super) trait Logarithm: Real {
    /// log(1 + x) for x ≥ 0; NaN for NaN and ∞.
    fn ln_1p(self) -> Self;
}

/// `$mantissa` is the number of its bits, `$magic` the bits of 2^mantissa, which turn a small integer into a float.
/// `$reciprocals` are 2n + 1, highest first, down to 1.
macro_rules! vectorisable_logarithm {
    ($float:ident, $bits:ident, $mantissa:literal, $magic:literal, $ln2_high:literal, $ln2_low:literal,
     [$($reciprocal:literal),*]) => {
        impl Logarithm for $float {
            #[inline(always)]
            fn ln_1p(self) -> Self {
                const HALF_ROOT: $bits = (std::$float::consts::FRAC_1_SQRT_2).to_bits();
                let z = 1.0 + self;
                // z ≥ 1 > √½: the difference is not negative, and k is at least 0.
                let exponent = z.to_bits().wrapping_sub(HALF_ROOT) >> $mantissa;
                let m = $float::from_bits(z.to_bits().wrapping_sub(exponent << $mantissa));
                let k = $float::from_bits(exponent | $magic) - (1u64 << $mantissa) as $float;
                let s = (m - 1.0) / (m + 1.0);
                let square = s * s;
                let mut series: $float = 0.0;
                $(series = series * square + (1.0 / $reciprocal as $float);)*
                let lost = (self - (z - 1.0)) / z;
                k * $ln2_high + (2.0 * s * series + (k * $ln2_low + lost))
            }
        }
    };
}

vectorisable_logarithm!(f32, u32, 23, 0x4b00_0000, 0.693_359_4, -2.121_944_4e-4, [9.0, 7.0, 5.0, 3.0, 1.0]);
vectorisable_logarithm!(
    f64,
    u64,
    52,
    0x4330_0000_0000_0000,
    0.693_147_180_369_123_8,
    1.908_214_929_270_587_7e-10,
    [21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0]
);

#[cfg(test)]
mod tests {
    use super::Logarithm;

    #[test]
    fn it_agrees_with_the_library_to_the_last_places() {
        for i in 0..=6_000 {
            let x = 1e-2 * f64::from(i) * (1.0 + 1e-3 * f64::from(i % 7));
            for x in [x, 1e-3 * x, 1e-12 * x, 1e9 * x] {
                let (got, expected) = (Logarithm::ln_1p(x), x.ln_1p());
                assert!(
                    (got - expected).abs() <= 5e-16 * expected,
                    "log(1 + {x}) = {got}, expected {expected}"
                );
                let x = x as f32;
                let (got, expected) = (f64::from(Logarithm::ln_1p(x)), f64::from(x).ln_1p());
                assert!(
                    (got - expected).abs() <= 3e-7 * expected,
                    "log(1 + {x}) = {got}, expected {expected}"
                );
            }
        }
        assert!(Logarithm::ln_1p(f64::NAN).is_nan() && Logarithm::ln_1p(f32::NAN).is_nan());
        assert!(Logarithm::ln_1p(f64::INFINITY).is_nan());
    }
}
