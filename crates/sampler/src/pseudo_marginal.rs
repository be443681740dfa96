//! Pseudo-marginal Metropolis: exact sampling of p(φ) although p is only estimated [YUK Sec. III A].
//!
//! ```text
//! A(φ → φ') = min(1, ŵ'/ŵ),   log ŵ = log p̂(φ) − log q(φ),   E[p̂(φ)] = e^{−S(φ)}            [YUK (15)]
//! ```
//!
//! p̂ is positive and unbiased, of any variance. Its noise is a second variable of the chain, accepted or rejected along
//! with φ: the estimate of the current φ is part of the state and must never be drawn again (Andrieu and Roberts 2009).
//! Noise costs acceptance; with more draws it approaches that of the exact density.

use crate::kernel::check_start;
use crate::{IndependenceState, LogEstimate, MarkovKernel, Result, StepInfo};
use candle_core::{DType, Tensor};
use latflow_flow::Distribution;
use latflow_lattice::{Configuration, Rng};
use std::marker::PhantomData;

/// The kernel: proposes from `proposal`, weighs by `estimate`.
#[derive(Debug, Clone)]
pub struct PseudoMarginal<Q, E, X = Tensor> {
    /// The normalised proposal density q.
    pub proposal: Q,
    /// The estimator of e^{−S}.
    pub estimate: E,
    field: PhantomData<X>,
}

impl<X: Configuration, Q: Distribution<X>, E: LogEstimate<X>> PseudoMarginal<Q, E, X> {
    /// The kernel of a proposal density and an estimator.
    pub fn new(proposal: Q, estimate: E) -> Self {
        Self { proposal, estimate, field: PhantomData }
    }

    /// n independent draws from q, each with the logarithm of one estimate of its weight. ⟨ŵ⟩ = Z, and reweighting with
    /// ŵ is right on average as with the exact weights.
    ///
    /// # Errors
    /// When a density cannot be evaluated.
    pub fn propose(&self, n: usize, rng: &mut Rng) -> Result<IndependenceState<X>> {
        let (x, log_q) = self.proposal.sample_with_log_prob(n, &(), rng)?;
        self.weigh(x.detach(), &log_q, rng)
    }

    fn weigh(&self, x: X, log_q: &Tensor, rng: &mut Rng) -> Result<IndependenceState<X>> {
        let log_q = log_q.detach().to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let mut log_weight = self.estimate.log_estimate(&x, rng)?;
        log_weight.iter_mut().zip(log_q).for_each(|(w, log_q)| *w -= log_q);
        Ok(IndependenceState { x, log_weight })
    }
}

impl<X: Configuration, Q: Distribution<X>, E: LogEstimate<X>> MarkovKernel for PseudoMarginal<Q, E, X> {
    type State = IndependenceState<X>;
    type Position = X;

    /// Starts at given configurations: the only time that one is estimated without having been proposed.
    fn init(&self, x: X, rng: &mut Rng) -> Result<Self::State> {
        let log_q = self.proposal.log_prob(&x, &())?;
        let state = self.weigh(x, &log_q, rng)?;
        check_start(&state.log_weight)?;
        Ok(state)
    }

    fn step(&self, state: Self::State, rng: &mut Rng) -> Result<(Self::State, StepInfo)> {
        let proposed = self.propose(state.log_weight.len(), rng)?;
        state.step(&proposed, rng)
    }

    fn position<'a>(&self, state: &'a Self::State) -> &'a X {
        &state.x
    }
}
