//! Gauge configurations in the format of the NERSC archive: a text header, then the links.
//!
//! ```text
//! BEGIN_HEADER
//! KEY = VALUE
//! END_HEADER
//! ```
//!
//! `DATATYPE` says how many rows of each link are stored, `FLOATING_POINT` how numbers are; both are read in all their
//! variants. Written is what every reader knows: all rows, most significant byte first. Times are left out, so that a field
//! always makes the same file.

use super::checksum::{Checksum, nersc};
use super::contents::{Contents, Entry, Format, Label};
use super::fault::{Checks, DAMAGED, Fault, TRUNCATED};
use super::field::{Extents, GaugeField, extents};
use super::lime::hexadecimal;
use super::payload::{Endian, Layout, Precision};
use super::properties::Properties;
use super::stated::{Quantity, Stated};

/// The first line.
pub(super) const BEGIN: &[u8] = b"BEGIN_HEADER";

const END: &[u8] = b"END_HEADER\n";

/// Longer than any header.
const LONGEST_HEADER: usize = 1 << 16;

const HEADER_REMEDY: &str =
    "the header is damaged or was written wrongly: get the file again from where it came";

const FLOATING_POINT: [(&str, Precision, Endian); 8] = [
    ("IEEE32BIG", Precision::Single, Endian::Big),
    ("IEEE64BIG", Precision::Double, Endian::Big),
    ("IEEE32LITTLE", Precision::Single, Endian::Little),
    ("IEEE64LITTLE", Precision::Double, Endian::Little),
    ("IEEE32", Precision::Single, Endian::Little),
    ("IEEE64", Precision::Double, Endian::Little),
    ("IEEE32SMALL", Precision::Single, Endian::Little),
    ("IEEE64SMALL", Precision::Double, Endian::Little),
];

/// The keys and values of a header.
struct Header<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Header<'a> {
    /// The header and what follows it.
    fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Fault> {
        let searched = &bytes[..bytes.len().min(LONGEST_HEADER)];
        let end = searched.windows(END.len()).position(|window| window == END).ok_or_else(|| {
            let got = format!("none in the first {} bytes", searched.len());
            let remedy = if searched.len() == bytes.len() { TRUNCATED } else { HEADER_REMEDY };
            Fault::new("header", "a line END_HEADER", got, remedy)
        })?;
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for (index, line) in bytes[..end].split(|byte| *byte == b'\n').enumerate().skip(1) {
            let text = std::str::from_utf8(line)
                .ok()
                .filter(|text| !text.contains(|c: char| c.is_control() && c != '\r' && c != '\t'));
            let at = format!("header line {}", index + 1);
            let Some(text) = text else {
                return Err(Fault::new(at, "text", hexadecimal(line), HEADER_REMEDY));
            };
            match text.split_once('=') {
                Some((key, value)) => {
                    let key = key.trim();
                    if pairs.iter().any(|(other, _)| *other == key) {
                        return Err(Fault::new(at, "every key once", format!("{key} again"), HEADER_REMEDY));
                    }
                    pairs.push((key, value.trim()));
                }
                None if text.trim().is_empty() => {}
                None => return Err(Fault::new(at, "KEY = VALUE", format!("{text:?}"), HEADER_REMEDY)),
            }
        }
        Ok((Self(pairs), &bytes[end + END.len()..]))
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find(|(other, _)| *other == key).map(|(_, value)| *value)
    }

    fn required(&self, key: &str) -> Result<&'a str, Fault> {
        self.get(key).ok_or_else(|| Fault::new("header", format!("a key {key}"), "none", HEADER_REMEDY))
    }
}

fn fault(key: &str, expected: impl Into<String>, got: &str) -> Fault {
    Fault::new(name(key), expected, format!("{got:?}"), HEADER_REMEDY)
}

fn name(key: &str) -> String {
    format!("header key {key}")
}

