//! Autocorrelation function and integrated autocorrelation time with the Madras–Sokal window, chain by chain.
//!
//! ```text
//! Γ(τ)  = 1/(N − τ) Σ_i (X_i − X̄)(X_{i+τ} − X̄)                                          [YUK (51)]
//! τ_int = ½ + Σ_{τ=1}^{W} Γ(τ)/Γ(0),      W the smallest with c τ_int(W) ≤ W, c = 10       [YUK (52)]
//! ```
//!
//! The mean X̄ of the chain is subtracted before multiplying; [YUK (51)] subtracts its square afterwards. Both estimate
//! the same function, but only this one does not change when a constant is added to X.

use super::{Chains, ValueError};
use crate::{Error, Result};

/// The window factor c of [YUK Sec. V C].
pub const MADRAS_SOKAL_C: f64 = 10.0;

/// τ_int by the Madras–Sokal window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MadrasSokal {
    /// Average over the chains, with the jackknife error over chains; for a single chain the error is the asymptotic
    /// τ √(2(2W + 1)/N). In units of the measurement interval.
    pub tau_int: ValueError,
    /// Largest window among the chains.
    pub window: usize,
}

/// Γ(0), …, Γ(max_lag) of one chain [YUK (51)], in units of X².
pub fn autocovariance(chain: &[f64], max_lag: usize) -> Result<Vec<f64>> {
    let what = "autocovariance";
    if chain.is_empty() {
        return Err(Error::Empty { what });
    }
    if max_lag >= chain.len() {
        return Err(Error::TooShort { what, needed: max_lag + 1, got: chain.len() });
    }
    if let Some(index) = chain.iter().position(|x| !x.is_finite()) {
        return Err(Error::NotFinite { what, series: 0, index, value: chain[index] });
    }
    let delta = centred(chain, mean(chain));
    Ok((0..=max_lag).map(|lag| lag_product(&delta, lag) / (chain.len() - lag) as f64).collect())
}

/// τ_int of each chain [YUK (52)], averaged over the chains.
///
/// Lags up to half the chain are tried; a chain that is too short for its window or does not move at all is an error.
/// The window factor `c` is positive, [`MADRAS_SOKAL_C`] in the paper.
pub fn madras_sokal(chains: &Chains, c: f64) -> Result<MadrasSokal> {
    let method = "Madras-Sokal";
    if !(c.is_finite() && c > 0.0) {
        return Err(Error::Parameter { what: "window factor c", expected: "positive", got: c });
    }
    let length = chains.length();
    if length < 4 {
        return Err(Error::TooShort { what: "measurements of a chain for τ_int", needed: 4, got: length });
    }
    let mut taus = Vec::with_capacity(chains.n_chains());
    let mut widest = 0;
    for (k, chain) in chains.iter().enumerate() {
        let (tau, window) = chain_tau(chain, c).map_err(|error| match error {
            Stuck::Constant => Error::ZeroVariance { what: method, chain: k },
            Stuck::NoWindow(tau_int) => {
                Error::NoWindow { method, chain: k, length, max_lag: length / 2, tau_int }
            }
        })?;
        taus.push(tau);
        widest = widest.max(window);
    }
    let n = taus.len() as f64;
    let average = mean(&taus);
    let error = if taus.len() > 1 {
        // The jackknife of a mean over single chains is the standard error.
        (lag_product(&centred(&taus, average), 0) / (n * (n - 1.0))).sqrt()
    } else {
        average.abs() * (2.0 * (2.0 * widest as f64 + 1.0) / length as f64).sqrt()
    };
    Ok(MadrasSokal { tau_int: ValueError::new(average, error), window: widest })
}

/// Why a chain has no τ_int.
enum Stuck {
    Constant,
    NoWindow(f64),
}

fn chain_tau(chain: &[f64], c: f64) -> std::result::Result<(f64, usize), Stuck> {
    let delta = centred(chain, mean(chain));
    let gamma = |lag: usize| lag_product(&delta, lag) / (delta.len() - lag) as f64;
    let variance = gamma(0);
    if is_constant(chain) {
        return Err(Stuck::Constant);
    }
    let mut tau = 0.5;
    for window in 1..=chain.len() / 2 {
        tau += gamma(window) / variance;
        if c * tau <= window as f64 {
            return Ok((tau, window));
        }
    }
    Err(Stuck::NoWindow(tau))
}

pub(crate) fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

pub(crate) fn centred(x: &[f64], mean: f64) -> Vec<f64> {
    x.iter().map(|x| x - mean).collect()
}

/// Exactly constant; a test of the variance against zero would be at the mercy of rounding in the mean.
pub(crate) fn is_constant(x: &[f64]) -> bool {
    x.iter().all(|y| *y == x[0])
}

/// Σ_i x_i x_{i+lag}, in eight partial sums so that it vectorises.
pub(crate) fn lag_product(x: &[f64], lag: usize) -> f64 {
    const LANES: usize = 8;
    let (early, late) = (&x[..x.len() - lag], &x[lag..]);
    let mut sums = [0.0; LANES];
    let (blocks_a, blocks_b) = (early.chunks_exact(LANES), late.chunks_exact(LANES));
    let tail: f64 = blocks_a.remainder().iter().zip(blocks_b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in blocks_a.zip(blocks_b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + tail
}
