//! Weights with a model card: what a `model.safetensors` says about itself in its metadata.
//!
//! The card is one JSON text, so that the file's bytes do not depend on the order of a map.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use latflow_flow::ParamStore;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::{self, ConditionalKind, Config, ModelScheme, PairKind};
use crate::io::read;

/// Name of the card in the metadata.
const KEY: &str = "latflow";

/// What was trained, for what, how long and how well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelCard {
    /// Architecture, for people.
    pub name: String,
    /// `[model]` of the training.
    pub model: config::Model,
    /// Extents of the lattice.
    pub dims: Vec<usize>,
    /// The section of the action.
    pub theory: String,
    /// Its parameters.
    pub action: Map<String, Value>,
    /// Seed of the training.
    pub seed: u64,
    /// Git revision of the program that trained.
    pub revision: String,
    /// Samples seen in training, those of the weights it began with included.
    pub training_samples: u64,
    /// Wall-clock seconds of this training, and of that of the parts it left as they were.
    pub seconds: f64,
    /// Effective sample size at the end, where the scheme has one.
    pub ess: Option<f64>,
    /// Acceptance at the end.
    pub acceptance: Option<f64>,
    /// Samples that these two were measured with.
    pub evaluation_samples: u64,
    /// On the way.
    pub history: Vec<Milestone>,
}

/// Step, ESS and acceptance.
pub(crate) type Milestone = (u64, Option<f64>, Option<f64>);

impl ModelCard {
    /// Whether these weights are of the architecture that the configuration describes, in the words of the section that
    /// differs or was not trained.
    pub(crate) fn other_than(&self, config: &Config) -> Option<&'static str> {
        let (ours, theirs) = (&config.model, &self.model);
        let conditional = ours.conditional != theirs.conditional || theirs.scheme != ours.scheme;
        let trained = match ours.scheme {
            // The marginal part of an autoregressive model is a marginal flow, and the whole of it without parameters of ϕ.
            ModelScheme::Marginal | ModelScheme::Autoregressive => {
                matches!(theirs.scheme, ModelScheme::Marginal | ModelScheme::Autoregressive)
            }
            // Weights of pseudofermions hold those of the links, too.
            ModelScheme::Gauge => theirs.scheme.of_links(),
            ModelScheme::Gibbs | ModelScheme::Joint | ModelScheme::GaugePseudofermion => {
                theirs.scheme == ours.scheme
            }
        };
        if !trained {
            return Some("[model] scheme");
        }
        let other = |differs: bool, section| differs.then_some(section);
        other(self.dims != config.lattice.dims, "[lattice]").or(match ours.scheme {
            ModelScheme::Marginal => other(ours.marginal != theirs.marginal, "[model.marginal]"),
            ModelScheme::Autoregressive => other(ours.marginal != theirs.marginal, "[model.marginal]")
                .or(other(conditional && has_parameters(config), "[model.conditional]")),
            ModelScheme::Gauge => other(ours.gauge != theirs.gauge, "[model.gauge]"),
            ModelScheme::GaugePseudofermion => other(ours.gauge != theirs.gauge, "[model.gauge]")
                .or(other(ours.ptcn != theirs.ptcn, "[model.ptcn]")),
            ModelScheme::Gibbs => other(ours.gibbs != theirs.gibbs, "[model.gibbs]"),
            ModelScheme::Joint => other(ours.joint != theirs.joint, "[model.joint]").or(other(
                conditional && matches!(ours.joint.kind, PairKind::Decimation(_)),
                "[model.conditional]",
            )),
        })
    }
}

fn has_parameters(config: &Config) -> bool {
    matches!(config.model.conditional.kind, ConditionalKind::Linear(_))
}

/// The bytes of a weights file.
///
/// # Errors
/// When the tensor library refuses.
pub(crate) fn weights(tensors: &BTreeMap<String, Tensor>, card: &ModelCard) -> Result<Vec<u8>> {
    let metadata = HashMap::from([(KEY.to_owned(), serde_json::to_string(card)?)]);
    Ok(safetensors::serialize(tensors, Some(metadata))?)
}

/// The card of a weights file; `None` when it has none.
///
/// # Errors
/// When the file is no safetensors file or the card is not readable.
pub(crate) fn read_card(bytes: &[u8]) -> Result<Option<ModelCard>> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).context("not a safetensors file")?;
    let Some(text) = metadata.metadata().as_ref().and_then(|map| map.get(KEY)) else { return Ok(None) };
    serde_json::from_str(text).map(Some).context("its model card is from another version of this program")
}

/// Weights that were read back.
pub(crate) struct Trained {
    file: String,
    tensors: BTreeMap<String, Tensor>,
    card: Option<ModelCard>,
}

impl Trained {
    /// Reads a weights file.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn read(file: &Path, device: &Device) -> Result<Self> {
        let bytes = read(file)?;
        let name = file.display().to_string();
        let card = read_card(&bytes).with_context(|| name.clone())?;
        let tensors = candle_core::safetensors::load_buffer(&bytes, device)
            .with_context(|| format!("{name} is not a safetensors file"))?;
        Ok(Self { file: name, tensors: tensors.into_iter().collect(), card })
    }

    /// Gives a model its parameters.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub(crate) fn restore(&self, parameters: &ParamStore) -> Result<()> {
        super::restore(parameters, &self.tensors)
            .with_context(|| format!("{} does not fit [model]", self.file))
    }

    /// Gives a model the parameters it shares with these weights; their number.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn begin(&self, parameters: &ParamStore) -> Result<usize> {
        super::begin_with(parameters, &self.tensors).with_context(|| self.file.clone())
    }

    /// Wall-clock seconds of their training, 0 when the file does not say.
    pub(crate) fn seconds(&self) -> f64 {
        self.card.as_ref().map_or(0.0, |card| card.seconds)
    }

    /// Samples seen in training, 0 when the file does not say.
    pub(crate) fn training_samples(&self) -> u64 {
        self.card.as_ref().map_or(0, |card| card.training_samples)
    }
}
