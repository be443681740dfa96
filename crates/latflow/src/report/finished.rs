//! A finished run as the report reads it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use latflow_observable::{Chains, ValueError};

use crate::correlators::read_correlator;
use crate::io::{read, read_npy};
use crate::model::{ModelCard, read_card};
use crate::results::{Analysis, LOG_WEIGHT, Measured, RunResult, chain_file};
use crate::run::{MODEL, RunDirectory};

/// A finished run.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    /// Its row of `results.json`.
    pub result: RunResult,
    /// Rows of the same configurations with other weights.
    pub others: Vec<RunResult>,
    /// Its `analysis.json`.
    pub analysis: Analysis,
    /// Its complete configuration, as TOML.
    pub config: String,
    /// The extents of its lattice.
    pub dims: Vec<usize>,
    /// What is known about the weights it sampled with.
    pub card: Option<ModelCard>,
    root: PathBuf,
}

/// Series of the same configurations and the block length that covers their autocorrelation.
pub(super) type Ensemble = (Vec<Chains>, usize);

/// Measurements, and how much each of them counts.
#[derive(Debug, Clone)]
pub(super) struct Weighted {
    pub values: Chains,
    pub log_weights: Option<Chains>,
    /// Measurements in a block.
    pub block: usize,
}

impl Finished {
    /// Reads the results of a run.
    ///
    /// # Errors
    /// When it is not finished.
    pub(crate) fn read(run: &RunDirectory) -> Result<Self> {
        let (mut results, analysis) = run.results()?;
        anyhow::ensure!(!results.runs.is_empty(), "{} has no results", run.root().display());
        let weights = run.path(MODEL);
        let card = if weights.exists() { read_card(&read(&weights)?)? } else { None };
        Ok(Self {
            result: results.runs.remove(0),
            others: results.runs,
            analysis,
            config: run.config().to_toml(),
            dims: run.config().lattice.dims.clone(),
            card,
            root: run.root().to_path_buf(),
        })
    }

    /// A mean with its error, if the run has measured it.
    pub(super) fn observable(&self, name: &str) -> Option<Measured> {
        self.result.observables.get(name).copied()
    }

    /// A mean whose chains are long enough to know their autocorrelation: otherwise its error means nothing.
    pub(super) fn trusted(&self, name: &str) -> Option<ValueError> {
        let measured = self.observable(name)?;
        (measured.error.is_some() && measured.tau_int.is_some()).then(|| measured.value())
    }

    /// τ_int by the window of Madras and Sokal.
    pub(super) fn tau(&self, name: &str) -> Option<ValueError> {
        let (value, error) = self.analysis.autocorrelation.get(name)?.madras_sokal?;
        Some(ValueError::new(value, error))
    }

    /// τ_int by the Gamma method.
    pub(super) fn tau_gamma(&self, name: &str) -> Option<ValueError> {
        let (value, error) = self.analysis.autocorrelation.get(name)?.gamma_method?;
        Some(ValueError::new(value, error))
    }

    /// A number that only this scheme has.
    pub(super) fn detail(&self, name: &str) -> Option<f64> {
        self.analysis.details.get(name)?.as_f64()
    }

    /// `[value, error]` that only this scheme has.
    pub(super) fn pair(&self, name: &str) -> Option<ValueError> {
        pair(self.analysis.details.get(name)?)
    }

    /// A reweighted mean.
    pub(super) fn reweighted(&self, name: &str) -> Option<ValueError> {
        pair(self.analysis.details.get("reweighted")?.get(name)?)
    }

    /// The chains of several observables; `None` when one of them is too short to be trusted.
    ///
    /// # Errors
    /// When the chains cannot be read.
    pub(super) fn ensemble(&self, names: &[&str]) -> Result<Option<Ensemble>> {
        let (mut chains, mut bin) = (Vec::new(), 1);
        for name in names {
            let block = self.analysis.autocorrelation.get(*name).and_then(|found| found.bin);
            let (Some(block), Some(_)) = (block, self.trusted(name)) else { return Ok(None) };
            bin = bin.max(block);
            chains.push(read_chains(&self.root, name, self.result.observables[*name].n as usize)?);
        }
        Ok(Some((chains, bin)))
    }

    /// The chains of an observable, the logarithms of their weights where the ensemble is of another density, and the block
    /// length that covers the autocorrelation, whole chains where it is unknown. `None` where it was not measured.
    ///
    /// # Errors
    /// When the chains cannot be read.
    pub(super) fn series(&self, name: &str) -> Result<Option<Weighted>> {
        let Some(measured) = self.observable(name) else { return Ok(None) };
        let values = read_chains(&self.root, name, measured.n as usize)?;
        let block = self.analysis.autocorrelation.get(name).and_then(|found| found.bin);
        let block = block.unwrap_or(values.length());
        let every = self.analysis.details.get("measured_every").and_then(|map| map.get(name)?.as_u64());
        let log_weights = chain_file(&self.root, LOG_WEIGHT);
        let log_weights = if log_weights.exists() {
            let all = read_npy(&log_weights, None)?;
            let length = all.shape.last().copied().unwrap_or(1);
            let every = every.unwrap_or(1) as usize;
            let chains = all.data.chunks_exact(length).map(|c| c.iter().copied().step_by(every).collect());
            Some(Chains::new(chains.collect())?)
        } else {
            None
        };
        Ok(Some(Weighted { values, log_weights, block }))
    }

    /// Time slices of a correlator; `None` when there is none, or the chains are too short to be trusted.
    ///
    /// # Errors
    /// When the measurements cannot be read.
    pub(super) fn correlator(&self, name: &str) -> Result<Option<Ensemble>> {
        let bin = self.trusted_correlator(name).and_then(|_| self.analysis.correlator_bins.get(name));
        bin.map(|bin| Ok((read_correlator(&self.root, name)?, *bin))).transpose()
    }

    /// Means and errors of a correlator's time slices; `None` when there is none, or the chains are too short to be trusted.
    pub(super) fn trusted_correlator(&self, name: &str) -> Option<Vec<ValueError>> {
        self.trusted("abs_magnetization")?;
        let slices = self.analysis.correlators.get(name)?.iter();
        slices.map(|(mean, error)| Some(ValueError::new(*mean, (*error)?))).collect()
    }
}

fn pair(value: &serde_json::Value) -> Option<ValueError> {
    Some(ValueError::new(value.get(0)?.as_f64()?, value.get(1)?.as_f64()?))
}

fn read_chains(root: &Path, name: &str, n: usize) -> Result<Chains> {
    let file = chain_file(root, name);
    let array = read_npy(&file, None)?;
    anyhow::ensure!(
        array.shape.len() == 2 && array.data.len() == n,
        "{}: expected {n} numbers",
        file.display()
    );
    Ok(Chains::new(array.data.chunks_exact(array.shape[1]).map(<[f64]>::to_vec).collect())?)
}
