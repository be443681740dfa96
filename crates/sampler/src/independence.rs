//! Independence Metropolis: proposals from a flow, accepted by the ratio of weights.
//!
//! ```text
//! A(x → x') = min(1, w(x')/w(x)),   log w = −S(x) − log q(x)                              [YUK (15)]
//! ```
//!
//! x is any field or pair of fields. With x = (φ, ϕ) and S = S_B + S_PF this is the autoregressive scheme [YUK (18)] when
//! q = q(φ) q(ϕ|φ), and the fully joint one [YUK (19)] when q transforms both fields at once.
//!
//! log w of the current configuration belongs to the state and is never recomputed.

use crate::kernel::{check_start, select};
use crate::{Error, MarkovKernel, Result, StepInfo, metropolis};
use candle_core::{DType, Tensor};
use latflow_action::Action;
use latflow_flow::Distribution;
use latflow_lattice::{Configuration, Rng};
use std::marker::PhantomData;

/// The kernel: proposes from `proposal`, targets e^{−`target`}.
#[derive(Debug, Clone)]
pub struct IndependenceMetropolis<Q, A, X = Tensor> {
    /// The normalised proposal density q.
    pub proposal: Q,
    /// The action S.
    pub target: A,
    field: PhantomData<X>,
}

/// Configurations and their log weights.
#[derive(Debug, Clone)]
pub struct IndependenceState<X> {
    /// The current configuration of each chain.
    pub x: X,
    /// log w of each.
    pub log_weight: Vec<f64>,
}

impl<X: Configuration> IndependenceState<X> {
    /// One Metropolis test a chain against its own proposal.
    pub(crate) fn step(self, proposed: &Self, rng: &mut Rng) -> Result<(Self, StepInfo)> {
        let weights = || proposed.log_weight.iter().zip(&self.log_weight);
        let info = metropolis(weights().map(|(new, old)| new - old).collect(), rng);
        let x = select(&info, &proposed.x, &self.x)?;
        let log_weight =
            weights().zip(&info.accepted).map(|((new, old), accept)| if *accept { *new } else { *old });
        Ok((Self { log_weight: log_weight.collect(), x }, info))
    }
}

impl<X: Configuration, Q: Distribution<X>, A: Action<X>> IndependenceMetropolis<Q, A, X> {
    /// The kernel of a proposal density and an action.
    pub fn new(proposal: Q, target: A) -> Self {
        Self { proposal, target, field: PhantomData }
    }

    /// n independent draws from q with their log weights −S − log q.
    ///
    /// # Errors
    /// When a density cannot be evaluated.
    pub fn propose(&self, n: usize, rng: &mut Rng) -> Result<IndependenceState<X>> {
        let (x, log_q) = self.proposal.sample_with_log_prob(n, &(), rng)?;
        self.weigh(x.detach(), &log_q)
    }

    fn weigh(&self, x: X, log_q: &Tensor) -> Result<IndependenceState<X>> {
        let log_q = log_q.detach().to_dtype(DType::F64)?;
        let log_weight = (self.target.action(&x)?.detach() + log_q)?.neg()?.to_vec1::<f64>()?;
        Ok(IndependenceState { x, log_weight })
    }
}

/// The chains of an independence sampler whose configurations were measured before the test: each carries `D`, the
/// observables of its current configuration. Lets one large batch of proposals feed many steps.
#[derive(Debug, Clone, PartialEq)]
pub struct IndependenceChains<D> {
    /// log w of each chain's current configuration.
    pub log_weight: Vec<f64>,
    /// What was measured on it.
    pub data: Vec<D>,
}

impl<D: Clone> IndependenceChains<D> {
    /// Starts each chain at a proposal.
    ///
    /// # Errors
    /// [`Error::Start`] when a log weight is not finite: that chain could never leave or never be entered.
    pub fn new(log_weight: Vec<f64>, data: Vec<D>) -> Result<Self> {
        if log_weight.len() != data.len() {
            return Err(Error::Chains { chains: log_weight.len(), got: data.len() });
        }
        check_start(&log_weight)?;
        Ok(Self { log_weight, data })
    }

    /// One Metropolis test a chain against its own proposal.
    ///
    /// # Errors
    /// When there is not one proposal a chain.
    pub fn step(&mut self, log_weight: &[f64], data: &[D], rng: &mut Rng) -> Result<StepInfo> {
        let chains = self.log_weight.len();
        if log_weight.len() != chains || data.len() != chains {
            return Err(Error::Chains { chains, got: log_weight.len() });
        }
        let ratio = log_weight.iter().zip(&self.log_weight).map(|(new, old)| new - old).collect();
        let info = metropolis(ratio, rng);
        for i in (0..chains).filter(|&i| info.accepted[i]) {
            self.log_weight[i] = log_weight[i];
            self.data[i] = data[i].clone();
        }
        Ok(info)
    }
}

impl<X: Configuration, Q: Distribution<X>, A: Action<X>> MarkovKernel for IndependenceMetropolis<Q, A, X> {
    type State = IndependenceState<X>;
    type Position = X;

    /// Starts at given configurations, whose density under the flow comes from its inverse.
    fn init(&self, x: X, _: &mut Rng) -> Result<Self::State> {
        let log_q = self.proposal.log_prob(&x, &())?;
        let state = self.weigh(x, &log_q)?;
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
