//! Exponential linear flow: pseudofermions with nearly their exact covariance and an exactly known determinant.
//!
//! ```text
//! ϕ = W χ,  W = D_0 e^{A_n(φ)},  χ ~ e^{−χ†χ}/Z_N
//! q(ϕ|φ) = e^{−ϕ†(WW†)⁻¹ϕ} / (Z_N |det W|²)                                              [YUK (25)]
//! log |det W|² = 2 log |det D_0| + 2 tr A_n
//! ```
//!
//! A_n is the logarithm of D_0⁻¹D to order n ([`latflow_fermion::LogarithmicExpansion`]). The density is exact for every n
//! and coupling; only the variance of the weight depends on them. e^{A} acts by its Taylor series, to rounding. There is
//! nothing to train, unless the coefficients a_k of A_n = Σ_k a_k X^k are made parameters: log |det W|² is 2 log |det D_0| +
//! 2 Σ_k a_k tr X^k for any of them.

use crate::{Bijection, Error, ParamStore, Result};
use candle_core::{DType, Tensor};
use latflow_fermion::{LogarithmicExpansion, Perturbation};
use latflow_lattice::Configuration;

/// W(φ) as a bijection of pseudofermions `[B, 2, N]`, given the background field φ.
#[derive(Debug, Clone)]
pub struct ExponentialPseudofermion<D> {
    expansion: D,
    order: usize,
    /// a_k, `[n]`, where they are parameters.
    learned: Option<Tensor>,
}

/// Terms of the series before it is called divergent.
const TERMS: usize = 200;

impl<D: LogarithmicExpansion> ExponentialPseudofermion<D> {
    /// The flow of the given order; 0 is W = D_0.
    ///
    /// # Errors
    /// When no closed form of the trace is known at this order.
    pub fn new(expansion: D, order: usize) -> Result<Self> {
        let largest = expansion.largest_order();
        if order > largest {
            return Err(latflow_action::Error::from(latflow_fermion::Error::Order { order, largest }).into());
        }
        Ok(Self { expansion, order, learned: None })
    }

    /// The flow whose coefficients are the parameter `name`, `[n]`, at first those of the logarithm.
    ///
    /// # Errors
    /// When no closed form of the trace is known at this order, there is nothing to learn at order 0, or the name is taken.
    pub fn learnable(store: &mut ParamStore, name: &str, expansion: D, order: usize) -> Result<Self> {
        let flow = Self::new(expansion, order)?;
        if order == 0 {
            return Err(Error::Parameter {
                name: "order",
                value: 0.0,
                expected: "at least 1 to have coefficients",
            });
        }
        let learned = store.create(name, &[order], |_| (1..=order).map(Self::coefficient).collect())?;
        Ok(Self { learned: Some(learned), ..flow })
    }

    /// a_k t.
    fn times(&self, k: usize, t: &Tensor) -> Result<Tensor> {
        match &self.learned {
            None => Ok((t * Self::coefficient(k))?),
            Some(a) => {
                let a = a.narrow(0, k - 1, 1)?.to_dtype(DType::F64)?.reshape(vec![1; t.rank()])?;
                Ok(t.broadcast_mul(&a)?)
            }
        }
    }

    /// (−1)^{k+1}/k.
    fn coefficient(k: usize) -> f64 {
        if k % 2 == 1 { 1.0 / k as f64 } else { -1.0 / k as f64 }
    }

    /// A_n v.
    fn generator(&self, x: &Perturbation<'_>, v: &Tensor) -> Result<Tensor> {
        let mut power = v.clone();
        let mut sum = v.zeros_like()?;
        for k in 1..=self.order {
            power = x(&power).map_err(latflow_action::Error::from)?;
            sum = (sum + self.times(k, &power)?)?;
        }
        Ok(sum)
    }

    /// e^{sign · A_n} v.
    fn exponential(&self, phi: &D::Field, v: &Tensor, sign: f64) -> Result<Tensor> {
        let (mut term, mut sum) = (v.clone(), v.clone());
        if self.order == 0 {
            return Ok(sum);
        }
        let x = self.expansion.perturbation(phi).map_err(latflow_action::Error::from)?;
        for n in 1..=TERMS {
            term = (self.generator(&x, &term)? * (sign / n as f64))?;
            sum = (sum + &term)?;
            let size = |t: &Tensor| -> Result<f64> { Ok(t.detach().abs()?.max_all()?.to_scalar::<f64>()?) };
            let (last, all) = (size(&term)?, size(&sum)?);
            // NaN fields stay NaN and must not be mistaken for a series that does not converge.
            if last <= 1e-17 * all || !all.is_finite() {
                return Ok(sum);
            }
        }
        Err(Error::Parameter {
            name: "terms of the exponential series",
            value: TERMS as f64,
            expected: "a generator of moderate norm: the field is far from where the expansion holds",
        })
    }

    /// log |det W|², `[B]`.
    fn log_det(&self, phi: &D::Field) -> Result<Tensor> {
        let batch = phi.batch()?;
        let constant = 2.0 * self.expansion.constant_log_abs_det();
        let mut sum = Tensor::full(constant, batch, phi.device())?;
        for k in 1..=self.order {
            let trace = self.expansion.trace(phi, k).map_err(latflow_action::Error::from)?;
            sum = (sum + (self.times(k, &trace)? * 2.0)?)?;
        }
        Ok(sum)
    }
}

impl<D: LogarithmicExpansion> Bijection<Tensor, D::Field> for ExponentialPseudofermion<D> {
    fn forward(&self, chi: &Tensor, phi: &D::Field) -> Result<(Tensor, Tensor)> {
        let v = self.exponential(phi, chi, 1.0)?;
        let pf = self.expansion.constant(&v, false).map_err(latflow_action::Error::from)?;
        Ok((pf, self.log_det(phi)?))
    }

    fn inverse(&self, pf: &Tensor, phi: &D::Field) -> Result<(Tensor, Tensor)> {
        let v = self.expansion.constant(pf, true).map_err(latflow_action::Error::from)?;
        Ok((self.exponential(phi, &v, -1.0)?, self.log_det(phi)?.neg()?))
    }
}
