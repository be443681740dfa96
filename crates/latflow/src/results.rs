//! What a finished run says: `results.json`, the same for every scheme, and `analysis.json`, everything else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use latflow_observable::{Chains, Summary, ValueError, summarize};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::io::{NpyArray, create_folder, write_npy};
use crate::run::RunDirectory;
use crate::session::note;

/// `results.json`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    /// One entry a scheme and parameter set.
    pub runs: Vec<RunResult>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunResult {
    /// `hmc`, `marginal`, …
    pub scheme: String,
    /// Name of the action's section.
    pub theory: String,
    /// Kind of layers; `null` without a flow.
    pub model: Option<String>,
    /// Parameters of the theory.
    pub parameters: Map<String, Value>,
    /// Fraction of accepted proposals or trajectories.
    pub acceptance: Option<f64>,
    /// Effective sample size of reweighting over the number of draws; `null` without a flow.
    pub ess: Option<f64>,
    /// Wall-clock seconds of sampling, or of training for a run that only trains.
    pub seconds: f64,
    /// Samples seen in training.
    pub training_samples: u64,
    /// By name.
    pub observables: BTreeMap<String, Measured>,
}

/// Mean and error of an observable.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// The mean.
    pub mean: f64,
    /// Its blocking + jackknife error; `null` when there are too few measurements.
    pub error: Option<f64>,
    /// τ_int by the Madras–Sokal window, in Markov steps; `null` when the chains are too short.
    pub tau_int: Option<f64>,
    /// Measurements in all chains.
    pub n: u64,
}

impl Measured {
    /// As a number with an error, infinite when it is unknown.
    pub(crate) fn value(&self) -> ValueError {
        ValueError::new(self.mean, self.error.unwrap_or(f64::INFINITY))
    }
}

/// `analysis.json` of a sampling run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Analysis {
    /// By observable.
    pub autocorrelation: BTreeMap<String, Autocorrelation>,
    /// By name.
    pub correlators: BTreeMap<String, CorrelatorAnalysis>,
    /// ‖F_F‖/‖F_B‖ by definition of the fermionic force.
    pub force_ratios: BTreeMap<String, f64>,
    /// Everything that only this scheme has.
    pub details: Map<String, Value>,
}

/// A correlator and the block length of its errors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CorrelatorAnalysis {
    /// Mean and error of each time slice.
    pub slices: Vec<(f64, Option<f64>)>,
    /// Block length in measurements, from the autocorrelation of all slices; `null` when there are too few.
    pub bin: Option<usize>,
}

/// τ_int in Markov steps, by both methods, and the block length of the error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Autocorrelation {
    /// Madras–Sokal, with its error.
    pub madras_sokal: Option<(f64, f64)>,
    /// Gamma method, with its error.
    pub gamma_method: Option<(f64, f64)>,
    /// Block length in measurements.
    pub bin: Option<usize>,
}

/// Summarises one observable, adds its autocorrelation to the analysis and keeps its chains as `chains/NAME.npy`, one row a
/// chain. `interval` is the number of Markov steps between measurements.
///
/// # Errors
/// When a measurement is not finite, or the chains cannot be written.
pub(crate) fn observe(
    run: &RunDirectory,
    name: &str,
    chains: &Chains,
    interval: f64,
    analysis: &mut Analysis,
) -> Result<Measured> {
    create_folder(&run.path(CHAINS))?;
    let shape = vec![chains.n_chains(), chains.length()];
    let data = chains.iter().flatten().copied().collect();
    write_npy(&chain_file(run.root(), name), &NpyArray { shape, data })?;
    let (measured, autocorrelation) = match summarize(chains, None) {
        Ok(summary) => from_summary(&summary, interval),
        // Too few measurements for an error are no reason to lose the mean.
        Err(error) => {
            note(&format!("warning: {name}: no error estimate: {error}"));
            let measured = Measured { mean: chains.mean(), error: None, tau_int: None, n: chains.n() as u64 };
            (measured, Autocorrelation { madras_sokal: None, gamma_method: None, bin: None })
        }
    };
    analysis.autocorrelation.insert(name.to_owned(), autocorrelation);
    Ok(measured)
}

/// The folder of chains in a run.
pub(crate) const CHAINS: &str = "chains";

/// Where a run keeps the chains of an observable.
pub(crate) fn chain_file(run: &Path, name: &str) -> PathBuf {
    run.join(CHAINS).join(format!("{name}.npy"))
}

fn from_summary(summary: &Summary, interval: f64) -> (Measured, Autocorrelation) {
    let scaled = |tau: ValueError| (tau.value * interval, tau.error * interval);
    let madras_sokal = summary.tau_int.map(|tau| scaled(tau.tau_int));
    let measured = Measured {
        mean: summary.mean.value,
        error: Some(summary.mean.error),
        tau_int: madras_sokal.map(|(tau, _)| tau),
        n: summary.n as u64,
    };
    let gamma_method = summary.gamma_method.map(|gamma| scaled(gamma.tau_int));
    (measured, Autocorrelation { madras_sokal, gamma_method, bin: Some(summary.bin) })
}

/// `|x|` observables are reported for the ones that average to zero by symmetry.
pub(crate) fn reported_name(name: &str) -> (String, bool) {
    match name {
        "magnetization" | "condensate" => (format!("abs_{name}"), true),
        _ => (name.to_owned(), false),
    }
}
