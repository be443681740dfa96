//! A monotone odd map of every site by itself: what turns a Gaussian into the shape of a quartic well.
//!
//! ```text
//! forward:  x solves  z = α x + β x³,   α = e^{a}, β = e^{b}:
//!           x = sgn z · 2√(α/3β) sinh(asinh(u)/3),   u = (3|z|/2α) √(3β/α)
//! log |det| = −Σ_x log(α + 3β x²)
//! ```
//!
//! Two parameters for the whole lattice, so that every lattice symmetry and φ → −φ are kept. For β → 0 it is z/α.

use crate::{Bijection, ParamStore, Result};
use candle_core::{DType, Tensor};
use latflow_lattice::sum_per_configuration;

/// The layer on fields `[B, V]`.
#[derive(Debug, Clone)]
pub struct CubicRoot {
    /// (a, b), `[2]`.
    coefficients: Tensor,
}

impl CubicRoot {
    /// Starts close to the identity: α = 1, β = `cubic`.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn new(store: &mut ParamStore, name: &str, cubic: f64) -> Result<Self> {
        let coefficients = store.create(name, &[2], |_| vec![0.0, cubic.ln()])?;
        Ok(Self { coefficients })
    }

    fn alpha_beta(&self) -> Result<(Tensor, Tensor)> {
        let c = self.coefficients.to_dtype(DType::F64)?.exp()?;
        Ok((c.narrow(0, 0, 1)?, c.narrow(0, 1, 1)?))
    }
}

/// log (dz/dx) summed over sites.
fn log_slope(x: &Tensor, alpha: &Tensor, beta: &Tensor) -> Result<Tensor> {
    let slope = x.sqr()?.broadcast_mul(&(beta * 3.0)?)?.broadcast_add(alpha)?;
    Ok(sum_per_configuration(&slope.log()?)?)
}

impl Bijection<Tensor> for CubicRoot {
    fn forward(&self, z: &Tensor, (): &()) -> Result<(Tensor, Tensor)> {
        let (alpha, beta) = self.alpha_beta()?;
        let width = (&alpha / (&beta * 3.0)?)?.sqrt()?;
        let u = z.abs()?.broadcast_mul(&(&alpha * &width)?.recip()?.affine(1.5, 0.0)?)?;
        // |z| keeps the argument of the logarithm at least 1: no cancellation for either sign.
        let third = ((u.sqr()? + 1.0)?.sqrt()? + &u)?.log()?.affine(1.0 / 3.0, 0.0)?;
        let sinh_twice = (third.exp()? - third.neg()?.exp()?)?;
        let x = (sinh_twice.broadcast_mul(&width)? * z.sign()?.detach())?;
        let log_det = log_slope(&x, &alpha, &beta)?.neg()?;
        Ok((x, log_det))
    }

    fn inverse(&self, x: &Tensor, (): &()) -> Result<(Tensor, Tensor)> {
        let (alpha, beta) = self.alpha_beta()?;
        let z = (x.broadcast_mul(&alpha)? + (x * x.sqr()?)?.broadcast_mul(&beta)?)?;
        Ok((z, log_slope(x, &alpha, &beta)?))
    }
}
