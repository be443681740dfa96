//! Adam with moments that can be saved.
//!
//! ```text
//! m ← β₁ m + (1−β₁) g,   v ← β₂ v + (1−β₂) g²,   θ ← θ − η m̂ / (√v̂ + ε)      (Kingma and Ba 2014)
//! ```

use crate::{Error, ParamStore, Result};
use candle_core::Tensor;
use std::collections::BTreeMap;

/// The optimiser: β₁ = 0.9, β₂ = 0.999 and, unless asked otherwise, ε = 10⁻⁸, the defaults [YUK Tab. IV] uses; [QCD Sec. 3.1]
/// has ε = 10⁻².
#[derive(Debug, Clone)]
pub struct Adam {
    epsilon: f64,
    first: BTreeMap<String, Tensor>,
    second: BTreeMap<String, Tensor>,
    updates: u64,
}

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
const FIRST: &str = "adam/first/";
const SECOND: &str = "adam/second/";

impl Adam {
    /// Zero moments for every parameter.
    ///
    /// # Errors
    /// When the device fails.
    pub fn new(params: &ParamStore) -> Result<Self> {
        let zeros = || params.iter().map(|(n, v)| Ok((n.clone(), v.zeros_like()?))).collect::<Result<_>>();
        Ok(Self { epsilon: EPSILON, first: zeros()?, second: zeros()?, updates: 0 })
    }

    /// The same with another ε.
    ///
    /// # Errors
    /// When ε is not positive and finite.
    pub fn with_epsilon(self, epsilon: f64) -> Result<Self> {
        if !(epsilon > 0.0 && epsilon.is_finite()) {
            let expected = "a positive finite number";
            return Err(Error::Parameter { name: "epsilon of Adam", value: epsilon, expected });
        }
        Ok(Self { epsilon, ..self })
    }

    /// Updates done so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// One update with the given gradients; a parameter without a gradient stays.
    ///
    /// # Errors
    /// When the device fails.
    pub fn step(
        &mut self,
        params: &ParamStore,
        gradients: &BTreeMap<String, Tensor>,
        rate: f64,
    ) -> Result<()> {
        self.updates += 1;
        let correction1 = 1.0 - BETA1.powf(self.updates as f64);
        let correction2 = 1.0 - BETA2.powf(self.updates as f64);
        for (name, var) in params.iter() {
            let Some(g) = gradients.get(name) else { continue };
            let m = ((&self.first[name] * BETA1)? + (g * (1.0 - BETA1))?)?;
            let v = ((&self.second[name] * BETA2)? + (g.sqr()? * (1.0 - BETA2))?)?;
            let scale = ((&v * (1.0 / correction2))?.sqrt()? + self.epsilon)?;
            let change = ((&m * (rate / correction1))? / scale)?;
            var.set(&(var.as_tensor().detach() - change)?)?;
            self.first.insert(name.clone(), m);
            self.second.insert(name.clone(), v);
        }
        Ok(())
    }

    /// All moments, by name.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        let named = |prefix: &'static str, map: &BTreeMap<String, Tensor>| -> Vec<(String, Tensor)> {
            map.iter().map(|(n, t)| (format!("{prefix}{n}"), t.clone())).collect()
        };
        named(FIRST, &self.first).into_iter().chain(named(SECOND, &self.second)).collect()
    }

    /// Restores moments saved by [`Adam::tensors`].
    ///
    /// # Errors
    /// When a moment is missing or has another shape.
    pub fn restore(&mut self, tensors: &BTreeMap<String, Tensor>, updates: u64) -> Result<()> {
        for (prefix, map) in [(FIRST, &mut self.first), (SECOND, &mut self.second)] {
            for (name, moment) in map.iter_mut() {
                let key = format!("{prefix}{name}");
                match tensors.get(&key) {
                    Some(t) if t.dims() == moment.dims() => *moment = t.to_device(moment.device())?,
                    Some(t) => {
                        let what = format!("{key}: expected shape {:?}, got {:?}", moment.dims(), t.dims());
                        return Err(Error::Checkpoint { what });
                    }
                    None => return Err(Error::Checkpoint { what: format!("{key} is missing") }),
                }
            }
        }
        self.updates = updates;
        Ok(())
    }
}
