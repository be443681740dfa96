//! Least squares from running sums: ridge regression with a strength chosen on data that were held out.
//!
//! ```text
//! minimise over c:  Var( Σ_i c_i a_i − y ) + λ Σ_i Var(a_i) c_i²
//! ```
//!
//! A free constant is part of the fit, which is why variances stand in it. Samples are summed in two folds; each λ is judged
//! by what coefficients of one fold leave in the other, both ways, and the winner is fitted to all.

use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use nalgebra::{Cholesky, DMatrix, DVector};

/// Running sums of the products of (a_1 … a_n, y − y_0, 1) over samples; y_0 is the mean of the first batch.
#[derive(Debug, Clone)]
pub struct StreamingMoments {
    sums: DMatrix<f64>,
    shift: Option<f64>,
}

impl StreamingMoments {
    /// No samples yet, n regressors.
    pub fn new(regressors: usize) -> Self {
        Self { sums: DMatrix::zeros(regressors + 2, regressors + 2), shift: None }
    }

    /// Adds samples: regressors a `[B, n]` and targets y `[B]`, f64.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn add(&mut self, a: &Tensor, y: &Tensor) -> Result<()> {
        let shift = match self.shift {
            Some(shift) => shift,
            None => y.mean_all()?.to_scalar::<f64>()?,
        };
        self.shift = Some(shift);
        let columns = [a.clone(), (y - shift)?.unsqueeze(1)?, y.ones_like()?.unsqueeze(1)?];
        let rows = Tensor::cat(&columns, 1)?;
        let products = rows.t()?.contiguous()?.matmul(&rows)?.to_device(&Device::Cpu)?;
        let n = self.sums.nrows();
        if products.dims() != [n, n] {
            let expected = format!("[B, {}]", n - 2);
            return Err(Error::Shape { what: "regressors", expected, got: a.dims().to_vec() });
        }
        let products = products.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        self.sums += DMatrix::from_row_slice(n, n, &products);
        Ok(())
    }

    /// Number of samples.
    pub fn samples(&self) -> f64 {
        self.sums[(self.sums.nrows() - 1, self.sums.nrows() - 1)]
    }

    /// Covariances of (a_1 … a_n, y), divided by the number of samples.
    fn covariance(&self) -> DMatrix<f64> {
        let n = self.sums.nrows() - 1;
        let total = self.samples();
        let means = self.sums.column(n).rows(0, n) / total;
        self.sums.view((0, 0), (n, n)) / total - &means * means.transpose()
    }
}

/// Strengths of the regularisation to choose from, relative to the variances of the regressors.
#[derive(Debug, Clone, PartialEq)]
pub struct Ridge(pub Vec<f64>);

impl Default for Ridge {
    /// From 10⁻¹² to 10⁻² in steps of ten.
    fn default() -> Self {
        Self((0..=10).map(|i| 10f64.powi(i - 12)).collect())
    }
}

/// A fit and how good it is.
#[derive(Debug, Clone)]
pub struct RidgeSolution {
    /// c.
    pub coefficients: Vec<f64>,
    /// The λ chosen.
    pub ridge: f64,
    /// Var(y).
    pub variance: f64,
    /// Variance of the residual on the samples of the fit.
    pub train: f64,
    /// Variance of the residual on held-out samples, for coefficients of the other fold: mean over the two folds.
    pub test: f64,
    /// The same as `test` for the first n_1, the first n_2, … regressors alone, for the sizes asked for.
    pub partial: Vec<f64>,
}

impl Ridge {
    /// Solves for the coefficients; `sizes` are numbers of leading regressors to be judged alone.
    ///
    /// # Errors
    /// [`Error::Regression`] when samples or regressors are not finite, or a fold is empty.
    pub fn solve(&self, folds: &[StreamingMoments; 2], sizes: &[usize]) -> Result<RidgeSolution> {
        let both = [folds[0].covariance(), folds[1].covariance()];
        let n = both[0].nrows() - 1;
        // The two folds have their own means: between-fold differences would only add noise to the pooled covariance.
        let weight = folds[0].samples() / (folds[0].samples() + folds[1].samples());
        let all = &both[0] * weight + &both[1] * (1.0 - weight);
        if !all.iter().all(|v| v.is_finite()) {
            let what = "a fold is empty, or an action, a force or a vector field is not finite";
            return Err(Error::Regression { what });
        }
        let held_out = |size: usize, lambda: f64| {
            let one_way = |fit: usize, test: usize| {
                Some(residual(&both[test], &solve_scaled(&both[fit], size, lambda)?))
            };
            Some((one_way(0, 1)? + one_way(1, 0)?) / 2.0)
        };
        let judged = self.0.iter().filter_map(|lambda| Some((held_out(n, *lambda)?, *lambda)));
        let best = judged.min_by(|a, b| a.0.total_cmp(&b.0));
        let (test, ridge) = best.ok_or(Error::Regression { what: "no strength of the ridge is enough" })?;
        let c = solve_scaled(&all, n, ridge);
        let c = c.ok_or(Error::Regression { what: "the regressors are dependent in spite of the ridge" })?;
        let partial = sizes.iter().map(|size| held_out(*size, ridge).unwrap_or(f64::NAN)).collect();
        let (variance, train) = (all[(n, n)], residual(&all, &c));
        Ok(RidgeSolution { coefficients: c.as_slice().to_vec(), ridge, variance, train, test, partial })
    }
}

/// c for the first `size` regressors of a covariance whose last row is the target's.
fn solve_scaled(covariance: &DMatrix<f64>, size: usize, lambda: f64) -> Option<DVector<f64>> {
    let n = covariance.nrows() - 1;
    let scale = DVector::from_fn(size, |i, _| {
        let variance = covariance[(i, i)];
        if variance > 0.0 { 1.0 / variance.sqrt() } else { 0.0 }
    });
    let matrix = DMatrix::from_fn(size, size, |i, j| {
        let ridge = if i == j { lambda + f64::from(u8::from(scale[i] == 0.0)) } else { 0.0 };
        covariance[(i, j)] * scale[i] * scale[j] + ridge
    });
    let right = DVector::from_fn(size, |i, _| covariance[(i, n)] * scale[i]);
    Some(Cholesky::new(matrix)?.solve(&right).component_mul(&scale))
}

/// Var(Σ c_i a_i − y); coefficients beyond those given are zero.
fn residual(covariance: &DMatrix<f64>, c: &DVector<f64>) -> f64 {
    let (n, size) = (covariance.nrows() - 1, c.len());
    let inner = covariance.view((0, 0), (size, size));
    let cross = covariance.view((0, n), (size, 1));
    (c.dot(&(inner * c)) - 2.0 * c.dot(&cross) + covariance[(n, n)]).max(0.0)
}
