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
use latflow_fermion::{Dirac, EvenOddWilson, WilsonExpansion, regulated_quadratic_form};
use latflow_flow::train::{TrainStep, Trainer};
use latflow_flow::{Autoregressive, Distribution, Fixed, ParamStore};
use latflow_lattice::{Links, Rng};

use super::objective::{Objective, Quality};
use crate::config::{Config, Gradient, PseudofermionSites};
use crate::model::{Both, GaugeModel, LinkDensity, PseudofermionDensity};
use crate::theory::{BoxedTarget, Qcd};

/// Configurations that are judged at once.
const AT_ONCE: usize = 64;

/// q(U) against the gauge action and the determinant.
struct LinksObjective {
    density: Both<LinkDensity>,
    target: BoxedTarget<Links>,
    judged: Box<dyn Action<Links>>,
}

/// q(U) q(ϕ|U) against the theory of both.
struct PseudofermionObjective<D> {
    training: Autoregressive<Fixed<LinkDensity>, PseudofermionDensity>,
    sampling: Autoregressive<LinkDensity, PseudofermionDensity>,
    target: Regulated<D>,
}

/// The joint theory of DD† + μ₀, which training sees.
struct Regulated<D> {
    theory: Pseudofermion<WilsonGauge, D>,
    shift: f64,
}

impl<D: Dirac<Field = Links>> TrainingTarget<(Links, Tensor)> for Regulated<D> {
    fn surrogate_action(&self, pair: &(Links, Tensor), rng: &mut Rng) -> latflow_action::Result<Tensor> {
        let Self { theory, shift } = self;
        if *shift == 0.0 {
            return theory.surrogate_action(pair, rng);
        }
        let (links, pf) = pair;
        let (form, _) = regulated_quadratic_form(&theory.dirac, links, pf, *shift, &theory.solver)?;
        Ok((theory.bosonic.action(links)? + form)?)
    }
}

impl<D: Dirac<Field = Links> + Clone + 'static> PseudofermionObjective<D> {
    fn boxed(
        links: LinkDensity,
        pseudofermion: Both<PseudofermionDensity>,
        theory: Pseudofermion<WilsonGauge, D>,
        shift: f64,
    ) -> Box<dyn Objective> {
        Box::new(Self {
            // Nothing is ever asked of q(U) that would need its history.
            training: Autoregressive { first: Fixed(links.clone()), second: pseudofermion.training },
            sampling: Autoregressive { first: links, second: pseudofermion.sampling },
            target: Regulated { theory, shift },
        })
    }
}

/// The objective of a model.
///
/// # Errors
/// When the theory has no operators for it.
pub(super) fn objective(config: &Config, qcd: &Qcd, model: &GaugeModel) -> Result<Box<dyn Objective>> {
    let (gauge, train, density) = (qcd.gauge(), &config.train, model.links.clone());
    if let Some(pseudofermion) = model.pseudofermion.clone() {
        let quarks = qcd.sea().context("model.scheme: without flavours there are no pseudofermions")?;
        let (links, solver, shift) = (density.sampling, train.solver(), train.shift);
        return Ok(match config.model.ptcn.sites {
            PseudofermionSites::Even => {
                let theory = Pseudofermion::new(gauge, EvenOddWilson::new(quarks), solver);
                PseudofermionObjective::boxed(links, pseudofermion, theory, shift)
            }
            PseudofermionSites::All => {
                let theory = Pseudofermion::new(gauge, quarks.clone(), solver);
                PseudofermionObjective::boxed(links, pseudofermion, theory, shift)
            }
        });
    }
    let Some(quarks) = qcd.sea() else {
        let target = Box::new(latflow_action::Exact(gauge.clone()));
        return Ok(Box::new(LinksObjective { density, target, judged: Box::new(gauge) }));
    };
    let dirac = EvenOddWilson::new(quarks);
    let expanded = || -> Result<_> {
        let fermions = ExpandedDeterminant::new(WilsonExpansion::new(&dirac)?, CLOSED_ORDER)?;
        Ok(Sum(gauge.clone(), fermions))
    };
    let target: BoxedTarget<Links> = match train.gradient {
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
    Ok(Box::new(LinksObjective { density, target, judged: Box::new(expanded()?) }))
}

/// Order of the expansion, in pairs of hops, whose traces are known.
const CLOSED_ORDER: usize = 2;

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

impl<D: Dirac<Field = Links> + Clone> Objective for PseudofermionObjective<D> {
    fn step(&self, trainer: &mut Trainer, parameters: &ParamStore) -> Result<TrainStep> {
        Ok(trainer.step(&self.training, &self.target, parameters)?)
    }

    fn judge_batch(&self, step: &TrainStep) -> Result<Option<Quality>> {
        let constant = self.target.theory.log_normalisation();
        Quality::of(step.log_weights.iter().map(|w| w - constant).collect()).map(Some)
    }

    fn judge(&self, n: usize, rng: &mut Rng) -> Result<Quality> {
        let constant = self.target.theory.log_normalisation();
        judged(n, |some| {
            let (pair, log_q) = self.sampling.sample_with_log_prob(some, &(), rng)?;
            let weights = self.target.theory.action(&pair)?.affine(-1.0, -constant)?;
            minus(weights.to_vec1()?, &log_q)
        })
    }
}
