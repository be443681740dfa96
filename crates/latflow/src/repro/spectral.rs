//! The paper's architecture of QCD: trained in two stages, sampled, and what its full size would cost.
//!
//! ```text
//! OUT/spectral/links            training of q(U), unless its weights come with the program
//! OUT/spectral/pseudofermions   training of q(ϕ|U) at that q(U)
//! OUT/spectral/sample           configurations with their weights
//! OUT/spectral/exponential      the same links, with the exponential flow's pseudofermions
//! OUT/spectral/full/…           one step of each training as printed, on a few samples: their price
//! ```

use std::path::Path;

use anyhow::{Context, Result};

use super::plan::{Scale, name};
use super::shipped;
use super::stages::{Files, Stages};
use crate::config::Config;
use crate::model::read_card;
use crate::report::Finished;
use crate::report::qcd::Cost;
use crate::run::{MODEL, START};
use crate::scheme::{Scheme, trained_model};
use crate::session::note;

/// Everything that a reproduction does with it.
pub(super) struct Spectral {
    /// Training of the links.
    pub links: Config,
    /// Training of the pseudofermions, after it.
    pub pseudofermions: Config,
    /// Sampling with both.
    pub sample: Config,
    /// Sampling with the links alone.
    pub exponential: Config,
    /// The trainings as printed.
    pub full: [Config; 2],
    /// Whether weights that come with the program are left alone.
    pub train: bool,
}

/// Samples and steps of a measured step.
pub(super) const PRICED: [&str; 4] =
    ["train.batch=4", "train.steps=2", "train.evaluation=2", "train.log_every=2"];

/// What it left behind.
pub(super) struct Found {
    /// With all of it, and with other pseudofermions.
    pub samples: [Finished; 2],
    pub cost: Vec<Cost>,
}

impl Spectral {
    /// Runs what is not finished yet. `None` when someone interrupted.
    ///
    /// # Errors
    /// When a stage fails; what is finished stays.
    pub(super) fn run(self, stages: &Stages, scale: Scale) -> Result<Option<Found>> {
        let root = Path::new("spectral");
        let weights = match shipped_weights(&self.sample, scale, self.train)? {
            Some(weights) => weights,
            None => {
                let (links, pseudofermions) = (root.join("links"), root.join("pseudofermions"));
                let trained = Self::stage(stages, &links, self.links, Files::new())?;
                let Some((_, first)) = trained else { return Ok(None) };
                let trained =
                    Self::stage(stages, &pseudofermions, self.pseudofermions, vec![(START, first)])?;
                let Some((_, both)) = trained else { return Ok(None) };
                both
            }
        };
        let sampled = |folder: &str, config: Config| {
            stages.run(Scheme::Sample, &root.join(folder), config, vec![(MODEL, weights.clone())])
        };
        let Some(sample) = sampled("sample", self.sample)? else { return Ok(None) };
        let Some(exponential) = sampled("exponential", self.exponential)? else { return Ok(None) };
        let mut cost = Vec::new();
        let mut files = Files::new();
        // A smoke run asks for no prices.
        let full = if scale == Scale::Smoke { None } else { Some(self.full) };
        for ((folder, label, samples), config) in STEPS.iter().zip(full.into_iter().flatten()) {
            let folder = root.join("full").join(folder);
            let Some((step, weights)) = Self::stage(stages, &folder, config, files)? else { return Ok(None) };
            cost.push(Cost { label, samples: *samples, step });
            files = vec![(START, weights)];
        }
        Ok(Some(Found { samples: [sample, exponential], cost }))
    }

    /// One training and its weights.
    fn stage(
        stages: &Stages,
        folder: &Path,
        config: Config,
        files: Files,
    ) -> Result<Option<(Finished, Vec<u8>)>> {
        let Some(finished) = stages.run(Scheme::Train, folder, config.clone(), files)? else {
            return Ok(None);
        };
        let (_, weights) = trained_model(&stages.root().join(folder), &config)?;
        Ok(Some((finished, weights)))
    }
}

/// Folder, name and the paper's number of training samples of each stage.
const STEPS: [(&str, &str, f64); 2] =
    [("links", "links", 21e3 * 512.0), ("pseudofermions", "pseudofermions", 44e3 * 640.0 + 17e3 * 800.0)];

/// The weights that come with the program for a configuration, where they are to be used.
fn shipped_weights(config: &Config, scale: Scale, train: bool) -> Result<Option<Vec<u8>>> {
    if train || scale == Scale::Smoke {
        return Ok(None);
    }
    let file = format!("spectral_{}", name(&Scale::Desk));
    let Some(bytes) = shipped::qcd_weights(&file) else {
        note(&format!("no weights {file} come with this program: training them"));
        return Ok(None);
    };
    let card = read_card(bytes).with_context(|| file.clone())?;
    let card = card.with_context(|| format!("the weights {file} have no model card"))?;
    if let Some(section) = card.other_than(config) {
        anyhow::bail!("the weights {file} were trained with another {section} than their configuration has");
    }
    Ok(Some(bytes.to_vec()))
}
