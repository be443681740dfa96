//! Densities of the scalar field, `[model.marginal]`: a prior and a list of layers.
//!
//! A new layer is one variant of [`Layer`] and one arm in [`Builder::add`].

use std::rc::Rc;

use anyhow::Result;
use candle_core::Tensor;
use latflow_fermion::ConjugateGradient;
use latflow_flow::decimation::{SiteCoupling, SiteShape, stages};
use latflow_flow::potential::{
    ConvexFlow, ConvexPotential, LogDet, LogDetGradient, LogDetValue, NewtonCg, PotentialShape,
};
use latflow_flow::{self as flow, Bijection, Chain, Distribution, Gaussian, ParamStore, Sample};
use latflow_kernels::Activation;
use latflow_lattice::{Parity, Rng, Streams};

use super::{ScalarDensity, Shared, Site, net_shape};
use crate::config::{self, Layer, Prior};

/// q(φ).
pub(crate) struct MarginalDensity {
    /// Exact: for sampling.
    pub density: ScalarDensity,
    /// The same density for training, where log-determinants may be estimated.
    pub training: ScalarDensity,
    layers: Vec<LayerFlow>,
}

/// One layer of the flow.
enum LayerFlow {
    /// x = ∇u(z), initialised with data.
    Convex(Box<ConvexFlow>),
    /// Any other.
    Other(Shared<Tensor>),
}

/// Samples that initialise a convex potential.
const INITIALIZATION: usize = 256;
/// Noise vectors of an estimated log-determinant, which only the metrics of a training see.
const LANCZOS_PROBES: usize = 2;

impl MarginalDensity {
    /// Whether training has the exact density.
    pub(crate) fn exact_in_training(&self) -> bool {
        self.layers.iter().all(|layer| match layer {
            LayerFlow::Convex(flow) => flow.log_det().value.is_exact(),
            LayerFlow::Other(_) => true,
        })
    }

    /// Initialises what depends on data, with samples on their way through the layers.
    ///
    /// # Errors
    /// When a potential does not vary.
    pub(crate) fn initialize(&self, parameters: &ParamStore, rng: &mut Rng) -> Result<()> {
        if !self.layers.iter().any(|layer| matches!(layer, LayerFlow::Convex(_))) {
            return Ok(());
        }
        let mut x: Tensor = self.density.prior.sample(INITIALIZATION, &(), rng)?;
        for layer in &self.layers {
            x = match layer {
                LayerFlow::Convex(flow) => flow.initialize(parameters, &x)?,
                LayerFlow::Other(flow) => flow.forward(&x, &())?.0.detach(),
            };
        }
        Ok(())
    }
}

impl Sample<Tensor> for MarginalDensity {
    fn sample(&self, n: usize, condition: &(), rng: &mut Rng) -> flow::Result<Tensor> {
        self.density.sample(n, condition, rng)
    }
}

impl Distribution<Tensor> for MarginalDensity {
    fn log_prob(&self, x: &Tensor, condition: &()) -> flow::Result<Tensor> {
        self.density.log_prob(x, condition)
    }

    fn sample_with_log_prob(
        &self,
        n: usize,
        condition: &(),
        rng: &mut Rng,
    ) -> flow::Result<(Tensor, Tensor)> {
        self.density.sample_with_log_prob(n, condition, rng)
    }
}

/// The density and the kinds of its layers.
pub(super) fn build(site: &Site<'_>, parameters: &mut ParamStore) -> Result<(MarginalDensity, String)> {
    let config::Marginal { prior, layers, .. } = &site.config.model.marginal;
    let Prior::Gaussian { sigma } = prior;
    let prior = Gaussian::new(*sigma, site.theory.lattice().volume(), site.device)?;
    let mut builder = Builder { site, parameters, layers: Vec::new(), kinds: Vec::new() };
    builder.add(layers)?;
    let (layers, name) = (builder.layers, builder.kinds.join(" + "));
    let exact = |layer: &LayerFlow| -> Result<Box<dyn Bijection<Tensor>>> {
        Ok(match layer {
            LayerFlow::Convex(flow) => Box::new(flow.with_log_det(LogDet::exact())?),
            LayerFlow::Other(flow) => Box::new(flow.clone()),
        })
    };
    let training = |layer: &LayerFlow| -> Result<Box<dyn Bijection<Tensor>>> {
        Ok(match layer {
            LayerFlow::Convex(flow) => Box::new((**flow).clone()),
            LayerFlow::Other(flow) => Box::new(flow.clone()),
        })
    };
    let density = |layers: Result<Vec<_>>| -> Result<ScalarDensity> {
        let mut layers = layers?;
        anyhow::ensure!(!layers.is_empty(), "[model.marginal]: a flow needs at least one layer");
        let first = layers.remove(0);
        Ok(flow::FlowModel { prior: prior.clone(), flow: Shared(Rc::new(Chain::new(first, layers))) })
    };
    let density =
        (density(layers.iter().map(exact).collect())?, density(layers.iter().map(training).collect())?);
    Ok((MarginalDensity { density: density.0, training: density.1, layers }, name))
}