/// Interprets the header.
pub(super) fn open<'a>(
    bytes: &'a [u8],
    given: Option<Extents>,
    checks: &mut Checks,
) -> Result<Contents<'a>, Fault> {
    let (header, payload) = Header::split(bytes)?;
    let mut dims = [0; 4];
    for (index, extent) in dims.iter_mut().enumerate() {
        let key = format!("DIMENSION_{}", index + 1);
        let text = header.required(&key)?;
        let value = text.parse().ok().filter(|extent| *extent > 0);
        *extent = value.ok_or_else(|| fault(&key, "a positive number", text))?;
    }
    if let Some(given) = given
        && given != dims
    {
        let remedy = "leave out --dims to take what the file says";
        let expected = format!("{} (--dims)", extents(given));
        return Err(Fault::new(name("DIMENSION_1…4"), expected, extents(dims), remedy));
    }
    let datatype = header.required("DATATYPE")?;
    let (n_colours, rows) = group(datatype).ok_or_else(|| {
        fault("DATATYPE", "4D_SU3_GAUGE_3x3, 4D_SU3_GAUGE or 4D_SU<N>_GAUGE_<N>x<N>", datatype)
    })?;
    let text = header.get("FLOATING_POINT").unwrap_or(FLOATING_POINT[0].0);
    let (_, precision, endian) =
        FLOATING_POINT.into_iter().find(|(name, ..)| *name == text).ok_or_else(|| {
            let names: Vec<&str> = FLOATING_POINT.iter().map(|(name, ..)| *name).collect();
            fault("FLOATING_POINT", format!("one of {}", names.join(", ")), text)
        })?;
    check_constants(&header, checks)?;

    let checksum = match checks.require_some(header.required("CHECKSUM"))? {
        Some(text) => Some(
            u32::from_str_radix(text.trim_start_matches("0x"), 16)
                .map(Checksum::Nersc)
                .map_err(|_| fault("CHECKSUM", "a hexadecimal number of 32 bits", text))?,
        ),
        None => None,
    };
    let mut stated = Vec::new();
    for (key, quantity) in [("PLAQUETTE", Quantity::Plaquette), ("LINK_TRACE", Quantity::LinkTrace)] {
        if let Some(text) = checks.require_some(header.required(key))? {
            stated.push(Stated { record: name(key), quantity, text: text.to_owned() });
        }
    }
    let number = header.get("SEQUENCE_NUMBER").and_then(|number| number.parse().ok());
    Ok(Contents {
        format: Format::Nersc,
        layout: Layout { dims, n_colours, rows, precision, endian },
        payload,
        payload_record: "payload".into(),
        checksum,
        stated,
        entries: header
            .0
            .iter()
            .map(|(key, value)| Entry { name: (*key).into(), value: (*value).into() })
            .collect(),
        label: header.get("ENSEMBLE_ID").zip(number).map(|(ensemble, number)| Label::new(ensemble, number)),
    })
}

/// N and the number of stored rows.
fn group(datatype: &str) -> Option<(usize, usize)> {
    if datatype == "4D_SU3_GAUGE" {
        return Some((3, 2));
    }
    let (n, shape) = datatype.strip_prefix("4D_SU")?.split_once("_GAUGE_")?;
    let n_colours = n.parse().ok().filter(|n| (1..100).contains(n))?;
    (shape == format!("{n}x{n}")).then_some((n_colours, n_colours))
}

/// Keys that have had one value ever since.
fn check_constants(header: &Header<'_>, checks: &mut Checks) -> Result<(), Fault> {
    for key in ["HDR_VERSION", "STORAGE_FORMAT"] {
        if let Some(text) = header.get(key).filter(|text| text.parse() != Ok(1.0)) {
            checks.require(Err(Fault::new(name(key), "1.0", format!("{text:?}"), DAMAGED)))?;
        }
    }
    for direction in 1..=4 {
        let key = format!("BOUNDARY_{direction}");
        if let Some(text) = header.get(&key).filter(|text| !["PERIODIC", "ANTIPERIODIC"].contains(text)) {
            checks.require(Err(Fault::new(name(&key), "PERIODIC", format!("{text:?}"), DAMAGED)))?;
        }
    }
    Ok(())
}

/// The bytes of a NERSC file.
pub(super) fn write(field: &GaugeField, precision: Precision, label: &Label) -> Vec<u8> {
    let n = field.n_colours();
    let layout = Layout { dims: field.dims(), n_colours: n, rows: n, precision, endian: Endian::Big };
    let payload = layout.encode(field.links());
    let properties = Properties::of(field);
    let mut lines = vec![
        "BEGIN_HEADER".to_owned(),
        "HDR_VERSION = 1.0".into(),
        format!("DATATYPE = 4D_SU{n}_GAUGE_{n}x{n}"),
        "STORAGE_FORMAT = 1.0".into(),
    ];
    lines.extend((1..).zip(field.dims()).map(|(i, extent)| format!("DIMENSION_{i} = {extent}")));
    lines.push(format!("LINK_TRACE = {:.15}", properties.link_trace));
    lines.push(format!("PLAQUETTE = {:.15}", properties.plaquette));
    lines.extend((1..=4).map(|i| format!("BOUNDARY_{i} = PERIODIC")));
    lines.push(format!("CHECKSUM = {}", Checksum::Nersc(nersc(&payload, layout.endian))));
    lines.push(format!("ENSEMBLE_ID = {}", label.ensemble()));
    lines.push(format!("ENSEMBLE_LABEL = {}", label.ensemble()));
    lines.push(format!("SEQUENCE_NUMBER = {}", label.number()));
    lines.push(format!("CREATOR = latflow {}", env!("CARGO_PKG_VERSION")));
    lines.push(format!("FLOATING_POINT = IEEE{}BIG", precision.bits()));
    lines.push("END_HEADER\n".into());
    let mut bytes = lines.join("\n").into_bytes();
    bytes.extend(payload);
    bytes
}
