//! What is minimised for models of links [QCD Sec. 3.1].
//!
//! ```text
//! gauge                 KL(q(U) ‖ p(U)), the determinant's gradient estimated or expanded
//! gauge_pseudofermion   KL(q(U) q(ϕ|U) ‖ p(U, ϕ)) at fixed q(U)
//! ```
//!
//! Both quarks of a pair are in the determinant. The effective sample size of the links alone is that of the expanded
//! determinant, whose error is far below what a flow leaves; sampling weights with the exact one.

use anyhow::{Context, Result};
use candle_core::Tensor;
use latflow_action::{
    Action, ExpandedDeterminant, Pseudofermion, StochasticDeterminant, Sum, TrainingTarget, WilsonGauge,
};
use latflow_fermion::{Dirac, EvenOddWilson, Wilson, WilsonExpansion, regulated_quadratic_form};
use latflow_flow::train::{TrainStep, Trainer};
use latflow_flow::{Autoregressive, Distribution, Fixed, ParamStore};
use latflow_lattice::{Links, Rng};

use super::objective::{Objective, Quality};
use crate::config::{COLOURS, Config, Gradient, PseudofermionSites};
use crate::model::{Both, GaugeModel, LinkDensity, PseudofermionDensity};
use crate::theory::{BoxedTarget, FieldTheory, Qcd};

/// Configurations that are judged at once.
const AT_ONCE: usize = 64;

/// q(U) against the gauge action and the determinant.
pub(super) struct LinksObjective {
    density: Both<LinkDensity>,
    target: BoxedTarget<Links>,
    judged: Box<dyn Action<Links>>,
}

/// q(U) q(ϕ|U) against the theory of both.
pub(super) struct PseudofermionObjective {
    training: Autoregressive<Fixed<LinkDensity>, PseudofermionDensity>,
    sampling: Autoregressive<LinkDensity, PseudofermionDensity>,
    theory: JointTarget,
}

/// The theory of links and of a pseudofermion on some of the sites, and μ₀ of its training.
struct JointTarget {
    theory: Sea,
    shift: f64,
}

enum Sea {
    Even(Pseudofermion<WilsonGauge, EvenOddWilson>),
    All(Pseudofermion<WilsonGauge, Wilson>),
}

impl TrainingTarget<(Links, Tensor)> for JointTarget {
    fn surrogate_action(&self, pair: &(Links, Tensor), rng: &mut Rng) -> latflow_action::Result<Tensor> {
        match &self.theory {
            Sea::Even(theory) => surrogate(theory, pair, self.shift, rng),
            Sea::All(theory) => surrogate(theory, pair, self.shift, rng),
        }
    }
}

/// The joint action of DD† + μ₀.
fn surrogate<D: Dirac<Field = Links>>(
    theory: &Pseudofermion<WilsonGauge, D>,
    pair: &(Links, Tensor),
    shift: f64,
    rng: &mut Rng,
) -> latflow_action::Result<Tensor> {
    if shift == 0.0 {
        return theory.surrogate_action(pair, rng);
    }
    let (links, pf) = pair;
    let (form, _) = regulated_quadratic_form(&theory.dirac, links, pf, shift, &theory.solver)?;
    Ok((theory.bosonic.action(links)? + form)?)
}

impl JointTarget {
    fn log_normalisation(&self) -> f64 {
        match &self.theory {
            Sea::Even(theory) => theory.log_normalisation(),
            Sea::All(theory) => theory.log_normalisation(),
        }
    }

    /// −S of links and pseudofermions.
    fn negative_action(&self, pair: &(Links, Tensor)) -> Result<Vec<f64>> {
        let action = match &self.theory {
            Sea::Even(theory) => theory.action(pair)?,
            Sea::All(theory) => theory.action(pair)?,
        };
        Ok(action.neg()?.to_vec1()?)
    }
}

