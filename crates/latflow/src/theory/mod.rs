//! The registry of theories: a configuration's `[action.…]` section becomes something that can be sampled and measured.
//!
//! A new theory is one variant of [`config::Theory`], one arm in [`theory`] and one file with its [`FieldTheory`] and, beside
//! it, [`ScalarTheory`] or [`GaugeTheory`], whatever its field is.

mod gauge_flow;
mod joint;
mod qcd;
mod transformed;
mod update;
mod yukawa;

use std::path::Path;

use anyhow::{Result, bail};
use candle_core::{Device, Tensor};
use latflow_action::{Action, TrainingTarget};
use latflow_fermion::ConjugateGradient;
use latflow_flow::decimation::LocalPotential;
use latflow_lattice::{Lattice, Links, Manifold, Rng};
use serde_json::{Map, Value};

pub(crate) use joint::JointTheory;
pub(crate) use qcd::Qcd;
pub(crate) use update::Update;
pub(crate) use yukawa::HmcTarget;

use crate::config::{self, Config, FermionTreatment, Gradient, Start};
use crate::model::Trained;

/// What chains and tables need of a theory of any field, fermions integrated out.
pub(crate) trait FieldTheory {
    /// The kind of field.
    type Field: Manifold;

    /// The name of its section.
    fn name(&self) -> &'static str;

    /// Its parameters, for the tables.
    fn parameters(&self) -> Map<String, Value>;

    /// The lattice.
    fn lattice(&self) -> &Lattice;

    /// What the tables call the way in which its chains move.
    fn scheme(&self) -> &'static str {
        "hmc"
    }

    /// Where chains begin.
    ///
    /// # Errors
    /// When the device has no room.
    fn start(&self, start: Start, chains: usize, rng: &mut Rng) -> Result<Self::Field>;

    /// How hybrid Monte Carlo, or what a configuration puts in its place, moves.
    ///
    /// # Errors
    /// When its parameters make no sense.
    fn update(&self, hmc: &config::Hmc) -> Result<Box<dyn Update<Self::Field>>>;

    /// The numbers that [`FieldTheory::observe`] measures.
    fn observables(&self) -> &[Measurand];

    /// Measurement number k: one row a configuration, in the order of the observables, NaN where one is not due.
    ///
    /// # Errors
    /// When an observable does not exist on a configuration.
    fn observe(&self, x: &Self::Field, k: u64) -> Result<Vec<Vec<f64>>>;

    /// Which observable is the logarithm of the weight of configurations that were drawn from another density than this
    /// theory's; `None` where they are drawn from its own.
    fn log_weight(&self) -> Option<usize> {
        None
    }

    /// Pseudofermions of that weight; 0 for the exact determinant.
    fn draws(&self) -> u64 {
        0
    }

    /// What the tables do not ask for.
    fn details(&self) -> Map<String, Value> {
        Map::new()
    }

    /// Writes the configurations of all chains into a folder, in files of this step.
    ///
    /// # Errors
    /// When there is no format for them, or a file cannot be written.
    fn save(&self, _: &Self::Field, _: &Path, _: u64) -> Result<()> {
        bail!("configurations of {} have no file format", self.name())
    }

    /// Names of the [`FieldTheory::correlators`].
    fn correlator_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// Correlators that are averaged over chains, `[B, L_t]` each, in the order of their names.
    ///
    /// # Errors
    /// When a configuration has no fermion propagator.
    fn correlators(&self, _: &Self::Field) -> Result<Vec<Vec<Vec<f64>>>> {
        Ok(Vec::new())
    }

    /// Names of the [`FieldTheory::force_norms`], `bosonic` first.
    fn force_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// Mean force norms over the batch, in the order of their names.
    ///
    /// # Errors
    /// When a solver fails.
    fn force_norms(&self, _: &Self::Field, _: ConjugateGradient, _: &mut Rng) -> Result<Vec<f64>> {
        Ok(Vec::new())
    }
}

/// A number that is measured along a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Measurand {
    /// As in `results.json`.
    pub name: String,
    /// Measurements from one time to the next.
    pub every: u64,
}

impl Measurand {
    /// A number that is measured each time.
    pub(crate) fn always(name: &str) -> Self {
        Self { name: name.to_owned(), every: 1 }
    }

    /// Whether it belongs to measurement number k.
    pub(crate) fn due(&self, k: u64) -> bool {
        k.is_multiple_of(self.every)
    }
}

