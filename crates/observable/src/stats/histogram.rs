//! Density histograms with bootstrap errors, weighted or not [QCD Fig. 2].
//!
//! ```text
//! h_k = Σ_i w_i [x_i in bin k] / (Δ_k Σ_i w_i)            w = 1 for the measurements of a Markov chain
//! ratio_k = h_k / h_k^ref                                 with the central value of the reference [QCD Fig. 2, lower panels]
//! ```
//!
//! Bins are half-open, [a, b), the last one closed. What lies outside counts in Σ w: the densities sum to the fraction inside.
//! Numerator and denominator are drawn again together, in blocks, so that the errors know of correlations along a chain and of the
//! fluctuations of the weights.

use super::bootstrap::{resample, spread};
use super::chains::same_shape;
use super::{Chains, ValueError};
use crate::{Error, Result};
use latflow_lattice::Rng;
use std::ops::Range;

/// The edges of the bins of a histogram.
#[derive(Debug, Clone, PartialEq)]
pub struct Bins {
    edges: Vec<f64>,
}

impl Bins {
    /// `count` bins of equal width between two ends.
    ///
    /// # Errors
    /// When there is no bin or the ends do not ascend.
    pub fn uniform(ends: Range<f64>, count: usize) -> Result<Self> {
        let width = (ends.end - ends.start) / count as f64;
        let inner = (0..count).map(|k| ends.start + width * k as f64);
        Self::new(inner.chain([ends.end]).collect())
    }

    /// Bins between ascending edges.
    ///
    /// # Errors
    /// When there is no bin, or the edges are not finite or do not ascend.
    pub fn new(edges: Vec<f64>) -> Result<Self> {
        let what = "edges of bins";
        if edges.len() < 2 {
            return Err(Error::TooShort { what, needed: 2, got: edges.len() });
        }
        if let Some(index) = edges.iter().position(|e| !e.is_finite()) {
            return Err(Error::NotFinite { what, series: 0, index, value: edges[index] });
        }
        match edges.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) => Err(Error::Parameter { what, expected: "ascending", got: pair[1] }),
            None => Ok(Self { edges }),
        }
    }

    /// The edges, one more than bins.
    pub fn edges(&self) -> &[f64] {
        &self.edges
    }

    /// Number of bins.
    pub fn count(&self) -> usize {
        self.edges.len() - 1
    }

    /// The widths.
    pub fn widths(&self) -> impl Iterator<Item = f64> {
        self.edges.windows(2).map(|pair| pair[1] - pair[0])
    }

    /// The bin of a number, if it has one.
    pub fn find(&self, x: f64) -> Option<usize> {
        let last = self.count();
        if x == self.edges[last] {
            return Some(last - 1);
        }
        // The number of edges at or below x.
        match self.edges.partition_point(|e| *e <= x) {
            0 => None,
            k => (k <= last).then_some(k - 1),
        }
    }
}

/// A density histogram of one observable.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// The bins.
    pub bins: Bins,
    /// h_k with its bootstrap error.
    pub density: Vec<ValueError>,
    /// The share of the total weight that lies outside all bins.
    pub outside: f64,
}

/// How to draw the ensembles of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resampling {
    /// Measurements in a block: above twice the autocorrelation time of a chain, 1 for independent samples.
    pub block: usize,
    /// Number of ensembles: [`BOOTSTRAP_ENSEMBLES`](super::BOOTSTRAP_ENSEMBLES).
    pub ensembles: usize,
}

impl Histogram {
    /// The histogram of chains, or of independent samples (one chain) with importance weights on any common scale.
    ///
    /// # Errors
    /// When the weights do not belong to the values, are negative or vanish altogether, or there are too few blocks.
    pub fn new(
        bins: &Bins,
        values: &Chains,
        weights: Option<&Chains>,
        resampling: Resampling,
        rng: &mut Rng,
    ) -> Result<Self> {
        let blocks = Blocks::new(bins, values, weights, resampling.block)?;
        let total = blocks.shares(&vec![1; blocks.sums.len()])?;
        let ensembles = resample(blocks.sums.len(), resampling.ensembles, rng, |times| blocks.shares(times))?;
        let density = (0..bins.count()).zip(bins.widths()).map(|(k, width)| {
            let spread = spread(&ensembles.iter().map(|e| e[k]).collect::<Vec<_>>());
            ValueError::new(total[k] / width, spread / width)
        });
        Ok(Self { bins: bins.clone(), density: density.collect(), outside: total[bins.count()] })
    }

