//! QCD from the command line on a small lattice: three exact samplers of one density must agree; runs go on bit by bit; bad
//! configurations are refused.

use std::fs;
use std::path::{Path, PathBuf};

use latflow::config::{Config, Needs, Override, Theory, from_text};
use latflow::io::gauge::{ReadOptions, read_gauge};
use serde_json::Value;

use crate::common::{contents, succeed, text};
use crate::inputs::refused;

/// Strong coupling, and quarks light enough to be noticed.
const SMALL: &str = "\
seed = 11
[lattice]
dims = [2, 2, 2, 4]
[action.qcd]
beta = 2.0
kappa = 0.15
n_f = 2
[hmc]
chains = 8
trajectories = 200
thermalization = 20
trajectory_length = 1.0
steps = 5
target_acceptance = 0.0
checkpoint_every = 20
[measure]
pion_every = 10
flow_every = 50
flow_time = 0.2
";

pub(crate) fn workspace() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("qcd.toml");
    fs::write(&config, SMALL).expect("the configuration is written");
    (folder, config)
}

fn json(file: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(file).expect("a file")).expect("JSON")
}

/// Runs `latflow hmc` with settings; its only row of results.
fn sampled(config: &Path, out: &Path, settings: &[&str]) -> Value {
    let sets = settings.iter().flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> = ["hmc", text(config), "--out", text(out)].into_iter().chain(sets).collect();
    succeed(&arguments);
    json(&out.join("results.json"))["runs"][0].clone()
}

fn number(row: &Value, observable: &str, key: &str) -> f64 {
    row["observables"][observable][key].as_f64().expect("a number")
}

fn z(a: &Value, b: &Value, observable: &str) -> f64 {
    let difference = number(a, observable, "mean") - number(b, observable, "mean");
    difference / number(a, observable, "error").hypot(number(b, observable, "error"))
}

/// Pseudofermions of either operator, the exact determinant, and reweighted fields of the pure gauge theory.
#[test]
fn every_treatment_of_the_fermions_gives_the_same_means() {
    let (folder, config) = workspace();
    let at = |name: &str| folder.path().join(name);
    let reference = sampled(&config, &at("even_odd"), &[]);
    assert!(reference["acceptance"].as_f64().expect("a number") > 0.7, "{reference}");
    let parameters = &reference["parameters"];
    assert_eq!(
        (&parameters["beta"], &parameters["kappa"], &parameters["n_f"]),
        (&2.0.into(), &0.15.into(), &2.into())
    );
    let details = json(&at("even_odd").join("analysis.json"))["details"].clone();
    assert!(details["solver_iterations"].as_f64().expect("a number") > 5.0, "{details}");
    let exponential = &details["exp_minus_delta_h"];
    let (value, error) =
        (exponential[0].as_f64().expect("a mean"), exponential[1].as_f64().expect("an error"));
    assert!(((value - 1.0) / error).abs() < 4.5, "⟨e^(−ΔH)⟩ = {value} ± {error}");

    let bath = ["hmc.method=heat_bath", "hmc.overrelaxation=1", "hmc.trajectories=400"];
    let quenched = sampled(&config, &at("quenched"), &[&bath[..], &["action.qcd.n_f=0"]].concat());
    assert_eq!((&quenched["scheme"], quenched.get("draws")), (&"heat_bath".into(), None));
    // Two flavours are visible: the comparisons below mean something.
    assert!(z(&reference, &quenched, "plaquette") > 6.0, "{reference}\n{quenched}");

    let others: &[(&str, &str, &[&str])] = &[
        ("full", "hmc", &["action.qcd.even_odd=false"]),
        ("hasenbusch", "hmc", &["action.qcd.hasenbusch=0.1", "hmc.integrator=leapfrog", "hmc.steps=10"]),
        (
            "determinant",
            "hmc",
            &["hmc.fermions=determinant", "hmc.substeps=[2]", "hmc.steps=3", "hmc.trajectories=60"],
        ),
        ("reweighting", "reweighting", &bath),
    ];
    for (name, scheme, settings) in others {
        let row = sampled(&config, &at(name), settings);
        assert_eq!(row["scheme"], *scheme);
        let score = z(&row, &reference, "plaquette");
        assert!(score.abs() < 4.5, "{name}: z = {score:.2}\n{row}\n{reference}");
        if *scheme == "reweighting" {
            assert_eq!(row["draws"], 0);
            let ess = row["ess"].as_f64().expect("a number");
            assert!((0.005..1.0).contains(&ess), "{ess}");
            assert!(row["acceptance"].as_f64().expect("a number") > ess, "{row}");
        }
    }
}

