//! HMC, training and sampling from the command line on a small lattice: two exact samplers of one density must agree.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{decimation_workspace, succeed, text, workspace};
use serde_json::Value;

fn results(run: &Path) -> Value {
    let text = fs::read_to_string(run.join("results.json")).expect("results");
    let results: Value = serde_json::from_str(&text).expect("JSON");
    let runs = results["runs"].as_array().expect("a list of runs");
    assert_eq!(runs.len(), 1);
    let mut keys: Vec<&String> = runs[0].as_object().expect("an object").keys().collect();
    keys.sort();
    let schema = [
        "acceptance",
        "ess",
        "model",
        "observables",
        "parameters",
        "scheme",
        "seconds",
        "theory",
        "training_samples",
    ];
    assert_eq!(keys, schema);
    runs[0].clone()
}

/// Differences in units of the combined error; three of them below 4.5 have a false alarm rate of 2·10⁻⁵.
#[test]
fn hmc_and_flow_agree() {
    let (folder, config) = workspace();
    let path = |name: &str| folder.path().join(name);
    let (hmc, train, sample) = (path("hmc"), path("train"), path("sample"));
    succeed(&["hmc", text(&config), "--out", text(&hmc)]);
    succeed(&["train", text(&config), "--out", text(&train)]);
    succeed(&["sample", text(&config), "--out", text(&sample), "--model", text(&train)]);
    let (hmc, flow) = (results(&hmc), results(&sample));
    assert!(hmc["acceptance"].as_f64().expect("a number") > 0.6, "{hmc}");
    assert!(flow["acceptance"].as_f64().expect("a number") > 0.3, "{flow}");
    assert!(flow["ess"].as_f64().expect("a number") > 0.1, "{flow}");
    for name in ["abs_magnetization", "abs_condensate", "phi2"] {
        let number = |run: &Value, key: &str| run["observables"][name][key].as_f64().expect("a number");
        let difference = number(&hmc, "mean") - number(&flow, "mean");
        let z = difference / number(&hmc, "error").hypot(number(&flow, "error"));
        assert!(z.abs() < 4.5, "{name}: z = {z:.2}\n{hmc}\n{flow}");
        assert!(number(&hmc, "tau_int") >= 0.4 && number(&flow, "tau_int") >= 0.4);
    }
    // The reweighted means of the same samples are a third estimate.
    let analysis = fs::read_to_string(sample.join("analysis.json")).expect("analysis");
    let analysis: Value = serde_json::from_str(&analysis).expect("JSON");
    let reweighted = &analysis["details"]["reweighted"]["phi2"];
    let (mean, error) =
        (reweighted[0].as_f64().expect("a number"), reweighted[1].as_f64().expect("a number"));
    let phi2 = &hmc["observables"]["phi2"];
    let z = (mean - phi2["mean"].as_f64().expect("a number"))
        / error.hypot(phi2["error"].as_f64().expect("a number"));
    assert!(z.abs() < 4.5, "reweighting: z = {z:.2}");
}

