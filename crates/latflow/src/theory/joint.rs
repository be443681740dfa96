//! The theory of both fields, p(φ, ϕ) = e^{−S_B(φ) − S_PF(φ, ϕ)} / Z, and what models of pseudofermions need of it.

use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use latflow_action::{Action, HeatBath, Phi4, Pseudofermion, TrainingTarget};
use latflow_fermion::{
    Dirac, EvenOddExpansion, EvenOddYukawa, FullExpansion, LogarithmicExpansion, StaggeredYukawa,
};
use latflow_flow::decimation::{LocalField, PseudofermionSource};
use latflow_flow::{Bijection, Distribution, ExponentialPseudofermion, Sites};
use latflow_lattice::{Parity, Rng};
use latflow_sampler::{LogEstimate, PseudofermionEstimate};

use crate::model::Pair;

/// One pseudofermion of the full operator or of its even/odd form. Counts are shared by clones.
#[derive(Debug, Clone)]
pub(crate) enum JointTheory {
    /// ϕ lives on all sites.
    Full(Pseudofermion<Phi4, StaggeredYukawa>),
    /// ϕ lives on the even sites.
    EvenOdd(Box<Pseudofermion<Phi4, EvenOddYukawa>>),
}

impl Action<Pair> for JointTheory {
    fn action(&self, pair: &Pair) -> latflow_action::Result<Tensor> {
        match self {
            Self::Full(theory) => theory.action(pair),
            Self::EvenOdd(theory) => theory.action(pair),
        }
    }
}

impl TrainingTarget<Pair> for JointTheory {
    fn surrogate_action(&self, pair: &Pair, _: &mut Rng) -> latflow_action::Result<Tensor> {
        self.action(pair)
    }
}

impl HeatBath<Tensor, Tensor> for JointTheory {
    fn draw(&self, phi: &Tensor, rng: &mut Rng) -> latflow_action::Result<Tensor> {
        match self {
            Self::Full(theory) => theory.draw(phi, rng),
            Self::EvenOdd(theory) => theory.draw(phi, rng),
        }
    }
}

impl JointTheory {
    /// log Z of both fields minus log Z of φ alone.
    pub(crate) fn log_normalisation(&self) -> f64 {
        match self {
            Self::Full(theory) => theory.log_normalisation(),
            Self::EvenOdd(theory) => theory.log_normalisation(),
        }
    }

    /// Where ϕ lives.
    pub(crate) fn sites(&self) -> Sites {
        match self {
            Self::Full(_) => Sites::All,
            Self::EvenOdd(_) => Sites::Of(Parity::Even),
        }
    }

    /// Complex components N of ϕ `[B, 2, N]`.
    pub(crate) fn components(&self) -> usize {
        match self {
            Self::Full(theory) => theory.dirac.components(),
            Self::EvenOdd(theory) => theory.dirac.components(),
        }
    }

    /// The exponential linear flow of some order.
    ///
    /// # Errors
    /// When the free operator is singular, or the order too high.
    pub(crate) fn exponential(
        &self,
        order: usize,
        device: &Device,
    ) -> Result<Box<dyn Bijection<Tensor, Tensor>>> {
        fn boxed<D: LogarithmicExpansion<Field = Tensor> + 'static>(
            expansion: D,
            order: usize,
        ) -> Result<Box<dyn Bijection<Tensor, Tensor>>> {
            Ok(Box::new(ExponentialPseudofermion::new(expansion, order)?))
        }
        match self {
            Self::Full(theory) => boxed(FullExpansion::new(&theory.dirac, device)?, order),
            Self::EvenOdd(theory) => boxed(EvenOddExpansion::new(&theory.dirac, device)?, order),
        }
    }

    /// What ϕ tells the even sites of φ.
    ///
    /// # Errors
    /// Without even/odd preconditioning.
    pub(crate) fn source(&self) -> Result<Arc<dyn LocalField>> {
        match self {
            Self::Full(_) => None,
            Self::EvenOdd(theory) => Some(theory.dirac.clone()),
        }
        .map(|dirac| Arc::new(PseudofermionSource(dirac)) as Arc<dyn LocalField>)
        .context("a pseudofermion source of the even sites needs even_odd = true")
    }

    /// Estimates of e^{−S(φ)} from `draws` pseudofermions of `conditional` each.
    ///
    /// # Errors
    /// When there are no draws.
    pub(crate) fn estimate<Q>(&self, conditional: Q, draws: usize) -> Result<Box<dyn LogEstimate<Tensor>>>
    where
        Q: Distribution<Tensor, Tensor> + 'static,
    {
        Ok(match self {
            Self::Full(theory) => Box::new(PseudofermionEstimate::new(theory.clone(), conditional, draws)?),
            Self::EvenOdd(theory) => {
                Box::new(PseudofermionEstimate::new((**theory).clone(), conditional, draws)?)
            }
        })
    }
}
