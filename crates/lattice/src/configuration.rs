//! What a Markov chain must know about a field: how to keep or replace rows of a batch, and how to move along a tangent.

use crate::Result;
use candle_core::{D, Tensor};

/// A batch of field configurations: all that Metropolis needs to know about a field.
pub trait Configuration: Clone {
    /// Number of configurations B.
    ///
    /// # Errors
    /// When the field has no batch axis.
    fn batch(&self) -> Result<usize>;

    /// Row b is row b of `new` where `accept[b] != 0`, else of `old`. `accept`: `[B]`, u8, on any device.
    ///
    /// # Errors
    /// When the shapes differ.
    fn select(accept: &Tensor, new: &Self, old: &Self) -> Result<Self>;

    /// The same values without autodiff history.
    fn detach(&self) -> Self;

    /// The same field with every tensor it consists of replaced, in a fixed order.
    ///
    /// # Errors
    /// When `f` fails.
    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Result<Tensor>) -> Result<Self>;

    /// Where this batch lives.
    fn device(&self) -> &candle_core::Device;
}

/// A configuration space with tangent vectors: `x.exp(0) == x`.
pub trait Manifold: Configuration {
    /// Shape of a tangent vector at this batch.
    fn tangent_shape(&self) -> Vec<usize>;

    /// φ → φ + ω for scalars; U → exp(i ωᵃ Tᵃ) U for links.
    ///
    /// # Errors
    /// When the tangent does not fit.
    fn exp(&self, omega: &Tensor) -> Result<Self>;

    /// The same point without the rounding errors of many steps that lead off the manifold, and without autodiff history.
    ///
    /// # Errors
    /// When it is not near the manifold.
    fn restored(&self) -> Result<Self> {
        Ok(self.detach())
    }
}

impl Configuration for Tensor {
    fn batch(&self) -> Result<usize> {
        Ok(self.dim(0)?)
    }

    fn select(accept: &Tensor, new: &Self, old: &Self) -> Result<Self> {
        let mut shape = vec![1; new.rank()];
        shape[0] = accept.dim(0)?;
        let accept = accept.to_device(new.device())?.reshape(shape)?.broadcast_as(new.shape())?;
        Ok(accept.where_cond(new, old)?)
    }

    fn detach(&self) -> Self {
        Tensor::detach(self)
    }

    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Result<Tensor>) -> Result<Self> {
        f(self)
    }

    fn device(&self) -> &candle_core::Device {
        Tensor::device(self)
    }
}

impl Manifold for Tensor {
    fn tangent_shape(&self) -> Vec<usize> {
        self.dims().to_vec()
    }

    fn exp(&self, omega: &Tensor) -> Result<Self> {
        Ok((self + omega)?)
    }
}

impl<A: Configuration, B: Configuration> Configuration for (A, B) {
    fn batch(&self) -> Result<usize> {
        self.0.batch()
    }

    fn select(accept: &Tensor, new: &Self, old: &Self) -> Result<Self> {
        Ok((A::select(accept, &new.0, &old.0)?, B::select(accept, &new.1, &old.1)?))
    }

    fn detach(&self) -> Self {
        (self.0.detach(), self.1.detach())
    }

    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok((self.0.map(f)?, self.1.map(f)?))
    }

    fn device(&self) -> &candle_core::Device {
        self.0.device()
    }
}

/// Both fields move at once; a tangent vector is that of the first field followed by that of the second, flat: `[B, n + m]`.
impl<A: Manifold, B: Manifold> Manifold for (A, B) {
    fn tangent_shape(&self) -> Vec<usize> {
        let (a, b) = (self.0.tangent_shape(), self.1.tangent_shape());
        vec![a[0], a[1..].iter().product::<usize>() + b[1..].iter().product::<usize>()]
    }

    fn exp(&self, omega: &Tensor) -> Result<Self> {
        let (a, b) = (self.0.tangent_shape(), self.1.tangent_shape());
        let (n, m) = (a[1..].iter().product(), b[1..].iter().product());
        let first = omega.narrow(1, 0, n)?.reshape(a)?;
        let second = omega.narrow(1, n, m)?.reshape(b)?;
        Ok((self.0.exp(&first)?, self.1.exp(&second)?))
    }

    fn restored(&self) -> Result<Self> {
        Ok((self.0.restored()?, self.1.restored()?))
    }
}

/// Sums everything but the batch axis: `[B, …]` → `[B]`.
///
/// # Errors
/// When the tensor has no batch axis.
pub fn sum_per_configuration(x: &Tensor) -> Result<Tensor> {
    Ok(x.flatten_from(1)?.sum(D::Minus1)?)
}
