//! The quarks' share of a configuration's weight: estimates by pseudofermions of a flow, and the exact determinant.

use anyhow::Result;
use candle_core::Device;
use latflow_action::{Pseudofermion, WilsonGauge};
use latflow_fermion::{ConjugateGradient, DenseWilson, Dirac, EvenOddWilson, Wilson, WilsonExpansion};
use latflow_flow::{ExponentialPseudofermion, FlowModel, Gaussian};
use latflow_lattice::{Configuration, Links, Rng};
use latflow_sampler::PseudofermionEstimate;

use super::GaugeFlow;
use crate::config::PseudofermionSites;
use crate::model::{PseudofermionDensity, Shared};

/// Estimates of the determinant, on whatever sites.
trait Estimate {
    /// One logarithm a configuration and draw.
    fn log_weights(&self, links: &Links, draws: usize, rng: &mut Rng) -> latflow_sampler::Result<Vec<f64>>;

    /// Mean number of conjugate gradient iterations a solve.
    fn iterations(&self) -> f64;
}

impl<D: Dirac<Field = Links> + Clone> Estimate
    for PseudofermionEstimate<WilsonGauge, D, PseudofermionDensity>
{
    fn log_weights(&self, links: &Links, draws: usize, rng: &mut Rng) -> latflow_sampler::Result<Vec<f64>> {
        Self::log_weights(self, links, draws, rng)
    }

    fn iterations(&self) -> f64 {
        self.theory.mean_iterations()
    }
}

/// The estimate by pseudofermions of a density.
fn estimate<D: Dirac<Field = Links> + Clone + 'static>(
    gauge: WilsonGauge,
    dirac: D,
    solver: ConjugateGradient,
    density: PseudofermionDensity,
) -> Result<Box<dyn Estimate>> {
    Ok(Box::new(PseudofermionEstimate::new(Pseudofermion::new(gauge, dirac, solver), density, 1)?))
}

/// What weights need of the quarks.
pub(super) struct Fermions {
    exact: Option<DenseWilson>,
    estimate: Box<dyn Estimate>,
    draws: Vec<u64>,
}

/// Configurations whose pseudofermions are solved for at once.
const TOGETHER: usize = 64;

impl Fermions {
    /// # Errors
    /// When there is no flow of pseudofermions of the order that is asked for.
    pub(super) fn new(flow: &GaugeFlow, quarks: &Wilson, solver: ConjugateGradient) -> Result<Self> {
        let config = &flow.config;
        let (gauge, dirac) = (flow.qcd.gauge(), EvenOddWilson::new(quarks));
        let estimate = match flow.conditional.clone() {
            Some((density, PseudofermionSites::All)) => estimate(gauge, quarks.clone(), solver, density)?,
            Some((density, PseudofermionSites::Even)) => estimate(gauge, dirac, solver, density)?,
            None => {
                let prior = Gaussian::pseudofermion(1.0, dirac.components(), &Device::Cpu)?;
                let expansion = WilsonExpansion::new(&dirac)?;
                let flow = ExponentialPseudofermion::new(expansion, config.pseudofermion_order)?;
                estimate(gauge, dirac, solver, FlowModel { prior, flow: Shared::new(flow) })?
            }
        };
        let exact = config.exact.then(|| DenseWilson::new(quarks));
        Ok(Self { exact, estimate, draws: config.draws.clone() })
    }

    /// log of the mean over the first n draws of the determinant's estimate, for every n that is asked for: `[n][configuration]`.
    ///
    /// # Errors
    /// When a solver does not converge.
    pub(super) fn estimates(&self, links: &Links, rng: &mut Rng) -> latflow_sampler::Result<Vec<Vec<f64>>> {
        let batch = links.batch()?;
        let most = self.draws.last().copied().unwrap_or(0) as usize;
        let mut all = vec![Vec::with_capacity(most); batch];
        let at_once = (TOGETHER / batch).max(1);
        for start in (0..most).step_by(at_once) {
            let count = at_once.min(most - start);
            let drawn = self.estimate.log_weights(links, count, rng)?;
            all.iter_mut().zip(drawn.chunks_exact(count)).for_each(|(all, new)| all.extend_from_slice(new));
        }
        let of =
            |n: &u64| all.iter().map(|draws| latflow_sampler::log_mean_exp(&draws[..*n as usize])).collect();
        Ok(self.draws.iter().map(of).collect())
    }

    /// log det DD† of each configuration; `None` where only estimates are asked for.
    ///
    /// # Errors
    /// When a factorisation fails.
    pub(super) fn exact(&self, links: &Links) -> latflow_sampler::Result<Option<Vec<f64>>> {
        let Some(dense) = &self.exact else { return Ok(None) };
        let log_det = dense.log_abs_det(links).map_err(latflow_action::Error::from)?;
        Ok(Some((log_det * 2.0)?.to_vec1()?))
    }

    /// Mean number of conjugate gradient iterations a solve.
    pub(super) fn iterations(&self) -> f64 {
        self.estimate.iterations()
    }
}
