//! Sources of independent proposals: φ with its log weight, and what was measured on it.
//!
//! ```text
//! marginal          log w = −S(φ) − log q(φ)                                          [YUK (15)]
//! pseudo-marginal   log ŵ = log p̂(φ) − log q(φ),  E[p̂] = e^{−S}, drawn once          [YUK Sec. III A]
//! pairs             log w = −S(φ, ϕ) − log q(φ, ϕ) − constant                         [YUK (18), (19)]
//! ```
//!
//! With the constant, log Z is that of φ alone in every scheme. Of a pair only φ is kept: ϕ has done its work once the weight
//! is known.

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};
use latflow_flow::{Autoregressive, Distribution};
use latflow_lattice::Rng;
use latflow_sampler::{IndependenceMetropolis, LogEstimate};

use crate::config::Method;
use crate::model::{AnyDensity, Densities, MarginalDensity, Model, Pair, Site};
use crate::theory::{JointTheory, ScalarTheory};

/// Independent draws.
pub(super) struct Proposed {
    /// φ `[n, V]`, without autodiff history.
    pub phi: Tensor,
    /// log w of each.
    pub log_weight: Vec<f64>,
    /// One row a configuration.
    pub observables: Vec<Vec<f64>>,
}

/// Where they come from.
pub(super) enum Source {
    Marginal(MarginalDensity),
    PseudoMarginal { proposal: MarginalDensity, estimate: Box<dyn LogEstimate<Tensor>> },
    Pairs { kernel: IndependenceMetropolis<AnyDensity<Pair>, JointTheory, Pair>, log_normalisation: f64 },
}

impl Source {
    /// The source that a configuration asks for, of a model with its trained parameters, and the name of the model.
    ///
    /// # Errors
    /// When the method needs what the model does not have.
    pub(super) fn new(site: &Site<'_>, model: Model) -> Result<(Self, String)> {
        let sample = &site.config.sample;
        let pairs = |density| Self::Pairs {
            kernel: IndependenceMetropolis::new(density, site.joint.clone()),
            log_normalisation: site.joint.log_normalisation(),
        };
        let pseudo = sample.method == Method::PseudoMarginal;
        Ok(match model.densities {
            Densities::Marginal(proposal) if pseudo => {
                let (conditional, name) = site.untrained_conditional()?;
                let estimate = site.joint.estimate(conditional.density, sample.draws)?;
                (Self::PseudoMarginal { proposal, estimate }, format!("{} + {name}", model.name))
            }
            Densities::Autoregressive(proposal, conditional) if pseudo => {
                let estimate = site.joint.estimate(conditional.density, sample.draws)?;
                (Self::PseudoMarginal { proposal, estimate }, model.name)
            }
            Densities::Marginal(proposal) => (Self::Marginal(proposal), model.name),
            Densities::Autoregressive(first, second) => {
                let density = Autoregressive { first: first.density, second: second.density };
                (pairs(AnyDensity::new(density)), model.name)
            }
            Densities::Joint(density) => (pairs(density), model.name),
            Densities::Gibbs(_) => None.context("q(φ|ϕ) makes no independent proposals")?,
        })
    }

    /// n draws.
    ///
    /// # Errors
    /// When a density cannot be evaluated.
    pub(super) fn propose(&self, theory: &dyn ScalarTheory, n: usize, rng: &mut Rng) -> Result<Proposed> {
        let scalar = |proposal: &MarginalDensity, rng: &mut Rng| -> Result<(Tensor, Vec<f64>)> {
            let (phi, log_q) = proposal.sample_with_log_prob(n, &(), rng)?;
            Ok((phi.detach(), log_q.detach().to_dtype(DType::F64)?.to_vec1::<f64>()?))
        };
        let minus = |a: Vec<f64>, log_q: Vec<f64>| a.iter().zip(log_q).map(|(a, q)| a - q).collect();
        let (phi, log_weight) = match self {
            Self::Marginal(proposal) => {
                let (phi, log_q) = scalar(proposal, rng)?;
                // The action shares a decomposition with the observables.
                let evaluation = theory.evaluate(&phi)?;
                let log_p = evaluation.action.iter().map(|s| -s).collect();
                let log_weight = minus(log_p, log_q);
                return Ok(Proposed { phi, log_weight, observables: evaluation.observables });
            }
            Self::PseudoMarginal { proposal, estimate } => {
                let (phi, log_q) = scalar(proposal, rng)?;
                let log_p = estimate.log_estimate(&phi, rng)?;
                let log_weight = minus(log_p, log_q);
                (phi, log_weight)
            }
            Self::Pairs { kernel, log_normalisation } => {
                let proposed = kernel.propose(n, rng)?;
                let log_weight = proposed.log_weight.iter().map(|w| w - log_normalisation).collect();
                (proposed.x.0, log_weight)
            }
        };
        let observables = theory.evaluate(&phi)?.observables;
        Ok(Proposed { phi, log_weight, observables })
    }
}
