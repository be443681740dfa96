//! The interface of Markov chains, and the Metropolis test they share.

use crate::{Error, Result};
use candle_core::{Device, Tensor};
use latflow_lattice::{Configuration, Rng, uniform};

/// One Markov step for B chains in lock-step: immutable kernel, explicit state, explicit randomness.
pub trait MarkovKernel {
    /// Everything the next step needs.
    type State;
    /// The field the chain samples.
    type Position;

    /// A state at the given configurations.
    ///
    /// # Errors
    /// When the chain cannot start there.
    fn init(&self, x: Self::Position, rng: &mut Rng) -> Result<Self::State>;

    /// The next state.
    ///
    /// # Errors
    /// When a density cannot be evaluated; a density that is not finite is a counted rejection.
    fn step(&self, state: Self::State, rng: &mut Rng) -> Result<(Self::State, StepInfo)>;

    /// The configurations of a state.
    fn position<'a>(&self, state: &'a Self::State) -> &'a Self::Position;
}

/// What happened in one step of B chains.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepInfo {
    /// Which chains moved.
    pub accepted: Vec<bool>,
    /// Logarithm of the acceptance ratio: −ΔH, or the difference of log weights. NaN where it was undefined.
    pub log_ratio: Vec<f64>,
    /// Chains whose ratio was not a number or +∞; they stayed where they were.
    pub nonfinite: usize,
}

impl StepInfo {
    /// Fraction of chains that moved.
    pub fn acceptance(&self) -> f64 {
        self.accepted.iter().filter(|a| **a).count() as f64 / self.accepted.len().max(1) as f64
    }

    /// Mean acceptance probability min(1, e^{log ratio}), less noisy than [`StepInfo::acceptance`].
    pub fn acceptance_probability(&self) -> f64 {
        let p = |r: &f64| if r.is_nan() { 0.0 } else { r.min(0.0).exp() };
        self.log_ratio.iter().map(p).sum::<f64>() / self.log_ratio.len().max(1) as f64
    }
}

/// The Metropolis test u < e^{log ratio}, one uniform number a chain whatever the ratio, so that streams stay aligned.
pub fn metropolis(log_ratio: Vec<f64>, rng: &mut Rng) -> StepInfo {
    let mut nonfinite = 0;
    let accepted = log_ratio
        .iter()
        .map(|&r| {
            let u = uniform(rng);
            // −∞ is an honest zero density; NaN and +∞ are not densities at all.
            if r.is_nan() || r == f64::INFINITY {
                nonfinite += 1;
                return false;
            }
            u.ln() < r
        })
        .collect();
    StepInfo { accepted, log_ratio, nonfinite }
}

/// The configurations after the test: row b of `new` where chain b accepted, else of `old`.
pub(crate) fn select<X: Configuration>(info: &StepInfo, new: &X, old: &X) -> Result<X> {
    let accept: Vec<u8> = info.accepted.iter().map(|a| u8::from(*a)).collect();
    let accept = Tensor::from_vec(accept, info.accepted.len(), &Device::Cpu)?;
    Ok(X::select(&accept, new, old)?)
}

/// Refuses log weights at which a chain could never be left or never be entered.
pub(crate) fn check_start(log_weight: &[f64]) -> Result<()> {
    match log_weight.iter().position(|w| !w.is_finite()) {
        Some(chain) => Err(Error::Start { chain, log_weight: log_weight[chain] }),
        None => Ok(()),
    }
}
