//! Where configurations come from.

use latflow_action::{Action, WilsonGauge};
use latflow_flow::transport::LoopBasis;
use latflow_flow::{Distribution, HaarUniform};
use latflow_lattice::{Configuration, Links, Rng};
use latflow_sampler::{AnnealedFlow, GaugeHeatBath};

use crate::model::{LinkDensity, Shared};

/// Where configurations come from.
pub(super) enum Source {
    /// Haar-distributed links.
    Haar(HaarUniform),
    /// What a flow carries them to, fitted or trained.
    Flow(Box<LinkDensity>),
    /// A flow of loops with heat bath on its way, and the action it ends at.
    Annealed(Box<AnnealedFlow<HaarUniform, WilsonGauge, LoopBasis, GaugeHeatBath>>, WilsonGauge),
}

impl Source {
    /// The map of Haar-distributed links, where there is one.
    pub(super) fn map(&self) -> Option<Shared<Links>> {
        match self {
            Self::Flow(model) => Some(model.flow.clone()),
            Self::Haar(_) | Self::Annealed(..) => None,
        }
    }

    /// Links, and −log q of each; along trajectories what stands for it.
    ///
    /// # Errors
    /// When a density fails.
    pub(super) fn propose(&self, n: usize, rng: &mut Rng) -> latflow_sampler::Result<(Links, Vec<f64>)> {
        match self {
            Self::Haar(prior) => negative_log_prob(prior, n, rng),
            Self::Flow(model) => negative_log_prob(model.as_ref(), n, rng),
            Self::Annealed(flow, end) => {
                let drawn = flow.propose(n, rng)?;
                let action = end.action(&drawn.x)?.to_vec1::<f64>()?;
                let weights = drawn.log_weight.iter().zip(action).map(|(w, s)| w + s).collect();
                Ok((drawn.x, weights))
            }
        }
    }
}

/// Links of a density, and −log q of each.
fn negative_log_prob(
    density: &impl Distribution<Links>,
    n: usize,
    rng: &mut Rng,
) -> latflow_sampler::Result<(Links, Vec<f64>)> {
    let (links, log_q) = density.sample_with_log_prob(n, &(), rng)?;
    Ok((links.detach(), log_q.detach().neg()?.to_vec1()?))
}
