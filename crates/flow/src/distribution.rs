//! Densities that can be drawn from and evaluated, and flows built on them.
//!
//! ```text
//! x = f(z), z ~ r:    log q(x) = log r(z) − log |det ∂f/∂z|                              [YUK (20)]
//! pairs:              q(x, y) = q(x) q(y|x)   or   q(x) q(y)                              [YUK (18)]
//! ```

use crate::{Bijection, Result};
use candle_core::Tensor;
use latflow_lattice::{Configuration, Rng};

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

impl<X, C, D: Sample<X, C> + ?Sized> Sample<X, C> for &D {
    fn sample(&self, n: usize, condition: &C, rng: &mut Rng) -> Result<X> {
        (**self).sample(n, condition, rng)
    }
}

impl<X, C, D: Distribution<X, C> + ?Sized> Distribution<X, C> for &D {
    fn log_prob(&self, x: &X, condition: &C) -> Result<Tensor> {
        (**self).log_prob(x, condition)
    }

    fn sample_with_log_prob(&self, n: usize, condition: &C, rng: &mut Rng) -> Result<(X, Tensor)> {
        (**self).sample_with_log_prob(n, condition, rng)
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

/// x first, then y given x. Of distributions it is the joint density q(x) q(y|x) of [YUK (18)]; of bijections the
/// triangular map (z, χ) → (x, y), x = f(z), y = g(χ; x), that pushes a product of priors forward to the same density.
#[derive(Debug, Clone)]
pub struct Autoregressive<A, B> {
    /// Of x.
    pub first: A,
    /// Of y given x.
    pub second: B,
}

impl<X, Y, A: Sample<X>, B: Sample<Y, X>> Sample<(X, Y)> for Autoregressive<A, B> {
    fn sample(&self, n: usize, (): &(), rng: &mut Rng) -> Result<(X, Y)> {
        let x = self.first.sample(n, &(), rng)?;
        let y = self.second.sample(n, &x, rng)?;
        Ok((x, y))
    }
}

impl<X, Y, A: Distribution<X>, B: Distribution<Y, X>> Distribution<(X, Y)> for Autoregressive<A, B> {
    fn log_prob(&self, (x, y): &(X, Y), (): &()) -> Result<Tensor> {
        Ok((self.first.log_prob(x, &())? + self.second.log_prob(y, x)?)?)
    }

    fn sample_with_log_prob(&self, n: usize, (): &(), rng: &mut Rng) -> Result<((X, Y), Tensor)> {
        let (x, first) = self.first.sample_with_log_prob(n, &(), rng)?;
        let (y, second) = self.second.sample_with_log_prob(n, &x, rng)?;
        Ok(((x, y), (first + second)?))
    }
}

impl<X, Y, A: Bijection<X>, B: Bijection<Y, X>> Bijection<(X, Y)> for Autoregressive<A, B> {
    fn forward(&self, (z, chi): &(X, Y), (): &()) -> Result<((X, Y), Tensor)> {
        let (x, first) = self.first.forward(z, &())?;
        let (y, second) = self.second.forward(chi, &x)?;
        Ok(((x, y), (first + second)?))
    }

    fn inverse(&self, (x, y): &(X, Y), (): &()) -> Result<((X, Y), Tensor)> {
        let (chi, second) = self.second.inverse(y, x)?;
        let (z, first) = self.first.inverse(x, &())?;
        Ok(((z, chi), (first + second)?))
    }
}

/// q(x) q(y): the prior of models that transform two fields at once.
#[derive(Debug, Clone)]
pub struct Independent<A, B> {
    /// Of x.
    pub first: A,
    /// Of y.
    pub second: B,
}

impl<X, Y, C, A: Sample<X, C>, B: Sample<Y, C>> Sample<(X, Y), C> for Independent<A, B> {
    fn sample(&self, n: usize, condition: &C, rng: &mut Rng) -> Result<(X, Y)> {
        let x = self.first.sample(n, condition, rng)?;
        let y = self.second.sample(n, condition, rng)?;
        Ok((x, y))
    }
}

impl<X, Y, C, A: Distribution<X, C>, B: Distribution<Y, C>> Distribution<(X, Y), C> for Independent<A, B> {
    fn log_prob(&self, (x, y): &(X, Y), condition: &C) -> Result<Tensor> {
        Ok((self.first.log_prob(x, condition)? + self.second.log_prob(y, condition)?)?)
    }
}

/// A model that is not trained: the same draws, with their densities, without autodiff history. As `first` of [`Autoregressive`] it is the
/// fixed marginal under which a conditional is trained [QCD Sec. 3.1].
#[derive(Debug, Clone)]
pub struct Fixed<M>(pub M);

impl<X: Configuration, C, M: Sample<X, C>> Sample<X, C> for Fixed<M> {
    fn sample(&self, n: usize, condition: &C, rng: &mut Rng) -> Result<X> {
        Ok(self.0.sample(n, condition, rng)?.detach())
    }
}

impl<X: Configuration, C, M: Distribution<X, C>> Distribution<X, C> for Fixed<M> {
    fn log_prob(&self, x: &X, condition: &C) -> Result<Tensor> {
        self.0.log_prob(x, condition)
    }

    fn sample_with_log_prob(&self, n: usize, condition: &C, rng: &mut Rng) -> Result<(X, Tensor)> {
        let (x, log_q) = self.0.sample_with_log_prob(n, condition, rng)?;
        Ok((x.detach(), log_q.detach()))
    }
}
