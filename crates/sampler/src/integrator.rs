//! Symplectic, reversible integrators of Hamilton's equations H = ½ p² + S(x), on one time scale or several.
//!
//! ```text
//! leapfrog:  (P_{ε/2} X_ε P_{ε/2})ⁿ
//! Omelyan:   (P_{λε} X_{ε/2} P_{(1−2λ)ε} X_{ε/2} P_{λε})ⁿ,   λ = 0.1931833275037836
//! ```
//!
//! P_h: p ← p + h F(x), X_h: x ← exp(h p) x. Both are second order; the second has about a tenth of the error constant at
//! twice the forces a step (Omelyan, Mryglod and Folk 2003, second-order minimum norm).
//!
//! For S = S_fast + S_slow, P is made with F_slow, and every X_h is itself a trajectory of length h with S_fast in m steps
//! (Sexton and Weingarten 1992): costly forces that change little are evaluated seldom. S_fast may be split again.

use crate::{Error, Result};
use candle_core::Tensor;
use latflow_action::Action;
use latflow_lattice::Manifold;

/// Which splitting to use, on every time scale.
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

    /// Integrates `steps` steps of size ε; with `substeps` m_1, m_2, … every move of x is made of m_1 steps with the fast term of
    /// the action alone, and so on. With none the action is taken in one piece.
    ///
    /// # Errors
    /// When the action fails, or is not a sum of one more term than there are `substeps`.
    pub fn integrate<X: Manifold>(
        self,
        action: &impl Action<X>,
        x: &X,
        momenta: &Tensor,
        (epsilon, steps): (f64, usize),
        substeps: &[usize],
    ) -> Result<Trajectory<X>> {
        let x = x.detach();
        let mut scale = Scale::new(self, action, steps, substeps, &x)?;
        let action_start = scale.action()?;
        let mut state = (x, momenta.clone());
        scale.advance(&mut state, epsilon * steps as f64)?;
        let (x, momenta) = state;
        Ok(Trajectory { x: x.detach(), momenta: momenta.detach(), action_start, action_end: scale.action()? })
    }
}

/// One term of the action with its time scale, and the terms on faster ones.
struct Scale<'a, X> {
    integrator: Integrator,
    term: &'a dyn Action<X>,
    steps: usize,
    /// S and F of the term where x is now.
    value: Tensor,
    force: Tensor,
    faster: Option<Box<Scale<'a, X>>>,
}

impl<'a, X: Manifold> Scale<'a, X> {
    fn new(
        integrator: Integrator,
        action: &'a dyn Action<X>,
        steps: usize,
        substeps: &[usize],
        x: &X,
    ) -> Result<Self> {
        let (term, faster) = match (substeps, action.split()) {
            ([], _) => (action, None),
            ([m, rest @ ..], Some((fast, slow))) => {
                (slow, Some(Box::new(Self::new(integrator, fast, *m, rest, x)?)))
            }
            (_, None) => return Err(Error::OneTimeScale { substeps: substeps.len() }),
        };
        let (value, force) = term.action_and_force(x)?;
        Ok(Self { integrator, term, steps, value, force, faster })
    }

    /// S of this term and all faster ones where x is now.
    fn action(&self) -> Result<Tensor> {
        match &self.faster {
            None => Ok(self.value.clone()),
            Some(faster) => Ok((&self.value + faster.action()?)?),
        }
    }

    /// Moves (x, p) by the time h in this scale's number of steps.
    fn advance(&mut self, state: &mut (X, Tensor), h: f64) -> Result<()> {
        let epsilon = h / self.steps as f64;
        // The last kick of a step and the first of the next are one kick of twice the size.
        let outer = match self.integrator {
            Integrator::Leapfrog => 0.5,
            Integrator::Omelyan => OMELYAN,
        };
        self.kick(state, outer * epsilon)?;
        for step in 0..self.steps {
            let last = if step + 1 == self.steps { outer } else { 2.0 * outer };
            match self.integrator {
                Integrator::Leapfrog => self.drift(state, epsilon)?,
                Integrator::Omelyan => {
                    self.drift(state, 0.5 * epsilon)?;
                    self.kick(state, (1.0 - 2.0 * OMELYAN) * epsilon)?;
                    self.drift(state, 0.5 * epsilon)?;
                }
            }
            self.kick(state, last * epsilon)?;
        }
        Ok(())
    }

    fn kick(&self, (_, p): &mut (X, Tensor), h: f64) -> Result<()> {
        *p = (&*p + (&self.force * h)?)?;
        Ok(())
    }

    /// Moves x and evaluates this scale's force there.
    fn drift(&mut self, state: &mut (X, Tensor), h: f64) -> Result<()> {
        match &mut self.faster {
            Some(faster) => faster.advance(state, h)?,
            None => state.0 = state.0.exp(&(&state.1 * h)?)?,
        }
        (self.value, self.force) = self.term.action_and_force(&state.0)?;
        Ok(())
    }
}
