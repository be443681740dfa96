//! Gradient clipping, first by value, then by global norm [YUK Tab. IV].

use crate::Result;
use candle_core::{DType, Tensor};
use std::collections::BTreeMap;

/// Thresholds; infinite ones do nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clip {
    /// Largest magnitude of one component.
    pub value: f64,
    /// Largest Euclidean norm of the whole gradient.
    pub norm: f64,
}

impl Default for Clip {
    fn default() -> Self {
        Self { value: f64::INFINITY, norm: f64::INFINITY }
    }
}

impl Clip {
    /// Clips in place; returns the norm before clipping.
    ///
    /// # Errors
    /// When the device fails.
    pub fn apply(&self, gradients: &mut BTreeMap<String, Tensor>) -> Result<f64> {
        let before = norm(gradients)?;
        if self.value.is_finite() {
            for g in gradients.values_mut() {
                *g = g.clamp(-self.value, self.value)?;
            }
        }
        if self.norm.is_finite() {
            let now = if self.value.is_finite() { norm(gradients)? } else { before };
            if now > self.norm {
                for g in gradients.values_mut() {
                    *g = (&*g * (self.norm / now))?;
                }
            }
        }
        Ok(before)
    }
}

fn norm(gradients: &BTreeMap<String, Tensor>) -> Result<f64> {
    let mut sum = 0.0;
    for g in gradients.values() {
        sum += g.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
    }
    Ok(sum.sqrt())
}
