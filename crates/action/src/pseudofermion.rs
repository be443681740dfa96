//! Two degenerate flavours by one pseudofermion.
//!
//! ```text
//! S_PF(φ, ϕ) = ϕ† (D D†)⁻¹ ϕ                                                   [YUK (12)]
//! ϕ = D χ,  χ ~ e^{−χ†χ}:   an exact sample of p(ϕ|φ) ∝ e^{−S_PF}                  [YUK (16)]
//! p(φ, ϕ) = e^{−S_B(φ) − S_PF(φ, ϕ)} / Z                                         [YUK (14)]
//! ∫ dϕ e^{−S_PF} = Z_N det DD†,  Z_N = π^N                                        [YUK (9), (10)]
//! ```
//!
//! re χ and im χ have variance ½ each. The same code serves the full operator and its even/odd form.

use crate::{Action, Error, HeatBath, Refresh, Result, Sum, TrainingTarget};
use candle_core::{DType, Tensor};
use latflow_fermion::{ConjugateGradient, Dirac, LinearOperator, quadratic_form_of_inverse};
use latflow_lattice::{Configuration, Rng, normal_tensor};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Solves and their iterations, counted over every clone of a theory.
#[derive(Debug, Default)]
struct Work {
    solves: AtomicU64,
    iterations: AtomicU64,
}

/// The theory S_B(φ) + S_PF(φ, ϕ) of a bosonic field φ, scalar `[B, V]` or links, and a pseudofermion ϕ `[B, 2, N]`: an action of
/// (φ, ϕ) with gradients in both, and of φ alone once ϕ is drawn, as before a trajectory of HMC.
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

    /// The exact heat bath ϕ = D χ for each φ, and S_PF at that ϕ as a function of φ.
    ///
    /// # Errors
    /// When φ does not fit.
    pub fn heatbath(&self, phi: &D::Field, rng: &mut Rng) -> Result<PseudofermionAction<D>> {
        Ok(PseudofermionAction {
            dirac: self.dirac.clone(),
            pf: self.draw(phi, rng)?,
            solver: self.solver,
            work: self.work.clone(),
        })
    }
}

impl<A, D: Dirac> Pseudofermion<A, D> {
    /// ϕ = D χ `[B, 2, N]`, one exact draw from p(ϕ|φ) for each φ, without autodiff history.
    ///
    /// # Errors
    /// When φ does not fit.
    pub fn draw(&self, phi: &D::Field, rng: &mut Rng) -> Result<Tensor> {
        let shape = self.dirac.vector_shape(phi.batch()?);
        let chi = normal_tensor(rng, std::f64::consts::FRAC_1_SQRT_2, &shape, DType::F64, phi.device())?;
        Ok(self.dirac.bind(&phi.detach())?.apply(&chi)?)
    }

    /// S_PF(φ, ϕ) `[B]` alone, with gradients in φ and ϕ `[B, 2, N]`: ∂S_PF/∂ϕ = 2 (DD†)⁻¹ϕ on the real components.
    ///
    /// # Errors
    /// When a field does not fit or the solver does not converge.
    pub fn pseudofermion_action(&self, phi: &D::Field, pf: &Tensor) -> Result<Tensor> {
        pseudofermion_action(&self.dirac, phi, pf, &self.solver, &self.work)
    }

    /// log ∫dϕ e^{−S_PF(φ, ϕ)} − 2 log |det D_theory(φ)|, the same for every φ:
    ///
    /// ```text
    /// N log π − 2c,   c = log |det D_theory| − log |det D|
    /// ```
    ///
    /// so that log Z of the joint theory is this plus log Z of S_B − 2 log |det D_theory|.
    pub fn log_normalisation(&self) -> f64 {
        self.dirac.components() as f64 * std::f64::consts::PI.ln() - 2.0 * self.dirac.log_abs_det_constant()
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

fn pseudofermion_action<D: Dirac>(
    dirac: &D,
    phi: &D::Field,
    pf: &Tensor,
    solver: &ConjugateGradient,
    work: &Work,
) -> Result<Tensor> {
    let shape = dirac.vector_shape(phi.batch()?);
    if pf.dims() != shape {
        let (expected, got) = (format!("{shape:?}"), pf.dims().to_vec());
        return Err(Error::Shape { what: "pseudofermion", expected, got });
    }
    let (action, solution) = quadratic_form_of_inverse(dirac, phi, pf, solver)?;
    let iterations: usize = solution.iterations.iter().sum();
    work.iterations.fetch_add(iterations as u64, Ordering::Relaxed);
    work.solves.fetch_add(solution.iterations.len() as u64, Ordering::Relaxed);
    Ok(action)
}

impl<D: Dirac> Action<D::Field> for PseudofermionAction<D> {
    fn action(&self, phi: &D::Field) -> Result<Tensor> {
        pseudofermion_action(&self.dirac, phi, &self.pf, &self.solver, &self.work)
    }
}

impl<A: Action<D::Field>, D: Dirac> Action<(D::Field, Tensor)> for Pseudofermion<A, D> {
    fn action(&self, (phi, pf): &(D::Field, Tensor)) -> Result<Tensor> {
        Ok((self.bosonic.action(phi)? + self.pseudofermion_action(phi, pf)?)?)
    }
}

impl<A: Action<D::Field>, D: Dirac> TrainingTarget<(D::Field, Tensor)> for Pseudofermion<A, D> {
    /// The joint action itself: nothing about it is stochastic.
    fn surrogate_action(&self, pair: &(D::Field, Tensor), _: &mut Rng) -> Result<Tensor> {
        self.action(pair)
    }
}

impl<A: Action<D::Field>, D: Dirac> HeatBath<D::Field, Tensor> for Pseudofermion<A, D> {
    fn draw(&self, phi: &D::Field, rng: &mut Rng) -> Result<Tensor> {
        Pseudofermion::draw(self, phi, rng)
    }
}

impl<A: Action<D::Field> + Clone, D: Dirac + Clone> Refresh<D::Field> for Pseudofermion<A, D> {
    type Conditional = Sum<A, PseudofermionAction<D>>;

    fn refresh(&self, phi: &D::Field, rng: &mut Rng) -> Result<Self::Conditional> {
        Ok(Sum(self.bosonic.clone(), self.heatbath(phi, rng)?))
    }
}
