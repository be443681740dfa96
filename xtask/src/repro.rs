//! `cargo xtask repro-yukawa` and `repro-qcd`: build the binary, hand over to it.
//!
//! The flags are checked here already, so that a typing error does not wait for the build. On Unix this process *becomes*
//! the run: Ctrl-C reaches one program, and its exit status is the command's.

use std::process::Command;

use crate::flags::{self, Flag};
use crate::process::{Outcome, cargo, root, run};

/// A reproduction, as it is called here and in the binary, and what it may be told.
struct Reproduction {
    command: &'static str,
    flags: &'static [Flag],
    switches: &'static [&'static str],
}

const YUKAWA: Reproduction =
    Reproduction { command: "repro-yukawa", flags: YUKAWA_FLAGS, switches: &["--train", "--force", "--dev"] };

const QCD: Reproduction =
    Reproduction { command: "repro-qcd", flags: QCD_FLAGS, switches: &["--force", "--train", "--dev"] };

const QCD_FLAGS: &[Flag] = &[
    Flag { name: "--scale", allowed: &["smoke", "desk", "paper"] },
    Flag { name: "--scheme", allowed: &["hmc", "flow", "all"] },
    Flag { name: "--out", allowed: &[] },
    Flag { name: "--resume", allowed: &[] },
    Flag { name: "--device", allowed: &[] },
];

const YUKAWA_FLAGS: &[Flag] = &[
    Flag { name: "--scale", allowed: &["smoke", "desk", "paper"] },
    Flag {
        name: "--scheme",
        allowed: &["hmc", "marginal", "pseudo_marginal", "gibbs", "autoregressive", "joint", "prior", "all"],
    },
    Flag { name: "--models", allowed: &["ours", "paper", "all"] },
    Flag { name: "--coupling", allowed: &["0.1", "0.3", "all"] },
    Flag { name: "--out", allowed: &[] },
    Flag { name: "--resume", allowed: &[] },
    Flag { name: "--device", allowed: &[] },
];

/// Starts `latflow repro-yukawa` with the same flags.
pub(crate) fn repro_yukawa(arguments: &[String]) -> Outcome {
    start(&YUKAWA, arguments)
}

/// Starts `latflow repro-qcd` with the same flags.
pub(crate) fn repro_qcd(arguments: &[String]) -> Outcome {
    start(&QCD, arguments)
}

fn start(reproduction: &Reproduction, arguments: &[String]) -> Outcome {
    let Reproduction { command: name, flags, switches } = *reproduction;
    let (pairs, switches) = flags::parse(name, arguments, flags, switches)?;
    let mut features = None;
    for (flag, value) in &pairs {
        if *flag == "--device" {
            features = check_device(name, value)?;
        }
    }
    let resumed = pairs.iter().any(|(name, _)| *name == "--resume");
    let changed = pairs.iter().map(|(name, _)| *name).chain(switches.iter().copied());
    let mut changed = changed.filter(|name| !["--resume", "--dev"].contains(name));
    if let (true, Some(flag)) = (resumed, changed.next()) {
        return Err(format!(
            "`cargo xtask {name}`: --resume continues a run as it was started; it does not go with {flag}"
        ));
    }

    let mut command = cargo(&["run", "--package", "latflow", "--bin", "latflow"]);
    // Paths on the command line are the user's, so the run starts where the user is.
    if let Ok(here) = std::env::current_dir() {
        command.current_dir(here);
    }
    command.arg("--manifest-path").arg(root().join("Cargo.toml"));
    if !switches.contains(&"--dev") {
        command.arg("--release");
    }
    command.args(features.map(|feature| ["--features", feature]).into_iter().flatten());
    command.args(["--", name]);
    for (flag, value) in pairs {
        command.args([flag, value]);
    }
    command.args(switches.iter().filter(|switch| **switch != "--dev"));
    become_process(&mut command)
}

/// The smoke runs of continuous integration, with the binary that the tests have built already.
pub(crate) fn smoke() -> Outcome {
    // Half of it is enough to see whether everything works together; the paper's flows are slow without optimisation.
    smoke_run(&YUKAWA, &["--coupling", "0.1", "--models", "ours"])?;
    smoke_run(&QCD, &[])
}

fn smoke_run(reproduction: &Reproduction, part: &[&str]) -> Outcome {
    let name = reproduction.command;
    let out = std::env::temp_dir().join(format!("latflow-smoke-{name}-{}", std::process::id()));
    let mut command = cargo(&["run", "--quiet", "--package", "latflow", "--bin", "latflow", "--"]);
    command.args([name, "--scale", "smoke"]).args(part).arg("--out").arg(&out);
    let outcome = run(&mut command);
    // Left in place after a failure: the run directory is the evidence.
    if outcome.is_ok() {
        std::fs::remove_dir_all(&out).map_err(|error| format!("cannot remove {}: {error}", out.display()))?;
    }
    outcome
}

/// The cargo feature a device needs.
fn check_device(command: &str, device: &str) -> Outcome<Option<&'static str>> {
    match device.split_once(':') {
        None if device == "cpu" => Ok(None),
        Some(("cuda", ordinal)) if ordinal.parse::<usize>().is_ok() => Ok(Some("cuda")),
        _ => {
            Err(format!("`cargo xtask {command}`: --device '{device}' is not one of cpu, cuda:0, cuda:1, …"))
        }
    }
}

#[cfg(unix)]
fn become_process(command: &mut Command) -> Outcome {
    use std::os::unix::process::CommandExt;
    Err(format!("cannot start cargo: {}", command.exec()))
}

#[cfg(not(unix))]
fn become_process(command: &mut Command) -> Outcome {
    let status = command.status().map_err(|error| format!("cannot start cargo: {error}"))?;
    std::process::exit(status.code().unwrap_or(1))
}
