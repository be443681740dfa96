//! The directory of a run: creating it, finding it again, refusing to destroy it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use serde_json::Value;

use crate::config::{Config, Needs, load};
use crate::io::{CheckpointStore, create_folder, write_atomically};
use crate::manifest::manifest;
use crate::results::{Analysis, Results};

const CONFIG: &str = "config.toml";
const MANIFEST: &str = "manifest.json";
const CHECKPOINTS: &str = "checkpoint";
const RESULTS: &str = "results.json";
const ANALYSIS: &str = "analysis.json";
const CHAINS: &str = "chains";
const METRICS: &str = "metrics.jsonl";
const SERIES: &str = "series.bin";
const LOCK: &str = "lock";
/// Where a run keeps the configurations that it saves.
pub(crate) const CONFIGURATIONS: &str = "configurations";
/// The weights that a training leaves and a sampling run keeps a copy of.
pub(crate) const MODEL: &str = "model.safetensors";
/// The weights that a training began with.
pub(crate) const START: &str = "start.safetensors";

/// An open run directory; no other process works in it.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    root: PathBuf,
    config: Config,
    /// Held, not used: the system releases it even after a kill.
    _lock: File,
}

impl RunDirectory {
    /// Starts a run of `command` in `root`, with the given files in it.
    ///
    /// # Errors
    /// When an earlier run is there and `force` is not given, or another process works there.
    pub(crate) fn create(
        root: &Path,
        command: &str,
        config: Config,
        force: bool,
        files: &[(&str, Vec<u8>)],
    ) -> Result<Self> {
        if root.join(CONFIG).exists() && !force {
            let done = if root.join(RESULTS).exists() { "a finished" } else { "an unfinished" };
            bail!(
                "{} holds {done} run: --resume {0} goes on with it, --force starts anew and deletes it, \
                 --out DIR writes elsewhere",
                root.display()
            );
        }
        create_folder(root)?;
        let lock = lock(root)?;
        if force {
            for name in [RESULTS, ANALYSIS, CONFIG, MANIFEST, METRICS, SERIES, MODEL, START] {
                let path = root.join(name);
                if path.exists() {
                    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
                }
            }
            for name in [CHECKPOINTS, CHAINS, CONFIGURATIONS] {
                let path = root.join(name);
                if path.exists() {
                    fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
                }
            }
        }
        let run = Self { root: root.to_path_buf(), config, _lock: lock };
        let manifest = serde_json::to_string_pretty(&manifest(command, &run.config))?;
        write_atomically(&run.path(MANIFEST), manifest.as_bytes())?;
        for (name, bytes) in files {
            write_atomically(&run.path(name), bytes)?;
        }
        // The configuration comes last: a directory with one is a run.
        write_atomically(&run.path(CONFIG), run.config.to_toml().as_bytes())?;
        Ok(run)
    }

    /// Goes on with the run in `root`, as it was configured.
    ///
    /// # Errors
    /// When there is no run of this command, or another process works there.
    pub(crate) fn resume(root: &Path, command: &str, needs: Needs) -> Result<Self> {
        let file = root.join(CONFIG);
        if !file.exists() {
            bail!("--resume {}: there is no run (no {CONFIG})", root.display());
        }
        let manifest = root.join(MANIFEST);
        let text =
            fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
        let manifest: Value =
            serde_json::from_str(&text).with_context(|| format!("{} is not JSON", manifest.display()))?;
        let started = manifest["command"].as_str().unwrap_or("unknown");
        if started != command {
            bail!(
                "--resume {0}: that is a run of `latflow {started}`; use latflow {started} --resume {0}",
                root.display()
            );
        }
        let lock = lock(root)?;
        let config = load(&file, &[], needs)?;
        let run = Self { root: root.to_path_buf(), config, _lock: lock };
        run.checkpoints().remove_leftovers()?;
        Ok(run)
    }

    /// The configuration.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A file of this run.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Its metrics, one JSON object a line.
    pub(crate) fn metrics(&self) -> PathBuf {
        self.path(METRICS)
    }

    /// Its measurements.
    pub(crate) fn series(&self) -> PathBuf {
        self.path(SERIES)
    }

    /// Its checkpoints.
    pub(crate) fn checkpoints(&self) -> CheckpointStore {
        CheckpointStore::new(self.path(CHECKPOINTS), self.config.hash())
    }

    /// Its results.
    ///
    /// # Errors
    /// When it is not finished.
    pub(crate) fn results(&self) -> Result<(Results, Analysis)> {
        let read = |name: &str| {
            let path = self.path(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        Ok((serde_json::from_str(&read(RESULTS)?)?, serde_json::from_str(&read(ANALYSIS)?)?))
    }

    /// Whether the results are there.
    pub(crate) fn finished(&self) -> bool {
        self.path(RESULTS).exists()
    }

    /// Writes analysis and results; the results end the run.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn finish(&self, results: &Results, analysis: &Analysis) -> Result<()> {
        write_atomically(&self.path(ANALYSIS), serde_json::to_string_pretty(analysis)?.as_bytes())?;
        Ok(write_atomically(&self.path(RESULTS), serde_json::to_string_pretty(results)?.as_bytes())?)
    }
}

fn lock(root: &Path) -> Result<File> {
    let path = root.join(LOCK);
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            bail!("{}: another process is working on this run", root.display())
        }
        Err(fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}
