//! The sections of a configuration file and their defaults.

use latflow_fermion::ConjugateGradient;
use serde::{Deserialize, Serialize};

use super::{Qcd, Start, Update};

/// `[lattice]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatticeSection {
    /// Extents, space first, time last; even.
    pub dims: Vec<usize>,
}

/// `[action.…]`: one theory. A new theory is one variant here and one arm in `theory/mod.rs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Theory {
    /// `[action.yukawa]`
    Yukawa(Yukawa),
    /// `[action.qcd]`
    Qcd(Qcd),
}

/// `[action.yukawa]`: a scalar field with quartic self-interaction and two mass-degenerate staggered fermions, [YUK (40)]
/// and [YUK (41)].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Yukawa {
    /// Bare scalar mass squared m², may be negative.
    pub m2: f64,
    /// Quartic coupling λ.
    pub lambda: f64,
    /// Yukawa coupling g.
    pub g: f64,
    /// Bare fermion mass m_f.
    pub fermion_mass: f64,
    /// Fermion boundary condition in time.
    #[serde(default)]
    pub fermion_boundary: FermionBoundary,
    /// Sample with the even/odd preconditioned determinant [YUK (B2)]; the distribution is the same.
    #[serde(default = "yes")]
    pub even_odd: bool,
}

fn yes() -> bool {
    true
}

/// `fermion_boundary`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FermionBoundary {
    /// [YUK (44)]
    #[default]
    Antiperiodic,
    /// Periodic, as in space.
    Periodic,
}

/// `[hmc]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hmc {
    /// How a chain moves.
    pub method: Update,
    /// Where it starts.
    pub start: Start,
    /// Independent chains, run in lock-step.
    pub chains: usize,
    /// Measured trajectories of each chain.
    pub trajectories: u64,
    /// Trajectories before the first measurement.
    pub thermalization: u64,
    /// Molecular dynamics time of a trajectory.
    pub trajectory_length: f64,
    /// Integrator steps of a trajectory, to begin with; tuned to `target_acceptance` in thermalization.
    pub steps: usize,
    /// Steps with the force of the bosons in each step with that of the fermions, in brackets; none for one time scale.
    pub substeps: Vec<usize>,
    /// Molecular dynamics integrator.
    pub integrator: Integrator,
    /// How the fermions enter.
    pub fermions: FermionTreatment,
    /// Acceptance that thermalization tunes the step count to; 0 keeps `steps`.
    pub target_acceptance: f64,
    /// Relative residual of the conjugate gradient.
    pub solver_tolerance: f64,
    /// Iterations of the conjugate gradient before it gives up.
    pub solver_iterations: usize,
    /// Heat bath: overrelaxation sweeps after every sweep of heat bath; together they count as one trajectory.
    pub overrelaxation: usize,
    /// Trajectories between measurements.
    pub measure_every: u64,
    /// Gauge fields: measurements between two that leave their configurations as ILDG files; 0 for none.
    pub save_every: u64,
    /// Trajectories between checkpoints.
    pub checkpoint_every: u64,
}

impl Default for Hmc {
    fn default() -> Self {
        Self {
            method: Update::Hmc,
            start: Start::Hot,
            chains: 64,
            trajectories: 2000,
            thermalization: 200,
            trajectory_length: 1.0,
            steps: 8,
            substeps: Vec::new(),
            integrator: Integrator::Omelyan,
            fermions: FermionTreatment::Pseudofermion,
            target_acceptance: 0.9,
            solver_tolerance: 1e-9,
            solver_iterations: 1000,
            overrelaxation: 4,
            measure_every: 1,
            save_every: 0,
            checkpoint_every: 200,
        }
    }
}

impl Hmc {
    /// The conjugate gradient of this section.
    pub(crate) fn solver(&self) -> ConjugateGradient {
        ConjugateGradient { tolerance: self.solver_tolerance, max_iterations: self.solver_iterations }
    }
}

/// `integrator`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Integrator {
    /// Position-half-steps at both ends, one force a step.
    Leapfrog,
    /// Second-order minimum norm, two forces a step.
    Omelyan,
}

/// `fermions`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FermionTreatment {
    /// Stochastic representation of the determinant, drawn anew for every trajectory [YUK (12)].
    Pseudofermion,
    /// log det by dense factorisation.
    Determinant,
    /// The quenched theory: bosons alone.
    None,
}

