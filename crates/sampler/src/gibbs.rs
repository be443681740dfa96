//! Gibbs sampling: an exact heat bath for the pseudofermion, a flow for the scalar field given it.
//!
//! ```text
//! ϕ' ~ p(ϕ|φ) exactly,   φ' ~ q(φ|ϕ'),
//! A(φ → φ'|ϕ') = min(1, [p(φ', ϕ') q(φ|ϕ')] / [p(φ, ϕ') q(φ'|ϕ')])                    [YUK (17)]
//! ```
//!
//! All four densities are at the same, new ϕ'. It is forgotten after the step: the chain is one of φ alone. The proposal
//! depends on φ through ϕ', so that this is no independence sampler and its proposals cannot be reweighted. A chain at a φ that
//! q(φ|ϕ') never proposes could never leave it: that is an error, not a rejection.

use crate::kernel::{check_start, select};
use crate::{MarkovKernel, Result, StepInfo, metropolis};
use candle_core::{DType, Tensor};
use latflow_action::HeatBath;
use latflow_flow::Distribution;
use latflow_lattice::{Configuration, Rng};
use std::marker::PhantomData;

/// The kernel on x with auxiliary field y.
#[derive(Debug, Clone)]
pub struct GibbsFlow<Q, T, X = Tensor, Y = Tensor> {
    /// The normalised conditional density q(x|y).
    pub proposal: Q,
    /// The joint theory S(x, y) and its heat bath p(y|x).
    pub target: T,
    fields: PhantomData<(X, Y)>,
}

impl<X: Configuration, Y: Configuration, Q: Distribution<X, Y>, T: HeatBath<X, Y>> GibbsFlow<Q, T, X, Y> {
    /// The kernel of a conditional density and a joint theory.
    pub fn new(proposal: Q, target: T) -> Self {
        Self { proposal, target, fields: PhantomData }
    }

    /// log p(x, y) − log q(x|y) of each chain, up to a constant.
    fn log_weight(&self, pair: &(X, Y), log_q: &Tensor) -> Result<Vec<f64>> {
        let log_q = log_q.detach().to_dtype(DType::F64)?;
        Ok((self.target.action(pair)?.detach() + log_q)?.neg()?.to_vec1::<f64>()?)
    }
}

impl<X, Y, Q, T> MarkovKernel for GibbsFlow<Q, T, X, Y>
where
    X: Configuration,
    Y: Configuration,
    Q: Distribution<X, Y>,
    T: HeatBath<X, Y>,
{
    type State = X;
    type Position = X;

    fn init(&self, x: X, _: &mut Rng) -> Result<X> {
        Ok(x)
    }

    fn step(&self, x: X, rng: &mut Rng) -> Result<(X, StepInfo)> {
        let y = self.target.draw(&x, rng)?;
        let (proposed, log_q_proposed) = self.proposal.sample_with_log_prob(x.batch()?, &y, rng)?;
        let log_q_current = self.proposal.log_prob(&x, &y)?;
        let (proposed, current) = ((proposed.detach(), y.clone()), (x, y));
        let (new, old) =
            (self.log_weight(&proposed, &log_q_proposed)?, self.log_weight(&current, &log_q_current)?);
        check_start(&old)?;
        let info = metropolis(new.iter().zip(&old).map(|(new, old)| new - old).collect(), rng);
        Ok((select(&info, &proposed.0, &current.0)?, info))
    }

    fn position<'a>(&self, state: &'a X) -> &'a X {
        state
    }
}
