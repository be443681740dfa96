//! The Gaussian prior in the paper's normalisation, and its partial refreshment.
//!
//! ```text
//! r(ζ) = Π_i e^{−ζ_i²/σ²} / (σ √π)                                              [YUK (50)]
//! ```
//!
//! There is no ½ in the exponent: the variance of each real component is σ²/2. For pseudofermions `[B, 2, N]` the product
//! runs over real and imaginary parts, so that r(χ) = e^{−χ†χ/σ²} / (πσ²)^N.

use crate::{Distribution, Error, Independent, Result, Sample};
use candle_core::{DType, Device, Tensor};
use latflow_lattice::{Rng, normal_tensor, sum_per_configuration};

/// Independent Gaussians on every component of fields of a given shape, f64. As a conditional density it is the same
/// whatever the condition.
#[derive(Debug, Clone)]
pub struct Gaussian {
    sigma: f64,
    shape: Vec<usize>,
    device: Device,
}

impl Gaussian {
    /// The prior e^{−ζ²/σ²} of real fields `[B, volume]`.
    ///
    /// # Errors
    /// When σ is not positive and finite.
    pub fn new(sigma: f64, volume: usize, device: &Device) -> Result<Self> {
        Self::with_shape(sigma, &[volume], device)
    }

    /// The prior e^{−χ†χ/σ²}/(πσ²)^N of pseudofermions `[B, 2, N]`.
    ///
    /// # Errors
    /// When σ is not positive and finite.
    pub fn pseudofermion(sigma: f64, components: usize, device: &Device) -> Result<Self> {
        Self::with_shape(sigma, &[2, components], device)
    }

    /// The prior of fields `[B, shape…]`.
    ///
    /// # Errors
    /// When σ is not positive and finite.
    pub fn with_shape(sigma: f64, shape: &[usize], device: &Device) -> Result<Self> {
        if !(sigma > 0.0 && sigma.is_finite()) {
            return Err(Error::Parameter {
                name: "sigma",
                value: sigma,
                expected: "a positive finite number",
            });
        }
        Ok(Self { sigma, shape: shape.to_vec(), device: device.clone() })
    }

    /// σ; the variance of each component is σ²/2.
    pub fn sigma(&self) -> f64 {
        self.sigma
    }

    fn check(&self, z: &Tensor) -> Result<()> {
        if z.rank() == 0 || z.dims()[1..] != self.shape {
            return Err(Error::Shape {
                what: "field of the prior",
                expected: format!("one batch axis and {:?}", self.shape),
                got: z.dims().to_vec(),
            });
        }
        Ok(())
    }
}

impl<C> Sample<Tensor, C> for Gaussian {
    fn sample(&self, n: usize, _: &C, rng: &mut Rng) -> Result<Tensor> {
        let deviation = self.sigma * std::f64::consts::FRAC_1_SQRT_2;
        let shape: Vec<usize> = std::iter::once(n).chain(self.shape.iter().copied()).collect();
        Ok(normal_tensor(rng, deviation, &shape, DType::F64, &self.device)?)
    }
}

impl<C> Distribution<Tensor, C> for Gaussian {
    fn log_prob(&self, z: &Tensor, _: &C) -> Result<Tensor> {
        self.check(z)?;
        let components = self.shape.iter().product::<usize>() as f64;
        let constant = -components * (self.sigma * std::f64::consts::PI.sqrt()).ln();
        let exponent = sum_per_configuration(&z.sqr()?)?;
        Ok(exponent.affine(-1.0 / (self.sigma * self.sigma), constant)?)
    }
}

/// A prior r with a random walk that is reversible with respect to it: r(z) K(z → z′) = r(z′) K(z′ → z).
pub trait PartialRefresh<X>: Distribution<X> {
    /// z′ from z; the angle θ says how far: π/2 is an independent draw, 0 stays.
    ///
    /// # Errors
    /// When the field does not fit.
    fn partially_refresh(&self, z: &X, theta: f64, rng: &mut Rng) -> Result<X>;
}

impl PartialRefresh<Tensor> for Gaussian {
    /// z′ = cos θ z + sin θ η with η drawn from the prior.
    fn partially_refresh(&self, z: &Tensor, theta: f64, rng: &mut Rng) -> Result<Tensor> {
        self.check(z)?;
        let noise = self.sample(z.dim(0)?, &(), rng)?;
        Ok(((z * theta.cos())? + (noise * theta.sin())?)?)
    }
}

impl<X, Y, A: PartialRefresh<X>, B: PartialRefresh<Y>> PartialRefresh<(X, Y)> for Independent<A, B> {
    fn partially_refresh(&self, (x, y): &(X, Y), theta: f64, rng: &mut Rng) -> Result<(X, Y)> {
        let x = self.first.partially_refresh(x, theta, rng)?;
        let y = self.second.partially_refresh(y, theta, rng)?;
        Ok((x, y))
    }
}
