//! Starting the binary and looking at what it leaves behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A configuration small enough for tests: 4×4 at the paper's first couplings.
pub(crate) const SMALL: &str = "\
seed = 7
[lattice]
dims = [4, 4]
[action.yukawa]
m2 = -1.0
lambda = 2.0
g = 0.3
fermion_mass = 0.1
[hmc]
chains = 16
trajectories = 300
thermalization = 40
steps = 4
target_acceptance = 0.8
checkpoint_every = 40
[model.marginal]
prior = { gaussian = { sigma = 0.6 } }
layers = [
  { exponential_convolution = { radius = 1 } },
  { cubic_root = { cubic = 0.3 } },
  { repeat = { times = 2, layers = [{ affine_coupling = { count = 2, convs = 2, channels = 8, kernel = 3 } }] } },
]
[train]
batch = 64
steps = 240
lr = [[0, 3e-3], [120, 1e-3]]
log_every = 1
checkpoint_every = 20
[sample]
chains = 10
steps = 1200
thermalization = 20
batch = 20
checkpoint_every = 60
";

/// The program.
pub(crate) fn latflow(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latflow"));
    command.args(arguments);
    command
}

/// Runs it to the end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    latflow(arguments).output().expect("the binary starts")
}

/// Runs it to a good end.
pub(crate) fn succeed(arguments: &[&str]) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "latflow {arguments:?}: {}\n{stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A folder with the small configuration in it.
pub(crate) fn workspace() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("small.toml");
    fs::write(&config, SMALL).expect("the configuration is written");
    (folder, config)
}

/// A folder with a configuration in it whose model is a decimation, which every scheme can begin with.
pub(crate) fn decimation_workspace() -> (tempfile::TempDir, PathBuf) {
    let (folder, config) = workspace();
    let (before, after) = (SMALL.split_once("[model.marginal]"), SMALL.split_once("[train]"));
    let (before, after) = (before.expect("a model").0, after.expect("a training").1);
    let model = "\
[model.marginal]
prior = { gaussian = { sigma = 1.4142135623730951 } }
layers = [{ decimation = { channels = [4], radius = 2 } }]
[model.gibbs.kind.decimation]
channels = [4]
radius = 2
[model.joint.kind.decimation]
channels = [4]
radius = 2
[train]
estimator = \"path\"
";
    fs::write(&config, format!("{before}{model}{after}")).expect("the configuration is written");
    (folder, config)
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are plain text")
}

/// Every file of a run whose bytes must not depend on when it was interrupted. Wall-clock times are removed from the texts;
/// manifest and lock are about the process.
pub(crate) fn contents(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![run.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the run is there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name =
                path.strip_prefix(run).expect("inside the run").to_str().expect("plain text").to_owned();
            if name == "manifest.json" || name == "lock" {
                continue;
            }
            let mut bytes = fs::read(&path).expect("a readable file");
            if name.ends_with(".jsonl") {
                let lines = String::from_utf8(bytes).expect("text");
                bytes = lines.lines().map(|line| timeless(line) + "\n").collect::<String>().into_bytes();
            } else if name.ends_with(".json") {
                bytes = timeless(&String::from_utf8(bytes).expect("text")).into_bytes();
            } else if name.ends_with(".safetensors") {
                bytes = timeless_weights(&bytes);
            }
            found.insert(name, bytes);
        }
    }
    found
}

/// The header of a weights file without the seconds in its model card, then its tensors.
fn timeless_weights(bytes: &[u8]) -> Vec<u8> {
    let (length, rest) = bytes.split_first_chunk::<8>().expect("a header length");
    let (header, tensors) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: Value = serde_json::from_slice(header).expect("a JSON header");
    if let Some(card) = header["__metadata__"]["latflow"].as_str() {
        header["__metadata__"]["latflow"] = timeless(card).into();
    }
    [header.to_string().as_bytes(), tensors].concat()
}

fn timeless(json: &str) -> String {
    let mut value: Value = serde_json::from_str(json).expect("JSON");
    strip(&mut value);
    value.to_string()
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !key.starts_with("seconds"));
            map.values_mut().for_each(strip);
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}

/// Asserts that two runs left the same bytes.
pub(crate) fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (contents(a), contents(b));
    let names = |run: &BTreeMap<String, Vec<u8>>| run.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    for (name, bytes) in &a {
        assert!(bytes == &b[name], "{name} differs ({} and {} bytes)", bytes.len(), b[name].len());
    }
}
