//! Densities that can be drawn from and evaluated, and flows built on them.
//!
//! ```text
//! x = f(z), z ~ r:    log q(x) = log r(z) − log |det ∂f/∂z|                              [YUK (20)]
//! ```

use crate::{Bijection, Result};
use candle_core::Tensor;
use latflow_lattice::Rng;

/// Something that can be drawn, given a condition.
pub trait Sample<X, C = ()> {
    /// n independent draws.
    ///
    /// # Errors
    /// When the condition does not fit.
    fn sample(&self, n: usize, condition: &C, rng: &mut Rng) -> Result<X>;
}

/// A *normalised* density that can also be evaluated. Priors and trained flows alike.
pub trait Distribution<X, C = ()>: Sample<X, C> {
    /// log q(x|condition), `[B]`, f64.
    ///
    /// # Errors
    /// When the field does not fit.
    fn log_prob(&self, x: &X, condition: &C) -> Result<Tensor>;

    /// A draw and its log q from one pass.
    ///
    /// # Errors
    /// When the condition does not fit.
    fn sample_with_log_prob(&self, n: usize, condition: &C, rng: &mut Rng) -> Result<(X, Tensor)> {
        let x = self.sample(n, condition, rng)?;
        let log_prob = self.log_prob(&x, condition)?;
        Ok((x, log_prob))
    }
}

/// A prior pushed forward by a bijection.
#[derive(Debug, Clone)]
pub struct FlowModel<P, F> {
    /// Density of z.
    pub prior: P,
    /// z → x.
    pub flow: F,
}

impl<X, C, P: Distribution<X>, F: Bijection<X, C>> Sample<X, C> for FlowModel<P, F> {
    fn sample(&self, n: usize, condition: &C, rng: &mut Rng) -> Result<X> {
        Ok(self.sample_with_log_prob(n, condition, rng)?.0)
    }
}

impl<X, C, P: Distribution<X>, F: Bijection<X, C>> Distribution<X, C> for FlowModel<P, F> {
    fn log_prob(&self, x: &X, condition: &C) -> Result<Tensor> {
        let (z, log_det_jacobian) = self.flow.inverse(x, condition)?;
        Ok((self.prior.log_prob(&z, &())? + log_det_jacobian)?)
    }

    fn sample_with_log_prob(&self, n: usize, condition: &C, rng: &mut Rng) -> Result<(X, Tensor)> {
        let (z, log_r) = self.prior.sample_with_log_prob(n, &(), rng)?;
        let (x, log_det_jacobian) = self.flow.forward(&z, condition)?;
        Ok((x, (log_r - log_det_jacobian)?))
    }
}
