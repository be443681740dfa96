//! Everything a run reports, on a lattice of two sites in time, where every expectation value is a two-dimensional integral.
//!
//! ```text
//! S_B = −4 φ_0 φ_1 + Σ [(m² + 2) φ² + λ φ⁴]             both neighbours of a site are the other one
//! D   = (  a   1 )    a = m_f + g φ_0, b = m_f + g φ_1   forward and backward hop add up, antiperiodic
//!       ( −1   b )    det D = ab + 1, positive for all fields that matter: no sector is out of reach
//! ```

use std::fs;
use std::path::Path;

use latflow_observable::{Chains, GAMMA_METHOD_S, MADRAS_SOKAL_C, gamma_method, madras_sokal};
use serde_json::Value;

use crate::common::{succeed, text};

const M2: f64 = 0.5;
const LAMBDA: f64 = 1.0;
const G: f64 = 0.6;
const MASS: f64 = 0.3;

fn config() -> String {
    format!(
        "seed = 3
[lattice]
dims = [2]
[action.yukawa]
m2 = {M2:?}
lambda = {LAMBDA:?}
g = {G:?}
fermion_mass = {MASS:?}
[hmc]
chains = 64
trajectories = 600
thermalization = 30
trajectory_length = 2.0
steps = 30
integrator = \"leapfrog\"
fermions = \"determinant\"
target_acceptance = 0.9
measure_every = 2
[model.marginal]
prior = {{ gaussian = {{ sigma = 0.7 }} }}
layers = [
  {{ exponential_convolution = {{ radius = 1 }} }},
  {{ affine_coupling = {{ count = 2, convs = 2, channels = 4, kernel = 1 }} }},
]
[train]
batch = 64
steps = 20
lr = [[0, 1e-2]]
[sample]
chains = 40
steps = 2000
thermalization = 40
batch = 2000
"
    )
}

