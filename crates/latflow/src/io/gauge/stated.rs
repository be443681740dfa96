//! Numbers a header states about its links: the plaquette and the average link trace.

use super::fault::{DAMAGED, Fault};
use super::payload::Precision;
use super::properties::Properties;

/// Which number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    Plaquette,
    LinkTrace,
}

/// A number as a header prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stated {
    pub(super) record: String,
    pub(super) quantity: Quantity,
    pub(super) text: String,
}

impl Stated {
    /// Compares with the links: to the last printed digit, but not beyond what the sums of other codes hold, which for
    /// single-precision links are often single-precision sums, and not below three digits, since some codes drop zeros.
    pub(super) fn check(&self, properties: &Properties, precision: Precision) -> Result<(), Fault> {
        let sums = match precision {
            Precision::Single => 1e-5,
            Precision::Double => 1e-9,
        };
        let computed = match self.quantity {
            Quantity::Plaquette => properties.plaquette,
            Quantity::LinkTrace => properties.link_trace,
        };
        let fault = |got: String| Err(Fault::new(self.record.as_str(), self.text.as_str(), got, DAMAGED));
        let Some((value, last_digit)) = printed(&self.text) else {
            return fault(format!("no number there, but {computed:.15} from the links"));
        };
        if (value - computed).abs() <= last_digit.clamp(sums, 1e-3) {
            return Ok(());
        }
        fault(format!("{computed:.15} from the links"))
    }
}

/// The value of a decimal number and of one unit in its last digit.
fn printed(text: &str) -> Option<(f64, f64)> {
    let value: f64 = text.parse().ok().filter(|x: &f64| x.is_finite())?;
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let digits = mantissa.split_once('.').map_or(0, |(_, digits)| digits.len());
    Some((value, 10f64.powi(exponent.saturating_sub(i32::try_from(digits).ok()?))))
}

#[cfg(test)]
mod tests {
    use super::printed;

    #[test]
    fn the_last_digit_counts() {
        for (text, value, unit) in [
            ("0.588", 0.588, 1e-3),
            ("5.552436e-01", 0.5552436, 1e-7),
            ("1", 1.0, 1.0),
            ("-2.50", -2.5, 1e-2),
        ] {
            let (v, u) = printed(text).unwrap();
            assert!(v == value && (u / unit - 1.0).abs() < 1e-12, "{text}: {v} {u}");
        }
        for text in ["", "nan", "inf", "0.5x", "O.5"] {
            assert_eq!(printed(text), None, "{text}");
        }
    }
}
