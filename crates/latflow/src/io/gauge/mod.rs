//! Gauge configurations as other codes write and read them: ILDG, SciDAC and NERSC files.
//!
//! ```text
//! file → records or header (ildg, nersc) → Contents: layout, payload, what is stated about it
//!      → size, checksum, finite numbers, plaquette and link trace, unitarity and determinant → GaugeFile
//! ```
//!
//! The format is recognised by the first bytes of a file. Everything a file says is checked against its links; whatever is
//! wrong is a [`Fault`] with record, expected, got and a remedy.

mod checksum;
mod contents;
mod fault;
mod field;
mod ildg;
mod lime;
mod nersc;
mod payload;
mod properties;
mod stated;
mod xml;

use std::path::Path;

pub use contents::{Entry, Format, Label};
pub use fault::{Fault, GaugeFileError};
pub use field::{Extents, GaugeField};
pub use payload::Precision;
pub use properties::Properties;

use super::files::{read, write_atomically};
use contents::Contents;
use fault::{Checks, DAMAGED};
use field::place;
use payload::infer;

/// How far links may be from the group: rounding of single precision after many multiplications.
const GROUP_TOLERANCE: f64 = 1e-5;

/// Links in double precision that are further from the group than this were single precision once, or are damaged.
const DOUBLE_PRECISION: f64 = 1e-10;

/// What the caller knows about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOptions {
    /// Extents x, y, z, t, for files that do not say them; those of other files must agree.
    pub dims: Option<Extents>,
    /// Whether a file that contradicts itself is refused; otherwise it is read with warnings.
    pub verify: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { dims: None, verify: true }
    }
}

/// Whether a file has the checksum it states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChecksumState {
    /// It does; the checksum.
    Verified(String),
    /// It does not, which was only read because nothing was to be verified.
    Wrong {
        /// The checksum in the file.
        stated: String,
        /// That of the links.
        computed: String,
    },
    /// The file states none.
    Absent,
}

impl std::fmt::Display for ChecksumState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Verified(sum) => write!(f, "verified ({sum})"),
            Self::Wrong { stated, computed } => write!(f, "WRONG (stated {stated}, links have {computed})"),
            Self::Absent => f.write_str("absent"),
        }
    }
}

/// A configuration that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct GaugeFile {
    /// The links.
    pub field: GaugeField,
    /// The format of the file.
    pub format: Format,
    /// The precision of the file.
    pub precision: Precision,
    /// Its records or header lines.
    pub entries: Vec<Entry>,
    /// The state of its checksum.
    pub checksum: ChecksumState,
    /// Which configuration it says it is.
    pub label: Option<Label>,
    /// Plaquette, link trace, distance from the group.
    pub properties: Properties,
    /// What looks wrong and was not refused.
    pub warnings: Vec<String>,
}

/// Reads a configuration of any format.
///
/// # Errors
/// [`GaugeFileError`] when the file is not a gauge configuration, cannot be understood, contains numbers that are not finite,
/// or, if it is to be verified, contradicts itself or has links outside SU(N).
pub fn read_gauge(path: &Path, options: &ReadOptions) -> Result<GaugeFile, GaugeFileError> {
    let bytes = read(path)?;
    parse_gauge(&bytes, options)
        .map_err(|fault| GaugeFileError::Content { path: path.to_path_buf(), fault: Box::new(fault) })
}

/// Writes a configuration, atomically. As SciDAC file it is an ILDG file, which is both.
///
/// # Errors
/// [`GaugeFileError`] when a number is not finite, or the file cannot be written.
pub fn write_gauge(
    path: &Path,
    field: &GaugeField,
    format: Format,
    precision: Precision,
    label: &Label,
) -> Result<(), GaugeFileError> {
    let content = |fault| GaugeFileError::Content { path: path.to_path_buf(), fault: Box::new(fault) };
    let remedy = "nothing was written; find out where the field was computed";
    finite(field, "links to write", remedy).map_err(content)?;
    let bytes = match format {
        Format::Ildg | Format::Scidac => ildg::write(field, precision, label),
        Format::Nersc => nersc::write(field, precision, label),
    };
    Ok(write_atomically(path, &bytes)?)
}

