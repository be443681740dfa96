//! What every reproduction shares: its directory, which remembers what was asked for, and runs that are gone on with.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::io::{create_folder, write_atomically};
use crate::report::Finished;
use crate::results::Results;
use crate::run::{Outcome, RunDirectory};
use crate::scheme::Scheme;
use crate::session::{self, EXIT_INTERRUPTED, Session, note};

/// The file that remembers.
const PLAN: &str = "repro.json";

/// Files that a new run begins with.
pub(super) type Files = Vec<(&'static str, Vec<u8>)>;

/// Where a reproduction is to be, and how it begins.
pub(super) struct Place<'a> {
    /// The subcommand.
    pub command: &'static str,
    /// The directory to go on in.
    pub resume: Option<&'a Path>,
    /// The directory to begin in.
    pub out: PathBuf,
    /// Whether earlier runs may be deleted.
    pub force: bool,
    /// Where it computes.
    pub device: &'a str,
}

/// A reproduction at work.
pub(super) struct Stages {
    command: &'static str,
    root: PathBuf,
    /// Whether earlier runs are in the way …
    force: bool,
    session: Session,
    /// … unless they were begun now.
    begun: RefCell<BTreeSet<PathBuf>>,
}

impl Stages {
    /// Opens the directory; returns the plan that it remembers, or, in a new one, the one that is given.
    ///
    /// # Errors
    /// When an earlier reproduction is in the way, there is none to go on with, or the device is not there.
    pub(super) fn open<P: Serialize + DeserializeOwned>(place: Place<'_>, plan: P) -> Result<(Self, P)> {
        let Place { command, resume, out, force, device } = place;
        let (root, plan) = match resume {
            Some(root) => {
                let file = root.join(PLAN);
                let text = std::fs::read_to_string(&file).with_context(|| {
                    format!("--resume {}: there is no reproduction (no {PLAN})", root.display())
                })?;
                let plan =
                    serde_json::from_str(&text).with_context(|| format!("{} is damaged", file.display()))?;
                (root.to_path_buf(), plan)
            }
            None => {
                if out.join(PLAN).exists() && !force {
                    bail!(
                        "{0} holds a reproduction already: --resume {0} goes on with it, --force starts anew and deletes \
                         it, --out DIR writes elsewhere",
                        out.display()
                    );
                }
                session::device(device)?;
                create_folder(&out)?;
                write_atomically(&out.join(PLAN), serde_json::to_string_pretty(&plan)?.as_bytes())?;
                (out, plan)
            }
        };
        let session = Session::with_signals()?;
        Ok((Self { command, root, force, session, begun: RefCell::default() }, plan))
    }

    /// The directory.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// One run: gone on with, or begun with some files. `None` when someone interrupted.
    ///
    /// # Errors
    /// When it fails; what is finished stays.
    pub(super) fn run(
        &self,
        scheme: Scheme,
        folder: &Path,
        config: Config,
        files: Files,
    ) -> Result<Option<Finished>> {
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

    /// How a program ends that someone interrupted.
    pub(super) fn interrupted(&self) -> ExitCode {
        note(&format!(
            "go on with: latflow {0} --resume {1}  (cargo xtask {0} --resume {1})",
            self.command,
            self.root.display()
        ));
        ExitCode::from(EXIT_INTERRUPTED)
    }

    /// Writes `results.json` and prints the tables.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn conclude<'a>(
        &self,
        runs: impl Iterator<Item = &'a Finished>,
        tables: &str,
    ) -> Result<ExitCode> {
        let results = Results {
            runs: runs.flat_map(|run| std::iter::once(&run.result).chain(&run.others)).cloned().collect(),
        };
        let results = serde_json::to_string_pretty(&results)?;
        write_atomically(&self.root.join("results.json"), results.as_bytes())?;
        session::print(tables)?;
        note(&format!(
            "written: report.html, report.md, figures and results.json in {}",
            self.root.display()
        ));
        Ok(ExitCode::SUCCESS)
    }
}