#[test]
fn heat_bath_and_hmc_agree_in_the_pure_gauge_theory() {
    let (folder, config) = workspace();
    let pure = ["action.qcd.n_f=0", "action.qcd.beta=5.0", "hmc.start=cold", "hmc.thermalization=50"];
    let bath = ["hmc.method=heat_bath"];
    let hmc = sampled(&config, &folder.path().join("hmc"), &pure);
    let heat_bath = sampled(&config, &folder.path().join("bath"), &[&pure[..], &bath].concat());
    for observable in ["plaquette", "polyakov_loop_re"] {
        let score = z(&heat_bath, &hmc, observable);
        assert!(score.abs() < 4.5, "{observable}: z = {score:.2}\n{hmc}\n{heat_bath}");
    }
    assert!(heat_bath["acceptance"].is_null() && heat_bath["ess"].is_null(), "{heat_bath}");
}

/// What a run saves is what it has measured: links on the group, with the plaquette of its series.
#[test]
fn saved_configurations_are_those_of_the_run() {
    let (folder, config) = workspace();
    let out = folder.path().join("run");
    let short = ["hmc.trajectories=12", "hmc.thermalization=5", "hmc.measure_every=2", "hmc.save_every=3"];
    sampled(&config, &out, &short);
    let names: Vec<String> = contents(&out.join("configurations")).into_keys().collect();
    assert_eq!(names.len(), 2 * 8, "{names:?}");
    // Trajectories 2, 4, … after 5 are measured; the first and the fourth of them are saved.
    assert!(
        names.contains(&"chain0_000007.ildg".to_owned()) && names.contains(&"chain7_000013.ildg".to_owned())
    );
    let series = fs::read(out.join("chains/plaquette.npy")).expect("a series");
    let numbers = &series[series.len() - 8 * 6 * 8..];
    for (chain, step, k) in [(0, 7, 0), (7, 13, 3)] {
        let file = out.join(format!("configurations/chain{chain}_{step:06}.ildg"));
        let read = read_gauge(&file, &ReadOptions::default()).unwrap_or_else(|error| panic!("{error}"));
        assert!(read.warnings.is_empty(), "{:?}", read.warnings);
        let bytes = numbers[8 * (6 * chain + k)..][..8].try_into().expect("eight bytes");
        let (saved, measured) = (read.properties.plaquette, f64::from_le_bytes(bytes));
        assert!((saved - measured).abs() < 1e-13, "{saved} {measured}");
    }
}

#[cfg(unix)]
#[test]
fn killed_runs_continue_bit_by_bit() {
    use crate::resume::named_killed_runs_agree;
    let (folder, config) = workspace();
    let short = ["--set", "hmc.trajectories=100", "--set", "hmc.save_every=40"];
    let tuned = ["--set", "hmc.target_acceptance=0.8", "--set", "hmc.measure_every=3"];
    let hmc = [&short[..], &tuned].concat();
    named_killed_runs_agree("hmc", "hmc", &hmc, &[3, 25, 61], folder.path(), &config);
    let bath = [&short[..], &["--set", "hmc.method=heat_bath"]].concat();
    named_killed_runs_agree("bath", "hmc", &bath, &[3, 25, 61], folder.path(), &config);
}

fn read(text: &str, overrides: &[&str], needs: Needs) -> Result<Config, String> {
    let overrides: Vec<Override> = overrides.iter().map(|text| text.parse().expect("an override")).collect();
    from_text("run.toml", text, &overrides, needs).map_err(|error| error.to_string())
}

