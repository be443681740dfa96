//! Hybrid Monte Carlo for batches of chains in lock-step, on any manifold.
//!
//! ```text
//! p ~ N(0, 1) per tangent component,  auxiliary fields from their heat bath,
//! (x, p) → (x', p') by a reversible integrator,  accept with min(1, e^{−ΔH}),  H = ½ p² + S(x)
//! ```
//!
//! The next state is put back on its manifold, which rounding errors leave slowly: a change of the order of those errors.

use crate::kernel::select;
use crate::{Error, Integrator, MarkovKernel, Result, StepInfo, metropolis};
use candle_core::{DType, Tensor};
use latflow_action::Refresh;
use latflow_lattice::{Manifold, Rng, normal_tensor, sum_per_configuration};
use std::marker::PhantomData;

/// The kernel. `target` draws the auxiliary fields: use [`latflow_action::Exact`] for a theory without any.
#[derive(Debug, Clone)]
pub struct Hmc<T, X> {
    /// The theory.
    pub target: T,
    integrator: Integrator,
    trajectory_length: f64,
    steps: usize,
    substeps: Vec<usize>,
    field: PhantomData<X>,
}

impl<X: Manifold, T: Refresh<X>> Hmc<T, X> {
    /// Trajectories of the given length in `steps` steps.
    ///
    /// # Errors
    /// When the length is not positive and finite, or there are no steps.
    pub fn new(target: T, integrator: Integrator, trajectory_length: f64, steps: usize) -> Result<Self> {
        if !(trajectory_length > 0.0 && trajectory_length.is_finite()) {
            return Err(Error::Parameter {
                name: "trajectory_length",
                value: trajectory_length,
                expected: "a positive finite number",
            });
        }
        if steps == 0 {
            return Err(Error::Parameter { name: "steps", value: 0.0, expected: "at least 1" });
        }
        Ok(Self { target, integrator, trajectory_length, steps, substeps: Vec::new(), field: PhantomData })
    }

    /// Several time scales, for an action that is a sum: each move of x with the slow term is made of `substeps[0]` steps with the
    /// fast one (the first of a [`latflow_action::Sum`]), which is split again if there are more.
    ///
    /// # Errors
    /// When one of them is zero.
    pub fn with_substeps(mut self, substeps: &[usize]) -> Result<Self> {
        if substeps.contains(&0) {
            return Err(Error::Parameter { name: "substeps", value: 0.0, expected: "at least 1" });
        }
        self.substeps = substeps.to_vec();
        Ok(self)
    }

    /// The Metropolis-adjusted Langevin algorithm with step ε, which is one leapfrog step with new momenta each time:
    ///
    /// ```text
    /// x' = x + ½ ε² F(x) + ε p,   p ~ N(0, 1)
    /// ```
    ///
    /// # Errors
    /// When ε is not positive and finite.
    pub fn langevin(target: T, epsilon: f64) -> Result<Self> {
        Self::new(target, Integrator::Leapfrog, epsilon, 1)
    }

    /// Integration steps a trajectory.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Changes the number of steps at fixed length: only while thermalising.
    pub fn set_steps(&mut self, steps: usize) {
        self.steps = steps.max(1);
    }

    /// Force evaluations a trajectory, of the slowest term if there are several time scales.
    pub fn forces(&self) -> usize {
        self.integrator.forces(self.steps)
    }

    /// One trajectory from (x, p) at the given auxiliary fields, without the Metropolis test: final (x, p) and ΔH `[B]`.
    ///
    /// # Errors
    /// When the action fails.
    pub fn trajectory(
        &self,
        action: &T::Conditional,
        x: &X,
        momenta: &Tensor,
    ) -> Result<(X, Tensor, Vec<f64>)> {
        let epsilon = self.trajectory_length / self.steps as f64;
        let end = self.integrator.integrate(action, x, momenta, (epsilon, self.steps), &self.substeps)?;
        let kinetic = |p: &Tensor| -> Result<Tensor> { Ok((sum_per_configuration(&p.sqr()?)? * 0.5)?) };
        let change = ((end.action_end - end.action_start)? + (kinetic(&end.momenta)? - kinetic(momenta)?)?)?;
        Ok((end.x, end.momenta, change.to_vec1::<f64>()?))
    }
}

impl<X: Manifold, T: Refresh<X>> MarkovKernel for Hmc<T, X> {
    type State = X;
    type Position = X;

    fn init(&self, x: X, _: &mut Rng) -> Result<X> {
        Ok(x)
    }

    fn step(&self, x: X, rng: &mut Rng) -> Result<(X, StepInfo)> {
        let action = self.target.refresh(&x, rng)?;
        let momenta = normal_tensor(rng, 1.0, &x.tangent_shape(), DType::F64, x.device())?;
        let (proposed, _, change) = self.trajectory(&action, &x, &momenta)?;
        let info = metropolis(change.iter().map(|h| -h).collect(), rng);
        Ok((select(&info, &proposed, &x)?.restored()?, info))
    }

    fn position<'a>(&self, state: &'a X) -> &'a X {
        state
    }
}
