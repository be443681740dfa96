//! Weights of configurations that a gauge flow draws, from the command line: the action, the determinant and its estimates,
//! the density of the flow.

use std::fs;
use std::path::{Path, PathBuf};

use latflow::io::read_npy;
use serde_json::Value;

use crate::common::{succeed, text};
use crate::inputs::refused;

const SMALL: &str = "\
seed = 21
[lattice]
dims = [4, 4, 4, 4]
[action.qcd]
beta = 1.0
kappa = 0.15
n_f = 2
[hmc]
method = \"flow\"
chains = 4
trajectories = 2
thermalization = 0
target_acceptance = 0.0
[flow]
kind = \"haar\"
[measure]
pion_every = 0
flow_every = 0
";

fn workspace() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("flow.toml");
    fs::write(&config, SMALL).expect("the configuration is written");
    (folder, config)
}

/// Runs `latflow hmc` with settings; where its results are.
fn drawn(folder: &Path, config: &Path, name: &str, settings: &[&str]) -> PathBuf {
    let out = folder.join(name);
    let sets = settings.iter().flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> = ["hmc", text(config), "--out", text(&out)].into_iter().chain(sets).collect();
    succeed(&arguments);
    out
}

fn json(run: &Path, file: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(run.join(file)).expect("a file")).expect("JSON")
}

fn column(run: &Path, name: &str) -> Vec<f64> {
    read_npy(&run.join(format!("chains/{name}.npy")), None).expect("a chain").data
}

fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n * (n - 1.0))).sqrt())
}

/// Plaquettes of 4⁴.
const PLAQUETTES: f64 = 6.0 * 256.0;

/// The mean of the weights over draws is the determinant, normalisation included; that of their logarithms is less by half the
/// variance of one draw, which is about 1 at κ = 0.15. The weight of Haar-distributed links without quarks is e^{−S_g}.
#[test]
fn weights_of_draws_average_to_the_determinant() {
    let (folder, config) = workspace();
    let run = drawn(folder.path(), &config, "haar", &["flow.draws=[1, 256]"]);
    let exact = column(&run, "log_weight");
    let differences = |name: &str| -> Vec<f64> {
        column(&run, name).iter().zip(&exact).map(|(drawn, exact)| drawn - exact).collect()
    };
    let (one, many) = (differences("log_weight_1"), differences("log_weight_256"));
    let (mean, error) = mean_and_error(&many.iter().map(|d| d.exp()).collect::<Vec<_>>());
    // Eight configurations: |t| > 7 has a probability of 2·10⁻⁴.
    assert!(((mean - 1.0) / error).abs() < 7.0 && error < 0.1, "{mean} ± {error}: {many:?}");
    let noise = one.iter().map(|d| d * d).sum::<f64>() / one.len() as f64;
    assert!((0.2..3.0).contains(&noise), "one draw is too good, or too bad, to tell: {one:?}");
    // Each configuration has its own determinant: χ² of 8 degrees of freedom exceeds 30 with probability 2·10⁻⁴.
    let chi2 = many.iter().map(|d| d * d).sum::<f64>() / (noise.exp_m1() / 256.0);
    assert!(chi2 < 30.0, "χ² = {chi2:.1}: {many:?}");
    let rows = json(&run, "results.json")["runs"].clone();
    let draws: Vec<Option<u64>> =
        rows.as_array().expect("rows").iter().map(|row| row["draws"].as_u64()).collect();
    assert_eq!(draws, [Some(0), Some(1), Some(256)]);

    let quenched = drawn(folder.path(), &config, "quenched", &["action.qcd.n_f=0", "flow.exact=false"]);
    for (weight, plaquette) in column(&quenched, "log_weight").iter().zip(column(&quenched, "plaquette")) {
        assert!((weight - PLAQUETTES * plaquette).abs() < 1e-9, "{weight} {plaquette}");
    }
    assert_eq!(json(&quenched, "results.json")["runs"][0]["draws"], 0);
}

/// log λ_0(β) of [`PLAQUETTES`], λ_0 = ∫dU e^{(β/3) Re tr U} from the eigenvalues e^{ia}, e^{ib}, e^{−i(a+b)}.
fn log_plaquette(beta: f64) -> f64 {
    let n = 60;
    let angle = |k: usize| std::f64::consts::TAU * k as f64 / f64::from(n);
    let mut sum = 0.0;
    for (a, b) in (0..n * n).map(|k| (angle((k / n) as usize), angle((k % n) as usize))) {
        let c = -a - b;
        let gap = |x: f64, y: f64| 2.0 - 2.0 * (x - y).cos();
        let re_trace = a.cos() + b.cos() + c.cos();
        sum += gap(a, b) * gap(b, c) * gap(c, a) * (beta / 3.0 * re_trace).exp() / f64::from(6 * n * n);
    }
    sum.ln()
}

/// log Z of the pure gauge theory from the weights of a flow, alone and with heat bath on its way. At β = 1 plaquettes are nearly
/// independent: cubes add 1024 · 2 (β/18)⁶ · 9 or less, 10⁻³.
#[test]
fn weights_of_flows_have_the_partition_function_of_the_gauge_theory() {
    let (folder, config) = workspace();
    let expected = PLAQUETTES * log_plaquette(1.0);
    let flow = [
        "action.qcd.n_f=0",
        "flow.kind=loops",
        "flow.intervals=2",
        "flow.tolerance=0.02",
        "flow.fit_batches=4",
        "flow.fit_batch=16",
        "hmc.chains=16",
    ];
    for (name, scheme, more) in
        [("flow", "flow", "flow.sweeps=0"), ("annealed", "annealed_flow", "flow.sweeps=1")]
    {
        let run = drawn(folder.path(), &config, name, &[&flow[..], &[more]].concat());
        assert_eq!(json(&run, "results.json")["runs"][0]["scheme"], scheme);
        let (mean, error) = mean_and_error(
            &column(&run, "log_weight").iter().map(|w| (w - expected).exp()).collect::<Vec<_>>(),
        );
        assert!(((mean - 1.0) / error).abs() < 5.0 && error < 0.15, "{name}: {mean} ± {error}");
    }
}

/// A configuration whose weight cannot be found must not be replaced by another one.
#[test]
fn a_weight_that_cannot_be_found_ends_the_run() {
    let (folder, config) = workspace();
    let out = folder.path().join("out");
    let sets = ["flow.exact=false", "flow.draws=[1]", "hmc.solver_iterations=1"];
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> = ["hmc", text(&config), "--out", text(&out)].into_iter().chain(sets).collect();
    refused(&arguments, &["the solver stopped after 1 iterations"]);
}

/// There is one force through a flow, and what would divide it is not left out silently.
#[test]
fn what_hmc_through_a_flow_cannot_do_is_refused() {
    let (folder, config) = workspace();
    let out = folder.path().join("out");
    for divided in ["action.qcd.hasenbusch=0.05", "hmc.substeps=[2]"] {
        let sets = ["hmc.method=transformed", "flow.kind=loops", divided];
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let arguments: Vec<&str> =
            ["hmc", text(&config), "--out", text(&out)].into_iter().chain(sets).collect();
        refused(&arguments, &["hmc.method", "one force through the flow"]);
    }
}