    /// h_k divided by the central value of another histogram with the same bins; `None` where that is zero. A histogram relative to
    /// itself is 1 with its relative errors.
    ///
    /// # Errors
    /// When the bins differ.
    pub fn relative_to(&self, reference: &Self) -> Result<Vec<Option<ValueError>>> {
        self.same_bins(reference)?;
        let ratio = |(h, r): (&ValueError, &ValueError)| {
            (r.value != 0.0).then(|| ValueError::new(h.value / r.value, h.error / r.value))
        };
        Ok(self.density.iter().zip(&reference.density).map(ratio).collect())
    }

    /// (h − h′)/√(σ² + σ′²) of the bins of two independent histograms in which both together have at least `fewest` effective
    /// measurements, in the sense n = ((h + h′)/√(σ² + σ′²))², the number of entries when all of them count alike. The rule sees only the
    /// sum of both, so that it does not select for agreement. Bins without entries have no residual.
    ///
    /// # Errors
    /// When the bins differ.
    pub fn residuals(&self, other: &Self, fewest: f64) -> Result<Vec<f64>> {
        self.same_bins(other)?;
        let pairs = self.density.iter().zip(&other.density).filter_map(|(a, b)| {
            let error = a.error.hypot(b.error);
            let enough = error > 0.0 && ((a.value + b.value) / error).powi(2) >= fewest;
            enough.then(|| (a.value - b.value) / error)
        });
        Ok(pairs.collect())
    }

    fn same_bins(&self, other: &Self) -> Result<()> {
        if self.bins == other.bins {
            return Ok(());
        }
        let (expected, got) = (self.bins.count(), other.bins.count());
        Err(Error::UnequalLength { what: "bins of two histograms", series: 1, expected, got })
    }
}

/// What each block adds: few entries each, so only those that are there.
struct Blocks {
    /// Weight of the measurements of each block in each bin that has some; the bin after the last is outside.
    sums: Vec<Vec<(usize, f64)>>,
    count: usize,
}

impl Blocks {
    fn new(bins: &Bins, values: &Chains, weights: Option<&Chains>, block: usize) -> Result<Self> {
        let what = "weights of a histogram";
        if let Some(weights) = weights {
            same_shape(what, &[values, weights])?;
            for (series, chain) in weights.iter().enumerate() {
                if let Some(index) = chain.iter().position(|w| *w < 0.0) {
                    return Err(Error::NotFinite { what, series, index, value: chain[index] });
                }
            }
        }
        if block == 0 {
            return Err(Error::Parameter { what: "bin", expected: "at least 1", got: 0.0 });
        }
        let length = values.length();
        let per_chain = length / block;
        if per_chain == 0 {
            let what = "measurements of a chain for one block";
            return Err(Error::TooShort { what, needed: block, got: length });
        }
        let mut sums = Vec::with_capacity(values.n_chains() * per_chain);
        for (c, chain) in values.iter().enumerate() {
            let weights = weights.and_then(|w| w.iter().nth(c));
            for k in 0..per_chain {
                let range = k * length / per_chain..(k + 1) * length / per_chain;
                let mut entries: Vec<(usize, f64)> = Vec::new();
                for i in range {
                    let bin = bins.find(chain[i]).unwrap_or(bins.count());
                    let weight = weights.map_or(1.0, |w| w[i]);
                    match entries.iter_mut().find(|(b, _)| *b == bin) {
                        Some((_, sum)) => *sum += weight,
                        None => entries.push((bin, weight)),
                    }
                }
                sums.push(entries);
            }
        }
        Ok(Self { sums, count: bins.count() + 1 })
    }

    /// Shares of the bins in the total weight, for blocks that appear so many times.
    fn shares(&self, times: &[u32]) -> Result<Vec<f64>> {
        let mut shares = vec![0.0; self.count];
        for (entries, times) in self.sums.iter().zip(times) {
            entries.iter().for_each(|(bin, weight)| shares[*bin] += f64::from(*times) * weight);
        }
        let total: f64 = shares.iter().sum();
        if total <= 0.0 {
            let what = "total weight of an ensemble";
            return Err(Error::Parameter { what, expected: "positive", got: total });
        }
        shares.iter_mut().for_each(|s| *s /= total);
        Ok(shares)
    }
}
