//! The registry of models: a configuration's `[model]` section becomes densities with their parameters.
//!
//! ```text
//! marginal        q(φ)                   [YUK Sec. III A]        autoregressive  q(φ) q(ϕ|φ)     [YUK Sec. III C]
//! gibbs           q(φ|ϕ)                 [YUK Sec. III B]        joint           q(φ, ϕ)         [YUK Sec. III D]
//! ```
//!
//! Parameters are called `SECTION/…` after the section they belong to, so that the same weights serve every model that has
//! them: those of an autoregressive model its marginal part, those of a marginal flow the beginning of a joint one.

mod card;
mod conditional;
mod gauge;
mod marginal;
mod pair;

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use latflow_flow::{Bijection, Distribution, FlowModel, Gaussian, NetShape, ParamStore, Sample};
use latflow_lattice::{Rng, Streams};

use crate::config::{Activation, Config, Gradient, ModelScheme, Precision};
use crate::theory::{JointTheory, ScalarTheory};

pub(crate) use card::{Milestone, ModelCard, Trained, read_card, weights};
pub(crate) use conditional::{ConditionalDensity, PenalizedTheory};
pub(crate) use gauge::{Both, GaugeModel, LinkDensity, PseudofermionDensity};
pub(crate) use marginal::MarginalDensity;
pub(crate) use pair::{GibbsDensity, GivenPseudofermion};

/// φ `[B, V]` and ϕ `[B, 2, N]`.
pub(crate) type Pair = (Tensor, Tensor);

/// A flow that several densities use.
pub(crate) struct Shared<X, C = ()>(Rc<dyn Bijection<X, C>>);

impl<X, C> Shared<X, C> {
    pub(crate) fn new(flow: impl Bijection<X, C> + 'static) -> Self {
        Self(Rc::new(flow))
    }
}

impl<X, C> Clone for Shared<X, C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<X, C> Bijection<X, C> for Shared<X, C> {
    fn forward(&self, z: &X, condition: &C) -> latflow_flow::Result<(X, Tensor)> {
        self.0.forward(z, condition)
    }

    fn inverse(&self, x: &X, condition: &C) -> latflow_flow::Result<(X, Tensor)> {
        self.0.inverse(x, condition)
    }
}

/// Any density.
pub(crate) struct AnyDensity<X, C = ()>(Rc<dyn Distribution<X, C>>);

impl<X, C> AnyDensity<X, C> {
    pub(crate) fn new(density: impl Distribution<X, C> + 'static) -> Self {
        Self(Rc::new(density))
    }
}

impl<X, C> Clone for AnyDensity<X, C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<X, C> Sample<X, C> for AnyDensity<X, C> {
    fn sample(&self, n: usize, condition: &C, rng: &mut Rng) -> latflow_flow::Result<X> {
        self.0.sample(n, condition, rng)
    }
}

impl<X, C> Distribution<X, C> for AnyDensity<X, C> {
    fn log_prob(&self, x: &X, condition: &C) -> latflow_flow::Result<Tensor> {
        self.0.log_prob(x, condition)
    }

    fn sample_with_log_prob(
        &self,
        n: usize,
        condition: &C,
        rng: &mut Rng,
    ) -> latflow_flow::Result<(X, Tensor)> {
        self.0.sample_with_log_prob(n, condition, rng)
    }
}

/// The densities of a model.
pub(crate) enum Densities {
    /// q(φ)
    Marginal(MarginalDensity),
    /// q(φ) q(ϕ|φ)
    Autoregressive(MarginalDensity, ConditionalDensity),
    /// q(φ|ϕ)
    Gibbs(GibbsDensity),
    /// q(φ, ϕ)
    Joint(AnyDensity<Pair>),
}

/// A model with its parameters.
pub(crate) struct Model {
    /// What is drawn from.
    pub densities: Densities,
    /// What training changes.
    pub parameters: ParamStore,
    /// The architecture, for the tables.
    pub name: String,
}

/// What a model is built in.
pub(crate) struct Site<'a> {
    /// The whole configuration.
    pub config: &'a Config,
    /// The theory that is modelled.
    pub theory: &'a dyn ScalarTheory,
    /// Its two fields.
    pub joint: &'a JointTheory,
    /// Where tensors live.
    pub device: &'a Device,
}

