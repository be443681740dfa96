//! Samplers that move in the prior space of a flow x = f(z) [YUK Sec. VI].
//!
//! ```text
//! action in z:            S̃(z) = S(f(z)) − log |det ∂f/∂z|            for Hmc and Langevin
//! partial refreshment:    z' = cos θ z + sin θ η,  η ~ r,   accepted with min(1, w(f(z'))/w(f(z))),
//!                         log w = −S(f(z)) − log r(z) + log |det ∂f/∂z|
//! ```
//!
//! The better the flow, the closer S̃ to the prior's −log r, which HMC integrates easily and refreshment keeps exactly. θ = π/2
//! is independence Metropolis; a smaller angle trades acceptance for memory. A flow of two fields works as one of a field.

use crate::kernel::{check_start, select};
use crate::{Error, MarkovKernel, Result, StepInfo, metropolis};
use candle_core::{DType, Tensor};
use latflow_action::{Action, Refresh};
use latflow_flow::{Bijection, FlowModel, PartialRefresh};
use latflow_lattice::{Configuration, Rng};
use std::f64::consts::FRAC_PI_2;
use std::marker::PhantomData;

/// A theory of x = f(z) as a theory of z: an action when `target` is one, and a theory with auxiliary fields, drawn at f(z),
/// when `target` is that. Measure on [`PulledBack::field`].
#[derive(Debug, Clone)]
pub struct PulledBack<F, T> {
    /// z → x.
    pub flow: F,
    /// The theory of x.
    pub target: T,
}

fn change_of_variables(error: latflow_flow::Error) -> latflow_action::Error {
    latflow_action::Error::ChangeOfVariables(Box::new(error))
}

impl<F, T> PulledBack<F, T> {
    /// x = f(z).
    ///
    /// # Errors
    /// When the flow fails.
    pub fn field<X: Configuration>(&self, z: &X) -> Result<X>
    where
        F: Bijection<X>,
    {
        Ok(self.flow.forward(z, &())?.0.detach())
    }
}

impl<X, F: Bijection<X>, A: Action<X>> Action<X> for PulledBack<F, A> {
    fn action(&self, z: &X) -> latflow_action::Result<Tensor> {
        let (x, log_det_jacobian) = self.flow.forward(z, &()).map_err(change_of_variables)?;
        Ok((self.target.action(&x)? - log_det_jacobian.to_dtype(DType::F64)?)?)
    }
}

impl<X: Configuration, F: Bijection<X> + Clone, T: Refresh<X>> Refresh<X> for PulledBack<F, T> {
    type Conditional = PulledBack<F, T::Conditional>;

    fn refresh(&self, z: &X, rng: &mut Rng) -> latflow_action::Result<Self::Conditional> {
        let (x, _) = self.flow.forward(z, &()).map_err(change_of_variables)?;
        Ok(PulledBack { flow: self.flow.clone(), target: self.target.refresh(&x.detach(), rng)? })
    }
}

/// The kernel of partial refreshment by the angle θ: a random walk in z that the prior does not notice.
#[derive(Debug, Clone)]
pub struct PriorRefreshment<P, F, A, X = Tensor> {
    /// The flow and its prior.
    pub model: FlowModel<P, F>,
    /// The action S of x.
    pub target: A,
    theta: f64,
    field: PhantomData<X>,
}

/// Configurations in both spaces and their log weights.
#[derive(Debug, Clone)]
pub struct LatentState<X> {
    /// z of each chain.
    pub z: X,
    /// x = f(z).
    pub x: X,
    /// log w of each.
    pub log_weight: Vec<f64>,
}

impl<X: Configuration, P: PartialRefresh<X>, F: Bijection<X>, A: Action<X>> PriorRefreshment<P, F, A, X> {
    /// The kernel with angle θ in radians.
    ///
    /// # Errors
    /// When θ is not in (0, π/2].
    pub fn new(model: FlowModel<P, F>, target: A, theta: f64) -> Result<Self> {
        if !(theta > 0.0 && theta <= FRAC_PI_2) {
            return Err(Error::Parameter { name: "theta", value: theta, expected: "an angle in (0, π/2]" });
        }
        Ok(Self { model, target, theta, field: PhantomData })
    }

    /// The angle θ.
    pub fn theta(&self) -> f64 {
        self.theta
    }

    fn at(&self, z: X) -> Result<LatentState<X>> {
        let (x, log_det_jacobian) = self.model.flow.forward(&z, &())?;
        let x = x.detach();
        let log_q =
            (self.model.prior.log_prob(&z, &())? - log_det_jacobian)?.detach().to_dtype(DType::F64)?;
        let log_weight = (self.target.action(&x)?.detach() + log_q)?.neg()?.to_vec1::<f64>()?;
        Ok(LatentState { z, x, log_weight })
    }
}

impl<X, P, F, A> MarkovKernel for PriorRefreshment<P, F, A, X>
where
    X: Configuration,
    P: PartialRefresh<X>,
    F: Bijection<X>,
    A: Action<X>,
{
    type State = LatentState<X>;
    type Position = X;

    /// Starts at given x; z comes from the inverse of the flow.
    fn init(&self, x: X, _: &mut Rng) -> Result<Self::State> {
        let (z, _) = self.model.flow.inverse(&x, &())?;
        let state = self.at(z.detach())?;
        check_start(&state.log_weight)?;
        Ok(state)
    }

    fn step(&self, state: Self::State, rng: &mut Rng) -> Result<(Self::State, StepInfo)> {
        let proposed = self.at(self.model.prior.partially_refresh(&state.z, self.theta, rng)?)?;
        let weights = || proposed.log_weight.iter().zip(&state.log_weight);
        let info = metropolis(weights().map(|(new, old)| new - old).collect(), rng);
        let log_weight =
            weights().zip(&info.accepted).map(|((new, old), accept)| if *accept { *new } else { *old });
        let state = LatentState {
            log_weight: log_weight.collect(),
            z: select(&info, &proposed.z, &state.z)?,
            x: select(&info, &proposed.x, &state.x)?,
        };
        Ok((state, info))
    }

    fn position<'a>(&self, state: &'a Self::State) -> &'a X {
        &state.x
    }
}
