//! Solves ∇u(z) = x by damped Newton steps with conjugate gradients.
//!
//! ```text
//! H_u(z) δ = ∇u(z) − x,    z ← z − t δ,    t = 1, ½, ¼, … until ‖∇u(z) − x‖ has decreased
//! ```
//!
//! u is strongly convex, so the solution exists and is unique, H_u has an inverse everywhere, and δ is a direction in which the
//! residual decreases: damping makes the iteration converge from any start.

use super::network::ConvexPotential;
use super::pass::{Hessian, Pass};
use crate::{Error, Result};
use candle_core::Tensor;
use latflow_fermion::ConjugateGradient;
use latflow_kernels::{add_scaled, dot};

/// Parameters of the inversion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NewtonCg {
    /// Stop a configuration once ‖∇u(z) − x‖ ≤ tolerance · max(1, ‖x‖).
    pub tolerance: f64,
    /// Give up after this many Newton steps.
    pub max_iterations: usize,
    /// Solver of each step; a looser tolerance means more steps.
    pub linear: ConjugateGradient,
}

impl Default for NewtonCg {
    fn default() -> Self {
        let linear = ConjugateGradient { tolerance: 1e-6, max_iterations: 1000 };
        Self { tolerance: 1e-12, max_iterations: 100, linear }
    }
}

impl NewtonCg {
    /// z with ∇u(z) = x, `[B, V]`, without gradients. A configuration that is not finite gets NaN.
    ///
    /// # Errors
    /// [`Error::Inversion`] when a configuration does not reach the tolerance.
    pub fn solve(&self, potential: &ConvexPotential, x: &Tensor) -> Result<Tensor> {
        let (x, theta) = (x.detach(), potential.theta().detach());
        let at = |z: &Tensor| -> Result<State> {
            let pass = potential.pass_with(&theta, z)?;
            let residual = (pass.gradient()? - &x)?;
            let norm = dot(&residual, &residual)?.iter().map(|n| n.sqrt()).collect();
            Ok(State { z: z.clone(), pass, residual, norm })
        };
        let goal: Vec<f64> = dot(&x, &x)?.iter().map(|n| self.tolerance * n.sqrt().max(1.0)).collect();
        let origin = at(&x.zeros_like()?)?;
        let curvature = origin.pass.weights.quadratic.recip()?;
        let mut state = at(&origin.residual.neg()?.broadcast_mul(&curvature)?)?;
        for _ in 0..self.max_iterations {
            // False for NaN: a configuration that is not finite is given up.
            let active: Vec<bool> = state.norm.iter().zip(&goal).map(|(n, g)| n > g).collect();
            if !active.contains(&true) {
                return Ok(state.z);
            }
            state = self.step(&state, &active, &goal, &at)?;
        }
        match state.norm.iter().zip(&goal).position(|(n, g)| n > g) {
            None => Ok(state.z),
            Some(configuration) => Err(state.failure(configuration, &goal)),
        }
    }

    fn step(
        &self,
        state: &State,
        active: &[bool],
        goal: &[f64],
        at: &impl Fn(&Tensor) -> Result<State>,
    ) -> Result<State> {
        const HALVINGS: usize = 40;
        let mask: Vec<f64> = active.iter().map(|&a| f64::from(u8::from(a))).collect();
        let right = add_scaled(&state.z.zeros_like()?, &mask, &state.residual)?;
        let hessian = Hessian(state.pass.clone());
        let delta = self.linear.solve(&hessian, &right).map_err(latflow_action::Error::from)?.x;
        let mut length = mask;
        for _ in 0..HALVINGS {
            let minus: Vec<f64> = length.iter().map(|t| -t).collect();
            let trial = at(&add_scaled(&state.z, &minus, &delta)?)?;
            let mut all = true;
            for b in (0..active.len()).filter(|&b| active[b]) {
                if trial.norm[b].is_nan() || trial.norm[b] > (1.0 - 1e-4 * length[b]) * state.norm[b] {
                    length[b] *= 0.5;
                    all = false;
                }
            }
            if all {
                return Ok(trial);
            }
        }
        let worst = (0..active.len()).filter(|&b| active[b]).min_by(|&a, &b| length[a].total_cmp(&length[b]));
        Err(state.failure(worst.expect("a step has an active configuration"), goal))
    }
}

struct State {
    z: Tensor,
    pass: Pass,
    /// ∇u(z) − x.
    residual: Tensor,
    norm: Vec<f64>,
}

impl State {
    fn failure(&self, configuration: usize, goal: &[f64]) -> Error {
        let (residual, tolerance) = (self.norm[configuration], goal[configuration]);
        Error::Inversion { configuration, residual, tolerance }
    }
}
