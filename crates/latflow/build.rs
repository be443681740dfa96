//! Records what the binary was built from, for the manifest of every run.

use std::path::Path;
use std::process::Command;

fn main() {
    let revision = git(&["rev-parse", "HEAD"]);
    let status = git(&["status", "--porcelain"]);
    let dirty = match (&revision, &status) {
        (Some(_), Some(status)) => {
            if status.is_empty() {
                "false"
            } else {
                "true"
            }
        }
        _ => "unknown",
    };
    set("LATFLOW_GIT_REVISION", revision.as_deref().unwrap_or("unknown"));
    set("LATFLOW_GIT_DIRTY", dirty);
    set(
        "LATFLOW_RUSTC",
        &output(&std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()), &["--version"])
            .unwrap_or_default(),
    );
    set("LATFLOW_PROFILE", &std::env::var("PROFILE").unwrap_or_default());
    set("LATFLOW_TARGET", &std::env::var("TARGET").unwrap_or_default());
    set("LATFLOW_DEPENDENCIES", &locked_versions(&["candle-core", "nalgebra", "rand_xoshiro"]));

    // A commit or an edit changes what the binary is built from.
    for watched in ["build.rs", "../../.git/HEAD", "../../.git/refs/heads", "../../Cargo.lock", ".."] {
        if Path::new(watched).exists() {
            println!("cargo:rerun-if-changed={watched}");
        }
    }
}

fn set(name: &str, value: &str) {
    println!("cargo:rustc-env={name}={value}");
}

fn git(arguments: &[&str]) -> Option<String> {
    output("git", arguments)
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `name version` pairs from the lock file, separated by commas.
fn locked_versions(names: &[&str]) -> String {
    let lock = std::fs::read_to_string("../../Cargo.lock").unwrap_or_default();
    let version = |name: &str| {
        let entry = lock.split(&format!("name = \"{name}\"\nversion = \"")).nth(1)?;
        entry.split('"').next().map(|version| format!("{name} {version}"))
    };
    names.iter().filter_map(|name| version(name)).collect::<Vec<_>>().join(", ")
}
