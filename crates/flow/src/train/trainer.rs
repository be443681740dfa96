//! Reverse-KL training of a flow against any target.
//!
//! ```text
//! L = E_{x~q} [ log q(x) + S(x) ] = D_KL(q‖p) − log Z                              [YUK (21), (22)]
//! ```
//!
//! S may be a surrogate whose gradient is an unbiased estimate [YUK App. C]. The gradient of L in the parameters θ of
//! x = f_θ(z) comes in two unbiased forms:
//!
//! ```text
//! total:  ∂L/∂θ = E [ d/dθ (log q_θ(f_θ(z)) + S(f_θ(z))) ]
//! path:   ∂L/∂θ = E [ ∂_x (log q_θ(x) + S(x)) · ∂f_θ/∂θ ]
//! ```
//!
//! They differ by the score E[∂_θ log q_θ(x)] = 0. The path form costs an inverse pass of the flow, and its noise vanishes as
//! q → p: what lets a nearly perfect flow become better (Roeder, Wu and Duvenaud 2017).

use super::{Adam, Clip, Schedule};
use crate::{Distribution, Error, ParamStore, Result};
use candle_core::{DType, Tensor, Var};
use latflow_action::TrainingTarget;
use latflow_lattice::{Configuration, Rng, Streams, sum_per_configuration};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The optimiser's side of a training run; the model's parameters live in its [`ParamStore`].
#[derive(Debug)]
pub struct Trainer {
    adam: Adam,
    schedule: Schedule,
    clip: Clip,
    estimator: Estimator,
    batch: usize,
    prior: Rng,
    target: Rng,
}

/// How the gradient of the loss is estimated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Estimator {
    /// The total derivative of log q + S.
    #[default]
    Total,
    /// Through the samples alone.
    Path,
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
            estimator: Estimator::default(),
            batch,
            prior: streams.stream("train/prior", 0),
            target: streams.stream("train/target", 0),
        })
    }

    /// Uses the given form of the gradient.
    #[must_use]
    pub fn with_estimator(mut self, estimator: Estimator) -> Self {
        self.estimator = estimator;
        self
    }

    /// Uses the given ε of the optimiser.
    ///
    /// # Errors
    /// When ε is not positive and finite.
    pub fn with_adam_epsilon(mut self, epsilon: f64) -> Result<Self> {
        self.adam = self.adam.with_epsilon(epsilon)?;
        Ok(self)
    }

    /// Updates done.
    pub fn steps_done(&self) -> u64 {
        self.adam.updates()
    }

    /// One gradient step. Parameters and moments change only when loss and gradient are finite.
    ///
    /// # Errors
    /// [`Error::NotFinite`] when training broke down.
    pub fn step<X: Configuration>(
        &mut self,
        model: &impl Distribution<X>,
        target: &impl TrainingTarget<X>,
        params: &ParamStore,
    ) -> Result<TrainStep> {
        let step = self.adam.updates();
        let (x, log_q) = model.sample_with_log_prob(self.batch, &(), &mut self.prior)?;
        let (negative_log_weight, surrogate) = match self.estimator {
            Estimator::Total => {
                let action = target.surrogate_action(&x, &mut self.target)?;
                let negative_log_weight = (log_q.to_dtype(DType::F64)? + action)?;
                let surrogate = negative_log_weight.clone();
                (negative_log_weight, surrogate)
            }
            Estimator::Path => path(model, target, &x, &mut self.target)?,
        };
        let value = negative_log_weight.mean_all()?.to_scalar::<f64>()?;
        if !value.is_finite() {
            return Err(Error::NotFinite { step, what: "loss" });
        }
        let mut store = surrogate.mean_all()?.backward()?;
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

/// log q + S, and a tensor of the same shape whose gradient is the path derivative.
fn path<X: Configuration>(
    model: &impl Distribution<X>,
    target: &impl TrainingTarget<X>,
    x: &X,
    noise: &mut Rng,
) -> Result<(Tensor, Tensor)> {
    let mut vars = Vec::new();
    let fixed = x.map(&mut |t| {
        let var = Var::from_tensor(&t.detach())?;
        let tensor = var.as_tensor().clone();
        vars.push(var);
        Ok(tensor)
    })?;
    let log_q = model.log_prob(&fixed, &())?.to_dtype(DType::F64)?;
    let value = (log_q + target.surrogate_action(&fixed, noise)?)?;
    let gradients = value.sum_all()?.backward()?;
    let mut vars = vars.iter();
    let mut surrogate = value.zeros_like()?;
    x.map(&mut |t| {
        if let Some(gradient) = vars.next().and_then(|var| gradients.get(var)) {
            surrogate = (&surrogate + sum_per_configuration(&(t * gradient.detach())?)?)?;
        }
        Ok(t.clone())
    })?;
    Ok((value.detach(), surrogate))
}
