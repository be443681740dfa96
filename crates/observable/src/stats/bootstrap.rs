//! The bootstrap: errors of functions of averages by drawing blocks of the chains again, with replacement.
//!
//! ```text
//! ensemble e:   draw g of the g blocks with replacement, block j m_j times;   θ_e = f(Σ_j m_j s_j)
//! error      :   σ² = 1/(R − 1) Σ_e (θ_e − θ̄)²,   R = 1000 ensembles in [QCD Fig. 2]
//! ```
//!
//! Blocks are those of [`jackknife`](crate::jackknife): they never reach from one chain into the next and no measurement is
//! dropped. With blocks of one measurement this is Efron's bootstrap of independent samples. Unlike the jackknife it also gives
//! errors of quantities that are not smooth, and a whole distribution: [`Bootstrap::quantile`].

use super::jackknife::Blocks;
use super::{Chains, ValueError};
use crate::{Error, Result};
use latflow_lattice::{Rng, uniform};

/// Ensembles of [QCD Fig. 2].
pub const BOOTSTRAP_ENSEMBLES: usize = 1000;

/// The estimates of a function of means on resampled ensembles.
#[derive(Debug, Clone, PartialEq)]
pub struct Bootstrap {
    /// The estimate from the measurements themselves, with the standard deviation of the ensembles.
    pub estimate: ValueError,
    /// The estimates of the ensembles in ascending order.
    ensembles: Vec<f64>,
}

impl Bootstrap {
    /// The estimate below which a fraction `p` of the ensembles lies, 0 ≤ p ≤ 1, interpolated between neighbours.
    ///
    /// # Errors
    /// When p is no fraction.
    pub fn quantile(&self, p: f64) -> Result<f64> {
        if !(0.0..=1.0).contains(&p) {
            return Err(Error::Parameter {
                what: "fraction of a quantile",
                expected: "between 0 and 1",
                got: p,
            });
        }
        let position = p * (self.ensembles.len() - 1) as f64;
        let (below, part) = (position.floor() as usize, position.fract());
        let above = (below + 1).min(self.ensembles.len() - 1);
        Ok(self.ensembles[below] * (1.0 - part) + self.ensembles[above] * part)
    }
}

/// Estimates on resampled ensembles: `f` is told how often each of `blocks` blocks appears.
pub(super) fn resample<T>(
    blocks: usize,
    ensembles: usize,
    rng: &mut Rng,
    f: impl Fn(&[u32]) -> Result<T>,
) -> Result<Vec<T>> {
    if blocks < 2 {
        return Err(Error::TooShort { what: "blocks for an error", needed: 2, got: blocks });
    }
    if ensembles < 2 {
        return Err(Error::TooShort { what: "bootstrap ensembles", needed: 2, got: ensembles });
    }
    let mut times = vec![0; blocks];
    let mut draw = || {
        times.fill(0);
        (0..blocks).for_each(|_| times[((uniform(rng) * blocks as f64) as usize).min(blocks - 1)] += 1);
        f(&times)
    };
    (0..ensembles).map(|_| draw()).collect()
}

/// Standard deviation of the ensembles.
pub(super) fn spread(ensembles: &[f64]) -> f64 {
    let n = ensembles.len() as f64;
    let mean = ensembles.iter().sum::<f64>() / n;
    (ensembles.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()
}

/// Bootstrap estimate of a function of the means of several observables of the same configurations, in the order of `series`, with
/// blocks of `bin` measurements. The ratio Σ wO / Σ w of a reweighted chain is `|m| m[0] / m[1]` of the series wO and w.
///
/// # Errors
/// When the series differ in length or are too short, or the function is not finite on an ensemble.
pub fn bootstrap(
    series: &[&Chains],
    bin: usize,
    ensembles: usize,
    rng: &mut Rng,
    f: impl Fn(&[f64]) -> f64,
) -> Result<Bootstrap> {
    let blocks = Blocks::new(series, bin)?;
    let evaluate = |times: &[u32]| {
        let total = |sums: &[f64]| sums.iter().zip(times).map(|(s, m)| s * f64::from(*m)).sum::<f64>();
        let count = total(&blocks.counts);
        let means: Vec<f64> = blocks.sums.iter().map(|sums| total(sums) / count).collect();
        match f(&means) {
            value if value.is_finite() => Ok(value),
            value => Err(Error::NotFinite { what: "function of means", series: 0, index: 0, value }),
        }
    };
    let value = evaluate(&vec![1; blocks.counts.len()])?;
    let mut ensembles = resample(blocks.counts.len(), ensembles, rng, evaluate)?;
    ensembles.sort_by(f64::total_cmp);
    Ok(Bootstrap { estimate: ValueError::new(value, spread(&ensembles)), ensembles })
}
