//! The application around the physics crates: strict configs, runs that survive, tables.
//!
//! This is the only crate that reads and writes files, parses a configuration or prints.

pub mod config;
pub mod io;
mod text;
