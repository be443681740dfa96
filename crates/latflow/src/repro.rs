//! `latflow repro-yukawa`: every stage of the reproduction, one run directory each, and one report.
//!
//! ```text
//! OUT/repro.json      what was asked for
//! OUT/g0.1/hmc  OUT/g0.1/train  OUT/g0.1/sample  OUT/g0.3/…
//! OUT/results.json  OUT/report.md
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::config::{Config, Needs, from_text};
use crate::io::{create_folder, write_atomically};
use crate::paper::PUBLISHED;
use crate::report::{self, Coupling, Finished};
use crate::results::Results;
use crate::run::{Outcome, RunDirectory};
use crate::scheme::{Scheme, trained_model};
use crate::session::{self, EXIT_INTERRUPTED, Session, note};

/// How long to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Scale {
    /// Up to a minute: does everything work?
    Smoke,
    /// A quarter of an hour on two cores.
    Desk,
    /// The statistics of the paper.
    Paper,
}

/// Which samplers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Schemes {
    /// Hybrid Monte Carlo alone.
    Hmc,
    /// The φ-marginal flow alone.
    Marginal,
    /// All of them.
    All,
}

impl Schemes {
    fn stages(self) -> &'static [Scheme] {
        match self {
            Self::Hmc => &[Scheme::Hmc],
            Self::Marginal => &[Scheme::Train, Scheme::Sample],
            Self::All => &[Scheme::Hmc, Scheme::Train, Scheme::Sample],
        }
    }
}

/// Which row of Table II.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
enum Couplings {
    /// g = 0.1
    #[value(name = "0.1")]
    #[serde(rename = "0.1")]
    Weak,
    /// g = 0.3
    #[value(name = "0.3")]
    #[serde(rename = "0.3")]
    Strong,
    /// Both.
    #[value(name = "all")]
    #[serde(rename = "all")]
    All,
}

impl Couplings {
    fn includes(self, coupling: &str) -> bool {
        match self {
            Self::Weak => coupling == "0.1",
            Self::Strong => coupling == "0.3",
            Self::All => true,
        }
    }
}

/// Arguments of the reproduction.
#[derive(Debug, Args)]
pub(crate) struct Repro {
    /// How long to run.
    #[arg(long, value_enum, default_value = "desk", conflicts_with = "resume")]
    scale: Scale,
    /// Which samplers.
    #[arg(long, value_enum, default_value = "all")]
    scheme: Schemes,
    /// Which row of Table II.
    #[arg(long, value_enum, default_value = "all")]
    coupling: Couplings,
    /// Directory [default: runs/repro-yukawa-SCALE].
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Go on with the reproduction in this directory, as it was started.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["scheme", "coupling", "device"])]
    resume: Option<PathBuf>,
    /// Delete an earlier reproduction in the directory.
    #[arg(long, conflicts_with = "resume")]
    force: bool,
    /// cpu, cuda:0, …
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// `repro.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Plan {
    scale: Scale,
    scheme: Schemes,
    coupling: Couplings,
    device: String,
}

const PLAN: &str = "repro.json";

/// Runs all stages that are not finished yet and writes the report.
///
/// # Errors
/// When a stage fails; what is finished stays.
pub(crate) fn repro_yukawa(arguments: &Repro) -> Result<ExitCode> {
    let (root, plan) = open(arguments)?;
    let session = Session::with_signals()?;
    let mut couplings = Vec::new();
    for published in PUBLISHED.iter().filter(|published| plan.coupling.includes(published.coupling)) {
        let config = config(plan.scale, published.coupling, &plan.device)?;
        let folder = root.join(format!("g{}", published.coupling));
        let mut coupling =
            Coupling { published, dims: config.lattice.dims.clone(), hmc: None, train: None, flow: None };
        for scheme in plan.scheme.stages() {
            let run = stage(*scheme, &folder, &config, arguments.force)?;
            if !run.finished() {
                note(&format!("g = {}: {}", published.coupling, scheme.command()));
                if scheme.work(&run, &session)? == Outcome::Interrupted {
                    note(&format!(
                        "go on with: latflow repro-yukawa --resume {0}  (cargo xtask repro-yukawa --resume {0})",
                        root.display()
                    ));
                    return Ok(ExitCode::from(EXIT_INTERRUPTED));
                }
            }
            let finished = Some(Finished::read(&run)?);
            match scheme {
                Scheme::Hmc => coupling.hmc = finished,
                Scheme::Train => coupling.train = finished,
                Scheme::Sample => coupling.flow = finished,
            }
        }
        couplings.push(coupling);
    }
    let runs = couplings.iter().flat_map(|c| [&c.hmc, &c.flow]).flatten().map(|f| f.result.clone()).collect();
    let results = serde_json::to_string_pretty(&Results { runs })?;
    let scale = plan.scale.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    let text = report::report(&scale, &couplings)?;
    write_atomically(&root.join("report.md"), text.as_bytes())?;
    write_atomically(&root.join("results.json"), results.as_bytes())?;
    session::print(&report::tables(&couplings)?)?;
    note(&format!("written: {0}/report.md, {0}/results.json", root.display()));
    Ok(ExitCode::SUCCESS)
}

