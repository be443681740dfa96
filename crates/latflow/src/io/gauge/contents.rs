//! What every format says about its configuration, before the links are looked at.

use std::path::Path;

use super::checksum::Checksum;
use super::payload::Layout;
use super::stated::Stated;

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// LIME records with `ildg-binary-data`.
    Ildg,
    /// LIME records with `scidac-binary-data`, as QIO writes them.
    Scidac,
    /// A text header, then the links.
    Nersc,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ildg => "ILDG",
            Self::Scidac => "SciDAC",
            Self::Nersc => "NERSC",
        })
    }
}

/// The formats that are written.
impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ildg" => Ok(Self::Ildg),
            "nersc" => Ok(Self::Nersc),
            _ => Err("allowed: ildg, nersc".into()),
        }
    }
}

impl Format {
    /// The format an extension stands for: .ildg, .lime or .nersc.
    pub fn of_extension(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "ildg" | "lime" => Some(Self::Ildg),
            "nersc" => Some(Self::Nersc),
            _ => None,
        }
    }
}

/// One record or header line, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The type of the record, or the key.
    pub name: String,
    /// Where and how long it is, or its value.
    pub value: String,
}

/// Which configuration of which ensemble this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    ensemble: String,
    number: u64,
}

impl Label {
    /// A label; characters that have a meaning in XML, addresses or headers become `-`.
    pub fn new(ensemble: &str, number: u64) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._+-".contains(c) { c } else { '-' };
        let ensemble: String = ensemble.chars().map(plain).collect();
        Self { ensemble: if ensemble.is_empty() { "latflow".into() } else { ensemble }, number }
    }

    /// The label a file name suggests: `run-b6_0100.ildg` and `run-b6.100` are number 100 of `run-b6`.
    pub fn of_file(path: &Path) -> Self {
        let known = Format::of_extension(path).is_some();
        let name = if known { path.file_stem() } else { path.file_name() };
        let name = name.unwrap_or_default().to_string_lossy();
        let ensemble = name.trim_end_matches(|c: char| c.is_ascii_digit());
        match name[ensemble.len()..].parse() {
            Ok(number) => Self::new(ensemble.trim_end_matches(['_', '-', '.']), number),
            Err(_) => Self::new(&name, 0),
        }
    }

    /// From a name such as `lfn://local/run-b6/100`.
    pub(super) fn from_lfn(name: &str) -> Option<Self> {
        let (rest, number) = name.trim().strip_prefix("lfn://")?.rsplit_once('/')?;
        Some(Self::new(rest.rsplit('/').next()?, number.parse().ok()?))
    }

    /// The name of the data for the ILDG.
    pub(super) fn lfn(&self) -> String {
        format!("lfn://local/{}/{}", self.ensemble, self.number)
    }

    /// Name of the ensemble.
    pub fn ensemble(&self) -> &str {
        &self.ensemble
    }

    /// Number of the configuration in it.
    pub fn number(&self) -> u64 {
        self.number
    }
}

/// A file that has been understood up to its payload.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    pub(super) format: Format,
    pub(super) layout: Layout,
    pub(super) payload: &'a [u8],
    /// The payload, for people.
    pub(super) payload_record: String,
    pub(super) checksum: Option<Checksum>,
    pub(super) stated: Vec<Stated>,
    pub(super) entries: Vec<Entry>,
    pub(super) label: Option<Label>,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Label;

    #[test]
    fn labels_of_files_and_names() {
        for (file, ensemble, number) in [
            ("run-b6_0100.ildg", "run-b6", 100),
            ("ckpoint_lat.12", "ckpoint_lat", 12),
            ("7.nersc", "latflow", 7),
            ("a b.lime", "a-b", 0),
        ] {
            assert_eq!(Label::of_file(Path::new(file)), Label::new(ensemble, number), "{file}");
        }
        let label = Label::new("run", 3);
        assert_eq!(Label::from_lfn(&label.lfn()), Some(label));
        assert_eq!(Label::from_lfn("lfn://ildg/a/b/c.0012.lime"), None);
    }
}
