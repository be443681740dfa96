//! The registry of runs: training, and every sampling scheme, each a resumable task and an analysis of its measurements.
//!
//! Samplers come in two kinds. Proposals that do not depend on the chain are drawn in large batches: a new scheme of this
//! kind is one source in [`proposals`]. Chains that move step by step are kernels: a new one is one arm in [`chains`].

mod chains;
mod hmc;
mod independence;
mod proposals;
mod series;
mod train;
mod walk;

use std::path::Path;

use anyhow::{Context, Result, bail};
use latflow_lattice::Streams;

use crate::config::{Config, Method, ModelScheme, Needs, PairKind, Theory};
use crate::io::read;
use crate::model::{Trained, read_card};
use crate::results::{Analysis, Results, RunResult};
use crate::run::{MODEL, Outcome, RunDirectory, START, Task, drive};
use crate::session::{self, Session, note};
use crate::theory::{AnyTheory, any_theory, parameters};

/// A run of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Hybrid Monte Carlo.
    Hmc,
    /// Training of the model.
    Train,
    /// Sampling with the model, as `model.scheme` and `sample.method` say.
    Sample,
}

/// A task that ends with results.
trait Report: Task {
    /// What the finished run says; may write further files.
    ///
    /// # Errors
    /// When the measurements cannot be analysed or written.
    fn results(&mut self, run: &RunDirectory, seconds: f64) -> Result<(RunResult, Analysis)>;
}

/// Works until the task is finished or interrupted, and writes the results.
fn complete<T: Report>(mut task: T, run: &RunDirectory, session: &Session) -> Result<Outcome> {
    let outcome = drive(&mut task, run, session)?;
    if let Outcome::Finished { seconds } = outcome {
        let (result, mut analysis) = task.results(run, seconds)?;
        let others = std::mem::take(&mut analysis.others);
        run.finish(&Results { runs: std::iter::once(result).chain(others).collect() }, &analysis)?;
    }
    Ok(outcome)
}

impl Scheme {
    /// The subcommand, which is also the name of the default run directory.
    pub(crate) fn command(self) -> &'static str {
        match self {
            Self::Hmc => "hmc",
            Self::Train => "train",
            Self::Sample => "sample",
        }
    }

    /// What its configuration must fulfil.
    pub(crate) fn needs(self) -> Needs {
        match self {
            Self::Hmc => Needs::Sampling,
            Self::Train | Self::Sample => Needs::Flow,
        }
    }

    /// Works on a run until it is finished or interrupted.
    ///
    /// # Errors
    /// When a step fails or the disk refuses; the last checkpoint is then intact.
    pub(crate) fn work(self, run: &RunDirectory, session: &Session) -> Result<Outcome> {
        let config = run.config();
        match self {
            Self::Hmc => {
                let device = session::device(&config.device)?;
                match any_theory(config, &device, None)? {
                    AnyTheory::Scalar(theory) => complete(hmc::HmcTask::new(run, theory)?, run, session),
                    AnyTheory::Gauge(theory) => complete(hmc::HmcTask::new(run, theory)?, run, session),
                }
            }
            Self::Train => complete(train::TrainTask::new(run)?, run, session),
            Self::Sample if matches!(config.action, Theory::Qcd(_)) => {
                let device = session::device(&config.device)?;
                let weights = Trained::read(&run.path(MODEL), &device)?;
                match any_theory(config, &device, Some(&weights))? {
                    AnyTheory::Gauge(theory) => complete(hmc::HmcTask::new(run, theory)?, run, session),
                    AnyTheory::Scalar(theory) => bail!("{} has no links", theory.name()),
                }
            }
            Self::Sample if config.model.scheme == ModelScheme::Gibbs => {
                complete(chains::ChainTask::new(run)?, run, session)
            }
            Self::Sample => match config.sample.method {
                Method::Independence | Method::PseudoMarginal => {
                    complete(independence::IndependenceTask::new(run)?, run, session)
                }
                Method::PriorRefreshment | Method::PriorHmc | Method::PriorLangevin => {
                    complete(chains::ChainTask::new(run)?, run, session)
                }
            },
        }
    }
}

/// What the tables call the way in which a configuration samples with its model.
fn sampling_scheme(config: &Config) -> &'static str {
    match (config.sample.method, config.model.scheme) {
        (Method::PseudoMarginal, _) => "pseudo_marginal",
        (Method::PriorRefreshment, _) => "prior_refreshment",
        (Method::PriorHmc, _) => "prior_hmc",
        (Method::PriorLangevin, _) => "prior_langevin",
        (Method::Independence, ModelScheme::Marginal) => "marginal",
        (Method::Independence, ModelScheme::Autoregressive) => "autoregressive",
        (Method::Independence, ModelScheme::Gibbs) => "gibbs",
        (Method::Independence, ModelScheme::Joint) => "joint",
        (Method::Independence, ModelScheme::Gauge | ModelScheme::GaugePseudofermion) => "flow",
    }
}

/// Streams of a run's configuration.
fn streams(config: &Config) -> Streams {
    Streams::new(config.seed)
}

/// The trained weights for a sampling run, which keeps its own copy of them. `model` is a training run or a file.
///
/// # Errors
/// When there is no trained model, or it was trained as another kind of flow.
pub(crate) fn trained_model(model: &Path, config: &Config) -> Result<(&'static str, Vec<u8>)> {
    let (file, bytes) = weights_file(model)?;
    match read_card(&bytes).with_context(|| file.clone())? {
        None => note(&format!("note: {file} has no model card: only names and shapes can be checked")),
        Some(card) => {
            if let Some(section) = card.other_than(config) {
                bail!("{file} was trained with another {section} than this configuration has");
            }
            if card.action != parameters(config)? {
                note(&format!("note: {file} was trained for other couplings; sampling stays exact"));
            }
        }
    }
    Ok((MODEL, bytes))
}

/// The weights that a training begins with, or, for a model of φ given a pseudofermion, those of the marginal flow whose
/// pseudofermions it is shown.
///
/// # Errors
/// When there are none.
pub(crate) fn starting_weights(model: &Path) -> Result<(&'static str, Vec<u8>)> {
    Ok((START, weights_file(model)?.1))
}

/// Whether training cannot begin without [`starting_weights`].
pub(crate) fn needs_starting_weights(config: &Config) -> bool {
    match config.model.scheme {
        ModelScheme::Gibbs => matches!(config.model.gibbs.kind, PairKind::Decimation(_)),
        ModelScheme::GaugePseudofermion => true,
        ModelScheme::Marginal | ModelScheme::Autoregressive | ModelScheme::Joint | ModelScheme::Gauge => {
            false
        }
    }
}

fn weights_file(model: &Path) -> Result<(String, Vec<u8>)> {
    let file = if model.is_dir() { model.join(MODEL) } else { model.to_path_buf() };
    if !file.exists() {
        bail!(
            "{}: there is no trained flow; run `latflow train` first, or name one with --model",
            file.display()
        );
    }
    Ok((file.display().to_string(), read(&file)?))
}