/// What flows need of a theory of a real scalar φ `[B, V]`.
pub(crate) trait ScalarTheory: FieldTheory<Field = Tensor> {
    /// What flows that build on one-site densities start from.
    fn local_potential(&self) -> LocalPotential;

    /// −log of the unnormalised density of φ, exactly.
    fn action(&self) -> BoxedAction;

    /// What molecular dynamics integrates.
    fn hmc_target(&self, fermions: FermionTreatment, solver: ConjugateGradient) -> HmcTarget;

    /// What training differentiates.
    fn training_target(&self, gradient: Gradient, solver: ConjugateGradient) -> BoxedTarget;

    /// The theory of φ and one pseudofermion.
    fn joint(&self, solver: ConjugateGradient) -> JointTheory;

    /// The exact action `[B]` and each observable `[B]`, sharing the expensive parts.
    ///
    /// # Errors
    /// When a configuration has no fermion propagator.
    fn evaluate(&self, phi: &Tensor) -> Result<Evaluation>;

    /// Everything that `latflow measure` prints about one field.
    ///
    /// # Errors
    /// When the field has no fermion propagator.
    fn measure(&self, phi: &Tensor) -> Result<Map<String, Value>>;
}

/// Any deterministic action of a scalar field.
pub(crate) type BoxedAction = Box<dyn Action<Tensor>>;

/// Any training target.
pub(crate) type BoxedTarget<X = Tensor> = Box<dyn TrainingTarget<X>>;

/// Action and observables of a batch.
#[derive(Debug, Clone)]
pub(crate) struct Evaluation {
    /// S(φ) of each configuration.
    pub action: Vec<f64>,
    /// One row a configuration, in the order of the names.
    pub observables: Vec<Vec<f64>>,
}

/// What `latflow measure` needs of a theory of links.
pub(crate) trait GaugeTheory: FieldTheory<Field = Links> {
    /// Everything that is printed about one field.
    ///
    /// # Errors
    /// When the field has no fermion propagator.
    fn measure(&self, links: &Links) -> Result<Map<String, Value>>;
}

/// A theory of whatever field.
pub(crate) enum AnyTheory {
    /// Of a real scalar.
    Scalar(Box<dyn ScalarTheory>),
    /// Of links.
    Gauge(Box<dyn GaugeTheory>),
}

/// The theory of a configuration; `weights` are those of its flow, where that one is trained.
///
/// # Errors
/// When its operators do not exist at these parameters.
pub(crate) fn any_theory(config: &Config, device: &Device, weights: Option<&Trained>) -> Result<AnyTheory> {
    let lattice = Lattice::new(&config.lattice.dims)?;
    Ok(match &config.action {
        config::Theory::Yukawa(action) => {
            AnyTheory::Scalar(Box::new(yukawa::Yukawa::new(&lattice, action, device)?))
        }
        config::Theory::Qcd(action) => {
            let qcd = qcd::Qcd::new(&lattice, action, config, device)?;
            AnyTheory::Gauge(match config.hmc.method {
                config::Update::Flow => Box::new(gauge_flow::GaugeFlow::new(qcd, config, weights, device)?),
                config::Update::Transformed => {
                    Box::new(transformed::Transformed::new(qcd, config, weights, device)?)
                }
                config::Update::Hmc | config::Update::HeatBath => Box::new(qcd),
            })
        }
    })
}

/// The theory of a configuration for those who know scalar fields only.
///
/// # Errors
/// When it is a gauge theory, or its operators do not exist at these parameters.
pub(crate) fn theory(config: &Config, device: &Device) -> Result<Box<dyn ScalarTheory>> {
    match any_theory(config, device, None)? {
        AnyTheory::Scalar(theory) => Ok(theory),
        AnyTheory::Gauge(theory) => bail!("{} is no theory of scalar fields", theory.name()),
    }
}

/// The parameters of a configuration's theory, for the tables.
///
/// # Errors
/// As in [`theory`].
pub(crate) fn parameters(config: &Config) -> Result<Map<String, Value>> {
    let lattice = Lattice::new(&config.lattice.dims)?;
    Ok(match &config.action {
        config::Theory::Yukawa(action) => yukawa::Yukawa::new(&lattice, action, &Device::Cpu)?.parameters(),
        config::Theory::Qcd(action) => qcd::Qcd::new(&lattice, action, config, &Device::Cpu)?.parameters(),
    })
}
