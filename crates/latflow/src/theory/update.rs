//! How a chain of any field moves: one trajectory of molecular dynamics or one sweep of a heat bath, of all chains together.

use latflow_action::{Action, Exact, Hasenbusch, Pseudofermion, Refresh};
use latflow_fermion::Dirac;
use latflow_lattice::{Manifold, Rng};
use latflow_sampler::{Hmc, Integrator, MarkovKernel, StepInfo};

use crate::config;

/// A Markov kernel whose state is the field itself.
pub(crate) trait Update<X> {
    /// One step of every chain.
    ///
    /// # Errors
    /// When an action cannot be evaluated.
    fn step(&mut self, x: X, rng: &mut Rng) -> latflow_sampler::Result<(X, StepInfo)>;

    /// Its molecular dynamics, if it has any.
    fn dynamics(&mut self) -> Option<&mut dyn Dynamics>;

    /// Mean iterations of the linear solver in the last step; `None` where nothing is solved.
    fn iterations(&self) -> Option<f64>;
}

/// Trajectories whose number of steps can be tuned.
pub(crate) trait Dynamics {
    /// Integrator steps of a trajectory.
    fn steps(&self) -> usize;

    /// Changes them.
    fn set_steps(&mut self, steps: usize);

    /// Force evaluations of a trajectory.
    fn forces(&self) -> usize;
}

/// A target of hybrid Monte Carlo that counts its solver's iterations.
pub(crate) trait Target<X>: Refresh<X> {
    /// Mean iterations a solve since it was made; `None` where nothing is solved.
    fn mean_iterations(&self) -> Option<f64>;
}

impl<A: Action<D::Field> + Clone, D: Dirac + Clone> Target<D::Field> for Pseudofermion<A, D> {
    fn mean_iterations(&self) -> Option<f64> {
        Some(Self::mean_iterations(self))
    }
}

impl<A: Action<D::Field> + Clone, D: Dirac + Clone> Target<D::Field> for Hasenbusch<A, D> {
    fn mean_iterations(&self) -> Option<f64> {
        None
    }
}

impl<X, A: Action<X> + Clone> Target<X> for Exact<A> {
    fn mean_iterations(&self) -> Option<f64> {
        None
    }
}

/// A kernel without momenta, such as a heat bath.
pub(crate) struct Sweeps<K>(pub K);

impl<X, K: MarkovKernel<State = X>> Update<X> for Sweeps<K> {
    fn step(&mut self, x: X, rng: &mut Rng) -> latflow_sampler::Result<(X, StepInfo)> {
        self.0.step(x, rng)
    }

    fn dynamics(&mut self) -> Option<&mut dyn Dynamics> {
        None
    }

    fn iterations(&self) -> Option<f64> {
        None
    }
}

/// Hybrid Monte Carlo with a target made anew for every trajectory, so that it counts the iterations of this one alone.
pub(crate) struct MolecularDynamics<T, X, F> {
    fresh: F,
    kernel: Hmc<T, X>,
}

impl<X: Manifold, T: Target<X>, F: Fn() -> T> MolecularDynamics<T, X, F> {
    /// As a configuration asks for it.
    ///
    /// # Errors
    /// When the trajectory has no length or no steps.
    pub(crate) fn new(hmc: &config::Hmc, fresh: F) -> latflow_sampler::Result<Self> {
        let integrator = match hmc.integrator {
            config::Integrator::Leapfrog => Integrator::Leapfrog,
            config::Integrator::Omelyan => Integrator::Omelyan,
        };
        let kernel = Hmc::new(fresh(), integrator, hmc.trajectory_length, hmc.steps)?;
        let kernel = kernel.with_substeps(&hmc.substeps)?;
        Ok(Self { fresh, kernel })
    }
}

impl<X: Manifold, T: Target<X>, F: Fn() -> T> Update<X> for MolecularDynamics<T, X, F> {
    fn step(&mut self, x: X, rng: &mut Rng) -> latflow_sampler::Result<(X, StepInfo)> {
        self.kernel.target = (self.fresh)();
        self.kernel.step(x, rng)
    }

    fn dynamics(&mut self) -> Option<&mut dyn Dynamics> {
        Some(self)
    }

    fn iterations(&self) -> Option<f64> {
        self.kernel.target.mean_iterations()
    }
}

impl<X: Manifold, T: Target<X>, F: Fn() -> T> Dynamics for MolecularDynamics<T, X, F> {
    fn steps(&self) -> usize {
        self.kernel.steps()
    }

    fn set_steps(&mut self, steps: usize) {
        self.kernel.set_steps(steps);
    }

    fn forces(&self) -> usize {
        self.kernel.forces()
    }
}
