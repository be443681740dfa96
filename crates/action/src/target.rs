//! What samplers and training need of a theory beyond a plain action.

use crate::{Action, Result};
use candle_core::Tensor;
use latflow_lattice::Rng;

/// What reverse-KL training needs: a tensor whose *gradient* is an unbiased estimate of ∇S.
pub trait TrainingTarget<X> {
    /// `[B]`, f64. The gradient is what counts; the value may differ from S by noise (see the implementor).
    ///
    /// # Errors
    /// When the field does not fit or a solver fails.
    fn surrogate_action(&self, x: &X, rng: &mut Rng) -> Result<Tensor>;
}

/// A target with auxiliary fields that are drawn anew before every trajectory: given them, the action is deterministic.
pub trait Refresh<X> {
    /// The action at fixed auxiliary fields.
    type Conditional: Action<X>;

    /// Draws the auxiliary fields from their exact distribution given x.
    ///
    /// # Errors
    /// When the field does not fit.
    fn refresh(&self, x: &X, rng: &mut Rng) -> Result<Self::Conditional>;
}

/// A joint theory e^{−S(x, y)} whose y can be drawn exactly from p(y|x).
pub trait HeatBath<X, Y>: Action<(X, Y)> {
    /// One y for each x, without autodiff history.
    ///
    /// # Errors
    /// When the field does not fit.
    fn draw(&self, x: &X, rng: &mut Rng) -> Result<Y>;
}

/// A deterministic action where a [`TrainingTarget`] or a [`Refresh`] is asked for.
#[derive(Debug, Clone)]
pub struct Exact<A>(pub A);

impl<X, A: Action<X>> TrainingTarget<X> for Exact<A> {
    fn surrogate_action(&self, x: &X, _: &mut Rng) -> Result<Tensor> {
        self.0.action(x)
    }
}

impl<X, T: TrainingTarget<X> + ?Sized> TrainingTarget<X> for Box<T> {
    fn surrogate_action(&self, x: &X, rng: &mut Rng) -> Result<Tensor> {
        (**self).surrogate_action(x, rng)
    }
}

impl<X, A: Action<X> + Clone> Refresh<X> for Exact<A> {
    type Conditional = A;

    fn refresh(&self, _: &X, _: &mut Rng) -> Result<A> {
        Ok(self.0.clone())
    }
}
