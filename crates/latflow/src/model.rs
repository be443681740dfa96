//! The registry of flow layers: a configuration's `[model.…]` section becomes a flow.
//!
//! A new layer is one variant of [`Layer`] and one arm in [`layers`].

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use latflow_flow::decimation::{LocalPotential, SiteCoupling, SiteShape, stages};
use latflow_flow::{self as flow, Bijection, Chain, FlowModel, Gaussian, NetShape, ParamStore};
use latflow_lattice::{Lattice, Parity, Streams};

use crate::config::{Activation, Config, Layer, Marginal, Precision, Prior};
use crate::theory::ScalarTheory;

/// A flow on scalar fields with its parameters.
pub(crate) struct ScalarFlow {
    /// The density q(φ).
    pub density: FlowModel<Gaussian, Chain<Tensor>>,
    /// What training changes.
    pub parameters: ParamStore,
    /// For the tables.
    pub name: String,
}

/// The marginal flow of a configuration, at its seeded start.
///
/// # Errors
/// When a layer does not fit the lattice.
pub(crate) fn marginal_flow(
    config: &Config,
    theory: &dyn ScalarTheory,
    device: &Device,
) -> Result<ScalarFlow> {
    let lattice = theory.lattice();
    let Marginal { precision, prior, layers: kinds } = &config.model.marginal;
    let dtype = match precision {
        Precision::F32 => DType::F32,
        Precision::F64 => DType::F64,
    };
    let mut parameters = ParamStore::new(Streams::new(config.seed), dtype, device);
    let Prior::Gaussian { sigma } = prior;
    let prior = Gaussian::new(*sigma, lattice.volume(), device)?;
    let potential = theory.local_potential();
    let mut builder =
        Builder { lattice, potential, parameters: &mut parameters, layers: Vec::new(), kinds: Vec::new() };
    builder.add(kinds)?;
    let (mut layers, name) = (builder.layers, builder.kinds.join(" + "));
    anyhow::ensure!(!layers.is_empty(), "[model.marginal]: a flow needs at least one layer");
    let first = layers.remove(0);
    Ok(ScalarFlow { density: FlowModel { prior, flow: Chain::new(first, layers) }, parameters, name })
}

struct Builder<'a> {
    lattice: &'a Lattice,
    potential: LocalPotential,
    parameters: &'a mut ParamStore,
    layers: Vec<Box<dyn Bijection<Tensor>>>,
    kinds: Vec<&'static str>,
}

impl Builder<'_> {
    fn add(&mut self, layers: &[Layer]) -> Result<()> {
        for layer in layers {
            match layer {
                Layer::ExponentialConvolution(config) => {
                    let name = self.name("exponential_convolution");
                    let layer = flow::ExponentialConvolution::new(
                        self.parameters,
                        &name,
                        self.lattice,
                        config.radius,
                    )?;
                    self.layers.push(Box::new(layer));
                }
                Layer::CubicRoot(config) => {
                    let name = self.name("cubic_root");
                    self.layers.push(Box::new(flow::CubicRoot::new(self.parameters, &name, config.cubic)?));
                }
                Layer::AffineCoupling(config) => {
                    let shape = NetShape {
                        hidden: vec![config.channels; config.convs],
                        kernel: config.kernel,
                        activation: activation(config.activation),
                        final_activation: activation(config.final_activation),
                    };
                    for index in 0..config.count {
                        let active = if index % 2 == 0 { Parity::Even } else { Parity::Odd };
                        let name = self.name("affine_coupling");
                        let layer =
                            flow::AffineCoupling::new(self.parameters, &name, self.lattice, active, &shape)?;
                        self.layers.push(Box::new(layer));
                    }
                }
                Layer::Decimation(config) => {
                    let name = self.name("decimation");
                    let net = NetShape {
                        hidden: config.channels.clone(),
                        kernel: config.kernel,
                        activation: latflow_kernels::Activation::Tanh,
                        final_activation: latflow_kernels::Activation::Identity,
                    };
                    for stage in stages(self.lattice)? {
                        let shape = SiteShape {
                            // The finest stage is a heat bath: there is nothing left for a network to say.
                            net: (stage.level > 0 && !net.hidden.is_empty()).then(|| net.clone()),
                            radius: config.radius,
                            powers: config.powers,
                            cells: config.cells,
                        };
                        let name = format!("{name}/{}", stage.name);
                        let (store, lattice) = (&mut *self.parameters, self.lattice);
                        let layer = SiteCoupling::new(store, &name, lattice, &stage, &shape, self.potential)?;
                        self.layers.push(Box::new(layer));
                    }
                }
                Layer::Repeat(config) => {
                    for _ in 0..config.times {
                        self.add(&config.layers)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A name for the next layer's parameters, unique by its position.
    fn name(&mut self, kind: &'static str) -> String {
        if !self.kinds.contains(&kind) {
            self.kinds.push(kind);
        }
        format!("marginal/{:03}/{kind}", self.layers.len())
    }
}

fn activation(activation: Activation) -> latflow_kernels::Activation {
    match activation {
        Activation::Identity => latflow_kernels::Activation::Identity,
        Activation::LeakyRelu => latflow_kernels::Activation::LeakyRelu(0.01),
        Activation::Tanh => latflow_kernels::Activation::Tanh,
    }
}
