//! Conjugate gradients for a batch of systems A_b x_b = b_b in lock-step.
//!
//! Every configuration has its own α and β; one that has converged gets α = 0 and stays as it is while the others go on.
//! The solver never records a graph: bind the operator to a detached field.
//!
//! A configuration that is not finite, such as the end of a trajectory that ran away, gets NaN and does not disturb the
//! others; one that is finite but not solved to the tolerance is an error.

use crate::krylov::{self, Recursion, Solved, Space, checked_residuals, real};
use crate::{Error, HermitianPositive, Result};
use candle_core::Tensor;

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
        krylov::solve(a, b, self)
    }
}

impl Recursion for ConjugateGradient {
    fn run<S: Space>(&self, space: &S, b: &S::Vector) -> Result<Solved<S::Vector>> {
        let norm2 = space.dot(b, b)?;
        let batch = norm2.len();
        let goal: Vec<f64> = norm2.iter().map(|n| self.tolerance * self.tolerance * n).collect();
        let (mut x, mut ap) = (space.zeros()?, space.zeros()?);
        let (mut r, mut p) = (space.copy(b)?, space.copy(b)?);
        let (one, mut r2) = (space.all(1.0), norm2.clone());
        let mut iterations = vec![0; batch];
        for _ in 0..self.max_iterations {
            // False for NaN: a configuration that is not finite is given up.
            let active: Vec<bool> = r2.iter().zip(&goal).map(|(r, g)| r > g && r.is_finite()).collect();
            if !active.contains(&true) {
                break;
            }
            space.apply(&p, &mut ap)?;
            let curvature = space.dot(&p, &ap)?;
            let mut alpha = vec![0.0; batch];
            for i in (0..batch).filter(|&i| active[i]) {
                if curvature[i] <= 0.0 {
                    let configuration = space.first() + i;
                    return Err(Error::NotPositive { configuration, curvature: curvature[i] });
                }
                alpha[i] = if curvature[i].is_finite() { r2[i] / curvature[i] } else { f64::NAN };
                iterations[i] += 1;
            }
            let minus: Vec<f64> = alpha.iter().map(|a| -a).collect();
            space.combine(&real(&alpha), &p, &one, &mut x)?;
            space.combine(&real(&minus), &ap, &one, &mut r)?;
            let next = space.dot(&r, &r)?;
            let beta: Vec<f64> = (0..batch).map(|i| if active[i] { next[i] / r2[i] } else { 0.0 }).collect();
            space.combine(&one, &r, &real(&beta), &mut p)?;
            r2 = next;
        }
        let relative_residual = checked_residuals(space, (&r2, &norm2), self.tolerance, self.max_iterations)?;
        Ok(Solved { x, iterations, relative_residual })
    }
}
