//! Two degenerate flavours by one pseudofermion.
//!
//! ```text
//! S_PF(φ, ϕ) = ϕ† (D D†)⁻¹ ϕ                                                   [YUK (12)]
//! ϕ = D χ,  χ ~ e^{−χ†χ}:   an exact sample of p(ϕ|φ) ∝ e^{−S_PF}                  [YUK (16)]
//! ```
//!
//! re χ and im χ have variance ½ each. The same code serves the full operator and its even/odd form.

use crate::{Action, Refresh, Result, Sum};
use candle_core::Tensor;
use latflow_fermion::{ConjugateGradient, Dirac, LinearOperator, quadratic_form_of_inverse};
use latflow_lattice::{Rng, normal_tensor};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Solves and their iterations, counted over every clone of a theory.
#[derive(Debug, Default)]
struct Work {
    solves: AtomicU64,
    iterations: AtomicU64,
}

/// A theory S_B(φ) + S_PF(φ, ϕ) whose pseudofermion is refreshed before every trajectory.
#[derive(Debug, Clone)]
pub struct Pseudofermion<A, D> {
    /// The bosonic part.
    pub bosonic: A,
    /// The Dirac operator, full or even/odd.
    pub dirac: D,
    /// The solver for (DD†)⁻¹ϕ.
    pub solver: ConjugateGradient,
    work: Arc<Work>,
}

/// S_PF(·, ϕ) at a fixed pseudofermion ϕ `[B, 2, N]`.
#[derive(Debug, Clone)]
pub struct PseudofermionAction<D> {
    dirac: D,
    pf: Tensor,
    solver: ConjugateGradient,
    work: Arc<Work>,
}

impl<A, D: Dirac + Clone> Pseudofermion<A, D> {
    /// The theory with the given parts.
    pub fn new(bosonic: A, dirac: D, solver: ConjugateGradient) -> Self {
        Self { bosonic, dirac, solver, work: Arc::default() }
    }

    /// The exact heat bath ϕ = D χ for each φ `[B, V]`, and S_PF at that ϕ as a function of φ.
    ///
    /// # Errors
    /// When φ does not fit.
    pub fn heatbath(&self, phi: &Tensor, rng: &mut Rng) -> Result<PseudofermionAction<D>> {
        let shape = self.dirac.vector_shape(phi.dim(0)?);
        let chi = normal_tensor(rng, std::f64::consts::FRAC_1_SQRT_2, &shape, phi.dtype(), phi.device())?;
        let pf = self.dirac.bind(&phi.detach())?.apply(&chi)?;
        Ok(PseudofermionAction {
            dirac: self.dirac.clone(),
            pf,
            solver: self.solver,
            work: self.work.clone(),
        })
    }

    /// Mean number of conjugate gradient iterations a solve since the theory was built; 0 before the first.
    pub fn mean_iterations(&self) -> f64 {
        let solves = self.work.solves.load(Ordering::Relaxed).max(1);
        self.work.iterations.load(Ordering::Relaxed) as f64 / solves as f64
    }
}

impl<D> PseudofermionAction<D> {
    /// The pseudofermion ϕ `[B, 2, N]`.
    pub fn pf(&self) -> &Tensor {
        &self.pf
    }
}

impl<D: Dirac> Action<Tensor> for PseudofermionAction<D> {
    fn action(&self, phi: &Tensor) -> Result<Tensor> {
        let (action, solution) = quadratic_form_of_inverse(&self.dirac, phi, &self.pf, &self.solver)?;
        let iterations: usize = solution.iterations.iter().sum();
        self.work.iterations.fetch_add(iterations as u64, Ordering::Relaxed);
        self.work.solves.fetch_add(solution.iterations.len() as u64, Ordering::Relaxed);
        Ok(action)
    }
}

impl<A: Action<Tensor> + Clone, D: Dirac + Clone> Refresh<Tensor> for Pseudofermion<A, D> {
    type Conditional = Sum<A, PseudofermionAction<D>>;

    fn refresh(&self, phi: &Tensor, rng: &mut Rng) -> Result<Self::Conditional> {
        Ok(Sum(self.bosonic.clone(), self.heatbath(phi, rng)?))
    }
}
