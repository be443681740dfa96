//! What is minimised for each scheme, and how good a model is.
//!
//! ```text
//! marginal         KL(q(φ) ‖ p(φ)), the determinant exact or its gradient estimated     [YUK (22), App. C]
//! pairs            KL(q(φ, ϕ) ‖ p(φ, ϕ)): autoregressive, joint, and the restricted joint model of Gibbs
//! given ϕ          E_ϕ KL(q(φ|ϕ) ‖ p(φ|ϕ)), ϕ from the heat bath at φ' ~ a marginal flow
//! ```

use std::fmt;
use std::rc::Rc;

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};
use latflow_action::Action;
use latflow_flow::train::{TrainStep, Trainer};
use latflow_flow::{Autoregressive, Distribution, ParamStore};
use latflow_lattice::Rng;
use latflow_observable::{LogWeights, ValueError};

use crate::config::Gradient;
use crate::model::{
    AnyDensity, Densities, GivenPseudofermion, Model, Pair, PenalizedTheory, ScalarDensity, Site, Trained,
};
use crate::theory::{BoxedTarget, ScalarTheory};

/// Samples that are judged at once.
const AT_ONCE: usize = 512;

/// What a training minimises.
pub(super) trait Objective {
    /// One gradient step.
    ///
    /// # Errors
    /// When training broke down.
    fn step(&self, trainer: &mut Trainer, parameters: &ParamStore) -> Result<TrainStep>;

    /// What a training step says by itself; `None` where its weights are estimates or belong to different ϕ.
    ///
    /// # Errors
    /// When a weight is not a number.
    fn judge_batch(&self, step: &TrainStep) -> Result<Option<Quality>>;

    /// Judges n fresh samples.
    ///
    /// # Errors
    /// When a density fails.
    fn judge(&self, n: usize, rng: &mut Rng) -> Result<Quality>;
}

/// That of scalar fields.
pub(super) struct ScalarObjective {
    theory: Rc<dyn ScalarTheory>,
    goal: Goal,
}

/// What is minimised.
enum Goal {
    Marginal {
        training: ScalarDensity,
        exact: ScalarDensity,
        target: BoxedTarget,
        batch_is_exact: bool,
    },
    Pairs {
        training: AnyDensity<Pair>,
        exact: AnyDensity<Pair>,
        target: PenalizedTheory,
        batch_is_exact: bool,
    },
    Given {
        density: GivenPseudofermion,
    },
}

/// How good a model is.
pub(super) struct Quality {
    /// Where there are weights, the effective sample size.
    pub ess: Option<f64>,
    /// `None` while one sample carries all the weight, as it may in the first steps.
    pub acceptance: Option<ValueError>,
    /// log w of every sample; empty where proposals depend on the chain.
    pub log_weights: Vec<f64>,
}

impl Quality {
    pub(super) fn of(log_weights: Vec<f64>) -> Result<Self> {
        let weights = LogWeights::new(&log_weights)?;
        Ok(Self { ess: Some(weights.ess()), acceptance: weights.acceptance().ok(), log_weights })
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ess) = self.ess {
            write!(f, "ESS {ess:.3} ")?;
        }
        match self.acceptance {
            Some(acceptance) => write!(f, "acceptance {:.2}", acceptance.value),
            None => write!(f, "acceptance unknown"),
        }
    }
}

impl ScalarObjective {
    /// # Errors
    /// When a model of φ given ϕ alone has no marginal flow to be shown pseudofermions of.
    pub(super) fn new(
        theory: Rc<dyn ScalarTheory>,
        site: &Site<'_>,
        model: &Model,
        start: Option<&Trained>,
    ) -> Result<Self> {
        Ok(Self { theory, goal: Goal::new(site, model, start)? })
    }
}

impl Goal {
    fn new(site: &Site<'_>, model: &Model, start: Option<&Trained>) -> Result<Self> {
        let train = &site.config.train;
        let target = |penalty| PenalizedTheory { theory: site.joint.clone(), penalty };
        Ok(match &model.densities {
            Densities::Marginal(density) => Self::Marginal {
                training: density.training.clone(),
                exact: density.density.clone(),
                target: site.theory.training_target(train.gradient, train.solver()),
                batch_is_exact: train.gradient == Gradient::Determinant && density.exact_in_training(),
            },
            Densities::Autoregressive(first, second) => {
                let with = |first: &ScalarDensity| {
                    let second = second.density.clone();
                    AnyDensity::new(Autoregressive { first: first.clone(), second })
                };
                Self::Pairs {
                    training: with(&first.training),
                    exact: with(&first.density),
                    target: target(second.penalty.clone()),
                    batch_is_exact: first.exact_in_training(),
                }
            }
            Densities::Joint(density) => Self::pairs(density, target(None)),
            Densities::Gibbs(gibbs) => match &gibbs.joint {
                Some(density) => Self::pairs(density, target(None)),
                None => {
                    let start = start.context(
                        "a decimation of φ given ϕ is shown pseudofermions of a marginal flow: name its training run \
                         or weights with --model",
                    )?;
                    let marginal = site.marginal()?;
                    start.restore(&marginal.parameters).context("[model.marginal]")?;
                    let Densities::Marginal(marginal) = marginal.densities else {
                        anyhow::bail!("[model.marginal] is no density of φ");
                    };
                    let (theory, density) = (site.joint.clone(), gibbs.density.clone());
                    Self::Given {
                        density: GivenPseudofermion { marginal: marginal.density, theory, density },
                    }
                }
            },
        })
    }

