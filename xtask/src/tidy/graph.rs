//! The dependency graph: one table, enforced on every Cargo.toml and quoted by `docs/architecture.md`.

use super::Source;

/// The line a newcomer reads from left to right.
pub(crate) const LINE: &str = "kernels → lattice → fermion → action → flow → sampler → latflow";

const LIBRARIES: &[&str] = &["kernels", "lattice", "fermion", "action", "flow", "sampler", "observable"];

/// Folder of a package, and the crates of this workspace it may depend on (development dependencies included).
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("crates/kernels", &[]),
    ("crates/lattice", &["kernels"]),
    ("crates/fermion", &["kernels", "lattice"]),
    ("crates/action", &["kernels", "lattice", "fermion"]),
    ("crates/flow", &["kernels", "lattice", "fermion", "action"]),
    ("crates/sampler", &["kernels", "lattice", "fermion", "action", "flow"]),
    ("crates/observable", &["lattice", "fermion"]),
    ("crates/latflow", LIBRARIES),
    ("benches", LIBRARIES),
    ("xtask", &[]),
];

pub(crate) fn check(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources {
        let Some(folder) = source.path.strip_suffix("/Cargo.toml") else { continue };
        match MAY_DEPEND_ON.iter().find(|(package, _)| *package == folder) {
            Some((_, allowed)) => findings.extend(check_manifest(source, folder, allowed)),
            None => findings.push(format!(
                "{}: a package that the table in xtask/src/tidy/graph.rs does not know",
                source.path
            )),
        }
    }
    for (folder, _) in MAY_DEPEND_ON {
        if !sources.iter().any(|source| source.path == format!("{folder}/Cargo.toml")) {
            findings.push(format!("{folder}: listed in xtask/src/tidy/graph.rs but has no Cargo.toml"));
        }
    }
    match sources.iter().find(|source| source.path == "docs/architecture.md") {
        Some(document) if document.text.contains(LINE) => {}
        Some(document) => {
            findings.push(format!("{}: must state the dependency line `{LINE}`", document.path))
        }
        None => {
            findings.push(format!("docs/architecture.md: missing; it states the dependency line `{LINE}`"))
        }
    }
    findings
}

fn check_manifest(source: &Source, folder: &str, allowed: &[&str]) -> Vec<String> {
    let mut findings = Vec::new();
    let external = dependencies(&source.text);
    if folder == "xtask" && !external.is_empty() {
        findings.push(format!("{}: xtask has no dependencies, found {}", source.path, external[0].0));
    }
    for (name, specification) in external {
        if !specification.contains("workspace = true") {
            findings.push(format!(
                "{}: dependency `{name}` must take its version from the workspace (`{name}.workspace = true`)",
                source.path
            ));
        }
        let crate_name = match name.strip_prefix("latflow-") {
            Some(crate_name) => crate_name,
            None if name == "latflow" => "latflow",
            None => continue,
        };
        if !allowed.contains(&crate_name) {
            let may =
                if allowed.is_empty() { "no crate of this workspace".to_owned() } else { allowed.join(", ") };
            findings
                .push(format!("{}: depends on `{name}`, but {folder} may depend on {may} only", source.path));
        }
    }
    findings
}

/// `(name, rest of the line)` of every dependency in a manifest, of all kinds and targets.
fn dependencies(manifest: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            inside = section.ends_with("dependencies");
            // `[dependencies.name]` spells the table out.
            if let Some((kind, name)) = section.rsplit_once("dependencies.")
                && (kind.is_empty() || kind.ends_with(['-', '.']))
            {
                found.push((name.to_owned(), "workspace = true".to_owned()));
            }
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let Some((key, value)) = line.split_once('=') else { continue };
            let key = key.trim();
            let name = key.split('.').next().unwrap_or(key);
            found.push((
                name.to_owned(),
                format!(
                    "{}= {}",
                    key.strip_prefix(name).unwrap_or("").trim_start_matches('.').to_owned() + " ",
                    value.trim()
                ),
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{MAY_DEPEND_ON, Source, check, dependencies};

    fn workspace(folder: &str, dependency: &str) -> Vec<Source> {
        let mut sources: Vec<Source> = MAY_DEPEND_ON
            .iter()
            .map(|(package, _)| Source { path: format!("{package}/Cargo.toml"), text: String::new() })
            .collect();
        sources.push(Source { path: "docs/architecture.md".into(), text: super::LINE.into() });
        for source in &mut sources {
            if source.path == format!("{folder}/Cargo.toml") {
                source.text = format!("[dependencies]\n{dependency}\n");
            }
        }
        sources
    }

    #[test]
    fn the_line_is_walked_in_one_direction() {
        assert!(check(&workspace("crates/action", "latflow-fermion.workspace = true")).is_empty());
        let findings = check(&workspace("crates/fermion", "latflow-action.workspace = true"));
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].contains("latflow-action"), "{findings:?}");
    }

    #[test]
    fn every_way_to_write_a_dependency_is_seen() {
        let manifest = "[dependencies]\na.workspace = true\nb = { workspace = true, features = [\"x\"] }\n\
                        [dev-dependencies]\nc = \"1\"\n[target.'cfg(unix)'.dependencies]\nd = \"1\"\n[features]\ncuda = [\"b/cuda\"]\n";
        let names: Vec<String> = dependencies(manifest).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        let findings = check(&workspace("crates/flow", "serde = \"1\""));
        assert!(findings[0].contains("workspace"), "{findings:?}");
    }

    #[test]
    fn xtask_stays_free_of_dependencies() {
        let findings = check(&workspace("xtask", "serde.workspace = true"));
        assert!(findings[0].contains("no dependencies"), "{findings:?}");
    }
}
