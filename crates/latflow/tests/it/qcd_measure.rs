//! `latflow measure` of gauge fields against closed forms in momentum space and against the golden numbers of other codes.

use std::f64::consts::PI;
use std::fs;
use std::path::{Path, PathBuf};

use latflow::io::gauge::{Extents, Format, GaugeField, Label, Precision, write_gauge};
use num_complex::Complex64;
use serde_json::Value;

use crate::common::{succeed, text};
use crate::gauge_field::random_field;
use crate::inputs::refused;

fn config(folder: &Path, dims: Extents, quarks: &str) -> PathBuf {
    let file = folder.join("c.toml");
    let toml = format!("seed = 1\n[lattice]\ndims = {dims:?}\n[action.qcd]\nbeta = 1.0\n{quarks}\n");
    fs::write(&file, toml).expect("written");
    file
}

fn measure(dims: Extents, quarks: &str, field: &Path, settings: &[&str]) -> (Value, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(folder.path(), dims, quarks);
    let sets = settings.iter().flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> = ["measure", text(&config), text(field)].into_iter().chain(sets).collect();
    let json = succeed(&arguments);
    (serde_json::from_str(&json).expect("JSON"), json)
}

fn close(value: &Value, expected: f64, tolerance: f64, what: &str) {
    let value = value.as_f64().unwrap_or(f64::NAN);
    let scale = expected.abs().max(1.0);
    assert!((value - expected).abs() <= tolerance * scale, "{what}: {value} is not {expected}");
}

fn unit_field(dims: Extents) -> GaugeField {
    let one = |i: usize| Complex64::new(f64::from(u8::from(i.is_multiple_of(4))), 0.0);
    let links = (0..4 * dims.iter().product::<usize>()).flat_map(|_| (0..9).map(one)).collect();
    GaugeField::new(dims, 3, links).expect("nine numbers a link")
}

/// Momenta of the free quark, time antiperiodic.
fn momenta([x, y, z, t]: Extents) -> impl Iterator<Item = [f64; 4]> {
    let at = |k: usize, l: usize, shift: f64| 2.0 * PI * (k as f64 + shift) / l as f64;
    (0..x * y * z * t).map(move |i| {
        let (kx, rest) = (i / (y * z * t), i % (y * z * t));
        let (ky, rest) = (rest / (z * t), rest % (z * t));
        [at(kx, x, 0.0), at(ky, y, 0.0), at(rest / t, z, 0.0), at(rest % t, t, 0.5)]
    })
}

/// D(p) = A + 2iκ Σ γ_μ sin p_μ with A = 1 − 2κ Σ cos p_μ, and the square of its size.
fn free(kappa: f64, p: [f64; 4]) -> (f64, [f64; 4], f64) {
    let a = 1.0 - 2.0 * kappa * p.iter().map(|p| p.cos()).sum::<f64>();
    let b = p.map(|p| 2.0 * kappa * p.sin());
    (a, b, a * a + b.iter().map(|b| b * b).sum::<f64>())
}

/// C_π(t) = 3 · 4/L³ Σ_p⃗ Σ_c |f_c(p⃗, t)|²,  f_c(p⃗, t) = 1/L_t Σ_{p_t} e^{i p_t t} c(p)/(A² + B²),  c = A, B_x, …, B_t.
fn free_pion(kappa: f64, dims: Extents, t: usize) -> f64 {
    let [x, y, z, times] = dims;
    let volume = x * y * z;
    let all: Vec<[f64; 4]> = momenta(dims).collect();
    let mut sum = 0.0;
    for same in all.chunks_exact(times) {
        let mut f = [Complex64::ZERO; 5];
        for p in same {
            let (a, b, square) = free(kappa, *p);
            let phase = Complex64::cis(p[3] * t as f64) / (times as f64 * square);
            for (f, c) in f.iter_mut().zip([a, b[0], b[1], b[2], b[3]]) {
                *f += phase * c;
            }
        }
        sum += f.iter().map(Complex64::norm_sqr).sum::<f64>();
    }
    12.0 * sum / volume as f64
}

