//! Step schedules of the learning rate, as in [YUK Tab. IV].

use crate::{Error, Result};

/// Piecewise constant: each entry is (first step, rate).
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule(Vec<(u64, f64)>);

impl Schedule {
    /// The first entry must start at step 0, the others must follow in order.
    ///
    /// # Errors
    /// When the order is wrong or a rate is not positive and finite.
    pub fn new(entries: &[(u64, f64)]) -> Result<Self> {
        if entries.first().is_none_or(|(s, _)| *s != 0) {
            let value = entries.first().map_or(f64::NAN, |(s, _)| *s as f64);
            return Err(Error::Parameter { name: "first step of the schedule", value, expected: "0" });
        }
        if let Some(w) = entries.windows(2).find(|w| w[1].0 <= w[0].0) {
            let value = w[1].0 as f64;
            return Err(Error::Parameter {
                name: "step of the schedule",
                value,
                expected: "increasing steps",
            });
        }
        if let Some((_, rate)) = entries.iter().find(|(_, r)| !(*r > 0.0 && r.is_finite())) {
            return Err(Error::Parameter {
                name: "learning rate",
                value: *rate,
                expected: "a positive finite number",
            });
        }
        Ok(Self(entries.to_vec()))
    }

    /// The rate of a step.
    pub fn rate(&self, step: u64) -> f64 {
        self.0.iter().rev().find(|(from, _)| *from <= step).map_or(self.0[0].1, |(_, rate)| *rate)
    }
}
