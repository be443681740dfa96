//! The application from outside: configurations, the command line, files. One binary, so that it is linked once.

mod common;
mod config;
mod exact;
mod gauge_damage;
mod gauge_field;
mod gauge_files;
mod gauge_python;
mod inputs;
mod measure;
mod pipeline;
mod presets;
mod qcd;
mod qcd_flow;
mod qcd_measure;
mod qcd_model;
#[cfg(unix)]
mod resume;
