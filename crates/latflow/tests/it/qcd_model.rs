//! Trained flows of links from the command line: two stages of training, sampling with all weights, HMC through a flow.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{run, succeed, text};

/// A few couplings, hardly trained: what they lack costs weights, and nothing else.
const TINY: &str = "\
seed = 12
[lattice]
dims = [4, 4, 4, 4]
[action.qcd]
beta = 1.0
kappa = 0.1
n_f = 2
[hmc]
method = \"flow\"
chains = 8
trajectories = 4
thermalization = 0
target_acceptance = 0.0
[flow]
kind = \"model\"
draws = [1, 3]
exact = false
[measure]
pion_every = 0
flow_every = 0
[model]
scheme = \"gauge\"
[model.gauge]
layers = 2
channels = [2]
bins = 3
[model.ptcn]
layers = 3
depth = 1
copies = 1
channels = [2]
head_kernel = 1
start = \"hopping\"
[train]
batch = 4
steps = 12
lr = [[0, 2e-3]]
estimator = \"total\"
gradient = \"stochastic\"
shift = 1e-4
evaluation = 8
log_every = 4
checkpoint_every = 2
";

fn workspace() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("tiny.toml");
    fs::write(&config, TINY).expect("the configuration is written");
    (folder, config)
}

fn json(file: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(file).expect("a file")).expect("JSON")
}

/// What a command says that must not succeed.
fn fail(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const SECOND: [&str; 2] = ["--set", "model.scheme=gauge_pseudofermion"];

#[test]
fn two_stages_of_training_and_all_weights() {
    let (folder, config) = workspace();
    let at = |name: &str| folder.path().join(name);
    let (links, both) = (at("links"), at("both"));
    succeed(&["train", text(&config), "--out", text(&links)]);
    let train = [&["train", text(&config), "--out", text(&both)][..], &SECOND].concat();
    let refused = fail(&train);
    assert!(refused.contains("trained after the marginal flow"), "{refused}");
    succeed(&[&train[..], &["--model", text(&links)]].concat());
    let card = json(&both.join("analysis.json"));
    assert_eq!(card["details"]["new_samples"], 12 * 4, "{card}");

    // The weights of both stages serve either scheme; the second has draws of its own.
    let sample = |name: &str, settings: &[&str]| -> Vec<Value> {
        let out = at(name);
        let common = ["sample", text(&config), "--out", text(&out), "--model", text(&both)];
        succeed(&[&common[..], settings].concat());
        json(&out.join("results.json"))["runs"].as_array().expect("rows").clone()
    };
    let alone = sample("alone", &[]);
    let with = sample("with", &SECOND);
    for rows in [&alone, &with] {
        let mut draws: Vec<u64> = rows.iter().map(|row| row["draws"].as_u64().expect("draws")).collect();
        draws.sort_unstable();
        assert_eq!(draws, [1, 3], "{rows:?}");
        assert_eq!(rows[0]["scheme"], "spectral_flow");
    }
    // The same links, with pseudofermions of another density.
    let variance = |name: &str| json(&at(name).join("analysis.json"))["details"]["model"].clone();
    assert_eq!(variance("alone"), "2 spectral couplings");
    assert_eq!(variance("with"), "2 spectral couplings + 3 parallel-transport couplings");

    let other = fail(&[
        "sample",
        text(&config),
        "--out",
        text(&at("other")),
        "--model",
        text(&both),
        "--set",
        "model.gauge.bins=4",
    ]);
    assert!(other.contains("another [model.gauge]"), "{other}");
    let unweighted = fail(&["hmc", text(&config), "--out", text(&at("unweighted"))]);
    assert!(unweighted.contains("latflow sample"), "{unweighted}");
}

#[cfg(unix)]
#[test]
fn killed_trainings_of_links_continue_bit_by_bit() {
    let (folder, config) = workspace();
    let longer = ["--set", "train.steps=40", "--set", "train.log_every=1"];
    crate::resume::named_killed_runs_agree("train", "train", &longer, &[3, 15], folder.path(), &config);
}

/// Trajectories of V and of U = f(V) sample the same theory, for a flow of couplings and for one of loops.
#[test]
fn hybrid_monte_carlo_through_a_flow_samples_the_theory() {
    let (folder, config) = workspace();
    let weights = folder.path().join("links");
    succeed(&["train", text(&config), "--out", text(&weights), "--set", "train.steps=40"]);
    let sampled = |command: &[&str], name: &str, settings: &[&str]| -> (f64, f64, f64) {
        let out = folder.path().join(name);
        let md = ["hmc.trajectory_length=1.0", "hmc.steps=4", "hmc.thermalization=10", "hmc.trajectories=60"];
        let quenched = ["action.qcd.n_f=0", "action.qcd.beta=3.0"];
        let sets = quenched.iter().chain(&md).chain(settings).flat_map(|set| ["--set", set]);
        let named = [command[0], text(&config), "--out", text(&out)];
        let arguments: Vec<&str> =
            named.into_iter().chain(command[1..].iter().copied()).chain(sets).collect();
        succeed(&arguments);
        let row = json(&out.join("results.json"))["runs"][0].clone();
        let of = |key: &str| row["observables"]["plaquette"][key].as_f64().unwrap_or(f64::NAN);
        (of("mean"), of("error"), row["acceptance"].as_f64().expect("a number"))
    };
    let plain = sampled(&["hmc"], "plain", &["hmc.method=hmc"]);
    let transformed = ["sample", "--model", text(&weights)];
    let couplings = sampled(&transformed, "couplings", &["hmc.method=transformed"]);
    let z = (plain.0 - couplings.0) / plain.1.hypot(couplings.1);
    assert!(z.abs() < 4.5, "{plain:?} {couplings:?}: z = {z:.2}");
    assert!(couplings.2 > 0.8, "{couplings:?}");
    let loops = [
        "hmc.method=transformed",
        "flow.kind=loops",
        "flow.intervals=1",
        "flow.tolerance=0.5",
        "flow.fit_batches=2",
        "flow.fit_batch=8",
        "hmc.chains=2",
        "hmc.thermalization=0",
        "hmc.trajectories=4",
    ];
    let loops = sampled(&["hmc"], "loops", &loops);
    assert!(loops.2 > 0.5, "{loops:?}");
}
