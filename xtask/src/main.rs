//! The project's chores: `cargo xtask` lists them.
//!
//! Thin on purpose. It starts cargo and the `latflow` binary and reads text files; it links no tensor library, so that
//! everybody can run it seconds after cloning.

mod bench;
mod ci;
mod flags;
mod process;
mod repro;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  ci                 everything continuous integration runs: formatting, tidy, clippy, tests, docs, smoke run
  fmt                format the sources
  lint               clippy on every target, warnings are errors
  test [--slow]      unit, integration and documentation tests; --slow adds the tests that take more than 5 s
  doc                build the documentation, warnings are errors
  tidy               dependency graph, forbidden text, file sizes, equation ledger
  bench [--save NAME | --compare NAME] [FILTER]
                     criterion benches, optionally against a saved baseline
  repro-yukawa [--scale smoke|desk|paper] [--models ours|paper|all] [--coupling 0.1|0.3|all] [--train]
               [--scheme hmc|marginal|pseudo_marginal|gibbs|autoregressive|joint|prior|all]
               [--out DIR] [--resume DIR] [--force] [--device cpu|cuda:N] [--dev]
                     reproduce the tables and figures of the Yukawa paper with the weights that come with latflow;
                     --train trains them from scratch, --dev uses the unoptimised profile, as ci does
  repro-qcd [--scale smoke|desk|paper] [--scheme hmc|flow|all] [--train] [--out DIR] [--resume DIR] [--force] [--device cpu|cuda:N] [--dev]
                     reproduce the hybrid Monte Carlo of the QCD paper, with histograms of its four observables
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next();
    let rest: Vec<String> = arguments.collect();
    let outcome = match command.as_deref() {
        None | Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Some("ci") => flags::none("ci", &rest).and_then(|()| ci::ci()),
        Some("fmt") => flags::none("fmt", &rest).and_then(|()| ci::format()),
        Some("lint") => flags::none("lint", &rest).and_then(|()| ci::lint()),
        Some("test") => {
            flags::switches("test", &rest, &["--slow"]).and_then(|on| ci::test(on.contains(&"--slow")))
        }
        Some("doc") => flags::none("doc", &rest).and_then(|()| ci::document()),
        Some("tidy") => flags::none("tidy", &rest).and_then(|()| tidy::tidy()),
        Some("bench") => bench::bench(&rest),
        Some("repro-yukawa") => repro::repro_yukawa(&rest),
        Some("repro-qcd") => repro::repro_qcd(&rest),
        Some(other) => Err(format!("unknown command '{other}'\n\n{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