/// log Z and expectation values by the trapezoidal rule.
struct Exact {
    log_z: f64,
    observables: [(&'static str, f64); 3],
    correlators: [(&'static str, [f64; 2]); 2],
    force_ratio: f64,
}

fn quadrature() -> Exact {
    let h = 0.01;
    let grid: Vec<f64> = (-400..=400).map(|i| f64::from(i) * h).collect();
    let mut z = 0.0;
    let mut sums = [0.0; 9];
    for &p in &grid {
        for &q in &grid {
            let (a, b) = (MASS + G * p, MASS + G * q);
            let det = a * b + 1.0;
            let local = |x: f64| (M2 + 2.0) * x * x + LAMBDA * x.powi(4);
            let w = det * det * (4.0 * p * q - local(p) - local(q)).exp() * h * h;
            let slope = |x: f64, y: f64| 2.0 * (M2 + 2.0) * x + 4.0 * LAMBDA * x.powi(3) - 4.0 * y;
            let values = [
                (p + q).abs() / 2.0,
                ((a + b) / (2.0 * det)).abs(),
                (p * p + q * q) / 2.0,
                (p * p + q * q) / 2.0,
                p * q,
                b / det,
                1.0 / det,
                slope(p, q).hypot(slope(q, p)),
                2.0 * G * (b / det).hypot(a / det),
            ];
            z += w;
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += w * value;
            }
        }
    }
    let [m, condensate, phi2, c0, c1, f0, f1, bosonic, fermionic] = sums.map(|sum| sum / z);
    Exact {
        log_z: z.ln(),
        observables: [("abs_magnetization", m), ("abs_condensate", condensate), ("phi2", phi2)],
        correlators: [("two_point", [c0, c1]), ("fermion_correlator", [f0, f1])],
        force_ratio: fermionic / bosonic,
    }
}

fn json(run: &Path, name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(run.join(name)).expect("a finished run")).expect("JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// |z| < 4.5 for about twenty numbers; correlators have some twenty blocks, for which 4.5 has probability 2·10⁻⁴.
fn agrees(what: &str, mean: &Value, error: &Value, exact: f64) {
    let (mean, error) = (number(mean), number(error));
    let z = (mean - exact) / error;
    assert!(
        z.abs() < 4.5 && error < 0.1 * exact.abs().max(0.1),
        "{what}: {mean} ± {error}, exact {exact}, z = {z:.2}"
    );
}

/// What all samplers have in common; `chains` of so many measurements each, with so many Markov steps between them.
fn check(run: &Path, exact: &Exact, [chains, measurements, every]: [usize; 3]) {
    let (n, interval) = (chains * measurements, every as f64);
    let (results, analysis) = (json(run, "results.json"), json(run, "analysis.json"));
    let observables = &results["runs"][0]["observables"];
    for (name, value) in exact.observables {
        let measured = &observables[name];
        agrees(name, &measured["mean"], &measured["error"], value);
        assert_eq!(measured["n"], n, "{name}: thermalization is not measured");
        // The chains on disk are the ones analysed; τ_int counts Markov steps, not measurements.
        let bytes = fs::read(run.join(format!("chains/{name}.npy"))).expect("chains");
        let data: Vec<f64> = bytes[bytes.len() - 8 * n..]
            .chunks_exact(8)
            .map(|x| f64::from_le_bytes(x.try_into().expect("eight bytes")))
            .collect();
        let series = Chains::new(data.chunks_exact(measurements).map(<[f64]>::to_vec).collect());
        let series = series.expect("finite");
        let window = madras_sokal(&series, MADRAS_SOKAL_C).expect("long enough").tau_int;
        let gamma = gamma_method(&series, GAMMA_METHOD_S).expect("long enough").tau_int;
        let both = &analysis["autocorrelation"][name];
        for (reported, tau) in [
            (&measured["tau_int"], window.value),
            (&both["madras_sokal"][0], window.value),
            (&both["madras_sokal"][1], window.error),
            (&both["gamma_method"][0], gamma.value),
            (&both["gamma_method"][1], gamma.error),
        ] {
            assert!((number(reported) / (tau * interval) - 1.0).abs() < 1e-9, "{name}: {reported}, {tau}");
        }
    }
    for (name, values) in exact.correlators {
        for (t, value) in values.into_iter().enumerate() {
            let measured = &analysis["correlators"][name][t];
            agrees(&format!("{name}({t})"), &measured[0], &measured[1], value);
        }
    }
}

#[test]
fn runs_report_the_two_site_integrals() {
    let exact = quadrature();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    let (config_file, hmc, train, sample) = (path("c.toml"), path("hmc"), path("train"), path("sample"));
    fs::write(&config_file, config()).expect("written");

    succeed(&["hmc", text(&config_file), "--out", text(&hmc)]);
    check(&hmc, &exact, [64, 300, 2]);
    let analysis = json(&hmc, "analysis.json");
    let ratio = number(&analysis["force_ratios"]["determinant"]);
    // Eight measurements of 64 chains: a few per cent.
    assert!((ratio / exact.force_ratio - 1.0).abs() < 0.2, "{ratio}, exact {}", exact.force_ratio);
    // Adapting after thermalization would break detailed balance.
    let metrics = fs::read_to_string(hmc.join("metrics.jsonl")).expect("metrics");
    let lines: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mut steps: Vec<&Value> =
        lines.iter().filter(|l| l["phase"] == "measurement").map(|l| &l["integrator_steps"]).collect();
    assert_eq!((lines.len(), steps.len()), (630, 600));
    steps.dedup();
    assert_eq!(steps, [&analysis["details"]["integrator_steps"]]);
    assert!(lines[0]["integrator_steps"] != *steps[0], "the search did not move");

    succeed(&["train", text(&config_file), "--out", text(&train)]);
    succeed(&["sample", text(&config_file), "--out", text(&sample), "--model", text(&train)]);
    check(&sample, &exact, [40, 1960, 1]);
    let details = &json(&sample, "analysis.json")["details"];
    agrees("log Z", &details["log_z"][0], &details["log_z"][1], exact.log_z);
    for (name, value) in exact.observables {
        let reweighted = &details["reweighted"][name];
        agrees(&format!("reweighted {name}"), &reweighted[0], &reweighted[1], value);
    }

    // A sampler that moves, measured every third of its 1960 steps.
    let moving = path("moving");
    let sets = ["sample.method=prior_refreshment", "sample.measure_every=3"];
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let command = ["sample", text(&config_file), "--out", text(&moving), "--model", text(&train)];
    succeed(&command.into_iter().chain(sets).collect::<Vec<_>>());
    check(&moving, &exact, [40, 653, 3]);
}
