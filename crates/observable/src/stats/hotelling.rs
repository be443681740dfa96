//! Hotelling's two-sample T² test: do two ensembles agree in a vector of observables, correlations included?
//!
//! With n_A and n_B blocks, their mean vectors and their covariances S_A, S_B between blocks,
//!
//! ```text
//! Σ_k = S_k/n_k,   Σ = Σ_A + Σ_B,   Δ = Ā − B̄
//! T²  = Δᵀ Σ⁻¹ Δ  ~  ν p/(ν − p + 1) F(p, ν − p + 1)
//! ν   = (p + p²) / Σ_k { tr[(Σ_k Σ⁻¹)²] + [tr(Σ_k Σ⁻¹)]² } / (n_k − 1)
//! ```
//!
//! The two covariances are not pooled: samplers with different autocorrelation have different block covariances even
//! when they sample the same density. ν is the effective number of degrees of freedom of Nel and van der Merwe in the
//! affinely invariant form of K. Krishnamoorthy and J. Yu, Stat. Probab. Lett. 66 (2004) 161; for p = 1 the test is
//! Welch's t test, and for equal covariances and n_A = n_B it is Hotelling's with ν = n_A + n_B − 2.

use nalgebra::{DMatrix, DVector};

use super::jackknife::Blocks;
use super::{Chains, f_survival};
use crate::{Error, Result};

/// Result of the T² test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hotelling {
    /// T² = Δᵀ Σ⁻¹ Δ.
    pub t2: f64,
    /// Number of components p.
    pub components: usize,
    /// Effective degrees of freedom ν of the covariance.
    pub degrees: f64,
    /// Probability of a larger T² if both ensembles have the same mean.
    pub p_value: f64,
}

/// A component is called dependent on the others when they explain all but this share of its variance.
const SMALLEST_PIVOT: f64 = 1e-9;

/// T² test between two ensembles, each given as its p components (measured on the same configurations) and a block
/// length that covers their autocorrelation.
///
/// The components must be linearly independent. A source-averaged correlator satisfies C(t) = C(L_t − t) on every
/// configuration: pass t = 0 … L_t/2.
pub fn hotelling(a: &[&Chains], bin_a: usize, b: &[&Chains], bin_b: usize) -> Result<Hotelling> {
    let p = a.len();
    if b.len() != p {
        let what = "components of the two ensembles";
        return Err(Error::UnequalLength { what, series: 1, expected: p, got: b.len() });
    }
    let (a, b) = (Side::new(a, bin_a)?, Side::new(b, bin_b)?);
    let total = &a.covariance + &b.covariance;
    for component in 0..p {
        // A constant has a variance that is rounding noise of its mean.
        let magnitude = a.mean[component].abs().max(b.mean[component].abs());
        if total[(component, component)].sqrt() <= 1e-14 * magnitude {
            return Err(Error::SingularCovariance { components: p, component, pivot: 0.0 });
        }
    }
    let inverse = inverse(&total)?;
    let difference = &a.mean - &b.mean;
    let t2 = difference.dot(&(&inverse * &difference));

    let spread: f64 = [&a, &b]
        .iter()
        .map(|side| {
            let share = &side.covariance * &inverse;
            ((&share * &share).trace() + share.trace().powi(2)) / (side.blocks - 1.0)
        })
        .sum();
    let p_real = p as f64;
    let degrees = (p_real + p_real * p_real) / spread;
    let last = degrees - p_real + 1.0;
    if last <= 0.0 {
        let got = (a.blocks + b.blocks) as usize;
        return Err(Error::TooShort {
            what: "blocks for the covariance of the components",
            needed: 2 * p + 2,
            got,
        });
    }
    let p_value = f_survival(t2 * last / (degrees * p_real), p_real, last)?;
    Ok(Hotelling { t2, components: p, degrees, p_value })
}

/// Mean and its covariance, from the block means.
struct Side {
    mean: DVector<f64>,
    covariance: DMatrix<f64>,
    blocks: f64,
}

impl Side {
    fn new(series: &[&Chains], bin: usize) -> Result<Self> {
        let blocks = Blocks::new(series, bin)?;
        let (p, n) = (series.len(), blocks.counts.len());
        if n <= p {
            let what = "blocks for the covariance of the components";
            return Err(Error::TooShort { what, needed: p + 1, got: n });
        }
        let means = DMatrix::from_fn(p, n, |i, j| blocks.sums[i][j] / blocks.counts[j]);
        let mean = means.column_mean();
        let mut deviations = means;
        for mut column in deviations.column_iter_mut() {
            column -= &mean;
        }
        let covariance = &deviations * deviations.transpose() / ((n * (n - 1)) as f64);
        Ok(Self { mean, covariance, blocks: n as f64 })
    }
}

/// Σ⁻¹ by the Cholesky decomposition of the correlation matrix, whose squared pivots are the unexplained variances.
fn inverse(covariance: &DMatrix<f64>) -> Result<DMatrix<f64>> {
    let components = covariance.nrows();
    let scale: Vec<f64> = covariance.diagonal().iter().map(|v| v.sqrt()).collect();
    let mut correlation = covariance.clone();
    for i in 0..components {
        for j in 0..components {
            correlation[(i, j)] /= scale[i] * scale[j];
        }
    }
    for size in 1..=components {
        let factor = correlation.view((0, 0), (size, size)).into_owned().cholesky();
        let pivot = factor.map_or(0.0, |f| f.l_dirty()[(size - 1, size - 1)].powi(2));
        if pivot < SMALLEST_PIVOT {
            return Err(Error::SingularCovariance { components, component: size - 1, pivot });
        }
    }
    let factor = correlation.cholesky().ok_or(Error::SingularCovariance {
        components,
        component: components - 1,
        pivot: 0.0,
    })?;
    let mut inverse = factor.inverse();
    for i in 0..components {
        for j in 0..components {
            inverse[(i, j)] /= scale[i] * scale[j];
        }
    }
    Ok(inverse)
}
