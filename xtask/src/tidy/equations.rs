//! The ledger of equations: every key used in code, such as the staggered operator's 41, is a row of `docs/equations.md`,
//! and every file or item such a row names exists.

use std::collections::BTreeSet;

use super::Source;

const LEDGER: &str = "docs/equations.md";
const PAPERS: &[&str] = &["YUK", "QCD"];

pub(crate) fn check(sources: &[Source]) -> Vec<String> {
    let Some(ledger) = sources.iter().find(|source| source.path == LEDGER) else {
        return vec![format!("{LEDGER}: missing; it lists every equation the code implements")];
    };
    let listed: BTreeSet<String> = keys(&ledger.text).into_iter().map(|(_, key)| key).collect();
    let mut findings = Vec::new();
    for source in
        sources.iter().filter(|source| source.path.ends_with(".rs") && !source.path.starts_with("xtask/"))
    {
        for (line, key) in keys(&source.text) {
            if !listed.contains(&key) {
                findings.push(format!("{}:{line}: equation {key} is not listed in {LEDGER}", source.path));
            }
        }
    }
    findings.extend(check_references(ledger, sources));
    findings
}

/// Equation keys with their line numbers, normalised to `YUK 41` or `YUK B2`; ranges and lists are expanded. References to
/// sections, tables, figures and appendices are not equations.
fn keys(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for paper in PAPERS {
            let opening = format!("[{paper} ");
            for (start, _) in line.match_indices(&opening) {
                let inside = line[start + opening.len()..].split(']').next().unwrap_or_default();
                found.extend(
                    equations(inside).into_iter().map(|equation| (index + 1, format!("{paper} {equation}"))),
                );
            }
        }
    }
    found
}

fn equations(inside: &str) -> Vec<String> {
    if inside.contains('.') || inside.split_whitespace().any(is_roman) {
        return Vec::new();
    }
    let plain: String = inside.chars().filter(|c| !"()".contains(*c)).collect();
    let mut found = Vec::new();
    for word in plain.split(|c: char| "/,; ".contains(c)) {
        match word.split_once(['–', '-']) {
            Some((first, last)) => {
                if let (Some((letter, first)), Some((_, last))) = (split(first), split(last)) {
                    found.extend((first..=last).map(|number| format!("{letter}{number}")));
                }
            }
            None if split(word).is_some() => found.push(word.to_owned()),
            None => {}
        }
    }
    found
}

/// `B2` into `("B", 2)`, `41` into `("", 41)`.
fn split(word: &str) -> Option<(&str, u32)> {
    let digits = word.find(|c: char| c.is_ascii_digit())?;
    let (letter, number) = word.split_at(digits);
    let known = letter.is_empty() || (letter.len() == 1 && letter.chars().all(|c| c.is_ascii_uppercase()));
    known.then_some(())?;
    number.parse().ok().map(|number| (letter, number))
}

/// Section numbers such as `IV B 3`.
fn is_roman(word: &str) -> bool {
    matches!(word, "I" | "II" | "III" | "IV" | "V" | "VI")
}

/// Code spans of the ledger: paths must exist, `latflow_crate::…::Item` must be defined in that crate.
fn check_references(ledger: &Source, sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for (index, line) in ledger.text.lines().enumerate() {
        for code in line.split('`').skip(1).step_by(2) {
            let place = format!("{LEDGER}:{}", index + 1);
            let file = code.split("::").next().unwrap_or(code);
            if file.ends_with(".rs") {
                let Some(source) = sources.iter().find(|source| source.path == file) else {
                    findings.push(format!("{place}: no file `{file}`"));
                    continue;
                };
                let test = code.rsplit_once("::").map(|(_, name)| format!("fn {name}("));
                if test.as_ref().is_some_and(|test| !source.text.contains(test.as_str())) {
                    findings.push(format!("{place}: `{code}` names no function of that file"));
                }
            } else if let Some((krate, item)) =
                code.strip_prefix("latflow_").and_then(|rest| rest.split_once("::"))
            {
                let name = item.rsplit("::").next().unwrap_or(item);
                let folder = format!("crates/{krate}/src/");
                let defined = sources
                    .iter()
                    .any(|source| source.path.starts_with(&folder) && defines(&source.text, name));
                if !defined {
                    findings.push(format!("{place}: `{code}` is not defined in {folder}"));
                }
            }
        }
    }
    findings
}

fn defines(text: &str, name: &str) -> bool {
    ["struct", "enum", "trait", "fn", "mod", "type", "const"].iter().any(|kind| {
        let definition = format!("{kind} {name}");
        text.match_indices(&definition).any(|(start, _)| {
            text[start + definition.len()..].chars().next().is_none_or(|c| !(c.is_alphanumeric() || c == '_'))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{Source, check, equations};

    #[test]
    fn keys_are_read_in_every_spelling() {
        assert_eq!(equations("(41)"), ["41"]);
        assert_eq!(equations("41–43"), ["41", "42", "43"]);
        assert_eq!(equations("B2/B3"), ["B2", "B3"]);
        assert_eq!(equations("(C2)–(C4)"), ["C2", "C3", "C4"]);
        assert_eq!(equations("(12), even-odd"), ["12"]);
        assert_eq!(equations("(27), (28)"), ["27", "28"]);
        assert!(equations("Tab. II").is_empty());
        assert!(equations("IV B 3").is_empty());
        assert!(equations("App. C").is_empty());
    }

    #[test]
    fn a_missing_row_is_found_and_so_is_a_row_about_nothing() {
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
        let code = source("crates/fermion/src/a.rs", "/// [YUK (41)]\npub struct Operator;");
        let complete = source("docs/equations.md", "| [YUK (41)] | `latflow_fermion::Operator` |");
        let empty = source("docs/equations.md", "| [YUK (40)] | `latflow_fermion::Missing` |");
        assert!(check(&[code, complete]).is_empty());
        let code = source("crates/fermion/src/a.rs", "/// [YUK (41)]\npub struct Operator;");
        assert_eq!(check(&[code, empty]).len(), 2);
    }
}
