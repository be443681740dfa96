//! The configuration of a run: strict TOML, one file, complete when written back.
//!
//! The types here mirror the file and nothing else; the physics crates know no serde. A key that is not listed is an error,
//! and so is a value that makes no sense. Every key but the physics has a default, and the run directory keeps
//! the complete file.

mod check;
mod check_gauge;
mod check_model;
mod error;
mod flow;
mod gauge;
mod load;
mod model;
mod model_gauge;
mod overrides;
mod sections;

pub use check::Needs;
pub use error::ConfigError;
pub use flow::{Flow, FlowKind};
pub(crate) use gauge::{COLOURS, DETERMINANT_SITES};
pub use gauge::{Measure, Qcd, Start, Update};
pub use load::{from_text, load};
pub use model::{
    Activation, AffineCoupling, Conditional, ConditionalKind, ConvexPotential, Decimation, Equivariance,
    Gibbs, Joint, Layer, Linear, Marginal, Model, ModelScheme, PairCouplings, PairKind, Precision, Prior,
    Repeat,
};
pub use model_gauge::{Gauge, PseudofermionSites, Ptcn, PtcnStart};
pub use overrides::Override;
pub use sections::{
    Clip, Estimator, FermionBoundary, FermionTreatment, Gradient, Hmc, Integrator, LatticeSection, Method,
    Sample, Theory, Train, Yukawa,
};

use serde::{Deserialize, Serialize};

/// A complete configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Seed of every random stream.
    pub seed: u64,
    /// `cpu` or `cuda:N`.
    #[serde(default = "cpu")]
    pub device: String,
    /// Geometry.
    pub lattice: LatticeSection,
    /// The theory and its parameters.
    pub action: Theory,
    /// Hybrid Monte Carlo, or heat bath.
    #[serde(default)]
    pub hmc: Hmc,
    /// What is measured on gauge fields.
    #[serde(default)]
    pub measure: Measure,
    /// Gauge flows that are fitted.
    #[serde(default)]
    pub flow: Flow,
    /// The flow.
    #[serde(default)]
    pub model: Model,
    /// Training of the flow.
    #[serde(default)]
    pub train: Train,
    /// Sampling with the flow.
    #[serde(default)]
    pub sample: Sample,
}

fn cpu() -> String {
    "cpu".into()
}

impl Config {
    /// The complete configuration as TOML: reading it back gives the same configuration.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a configuration of plain tables and numbers has a TOML form")
    }

    /// Identifies the configuration: equal exactly when [`Config::to_toml`] is.
    pub fn hash(&self) -> u64 {
        crate::io::checksum(self.to_toml().as_bytes())
    }
}
