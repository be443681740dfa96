//! The application around the physics crates: strict configs, runs that survive, tables.
//!
//! This is the only crate that reads and writes files, parses a configuration or prints.

mod cfg;
mod cli;
pub mod config;
mod correlators;
pub mod io;
mod manifest;
mod measure;
mod model;
mod paper;
mod progress;
mod report;
mod repro;
mod results;
mod run;
mod scheme;
mod session;
mod text;
mod theory;

pub use cli::main;

/// The example of the README, compiled and run as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
