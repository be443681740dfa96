//! The sections of a configuration file and their defaults.

use serde::{Deserialize, Serialize};

/// `[lattice]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatticeSection {
    /// Extents, space first, time last; even.
    pub dims: Vec<usize>,
}

/// `[action.…]`: one theory. A new theory is one variant here and one arm in `theory.rs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Theory {
    /// `[action.yukawa]`
    Yukawa(Yukawa),
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
    /// Trajectories between measurements.
    pub measure_every: u64,
    /// Trajectories between checkpoints.
    pub checkpoint_every: u64,
}

impl Default for Hmc {
    fn default() -> Self {
        Self {
            chains: 64,
            trajectories: 2000,
            thermalization: 200,
            trajectory_length: 1.0,
            steps: 8,
            integrator: Integrator::Omelyan,
            fermions: FermionTreatment::Pseudofermion,
            target_acceptance: 0.9,
            solver_tolerance: 1e-9,
            solver_iterations: 1000,
            measure_every: 1,
            checkpoint_every: 200,
        }
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

/// `[model]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// The flow of the scalar field's marginal density.
    pub marginal: Marginal,
}

/// `[model.marginal]`: prior and layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Marginal {
    /// Number format of the network; densities are always f64.
    pub precision: Precision,
    /// Where samples start.
    pub prior: Prior,
    /// What transforms them.
    pub layers: Vec<Layer>,
}

impl Default for Marginal {
    fn default() -> Self {
        Self {
            precision: Precision::F32,
            prior: Prior::Gaussian { sigma: 0.5 },
            layers: vec![
                Layer::Repeat(Repeat {
                    times: 2,
                    layers: vec![
                        Layer::ExponentialConvolution(ExponentialConvolution { radius: 3 }),
                        Layer::CubicRoot(CubicRoot { cubic: 0.3 }),
                        Layer::AffineCoupling(AffineCoupling::default()),
                    ],
                }),
                Layer::ExponentialConvolution(ExponentialConvolution { radius: 3 }),
            ],
        }
    }
}

/// `precision`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit networks.
    F32,
    /// 64-bit networks.
    F64,
}

/// `prior`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Prior {
    /// exp(−ζ²/σ²), so that the variance is σ²/2 [YUK (50)].
    Gaussian {
        /// σ
        sigma: f64,
    },
}

/// One entry of `layers`, applied in order from prior to field; a new kind is one variant here and one arm in `model.rs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// e^L with a translation invariant generator L: the two-point function.
    ExponentialConvolution(ExponentialConvolution),
    /// A monotone cubic root of every site: the quartic well.
    CubicRoot(CubicRoot),
    /// Affine couplings on alternating checkerboards [YUK Sec. IV B 3].
    AffineCoupling(AffineCoupling),
    /// The lattice filled from coarse to fine by one-dimensional Boltzmann densities; a prior of σ = √2 fits it.
    Decimation(Decimation),
    /// The same sequence of kinds several times, each time with parameters of its own.
    Repeat(Repeat),
}

/// `decimation`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Decimation {
    /// Channels of the hidden convolutions of each stage's network; none leaves the linear field alone.
    pub channels: Vec<usize>,
    /// Extent of the convolution kernel in units of the stage's spacing, odd.
    pub kernel: usize,
    /// Largest displacement of the linear field in each direction.
    pub radius: usize,
    /// Largest power of φ in the exponent of the site's density; even.
    pub powers: u32,
    /// Cells of the grid on which the densities are interpolated.
    pub cells: usize,
}

impl Default for Decimation {
    fn default() -> Self {
        Self { channels: vec![16, 16], kernel: 3, radius: 8, powers: 6, cells: 96 }
    }
}

/// `exponential_convolution`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExponentialConvolution {
    /// Largest displacement of the generator in each direction.
    pub radius: usize,
}

/// `cubic_root`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CubicRoot {
    /// Coefficient of the cube to begin with.
    pub cubic: f64,
}

/// `repeat`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// How often.
    pub times: usize,
    /// What.
    pub layers: Vec<Layer>,
}

/// `affine_coupling`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AffineCoupling {
    /// Coupling layers.
    pub count: usize,
    /// Hidden convolutions of each context network.
    pub convs: usize,
    /// Channels of the hidden convolutions.
    pub channels: usize,
    /// Extent of the convolution kernel, odd.
    pub kernel: usize,
    /// After each hidden convolution.
    pub activation: Activation,
    /// After the last one, which has one channel for scale and one for shift.
    pub final_activation: Activation,
}

impl Default for AffineCoupling {
    fn default() -> Self {
        Self {
            count: 4,
            convs: 2,
            channels: 16,
            kernel: 3,
            activation: Activation::LeakyRelu,
            final_activation: Activation::Identity,
        }
    }
}

/// `activation` and `final_activation`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x
    Identity,
    /// max(x, 0.01 x)
    LeakyRelu,
    /// tanh x
    Tanh,
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
    /// Relative residual of the conjugate gradient of the stochastic estimator.
    pub solver_tolerance: f64,
    /// Iterations of that conjugate gradient before it gives up.
    pub solver_iterations: usize,
    /// Steps between two lines of metrics.
    pub log_every: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            batch: 256,
            steps: 2000,
            lr: vec![(0, 1e-3)],
            clip: Clip::default(),
            gradient: Gradient::Determinant,
            estimator: Estimator::Total,
            solver_tolerance: 1e-6,
            solver_iterations: 1000,
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
    /// Independent chains.
    pub chains: usize,
    /// Proposals of each chain.
    pub steps: u64,
    /// Leading steps that are not measured.
    pub thermalization: u64,
    /// Proposals drawn at once.
    pub batch: usize,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
}

impl Default for Sample {
    fn default() -> Self {
        Self { chains: 100, steps: 1000, thermalization: 100, batch: 1000, checkpoint_every: 100 }
    }
}
