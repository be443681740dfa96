//! Blocking and the jackknife: errors of means, and of functions of means, from correlated chains.
//!
//! Each chain is cut into blocks; the estimate θ̂ = f(ā, b̄, …) is repeated with one block of m_j of the N measurements
//! left out, giving θ_(j). For g blocks, possibly of unequal length (h_j = N/m_j),
//!
//! ```text
//! θ̃_j = h_j θ̂ − (h_j − 1) θ_(j)                       pseudo-values
//! θ̃   = Σ_j θ̃_j / h_j                                 = θ̂ − bias
//! σ²  = (1/g) Σ_j (θ̃_j − θ̃)² / (h_j − 1)
//! ```
//!
//! (F. Busing, E. Meijer, R. van der Leeden, Stat. Comput. 9 (1999) 3); with equal blocks this is the usual
//! σ² = (g−1)/g Σ_j (θ_(j) − ⟨θ_(·)⟩)². Blocks never reach from one chain into the next. No measurement is dropped: a
//! chain of N measurements is cut into ⌊N/bin⌋ blocks whose lengths, `bin` or a little more, differ by at most one.

use super::chains::same_shape;
use super::{Chains, ValueError, gamma_method};
use crate::{Error, Result};

/// A jackknife estimate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jackknife {
    /// The plain estimate f(means), not bias-corrected, with its jackknife error.
    pub estimate: ValueError,
    /// Jackknife estimate of the bias of `estimate.value`; zero up to rounding for a linear f.
    pub bias: f64,
    /// Shortest block.
    pub bin: usize,
    /// Number of blocks in all chains together; the error itself is uncertain by about 1/√(2 n_bins).
    pub n_bins: usize,
}

impl Chains {
    /// Mean with its blocking + jackknife error.
    pub fn estimate(&self, bin: usize) -> Result<ValueError> {
        Ok(jackknife(&[self], bin, |means| means[0])?.estimate)
    }
}

/// Blocking + jackknife estimate of a function of the means of several observables of the same configurations, in the
/// order of `series`. The ratio Σ wO / Σ w of a reweighted chain is `jackknife(&[&wo, &w], bin, |m| m[0] / m[1])`.
pub fn jackknife(series: &[&Chains], bin: usize, f: impl Fn(&[f64]) -> f64) -> Result<Jackknife> {
    let blocks = Blocks::new(series, bin)?;
    let n = series[0].n() as f64;
    let totals: Vec<f64> = blocks.sums.iter().map(|sums| sums.iter().sum()).collect();
    let full: Vec<f64> = totals.iter().map(|total| total / n).collect();
    let evaluate = |means: &[f64], index| match f(means) {
        value if value.is_finite() => Ok(value),
        value => Err(Error::NotFinite { what: "function of means", series: 0, index, value }),
    };
    let estimate = evaluate(&full, 0)?;

    let n_bins = blocks.counts.len();
    let mut means = vec![0.0; series.len()];
    let mut pseudo = Vec::with_capacity(n_bins);
    for (j, &count) in blocks.counts.iter().enumerate() {
        for ((mean, total), sums) in means.iter_mut().zip(&totals).zip(&blocks.sums) {
            *mean = (total - sums[j]) / (n - count);
        }
        let h = n / count;
        pseudo.push((h, h * estimate - (h - 1.0) * evaluate(&means, j)?));
    }
    let corrected: f64 = pseudo.iter().map(|(h, value)| value / h).sum();
    let spread: f64 = pseudo.iter().map(|(h, value)| (value - corrected).powi(2) / (h - 1.0)).sum();
    let error = (spread / n_bins as f64).sqrt();
    Ok(Jackknife { estimate: ValueError::new(estimate, error), bias: estimate - corrected, bin, n_bins })
}

/// Sums over the blocks of each series, and the length of each block.
pub(crate) struct Blocks {
    pub(crate) sums: Vec<Vec<f64>>,
    pub(crate) counts: Vec<f64>,
}

impl Blocks {
    pub(crate) fn new(series: &[&Chains], bin: usize) -> Result<Self> {
        same_shape("blocking", series)?;
        let (n_chains, length) = (series[0].n_chains(), series[0].length());
        if bin == 0 {
            return Err(Error::Parameter { what: "bin", expected: "at least 1", got: 0.0 });
        }
        if length < bin {
            return Err(Error::TooShort {
                what: "measurements of a chain for one block",
                needed: bin,
                got: length,
            });
        }
        let per_chain = length / bin;
        if n_chains * per_chain < 2 {
            return Err(Error::TooShort {
                what: "blocks for an error",
                needed: 2,
                got: n_chains * per_chain,
            });
        }
        let range = |k: usize| k * length / per_chain..(k + 1) * length / per_chain;
        let sums = |chains: &&Chains| {
            let blocks =
                chains.iter().flat_map(|chain| (0..per_chain).map(move |k| chain[range(k)].iter().sum()));
            blocks.collect()
        };
        let counts = (0..n_chains).flat_map(|_| (0..per_chain).map(|k| range(k).len() as f64)).collect();
        Ok(Self { sums: series.iter().map(sums).collect(), counts })
    }
}

/// Block length of [YUK Tab. II, Fig. 4].
const PAPER_BIN: usize = 100;
/// Blocks that make the error good to 1/√(2·50) = 10 %.
const ENOUGH_BLOCKS: usize = 50;
/// Below this an error is not worth quoting.
const FEWEST_BLOCKS: usize = 10;

/// The block length to use when none is given, for observables of the same configurations.
///
/// With τ the largest τ_int of them (Gamma method), the first of these that leaves at least 50 blocks:
///
/// 1. the larger of 100 (the paper's block) and 5τ, which underestimates an error by at most 10 %;
/// 2. 5τ;
/// 3. 2τ, accepted from 10 blocks on.
///
/// No block is longer than a chain: chains are independent, so whole chains are always good blocks, and they are taken
/// when the chains are too short to measure τ. Fewer than 10 blocks are an error.
pub fn default_bin(series: &[&Chains]) -> Result<usize> {
    same_shape("default bin", series)?;
    let (n_chains, length) = (series[0].n_chains(), series[0].length());
    let mut tau: f64 = 0.5;
    for chains in series {
        match gamma_method(chains, super::GAMMA_METHOD_S) {
            Ok(estimate) => tau = tau.max(estimate.tau_int.value),
            Err(Error::NoWindow { .. } | Error::NonPositiveVariance { .. } | Error::TooShort { .. }) => {
                tau = f64::INFINITY
            }
            Err(Error::ZeroVariance { .. }) => {} // a constant has no error, whatever the block
            Err(other) => return Err(other),
        }
    }
    let times = |factor: f64| (factor * tau).ceil().min(length as f64) as usize;
    let blocks = |bin: usize| n_chains * (length / bin);
    let candidates = [times(5.0).max(PAPER_BIN.min(length)), times(5.0)];
    if let Some(bin) = candidates.into_iter().find(|bin| blocks(*bin) >= ENOUGH_BLOCKS) {
        return Ok(bin);
    }
    let bin = times(2.0);
    if blocks(bin) < FEWEST_BLOCKS {
        let what = "blocks of twice the autocorrelation time";
        return Err(Error::TooShort { what, needed: FEWEST_BLOCKS, got: blocks(bin) });
    }
    Ok(bin)
}