/// Understands the bytes of a file.
///
/// # Errors
/// [`Fault`], as [`read_gauge`].
pub fn parse_gauge(bytes: &[u8], options: &ReadOptions) -> Result<GaugeFile, Fault> {
    let mut checks = Checks::new(options.verify);
    let contents = if bytes.starts_with(&lime::MAGIC) {
        ildg::open(bytes, options.dims, &mut checks)?
    } else if bytes.starts_with(nersc::BEGIN) {
        nersc::open(bytes, options.dims, &mut checks)?
    } else {
        return Err(not_a_gauge_file(bytes));
    };
    check_size(&contents)?;
    let checksum = check_sum(&contents, &mut checks)?;
    let Contents { layout, payload, payload_record: record, .. } = &contents;
    let (dims, precision) = (layout.dims, layout.precision);
    let field = GaugeField::new(dims, layout.n_colours, layout.decode(payload))
        .map_err(|error| Fault::new(record.as_str(), "links", error.to_string(), DAMAGED))?;
    finite(&field, record, "the file is damaged, or the field was broken when it was written")?;
    let properties = Properties::of(&field);
    for stated in &contents.stated {
        checks.require(stated.check(&properties, precision))?;
    }
    check_group(&properties, &contents, &mut checks)?;
    Ok(GaugeFile {
        field,
        format: contents.format,
        precision,
        entries: contents.entries,
        checksum,
        label: contents.label,
        properties,
        warnings: checks.into_warnings(),
    })
}

fn not_a_gauge_file(bytes: &[u8]) -> Fault {
    let start = &bytes[..bytes.len().min(12)];
    let got = if bytes.is_empty() {
        "an empty file".to_owned()
    } else {
        format!("{} ({:?})", lime::hexadecimal(start), String::from_utf8_lossy(start))
    };
    let expected = "a gauge configuration, which begins with 456789ab (ILDG, SciDAC) or BEGIN_HEADER (NERSC)";
    Fault::new("first bytes", expected, got, "name a file in one of these formats")
}

fn check_size(contents: &Contents<'_>) -> Result<(), Fault> {
    let Contents { layout, payload, .. } = contents;
    let bytes = layout.bytes();
    if bytes == Some(payload.len()) {
        return Ok(());
    }
    let remedy = match infer(payload.len(), layout.dims) {
        Some((n, precision)) => {
            format!(
                "the size would fit SU({n}) in {} bit: what the file says about itself is wrong",
                precision.bits()
            )
        }
        None if bytes.is_none_or(|bytes| payload.len() < bytes) => {
            "the file is truncated, or the extents it states are wrong: get it again from where it came"
                .into()
        }
        None => {
            "the extents, colours or precision it states are wrong: get the file again from where it came"
                .into()
        }
    };
    let bytes = bytes.map_or_else(|| "more bytes than there can be".into(), |bytes| format!("{bytes} bytes"));
    let expected = format!("{bytes} for {layout}");
    Err(Fault::new(contents.payload_record.as_str(), expected, format!("{} bytes", payload.len()), remedy))
}

fn check_sum(contents: &Contents<'_>, checks: &mut Checks) -> Result<ChecksumState, Fault> {
    let Contents { layout, payload, payload_record, .. } = contents;
    let Some(stated) = contents.checksum else {
        checks.warn(format!(
            "{payload_record}: no checksum in this file; only the links themselves were checked"
        ));
        return Ok(ChecksumState::Absent);
    };
    let computed = stated.of(payload, layout);
    if computed == stated {
        return Ok(ChecksumState::Verified(stated.to_string()));
    }
    let swapped = layout.swapped();
    let remedy = if contents.format == Format::Nersc && stated.of(payload, &swapped) == stated {
        "the checksum is right for the other byte order: FLOATING_POINT is wrong"
    } else {
        DAMAGED
    };
    let expected = format!("the checksum {stated} stated in the file");
    checks.require(Err(Fault::new(payload_record.as_str(), expected, computed.to_string(), remedy)))?;
    Ok(ChecksumState::Wrong { stated: stated.to_string(), computed: computed.to_string() })
}

fn finite(field: &GaugeField, record: &str, remedy: &str) -> Result<(), Fault> {
    let size = field.n_colours() * field.n_colours();
    match field.links().iter().position(|z| !z.is_finite()) {
        Some(index) => {
            let got = format!("{} in {}", field.links()[index], place(field.dims(), index / size));
            Err(Fault::new(record, "finite numbers", got, remedy))
        }
        None => Ok(()),
    }
}

fn check_group(properties: &Properties, contents: &Contents<'_>, checks: &mut Checks) -> Result<(), Fault> {
    let dims = contents.layout.dims;
    let n = contents.layout.n_colours;
    for (what, (deviation, link)) in
        [("|U U† − 1|", properties.unitarity), ("|det U − 1|", properties.determinant)]
    {
        let at = place(dims, link);
        let record = contents.payload_record.as_str();
        if deviation > GROUP_TOLERANCE {
            let expected = format!("links in SU({n}), {what} ≤ {GROUP_TOLERANCE:e}");
            let got = format!("{deviation:.3e} for {at}");
            checks.require(Err(Fault::new(record, expected, got, DAMAGED)))?;
        } else if deviation > DOUBLE_PRECISION && contents.layout.precision == Precision::Double {
            checks.warn(format!(
                "{record}: {what} is {deviation:.1e} for {at}, no better than single precision, though numbers have 64 bit"
            ));
            break;
        }
    }
    Ok(())
}