fn open(arguments: &Repro) -> Result<(PathBuf, Plan)> {
    if let Some(root) = &arguments.resume {
        let file = root.join(PLAN);
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("--resume {}: there is no reproduction (no {PLAN})", root.display()))?;
        let plan = serde_json::from_str(&text).with_context(|| format!("{} is damaged", file.display()))?;
        return Ok((root.clone(), plan));
    }
    let Repro { scale, scheme, coupling, device, force, .. } = arguments;
    let plan = Plan { scale: *scale, scheme: *scheme, coupling: *coupling, device: device.clone() };
    let name = scale.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    let default = || PathBuf::from("runs").join(format!("repro-yukawa-{name}"));
    let root = arguments.out.clone().unwrap_or_else(default);
    if root.join(PLAN).exists() && !force {
        bail!(
            "{0} holds a reproduction already: --resume {0} goes on with it, --force starts anew and deletes it, \
             --out DIR writes elsewhere",
            root.display()
        );
    }
    session::device(device)?;
    create_folder(&root)?;
    write_atomically(&root.join(PLAN), serde_json::to_string_pretty(&plan)?.as_bytes())?;
    Ok((root, plan))
}

/// The run of one stage: gone on with, or begun.
fn stage(scheme: Scheme, folder: &Path, config: &Config, force: bool) -> Result<RunDirectory> {
    let root = folder.join(scheme.command());
    if root.join("config.toml").exists() && !force {
        let run = RunDirectory::resume(&root, scheme.command(), scheme.needs())?;
        if run.config() != config {
            bail!(
                "{}: this version of latflow has another configuration for this stage; begin with --force",
                root.display()
            );
        }
        return Ok(run);
    }
    let files = match scheme {
        Scheme::Sample => vec![trained_model(&folder.join(Scheme::Train.command()), config)?],
        Scheme::Hmc | Scheme::Train => Vec::new(),
    };
    RunDirectory::create(&root, scheme.command(), config.clone(), force, &files)
}

macro_rules! shipped {
    ($name:literal) => {
        ($name, include_str!(concat!("../configs/yukawa/", $name)))
    };
}

fn config(scale: Scale, coupling: &str, device: &str) -> Result<Config> {
    let (name, text) = match (scale, coupling) {
        (Scale::Smoke, "0.1") => shipped!("g0.1_smoke.toml"),
        (Scale::Desk, "0.1") => shipped!("g0.1_desk.toml"),
        (Scale::Paper, "0.1") => shipped!("g0.1_paper.toml"),
        (Scale::Smoke, "0.3") => shipped!("g0.3_smoke.toml"),
        (Scale::Desk, "0.3") => shipped!("g0.3_desk.toml"),
        (Scale::Paper, "0.3") => shipped!("g0.3_paper.toml"),
        _ => bail!("there is no configuration for g = {coupling}"),
    };
    Ok(from_text(name, text, &[format!("device={device}").parse()?], Needs::Flow)?)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::{Scale, config};
    use crate::config::Theory;
    use crate::paper::{DIMS, PUBLISHED};

    #[test]
    fn shipped_configurations_have_the_papers_parameters() {
        for scale in Scale::value_variants() {
            for published in PUBLISHED {
                let config = config(*scale, published.coupling, "cpu").unwrap();
                let Theory::Yukawa(action) = &config.action;
                assert_eq!(
                    (action.m2, action.lambda, action.g),
                    (published.m2, published.lambda, published.g)
                );
                assert_eq!((action.fermion_mass, config.lattice.dims.as_slice()), (0.0, &DIMS[..]));
            }
        }
    }
}
