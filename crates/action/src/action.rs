//! Euclidean actions S(x), p(x) = e^{−S(x)} / Z, and their forces.

use crate::{Error, Result};
use candle_core::{DType, Tensor, Var};
use latflow_lattice::Manifold;

/// A Euclidean action: deterministic and differentiable.
pub trait Action<X> {
    /// S(x) of each configuration, `[B]`, f64.
    ///
    /// # Errors
    /// When the field does not fit the theory.
    fn action(&self, x: &X) -> Result<Tensor>;

    /// S(x) and the force, see [`action_and_force`]. Actions that know their force without a derivative of tensors say so here.
    ///
    /// # Errors
    /// When the action fails or does not depend on the field.
    fn action_and_force(&self, x: &X) -> Result<(Tensor, Tensor)>
    where
        X: Manifold,
    {
        differentiate(self, x)
    }

    /// The two terms of a sum, the one to be integrated in smaller steps first; `None` for an action in one piece.
    fn split(&self) -> Option<(&dyn Action<X>, &dyn Action<X>)> {
        None
    }
}

impl<X, A: Action<X> + ?Sized> Action<X> for &A {
    fn action(&self, x: &X) -> Result<Tensor> {
        (**self).action(x)
    }

    fn action_and_force(&self, x: &X) -> Result<(Tensor, Tensor)>
    where
        X: Manifold,
    {
        (**self).action_and_force(x)
    }

    fn split(&self) -> Option<(&dyn Action<X>, &dyn Action<X>)> {
        (**self).split()
    }
}

impl<X, A: Action<X> + ?Sized> Action<X> for Box<A> {
    fn action(&self, x: &X) -> Result<Tensor> {
        (**self).action(x)
    }

    fn action_and_force(&self, x: &X) -> Result<(Tensor, Tensor)>
    where
        X: Manifold,
    {
        (**self).action_and_force(x)
    }

    fn split(&self) -> Option<(&dyn Action<X>, &dyn Action<X>)> {
        (**self).split()
    }
}

/// S_1(x) + S_2(x); with several time scales the first, the cheap one, takes the smaller steps.
#[derive(Debug, Clone)]
pub struct Sum<A, B>(pub A, pub B);

impl<X, A: Action<X>, B: Action<X>> Action<X> for Sum<A, B> {
    fn action(&self, x: &X) -> Result<Tensor> {
        Ok((self.0.action(x)? + self.1.action(x)?)?)
    }

    fn action_and_force(&self, x: &X) -> Result<(Tensor, Tensor)>
    where
        X: Manifold,
    {
        let ((s, f), (t, g)) = (self.0.action_and_force(x)?, self.1.action_and_force(x)?);
        Ok(((s + t)?, (f + g)?))
    }

    fn split(&self) -> Option<(&dyn Action<X>, &dyn Action<X>)> {
        Some((&self.0, &self.1))
    }
}

/// S(x) `[B]` and the force F = −∂S(exp(ω) x)/∂ω at ω = 0, of the tangent's shape, from one evaluation.
///
/// # Errors
/// When the action fails or does not depend on the field.
pub fn action_and_force<X: Manifold>(action: &impl Action<X>, x: &X) -> Result<(Tensor, Tensor)> {
    action.action_and_force(x)
}

/// The force by differentiating the action.
pub(crate) fn differentiate<X: Manifold>(
    action: &(impl Action<X> + ?Sized),
    x: &X,
) -> Result<(Tensor, Tensor)> {
    let omega = Var::zeros(x.tangent_shape(), DType::F64, x.device())?;
    let s = action.action(&x.detach().exp(omega.as_tensor())?)?;
    let gradients = s.sum_all()?.backward()?;
    let gradient = gradients.get(&omega).ok_or(Error::NoGradient)?;
    Ok((s.detach(), gradient.neg()?.detach()))
}
