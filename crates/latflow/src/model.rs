//! The registry of flow layers: a configuration's `[model.…]` section becomes a flow.
//!
//! A new layer is one variant of [`Layers`] and one arm in [`layers`].

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use latflow_flow::{self as flow, Bijection, Chain, FlowModel, Gaussian, NetShape, ParamStore};
use latflow_lattice::{Lattice, Parity, Streams};

use crate::config::{Activation, Config, Layers, Marginal, Precision, Prior};

/// A flow on scalar fields with its parameters.
pub(crate) struct ScalarFlow {
    /// The density q(φ).
    pub density: FlowModel<Gaussian, Chain<Tensor>>,
    /// What training changes.
    pub parameters: ParamStore,
    /// For the tables.
    pub name: &'static str,
}

/// The marginal flow of a configuration, at its seeded start.
///
/// # Errors
/// When a layer does not fit the lattice.
pub(crate) fn marginal_flow(config: &Config, lattice: &Lattice, device: &Device) -> Result<ScalarFlow> {
    let Marginal { precision, prior, layers: kind } = &config.model.marginal;
    let dtype = match precision {
        Precision::F32 => DType::F32,
        Precision::F64 => DType::F64,
    };
    let mut parameters = ParamStore::new(Streams::new(config.seed), dtype, device);
    let Prior::Gaussian { sigma } = prior;
    let prior = Gaussian::new(*sigma, lattice.volume(), device)?;
    let (name, mut layers) = layers(kind, lattice, &mut parameters)?;
    anyhow::ensure!(!layers.is_empty(), "[model.marginal]: a flow needs at least one layer");
    let first = layers.remove(0);
    Ok(ScalarFlow { density: FlowModel { prior, flow: Chain::new(first, layers) }, parameters, name })
}

type BoxedLayers = Vec<Box<dyn Bijection<Tensor>>>;

fn layers(
    kind: &Layers,
    lattice: &Lattice,
    parameters: &mut ParamStore,
) -> Result<(&'static str, BoxedLayers)> {
    match kind {
        Layers::AffineCoupling(config) => {
            let shape = NetShape {
                hidden: vec![config.channels; config.convs],
                kernel: config.kernel,
                activation: activation(config.activation),
                final_activation: activation(config.final_activation),
            };
            let mut layers = BoxedLayers::new();
            for index in 0..config.count {
                let active = if index % 2 == 0 { Parity::Even } else { Parity::Odd };
                let name = format!("marginal/{index:03}/affine_coupling");
                layers.push(Box::new(flow::AffineCoupling::new(parameters, &name, lattice, active, &shape)?));
            }
            Ok(("affine_coupling", layers))
        }
    }
}

fn activation(activation: Activation) -> latflow_kernels::Activation {
    match activation {
        Activation::Identity => latflow_kernels::Activation::Identity,
        Activation::LeakyRelu => latflow_kernels::Activation::LeakyRelu(0.01),
        Activation::Tanh => latflow_kernels::Activation::Tanh,
    }
}
