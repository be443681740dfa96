//! Paths of actions from a prior to a target.
//!
//! ```text
//! S_t = (1 − t) S_0 + t S_1,    ∂_tS_t = S_1 − S_0                t from 0 to 1
//! ```

use crate::{Distribution, Error, Result};
use candle_core::{DType, Tensor, Var};
use latflow_action::Action;
use latflow_lattice::Manifold;

/// A path at one time, on a batch of configurations; without autodiff history.
#[derive(Debug, Clone)]
pub struct PathPoint {
    /// S_t, `[B]`.
    pub action: Tensor,
    /// ∇S_t = ∂S_t(exp(ω) x)/∂ω at ω = 0: minus the force, of the tangent's shape.
    pub gradient: Tensor,
    /// ∂_tS_t, `[B]`.
    pub rate: Tensor,
}

/// A family of actions S_t, 0 ≤ t ≤ 1. Constants of S_t that depend on t alone do not matter.
pub trait ActionPath<X> {
    /// S_t of each configuration, `[B]`, differentiable in x.
    ///
    /// # Errors
    /// When the field does not fit.
    fn action(&self, x: &X, t: f64) -> Result<Tensor>;

    /// S_t, its gradient and its rate at the configurations x.
    ///
    /// # Errors
    /// When the field does not fit.
    fn at(&self, x: &X, t: f64) -> Result<PathPoint>;
}

/// The straight path between two actions.
#[derive(Debug, Clone)]
pub struct LinearPath<A, B> {
    /// S_0.
    pub start: A,
    /// S_1.
    pub end: B,
}

/// The action S_t of a path at one time, for Markov chains.
#[derive(Debug, Clone)]
pub struct AtTime<P> {
    /// The path.
    pub path: P,
    /// t.
    pub t: f64,
}

impl<X, P: ActionPath<X>> Action<X> for AtTime<P> {
    fn action(&self, x: &X) -> latflow_action::Result<Tensor> {
        self.path.action(x, self.t).map_err(|error| match error {
            Error::Action(error) => error,
            other => latflow_action::Error::ChangeOfVariables(Box::new(other)),
        })
    }
}

impl<X: Manifold, A: Action<X>, B: Action<X>> ActionPath<X> for LinearPath<A, B> {
    fn action(&self, x: &X, t: f64) -> Result<Tensor> {
        mixed(t, self.start.action(x)?, self.end.action(x)?)
    }

    fn at(&self, x: &X, t: f64) -> Result<PathPoint> {
        straight(x, t, |x| Ok(self.start.action(x)?), |x| Ok(self.end.action(x)?))
    }
}

/// The straight path from a prior density, S_0 = −log r.
#[derive(Debug, Clone)]
pub struct PriorPath<P, A> {
    /// r.
    pub prior: P,
    /// S_1.
    pub end: A,
}

impl<X: Manifold, P: Distribution<X>, A: Action<X>> ActionPath<X> for PriorPath<P, A> {
    fn action(&self, x: &X, t: f64) -> Result<Tensor> {
        mixed(t, self.prior.log_prob(x, &())?.neg()?, self.end.action(x)?)
    }

    fn at(&self, x: &X, t: f64) -> Result<PathPoint> {
        straight(x, t, |x| Ok(self.prior.log_prob(x, &())?.neg()?), |x| Ok(self.end.action(x)?))
    }
}

/// (1 − t) S_0 + t S_1.
fn mixed(t: f64, start: Tensor, end: Tensor) -> Result<Tensor> {
    Ok(((start * (1.0 - t))? + (end * t)?)?)
}

fn straight<X: Manifold>(
    x: &X,
    t: f64,
    start: impl Fn(&X) -> Result<Tensor>,
    end: impl Fn(&X) -> Result<Tensor>,
) -> Result<PathPoint> {
    let omega = Var::zeros(x.tangent_shape(), DType::F64, x.device())?;
    let moved = x.detach().exp(omega.as_tensor())?;
    let (start, end) = (start(&moved)?, end(&moved)?);
    let action = mixed(t, start.clone(), end.clone())?;
    let gradients = action.sum_all()?.backward()?;
    let gradient = match gradients.get(&omega) {
        Some(gradient) => gradient.detach(),
        // A prior may be uniform.
        None if t == 0.0 => omega.zeros_like()?,
        None => return Err(latflow_action::Error::NoGradient.into()),
    };
    Ok(PathPoint { action: action.detach(), gradient, rate: (end - start)?.detach() })
}
