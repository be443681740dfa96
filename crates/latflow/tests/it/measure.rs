//! `latflow measure` against closed forms and against loops over sites written from the paper.

use std::f64::consts::PI;
use std::fs;

use crate::common::{succeed, text};
use serde_json::Value;

struct Case {
    dims: [usize; 2],
    m2: f64,
    lambda: f64,
    g: f64,
    mass: f64,
}

const CASES: [Case; 4] = [
    Case { dims: [16, 16], m2: -4.0, lambda: 6.0, g: 0.1, mass: 0.0 },
    Case { dims: [4, 6], m2: 0.5, lambda: 0.25, g: 0.7, mass: 0.3 },
    Case { dims: [2, 4], m2: 1.0, lambda: 0.0, g: -0.4, mass: 0.05 },
    Case { dims: [6, 2], m2: -1.55, lambda: 2.4, g: 0.3, mass: -0.2 },
];

fn measure(case: &Case, phi: &[f64]) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let (config, field) = (folder.path().join("c.toml"), folder.path().join("f.npy"));
    let Case { dims, m2, lambda, g, mass } = case;
    let toml = format!(
        "seed = 1\n[lattice]\ndims = {dims:?}\n[action.yukawa]\nm2 = {m2:?}\nlambda = {lambda:?}\ng = {g:?}\nfermion_mass = {mass:?}\n"
    );
    fs::write(&config, toml).expect("written");
    let header =
        format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({}, {}), }}\n", dims[0], dims[1]);
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(phi.iter().flat_map(|x| x.to_le_bytes()));
    fs::write(&field, bytes).expect("written");
    let json = succeed(&["measure", text(&config), text(&field)]);
    let value: Value = serde_json::from_str(&json).expect("JSON");
    let mut keys: Vec<&String> = value.as_object().expect("an object").keys().collect();
    keys.sort();
    let expected =
        ["action_boson", "condensate", "fermion_correlator", "log_abs_det", "magnetization", "phi2"];
    assert_eq!(keys, expected);
    value
}

fn close(value: &Value, expected: f64, what: &str) {
    let value = value.as_f64().unwrap_or(f64::NAN);
    assert!((value - expected).abs() <= 1e-11 * expected.abs().max(1.0), "{what}: {value} is not {expected}");
}

/// A constant field φ = c is free fermions of mass M = m_f + g c:
/// log |det D| = ½ Σ_p log(M² + Σ_μ sin² p_μ), ψ̄ψ = (1/V) Σ_p M / (M² + Σ_μ sin² p_μ), p_t half-integer.
#[test]
fn constant_fields_are_free_fermions_in_momentum_space() {
    for case in &CASES {
        let [l, lt] = case.dims;
        let volume = (l * lt) as f64;
        for c in [0.0, 0.37, -1.2] {
            let mass = case.mass + case.g * c;
            let (mut log_det, mut condensate) = (0.0, 0.0);
            for k in 0..l {
                for kt in 0..lt {
                    let (p, pt) = (2.0 * PI * k as f64 / l as f64, 2.0 * PI * (kt as f64 + 0.5) / lt as f64);
                    let square = mass * mass + p.sin().powi(2) + pt.sin().powi(2);
                    log_det += 0.5 * square.ln();
                    condensate += mass / square / volume;
                }
            }
            let measured = measure(case, &vec![c; l * lt]);
            close(&measured["action_boson"], volume * (case.m2 * c * c + case.lambda * c.powi(4)), "action");
            close(&measured["log_abs_det"], log_det, "log |det D|");
            close(&measured["condensate"], condensate, "condensate");
            close(&measured["magnetization"], c, "magnetization");
            close(&measured["phi2"], c * c, "phi2");
        }
    }
}

/// D from the paper's Kronecker deltas, row by row [YUK (41)–(44)].
fn dirac(case: &Case, phi: &[f64]) -> Vec<Vec<f64>> {
    let [l, lt] = case.dims;
    let mut d = vec![vec![0.0; l * lt]; l * lt];
    for x in 0..l {
        for t in 0..lt {
            let row = x * lt + t;
            d[row][row] += case.mass + case.g * phi[row];
            d[row][(x + 1) % l * lt + t] += 0.5;
            d[row][(x + l - 1) % l * lt + t] -= 0.5;
            let eta = if x % 2 == 0 { 0.5 } else { -0.5 };
            let sign = |crosses: bool| if crosses { -1.0 } else { 1.0 };
            d[row][x * lt + (t + 1) % lt] += eta * sign(t + 1 == lt);
            d[row][x * lt + (t + lt - 1) % lt] -= eta * sign(t == 0);
        }
    }
    d
}

/// log |det| and inverse by Gauss–Jordan elimination.
fn invert(mut a: Vec<Vec<f64>>) -> (f64, Vec<Vec<f64>>) {
    let n = a.len();
    let mut inverse: Vec<Vec<f64>> =
        (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    let mut log_det = 0.0;
    for column in 0..n {
        let pivot =
            (column..n).max_by(|i, j| a[*i][column].abs().total_cmp(&a[*j][column].abs())).expect("rows");
        a.swap(column, pivot);
        inverse.swap(column, pivot);
        let scale = a[column][column];
        log_det += scale.abs().ln();
        for j in 0..n {
            a[column][j] /= scale;
            inverse[column][j] /= scale;
        }
        for i in (0..n).filter(|i| *i != column) {
            let factor = a[i][column];
            for j in 0..n {
                a[i][j] -= factor * a[column][j];
                inverse[i][j] -= factor * inverse[column][j];
            }
        }
    }
    (log_det, inverse)
}

#[test]
fn arbitrary_fields_agree_with_loops_over_sites() {
    for case in &CASES {
        let [l, lt] = case.dims;
        let v = l * lt;
        let phi: Vec<f64> = (0..v).map(|i| (1.7 * i as f64 + 0.3).sin() - 0.2).collect();
        let mut action = 0.0;
        for x in 0..l {
            for t in 0..lt {
                let here = phi[x * lt + t];
                let neighbours = phi[(x + 1) % l * lt + t] + phi[x * lt + (t + 1) % lt];
                action +=
                    -2.0 * here * neighbours + (case.m2 + 4.0) * here * here + case.lambda * here.powi(4);
            }
        }
        let (log_det, inverse) = invert(dirac(case, &phi));
        let measured = measure(case, &phi);
        close(&measured["action_boson"], action, "action");
        close(&measured["log_abs_det"], log_det, "log |det D|");
        close(&measured["condensate"], (0..v).map(|i| inverse[i][i]).sum::<f64>() / v as f64, "condensate");
        close(&measured["magnetization"], phi.iter().sum::<f64>() / v as f64, "magnetization");
        close(&measured["phi2"], phi.iter().map(|x| x * x).sum::<f64>() / v as f64, "phi2");
        let correlator = measured["fermion_correlator"].as_array().expect("a list");
        assert_eq!(correlator.len(), lt);
        for (t, value) in correlator.iter().enumerate() {
            close(value, inverse[t][0], "correlator");
        }
    }
}

#[test]
fn numbers_come_with_all_their_digits() {
    let case = &CASES[1];
    let third = vec![1.0 / 3.0; 24];
    let measured = measure(case, &third);
    let text = measured["magnetization"].to_string();
    assert!(text.starts_with("0.33333333333333"), "{text}");
}
