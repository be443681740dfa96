//! Stochastic Lanczos quadrature: log-determinants from operator products alone.
//!
//! ```text
//! log det H = E[χᵀ log(H) χ],   E[χχᵀ] = 1
//! χᵀ log(H) χ ≈ ‖χ‖² Σ_j τ_j² log θ_j,    T = Qᵀ H Q tridiagonal of the Krylov space of χ,  T = Σ_j θ_j y_j y_jᵀ,  τ_j = (y_j)_1
//! ```
//!
//! The quadrature's own error falls exponentially in the number of steps, about as (κ^½−1)^{2m}/(κ^½+1)^{2m} with κ the ratio of
//! the extreme eigenvalues; the spread over noise vectors is the standard error (S. Ubaru, J. Chen, Y. Saad, SIAM J. Matrix Anal.
//! Appl. 38 (2017) 1075). Vectors are orthogonalised against all before, so that no eigenvalue is counted twice.

use crate::{Error, Result};
use candle_core::Tensor;
use latflow_fermion::HermitianPositive;
use latflow_kernels::{add_scaled, dot};
use nalgebra::DMatrix;

/// log det H of each configuration: an estimate and its statistical error.
#[derive(Debug, Clone, PartialEq)]
pub struct LogDetEstimate {
    /// Mean over noise vectors.
    pub mean: Vec<f64>,
    /// Standard error of the mean. The error of the quadrature is not in it.
    pub standard_error: Vec<f64>,
}

/// log det of a batch of operators from `probes`, vectors `[B, …]` with ⟨χχᵀ⟩ = 1, and `steps` products with each.
/// A configuration that is not finite gets NaN.
///
/// # Errors
/// With fewer than two probes or no step, and when an operator turns out not to be positive.
pub fn lanczos_log_det(
    operator: &dyn HermitianPositive,
    probes: &[Tensor],
    steps: usize,
) -> Result<LogDetEstimate> {
    for (name, value, least, expected) in [
        ("probes", probes.len(), 2, "at least 2, or there is no error to be estimated"),
        ("steps", steps, 1, "at least 1"),
    ] {
        if value < least {
            return Err(Error::Parameter { name, value: value as f64, expected });
        }
    }
    let forms: Vec<Vec<f64>> =
        probes.iter().map(|chi| quadratic_form(operator, chi, steps)).collect::<Result<_>>()?;
    let n = probes.len() as f64;
    let batch = forms[0].len();
    let mean: Vec<f64> = (0..batch).map(|b| forms.iter().map(|f| f[b]).sum::<f64>() / n).collect();
    let standard_error = (0..batch)
        .map(|b| (forms.iter().map(|f| (f[b] - mean[b]).powi(2)).sum::<f64>() / (n * (n - 1.0))).sqrt())
        .collect();
    Ok(LogDetEstimate { mean, standard_error })
}

/// χᵀ log(H) χ by Gauss quadrature.
fn quadratic_form(operator: &dyn HermitianPositive, chi: &Tensor, steps: usize) -> Result<Vec<f64>> {
    let chi = chi.detach();
    let norm2 = dot(&chi, &chi)?;
    let batch = norm2.len();
    let zero = chi.zeros_like()?;
    let scaled = |factors: &[f64], v: &Tensor| add_scaled(&zero, factors, v);
    let inverse_norms: Vec<f64> = norm2.iter().map(|n| 1.0 / n.sqrt()).collect();
    let mut basis = vec![scaled(&inverse_norms, &chi)?];
    // Per configuration: diagonal, off-diagonal, and whether the Krylov space still grows.
    let mut alpha: Vec<Vec<f64>> = vec![Vec::with_capacity(steps); batch];
    let mut beta: Vec<Vec<f64>> = vec![Vec::with_capacity(steps); batch];
    let mut grows = vec![true; batch];
    for step in 0..steps {
        let q = &basis[step];
        let mut w = operator.apply(q).map_err(latflow_action::Error::from)?.detach();
        let diagonal = dot(q, &w)?;
        // Twice is enough: the second round removes what rounding left of the first.
        for _ in 0..2 {
            for q in &basis {
                let overlap: Vec<f64> = dot(q, &w)?.iter().map(|o| -o).collect();
                w = add_scaled(&w, &overlap, q)?;
            }
        }
        let off_diagonal: Vec<f64> = dot(&w, &w)?.iter().map(|n| n.sqrt()).collect();
        let mut factors = vec![0.0; batch];
        for b in 0..batch {
            if !grows[b] {
                continue;
            }
            alpha[b].push(diagonal[b]);
            // Then the space is invariant and the quadrature exact.
            grows[b] = off_diagonal[b] > 1e-13 * diagonal[b].abs() || off_diagonal[b].is_nan();
            if grows[b] {
                beta[b].push(off_diagonal[b]);
                factors[b] = 1.0 / off_diagonal[b];
            }
        }
        if step + 1 == steps || !grows.contains(&true) {
            break;
        }
        basis.push(scaled(&factors, &w)?);
    }
    (0..batch).map(|b| Ok(norm2[b] * gauss(&alpha[b], &beta[b], b)?)).collect()
}

/// Σ_j τ_j² log θ_j.
fn gauss(alpha: &[f64], beta: &[f64], configuration: usize) -> Result<f64> {
    if !alpha.iter().chain(beta).all(|t| t.is_finite()) {
        return Ok(f64::NAN);
    }
    let n = alpha.len();
    let t = DMatrix::from_fn(n, n, |i, j| match i.abs_diff(j) {
        0 => alpha[i],
        1 => beta[i.min(j)],
        _ => 0.0,
    });
    let eigen = t.symmetric_eigen();
    let mut sum = 0.0;
    for (theta, tau) in eigen.eigenvalues.iter().zip(eigen.eigenvectors.row(0).iter()) {
        if *theta <= 0.0 {
            return Err(Error::NotConvex { configuration });
        }
        sum += tau * tau * theta.ln();
    }
    Ok(sum)
}
