//! τ_int and errors against two independent Python packages, emcee (Madras–Sokal) and pyerrors (Gamma method).
//!
//! Runs if LATFLOW_PYTHON names an interpreter that can import both (`pip install pyerrors emcee`), and says so
//! otherwise. emcee counts τ = 1 + 2Σρ, twice ours, so that its window c = 5 is our c = 10; it normalises Γ(t) by 1/N
//! where [YUK (51)] has 1/(N − t), a relative difference of at most W/N. pyerrors and we correct the bias of Γ(0), −C/N =
//! −2τΓ(0)/N, differently, Γ(0)(1 + 1/N) and Γ(0) + C/N, so that τ differs by a relative 2τ/N, and it computes the error of
//! τ before the correction 1 + (2W + 1)/N; the error of the mean is the same. With several replicas it subtracts the mean
//! of each one, which lowers C by about (2W + 1)/N of itself with the N of one replica; we subtract the common mean.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "statistics/series.rs"]
mod series;

use std::io::Write as _;
use std::process::Command;

use latflow_observable::{Chains, gamma_method, madras_sokal};

const SCRIPT: &str = r#"
import sys, numpy, emcee, pyerrors
data = numpy.loadtxt(sys.argv[1], ndmin=2)
# emcee: (steps, walkers); one walker at a time, as our average over chains.
print(numpy.mean([emcee.autocorr.integrated_time(c[:, None], c=5)[0] / 2 for c in data]))
obs = pyerrors.Obs(list(data), [f"chain|r{k}" for k in range(len(data))])
obs.gamma_method(S=2.0)
for x in (obs.value, obs.dvalue, obs.ddvalue, obs.e_tauint["chain"], obs.e_dtauint["chain"], obs.e_windowsize["chain"]):
    print(float(x))
"#;

#[test]
fn python_packages_agree() {
    let Some(python) = std::env::var_os("LATFLOW_PYTHON") else {
        eprintln!("skipped: set LATFLOW_PYTHON to a Python interpreter with pyerrors and emcee");
        return;
    };
    for (i, (a, n_chains, length)) in
        [(0.8, 1, 20_000), (0.5, 1, 5000), (0.8, 4, 20_000)].into_iter().enumerate()
    {
        let chains = series::ar1(a, n_chains, length, &mut series::rng("python", i as u64));
        let theirs = ask(&python, &chains);
        let [emcee_tau, mean, error, error_of_error, tau, tau_error, window] = theirs[..] else {
            panic!("the script printed {theirs:?}");
        };
        let ms = madras_sokal(&chains, 10.0).unwrap();
        let gamma = gamma_method(&chains, 2.0).unwrap();
        eprintln!("AR(1) a = {a}, {n_chains} × {length}: exact τ = {}", (1.0 + a) / (2.0 * (1.0 - a)));
        eprintln!("  τ, c = 10:   ours {:.8}  emcee {emcee_tau:.8}", ms.tau_int.value);
        eprintln!(
            "  τ, Gamma:    ours {:.8}({:.8})  pyerrors {tau:.8}({tau_error:.8})",
            gamma.tau_int.value, gamma.tau_int.error
        );
        eprintln!(
            "  mean, Gamma: ours {:.8}({:.8})  pyerrors {mean:.8}({error:.8})",
            gamma.mean.value, gamma.mean.error
        );
        eprintln!("  window:      ours {}  pyerrors {window}", gamma.window);

        let edge = 2.0 * ms.window as f64 / length as f64;
        let n = chains.n() as f64;
        let replicas = if n_chains == 1 { 1e-9 } else { 2.0 * (2.0 * window + 1.0) / length as f64 };
        let (of_tau, of_window) = (2.0 * tau / n + replicas, (2.0 * window + 1.0) / n + replicas);
        for (what, ours, theirs, tolerance) in [
            ("emcee τ", ms.tau_int.value, emcee_tau, edge),
            ("mean", gamma.mean.value, mean, 1e-11),
            ("error", gamma.mean.error, error, replicas),
            ("error of the error", gamma.error_of_error, error_of_error, replicas),
            ("τ", gamma.tau_int.value, tau, of_tau),
            ("error of τ", gamma.tau_int.error, tau_error, of_window),
            ("window", gamma.window as f64, window, 0.0),
        ] {
            assert!(
                (ours - theirs).abs() <= tolerance * theirs.abs(),
                "a = {a}: {what}: ours {ours}, theirs {theirs}"
            );
        }
    }
}

fn ask(python: &std::ffi::OsStr, chains: &Chains) -> Vec<f64> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for chain in chains.iter() {
        let row: Vec<String> = chain.iter().map(f64::to_string).collect();
        writeln!(file, "{}", row.join(" ")).unwrap();
    }
    file.flush().unwrap();
    let output = Command::new(python).arg("-c").arg(SCRIPT).arg(file.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "the script failed: {}", String::from_utf8_lossy(&output.stderr));
    text.lines().map(|line| line.trim().parse().unwrap()).collect()
}
