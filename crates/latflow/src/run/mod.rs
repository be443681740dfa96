//! Runs: one directory, one task, resumable at any moment.
//!
//! ```text
//! config.toml      complete          manifest.json   versions, seed, host
//! metrics.jsonl    one line a step   series.bin      measurements, rows of f64
//! checkpoint/      the last two      results.json    when finished
//! model.safetensors, start.safetensors: weights made or used, and those a training began with
//! configurations/  gauge fields, where they are asked for
//! lock             held while a process works here
//! ```
//!
//! A [`Task`] advances step by step and can be saved after any of them; [`drive`] does the rest: progress, logs,
//! checkpoints, Ctrl-C. A resumed run is the undisturbed run, bit by bit, except for the seconds in its metrics.

mod directory;
mod drive;

pub(crate) use directory::{CONFIGURATIONS, MODEL, RunDirectory, START};
pub(crate) use drive::{Outcome, Step, Task, drive};
