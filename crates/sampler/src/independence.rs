//! Independence Metropolis: proposals from a flow, accepted by the ratio of weights.
//!
//! ```text
//! A(x → x') = min(1, w(x')/w(x)),   log w = −S(x) − log q(x)                              [YUK (15)]
//! ```
//!
//! log w of the current configuration belongs to the state and is never recomputed.

use crate::{Error, MarkovKernel, Result, StepInfo, metropolis};
use candle_core::{DType, Tensor};
use latflow_action::Action;
use latflow_flow::Distribution;
use latflow_lattice::{Configuration, Rng};

/// The kernel: proposes from `proposal`, targets e^{−`target`}.
#[derive(Debug, Clone)]
pub struct IndependenceMetropolis<Q, A> {
    /// The normalised proposal density q.
    pub proposal: Q,
    /// The action S.
    pub target: A,
}

/// Configurations and their log weights.
#[derive(Debug, Clone)]
pub struct IndependenceState<X> {
    /// The current configuration of each chain.
    pub x: X,
    /// log w of each.
    pub log_weight: Vec<f64>,
}

impl<Q, A> IndependenceMetropolis<Q, A> {
    /// n independent draws from q with their log weights −S − log q.
    ///
    /// # Errors
    /// When a density cannot be evaluated.
    pub fn propose<X>(&self, n: usize, rng: &mut Rng) -> Result<IndependenceState<X>>
    where
        X: Configuration,
        Q: Distribution<X>,
        A: Action<X>,
    {
        let (x, log_q) = self.proposal.sample_with_log_prob(n, &(), rng)?;
        let x = x.detach();
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
        match log_weight.iter().position(|w| !w.is_finite()) {
            Some(chain) => Err(Error::Start { chain, log_weight: log_weight[chain] }),
            None => Ok(Self { log_weight, data }),
        }
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

impl<Q: Distribution<Tensor>, A: Action<Tensor>> MarkovKernel for IndependenceMetropolis<Q, A> {
    type State = IndependenceState<Tensor>;
    type Position = Tensor;

    /// Starts at given configurations, whose density under the flow comes from its inverse.
    fn init(&self, x: Tensor, _: &mut Rng) -> Result<Self::State> {
        let log_q = self.proposal.log_prob(&x, &())?.detach().to_dtype(DType::F64)?;
        let log_weight = (self.target.action(&x)?.detach() + log_q)?.neg()?.to_vec1::<f64>()?;
        match log_weight.iter().position(|w| !w.is_finite()) {
            Some(chain) => Err(Error::Start { chain, log_weight: log_weight[chain] }),
            None => Ok(IndependenceState { x, log_weight }),
        }
    }

    fn step(&self, state: Self::State, rng: &mut Rng) -> Result<(Self::State, StepInfo)> {
        let chains = state.log_weight.len();
        let proposed = self.propose::<Tensor>(chains, rng)?;
        let ratio = proposed.log_weight.iter().zip(&state.log_weight).map(|(new, old)| new - old).collect();
        let info = metropolis(ratio, rng);
        let accept: Vec<u8> = info.accepted.iter().map(|a| u8::from(*a)).collect();
        let accept = Tensor::from_vec(accept, chains, state.x.device())?;
        let x = Tensor::select(&accept, &proposed.x, &state.x)?;
        let log_weight = (0..chains)
            .map(|i| if info.accepted[i] { proposed.log_weight[i] } else { state.log_weight[i] })
            .collect();
        Ok((IndependenceState { x, log_weight }, info))
    }

    fn position<'a>(&self, state: &'a Self::State) -> &'a Tensor {
        &state.x
    }
}
