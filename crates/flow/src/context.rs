//! Convolutional context networks: they see the frozen sites and return the parameters of a transformation.
//!
//! A network is one fused op over flat parameters, so that its activations never leave the cache; they are recomputed in
//! the backward pass. It is equivariant under all lattice translations of scalar fields.

use crate::{Error, ParamStore, Result};
use candle_core::Tensor;
use candle_nn::Module;
use latflow_kernels::{Activation, ConvNet, Stencil};
use latflow_lattice::{Boundary, Lattice};
use rand_distr::{Distribution as _, StandardNormal};

/// Architecture of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct NetShape {
    /// Channels of each hidden layer.
    pub hidden: Vec<usize>,
    /// Kernel extent, the same in every direction; odd.
    pub kernel: usize,
    /// Activation between convolutions.
    pub activation: Activation,
    /// Activation of the output.
    pub final_activation: Activation,
}

/// A network `[B, V, in]` → `[B, V, out]`.
#[derive(Debug, Clone)]
pub struct ContextNet {
    net: ConvNet,
    theta: Tensor,
}

impl ContextNet {
    /// A network whose hidden weights are N(0, 2/fan-in) and whose last layer is zero: the flow starts as the identity.
    ///
    /// # Errors
    /// When the kernel does not fit the lattice or the name is taken.
    pub fn new(
        store: &mut ParamStore,
        name: &str,
        lattice: &Lattice,
        inputs: usize,
        outputs: usize,
        shape: &NetShape,
    ) -> Result<Self> {
        let stencil = lattice.stencil(&vec![shape.kernel; lattice.ndim()], Boundary::Periodic)?;
        Self::on_stencil(store, name, stencil, inputs, outputs, shape)
    }

    /// The same on any set of sites with the given gather table, whose taps take the place of the kernel.
    ///
    /// # Errors
    /// When a layer has no channels or the name is taken.
    pub fn on_stencil(
        store: &mut ParamStore,
        name: &str,
        stencil: Stencil,
        inputs: usize,
        outputs: usize,
        shape: &NetShape,
    ) -> Result<Self> {
        if shape.hidden.contains(&0) {
            return Err(Error::Parameter { name: "channels", value: 0.0, expected: "at least 1" });
        }
        let mut channels = vec![inputs];
        channels.extend(&shape.hidden);
        channels.push(outputs);
        let net = ConvNet::new(stencil, &channels, shape.activation, shape.final_activation)?;
        let theta = store.create(name, &[net.parameter_count()], |rng| {
            let mut theta = vec![0.0; net.parameter_count()];
            let (_, hidden) = net.layer_ranges().split_last().expect("a network has a last layer");
            for layer in hidden {
                let deviation = (2.0 / layer.fan_in as f64).sqrt();
                for w in &mut theta[layer.weight.clone()] {
                    let normal: f64 = StandardNormal.sample(rng);
                    *w = deviation * normal;
                }
            }
            theta
        })?;
        Ok(Self { net, theta })
    }
}

impl Module for ContextNet {
    /// Applies the network to inputs of any float type; the output has the type of the parameters.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.net.forward(&x.to_dtype(self.theta.dtype())?, &self.theta)
    }
}
