//! Invertible maps with their log-determinants.

use crate::Result;
use candle_core::Tensor;

/// An invertible map with its log |det ∂output/∂input|. `forward` goes from prior to field.
pub trait Bijection<X, C = ()> {
    /// (x, log |det ∂x/∂z| `[B]`).
    ///
    /// # Errors
    /// When the field does not fit.
    fn forward(&self, z: &X, condition: &C) -> Result<(X, Tensor)>;

    /// (z, log |det ∂z/∂x| `[B]`).
    ///
    /// # Errors
    /// When the field does not fit.
    fn inverse(&self, x: &X, condition: &C) -> Result<(X, Tensor)>;
}

impl<X, C, F: Bijection<X, C> + ?Sized> Bijection<X, C> for &F {
    fn forward(&self, z: &X, condition: &C) -> Result<(X, Tensor)> {
        (**self).forward(z, condition)
    }

    fn inverse(&self, x: &X, condition: &C) -> Result<(X, Tensor)> {
        (**self).inverse(x, condition)
    }
}

/// f_n ∘ … ∘ f_1; never empty.
pub struct Chain<X, C = ()> {
    first: Box<dyn Bijection<X, C>>,
    rest: Vec<Box<dyn Bijection<X, C>>>,
}

impl<X, C> Chain<X, C> {
    /// The layers in the order in which `forward` applies them.
    pub fn new(first: Box<dyn Bijection<X, C>>, rest: Vec<Box<dyn Bijection<X, C>>>) -> Self {
        Self { first, rest }
    }

    /// Number of layers.
    pub fn depth(&self) -> usize {
        1 + self.rest.len()
    }
}

impl<X, C> Bijection<X, C> for Chain<X, C> {
    fn forward(&self, z: &X, condition: &C) -> Result<(X, Tensor)> {
        let (mut x, mut sum) = self.first.forward(z, condition)?;
        for layer in &self.rest {
            let (next, log_det_jacobian) = layer.forward(&x, condition)?;
            x = next;
            sum = (sum + log_det_jacobian)?;
        }
        Ok((x, sum))
    }

    fn inverse(&self, x: &X, condition: &C) -> Result<(X, Tensor)> {
        let mut reversed = self.rest.iter().rev().chain(std::iter::once(&self.first));
        let last = reversed.next().unwrap_or(&self.first);
        let (mut z, mut sum) = last.inverse(x, condition)?;
        for layer in reversed {
            let (next, log_det_jacobian) = layer.inverse(&z, condition)?;
            z = next;
            sum = (sum + log_det_jacobian)?;
        }
        Ok((z, sum))
    }
}
