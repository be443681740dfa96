//! The Gaussian prior in the paper's normalisation.
//!
//! ```text
//! r(ζ) = Π_x e^{−ζ(x)²/σ²} / (σ √π)                                             [YUK (50)]
//! ```
//!
//! There is no ½ in the exponent: the variance of each site is σ²/2.

use crate::{Distribution, Error, Result, Sample};
use candle_core::{DType, Device, Tensor};
use latflow_lattice::{Rng, normal_tensor, sum_per_configuration};

/// Independent Gaussians on V sites, `[B, V]`, f64.
#[derive(Debug, Clone)]
pub struct Gaussian {
    sigma: f64,
    volume: usize,
    device: Device,
}

impl Gaussian {
    /// The prior e^{−ζ²/σ²} on `volume` sites.
    ///
    /// # Errors
    /// When σ is not positive and finite.
    pub fn new(sigma: f64, volume: usize, device: &Device) -> Result<Self> {
        if !(sigma > 0.0 && sigma.is_finite()) {
            return Err(Error::Parameter {
                name: "sigma",
                value: sigma,
                expected: "a positive finite number",
            });
        }
        Ok(Self { sigma, volume, device: device.clone() })
    }
}

impl Sample<Tensor> for Gaussian {
    fn sample(&self, n: usize, (): &(), rng: &mut Rng) -> Result<Tensor> {
        let deviation = self.sigma * std::f64::consts::FRAC_1_SQRT_2;
        Ok(normal_tensor(rng, deviation, &[n, self.volume], DType::F64, &self.device)?)
    }
}

impl Distribution<Tensor> for Gaussian {
    fn log_prob(&self, z: &Tensor, (): &()) -> Result<Tensor> {
        let constant = -(self.volume as f64) * (self.sigma * std::f64::consts::PI.sqrt()).ln();
        let exponent = sum_per_configuration(&z.sqr()?)?;
        Ok(exponent.affine(-1.0 / (self.sigma * self.sigma), constant)?)
    }
}
