//! A number with its statistical error, in the notation of the field: `0.0734(1)`.
//!
//! The digits in parentheses are the error in units of the last digits shown. How many of them there are follows the
//! rounding rule of the Particle Data Group: write the error with three significant digits; 100 to 354 keep two digits,
//! 355 to 949 keep one, 950 to 999 round up to 1000 and keep two. So the rounding never changes the error by more than
//! 15 %, and 4.98(11), 0.72(4) and 0.827(10) all come out as a physicist would write them. `{:.1}` or `{:.2}` ask for a
//! fixed number of digits instead.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// A value and its one-σ error.
///
/// ```
/// use latflow_observable::ValueError;
///
/// let ours = ValueError::new(0.073318, 0.000071);
/// assert_eq!(ours.to_string(), "0.07332(7)");
/// let paper: ValueError = "0.0733(1)".parse().unwrap();
/// assert!(ours.z_score(paper) < 1.0);
/// assert_eq!(ValueError::new(123.44, 1.234).to_string(), "123.4(1.2)");
/// assert_eq!(ValueError::new(12.0, 30.0).to_string(), "12(30)");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueError {
    /// The estimate.
    pub value: f64,
    /// Its standard error, in the same unit; not negative.
    pub error: f64,
}

impl ValueError {
    /// A value with its error.
    pub fn new(value: f64, error: f64) -> Self {
        Self { value, error }
    }

    /// Distance of two independent estimates in units of their combined error,
    ///
    /// ```text
    /// z = (a − b) / √(σ_a² + σ_b²)
    /// ```
    ///
    /// Two equal values have z = 0 even if both errors vanish; two different exact numbers have z = ±∞. NaN stays NaN.
    pub fn z_score(self, other: Self) -> f64 {
        let difference = self.value - other.value;
        if difference == 0.0 { 0.0 } else { difference / self.error.hypot(other.error) }
    }
}

/// Outside these decimal exponents of max(|value|, error) the number is written as `1.234(5)e12`.
const PLAIN_EXPONENTS: std::ops::Range<i32> = -5..10;

impl fmt::Display for ValueError {
    /// `0.0734(1)`; errors of one and more keep their decimal point, `123.4(1.2)`; very large and very small numbers
    /// share an exponent, `1.234(5)e12`. A vanishing error is written `(0)` after all digits of the value; what is not
    /// finite is written `nan` or `inf`. The precision (`{:.1}`) is the number of significant digits of the error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        pad(f, &notation(self.value, self.error, f.precision()))
    }
}

fn notation(value: f64, error: f64, digits: Option<usize>) -> String {
    let lower = |x: f64| x.to_string().to_lowercase();
    if !value.is_finite() || !error.is_finite() || error == 0.0 {
        return format!("{}({})", lower(value), lower(error.abs()));
    }
    let error = error.abs();
    // Twelve digits, so that 1e-7 = 9.9999999999999995e-8 counts as 1e-7.
    let exponent = decimal_exponent(value.abs().max(error), 12);
    if PLAIN_EXPONENTS.contains(&exponent) {
        plain(value, error, digits)
    } else {
        // In two steps, because 10^±exponent alone may overflow for subnormal numbers.
        let (half, rest) = (10f64.powi(exponent / 2), 10f64.powi(exponent - exponent / 2));
        format!("{}e{exponent}", plain(value / half / rest, error / half / rest, digits))
    }
}

/// The notation without a power of ten; `value` and `error` are finite, `error` is positive.
fn plain(value: f64, error: f64, digits: Option<usize>) -> String {
    let decimals = match digits {
        Some(n) => {
            let n = n.max(1) as i32;
            n - 1 - decimal_exponent(error, n as usize - 1)
        }
        None => {
            let exponent = decimal_exponent(error, 2);
            match (error / 10f64.powi(exponent - 2)).round() as u32 {
                ..=354 => 1 - exponent,
                // One digit; and from 950 on the error rounds up to 10 in units of the same digit.
                _ => -exponent,
            }
        }
    };
    if decimals <= 0 {
        let unit = 10f64.powi(-decimals);
        return format!("{:.0}({:.0})", (value / unit).round() * unit + 0.0, (error / unit).round() * unit);
    }
    let decimals = decimals as usize;
    let error = format!("{error:.decimals$}");
    let error = match error.strip_prefix("0.") {
        Some(fraction) => fraction.trim_start_matches('0'),
        None => &error,
    };
    format!("{value:.decimals$}({error})")
}

/// The exponent of a positive number written with `digits` digits after the point of its mantissa, after rounding.
fn decimal_exponent(x: f64, digits: usize) -> i32 {
    let text = format!("{x:.digits$e}");
    let exponent = text.rsplit('e').next().and_then(|e| e.parse().ok());
    exponent.expect("LowerExp of a finite number ends in e and an integer")
}

/// `Formatter::pad` without its reading of the precision as a maximal length.
fn pad(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let missing = f.width().unwrap_or(0).saturating_sub(text.chars().count());
    let (before, after) = match f.align() {
        Some(fmt::Alignment::Right) => (missing, 0),
        Some(fmt::Alignment::Center) => (missing / 2, missing - missing / 2),
        Some(fmt::Alignment::Left) | None => (0, missing),
    };
    let fill = f.fill();
    for _ in 0..before {
        fmt::Write::write_char(f, fill)?;
    }
    f.write_str(text)?;
    for _ in 0..after {
        fmt::Write::write_char(f, fill)?;
    }
    Ok(())
}

impl FromStr for ValueError {
    type Err = Error;

    /// Reads what [`Display`](fmt::Display) writes: `0.0734(1)`, `123.4(1.2)`, `12(30)`, `1.234(5)e12`, `1.5(nan)`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |reason| Error::Notation { text: text.to_owned(), reason };
        let (value, rest) = text.trim().split_once('(').ok_or_else(|| wrong("no opening parenthesis"))?;
        let (error, exponent) = rest.split_once(')').ok_or_else(|| wrong("no closing parenthesis"))?;
        let exponent: i32 = match exponent.strip_prefix(['e', 'E']) {
            Some(digits) => digits.parse().map_err(|_| wrong("the exponent is not an integer"))?,
            None if exponent.is_empty() => 0,
            None => return Err(wrong("text after the closing parenthesis")),
        };
        let magnitude = value.strip_prefix(['-', '+']).unwrap_or(value);
        let decimals = decimals(magnitude).ok_or_else(|| wrong("the value is not a decimal number"))?;
        if self::decimals(error).is_none() {
            return Err(wrong("the error is not an unsigned decimal number"));
        }
        // An error without a point counts in units of the last digit of the value.
        let error_exponent = if error.contains('.') { exponent } else { exponent - decimals as i32 };
        let number = |digits: &str, exponent: i32| {
            let text = if is_special(digits) { digits.to_owned() } else { format!("{digits}e{exponent}") };
            text.parse().map_err(|_| wrong("not a number"))
        };
        Ok(Self { value: number(value, exponent)?, error: number(error, error_exponent)? })
    }
}

/// The number of digits after the point, if `text` is digits with at most one point and at least one digit.
fn decimals(text: &str) -> Option<usize> {
    if is_special(text) {
        return Some(0);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    (digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty()))
        .then_some(fraction.len())
}

/// What stands for a number that is not finite.
fn is_special(text: &str) -> bool {
    matches!(text.trim_start_matches(['-', '+']), "nan" | "inf")
}
