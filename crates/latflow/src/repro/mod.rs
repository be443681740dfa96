//! `latflow repro-yukawa`: every ensemble of the reproduction, one run directory each, and one report.
//!
//! ```text
//! OUT/repro.json                    what was asked for
//! OUT/g0.1/hmc                      hybrid Monte Carlo
//! OUT/g0.1/ours/marginal/train      only where weights are trained rather than shipped
//! OUT/g0.1/ours/marginal/sample     …/gibbs, …/paper/marginal, …
//! OUT/results.json  OUT/report.md  OUT/report.html  OUT/figures
//! ```

mod plan;
mod samplers;
mod shipped;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::config::Config;
use crate::io::{create_folder, write_atomically};
use crate::paper::PUBLISHED;
use crate::report::{self, Coupling, Finished, Flow};
use crate::results::Results;
use crate::run::{MODEL, Outcome, RunDirectory, START};
use crate::scheme::{Scheme, trained_model};
use crate::session::{self, EXIT_INTERRUPTED, Session, note};
pub(crate) use plan::Repro;
use plan::{PLAN, Plan};
use samplers::{SAMPLERS, Sampler};

/// Runs all stages that are not finished yet and writes the report.
///
/// # Errors
/// When a stage fails; what is finished stays.
pub(crate) fn repro_yukawa(arguments: &Repro) -> Result<ExitCode> {
    let (root, plan) = open(arguments)?;
    let session = Session::with_signals()?;
    let work = Work { root: &root, plan: &plan, force: arguments.force, session, begun: RefCell::default() };
    let mut couplings = Vec::new();
    for published in PUBLISHED.iter().filter(|published| plan.coupling.includes(published.coupling)) {
        let coupling = published.coupling;
        let config = samplers::hmc(&plan, coupling)?;
        let dims = config.lattice.dims.clone();
        let mut hmc = None;
        if plan.scheme.hmc() {
            let Some(finished) =
                work.stage(Scheme::Hmc, &Path::new(&folder(coupling)).join("hmc"), config, Files::new())?
            else {
                return Ok(work.interrupted());
            };
            hmc = Some(finished);
        }
        let mut flows = Vec::new();
        for sampler in SAMPLERS.iter().filter(|sampler| plan.includes(sampler)) {
            let Some(flow) = work.sampler(sampler, coupling)? else { return Ok(work.interrupted()) };
            flows.push(flow);
        }
        couplings.push(Coupling { published, dims, hmc, flows });
    }
    let finished = couplings.iter().flat_map(|c| c.hmc.iter().chain(c.flows.iter().map(|flow| &flow.sample)));
    let runs = finished.map(|run| run.result.clone()).collect();
    let results = serde_json::to_string_pretty(&Results { runs })?;
    let tables = report::write(&root, &plan.flags(), &couplings)?;
    write_atomically(&root.join("results.json"), results.as_bytes())?;
    session::print(&tables)?;
    note(&format!("written: report.html, report.md, figures and results.json in {}", root.display()));
    Ok(ExitCode::SUCCESS)
}

fn folder(coupling: &str) -> String {
    format!("g{coupling}")
}

/// The directory and what is to be done in it.
fn open(arguments: &Repro) -> Result<(PathBuf, Plan)> {
    if let Some(root) = &arguments.resume {
        let file = root.join(PLAN);
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("--resume {}: there is no reproduction (no {PLAN})", root.display()))?;
        let plan = serde_json::from_str(&text).with_context(|| format!("{} is damaged", file.display()))?;
        return Ok((root.clone(), plan));
    }
    let plan = arguments.plan();
    let default = || PathBuf::from("runs").join(format!("repro-yukawa-{}", plan.scale.name()));
    let root = arguments.out.clone().unwrap_or_else(default);
    if root.join(PLAN).exists() && !arguments.force {
        bail!(
            "{0} holds a reproduction already: --resume {0} goes on with it, --force starts anew and deletes it, \
             --out DIR writes elsewhere",
            root.display()
        );
    }
    session::device(&plan.device)?;
    create_folder(&root)?;
    write_atomically(&root.join(PLAN), serde_json::to_string_pretty(&plan)?.as_bytes())?;
    Ok((root, plan))
}

/// What every stage needs.
struct Work<'a> {
    root: &'a Path,
    plan: &'a Plan,
    /// Whether earlier runs are in the way …
    force: bool,
    session: Session,
    /// … unless they were begun now.
    begun: RefCell<BTreeSet<PathBuf>>,
}

/// Files that a new run begins with.
type Files = Vec<(&'static str, Vec<u8>)>;

impl Work<'_> {
    /// One ensemble: its training, unless there are weights for it, then its chains. `None` when someone interrupted.
    fn sampler(&self, sampler: &Sampler, coupling: &str) -> Result<Option<Flow>> {
        let Some(weights) = self.weights(sampler.trained_as(), coupling)? else { return Ok(None) };
        let (folder, config) =
            (sampler.folder(coupling).join("sample"), sampler.sampling(self.plan, coupling)?);
        let sample = self.stage(Scheme::Sample, &folder, config, vec![(MODEL, weights)])?;
        Ok(sample.map(|sample| Flow { models: sampler.models, label: sampler.label, sample }))
    }

    /// The weights of an ensemble: those that come with the program, or trained here. `None` when someone interrupted.
    fn weights(&self, sampler: &Sampler, coupling: &str) -> Result<Option<Vec<u8>>> {
        let config = sampler.training(self.plan, coupling)?;
        if let Some(bytes) = sampler.weights(self.plan, &config, coupling)? {
            return Ok(Some(bytes));
        }
        let mut files = Files::new();
        if let Some(first) = sampler.starts_from() {
            let Some(weights) = self.weights(first, coupling)? else { return Ok(None) };
            files.push((START, weights));
        }
        let folder = sampler.folder(coupling).join("train");
        if self.stage(Scheme::Train, &folder, config.clone(), files)?.is_none() {
            return Ok(None);
        }
        let (_, bytes) = trained_model(&self.root.join(folder), &config)?;
        Ok(Some(bytes))
    }

    /// One run: gone on with, or begun with some files. `None` when someone interrupted.
    fn stage(&self, scheme: Scheme, folder: &Path, config: Config, files: Files) -> Result<Option<Finished>> {
        let root = self.root.join(folder);
        let force = self.begun.borrow_mut().insert(root.clone()) && self.force;
        let run = if root.join("config.toml").exists() && !force {
            let run = RunDirectory::resume(&root, scheme.command(), scheme.needs())?;
            if run.config() != &config {
                bail!(
                    "{}: this version of latflow has another configuration for this stage; begin with --force",
                    root.display()
                );
            }
            run
        } else {
            RunDirectory::create(&root, scheme.command(), config, force, &files)?
        };
        if !run.finished() {
            note(&folder.display().to_string());
            if scheme.work(&run, &self.session)? == Outcome::Interrupted {
                return Ok(None);
            }
        }
        Finished::read(&run).map(Some)
    }

    fn interrupted(&self) -> ExitCode {
        note(&format!(
            "go on with: latflow repro-yukawa --resume {0}  (cargo xtask repro-yukawa --resume {0})",
            self.root.display()
        ));
        ExitCode::from(EXIT_INTERRUPTED)
    }
}
