//! Do residuals have the distribution that their errors promise? [QCD Fig. 3]
//!
//! ```text
//! r = (h − h′)/√(σ² + σ′²),     r² ~ χ² with one degree of freedom,     P(r² < y) = erf √(y/2)
//! D = sup_y |F(y) − erf √(y/2)|,    p = Q((√n + 0.12 + 0.11/√n) D)
//! Q(λ) = 2 Σ_{k≥1} (−1)^{k−1} e^{−2k²λ²}                                     (Kolmogorov)
//! ```
//!
//! F is the fraction of the n residuals below y, and the correction to √n, good to a percent of p from n = 5 on, is M. A. Stephens',
//! J. R. Stat. Soc. B 32 (1970) 115. The residuals of one histogram are not quite independent: its bins share one normalisation, and
//! several observables share their configurations. p is therefore a little too small when few bins carry most of the weight.

use super::Bins;
use super::special::kolmogorov_survival;
use crate::{Error, Result};

/// The distribution of squared residuals beside χ² with one degree of freedom.
#[derive(Debug, Clone, PartialEq)]
pub struct ResidualDistribution {
    /// Bins of r², uniform in √(r²).
    pub bins: Bins,
    /// Number of residuals in each bin.
    pub counts: Vec<usize>,
    /// Number that χ²(1) leads to expect in each bin.
    pub expected: Vec<f64>,
    /// Number of residuals n, also of those beyond the last bin.
    pub n: usize,
    /// Σ r²; n on average.
    pub chi_squared: f64,
    /// D, the largest distance of the distribution functions.
    pub distance: f64,
    /// Probability of a distance at least as large.
    pub p_value: f64,
}

impl ResidualDistribution {
    /// Of any residuals, in `bins` bins of r² that are uniform in |r| up to `largest`.
    ///
    /// # Errors
    /// When there are no residuals or no bins, or a residual is not finite.
    pub fn new(residuals: &[f64], bins: usize, largest: f64) -> Result<Self> {
        let what = "residuals";
        if residuals.is_empty() {
            return Err(Error::Empty { what });
        }
        if let Some(index) = residuals.iter().position(|r| !r.is_finite()) {
            return Err(Error::NotFinite { what, series: 0, index, value: residuals[index] });
        }
        let roots = Bins::uniform(0.0..largest, bins)?;
        let mut sizes: Vec<f64> = residuals.iter().map(|r| r.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        let mut counts = vec![0; bins];
        sizes.iter().filter_map(|r| roots.find(*r)).for_each(|k| counts[k] += 1);
        let n = sizes.len() as f64;
        let expected = roots.edges().windows(2).map(|e| n * (beyond(e[0]) - beyond(e[1]))).collect();
        let distance = sizes.iter().enumerate().fold(0.0, |d: f64, (i, r)| {
            let theory = 1.0 - beyond(*r);
            d.max(theory - i as f64 / n).max((i + 1) as f64 / n - theory)
        });
        let p_value = kolmogorov_survival((n.sqrt() + 0.12 + 0.11 / n.sqrt()) * distance);
        Ok(Self {
            bins: Bins::new(roots.edges().iter().map(|e| e * e).collect())?,
            counts,
            expected,
            n: sizes.len(),
            chi_squared: sizes.iter().map(|r| r * r).sum(),
            distance,
            p_value,
        })
    }

    /// Densities of r² in each bin: measured, and of χ²(1) averaged over the bin.
    pub fn densities(&self) -> impl Iterator<Item = (f64, f64)> {
        let n = self.n as f64;
        let numbers = self.counts.iter().zip(&self.expected).zip(self.bins.widths());
        numbers.map(move |((count, expected), width)| (*count as f64 / (n * width), expected / (n * width)))
    }
}

/// P(|r| > x) of a normal number.
fn beyond(x: f64) -> f64 {
    libm::erfc(x / f64::sqrt(2.0))
}