/// The objective of a model.
///
/// # Errors
/// When the theory has no operators for it.
pub(super) fn objective(config: &Config, qcd: &Qcd, model: GaugeModelParts) -> Result<Box<dyn Objective>> {
    let gauge = WilsonGauge::new(qcd.lattice(), COLOURS, qcd.beta())?;
    let train = &config.train;
    let GaugeModelParts { links, pseudofermion } = model;
    if let Some(pseudofermion) = pseudofermion {
        let quarks = qcd.sea().context("model.scheme: without flavours there are no pseudofermions")?;
        let theory = match config.model.ptcn.sites {
            PseudofermionSites::Even => {
                Sea::Even(Pseudofermion::new(gauge, EvenOddWilson::new(quarks), train.solver()))
            }
            PseudofermionSites::All => Sea::All(Pseudofermion::new(gauge, quarks.clone(), train.solver())),
        };
        return Ok(Box::new(PseudofermionObjective {
            // Nothing is ever asked of q(U) that would need its history.
            training: Autoregressive { first: Fixed(links.sampling.clone()), second: pseudofermion.training },
            sampling: Autoregressive { first: links.sampling, second: pseudofermion.sampling },
            theory: JointTarget { theory, shift: train.shift },
        }));
    }
    let Some(quarks) = qcd.sea() else {
        let target = BoxedTarget(Box::new(latflow_action::Exact(gauge.clone())));
        return Ok(Box::new(LinksObjective { density: links, target, judged: Box::new(gauge) }));
    };
    let dirac = EvenOddWilson::new(quarks);
    let expanded = || -> Result<_> {
        let fermions = ExpandedDeterminant::new(WilsonExpansion::new(&dirac)?, CLOSED_ORDER)?;
        Ok(Sum(gauge.clone(), fermions))
    };
    let target: Box<dyn TrainingTarget<Links>> = match train.gradient {
        Gradient::Stochastic => Box::new(StochasticDeterminant {
            bosonic: gauge.clone(),
            dirac: dirac.clone(),
            solver: train.solver(),
            draws: 1,
            shift: train.shift,
        }),
        // The exact one is refused in configurations.
        Gradient::Expansion | Gradient::Determinant => Box::new(latflow_action::Exact(expanded()?)),
    };
    let (target, judged) = (BoxedTarget(target), Box::new(expanded()?));
    Ok(Box::new(LinksObjective { density: links, target, judged }))
}

/// Order of the expansion, in pairs of hops, whose traces are known.
const CLOSED_ORDER: usize = 2;

/// What an objective needs of a [`GaugeModel`].
pub(super) struct GaugeModelParts {
    links: Both<LinkDensity>,
    pseudofermion: Option<Both<PseudofermionDensity>>,
}

impl GaugeModelParts {
    /// Takes a model apart: its densities, and the parameters with the name.
    pub(super) fn of(model: GaugeModel) -> (Self, ParamStore, Option<ParamStore>, String) {
        let GaugeModel { links, pseudofermion, parameters, fixed, name, .. } = model;
        (Self { links, pseudofermion }, parameters, fixed, name)
    }
}

/// Collects n log-weights, some at once.
fn judged(n: usize, mut some: impl FnMut(usize) -> Result<Vec<f64>>) -> Result<Quality> {
    let mut all = Vec::with_capacity(n);
    while all.len() < n {
        all.extend(some(AT_ONCE.min(n - all.len()))?);
    }
    Quality::of(all)
}

fn minus(weights: Vec<f64>, log_q: &Tensor) -> Result<Vec<f64>> {
    let log_q: Vec<f64> = log_q.to_vec1()?;
    Ok(weights.into_iter().zip(log_q).map(|(w, q)| w - q).collect())
}

impl Objective for LinksObjective {
    fn step(&self, trainer: &mut Trainer, parameters: &ParamStore) -> Result<TrainStep> {
        Ok(trainer.step(&self.density.training, &self.target, parameters)?)
    }

    fn judge_batch(&self, _: &TrainStep) -> Result<Option<Quality>> {
        Ok(None)
    }

    fn judge(&self, n: usize, rng: &mut Rng) -> Result<Quality> {
        judged(n, |some| {
            let (links, log_q) = self.density.sampling.sample_with_log_prob(some, &(), rng)?;
            minus(self.judged.action(&links)?.neg()?.to_vec1()?, &log_q)
        })
    }
}

impl Objective for PseudofermionObjective {
    fn step(&self, trainer: &mut Trainer, parameters: &ParamStore) -> Result<TrainStep> {
        Ok(trainer.step(&self.training, &self.theory, parameters)?)
    }

    fn judge_batch(&self, step: &TrainStep) -> Result<Option<Quality>> {
        let constant = self.theory.log_normalisation();
        Quality::of(step.log_weights.iter().map(|w| w - constant).collect()).map(Some)
    }

    fn judge(&self, n: usize, rng: &mut Rng) -> Result<Quality> {
        let constant = self.theory.log_normalisation();
        judged(n, |some| {
            let (pair, log_q) = self.sampling.sample_with_log_prob(some, &(), rng)?;
            let weights = self.theory.negative_action(&pair)?;
            minus(weights.into_iter().map(|w| w - constant).collect(), &log_q)
        })
    }
}
