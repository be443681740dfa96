//! What can be wrong with a gauge configuration file, said so that one can act on it.

use std::path::PathBuf;

use crate::io::FileError;

/// A gauge configuration file that cannot be read, trusted or written.
#[derive(Debug, thiserror::Error)]
pub enum GaugeFileError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The content is not what it should be.
    #[error("{}: {fault}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong; part of the message, so not a source of its own.
        fault: Box<Fault>,
    },
}

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which part of the file: a record, a header key, the payload.
    pub record: String,
    /// What should stand there.
    pub expected: String,
    /// What stands there.
    pub got: String,
    /// What can be done.
    pub remedy: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: expected {}, got {}\n  {}", self.record, self.expected, self.got, self.remedy)
    }
}

impl Fault {
    pub(super) fn new(
        record: impl Into<String>,
        expected: impl Into<String>,
        got: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { record: record.into(), expected: expected.into(), got: got.into(), remedy: remedy.into() }
    }
}

/// The remedy for files that end too early.
pub(super) const TRUNCATED: &str = "the file is truncated: get it again from where it came";

/// The remedy for damage a reader can step over.
pub(super) const DAMAGED: &str =
    "the file is damaged or was written wrongly: get it again; --no-verify reads it as it is";

/// Decides what a failed check does: it stops the reading, or, when the caller wants the file as it is, becomes a warning.
#[derive(Debug)]
pub(super) struct Checks {
    verify: bool,
    warnings: Vec<String>,
}

impl Checks {
    pub(super) fn new(verify: bool) -> Self {
        Self { verify, warnings: Vec::new() }
    }

    /// A check whose failure leaves the links readable.
    pub(super) fn require(&mut self, check: Result<(), Fault>) -> Result<(), Fault> {
        match check {
            Err(fault) if !self.verify => {
                self.warn(format!("{}: expected {}, got {}", fault.record, fault.expected, fault.got));
                Ok(())
            }
            other => other,
        }
    }

    /// Something a complete file has.
    pub(super) fn require_some<T>(&mut self, found: Result<T, Fault>) -> Result<Option<T>, Fault> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(fault) => self.require(Err(fault)).map(|()| None),
        }
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    pub(super) fn into_warnings(self) -> Vec<String> {
        self.warnings
    }
}
