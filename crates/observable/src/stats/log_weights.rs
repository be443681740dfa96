//! Importance weights of independent flow samples, kept as logarithms.
//!
//! ```text
//! w_i = p̃(x_i)/q(x_i),   x_i ~ q independent,   Z = ∫ p̃
//! Z ≈ w̄ = 1/N Σ w,    ESS = (Σ w)² / (N Σ w²) ∈ [1/N, 1],    ⟨O⟩_p ≈ Σ w O / Σ w
//! acceptance of independence Metropolis in equilibrium = E_{x,y ~ q}[min(w_x, w_y)] / E_q[w]
//! ```
//!
//! The last line holds because a chain at x ~ p = q w/Z accepts y ~ q with probability min(1, w_y/w_x). All sums are
//! taken relative to the largest weight; errors are by the jackknife that leaves out one sample at a time, in O(N).
//! Weights along a Markov chain are not independent: give [`jackknife`](crate::jackknife) their chains instead,
//! as [`Chains::relative_weights`].

use super::{Chains, ValueError};
use crate::{Error, Result};

/// Logarithmic importance weights log p̃ − log q of independent samples of q. −∞ (weight zero) is allowed.
#[derive(Debug, Clone)]
pub struct LogWeights {
    /// Logarithm of the largest weight.
    log_scale: f64,
    /// w / exp(log_scale), in [0, 1], at least one of them 1.
    weights: Vec<f64>,
}

impl Chains {
    /// Importance weights, the largest of them 1, from their logarithms: a common factor cancels in Σ wO / Σ w, and none
    /// overflows.
    pub fn relative_weights(&self) -> Result<Self> {
        let log_scale = largest(self.iter().flatten());
        self.map(|w| (w - log_scale).exp())
    }
}

/// −∞ where there is none.
fn largest<'a>(log_weights: impl IntoIterator<Item = &'a f64>) -> f64 {
    log_weights.into_iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

impl LogWeights {
    /// Refuses no weight at all, NaN, +∞, and weights that all vanish.
    pub fn new(log_weights: &[f64]) -> Result<Self> {
        let what = "log weights";
        let log_scale = largest(log_weights);
        if log_weights.is_empty() {
            return Err(Error::Empty { what });
        }
        if let Some(index) = log_weights.iter().position(|w| w.is_nan() || *w == f64::INFINITY) {
            return Err(Error::NotFinite { what, series: 0, index, value: log_weights[index] });
        }
        if log_scale == f64::NEG_INFINITY {
            return Err(Error::NotFinite { what, series: 0, index: 0, value: log_scale });
        }
        let weights = log_weights.iter().map(|w| (w - log_scale).exp()).collect();
        Ok(Self { log_scale, weights })
    }

    /// Effective sample size over the number of samples, (Σ w)²/(N Σ w²) ∈ [1/N, 1].
    ///
    /// It is measured on the flow's own samples, so it cannot see a mode that the flow never visits.
    pub fn ess(&self) -> f64 {
        let squares: f64 = self.weights.iter().map(|w| w * w).sum();
        self.sum().powi(2) / (self.n() * squares)
    }

    /// Largest share of one sample in the total weight; near 1 every estimate rests on that sample.
    pub fn largest_share(&self) -> f64 {
        1.0 / self.sum()
    }

    /// log Z = log (1/N Σ w), with its jackknife error.
    pub fn log_z(&self) -> Result<ValueError> {
        let sum = self.sum();
        let log_mean = (sum / self.n()).ln();
        let without = self.weights.iter().map(|w| ((sum - w) / (self.n() - 1.0)).ln());
        Ok(ValueError::new(self.log_scale + log_mean, self.jackknife_error("log Z", without)?))
    }

    /// Reweighted mean Σ w O / Σ w of one observable, with its jackknife error.
    pub fn mean(&self, observable: &[f64]) -> Result<ValueError> {
        let what = "reweighted mean";
        if observable.len() != self.weights.len() {
            let (expected, got) = (self.weights.len(), observable.len());
            return Err(Error::UnequalLength { what, series: 0, expected, got });
        }
        if let Some(index) = observable.iter().position(|o| !o.is_finite()) {
            return Err(Error::NotFinite { what, series: 0, index, value: observable[index] });
        }
        let sum = self.sum();
        let weighted: f64 = self.weights.iter().zip(observable).map(|(w, o)| w * o).sum();
        let without = self.weights.iter().zip(observable).map(|(w, o)| (weighted - w * o) / (sum - w));
        Ok(ValueError::new(weighted / sum, self.jackknife_error(what, without)?))
    }

    /// Acceptance that independence Metropolis with this proposal has in equilibrium, with its jackknife error.
    ///
    /// Over all ordered pairs of different samples: with weights in ascending order, Σ_{i<j} min(w_i, w_j) =
    /// Σ_k w_k (N − 1 − k), so that
    ///
    /// ```text
    /// acceptance ≈ 2 Σ_k w_k (N − 1 − k) / ((N − 1) Σ_k w_k)
    /// ```
    pub fn acceptance(&self) -> Result<ValueError> {
        let mut weights = self.weights.clone();
        weights.sort_by(f64::total_cmp);
        let (n, sum) = (self.n(), self.sum());
        let above = |k: usize| n - 1.0 - k as f64;
        let pairs: f64 = weights.iter().enumerate().map(|(k, w)| w * above(k)).sum();
        let mut below = 0.0;
        let without = weights.iter().enumerate().map(|(k, w)| {
            // Its own pairs go: with the larger ones, where it is the minimum, and with the smaller ones.
            let left = pairs - w * above(k) - below;
            below += w;
            2.0 * left / ((n - 2.0) * (sum - w))
        });
        if weights.len() < 3 {
            return Err(Error::TooShort { what: "samples for an acceptance", needed: 3, got: weights.len() });
        }
        let error = self.jackknife_error("acceptance", without)?;
        Ok(ValueError::new(2.0 * pairs / ((n - 1.0) * sum), error))
    }

    fn n(&self) -> f64 {
        self.weights.len() as f64
    }

    fn sum(&self) -> f64 {
        self.weights.iter().sum()
    }

    /// √((N−1)/N Σ (θ_(i) − ⟨θ_(·)⟩)²).
    fn jackknife_error(&self, what: &'static str, without: impl Iterator<Item = f64>) -> Result<f64> {
        if self.weights.len() < 2 {
            return Err(Error::TooShort { what: "samples for an error", needed: 2, got: self.weights.len() });
        }
        let without: Vec<f64> = without.collect();
        // One sample that carries all the weight leaves nothing behind.
        if let Some(index) = without.iter().position(|x| !x.is_finite()) {
            return Err(Error::NotFinite { what, series: 0, index, value: without[index] });
        }
        let n = self.n();
        let mean = without.iter().sum::<f64>() / n;
        let spread: f64 = without.iter().map(|x| (x - mean).powi(2)).sum();
        Ok(((n - 1.0) / n * spread).sqrt())
    }
}
