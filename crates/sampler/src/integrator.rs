//! Symplectic, reversible integrators of Hamilton's equations H = ½ p² + S(x).
//!
//! ```text
//! leapfrog:  (P_{ε/2} X_ε P_{ε/2})ⁿ
//! Omelyan:   (P_{λε} X_{ε/2} P_{(1−2λ)ε} X_{ε/2} P_{λε})ⁿ,   λ = 0.1931833275037836
//! ```
//!
//! P_h: p ← p + h F(x), X_h: x ← exp(h p) x. Both are second order; the second has about a tenth of the error constant at
//! twice the forces a step (Omelyan, Mryglod and Folk 2003, second-order minimum norm).

use crate::Result;
use candle_core::Tensor;
use latflow_action::{Action, action_and_force};
use latflow_lattice::Manifold;

/// Which splitting to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integrator {
    /// One force a step.
    Leapfrog,
    /// Two forces a step, second-order minimum norm.
    Omelyan,
}

/// The end of a trajectory, with the action at both ends.
#[derive(Debug, Clone)]
pub struct Trajectory<X> {
    /// Final configurations.
    pub x: X,
    /// Final momenta, of the tangent's shape.
    pub momenta: Tensor,
    /// S at the start, `[B]`.
    pub action_start: Tensor,
    /// S at the end, `[B]`.
    pub action_end: Tensor,
}

const OMELYAN: f64 = 0.193_183_327_503_783_6;

impl Integrator {
    /// Force evaluations of a trajectory of n steps.
    pub fn forces(self, steps: usize) -> usize {
        match self {
            Self::Leapfrog => steps + 1,
            Self::Omelyan => 2 * steps + 1,
        }
    }

    /// Integrates `steps` steps of size ε.
    ///
    /// # Errors
    /// When the action fails.
    pub fn integrate<X: Manifold>(
        self,
        action: &impl Action<X>,
        x: &X,
        momenta: &Tensor,
        epsilon: f64,
        steps: usize,
    ) -> Result<Trajectory<X>> {
        let (action_start, mut force) = action_and_force(action, x)?;
        let mut action_end = action_start.clone();
        let mut x = x.detach();
        let mut p = momenta.clone();
        // The last kick of a step and the first of the next are one kick of twice the size.
        let outer = match self {
            Self::Leapfrog => 0.5,
            Self::Omelyan => OMELYAN,
        };
        let kick = |p: &Tensor, force: &Tensor, h: f64| -> Result<Tensor> { Ok((p + (force * h)?)?) };
        p = kick(&p, &force, outer * epsilon)?;
        for step in 0..steps {
            let last = if step + 1 == steps { outer } else { 2.0 * outer };
            match self {
                Self::Leapfrog => x = x.exp(&(&p * epsilon)?)?,
                Self::Omelyan => {
                    x = x.exp(&(&p * (0.5 * epsilon))?)?;
                    (_, force) = action_and_force(action, &x)?;
                    p = kick(&p, &force, (1.0 - 2.0 * OMELYAN) * epsilon)?;
                    x = x.exp(&(&p * (0.5 * epsilon))?)?;
                }
            }
            (action_end, force) = action_and_force(action, &x)?;
            p = kick(&p, &force, last * epsilon)?;
        }
        Ok(Trajectory { x: x.detach(), momenta: p.detach(), action_start, action_end })
    }
}
