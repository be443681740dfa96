//! Networks of the gauge and pseudofermion flows: convolutions in any dimension, ordinary or separable, that start random
//! [QCD Sec. 3.1].
//!
//! ```text
//! separable block:  x ← W_1 ∗ x, …, x ← W_d ∗ x + b     W_μ along direction μ only; W_1 changes the number of channels
//! Xavier normal:    W ~ N(0, σ²),  σ = gain √(2 / (k C_in + k C_out)) for each of the W,   b ~ N(0, σ_b²)
//! ```
//!
//! A coupling reads its network at the active sites only, so a network can be restricted to them.

use crate::{Error, ParamStore, Result};
use candle_core::Tensor;
use candle_nn::Module;
use latflow_kernels::{Activation, ConvNet, Stencil};
use latflow_lattice::{Boundary, Lattice, Rng};
use rand_distr::{Distribution as _, StandardNormal};

/// What stands between two activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Convolutions {
    /// One convolution with a kernel of kᵈ taps.
    Ordinary,
    /// A convolution of k taps in each direction, one after the other; only the last has a bias.
    Separable,
}

/// Spread of the initial parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Xavier {
    /// Factor of the weights' standard deviation √(2 / (fan-in + fan-out)).
    pub gain: f64,
    /// Standard deviation of the biases.
    pub bias: f64,
}

/// Architecture and start of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct LatticeNetShape {
    /// Channels of each hidden layer.
    pub hidden: Vec<usize>,
    /// Kernel extent k, the same in every direction; odd.
    pub kernel: usize,
    /// Ordinary or separable.
    pub convolutions: Convolutions,
    /// Activation between layers.
    pub activation: Activation,
    /// Activation of the output.
    pub final_activation: Activation,
    /// Initial parameters.
    pub initial: Xavier,
}

impl LatticeNetShape {
    /// A network of the marginal model's couplings: three hidden layers of 32 channels, separable, leaky ReLU in between and
    /// nothing at the end [QCD Sec. 3.1].
    pub fn marginal() -> Self {
        Self {
            hidden: vec![32; 3],
            kernel: 3,
            convolutions: Convolutions::Separable,
            activation: Activation::LeakyRelu(0.01),
            final_activation: Activation::Identity,
            initial: Xavier { gain: 0.5, bias: 0.0 },
        }
    }

    /// A context network of the conditional model: a hidden layer of 8 channels, ELU, and tanh at the end [QCD Sec. 3.1].
    pub fn conditional() -> Self {
        Self {
            hidden: vec![8],
            kernel: 3,
            convolutions: Convolutions::Ordinary,
            activation: Activation::Elu,
            final_activation: Activation::Tanh,
            initial: Xavier { gain: 0.3, bias: 0.05 },
        }
    }

    fn stencils(&self, lattice: &Lattice) -> Result<Vec<Stencil>> {
        let stencil = |kernel: &[usize]| lattice.stencil(kernel, Boundary::Periodic);
        match self.convolutions {
            Convolutions::Ordinary => Ok(vec![stencil(&vec![self.kernel; lattice.ndim()])?]),
            Convolutions::Separable => (0..lattice.ndim())
                .map(|mu| {
                    let mut kernel = vec![1; lattice.ndim()];
                    kernel[mu] = self.kernel;
                    Ok(stencil(&kernel)?)
                })
                .collect(),
        }
    }
}

/// A network `[B, V, in]` → `[B, V, out]`, or `[B, n, out]` at n chosen sites. It commutes with all lattice translations.
#[derive(Debug, Clone)]
pub struct LatticeNet {
    net: ConvNet,
    theta: Tensor,
}

impl LatticeNet {
    /// A network with output everywhere.
    ///
    /// # Errors
    /// When a layer has no channels, the kernel does not fit the lattice, a spread is negative or not finite, or the name is
    /// taken.
    pub fn new(
        store: &mut ParamStore,
        name: &str,
        lattice: &Lattice,
        inputs: usize,
        outputs: usize,
        shape: &LatticeNetShape,
    ) -> Result<Self> {
        let Xavier { gain, bias } = shape.initial;
        for (name, value) in [("gain", gain), ("bias", bias)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::Parameter {
                    name,
                    value,
                    expected: "a finite number that is not negative",
                });
            }
        }
        let channels = [&[inputs], &shape.hidden[..], &[outputs]].concat();
        if channels.contains(&0) {
            return Err(Error::Parameter { name: "channels", value: 0.0, expected: "at least 1" });
        }
        let stencils = shape.stencils(lattice)?;
        let net = ConvNet::separable(&stencils, &channels, shape.activation, shape.final_activation)?;
        let theta = store
            .create(name, &[net.parameter_count()], |rng| initial_parameters(&net, shape.initial, rng))?;
        Ok(Self { net, theta })
    }

    /// The same network, with the same parameters, with its output at the given sites, in their order.
    ///
    /// # Errors
    /// When there is no site, or one is outside the lattice.
    pub fn at(&self, sites: &[u32]) -> Result<Self> {
        Ok(Self { net: self.net.at(sites)?, theta: self.theta.clone() })
    }

    /// The same network with parameters that follow those of this one but record no history.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { net: self.net.clone(), theta: self.theta.detach() }
    }

    /// Number of parameters.
    pub fn parameter_count(&self) -> usize {
        self.net.parameter_count()
    }

    /// Floating point operations of the convolutions of one forward pass by their definition, a multiply-add counted as two.
    pub fn flops_forward(&self, batch: usize) -> f64 {
        self.net.flops_forward(batch)
    }
}

/// Weights and biases in the network's order.
fn initial_parameters(net: &ConvNet, initial: Xavier, rng: &mut Rng) -> Vec<f64> {
    let mut theta = vec![0.0; net.parameter_count()];
    let mut fill = |part: &mut [f64], deviation: f64| {
        for x in part {
            let normal: f64 = StandardNormal.sample(rng);
            *x = deviation * normal;
        }
    };
    for layer in net.layer_ranges() {
        let deviation = initial.gain * (2.0 / (layer.fan_in + layer.fan_out) as f64).sqrt();
        fill(&mut theta[layer.weight.clone()], deviation);
        fill(&mut theta[layer.bias.clone()], initial.bias);
    }
    theta
}

impl Module for LatticeNet {
    /// Applies the network to inputs of any float type; the output has the type of the parameters.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.net.forward(&x.to_dtype(self.theta.dtype())?, &self.theta)
    }
}
