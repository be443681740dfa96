//! Observables of a field after the Wilson flow, and along it.
//!
//! ```text
//! Q(t), E(t), t²E(t) …      of V_t, V_0 = U
//! ```

use candle_core::Tensor;
use latflow_lattice::{Configuration, Links};

use super::WilsonFlow;
use crate::{Observable, Result};

/// An observable of the field at one flow time, such as the charge at t = 4a² [QCD Sec. 3.2].
#[derive(Debug, Clone)]
pub struct Flowed<O> {
    name: &'static str,
    flow: WilsonFlow,
    time: f64,
    observable: O,
}

/// An observable `[B]` at several flow times, `[B, times]`.
#[derive(Debug, Clone)]
pub struct AlongFlow<O> {
    name: &'static str,
    flow: WilsonFlow,
    times: Vec<f64>,
    observable: O,
}

impl<O> Flowed<O> {
    /// `observable` at flow time `time`, in units of a², under the name it has in outputs.
    pub fn new(name: &'static str, flow: &WilsonFlow, time: f64, observable: O) -> Self {
        Self { name, flow: flow.clone(), time, observable }
    }
}

impl<O> AlongFlow<O> {
    /// `observable` at ascending flow times, in units of a², under the name it has in outputs.
    pub fn new(name: &'static str, flow: &WilsonFlow, times: &[f64], observable: O) -> Self {
        Self { name, flow: flow.clone(), times: times.to_vec(), observable }
    }

    /// The flow times.
    pub fn times(&self) -> &[f64] {
        &self.times
    }
}

impl<O: Observable<Links>> Observable<Links> for Flowed<O> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn measure(&self, links: &Links) -> Result<Tensor> {
        self.observable.measure(&self.flow.flow(links, self.time)?)
    }
}

impl<O: Observable<Links>> Observable<Links> for AlongFlow<O> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn measure(&self, links: &Links) -> Result<Tensor> {
        let fields = self.flow.along(links, &self.times)?;
        let values = fields.iter().map(|field| self.observable.measure(field)).collect::<Result<Vec<_>>>()?;
        if values.is_empty() {
            return Ok(Tensor::zeros((links.batch()?, 0), candle_core::DType::F64, links.device())?);
        }
        Ok(Tensor::stack(&values, 1)?)
    }
}
