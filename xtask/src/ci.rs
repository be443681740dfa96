//! `cargo xtask ci` and its parts, ordered from cheap to expensive.
//!
//! Everything uses the dev profile, the smoke run included: a second profile would be a second build of the tensor library.

use crate::process::{Outcome, cargo, has_nextest, run, step};
use crate::{repro, tidy};

/// All checks; stops at the first that fails.
pub(crate) fn ci() -> Outcome {
    step("fmt", || run(&mut cargo(&["fmt", "--all", "--check"])))?;
    step("tidy", tidy::tidy)?;
    step("clippy", lint)?;
    step("tests", || unit_tests(false))?;
    step("doctests", documentation_tests)?;
    step("doc", document)?;
    step("smoke run", repro::smoke)
}

pub(crate) fn format() -> Outcome {
    run(&mut cargo(&["fmt", "--all"]))
}

/// Tests may unwrap, in their helpers too; nothing else may.
pub(crate) fn lint() -> Outcome {
    let shipped = ["clippy", "--workspace", "--lib", "--bins", "--benches", "--", "-D", "warnings"];
    run(&mut cargo(&shipped))?;
    let tests = ["clippy", "--workspace", "--tests", "--", "-D", "warnings", "-A", "clippy::unwrap_used"];
    run(&mut cargo(&tests))
}

pub(crate) fn test(slow: bool) -> Outcome {
    step("tests", || unit_tests(slow))?;
    step("doctests", documentation_tests)
}

pub(crate) fn document() -> Outcome {
    let mut command = cargo(&["doc", "--workspace", "--no-deps"]);
    run(command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// nextest where it is installed, `cargo test` otherwise: the same tests, either summary closes the log.
fn unit_tests(slow: bool) -> Outcome {
    let mut command = if has_nextest() {
        cargo(&["nextest", "run", "--workspace", "--no-tests", "pass"])
    } else {
        cargo(&["test", "--workspace", "--lib", "--bins", "--tests"])
    };
    if slow {
        command.env("RUN_SLOW_TESTS", "1");
    }
    run(&mut command)
}

fn documentation_tests() -> Outcome {
    run(&mut cargo(&["test", "--workspace", "--doc"]))
}