#[test]
fn unit_links_are_free_quarks_in_momentum_space() {
    let folder = tempfile::tempdir().expect("a folder");
    for (dims, kappa, format) in [([4, 4, 4, 4], 0.1, Format::Ildg), ([2, 4, 2, 6], 0.12, Format::Nersc)] {
        let file = folder.path().join("unit");
        write_gauge(&file, &unit_field(dims), format, Precision::Double, &Label::new("unit", 0))
            .expect("written");
        let quarks = format!("n_f = 2\nkappa = {kappa}");
        let (values, json) = measure(dims, &quarks, &file, &["measure.solver_tolerance=1e-13"]);
        let keys: Vec<&String> = values.as_object().expect("an object").keys().collect();
        let mut expected = [
            "plaquette",
            "plaquette_paper",
            "polyakov_loop",
            "log_abs_det",
            "pion_correlator",
            "topological_charge",
            "topological_charge_flowed",
        ];
        expected.sort_unstable();
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, expected, "{json}");
        close(&values["plaquette"], 1.0, 1e-14, "plaquette");
        close(&values["plaquette_paper"], 6.0, 1e-14, "plaquette of the paper");
        close(&values["polyakov_loop"][0], 3.0, 1e-14, "Re L");
        close(&values["polyakov_loop"][1], 0.0, 1e-14, "Im L");
        close(&values["topological_charge"], 0.0, 1e-14, "Q");
        close(&values["topological_charge_flowed"], 0.0, 1e-12, "Q after flow");
        // Four eigenvalues a colour and momentum, A ± i|B| twice.
        let log_det: f64 = momenta(dims).map(|p| 6.0 * free(kappa, p).2.ln()).sum();
        close(&values["log_abs_det"], log_det, 1e-12, "log |det D|");
        let pion = values["pion_correlator"].as_array().expect("a list");
        assert_eq!(pion.len(), dims[3]);
        for (t, value) in pion.iter().enumerate() {
            close(value, free_pion(kappa, dims, t), 1e-11, &format!("C_π({t})"));
        }
    }
}

/// Without a hopping parameter there are no quarks; with one, those of the valence can be measured on any field.
#[test]
fn what_needs_quarks_is_left_out_without_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, dims) = (folder.path().join("random.ildg"), [4, 2, 2, 4]);
    let label = Label::new("random", 1);
    write_gauge(&file, &random_field(dims, 3, 5), Format::Ildg, Precision::Double, &label).expect("written");
    let has = |values: &Value, name: &str| values.get(name).is_some();
    let quick = ["measure.flow_time=0.1"];
    let (without, _) = measure(dims, "n_f = 0", &file, &quick);
    let (with, text) = measure(dims, "n_f = 0\nkappa = 0.1", &file, &quick);
    for name in ["log_abs_det", "pion_correlator"] {
        assert!(!has(&without, name) && has(&with, name), "{name}: {without} {with}");
    }
    assert_eq!(without["plaquette"], with["plaquette"]);
    let digits = text.lines().find(|line| line.contains("\"plaquette\"")).expect("a line").to_owned();
    assert!(digits.chars().filter(char::is_ascii_digit).count() >= 15, "{digits}");
    // The Polyakov loop is complex on such a field, and no observable vanishes.
    for value in [&with["polyakov_loop"][0], &with["polyakov_loop"][1], &with["topological_charge"]] {
        assert!(value.as_f64().expect("a number").abs() > 1e-6, "{with}");
    }
}

#[test]
fn fields_of_other_codes_have_their_golden_plaquettes() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    for (file, dims, quarks, plaquette) in [
        ("tmlqcd-unity-4x4x4x4.ildg", [4; 4], "n_f = 2\nkappa = 0.1", 1.0),
        ("gaugefields-su3-8x8x8x8.ildg", [8; 4], "n_f = 0", 0.555_243_594_506_939_2),
    ] {
        let path = fixtures.join(file);
        if !path.exists() {
            eprintln!("skipped: there is no {file} in ../shared/fixtures");
            continue;
        }
        let (values, _) = measure(dims, quarks, &path, &["measure.flow_time=0.05"]);
        close(&values["plaquette"], plaquette, 1e-14, file);
        close(&values["plaquette_paper"], 6.0 * plaquette, 1e-14, file);
        let small = tempfile::tempdir().expect("a folder");
        let other = config(small.path(), [4, 4, 4, 8], "n_f = 0");
        refused(&["measure", text(&other), text(&path)], &[file]);
    }
}

#[test]
fn fields_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("field.ildg");
    let write = |field: &GaugeField| {
        write_gauge(&file, field, Format::Ildg, Precision::Double, &Label::new("field", 0)).expect("written");
    };
    let config = config(folder.path(), [4, 2, 2, 4], "n_f = 0");
    let measure = |words: &[&str]| {
        refused(&["measure", text(&config), text(&file)], &[&["field.ildg"], words].concat());
    };
    write(&random_field([4, 2, 2, 6], 3, 1));
    measure(&["[4, 2, 2, 4]", "[4, 2, 2, 6]", "lattice.dims"]);
    write(&random_field([4, 2, 2, 4], 2, 1));
    measure(&["SU(3)", "SU(2)"]);
    let bytes = fs::read(&file).expect("a file");
    fs::write(&file, &bytes[..bytes.len() / 2]).expect("truncated");
    measure(&["truncated"]);
    fs::write(&file, b"\x93NUMPY").expect("written");
    measure(&["gauge configuration"]);
    fs::remove_file(&file).expect("removed");
    measure(&["cannot read"]);
}
