//! What a finished run says: `results.json`, the same for every scheme, and `analysis.json`, everything else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use latflow_observable::{Chains, LogWeights, Summary, ValueError, jackknife, summarize};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

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
    /// Pseudofermions drawn for each weight, 0 for the exact determinant; absent where no weight has a choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draws: Option<u64>,
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
    /// By name: mean and error of each time slice.
    pub correlators: BTreeMap<String, Vec<(f64, Option<f64>)>>,
    /// By name: block length of these errors in measurements, from the autocorrelation of all slices.
    #[serde(default)]
    pub correlator_bins: BTreeMap<String, usize>,
    /// ‖F_F‖/‖F_B‖ by definition of the fermionic force.
    pub force_ratios: BTreeMap<String, f64>,
    /// Everything that only this scheme has.
    pub details: Map<String, Value>,
    /// Rows of the same configurations with other weights.
    #[serde(skip)]
    pub others: Vec<RunResult>,
}

impl Analysis {
    /// What the weights of independent draws say about a flow beside ESS: log Z and Var(log w)/V with their errors, and how
    /// much of an estimate rests on one draw. Var(log w)/V is the quality that does not depend on the lattice.
    ///
    /// # Errors
    /// When there are fewer than two draws or a weight vanishes.
    pub(crate) fn add_weights(&mut self, log_weights: &[f64], volume: usize) -> Result<()> {
        let weights = LogWeights::new(log_weights)?;
        let log_z = weights.log_z()?;
        let n = log_weights.len() as f64;
        let mean = log_weights.iter().sum::<f64>() / n;
        let series = Chains::new(vec![log_weights.iter().map(|w| w - mean).collect()])?;
        let squares = series.map(|w| w * w)?;
        let variance = |means: &[f64]| (means[1] - means[0] * means[0]) * n / (n - 1.0) / volume as f64;
        // Blocks of draws, so that a run of millions of them costs no more than one of thousands.
        let bin = (log_weights.len() / 1000).max(1);
        let variance = jackknife(&[&series, &squares], bin, variance)?.estimate;
        let details = &mut self.details;
        details.insert("log_z".into(), json!([log_z.value, log_z.error]));
        details.insert("log_weight_variance_per_site".into(), json!([variance.value, variance.error]));
        details.insert("largest_weight_share".into(), json!(weights.largest_share()));
        Ok(())
    }
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

/// The observable that is the logarithm of a configuration's weight.
pub(crate) const LOG_WEIGHT: &str = "log_weight";

/// The weight made of n pseudofermions in the place of the determinant.
pub(crate) fn drawn_weight(n: u64) -> String {
    format!("{LOG_WEIGHT}_{n}")
}

/// Which n it is; `None` for anything else.
pub(crate) fn draws_of(name: &str) -> Option<u64> {
    name.strip_prefix(LOG_WEIGHT)?.strip_prefix('_')?.parse().ok()
}

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

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use latflow_lattice::{Streams, normal_tensor};

    use super::Analysis;

    /// log w ~ N(−1000, s²): log Z = −1000 + s²/2, Var(log w)/V = s²/V; both errors must cover what they miss.
    #[test]
    fn gaussian_log_weights_have_the_known_log_z_and_variance() {
        let (n, s, volume) = (5000, 0.7, 16);
        let mut scores = [0.0; 2];
        let copies = 20;
        for index in 0..copies {
            let mut rng = Streams::new(1).stream("test", index);
            let noise = normal_tensor(&mut rng, s, &[n], DType::F64, &Device::Cpu).expect("noise");
            let weights: Vec<f64> =
                noise.to_vec1::<f64>().expect("numbers").into_iter().map(|x| x - 1000.0).collect();
            let mut analysis = Analysis::default();
            analysis.add_weights(&weights, volume).expect("weights");
            let exact =
                [("log_z", -1000.0 + s * s / 2.0), ("log_weight_variance_per_site", s * s / volume as f64)];
            for (score, (name, exact)) in scores.iter_mut().zip(exact) {
                let number = |i: usize| analysis.details[name][i].as_f64().expect("a number");
                *score += ((number(0) - exact) / number(1)).powi(2);
            }
            let share = analysis.details["largest_weight_share"].as_f64().expect("a number");
            assert!((1.0 / n as f64..0.02).contains(&share), "{share}");
        }
        // χ² of 20 degrees of freedom: 5 and 45 have probabilities 3·10⁻⁴ and 1·10⁻³.
        assert!(scores.iter().all(|chi2| (5.0..45.0).contains(chi2)), "{scores:?}");
    }
}