/// `[train]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// Samples of one gradient step.
    pub batch: usize,
    /// Gradient steps.
    pub steps: u64,
    /// Learning rates: `[from step, rate]`, steps increasing from 0.
    pub lr: Vec<(u64, f64)>,
    /// Bounds on the gradient.
    pub clip: Clip,
    /// How the determinant enters the gradient.
    pub gradient: Gradient,
    /// The form of the gradient of the flow.
    pub estimator: Estimator,
    /// ε of Adam; the QCD paper has 0.01.
    pub adam_epsilon: f64,
    /// μ₀: training sees DD† + μ₀ [QCD Sec. 3.1]; gauge theories only. Sampling never does.
    pub shift: f64,
    /// Relative residual of the conjugate gradient of the stochastic estimator.
    pub solver_tolerance: f64,
    /// Iterations of that conjugate gradient before it gives up.
    pub solver_iterations: usize,
    /// Samples that the model is judged by at the end.
    pub evaluation: usize,
    /// Steps between two lines of metrics.
    pub log_every: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
}

impl Train {
    /// The conjugate gradient of this section.
    pub(crate) fn solver(&self) -> ConjugateGradient {
        ConjugateGradient { tolerance: self.solver_tolerance, max_iterations: self.solver_iterations }
    }
}

impl Default for Train {
    fn default() -> Self {
        Self {
            batch: 192,
            steps: 2000,
            lr: vec![(0, 5e-4), (40, 2e-3), (80, 4e-3), (1000, 2e-3), (1400, 1e-3), (1700, 3e-4)],
            clip: Clip::default(),
            gradient: Gradient::Determinant,
            estimator: Estimator::Path,
            adam_epsilon: 1e-8,
            shift: 0.0,
            solver_tolerance: 1e-6,
            solver_iterations: 1000,
            evaluation: 2048,
            log_every: 10,
            checkpoint_every: 200,
        }
    }
}

/// `clip`: value first, then norm, as in [YUK Tab. IV].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clip {
    /// Every component is limited to ± this.
    pub value: f64,
    /// The whole gradient is scaled down to this norm.
    pub norm: f64,
}

impl Default for Clip {
    fn default() -> Self {
        Self { value: 10.0, norm: 32.0 }
    }
}

/// `gradient`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gradient {
    /// Of the exact log determinant.
    Determinant,
    /// Estimated with one noise vector a sample [YUK (C2)].
    Stochastic,
    /// Of its hopping expansion to the order whose traces are known in closed form; gauge theories only.
    Expansion,
}

/// `estimator`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// The total derivative of log q + S.
    Total,
    /// Through the samples alone: its noise vanishes as the flow becomes perfect, at the cost of an inverse pass.
    Path,
}

/// `[sample]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sample {
    /// What the model is used for; the schemes other than `marginal` have one method only.
    pub method: Method,
    /// Independent chains.
    pub chains: usize,
    /// Proposals of each chain.
    pub steps: u64,
    /// Leading steps that are not measured.
    pub thermalization: u64,
    /// Proposals drawn at once by independence samplers.
    pub batch: usize,
    /// Steps between measurements of samplers that move; independence samplers measure every proposal.
    pub measure_every: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// `pseudo_marginal`: pseudofermions of each estimate.
    pub draws: usize,
    /// `prior_refreshment`: the angle in radians, up to π/2, which is an independent draw.
    pub angle: f64,
    /// `prior_hmc`: molecular dynamics time of a trajectory, in units of the prior's standard deviation.
    pub trajectory_length: f64,
    /// `prior_hmc`: integrator steps of a trajectory.
    pub integrator_steps: usize,
    /// `prior_langevin`: step of the discretised equation, in units of the prior's standard deviation.
    pub step_size: f64,
    /// Relative residual of the conjugate gradient wherever a pseudofermion action is evaluated.
    pub solver_tolerance: f64,
    /// Iterations of that conjugate gradient before it gives up.
    pub solver_iterations: usize,
}

impl Sample {
    /// The conjugate gradient of this section.
    pub(crate) fn solver(&self) -> ConjugateGradient {
        ConjugateGradient { tolerance: self.solver_tolerance, max_iterations: self.solver_iterations }
    }
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            method: Method::Independence,
            chains: 100,
            steps: 1000,
            thermalization: 100,
            batch: 1000,
            measure_every: 1,
            checkpoint_every: 100,
            draws: 8,
            angle: 0.5,
            trajectory_length: 1.5,
            integrator_steps: 3,
            step_size: 0.3,
            solver_tolerance: 1e-9,
            solver_iterations: 1000,
        }
    }
}

/// `method`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The scheme's own: independence Metropolis [YUK (15)], for `gibbs` the Gibbs sampler [YUK (17)].
    Independence,
    /// Independence Metropolis with an estimated determinant [YUK Sec. III A].
    PseudoMarginal,
    /// Partial refreshment of the prior's field [YUK Sec. VI].
    PriorRefreshment,
    /// Hybrid Monte Carlo of the prior's field [YUK Sec. VI].
    PriorHmc,
    /// Langevin steps of the prior's field, with acceptance test [YUK Sec. VI].
    PriorLangevin,
}