#[test]
fn a_complete_configuration_comes_back_exactly() {
    for overrides in [&["action.qcd.hasenbusch=0.08"][..], &["action.qcd.n_f=0"]] {
        let config = read(SMALL, overrides, Needs::Sampling).expect("a configuration");
        let again = read(&config.to_toml(), &[], Needs::Sampling).expect("it is complete");
        assert_eq!((&config, config.hash()), (&again, again.hash()));
    }
    let bare = "seed = 1\n[lattice]\ndims = [4, 4, 4, 4]\n[action.qcd]\nbeta = 1.0\nn_f = 0\n";
    let config = read(bare, &[], Needs::Sampling).expect("kappa is for quarks");
    let Theory::Qcd(action) = &read(&config.to_toml(), &[], Needs::Sampling).expect("complete").action else {
        panic!("{:?}", config.action)
    };
    assert_eq!((action.kappa, action.hasenbusch, action.even_odd), (None, None, true));
}

#[test]
fn bad_configurations_are_named() {
    let cases: &[(&str, &[&str])] = &[
        ("lattice.dims=[4, 4]", &["lattice.dims = [4, 4]", "2 directions", "four"]),
        ("lattice.dims=[4, 4, 4, 5]", &["lattice.dims", "5 is odd"]),
        ("action.qcd.beta=inf", &["action.qcd.beta = inf", "finite"]),
        ("action.qcd.bata=1", &["did you mean `beta`"]),
        ("action.qcd.n_f=1", &["action.qcd.n_f = 1", "0 (pure gauge theory) or 2"]),
        ("action.qcd.n_f=-2", &["action.qcd.n_f", "-2", "not negative"]),
        ("action.qcd.kappa=0.3", &["action.qcd.kappa = 0.3", "0 ≤ kappa < 0.25"]),
        ("action.qcd.kappa=-0.1", &["action.qcd.kappa = -0.1"]),
        ("action.qcd.hasenbusch=0.2", &["action.qcd.hasenbusch = 0.2", "hasenbusch < kappa"]),
        ("hmc.fermions=none", &["hmc.fermions = \"none\"", "action.qcd.n_f = 0"]),
        ("hmc.method=metropolis", &["hmc.method", "hmc, heat_bath"]),
        ("hmc.start=warm", &["hmc.start", "hot, cold"]),
        ("hmc.substeps=[2, 2]", &["hmc.substeps = [2, 2]", "one each"]),
        ("hmc.substeps=[0]", &["hmc.substeps = [0]"]),
        ("measure.flow_time=0", &["measure.flow_time = 0", "positive"]),
        ("measure.flow_tolerance=2", &["measure.flow_tolerance = 2"]),
        ("measure.pion=1", &["measure.pion", "unknown key", "pion_every"]),
    ];
    for (set, words) in cases {
        let error = read(SMALL, &[set], Needs::Sampling).expect_err(&format!("{set} must be refused"));
        for word in *words {
            assert!(error.contains(word), "{set}: expected `{word}` in\n{error}");
        }
    }
    let large = "lattice.dims=[8, 8, 8, 8]";
    for set in ["hmc.fermions=determinant", "hmc.method=heat_bath", "hmc.method=flow"] {
        let error = read(SMALL, &[large, set], Needs::Sampling).expect_err("too large");
        assert!(error.contains("exact determinant") && error.contains("2592"), "{error}");
    }
    let no_mass = SMALL.replace("kappa = 0.15\n", "");
    let error = read(&no_mass, &[], Needs::Sampling).expect_err("quarks have a mass");
    assert!(error.contains("action.qcd.kappa") && error.contains("missing"), "{error}");
    let yukawa = crate::common::SMALL;
    for (set, words) in [
        ("hmc.method=heat_bath", &["hmc.method", "links"][..]),
        ("hmc.save_every=1", &["hmc.save_every", "ILDG"]),
    ] {
        let error = read(yukawa, &[set], Needs::Sampling).expect_err("scalars have no links");
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}

/// Models of scalar fields are not those of links.
#[test]
fn models_of_scalar_fields_are_refused() {
    let (_folder, config) = workspace();
    for command in ["train", "sample"] {
        refused(
            &[command, text(&config)],
            &["qcd.toml", "model.scheme", "scalar fields", "gauge_pseudofermion"],
        );
    }
}
