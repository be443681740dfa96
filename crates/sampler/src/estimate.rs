//! Unbiased estimates of e^{−S(φ)} where the determinant is too expensive.
//!
//! ```text
//! det M = 1/Z_N ∫dϕ e^{−ϕ†M⁻¹ϕ}                                                  [YUK (9), (10)]
//! e^{−S(φ)} = e^{−S_B} det M = e^{−S_B}/Z_N · E_{ϕ~q(·|φ)} [ e^{−ϕ†M⁻¹ϕ} / q(ϕ|φ) ],   M = D D†
//! ```
//!
//! for any normalised q(ϕ|φ) that is nowhere zero. With q = e^{−ϕ†ϕ}/Z_N the bracket is Z_N e^{−ϕ†(M⁻¹−1)ϕ}, the estimator printed
//! in [YUK Sec. III A]. That text draws ϕ from p(ϕ|φ), but with noise of that distribution the mean of the same quantity is
//!
//! ```text
//! E_{ϕ~p(·|φ)} [ e^{−ϕ†(M⁻¹−1)ϕ} ] = 1 / (det M det(2M⁻¹ − 1)) = 1 / det(2 − M)      (M < 2; else it diverges)
//! ```
//!
//! which is det M only at M = 1. We read the formula with noise e^{−ϕ†ϕ}/Z_N, for which it is exact.
//!
//! The relative variance of one draw is finite where the covariance of q exceeds M/2 and the estimate is bounded where it
//! exceeds M; averaging over draws helps a Markov chain most when it is.

use crate::{Error, Result};
use candle_core::{DType, Tensor};
use latflow_action::{Action, Exact, Pseudofermion};
use latflow_fermion::Dirac;
use latflow_flow::Distribution;
use latflow_lattice::{Configuration, Rng};

/// An unbiased, positive estimate of a density: E[exp(log estimate)] = e^{−S(x)} over the estimate's own noise.
pub trait LogEstimate<X> {
    /// The logarithm of one new estimate for each configuration.
    ///
    /// # Errors
    /// When the field does not fit or a solver fails.
    fn log_estimate(&self, x: &X, rng: &mut Rng) -> Result<Vec<f64>>;
}

/// −S, an estimate without noise.
impl<X, A: Action<X>> LogEstimate<X> for Exact<A> {
    fn log_estimate(&self, x: &X, _: &mut Rng) -> Result<Vec<f64>> {
        Ok(self.0.action(x)?.detach().neg()?.to_vec1::<f64>()?)
    }
}

/// e^{−S_B} |det D_theory|² from n pseudofermions drawn from `conditional`, averaged; D_theory is the operator before
/// preconditioning, so that the estimate has the normalisation of the exact determinant.
#[derive(Debug, Clone)]
pub struct PseudofermionEstimate<A, D, Q> {
    /// S_B, the Dirac operator and its solver.
    pub theory: Pseudofermion<A, D>,
    /// q(ϕ|φ) of ϕ `[B, 2, N]`: the closer to p(ϕ|φ), the smaller the noise.
    pub conditional: Q,
    draws: usize,
}

/// Pseudofermions solved for at once; bounds the memory, and fixes the order of the random numbers.
const ROWS: usize = 4096;

impl<A: Action<D::Field>, D: Dirac, Q: Distribution<Tensor, D::Field>> PseudofermionEstimate<A, D, Q> {
    /// An estimator with n draws a configuration.
    ///
    /// # Errors
    /// When there are no draws.
    pub fn new(theory: Pseudofermion<A, D>, conditional: Q, draws: usize) -> Result<Self> {
        if draws == 0 {
            return Err(Error::Parameter { name: "draws", value: 0.0, expected: "at least 1" });
        }
        Ok(Self { theory, conditional, draws })
    }

    /// Pseudofermions a configuration.
    pub fn draws(&self) -> usize {
        self.draws
    }

    /// log of e^{−S_PF}/(Z q(ϕ|φ)), an estimate of |det D_theory|², for `draws` new pseudofermions of each configuration; those of
    /// one configuration next to each other.
    ///
    /// # Errors
    /// When the field does not fit or the solver does not converge.
    pub fn log_weights(&self, phi: &D::Field, draws: usize, rng: &mut Rng) -> Result<Vec<f64>> {
        let rows = phi.batch()? * draws;
        let tiled = phi.map(&mut |t| {
            let mut tiled = t.dims().to_vec();
            tiled.insert(1, draws);
            let mut flat = t.dims().to_vec();
            flat[0] = rows;
            Ok(t.unsqueeze(1)?.broadcast_as(tiled)?.reshape(flat)?)
        })?;
        let (pf, log_q) = self.conditional.sample_with_log_prob(rows, &tiled, rng)?;
        let log_q = log_q.detach().to_dtype(DType::F64)?;
        let action = self.theory.pseudofermion_action(&tiled, &pf.detach())?;
        let constant = self.theory.log_normalisation();
        Ok((action + log_q)?.affine(-1.0, -constant)?.to_vec1::<f64>()?)
    }
}

impl<A, D, Q> LogEstimate<D::Field> for PseudofermionEstimate<A, D, Q>
where
    A: Action<D::Field>,
    D: Dirac,
    Q: Distribution<Tensor, D::Field>,
{
    fn log_estimate(&self, phi: &D::Field, rng: &mut Rng) -> Result<Vec<f64>> {
        let phi = phi.detach();
        let batch = phi.batch()?;
        let bosonic = self.theory.bosonic.action(&phi)?.to_vec1::<f64>()?;
        let at_once = (ROWS / self.draws).max(1);
        let mut log_means = Vec::with_capacity(batch);
        for start in (0..batch).step_by(at_once) {
            let part = phi.map(&mut |t| Ok(t.narrow(0, start, at_once.min(batch - start))?))?;
            log_means
                .extend(self.log_weights(&part, self.draws, rng)?.chunks_exact(self.draws).map(log_mean_exp));
        }
        Ok(log_means.iter().zip(bosonic).map(|(mean, bosonic)| mean - bosonic).collect())
    }
}

/// log (1/n Σ e^x) without overflow; NaN if any x is.
pub fn log_mean_exp(x: &[f64]) -> f64 {
    let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // Infinities would cancel to NaN; an x that is NaN is never the largest, but it spoils the sum below.
    let scale = if largest.is_finite() { largest } else { 0.0 };
    scale + (x.iter().map(|x| (x - scale).exp()).sum::<f64>() / x.len() as f64).ln()
}