/// An empty store whose parameters begin where the configuration's seed says.
fn store(config: &Config, precision: Precision, device: &Device) -> ParamStore {
    let dtype = match precision {
        Precision::F32 => DType::F32,
        Precision::F64 => DType::F64,
    };
    ParamStore::new(Streams::new(config.seed), dtype, device)
}

impl Site<'_> {
    fn store(&self, precision: Precision) -> ParamStore {
        store(self.config, precision, self.device)
    }

    /// The model of the configuration's scheme at its seeded start.
    ///
    /// # Errors
    /// When a layer does not fit the lattice.
    pub(crate) fn model(&self) -> Result<Model> {
        let model = &self.config.model;
        match model.scheme {
            ModelScheme::Marginal => self.marginal(),
            ModelScheme::Gauge | ModelScheme::GaugePseudofermion => {
                anyhow::bail!("model.scheme: a scalar field has no model of links")
            }
            ModelScheme::Autoregressive => {
                let mut parameters = self.store(model.marginal.precision);
                let (marginal, first) = marginal::build(self, &mut parameters)?;
                let (conditional, second) = conditional::build(self, &mut parameters)?;
                let densities = Densities::Autoregressive(marginal, conditional);
                Ok(Model { densities, parameters, name: format!("{first} + {second}") })
            }
            ModelScheme::Gibbs => {
                let mut parameters = self.store(model.gibbs.precision);
                let (density, name) = pair::gibbs(self, &mut parameters)?;
                Ok(Model { densities: Densities::Gibbs(density), parameters, name })
            }
            ModelScheme::Joint => {
                let mut parameters = self.store(model.joint.precision);
                let (density, name) = pair::joint(self, &mut parameters)?;
                Ok(Model { densities: Densities::Joint(density), parameters, name })
            }
        }
    }

    /// That model with the weights of a file, and the samples they were trained with.
    ///
    /// # Errors
    /// When the weights do not fit.
    pub(crate) fn trained_model(&self, weights: &Path) -> Result<(Model, u64)> {
        let trained = Trained::read(weights, self.device)?;
        let model = self.model()?;
        trained.restore(&model.parameters)?;
        Ok((model, trained.training_samples()))
    }

    /// The marginal flow, whatever the scheme.
    ///
    /// # Errors
    /// When a layer does not fit the lattice.
    pub(crate) fn marginal(&self) -> Result<Model> {
        let mut parameters = self.store(self.config.model.marginal.precision);
        let (density, name) = marginal::build(self, &mut parameters)?;
        Ok(Model { densities: Densities::Marginal(density), parameters, name })
    }

    /// q(ϕ|φ) without parameters, for estimates of the determinant.
    ///
    /// # Errors
    /// When the configuration's has some: then it must be trained as part of an autoregressive model.
    pub(crate) fn untrained_conditional(&self) -> Result<(ConditionalDensity, &'static str)> {
        let mut parameters = self.store(self.config.model.marginal.precision);
        let (density, name) = conditional::build(self, &mut parameters)?;
        anyhow::ensure!(
            parameters.count() == 0,
            "model.conditional: {name} has parameters, which only model.scheme = \"autoregressive\" trains"
        );
        Ok((density, name))
    }

    /// Whether training estimates log-determinants where it can.
    fn stochastic(&self) -> bool {
        self.config.train.gradient == Gradient::Stochastic
    }
}

/// Takes every parameter from the tensors of a weights file, which may hold those of other sections too.
///
/// # Errors
/// When one is missing or has another shape.
fn restore(parameters: &ParamStore, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let mut mine = BTreeMap::new();
    for (name, _) in parameters.iter() {
        let tensor = tensors.get(name).with_context(|| format!("there is no parameter {name}"))?;
        mine.insert(name.clone(), tensor.clone());
    }
    Ok(parameters.restore(&mine)?)
}

