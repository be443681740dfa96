//! `cargo xtask tidy`: what no compiler checks.
//!
//! The dependency graph between the crates, text that must not appear, files that have grown past one idea, and equation
//! keys that the ledger in `docs/equations.md` does not know.

mod equations;
mod graph;
mod text;

use std::path::{Path, PathBuf};

use crate::process::{Outcome, root};

/// A text file of the repository.
pub(crate) struct Source {
    /// Path from the root, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Runs every check and reports all findings at once.
pub(crate) fn tidy() -> Outcome {
    let root = root();
    let sources = read_sources(&root)?;
    let mut findings = graph::check(&sources);
    findings.extend(text::check(&sources));
    findings.extend(equations::check(&sources));
    if findings.is_empty() {
        eprintln!("tidy: {} files, nothing to complain about", sources.len());
        return Ok(());
    }
    Err(format!("tidy found {} problem(s):\n  {}", findings.len(), findings.join("\n  ")))
}

const FOLDERS_LEFT_OUT: &[&str] = &[".git", "target", "runs", "proptest-regressions"];
const EXTENSIONS: &[&str] = &["rs", "toml", "md", "py", "sh", "yml", "yaml", "json", "cff"];

fn read_sources(root: &Path) -> Outcome<Vec<Source>> {
    let mut sources = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let failed = |error| format!("cannot read {}: {error}", folder.display());
        let mut entries: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            entries.push(entry.map_err(failed)?.path());
        }
        entries.sort();
        for path in entries {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !FOLDERS_LEFT_OUT.contains(&name.as_str()) {
                    folders.push(path);
                }
                continue;
            }
            let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            let is_script = folder == root.join(".ci");
            if !is_script && !EXTENSIONS.contains(&extension.as_str()) {
                continue;
            }
            let text = std::fs::read_to_string(&path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            sources.push(Source { path: relative, text });
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}
