//! HMC, training and sampling from the command line on a small lattice: two exact samplers of one density must agree.

use std::fs;
use std::path::Path;

use crate::common::{succeed, text, workspace};
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
