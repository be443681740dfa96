//! `cargo xtask bench`: criterion benches, saved as or compared with a baseline.

use crate::process::{Outcome, cargo, run};

/// Runs the benches of the package `latflow-benches` in the release profile.
pub(crate) fn bench(arguments: &[String]) -> Outcome {
    let mut command = cargo(&["bench", "--package", "latflow-benches", "--benches", "--"]);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let baseline = match argument.as_str() {
            "--save" => "--save-baseline",
            "--compare" => "--baseline",
            flag if flag.starts_with('-') => {
                return Err(format!(
                    "`cargo xtask bench`: unexpected argument '{flag}' (allowed: --save, --compare, FILTER)"
                ));
            }
            filter => {
                command.arg(filter);
                continue;
            }
        };
        let name = rest.next().ok_or_else(|| format!("`cargo xtask bench`: {argument} needs a name"))?;
        command.args([baseline, name]);
    }
    run(&mut command)
}
