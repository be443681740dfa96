//! Any Markov kernel with its state, as something that steps, can be saved and shows its fields.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use candle_core::Tensor;
use latflow_lattice::Rng;
use latflow_sampler::{LatentState, MarkovKernel, StepInfo};

/// A kernel in some state.
pub(super) trait Walk {
    /// One step of every chain.
    ///
    /// # Errors
    /// When a density cannot be evaluated.
    fn step(&mut self, rng: &mut Rng) -> Result<StepInfo>;

    /// φ `[chains, V]`.
    ///
    /// # Errors
    /// When a flow fails.
    fn field(&self) -> Result<Tensor>;

    /// The state, by name.
    ///
    /// # Errors
    /// When the device fails.
    fn save(&self) -> Result<BTreeMap<String, Tensor>>;

    /// Goes back to a state.
    ///
    /// # Errors
    /// When it does not fit.
    fn restore(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()>;
}

/// A state made of tensors.
pub(super) trait Saved: Sized {
    /// By name.
    fn save(&self) -> Result<BTreeMap<String, Tensor>>;

    /// A state like this one.
    fn load(&self, tensors: &BTreeMap<String, Tensor>) -> Result<Self>;
}

fn named(tensors: &BTreeMap<String, Tensor>, name: &str, like: &Tensor) -> Result<Tensor> {
    let found = tensors.get(name).with_context(|| format!("the checkpoint has no field `{name}`"))?;
    anyhow::ensure!(
        found.dims() == like.dims(),
        "{name}: expected {:?}, got {:?}",
        like.dims(),
        found.dims()
    );
    Ok(found.to_device(like.device())?)
}

impl Saved for Tensor {
    fn save(&self) -> Result<BTreeMap<String, Tensor>> {
        Ok(BTreeMap::from([("x".to_owned(), self.clone())]))
    }

    fn load(&self, tensors: &BTreeMap<String, Tensor>) -> Result<Self> {
        named(tensors, "x", self)
    }
}

impl Saved for LatentState<Tensor> {
    fn save(&self) -> Result<BTreeMap<String, Tensor>> {
        let weights = Tensor::from_slice(&self.log_weight, self.log_weight.len(), self.x.device())?;
        let fields = [("z", self.z.clone()), ("x", self.x.clone()), ("log_weight", weights)];
        Ok(fields.map(|(name, tensor)| (name.to_owned(), tensor)).into())
    }

    fn load(&self, tensors: &BTreeMap<String, Tensor>) -> Result<Self> {
        let weights = Tensor::from_slice(&self.log_weight, self.log_weight.len(), self.x.device())?;
        Ok(Self {
            z: named(tensors, "z", &self.z)?,
            x: named(tensors, "x", &self.x)?,
            log_weight: named(tensors, "log_weight", &weights)?.to_vec1::<f64>()?,
        })
    }
}

/// How φ follows from a state.
pub(super) type Field<K> = Box<dyn Fn(&K, &<K as MarkovKernel>::State) -> Result<Tensor>>;

/// A kernel and its present state, `None` only while it steps.
pub(super) struct Walker<K: MarkovKernel> {
    kernel: K,
    state: Option<K::State>,
    field: Field<K>,
}

impl<K: MarkovKernel> Walker<K>
where
    K::State: Saved,
{
    /// Starts at a state.
    pub(super) fn new(kernel: K, state: K::State, field: Field<K>) -> Self {
        Self { kernel, state: Some(state), field }
    }

    fn state(&self) -> Result<&K::State> {
        self.state.as_ref().context("a step failed before; the chain has no state")
    }
}

impl<K: MarkovKernel> Walk for Walker<K>
where
    K::State: Saved,
{
    fn step(&mut self, rng: &mut Rng) -> Result<StepInfo> {
        let state = self.state.take().context("a step failed before; the chain has no state")?;
        let (state, info) = self.kernel.step(state, rng)?;
        self.state = Some(state);
        Ok(info)
    }

    fn field(&self) -> Result<Tensor> {
        (self.field)(&self.kernel, self.state()?)
    }

    fn save(&self) -> Result<BTreeMap<String, Tensor>> {
        self.state()?.save()
    }

    fn restore(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        self.state = Some(self.state()?.load(tensors)?);
        Ok(())
    }
}
