//! The loop that every resumable task shares.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::Device;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::RunDirectory;
use crate::io::{Series, Snapshot, TextLog};
use crate::progress::Progress;
use crate::session::{Session, note};

/// What one step leaves behind.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// One line of `metrics.jsonl`, without step and seconds; `None` when this step is not logged.
    pub metrics: Option<Map<String, Value>>,
    /// Rows for `series.bin`.
    pub rows: Vec<Vec<f64>>,
    /// What the progress bar says.
    pub status: String,
}

/// Work that proceeds in steps and can be saved between any two of them.
pub(crate) trait Task {
    /// Everything beside the tensors that the next step depends on.
    type State: Serialize + DeserializeOwned;

    /// What the progress bar calls it.
    fn name(&self) -> String;

    /// Steps in all.
    fn total(&self) -> u64;

    /// Steps done.
    fn done(&self) -> u64;

    /// Steps between checkpoints.
    fn checkpoint_every(&self) -> u64;

    /// One step.
    ///
    /// # Errors
    /// When the task cannot go on; the last checkpoint stays.
    fn step(&mut self) -> Result<Step>;

    /// The present state.
    ///
    /// # Errors
    /// When the device fails.
    fn snapshot(&self) -> Result<Snapshot<Self::State>>;

    /// Goes to a saved state.
    ///
    /// # Errors
    /// When it does not fit.
    fn restore(&mut self, step: u64, snapshot: Snapshot<Self::State>) -> Result<()>;
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Outcome {
    /// All steps are done.
    Finished {
        /// Wall-clock seconds of all sittings together.
        seconds: f64,
    },
    /// Someone asked to stop; the state is saved.
    Interrupted,
}

/// A task's state and how much of each log belongs to it.
#[derive(Serialize, Deserialize)]
struct Saved<S> {
    task: S,
    metrics_lines: u64,
    series_bytes: u64,
    /// Numbers a row of the series; 0 before the first row.
    series_columns: u64,
}

/// Works until the task is done or interrupted, starting from the newest usable checkpoint of the run.
///
/// # Errors
/// When a step fails or the disk refuses; the last checkpoint is then intact.
pub(crate) fn drive<T: Task>(task: &mut T, run: &RunDirectory, session: &Session) -> Result<Outcome> {
    let store = run.checkpoints();
    let checkpoint =
        store.latest::<Saved<T::State>>(&Device::Cpu, |damaged| note(&format!("warning: {damaged}")))?;
    let (mut metrics_lines, mut series_bytes, mut series_columns) = (0, 0, 0);
    if let Some(checkpoint) = checkpoint {
        let Snapshot { tensors, state } = checkpoint.snapshot;
        (metrics_lines, series_bytes) = (state.metrics_lines, state.series_bytes);
        series_columns = state.series_columns;
        task.restore(checkpoint.step, Snapshot { tensors, state: state.task })?;
        if task.done() < task.total() {
            note(&format!("{}: resuming after step {} of {}", task.name(), task.done(), task.total()));
        }
    }
    let (metrics_bytes, seconds_before) = kept(&run.metrics(), metrics_lines)?;
    let mut metrics = TextLog::open(&run.metrics(), metrics_bytes)?;
    let mut series = Series::open(&run.series(), series_bytes)?;

    let started = Instant::now();
    let seconds = || seconds_before + started.elapsed().as_secs_f64();
    let mut progress = Progress::new(&task.name(), task.total(), task.done());
    let mut saved_at = task.done();
    while task.done() < task.total() {
        let step = task.step().with_context(|| {
            let done = task.done();
            format!("{} stopped after step {done}; the checkpoint of step {saved_at} is kept", task.name())
        })?;
        for row in &step.rows {
            let found = row.len() as u64;
            anyhow::ensure!(
                series_columns == 0 || series_columns == found,
                "{}: rows have {series_columns} numbers, this program measures {found}: the run was begun by another \
                 version; finish it with that one, or start again with --force",
                run.series().display()
            );
            series_columns = found;
            series.row(row)?;
        }
        if let Some(content) = step.metrics {
            let mut line = Map::from_iter([("step".to_owned(), Value::from(task.done()))]);
            line.extend(content);
            line.insert("seconds".to_owned(), Value::from((seconds() * 1e3).round() / 1e3));
            metrics.line(&Value::Object(line).to_string())?;
            metrics_lines += 1;
        }
        progress.update(task.done(), &step.status);

        let interrupted = session.interrupted();
        let finished = task.done() >= task.total();
        // On multiples, not after intervals: an interruption in between does not shift the later checkpoints.
        let due = task.done() / task.checkpoint_every() > saved_at / task.checkpoint_every();
        if interrupted || finished || due {
            metrics.sync()?;
            let series_bytes = series.sync()?;
            let Snapshot { tensors, state } = task.snapshot()?;
            let state = Saved { task: state, metrics_lines, series_bytes, series_columns };
            store.save(task.done(), &Snapshot { tensors, state })?;
            saved_at = task.done();
        }
        if interrupted && !finished {
            progress.close();
            note(&format!(
                "{}: stopped and saved after step {} of {}",
                task.name(),
                task.done(),
                task.total()
            ));
            return Ok(Outcome::Interrupted);
        }
    }
    progress.close();
    Ok(Outcome::Finished { seconds: seconds() })
}

/// Bytes of the first `lines` lines of the metrics, and the seconds that the last of them records.
fn kept(path: &Path, lines: u64) -> Result<(u64, f64)> {
    if lines == 0 {
        return Ok((0, 0.0));
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let kept: Vec<&str> = text.split_inclusive('\n').take(lines as usize).collect();
    let found = kept.iter().filter(|line| line.ends_with('\n')).count() as u64;
    anyhow::ensure!(
        found == lines,
        "{}: the checkpoint needs its first {lines} lines, there are {found}",
        path.display()
    );
    let last: Value = kept.last().map_or(Ok(Value::Null), |line| serde_json::from_str(line))?;
    Ok((kept.iter().map(|line| line.len() as u64).sum(), last["seconds"].as_f64().unwrap_or(0.0)))
}