    fn pairs(density: &AnyDensity<Pair>, target: PenalizedTheory) -> Self {
        Self::Pairs { training: density.clone(), exact: density.clone(), target, batch_is_exact: true }
    }

    fn log_weights(&self, theory: &dyn ScalarTheory, n: usize, rng: &mut Rng) -> Result<Vec<f64>> {
        let weight = |action: Tensor, log_q: &Tensor| -> Result<Vec<f64>> {
            let log_q = log_q.detach().to_dtype(DType::F64)?;
            Ok((action.detach() + log_q)?.neg()?.to_vec1::<f64>()?)
        };
        match self {
            Self::Marginal { exact, .. } => {
                let (phi, log_q) = exact.sample_with_log_prob(n, &(), rng)?;
                weight(theory.action().action(&phi.detach())?, &log_q)
            }
            Self::Pairs { exact, target, .. } => {
                let ((phi, pf), log_q) = exact.sample_with_log_prob(n, &(), rng)?;
                let weights = weight(target.theory.action(&(phi.detach(), pf.detach()))?, &log_q)?;
                let constant = target.theory.log_normalisation();
                Ok(weights.into_iter().map(|w| w - constant).collect())
            }
            Self::Given { density } => {
                let (phi, pf) = density.start(n, rng)?;
                let (proposed, log_q) = density.density.sample_with_log_prob(n, &pf, rng)?;
                let new = weight(density.theory.action(&(proposed.detach(), pf.clone()))?, &log_q)?;
                let log_q = density.density.log_prob(&phi, &pf)?;
                let old = weight(density.theory.action(&(phi, pf))?, &log_q)?;
                Ok(new.iter().zip(old).map(|(new, old)| new - old).collect())
            }
        }
    }
}

impl Objective for ScalarObjective {
    fn step(&self, trainer: &mut Trainer, parameters: &ParamStore) -> Result<TrainStep> {
        Ok(match &self.goal {
            Goal::Marginal { training, target, .. } => trainer.step(training, target, parameters)?,
            Goal::Pairs { training, target, .. } => trainer.step(training, target, parameters)?,
            Goal::Given { density } => trainer.step(density, &density.theory, parameters)?,
        })
    }

    fn judge_batch(&self, step: &TrainStep) -> Result<Option<Quality>> {
        match &self.goal {
            Goal::Marginal { batch_is_exact: true, .. } => Quality::of(step.log_weights.clone()).map(Some),
            Goal::Pairs { batch_is_exact: true, target, .. } => {
                let constant = target.theory.log_normalisation();
                Quality::of(step.log_weights.iter().map(|w| w - constant).collect()).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn judge(&self, n: usize, rng: &mut Rng) -> Result<Quality> {
        let mut numbers = Vec::with_capacity(n);
        while numbers.len() < n {
            let some = AT_ONCE.min(n - numbers.len());
            numbers.extend(self.goal.log_weights(&*self.theory, some, rng)?);
        }
        match &self.goal {
            // log w here is the ratio of a proposal to the φ' that ϕ came from, which is a draw of p(φ|ϕ).
            Goal::Given { .. } => {
                Ok(Quality { ess: None, acceptance: mean_acceptance(&numbers), log_weights: Vec::new() })
            }
            Goal::Marginal { .. } | Goal::Pairs { .. } => Quality::of(numbers),
        }
    }
}

/// Mean of min(1, e^{log ratio}) with its error; `None` when a ratio is not a number.
fn mean_acceptance(log_ratios: &[f64]) -> Option<ValueError> {
    let n = log_ratios.len() as f64;
    // f64::min would turn a NaN into an acceptance.
    let accepted = || log_ratios.iter().map(|r| if r.is_nan() { f64::NAN } else { r.min(0.0).exp() });
    let mean = accepted().sum::<f64>() / n;
    let variance = accepted().map(|a| (a - mean).powi(2)).sum::<f64>() / (n - 1.0);
    mean.is_finite().then(|| ValueError::new(mean, (variance / n).sqrt()))
}
