//! Reverse-KL training of a flow against any target.
//!
//! ```text
//! L = E_{x~q} [ log q(x) + S(x) ] = D_KL(q‖p) − log Z                              [YUK (21), (22)]
//! ```
//!
//! S may be a surrogate whose gradient is an unbiased estimate [YUK App. C].

use super::{Adam, Clip, Schedule};
use crate::{Distribution, Error, ParamStore, Result};
use candle_core::{DType, Tensor};
use latflow_action::TrainingTarget;
use latflow_lattice::{Rng, Streams};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The optimiser's side of a training run; the model's parameters live in its [`ParamStore`].
#[derive(Debug)]
pub struct Trainer {
    adam: Adam,
    schedule: Schedule,
    clip: Clip,
    batch: usize,
    prior: Rng,
    target: Rng,
}

/// What a checkpoint holds beside the tensors: the number of updates and every random stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainState {
    /// Updates done.
    pub step: u64,
    /// Stream of the prior's noise.
    pub prior: Rng,
    /// Stream of the target's noise.
    pub target: Rng,
}

/// What happened in one step.
#[derive(Debug, Clone)]
pub struct TrainStep {
    /// Steps done, this one included.
    pub step: u64,
    /// Mean of log q + S over the batch.
    pub loss: f64,
    /// −S − log q of the batch: weights, when the target's value is the action (not with a stochastic surrogate).
    pub log_weights: Vec<f64>,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// The learning rate used.
    pub rate: f64,
}

impl Trainer {
    /// A trainer at step 0, with streams `train/prior` and `train/target`.
    ///
    /// # Errors
    /// When the batch is empty.
    pub fn new(
        params: &ParamStore,
        schedule: Schedule,
        clip: Clip,
        batch: usize,
        streams: Streams,
    ) -> Result<Self> {
        if batch == 0 {
            return Err(Error::Parameter { name: "batch", value: 0.0, expected: "at least 1" });
        }
        Ok(Self {
            adam: Adam::new(params)?,
            schedule,
            clip,
            batch,
            prior: streams.stream("train/prior", 0),
            target: streams.stream("train/target", 0),
        })
    }

    /// Updates done.
    pub fn steps_done(&self) -> u64 {
        self.adam.updates()
    }

    /// One gradient step. Parameters and moments change only when loss and gradient are finite.
    ///
    /// # Errors
    /// [`Error::NotFinite`] when training broke down.
    pub fn step(
        &mut self,
        model: &impl Distribution<Tensor>,
        target: &impl TrainingTarget<Tensor>,
        params: &ParamStore,
    ) -> Result<TrainStep> {
        let step = self.adam.updates();
        let (x, log_q) = model.sample_with_log_prob(self.batch, &(), &mut self.prior)?;
        let action = target.surrogate_action(&x, &mut self.target)?;
        let negative_log_weight = (log_q.to_dtype(DType::F64)? + action)?;
        let loss = negative_log_weight.mean_all()?;
        let value = loss.to_scalar::<f64>()?;
        if !value.is_finite() {
            return Err(Error::NotFinite { step, what: "loss" });
        }
        let mut store = loss.backward()?;
        let mut gradients = BTreeMap::new();
        for (name, var) in params.iter() {
            if let Some(g) = store.remove(var) {
                gradients.insert(name.clone(), g.detach());
            }
        }
        let gradient_norm = self.clip.apply(&mut gradients)?;
        if !gradient_norm.is_finite() {
            return Err(Error::NotFinite { step, what: "gradient" });
        }
        let rate = self.schedule.rate(step);
        self.adam.step(params, &gradients, rate)?;
        let log_weights = negative_log_weight.neg()?.to_vec1::<f64>()?;
        Ok(TrainStep { step: step + 1, loss: value, log_weights, gradient_norm, rate })
    }

    /// What to archive: the state, and the parameters and moments by name.
    ///
    /// # Errors
    /// When the device fails.
    pub fn checkpoint(&self, params: &ParamStore) -> Result<(TrainState, BTreeMap<String, Tensor>)> {
        let mut tensors = self.adam.tensors();
        for (name, value) in params.snapshot()? {
            tensors.insert(format!("param/{name}"), value);
        }
        let (prior, target) = (self.prior.clone(), self.target.clone());
        Ok((TrainState { step: self.adam.updates(), prior, target }, tensors))
    }

    /// Goes back to an archived state, bit by bit.
    ///
    /// # Errors
    /// When the tensors do not fit the model.
    pub fn restore(
        &mut self,
        params: &ParamStore,
        state: &TrainState,
        tensors: &BTreeMap<String, Tensor>,
    ) -> Result<()> {
        params.restore(&model_parameters(tensors))?;
        self.adam.restore(tensors, state.step)?;
        self.prior = state.prior.clone();
        self.target = state.target.clone();
        Ok(())
    }
}

/// The model's parameters among the tensors of a checkpoint, by their name in the store.
pub fn model_parameters(tensors: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    tensors.iter().filter_map(|(n, t)| Some((n.strip_prefix("param/")?.to_owned(), t.clone()))).collect()
}
