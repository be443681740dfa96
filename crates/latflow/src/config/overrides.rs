//! `--set a.b=c`: one value of the configuration, changed on the command line.

use toml::{Table, Value};

use super::ConfigError;

/// A dotted key and its new value.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// The key, part by part.
    pub path: Vec<String>,
    /// The value.
    pub value: Value,
    /// As it was typed.
    pub text: String,
}

impl std::str::FromStr for Override {
    type Err = ConfigError;

    /// The right-hand side is TOML; what does not parse as TOML is taken as a bare string.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let wrong = |problem: &str| ConfigError {
            place: format!("--set {text}"),
            key: String::new(),
            value: None,
            problem: problem.into(),
            allowed: Some("KEY=VALUE with a dotted key, such as train.batch=512".into()),
        };
        let (key, value) = text.split_once('=').ok_or_else(|| wrong("there is no '='"))?;
        let path: Vec<String> = key.trim().split('.').map(|part| part.trim().to_owned()).collect();
        if path.iter().any(String::is_empty) {
            return Err(wrong("a part of the key is empty"));
        }
        let value = value.trim();
        let parsed = toml::from_str::<Table>(&format!("value = {value}")).ok().and_then(|mut table| {
            // `1\nother = 2` would smuggle in a second key.
            (table.len() == 1).then(|| table.remove("value")).flatten()
        });
        let value = match parsed {
            Some(parsed) => parsed,
            None if value.is_empty() => return Err(wrong("the value is empty")),
            None if value.starts_with(['[', '{', '"', '\'']) => {
                return Err(wrong("the value is not valid TOML"));
            }
            None => Value::String(value.to_owned()),
        };
        Ok(Self { path, value, text: text.to_owned() })
    }
}

impl Override {
    /// The dotted key.
    pub fn key(&self) -> String {
        self.path.join(".")
    }

    /// Puts the value into the table, creating the sections on the way.
    ///
    /// # Errors
    /// When a section on the way is a plain value.
    pub fn apply(&self, table: &mut Table) -> Result<(), ConfigError> {
        let (last, sections) = self.path.split_last().expect("an override has at least one key part");
        let mut here = table;
        for (depth, section) in sections.iter().enumerate() {
            let entry = here.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
            let found = entry.to_string();
            here = entry.as_table_mut().ok_or_else(|| ConfigError {
                place: format!("--set {}", self.text),
                key: self.path[..=depth].join("."),
                value: Some(found),
                problem: "is a value, not a section".into(),
                allowed: None,
            })?;
        }
        here.insert(last.clone(), self.value.clone());
        Ok(())
    }
}
