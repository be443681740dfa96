//! The application from outside: configurations, the command line, files. One binary, so that it is linked once.

mod common;
mod config;
mod exact;
mod inputs;
mod measure;
mod pipeline;
mod presets;
#[cfg(unix)]
mod resume;