struct Builder<'a> {
    site: &'a Site<'a>,
    parameters: &'a mut ParamStore,
    layers: Vec<LayerFlow>,
    kinds: Vec<&'static str>,
}

impl Builder<'_> {
    fn add(&mut self, layers: &[Layer]) -> Result<()> {
        for layer in layers {
            match layer {
                Layer::ExponentialConvolution(config) => {
                    let name = self.name("exponential_convolution");
                    let lattice = self.site.theory.lattice();
                    let layer =
                        flow::ExponentialConvolution::new(self.parameters, &name, lattice, config.radius)?;
                    self.push(layer);
                }
                Layer::CubicRoot(config) => {
                    let name = self.name("cubic_root");
                    let layer = flow::CubicRoot::new(self.parameters, &name, config.cubic)?;
                    self.push(layer);
                }
                Layer::AffineCoupling(config) => {
                    let shape = net_shape(
                        [config.convs, config.channels, config.kernel],
                        config.activation,
                        config.final_activation,
                    );
                    for index in 0..config.count {
                        let active = if index % 2 == 0 { Parity::Even } else { Parity::Odd };
                        let name = self.name("affine_coupling");
                        let lattice = self.site.theory.lattice();
                        let layer =
                            flow::AffineCoupling::new(self.parameters, &name, lattice, active, &shape)?;
                        self.push(layer);
                    }
                }
                Layer::ConvexPotential(config) => self.add_convex(config)?,
                Layer::Decimation(config) => {
                    let name = self.name("decimation");
                    for layer in decimation(self.site, self.parameters, &name, config)? {
                        self.push(layer);
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

    fn push(&mut self, layer: impl Bijection<Tensor> + 'static) {
        self.layers.push(LayerFlow::Other(Shared::new(layer)));
    }

    fn add_convex(&mut self, config: &config::ConvexPotential) -> Result<()> {
        let shape = PotentialShape {
            convolutions: config.convs,
            channels: config.channels,
            kernel: config.kernel,
            nonlinear: config.nonlinear,
            quadratic: config.quadratic,
        };
        let train = &self.site.config.train;
        let streams = Streams::new(self.site.config.seed);
        let log_det = if self.site.stochastic() {
            let solver = ConjugateGradient {
                tolerance: train.solver_tolerance,
                max_iterations: train.solver_iterations,
            };
            LogDet {
                value: LogDetValue::Lanczos { probes: LANCZOS_PROBES, steps: config.lanczos_steps, streams },
                gradient: LogDetGradient::Stochastic { probes: config.probes, solver, streams },
            }
        } else {
            LogDet::exact()
        };
        for _ in 0..config.count {
            let name = self.name("convex_potential");
            let potential = ConvexPotential::new(self.parameters, &name, self.site.theory.lattice(), &shape)?;
            let layer = ConvexFlow::new(potential, log_det.clone(), NewtonCg::default())?;
            self.layers.push(LayerFlow::Convex(Box::new(layer)));
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

/// The stages of a decimation, coarsest first, called `name/STAGE`.
pub(super) fn decimation(
    site: &Site<'_>,
    parameters: &mut ParamStore,
    name: &str,
    config: &config::Decimation,
) -> Result<Vec<SiteCoupling>> {
    let (lattice, potential) = (site.theory.lattice(), site.theory.local_potential());
    let net = flow::NetShape {
        hidden: config.channels.clone(),
        kernel: config.kernel,
        activation: Activation::Tanh,
        final_activation: Activation::Identity,
    };
    let mut layers = Vec::new();
    for stage in stages(lattice)? {
        let shape = SiteShape {
            // The finest stage is a heat bath: there is nothing left for a network to say.
            net: (stage.level > 0 && !net.hidden.is_empty()).then(|| net.clone()),
            radius: config.radius,
            powers: config.powers,
            cells: config.cells,
        };
        let name = format!("{name}/{}", stage.name);
        layers.push(SiteCoupling::new(parameters, &name, lattice, &stage, &shape, potential)?);
    }
    Ok(layers)
}
