//! The section `[model]`: what is trained and sampled, and of which layers it is made.

use serde::{Deserialize, Serialize};

use super::{Gauge, Ptcn};

/// `[model]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// Which density is modelled.
    pub scheme: ModelScheme,
    /// The flow of the scalar field's marginal density, q(φ).
    pub marginal: Marginal,
    /// The density of a pseudofermion given φ, q(ϕ|φ).
    pub conditional: Conditional,
    /// The flow of φ given a pseudofermion, q(φ|ϕ).
    pub gibbs: Gibbs,
    /// The flow of both fields, q(φ, ϕ).
    pub joint: Joint,
    /// The flow of links, q(U).
    pub gauge: Gauge,
    /// The density of a pseudofermion given links, q(ϕ|U).
    pub ptcn: Ptcn,
}

/// `scheme`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelScheme {
    /// q(φ) for p(φ) [YUK Sec. III A].
    #[default]
    Marginal,
    /// q(φ) q(ϕ|φ) for p(φ, ϕ) [YUK Sec. III C].
    Autoregressive,
    /// q(φ|ϕ) for p(φ|ϕ) [YUK Sec. III B].
    Gibbs,
    /// q(φ, ϕ) for p(φ, ϕ) [YUK Sec. III D].
    Joint,
    /// q(U) for p(U) [QCD Sec. 3.1].
    Gauge,
    /// q(ϕ|U) for p(ϕ|U), after a q(U) that is trained already [QCD Sec. 3.1].
    GaugePseudofermion,
}

impl ModelScheme {
    /// Whether it is one of gauge theories.
    pub(crate) fn of_links(self) -> bool {
        matches!(self, Self::Gauge | Self::GaugePseudofermion)
    }
}

/// `[model.conditional]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conditional {
    /// Which density.
    pub kind: ConditionalKind,
}

impl Default for Conditional {
    fn default() -> Self {
        Self { kind: ConditionalKind::Exponential { order: 1 } }
    }
}

/// `kind` of `[model.conditional]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ConditionalKind {
    /// exp(−ϕ†ϕ/σ²) whatever φ; σ = 1 is the noise of the estimator in [YUK Sec. III A].
    Gaussian {
        /// σ
        sigma: f64,
    },
    /// The operator's logarithm to some order: nothing to train.
    Exponential {
        /// Up to 1 with even/odd preconditioning, up to 2 without.
        order: usize,
    },
    /// A deep linear flow [YUK Sec. IV B 4]; needs `even_odd = false`.
    Linear(Linear),
}

/// `linear`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Linear {
    /// σ_χ: the prior is exp(−χ†χ/σ_χ²).
    pub sigma: f64,
    /// Linear operators.
    pub operators: usize,
    /// Convolutions of the network, the last one included, which has two channels an operator.
    pub convs: usize,
    /// Channels of the hidden convolutions.
    pub channels: usize,
    /// Extent of the convolution kernel, odd.
    pub kernel: usize,
    /// Channels after squeezing the first direction.
    pub squeeze: usize,
    /// Weight of the mean square of all coefficients in the loss [YUK App. A].
    pub penalty: f64,
}

impl Default for Linear {
    fn default() -> Self {
        Self { sigma: 1.0, operators: 32, convs: 3, channels: 16, kernel: 3, squeeze: 2, penalty: 0.0 }
    }
}

/// `[model.gibbs]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gibbs {
    /// Number format of the network; densities are always f64.
    pub precision: Precision,
    /// Which flow.
    pub kind: PairKind,
}

impl Default for Gibbs {
    fn default() -> Self {
        Self { precision: Precision::F32, kind: PairKind::Decimation(Decimation::default()) }
    }
}

/// `[model.joint]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Joint {
    /// Number format of the network; densities are always f64.
    pub precision: Precision,
    /// Which flow.
    pub kind: PairKind,
}

impl Default for Joint {
    fn default() -> Self {
        Self { precision: Precision::F32, kind: PairKind::Decimation(Decimation::default()) }
    }
}

/// `kind` of `[model.gibbs]` and `[model.joint]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairKind {
    /// The lattice filled from coarse to fine; the finest stage feels the pseudofermion, which a joint model draws before it
    /// from `[model.conditional]`. Needs `even_odd = true`.
    Decimation(Decimation),
    /// Affine couplings of both fields in turn: restricted for `gibbs` [YUK (35), (36)], fully joint for `joint` [YUK (39)].
    Couplings(PairCouplings),
}

/// `couplings`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PairCouplings {
    /// σ_ζ of the scalar field's prior.
    pub sigma: f64,
    /// σ_χ of the pseudofermion's prior.
    pub sigma_pf: f64,
    /// Layers, each of which updates half of φ, then half of ϕ.
    pub layers: usize,
    /// Convolutions of each network, the last one included.
    pub convs: usize,
    /// Channels of the hidden convolutions.
    pub channels: usize,
    /// Extent of the convolution kernel, odd.
    pub kernel: usize,
    /// After the last convolution; hidden ones are followed by a leaky ReLU.
    pub final_activation: Activation,
    /// How networks know the boundary conditions.
    pub equivariance: Equivariance,
    /// Channels after squeezing the first direction, which breaks odd translations; 0 does not.
    pub squeeze: usize,
}

impl Default for PairCouplings {
    fn default() -> Self {
        Self {
            sigma: 0.5,
            sigma_pf: 1.0,
            layers: 4,
            convs: 3,
            channels: 8,
            kernel: 3,
            final_activation: Activation::Tanh,
            equivariance: Equivariance::Convolutions,
            squeeze: 2,
        }
    }
}

/// `equivariance`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Equivariance {
    /// Convolutions of periodic and antiperiodic fields [YUK App. D 1].
    Convolutions,
    /// Averages over the even translations in time [YUK App. D 2].
    GroupAverage,
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
            // Unit variance: what a decimation starts from.
            prior: Prior::Gaussian { sigma: std::f64::consts::SQRT_2 },
            layers: vec![Layer::Decimation(Decimation::default())],
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

/// One entry of `layers`, applied in order from prior to field; a new kind is one variant here and one arm in `model/marginal.rs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// e^L with a translation invariant generator L: the two-point function.
    ExponentialConvolution(ExponentialConvolution),
    /// A monotone cubic root of every site: the quartic well.
    CubicRoot(CubicRoot),
    /// Gradients of convex potentials [YUK Sec. IV B 5].
    ConvexPotential(ConvexPotential),
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

/// `convex_potential`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConvexPotential {
    /// Potentials.
    pub count: usize,
    /// Convolutions of each, the last one, which is summed over, included.
    pub convs: usize,
    /// Channels.
    pub channels: usize,
    /// Extent of the convolution kernel, odd.
    pub kernel: usize,
    /// w1 to begin with [YUK (34)].
    pub nonlinear: f64,
    /// w2 to begin with.
    pub quadratic: f64,
    /// Noise vectors of the log-determinant's estimated gradient, for `train.gradient = "stochastic"`.
    pub probes: usize,
    /// Lanczos steps of its estimated value, which only the metrics of such a training see.
    pub lanczos_steps: usize,
}

impl Default for ConvexPotential {
    fn default() -> Self {
        Self {
            count: 3,
            convs: 4,
            channels: 16,
            kernel: 3,
            nonlinear: 5e-3,
            quadratic: 1.0,
            probes: 1,
            lanczos_steps: 12,
        }
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
    /// Convolutions of each context network, the last one included.
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
            convs: 3,
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
