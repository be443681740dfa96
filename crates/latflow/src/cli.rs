//! The command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::cfg::Cfg;
use crate::config::{Config, Needs, Override, load};
use crate::manifest::VERSION;
use crate::repro::{self, Repro, ReproQcd};
use crate::run::{Outcome, RunDirectory};
use crate::scheme::{Scheme, needs_starting_weights, starting_weights, trained_model};
use crate::session::{self, EXIT_INTERRUPTED, Session, note};
use crate::{measure, report};

/// Exact sampling of lattice field theories with fermions by normalizing flows.
#[derive(Debug, Parser)]
#[command(name = "latflow", version = VERSION, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Hybrid Monte Carlo, or heat bath: thermalise, measure, analyse.
    Hmc(RunArguments),
    /// Train the model of the configuration.
    Train {
        #[command(flatten)]
        run: RunArguments,
        /// Begin with the weights of this training run or model.safetensors, wherever parameters have the same name and shape.
        #[arg(long, value_name = "PATH", conflicts_with = "resume")]
        model: Option<PathBuf>,
    },
    /// Sample with a trained model, by the scheme and method of the configuration.
    Sample {
        #[command(flatten)]
        run: RunArguments,
        /// Directory of the training run, or its model.safetensors [default: the training run of the same configuration].
        #[arg(long, value_name = "PATH", conflicts_with = "resume")]
        model: Option<PathBuf>,
    },
    /// Print everything about one field as JSON.
    Measure {
        /// Configuration file.
        config: PathBuf,
        /// The field: NPY, f64, of the lattice's shape; for a gauge theory, ILDG, SciDAC or NERSC.
        field: PathBuf,
        #[command(flatten)]
        changes: Changes,
    },
    /// Check, describe or convert gauge configuration files (ILDG, SciDAC, NERSC).
    #[command(subcommand)]
    Cfg(Cfg),
    /// Reproduce the tables of the Yukawa paper.
    #[command(hide = true)]
    ReproYukawa(Repro),
    /// Reproduce the baseline of the QCD paper.
    #[command(hide = true)]
    ReproQcd(ReproQcd),
}

#[derive(Debug, Args)]
struct Changes {
    /// Change one value of the configuration, such as `--set train.batch=512`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Short for `--set device=…`: cpu, cuda:0, …
    #[arg(long)]
    device: Option<String>,
}

impl Changes {
    fn overrides(&self) -> Result<Vec<Override>> {
        let device = self.device.iter().map(|device| format!("device={device}"));
        self.set.iter().cloned().chain(device).map(|text| Ok(text.parse()?)).collect()
    }
}

#[derive(Debug, Args)]
struct RunArguments {
    /// Configuration file.
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// Run directory [default: runs/CONFIG/COMMAND].
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Go on with the run in this directory.
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// Delete an earlier run in the run directory.
    #[arg(long, conflicts_with = "resume")]
    force: bool,
    #[command(flatten)]
    changes: Changes,
}

impl RunArguments {
    /// The run directory: opened again, or created for the configuration with the weights of a trained flow.
    fn open(&self, scheme: Scheme, model: Option<&Path>) -> Result<RunDirectory> {
        let command = scheme.command();
        if let Some(root) = &self.resume {
            if !self.changes.set.is_empty() || self.changes.device.is_some() {
                bail!(
                    "--resume goes on with a run as it was configured; it goes with neither --set nor --device"
                );
            }
            return RunDirectory::resume(root, command, scheme.needs());
        }
        let file = self.config.as_deref().context("a configuration file is needed")?;
        let config: Config = load(file, &self.changes.overrides()?, scheme.needs())?;
        // A device that is not there is noticed before a run directory is made.
        session::device(&config.device)?;
        let root = self.out.clone().unwrap_or_else(|| default_directory(file, command));
        let files = match (scheme, model) {
            (Scheme::Sample, Some(model)) => vec![trained_model(model, &config)?],
            (Scheme::Sample, None) => {
                vec![trained_model(&default_directory(file, Scheme::Train.command()), &config)?]
            }
            (Scheme::Train, Some(model)) => vec![starting_weights(model)?],
            (Scheme::Train, None) if needs_starting_weights(&config) => bail!(
                "this model is trained after the marginal flow whose fields it is shown: name that one's training run or \
                 weights with --model"
            ),
            (Scheme::Hmc | Scheme::Train, _) => Vec::new(),
        };
        RunDirectory::create(&root, command, config, self.force, &files)
    }
}

fn default_directory(config: &Path, command: &str) -> PathBuf {
    Path::new("runs").join(config.file_stem().unwrap_or_default()).join(command)
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    latflow_kernels::tune_process();
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            note(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Hmc(arguments) => work(Scheme::Hmc, &arguments.open(Scheme::Hmc, None)?),
        Command::Train { run, model } => work(Scheme::Train, &run.open(Scheme::Train, model.as_deref())?),
        Command::Sample { run, model } => work(Scheme::Sample, &run.open(Scheme::Sample, model.as_deref())?),
        Command::Measure { config, field, changes } => {
            let config = load(&config, &changes.overrides()?, Needs::FullOperator)?;
            session::print(&measure::measure(&config, &field)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Cfg(arguments) => arguments.run(),
        Command::ReproYukawa(arguments) => repro::repro_yukawa(&arguments),
        Command::ReproQcd(arguments) => repro::repro_qcd(&arguments),
    }
}

fn work(scheme: Scheme, run: &RunDirectory) -> Result<ExitCode> {
    if run.finished() {
        note(&format!("{} is finished already", run.root().display()));
    } else if scheme.work(run, &Session::with_signals()?)? == Outcome::Interrupted {
        note(&format!("go on with: latflow {} --resume {}", scheme.command(), run.root().display()));
        return Ok(ExitCode::from(EXIT_INTERRUPTED));
    }
    session::print(&report::summary(run)?)?;
    Ok(ExitCode::SUCCESS)
}
