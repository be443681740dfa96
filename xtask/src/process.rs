//! Starting cargo and saying how long it took.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// What a chore returns: nothing, or a message for the user.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// The root of the repository: the folder above this package.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// A cargo command that runs in the root of the repository.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Whether `cargo nextest` can be started.
pub(crate) fn has_nextest() -> bool {
    let found = cargo(&["nextest", "--version"]).output();
    found.is_ok_and(|output| output.status.success())
}

/// Runs a command to its end; a failure names the command.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let name = describe(command);
    let status = command.status().map_err(|error| format!("cannot start `{name}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{name}` failed with {status}")) }
}

/// Runs one named step and prints its seconds.
pub(crate) fn step(name: &str, work: impl FnOnce() -> Outcome) -> Outcome {
    eprintln!("── {name}");
    let started = Instant::now();
    let outcome = work();
    let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
    eprintln!("── {name}: {verdict} in {:.1} s", started.elapsed().as_secs_f64());
    outcome
}

fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
