//! Reading a configuration and explaining what is wrong with it.
//!
//! Overrides go into the table before anything is checked. The merged table is written out and parsed once more, so that the
//! parser's positions lead back to key paths; a path is then looked up in the user's own file for its line number.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::{Config, ConfigError, Needs, Override};
use crate::text::closest;

/// Reads and checks a configuration file.
///
/// # Errors
/// [`ConfigError`] with file, key, value and what is allowed.
pub fn load(file: &Path, overrides: &[Override], needs: Needs) -> Result<Config, ConfigError> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| ConfigError {
        place: name.clone(),
        key: String::new(),
        value: None,
        problem: format!("cannot read the configuration: {error}"),
        allowed: None,
    })?;
    from_text(&name, &text, overrides, needs)
}

/// Reads and checks a configuration from text; `name` is how errors call it.
///
/// # Errors
/// [`ConfigError`] with file, key, value and what is allowed.
pub fn from_text(
    name: &str,
    text: &str,
    overrides: &[Override],
    needs: Needs,
) -> Result<Config, ConfigError> {
    let source = Source { name, text, overrides };
    let mut table: Table = toml::from_str(text).map_err(|error| source.syntax(&error))?;
    for change in overrides {
        change.apply(&mut table)?;
    }
    let merged = toml::to_string(&table).expect("a parsed table can be written");
    let config: Config = toml::from_str(&merged).map_err(|error| source.explain(&merged, &error))?;
    super::check::check(&config).and_then(|()| needs.check(&config)).map_err(|finding| {
        let path: Vec<String> = finding.key.split('.').map(str::to_owned).collect();
        // What the user did not write has a default, which is in the complete configuration.
        let complete =
            || toml::from_str::<Table>(&config.to_toml()).ok().and_then(|table| value_at(&table, &path));
        let value = value_at(&table, &path).or_else(complete);
        source.error(&path, value, finding.problem, Some(finding.allowed))
    })?;
    Ok(config)
}

/// What the user wrote.
struct Source<'a> {
    name: &'a str,
    text: &'a str,
    overrides: &'a [Override],
}