/// Every scheme samples the same density, and those that can say agree on its partition function.
#[test]
fn all_schemes_agree() {
    let (folder, config) = decimation_workspace();
    let folder = folder.path();
    let begin = |command: &str, name: &str, sets: &[&str], model: Option<&str>| -> PathBuf {
        let out = folder.join(name);
        let mut arguments = vec![command, text(&config), "--out", text(&out), "--set", "sample.batch=1000"];
        arguments.extend(sets.iter().flat_map(|set| ["--set", set]));
        let model = model.map(|model| folder.join(model));
        if let Some(model) = &model {
            arguments.extend(["--model", text(model)]);
        }
        succeed(&arguments);
        out
    };
    begin("train", "marginal", &["train.steps=60"], None);
    let reference = results(&begin("sample", "reference", &["sample.steps=4000"], Some("marginal")));
    let reference_log_z = detail(&folder.join("reference"), "log_z").expect("log Z");

    let couplings = "kind={ couplings = { layers = 4, convs = 2, channels = 4, sigma = 0.6 } }";
    let (restricted, coupled) = (format!("model.gibbs.{couplings}"), format!("model.joint.{couplings}"));
    let linear =
        "model.conditional.kind={ linear = { operators = 16, convs = 2, channels = 4, penalty = 1e-5 } }";
    let full = "action.yukawa.even_odd=false";
    let second = "model.conditional.kind={ exponential = { order = 2 } }";
    let total = "train.estimator=total";
    let (gibbs, joint) = ("model.scheme=gibbs", "model.scheme=joint");
    let autoregressive = "model.scheme=autoregressive";
    begin("train", "gibbs", &[gibbs, "train.steps=20"], Some("marginal"));
    begin("train", "joint", &[joint, "train.steps=20"], Some("marginal"));
    begin("train", "restricted", &[gibbs, &restricted, total], None);
    begin("train", "coupled", &[joint, &coupled, total], None);
    begin("train", "linear", &[autoregressive, linear, full, total, "train.steps=120"], Some("marginal"));

    let (hmc, langevin) = ("sample.method=prior_hmc", "sample.method=prior_langevin");
    let refreshment = "sample.method=prior_refreshment";
    let pseudo = "sample.method=pseudo_marginal";
    // Steps of these are taken one by one.
    let short = "sample.steps=500";
    let schemes: &[(&str, &str, &[&str], &str)] = &[
        ("pseudo_marginal", "marginal", &[pseudo], "decimation + exponential"),
        ("prior_refreshment", "marginal", &[refreshment, "sample.angle=1.0"], "decimation"),
        ("prior_hmc", "marginal", &[hmc, "sample.steps=300"], "decimation"),
        ("prior_langevin", "marginal", &[langevin, "sample.step_size=0.8", short], "decimation"),
        ("autoregressive", "marginal", &[autoregressive], "decimation + exponential"),
        ("autoregressive", "marginal", &[autoregressive, full, second], "decimation + exponential"),
        ("autoregressive", "linear", &[autoregressive, full, linear, total], "decimation + linear"),
        ("gibbs", "gibbs", &[gibbs, short], "decimation"),
        ("gibbs", "restricted", &[gibbs, &restricted, short], "couplings (convolutions)"),
        ("joint", "joint", &[joint], "decimation + exponential"),
        ("joint", "coupled", &[joint, &coupled], "couplings (convolutions)"),
    ];
    for (index, (scheme, model, sets, name)) in schemes.iter().enumerate() {
        let run = begin("sample", &format!("sample-{index}"), sets, Some(model));
        let found = results(&run);
        assert_eq!((&found["scheme"], &found["model"]), (&Value::from(*scheme), &Value::from(*name)));
        assert!(found["acceptance"].as_f64().expect("a number") > 0.2, "{found}");
        assert!(found["training_samples"].as_u64().expect("a number") >= 60 * 64, "{found}");
        for observable in ["abs_magnetization", "abs_condensate", "phi2"] {
            let number = |run: &Value, key: &str| run["observables"][observable][key].as_f64();
            let difference = number(&found, "mean").zip(number(&reference, "mean")).map(|(a, b)| a - b);
            let error = number(&found, "error").zip(number(&reference, "error")).map(|(a, b)| a.hypot(b));
            let (difference, error) = (difference.expect("means"), error.expect("errors"));
            assert!((difference / error).abs() < 4.5, "{scheme} {name}: {observable} {}", difference / error);
        }
        let independent = !matches!(*scheme, "gibbs" | "prior_refreshment" | "prior_hmc" | "prior_langevin");
        assert_eq!(found["ess"].is_number(), independent, "{found}");
        let log_z = detail(&run, "log_z");
        assert_eq!(log_z.is_some(), independent, "{scheme}");
        if let Some((value, error)) = log_z {
            let z = (value - reference_log_z.0) / error.hypot(reference_log_z.1);
            assert!(z.abs() < 4.5, "{scheme} {name}: log Z {z:.2}");
        }
    }
}

/// A flow so bad that one sample carries all the weight is a finding, not a failure.
#[test]
fn a_hopeless_flow_has_results() {
    let (folder, config) = workspace();
    let (train, sample) = (folder.path().join("train"), folder.path().join("sample"));
    let layers = "model.marginal.layers=[{ affine_coupling = { count = 1, convs = 1 } }]";
    let wide = "model.marginal.prior.gaussian.sigma=30";
    let sets = ["--set", layers, "--set", wide, "--set", "train.steps=1"];
    succeed(&[&["train", text(&config), "--out", text(&train)], &sets[..]].concat());
    let arguments = ["sample", text(&config), "--out", text(&sample), "--model", text(&train)];
    succeed(&[&arguments[..], &sets[..]].concat());
    for run in [&train, &sample] {
        assert!(results(run)["ess"].as_f64().expect("a number") < 0.01);
        assert!(detail(run, "log_z").is_none());
    }
    assert!(results(&train)["acceptance"].is_null());
}

/// `[value, error]` in the details of a run.
fn detail(run: &Path, name: &str) -> Option<(f64, f64)> {
    let analysis = fs::read_to_string(run.join("analysis.json")).expect("analysis");
    let analysis: Value = serde_json::from_str(&analysis).expect("JSON");
    let pair = analysis["details"].get(name)?;
    Some((pair[0].as_f64()?, pair[1].as_f64()?))
}

/// HMC treats the fermions in three exact ways.
#[test]
fn pseudofermions_and_determinant_agree() {
    let (folder, config) = workspace();
    let means: Vec<(f64, f64)> = ["pseudofermion", "determinant"]
        .iter()
        .map(|fermions| {
            let out = folder.path().join(fermions);
            let set = format!("hmc.fermions={fermions}");
            succeed(&["hmc", text(&config), "--out", text(&out), "--set", &set]);
            let observables = &results(&out)["observables"]["abs_condensate"];
            (
                observables["mean"].as_f64().expect("a number"),
                observables["error"].as_f64().expect("a number"),
            )
        })
        .collect();
    let z = (means[0].0 - means[1].0) / means[0].1.hypot(means[1].1);
    assert!(z.abs() < 4.5, "{means:?}: z = {z:.2}");
}
