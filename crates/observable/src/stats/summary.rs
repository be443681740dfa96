//! Everything a table row needs to know about one observable, by the paper's conventions [YUK Tab. II, III].

use super::{
    Chains, GAMMA_METHOD_S, GammaMethod, MADRAS_SOKAL_C, MadrasSokal, ValueError, default_bin, gamma_method,
    jackknife, madras_sokal,
};
use crate::{Error, Result};

/// Mean, error and autocorrelation of one observable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Mean with its blocking + jackknife error.
    pub mean: ValueError,
    /// Block length.
    pub bin: usize,
    /// Number of blocks.
    pub n_bins: usize,
    /// Number of measurements in all chains.
    pub n: usize,
    /// τ_int [YUK (52)], window c = 10; `None` if the chains are too short for that window or one of them is constant.
    pub tau_int: Option<MadrasSokal>,
    /// The Gamma method beside it; `None` if even all chains together are too short for its window or constant.
    pub gamma_method: Option<GammaMethod>,
}

/// Summary of one observable, with blocks of `bin` measurements or of [`default_bin`].
pub fn summarize(chains: &Chains, bin: Option<usize>) -> Result<Summary> {
    let bin = match bin {
        Some(bin) => bin,
        None => default_bin(&[chains])?,
    };
    let estimate = jackknife(&[chains], bin, |means| means[0])?;
    Ok(Summary {
        mean: estimate.estimate,
        bin,
        n_bins: estimate.n_bins,
        n: chains.n(),
        tau_int: measurable(madras_sokal(chains, MADRAS_SOKAL_C))?,
        gamma_method: measurable(gamma_method(chains, GAMMA_METHOD_S))?,
    })
}

/// Chains too short to say how correlated they are still have a mean and a blocking error.
fn measurable<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(
            Error::NoWindow { .. }
            | Error::ZeroVariance { .. }
            | Error::NonPositiveVariance { .. }
            | Error::TooShort { .. },
        ) => Ok(None),
        Err(other) => Err(other),
    }
}
