//! The Gamma method: error and τ_int from the autocovariance of all chains together, with an automatic window.
//!
//! After U. Wolff, "Monte Carlo errors with less errors", hep-lat/0306017. For R chains of together N measurements with
//! the common mean X̄,
//!
//! ```text
//! Γ(t)   = 1/(N − R t) Σ_r Σ_i (X^r_i − X̄)(X^r_{i+t} − X̄)
//! C(W)   = Γ(0) + 2 Σ_{t=1}^{W} Γ(t),      τ(W) = C(W) / 2Γ(0)
//! g(W)   = exp(−W/τ_W) − τ_W/√(W N),       τ_W = S / ln[(2τ(W) + 1)/(2τ(W) − 1)]
//! ```
//!
//! W is the first lag with g(W) < 0, where the statistical error of the sum overtakes its truncation for an
//! autocorrelation that falls off in S τ_int (for τ < ½ see the code). Subtracting the measured mean biases every Γ(t) by −C/N, which is undone
//! to leading order: C → C (1 + (2W+1)/N), Γ(0) → Γ(0) + C/N. Then
//!
//! ```text
//! σ² = C/N,   δσ/σ = √((W + ½)/N),   τ_int = C/2Γ(0),   δτ_int = 2 τ_int √((W + ½ − τ_int)/N)
//! ```

use super::autocorrelation::{centred, is_constant, lag_product};
use super::{Chains, ValueError};
use crate::{Error, Result};

/// The usual S: autocorrelations die out within 2 τ_int.
pub const GAMMA_METHOD_S: f64 = 2.0;

/// Result of the Gamma method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GammaMethod {
    /// Mean over all chains with its error.
    pub mean: ValueError,
    /// Error of the error.
    pub error_of_error: f64,
    /// τ_int in units of the measurement interval; ½ without autocorrelation.
    pub tau_int: ValueError,
    /// The window W.
    pub window: usize,
}

/// Mean, error and τ_int of chains by the Gamma method, with the window parameter `s` > 0 ([`GAMMA_METHOD_S`]).
///
/// Lags up to half a chain are tried; chains that are too short for their window or all constant are an error.
pub fn gamma_method(chains: &Chains, s: f64) -> Result<GammaMethod> {
    let method = "Gamma method";
    if !(s.is_finite() && s > 0.0) {
        return Err(Error::Parameter { what: "window parameter S", expected: "positive", got: s });
    }
    let (replicas, length) = (chains.n_chains() as f64, chains.length());
    if length < 4 {
        return Err(Error::TooShort { what: "measurements of a chain for τ_int", needed: 4, got: length });
    }
    let n = chains.n() as f64;
    let mean = chains.mean();
    if chains.iter().all(is_constant) {
        return Err(Error::ZeroVariance { what: method, chain: 0 });
    }
    let deltas: Vec<Vec<f64>> = chains.iter().map(|chain| centred(chain, mean)).collect();
    let gamma = |lag: usize| {
        let sum: f64 = deltas.iter().map(|delta| lag_product(delta, lag)).sum();
        sum / (n - replicas * lag as f64)
    };

    let variance = gamma(0);
    let mut c = variance;
    let max_lag = length / 2;
    let mut window = 0;
    loop {
        window += 1;
        if window > max_lag {
            let tau_int = c / (2.0 * variance);
            return Err(Error::NoWindow { method, chain: 0, length, max_lag, tau_int });
        }
        c += 2.0 * gamma(window);
        if window_is_reached(c / (2.0 * variance), window as f64, n, s) {
            break;
        }
    }
    if c <= 0.0 {
        return Err(Error::NonPositiveVariance { method, window, variance: c / n });
    }

    let w = window as f64;
    let tau = c * (1.0 + (2.0 * w + 1.0) / n) / (2.0 * (variance + c / n));
    let error = (c * (1.0 + (2.0 * w + 1.0) / n) / n).sqrt();
    let tau_error = 2.0 * tau * ((w + 0.5 - tau).max(0.0) / n).sqrt();
    Ok(GammaMethod {
        mean: ValueError::new(mean, error),
        error_of_error: error * ((w + 0.5) / n).sqrt(),
        tau_int: ValueError::new(tau, tau_error),
        window,
    })
}

/// g(W) < 0. With |τ − ½| for τ − ½, so that the alternating correlations of an over-relaxed chain, τ < ½, get the window
/// that their decay asks for; the original rule stops at W = 1 there and underestimates the error.
fn window_is_reached(tau: f64, window: f64, n: f64, s: f64) -> bool {
    let excess = (tau - 0.5).abs();
    if excess == 0.0 {
        return true;
    }
    let decay = s / ((excess + 1.0) / excess).ln();
    (-window / decay).exp() < decay / (window * n).sqrt()
}