impl Source<'_> {
    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let line = error.span().map_or(1, |span| line_of(self.text, span.start));
        ConfigError {
            place: format!("{}:{line}", self.name),
            key: String::new(),
            value: None,
            problem: format!("not valid TOML: {}", error.message()),
            allowed: None,
        }
    }

    fn error(
        &self,
        path: &[String],
        value: Option<String>,
        problem: String,
        allowed: Option<String>,
    ) -> ConfigError {
        ConfigError { place: self.place(path), key: spelled(path), value, problem, allowed }
    }

    /// The last override of this key or of something below or above it, else the line in the file.
    fn place(&self, path: &[String]) -> String {
        let set = self
            .overrides
            .iter()
            .rev()
            .find(|change| change.path.starts_with(path) || path.starts_with(&change.path));
        if let Some(change) = set {
            return format!("--set {}", change.text);
        }
        match DeTable::parse(self.text).ok().and_then(|table| key_span(table.get_ref(), path)) {
            Some(span) => format!("{}:{}", self.name, line_of(self.text, span.start)),
            None => self.name.to_owned(),
        }
    }

    fn explain(&self, merged: &str, error: &toml::de::Error) -> ConfigError {
        let message = error.message().trim().to_owned();
        let mut path = Vec::new();
        if let (Some(span), Ok(table)) = (error.span(), DeTable::parse(merged)) {
            // What is missing at the top level is missing nowhere in particular: an empty span.
            path = if span.is_empty() { Vec::new() } else { path_at(table.get_ref(), span.start) };
        }
        let table: Table = toml::from_str(merged).unwrap_or_default();
        let names = quoted(&message);
        let expected = message.split_once("expected ").map(|(_, rest)| rest.replace('`', ""));
        if message.starts_with("unknown field") {
            let unknown = names.first().cloned().unwrap_or_default();
            if path.last() != Some(&unknown) {
                path.push(unknown.clone());
            }
            let known = &names[1.min(names.len())..];
            let hint =
                closest(&unknown, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            return self.error(
                &path,
                value_at(&table, &path),
                format!("unknown key{hint}"),
                Some(known.join(", ")),
            );
        }
        if message.starts_with("missing field") {
            let missing = names.first().cloned().unwrap_or_default();
            let section =
                if path.is_empty() { "the top level".to_owned() } else { format!("[{}]", spelled(&path)) };
            let place = self.place(&path);
            path.push(missing);
            return ConfigError {
                place,
                key: spelled(&path),
                value: None,
                problem: format!("missing from {section}"),
                allowed: None,
            };
        }
        if message.starts_with("unknown variant") {
            let unknown = names.first().cloned().unwrap_or_default();
            let known = &names[1.min(names.len())..];
            // The variant is the key itself in `[action.NAME]`, the value in `integrator = "NAME"`.
            if value_at(&table, &[path.clone(), vec![unknown.clone()]].concat()).is_some() {
                path.push(unknown.clone());
            }
            let hint =
                closest(&unknown, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            let problem = format!("`{unknown}` is not known here{hint}");
            return self.error(&path, value_at(&table, &path), problem, Some(known.join(", ")));
        }
        if let Some(found) =
            message.strip_prefix("invalid type: ").and_then(|rest| rest.split(", expected").next())
        {
            let expected = expected.as_deref().map(plain_type);
            return self.error(
                &path,
                value_at(&table, &path),
                format!("has the wrong type: {}", found.replace('`', "")),
                expected,
            );
        }
        let problem = message.split(", expected").next().unwrap_or(&message).replace('`', "");
        self.error(&path, value_at(&table, &path), problem, expected.as_deref().map(plain_type))
    }
}

/// Rust's type names in a physicist's words.
fn plain_type(expected: &str) -> String {
    match expected {
        "f64" => "a number".into(),
        "u32" | "u64" | "usize" => "a whole number, not negative".into(),
        "a sequence" => "a list in brackets".into(),
        other => other.into(),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

/// The words between back quotes.
fn quoted(message: &str) -> Vec<String> {
    message.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A key path as the file would spell it; positions in lists in brackets.
fn spelled(path: &[String]) -> String {
    let mut text = String::new();
    for part in path {
        if part.parse::<usize>().is_ok() {
            text.push_str(&format!("[{part}]"));
        } else {
            text.push_str(if text.is_empty() { "" } else { "." });
            text.push_str(part);
        }
    }
    text
}

fn value_at(table: &Table, path: &[String]) -> Option<String> {
    let (first, rest) = path.split_first()?;
    let mut value = table.get(first)?;
    for part in rest {
        value = match value {
            Value::Array(list) => list.get(part.parse::<usize>().ok()?)?,
            other => other.get(part)?,
        };
    }
    Some(value.to_string().trim().replace('\n', " "))
}

/// The key path whose key or value covers a byte offset.
fn path_at(table: &DeTable<'_>, offset: usize) -> Vec<String> {
    for (key, value) in table {
        let name = key.get_ref().to_string();
        // A section's own span may be its header alone, so look inside first.
        let below = path_inside(value.get_ref(), offset);
        if !below.is_empty() {
            return [vec![name], below].concat();
        }
        if key.span().contains(&offset) || value.span().contains(&offset) {
            return vec![name];
        }
    }
    Vec::new()
}

fn path_inside(value: &DeValue<'_>, offset: usize) -> Vec<String> {
    match value {
        DeValue::Table(table) => path_at(table, offset),
        DeValue::Array(list) => {
            for (index, item) in list.iter().enumerate() {
                let below = path_inside(item.get_ref(), offset);
                let tables = matches!(item.get_ref(), DeValue::Table(_));
                if !below.is_empty() || (tables && item.span().contains(&offset)) {
                    return [vec![index.to_string()], below].concat();
                }
            }
            Vec::new()
        }
        _ => Vec::new(),
    }
}

fn key_span(table: &DeTable<'_>, path: &[String]) -> Option<Range<usize>> {
    let (first, rest) = path.split_first()?;
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == first)?;
    span_inside(value.get_ref(), rest).or(Some(key.span()))
}

fn span_inside(value: &DeValue<'_>, path: &[String]) -> Option<Range<usize>> {
    let (first, rest) = path.split_first()?;
    match value {
        DeValue::Table(table) => key_span(table, path),
        DeValue::Array(list) => {
            let item = list.get(first.parse::<usize>().ok()?)?;
            span_inside(item.get_ref(), rest).or(Some(item.span()))
        }
        _ => None,
    }
}
