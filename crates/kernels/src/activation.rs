//! Pointwise nonlinearities whose derivative is a function of their value, so that a backward pass needs only the output.
//!
//! ```text
//! leaky ReLU: x for x > 0, a·x otherwise        derivative 1 or a
//! tanh:       (e^{2x} − 1) / (e^{2x} + 1)       derivative 1 − tanh²
//! ELU:        x for x > 0, e^x − 1 otherwise    derivative 1 or 1 + ELU
//! ```

use crate::conv::simd::{Element, Level, Task, Vector, dispatch};
use candle_core::{Result, Tensor};

/// A pointwise nonlinearity.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Activation {
    /// x.
    Identity,
    /// x for x > 0, otherwise the given slope (finite, not negative) times x.
    LeakyRelu(f64),
    /// Hyperbolic tangent.
    Tanh,
    /// Exponential linear unit: x for x > 0, otherwise e^x − 1.
    Elu,
}

impl Activation {
    /// The activation of a tensor by candle's operations; differentiable.
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Identity => Ok(x.clone()),
            Self::LeakyRelu(slope) => x.gt(0.0)?.where_cond(x, &x.affine(slope, 0.0)?),
            Self::Tanh => x.tanh(),
            Self::Elu => x.elu(1.0),
        }
    }

    /// # Errors
    /// When a parameter is out of range: with a negative slope the derivative would not be a function of the value.
    pub(crate) fn validate(self) -> Result<()> {
        match self {
            Self::LeakyRelu(slope) if !(slope.is_finite() && slope >= 0.0) => {
                candle_core::bail!("leaky ReLU: slope {slope}, expected a finite number that is not negative")
            }
            _ => Ok(()),
        }
    }

    /// x ← f(x).
    pub(crate) fn apply_in_place<T: Real>(self, level: Level, x: &mut [T]) {
        if self != Self::Identity {
            dispatch(level, Apply { activation: self, x });
        }
    }

    /// d ← d · f′, with f′ from the values y = f(x).
    pub(crate) fn backward_in_place<T: Real>(self, level: Level, d: &mut [T], y: &[T]) {
        if self != Self::Identity {
            dispatch(level, Backward { activation: self, d, y });
        }
    }
}

/// Elements with exponential functions that vectorise: no branch, no table, no library call.
pub(crate) trait Real: Element {
    /// e^x − 1, below 1e8 in f32 and 1e19 in f64 where it stays constant.
    fn exp_m1(self) -> Self;
    fn tanh(self) -> Self;
}

struct Apply<'a, T> {
    activation: Activation,
    x: &'a mut [T],
}

struct Backward<'a, T> {
    activation: Activation,
    d: &'a mut [T],
    y: &'a [T],
}

impl<T: Real> Task<T> for Apply<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(self) {
        match self.activation {
            Activation::Identity => {}
            Activation::LeakyRelu(slope) => {
                let slope = T::from_f64(slope);
                for x in self.x {
                    *x = if *x > T::default() { *x } else { *x * slope };
                }
            }
            Activation::Tanh => {
                for x in self.x {
                    *x = x.tanh();
                }
            }
            Activation::Elu => {
                for x in self.x {
                    let negative = x.exp_m1();
                    *x = if *x > T::default() { *x } else { negative };
                }
            }
        }
    }
}

impl<T: Real> Task<T> for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(self) {
        let pairs = self.d.iter_mut().zip(self.y);
        match self.activation {
            Activation::Identity => {}
            Activation::LeakyRelu(slope) => {
                let slope = T::from_f64(slope);
                for (d, y) in pairs {
                    *d = if *y > T::default() { *d } else { *d * slope };
                }
            }
            Activation::Tanh => {
                let one = T::from_f64(1.0);
                for (d, y) in pairs {
                    *d *= one - *y * *y;
                }
            }
            Activation::Elu => {
                let one = T::from_f64(1.0);
                for (d, y) in pairs {
                    *d = if *y > T::default() { *d } else { *d * (one + *y) };
                }
            }
        }
    }
}

