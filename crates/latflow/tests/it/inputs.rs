//! Bad input on the command line: an error that names it, a failure status, and nothing written or lost.

use std::fs;
use std::path::Path;

use crate::common::{run, succeed, text, workspace};

pub(crate) fn refused(arguments: &[&str], words: &[&str]) {
    let output = run(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "latflow {arguments:?} must fail\n{stderr}");
    assert!(!stderr.contains("panicked"), "latflow {arguments:?}\n{stderr}");
    for word in words {
        assert!(stderr.contains(word), "latflow {arguments:?}: expected `{word}` in\n{stderr}");
    }
}

/// An NPY file made by hand.
fn npy(path: &Path, descr: &str, fortran: bool, shape: &str, data: &[u8]) {
    let order = if fortran { "True" } else { "False" };
    let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    fs::write(path, bytes).expect("written");
}

#[test]
fn bad_configurations() {
    let (folder, config) = workspace();
    let out = folder.path().join("out");
    for (set, words) in [
        ("lattice.dims=[5, 4]", &["lattice.dims", "[5, 4]", "odd", "even"][..]),
        ("action.yukawa.lambda=-1", &["action.yukawa.lambda = -1", "unbounded", "allowed"]),
        ("action.yukawa.lamda=1", &["action.yukawa.lamda", "did you mean `lambda`"]),
        ("hmc.steps=zero", &["hmc.steps", "\"zero\"", "whole number"]),
        ("device=cuda:0", &["cuda:0", "feature `cuda`"]),
        ("device=tpu", &["device = \"tpu\"", "cpu"]),
    ] {
        refused(&["hmc", text(&config), "--out", text(&out), "--set", set], words);
    }
    let massless =
        ["--set", "action.yukawa.fermion_mass=0", "--set", "action.yukawa.fermion_boundary=periodic"];
    refused(
        &[&["hmc", text(&config), "--out", text(&out)], &massless[..]].concat(),
        &["singular", "even_odd = false"],
    );
    refused(&["hmc", "nowhere.toml"], &["nowhere.toml", "cannot read"]);
    refused(&["hmc"], &["<CONFIG>", "required"]);
    refused(&["quantum"], &["quantum"]);
    assert!(!out.join("config.toml").exists(), "a refused configuration starts no run");
}

#[test]
fn bad_fields() {
    let (folder, config) = workspace();
    let field = folder.path().join("field.npy");
    let zeros = [0u8; 16 * 8];
    let mut infinite = zeros;
    infinite[..8].copy_from_slice(&f64::INFINITY.to_le_bytes());
    let measure = |words: &[&str]| {
        refused(&["measure", text(&config), text(&field)], &[&["field.npy"], words].concat())
    };
    npy(&field, "<f8", false, "(4, 6)", &[0; 24 * 8]);
    measure(&["shape", "expected (4, 4)", "got (4, 6)"]);
    npy(&field, "<f4", false, "(4, 4)", &zeros[..64]);
    measure(&["<f8", "<f4"]);
    npy(&field, ">f8", false, "(4, 4)", &zeros);
    measure(&["little-endian", ">f8"]);
    npy(&field, "<f8", true, "(4, 4)", &zeros);
    measure(&["fortran_order"]);
    npy(&field, "<f8", false, "(4, 4)", &zeros[..100]);
    measure(&["128 bytes", "100", "truncated"]);
    npy(&field, "<f8", false, "(4, 4)", &infinite);
    measure(&["finite", "inf at (0, 0)"]);
    fs::write(&field, b"not an array at all").expect("written");
    measure(&["NPY"]);
    fs::remove_file(&field).expect("removed");
    measure(&["cannot read"]);
    // D(0) without mass and with periodic time has zero modes.
    npy(&field, "<f8", false, "(4, 4)", &zeros);
    let periodic =
        ["--set", "action.yukawa.fermion_mass=0", "--set", "action.yukawa.fermion_boundary=periodic"];
    refused(&[&["measure", text(&config), text(&field)], &periodic[..]].concat(), &["field.npy", "singular"]);
}

#[test]
fn runs_are_not_overwritten_or_mixed_up() {
    let (folder, config) = workspace();
    let (config, out) = (text(&config), folder.path().join("out"));
    let short = ["--set", "hmc.trajectories=20", "--set", "hmc.thermalization=5"];
    succeed(&[&["hmc", config, "--out", text(&out)], &short[..]].concat());
    let results = fs::read(out.join("results.json")).expect("results");
    refused(&["hmc", config, "--out", text(&out)], &["finished run", "--resume", "--force", "--out"]);
    refused(&["train", "--resume", text(&out)], &["latflow hmc --resume"]);
    refused(&["hmc", "--resume", text(&out), "--set", "seed=3"], &["--resume", "--set"]);
    refused(&["hmc", config, "--resume", text(&out)], &["--resume"]);
    refused(&["hmc", "--resume", text(folder.path())], &["no run"]);
    refused(&["sample", config, "--out", text(&folder.path().join("s"))], &["latflow train"]);
    let missing = folder.path().join("missing");
    refused(&["sample", config, "--model", text(&missing)], &["missing", "--model"]);
    assert_eq!(fs::read(out.join("results.json")).expect("results"), results, "nothing was touched");
    assert!(
        succeed(&["hmc", "--resume", text(&out)]).contains("abs_magnetization"),
        "a finished run shows its results"
    );
    succeed(&[&["hmc", config, "--out", text(&out), "--force", "--set", "seed=8"], &short[..]].concat());
    assert_ne!(fs::read(out.join("results.json")).expect("results"), results, "--force began anew");
}

#[test]
fn a_flow_of_another_shape_is_refused() {
    let (folder, config) = workspace();
    let trained = folder.path().join("train");
    let quick = ["--set", "train.steps=2", "--set", "train.batch=8"];
    succeed(&[&["train", text(&config), "--out", text(&trained)], &quick[..]].concat());
    let arguments = ["sample", text(&config), "--out", "unused", "--model"];
    let wide = ["--set", "model.marginal.layers=[{ affine_coupling = { count = 2 } }]"];
    refused(
        &[&arguments[..], &[text(&trained)], &wide[..]].concat(),
        &["model.safetensors", "[model.marginal]"],
    );
    let large = ["--set", "lattice.dims=[6, 6]"];
    refused(&[&arguments[..], &[text(&trained)], &large[..]].concat(), &["[lattice]"]);
    let file = trained.join("model.safetensors");
    let out = folder.path().join("sample");
    let arguments = ["sample", text(&config), "--out", text(&out), "--model", text(&file)];
    refused(&[&arguments[..], &wide[..]].concat(), &["model.safetensors", "[model.marginal]"]);
    // The weights of a marginal flow serve an autoregressive model whose pseudofermions need none, but no other.
    let linear = ["--set", "model.scheme=autoregressive", "--set", "model.conditional.kind={ linear = {} }"];
    let linear = [&arguments[..], &linear[..], &["--set", "action.yukawa.even_odd=false"]].concat();
    refused(&linear, &["model.safetensors", "[model.conditional]"]);
    let gibbs = ["--set", "model.scheme=gibbs"];
    let arguments = ["sample", text(&config), "--out", "unused", "--model", text(&trained)];
    refused(&[&arguments[..], &gibbs[..]].concat(), &["model.safetensors", "[model] scheme"]);
    refused(&[&["train", text(&config), "--out", "unused"], &gibbs[..]].concat(), &["--model"]);
    fs::write(trained.join("model.safetensors"), b"rubbish").expect("written");
    refused(&arguments, &["model.safetensors", "not a safetensors file"]);
}
