//! Conjugate gradients for a batch of systems A_b x_b = b_b in lock-step.
//!
//! Every configuration has its own α and β; one that has converged gets α = 0 and stays as it is while the others go on.
//! The solver never records a graph: bind the operator to a detached field.
//!
//! A configuration that is not finite, such as the end of a trajectory that ran away, gets NaN and does not disturb the
//! others; one that is finite but not solved to the tolerance is an error.

use crate::{Error, HermitianPositive, Result};
use candle_core::Tensor;
use latflow_kernels::{add_scaled, dot};

/// Parameters of the solver.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConjugateGradient {
    /// Stop a configuration once ‖b − A x‖ ≤ tolerance · ‖b‖.
    pub tolerance: f64,
    /// Give up after this many iterations.
    pub max_iterations: usize,
}

impl Default for ConjugateGradient {
    fn default() -> Self {
        Self { tolerance: 1e-10, max_iterations: 2000 }
    }
}

/// A solved batch.
#[derive(Debug, Clone)]
pub struct Solution {
    /// x with ‖A x − b‖ ≤ tolerance · ‖b‖, shape of b; NaN where A or b is not finite.
    pub x: Tensor,
    /// Iterations each configuration needed.
    pub iterations: Vec<usize>,
    /// ‖b − A x‖ / ‖b‖ of each configuration, by the recursion for the residual; NaN where A or b is not finite.
    pub relative_residual: Vec<f64>,
}

impl ConjugateGradient {
    /// Solves A x = b, starting from zero. f64, shape `[B, …]`.
    ///
    /// # Errors
    /// [`Error::NoConvergence`] when a configuration does not reach the tolerance, [`Error::NotPositive`] when A is not
    /// positive.
    pub fn solve(&self, a: &dyn HermitianPositive, b: &Tensor) -> Result<Solution> {
        let b = b.detach();
        let norm2 = dot(&b, &b)?;
        let batch = norm2.len();
        let goal: Vec<f64> = norm2.iter().map(|n| self.tolerance * self.tolerance * n).collect();
        let mut x = b.zeros_like()?;
        let (mut r, mut p) = (b.clone(), b.clone());
        let mut r2 = norm2.clone();
        let mut iterations = vec![0; batch];
        for _ in 0..self.max_iterations {
            // False for NaN: a configuration that is not finite is given up.
            let active: Vec<bool> = r2.iter().zip(&goal).map(|(r, g)| r > g && r.is_finite()).collect();
            if !active.contains(&true) {
                break;
            }
            let ap = a.apply(&p)?;
            let curvature = dot(&p, &ap)?;
            let mut alpha = vec![0.0; batch];
            for i in (0..batch).filter(|&i| active[i]) {
                if curvature[i] <= 0.0 {
                    return Err(Error::NotPositive { configuration: i, curvature: curvature[i] });
                }
                alpha[i] = if curvature[i].is_finite() { r2[i] / curvature[i] } else { f64::NAN };
                iterations[i] += 1;
            }
            let minus: Vec<f64> = alpha.iter().map(|a| -a).collect();
            x = add_scaled(&x, &alpha, &p)?;
            r = add_scaled(&r, &minus, &ap)?;
            let next = dot(&r, &r)?;
            let beta: Vec<f64> = (0..batch).map(|i| if active[i] { next[i] / r2[i] } else { 0.0 }).collect();
            p = add_scaled(&r, &beta, &p)?;
            r2 = next;
        }
        let relative_residual: Vec<f64> =
            r2.iter().zip(&norm2).map(|(r, n)| if *n == 0.0 { 0.0 } else { (r / n).sqrt() }).collect();
        if let Some((configuration, &residual)) =
            relative_residual.iter().enumerate().find(|(i, _)| r2[*i] > goal[*i])
        {
            return Err(Error::NoConvergence {
                configuration,
                residual,
                tolerance: self.tolerance,
                iterations: self.max_iterations,
            });
        }
        Ok(Solution { x, iterations, relative_residual })
    }
}
