//! Trainable parameters: named, ordered, seeded.

use crate::{Error, Result};
use candle_core::{DType, Device, Tensor, Var};
use latflow_lattice::{Rng, Streams};
use std::collections::BTreeMap;

/// All parameters of a model, in alphabetical order. Initial values come from one stream a name, so that adding a layer
/// never changes another layer's start.
#[derive(Debug)]
pub struct ParamStore {
    vars: BTreeMap<String, Var>,
    streams: Streams,
    dtype: DType,
    device: Device,
}

impl ParamStore {
    /// An empty store whose parameters will have the given type.
    pub fn new(streams: Streams, dtype: DType, device: &Device) -> Self {
        Self { vars: BTreeMap::new(), streams, dtype, device: device.clone() }
    }

    /// Element type of the parameters.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where the parameters live.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Creates a parameter from values drawn with its own stream `init/<name>`.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn create(
        &mut self,
        name: &str,
        shape: &[usize],
        init: impl FnOnce(&mut Rng) -> Vec<f64>,
    ) -> Result<Tensor> {
        if self.vars.contains_key(name) {
            return Err(Error::DuplicateParameter { name: name.to_owned() });
        }
        let values = init(&mut self.streams.stream(&format!("init/{name}"), 0));
        let var = Var::from_tensor(&Tensor::from_vec(values, shape, &self.device)?.to_dtype(self.dtype)?)?;
        let tensor = var.as_tensor().clone();
        self.vars.insert(name.to_owned(), var);
        Ok(tensor)
    }

    /// Names and variables, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Var)> {
        self.vars.iter()
    }

    /// Number of trainable numbers.
    pub fn count(&self) -> usize {
        self.vars.values().map(|v| v.elem_count()).sum()
    }

    /// A copy of every parameter.
    ///
    /// # Errors
    /// When the device fails.
    pub fn snapshot(&self) -> Result<BTreeMap<String, Tensor>> {
        self.vars.iter().map(|(n, v)| Ok((n.clone(), v.as_tensor().detach().copy()?))).collect()
    }

    /// Overwrites one parameter.
    ///
    /// # Errors
    /// When the name is not in the model or the shape differs.
    pub fn set(&self, name: &str, value: &Tensor) -> Result<()> {
        match self.vars.get(name) {
            None => Err(Error::Checkpoint { what: format!("parameter {name} is not in the model") }),
            Some(var) if var.dims() != value.dims() => {
                let (expected, got) = (var.dims(), value.dims());
                Err(Error::Checkpoint {
                    what: format!("parameter {name}: expected shape {expected:?}, got {got:?}"),
                })
            }
            Some(var) => Ok(var.set(&value.to_dtype(var.dtype())?.to_device(&self.device)?)?),
        }
    }

    /// Overwrites every parameter.
    ///
    /// # Errors
    /// When names or shapes differ from the model's; then nothing is changed.
    pub fn restore(&self, values: &BTreeMap<String, Tensor>) -> Result<()> {
        let differ = |what| Err(Error::Checkpoint { what });
        if let Some(name) = values.keys().find(|n| !self.vars.contains_key(*n)) {
            return differ(format!("parameter {name} is not in the model"));
        }
        for (name, var) in &self.vars {
            match values.get(name) {
                None => return differ(format!("parameter {name} is missing")),
                Some(v) if v.dims() != var.dims() => {
                    return differ(format!(
                        "parameter {name}: expected shape {:?}, got {:?}",
                        var.dims(),
                        v.dims()
                    ));
                }
                Some(v) if v.dtype() != var.dtype() => {
                    return differ(format!(
                        "parameter {name}: expected {:?}, got {:?}",
                        var.dtype(),
                        v.dtype()
                    ));
                }
                Some(_) => {}
            }
        }
        for (name, var) in &self.vars {
            var.set(&values[name].to_device(&self.device)?)?;
        }
        Ok(())
    }
}