/// e^t − 1 = 2^k p + (2^k − 1), where t = k ln 2 + r, |r| ≤ ½ ln 2, and p = e^r − 1 by its Taylor series; tanh x = e / (e + 2)
/// with e = e^{2x} − 1. Relative error a few units in the last place also near zero. `$coefficients` are 1/n!, highest first,
/// down to 1/2!. Adding 1.5 · 2^mantissa rounds to an integer and leaves k in the low bits, from where it is shifted into an
/// exponent.
macro_rules! vectorisable {
    ($float:ident, $bits:ident, $mantissa:literal, $bias:literal, $limit:literal, $ln2_high:literal, $ln2_low:literal,
     [$($factorial:literal),*]) => {
        impl Real for $float {
            #[inline(always)]
            fn exp_m1(self) -> Self {
                // Below −limit the result is −1, above it tanh is 1. Comparisons, not min and max, so that NaN stays NaN.
                let t = if self > $limit { $limit } else { self };
                let t = if t < -$limit { -$limit } else { t };
                const ROUND: $float = 1.5 * (1u64 << $mantissa) as $float;
                let shifted = t * std::$float::consts::LOG2_E + ROUND;
                let k = shifted - ROUND;
                let scale = $float::from_bits(shifted.to_bits().wrapping_add($bias) << $mantissa);
                let r = (t - k * $ln2_high) - k * $ln2_low;
                let mut series: $float = 0.0;
                $(series = series * r + (1.0 / $factorial as $float);)*
                let p = r + r * r * series;
                scale * p + (scale - 1.0)
            }

            #[inline(always)]
            fn tanh(self) -> Self {
                let e = Real::exp_m1(2.0 * self);
                e / (e + 2.0)
            }
        }
    };
}

vectorisable!(
    f32,
    u32,
    23,
    127,
    20.0,
    0.693_359_4,
    -2.121_944_4e-4,
    [40_320.0, 5_040.0, 720.0, 120.0, 24.0, 6.0, 2.0]
);
vectorisable!(
    f64,
    u64,
    52,
    1023,
    44.0,
    0.693_147_180_369_123_8,
    1.908_214_929_270_587_7e-10,
    [
        87_178_291_200.0,
        6_227_020_800.0,
        479_001_600.0,
        39_916_800.0,
        3_628_800.0,
        362_880.0,
        40_320.0,
        5_040.0,
        720.0,
        120.0,
        24.0,
        6.0,
        2.0
    ]
);

#[cfg(test)]
mod tests {
    use super::{Activation, Real};
    use crate::conv::simd::Level;

    #[test]
    fn exponentials_agree_with_the_library_to_the_last_places() {
        for i in -4_000..=4_000 {
            let x = 1e-2 * f64::from(i) * (1.0 + 1e-3 * f64::from(i % 7));
            for x in [x, 1e-3 * x, 1e-9 * x] {
                let (got, expected) = (Real::tanh(x), x.tanh());
                assert!(
                    (got - expected).abs() <= 1e-15 * expected.abs(),
                    "tanh({x}) = {got}, expected {expected}"
                );
                let x = x as f32;
                let (got, expected) = (f64::from(Real::tanh(x)), f64::from(x).tanh());
                assert!(
                    (got - expected).abs() <= 4e-7 * expected.abs(),
                    "tanh({x}) = {got}, expected {expected}"
                );
            }
        }
        for i in 0..=4_000 {
            let x = -1e-2 * f64::from(i) * (1.0 + 1e-3 * f64::from(i % 7));
            for x in [x, 1e-3 * x, 1e-9 * x] {
                let (got, expected) = (Real::exp_m1(x), x.exp_m1());
                assert!(
                    (got - expected).abs() <= 1e-15 * expected.abs(),
                    "e^{x} − 1 = {got}, expected {expected}"
                );
                let x = x as f32;
                let (got, expected) = (f64::from(Real::exp_m1(x)), f64::from(x).exp_m1());
                assert!(
                    (got - expected).abs() <= 4e-7 * expected.abs(),
                    "e^{x} − 1 = {got}, expected {expected}"
                );
            }
        }
        for (x, expected) in [(f64::INFINITY, 1.0), (f64::NEG_INFINITY, -1.0), (0.0, 0.0)] {
            assert_eq!(Real::tanh(x), expected);
            assert_eq!(Real::tanh(x as f32), expected as f32);
        }
        assert!(Real::tanh(f64::NAN).is_nan() && Real::tanh(f32::NAN).is_nan());
    }

    #[test]
    fn every_instruction_set_gives_the_same_activation() {
        let x: Vec<f64> = (0..101).map(|i| 0.1 * f64::from(i) - 5.0).collect();
        for activation in
            [Activation::Identity, Activation::LeakyRelu(0.01), Activation::Tanh, Activation::Elu]
        {
            let results: Vec<Vec<f64>> = Level::available()
                .iter()
                .map(|&level| {
                    let (mut y, mut d) = (x.clone(), vec![1.0; x.len()]);
                    activation.apply_in_place(level, &mut y);
                    activation.backward_in_place(level, &mut d, &y);
                    y.extend(d);
                    y
                })
                .collect();
            assert!(results.iter().all(|r| *r == results[0]), "{activation:?}");
        }
    }
}
