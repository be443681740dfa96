//! Text that must not appear, and files that are too long.

use super::Source;

/// A file past this length is two ideas.
const MAX_LINES: usize = 500;

/// `(text, why not)`; written in two halves so that this table does not find itself.
const FORBIDDEN: &[(&str, &str)] = &[
    (
        concat!("DO_NOT_", "DETACH"),
        "candle's gradient of a gradient is wrong; write second derivatives as forward operations",
    ),
    (concat!("Tensor::ran", "dn"), "randomness comes from latflow_lattice::Streams"),
    (concat!("Tensor::ran", "d("), "randomness comes from latflow_lattice::Streams"),
    (concat!("TO", "DO"), "finish it, or open an issue"),
    (concat!("FIX", "ME"), "fix it, or open an issue"),
];

/// Roots of machine-specific paths.
const ABSOLUTE: &[&str] =
    &["/root/", "/home/", "/work/", "/Users/", "/tmp/", "/usr/", "/opt/", "/mnt/", "/var/"];

pub(crate) fn check(sources: &[Source]) -> Vec<String> {
    sources.iter().flat_map(check_source).collect()
}

fn check_source(source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    let lines = source.text.lines().count();
    if lines > MAX_LINES {
        findings.push(format!("{}: {lines} lines; more than {MAX_LINES} is two ideas", source.path));
    }
    let rust = source.path.ends_with(".rs");
    // The compiler's settings name what they forbid.
    let configuration = source.path == "clippy.toml";
    for (index, line) in source.text.lines().enumerate() {
        let place = format!("{}:{}", source.path, index + 1);
        if !configuration {
            for (needle, why) in FORBIDDEN {
                if line.contains(needle) {
                    findings.push(format!("{place}: `{needle}`: {why}"));
                }
            }
        }
        if rust && !source.path.starts_with("crates/kernels/") && has_unsafe(line) {
            findings.push(format!("{place}: `{}` is for crates/kernels alone", concat!("un", "safe")));
        }
        let shebang = index == 0 && line.starts_with("#!");
        if !shebang
            && source.path != "xtask/src/tidy/text.rs"
            && let Some(path) = absolute_path(line)
        {
            findings.push(format!("{place}: absolute path `{path}…` means nothing on another machine"));
        }
    }
    findings
}

/// The keyword itself, in code.
fn has_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or(line);
    let keyword = concat!("un", "safe");
    code.match_indices(keyword).any(|(start, _)| {
        let before = code[..start].chars().next_back();
        let after = &code[start + keyword.len()..];
        let opens = after.trim_start().starts_with(['{', 'f', 'i', 't', 'e']);
        before.is_none_or(|c| c == ' ' || c == '(' || c == '=' || c == '{')
            && after.starts_with([' ', '{'])
            && opens
    })
}

/// A path from the root of some machine's file system; parts of addresses and of relative paths do not count.
fn absolute_path(line: &str) -> Option<&'static str> {
    ABSOLUTE.iter().copied().find(|root| {
        line.match_indices(root).any(|(start, _)| {
            line[..start].chars().next_back().is_none_or(|c| !(c.is_alphanumeric() || "._-~}>)/".contains(c)))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{Source, check};

    fn findings(path: &str, text: &str) -> usize {
        check(&[Source { path: path.into(), text: text.into() }]).len()
    }

    #[test]
    fn each_rule_finds_its_case_and_nothing_else() {
        let keyword = concat!("un", "safe");
        assert_eq!(findings("crates/flow/src/a.rs", &format!("let x = {keyword} {{ y }};")), 1);
        assert_eq!(findings("crates/flow/src/a.rs", &format!("{keyword} impl Send for A {{}}")), 1);
        assert_eq!(findings("crates/kernels/src/a.rs", &format!("let x = {keyword} {{ y }};")), 0);
        assert_eq!(findings("crates/flow/src/a.rs", &format!("// {keyword} {{ y }}")), 0);
        assert_eq!(findings("crates/flow/src/a.rs", &format!("{keyword}_code")), 0);
        assert_eq!(findings("a.md", &format!("see {}home/me/x", '/')), 1);
        assert_eq!(findings("a.md", "see https://example.org/home/me"), 0);
        assert_eq!(findings("a.sh", "#!/usr/bin/env bash"), 0);
        assert_eq!(findings("a.rs", &format!("let x = {}(0.0, 1.0);", concat!("Tensor::ran", "dn"))), 1);
        assert_eq!(findings("a.rs", "x\n".repeat(501).as_str()), 1);
        assert_eq!(findings("a.rs", "x\n".repeat(500).as_str()), 0);
    }
}
