//! Records what the binary was built from, for the manifest of every run, and puts the shipped files into it.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

fn main() {
    let revision = git(&["rev-parse", "HEAD"]);
    let status = git(&["status", "--porcelain"]);
    let dirty = match (&revision, &status) {
        (Some(_), Some(status)) => {
            if status.is_empty() {
                "false"
            } else {
                "true"
            }
        }
        _ => "unknown",
    };
    set("LATFLOW_GIT_REVISION", revision.as_deref().unwrap_or("unknown"));
    set("LATFLOW_GIT_DIRTY", dirty);
    set(
        "LATFLOW_RUSTC",
        &output(&std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()), &["--version"])
            .unwrap_or_default(),
    );
    set("LATFLOW_PROFILE", &std::env::var("PROFILE").unwrap_or_default());
    set("LATFLOW_TARGET", &std::env::var("TARGET").unwrap_or_default());
    set("LATFLOW_DEPENDENCIES", &locked_versions(&["candle-core", "nalgebra", "rand_xoshiro"]));

    let configs = embedded("CONFIGS", "&str", "include_str", "configs/yukawa", "toml");
    let qcd = embedded("QCD_CONFIGS", "&str", "include_str", "configs/qcd", "toml");
    let weights = embedded("WEIGHTS", "&[u8]", "include_bytes", "models/yukawa", "safetensors");
    let qcd_weights = embedded("QCD_WEIGHTS", "&[u8]", "include_bytes", "models/qcd", "safetensors");
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let shipped = Path::new(&out).join("shipped.rs");
    std::fs::write(&shipped, configs + &qcd + &weights + &qcd_weights).expect("OUT_DIR can be written");

    // A commit or an edit changes what the binary is built from.
    for watched in ["build.rs", "../../.git/HEAD", "../../.git/refs/heads", "../../Cargo.lock", ".."] {
        if Path::new(watched).exists() {
            println!("cargo:rerun-if-changed={watched}");
        }
    }
}

/// A constant with the content of every file under a folder that ends in `extension`, by its path there without the ending.
/// A folder that is not there has no files.
fn embedded(name: &str, kind: &str, include: &str, folder: &str, extension: &str) -> String {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let folder = Path::new(&root).join(folder);
    let (mut files, mut folders) = (Vec::new(), vec![folder.clone()]);
    while let Some(next) = folders.pop() {
        for path in std::fs::read_dir(next).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
        {
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(found) if found == extension => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    let mut text = format!("const {name}: &[(&str, {kind})] = &[\n");
    for path in files {
        let inside = path.strip_prefix(&folder).unwrap_or(&path).with_extension("");
        let key = inside.display().to_string().replace('\\', "/");
        writeln!(text, "    ({key:?}, {include}!({:?})),", path.display().to_string())
            .expect("writing to a String cannot fail");
    }
    text + "];\n"
}

fn set(name: &str, value: &str) {
    println!("cargo:rustc-env={name}={value}");
}

fn git(arguments: &[&str]) -> Option<String> {
    output("git", arguments)
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `name version` pairs from the lock file, separated by commas.
fn locked_versions(names: &[&str]) -> String {
    let lock = std::fs::read_to_string("../../Cargo.lock").unwrap_or_default();
    let version = |name: &str| {
        let entry = lock.split(&format!("name = \"{name}\"\nversion = \"")).nth(1)?;
        entry.split('"').next().map(|version| format!("{name} {version}"))
    };
    names.iter().filter_map(|name| version(name)).collect::<Vec<_>>().join(", ")
}