/// Takes the parameters that another model has by the same name, its section aside, and in the same shape; the others stay
/// as they are. Returns how many there were.
///
/// # Errors
/// When the device fails.
fn begin_with(parameters: &ParamStore, tensors: &BTreeMap<String, Tensor>) -> Result<usize> {
    let inside = |name: &str| name.split_once('/').map(|(_, rest)| rest.to_owned());
    let others: BTreeMap<String, &Tensor> =
        tensors.iter().filter_map(|(name, tensor)| Some((inside(name)?, tensor))).collect();
    let mut taken = 0;
    for (name, var) in parameters.iter() {
        let other = tensors.get(name).or_else(|| {
            let name = inside(name)?;
            others.get(&name).or_else(|| others.get(&alone(&name)?)).copied()
        });
        if let Some(tensor) = other.filter(|tensor| tensor.dims() == var.dims()) {
            parameters.set(name, tensor)?;
            taken += 1;
        }
    }
    Ok(taken)
}

/// The constants of a decimation's stage that a smaller lattice does not have are best those of a site on its own.
fn alone(name: &str) -> Option<String> {
    let (path, parameter) = name.rsplit_once('/')?;
    let (layer, _) = path.rsplit_once('/')?;
    (parameter == "base" && layer.ends_with("decimation")).then(|| format!("{layer}/top/base"))
}

fn activation(activation: Activation) -> latflow_kernels::Activation {
    match activation {
        Activation::Identity => latflow_kernels::Activation::Identity,
        Activation::LeakyRelu => latflow_kernels::Activation::LeakyRelu(LEAK),
        Activation::Tanh => latflow_kernels::Activation::Tanh,
    }
}

/// Slope of leaky ReLUs for negative arguments.
const LEAK: f64 = 0.01;

/// A network of `convs` convolutions, of which all but the last are hidden.
fn net_shape([convs, channels, kernel]: [usize; 3], inner: Activation, last: Activation) -> NetShape {
    NetShape {
        hidden: vec![channels; convs - 1],
        kernel,
        activation: activation(inner),
        final_activation: activation(last),
    }
}

/// q(φ) with the prior's field within reach.
pub(crate) type ScalarDensity = FlowModel<Gaussian, Shared<Tensor>>;

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::Site;
    use crate::config::{Needs, from_text};
    use crate::theory::theory;

    /// The marginal decimation on an L × L lattice, every parameter of which is shifted.
    fn with_model<R>(extent: usize, shift: f64, f: impl FnOnce(&super::Model) -> R) -> R {
        let text = format!(
            "seed = 1\n[lattice]\ndims = [{extent}, {extent}]\n[action.yukawa]\nm2 = -4.0\nlambda = 6.0\ng = 0.1\n\
             fermion_mass = 0.0\n[model.marginal]\nlayers = [{{ decimation = {{ channels = [2], radius = 2 }} }}]\n"
        );
        let config = from_text("test", &text, &[], Needs::Flow).unwrap();
        let theory = theory(&config, &Device::Cpu).unwrap();
        let joint = theory.joint(config.train.solver());
        let site = Site { config: &config, theory: &*theory, joint: &joint, device: &Device::Cpu };
        let model = site.marginal().unwrap();
        let moved = model.parameters.snapshot().unwrap();
        for (name, value) in moved {
            model.parameters.set(&name, &(value + shift).unwrap()).unwrap();
        }
        f(&model)
    }

    fn numbers(t: &Tensor) -> Vec<f32> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_larger_lattice_begins_with_the_stages_it_shares_and_lone_sites_for_the_others() {
        let small = with_model(4, 0.25, |model| model.parameters.snapshot().unwrap());
        with_model(8, 0.0, |large| {
            let before = large.parameters.snapshot().unwrap();
            let taken = super::begin_with(&large.parameters, &small).unwrap();
            let after = large.parameters.snapshot().unwrap();
            let at = |stage: &str| format!("marginal/000/decimation/{stage}");
            for shared in [at("0/linear"), at("1aa/net"), at("1b/base")] {
                assert_eq!(numbers(&after[&shared]), numbers(&small[&shared]), "{shared}");
                assert_ne!(numbers(&after[&shared]), numbers(&before[&shared]), "{shared}");
            }
            // Stages that a 4 × 4 lattice does not have.
            for alone in [at("4a/base"), at("5/base")] {
                assert!(!small.contains_key(&alone));
                assert_eq!(numbers(&after[&alone]), numbers(&small[&at("top/base")]), "{alone}");
            }
            assert!(taken > 10 && taken < after.len(), "{taken} of {}", after.len());
        });
    }
}
