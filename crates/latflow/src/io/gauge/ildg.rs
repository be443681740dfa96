//! Gauge configurations in LIME files: ILDG, and SciDAC files of QIO.
//!
//! ```text
//! scidac-private-file-xml    extents                      scidac-file-xml      for people
//! scidac-private-record-xml  number type, precision       scidac-record-xml    plaquette and link trace
//! ildg-format                group, precision, extents    ildg-data-lfn        name in the ILDG catalogue
//! ildg-binary-data           the links, big-endian        scidac-checksum      suma, sumb
//! ```
//!
//! Files have some of these; only the links are indispensable. SciDAC files call them scidac-binary-data. Where two records
//! say the same they must agree. `xlf-info`, written by tmLQCD, states the plaquette.

use super::checksum::{Checksum, scidac};
use super::contents::{Contents, Entry, Format, Label};
use super::fault::{Checks, DAMAGED, Fault, TRUNCATED};
use super::field::{Extents, GaugeField, extents};
use super::lime::{Record, compose, parse};
use super::payload::{Endian, Layout, Precision, infer};
use super::properties::Properties;
use super::stated::{Quantity, Stated};
use super::xml::{self, Element};

const PRIVATE_FILE: &str = "scidac-private-file-xml";
const FILE: &str = "scidac-file-xml";
const PRIVATE_RECORD: &str = "scidac-private-record-xml";
const RECORD: &str = "scidac-record-xml";
const ILDG_FORMAT: &str = "ildg-format";
const LFN: &str = "ildg-data-lfn";
const ILDG_DATA: &str = "ildg-binary-data";
const SCIDAC_DATA: &str = "scidac-binary-data";
const CHECKSUM: &str = "scidac-checksum";
const XLF_INFO: &str = "xlf-info";

const KNOWN: [&str; 10] = [
    PRIVATE_FILE,
    FILE,
    PRIVATE_RECORD,
    RECORD,
    ILDG_FORMAT,
    LFN,
    ILDG_DATA,
    SCIDAC_DATA,
    CHECKSUM,
    XLF_INFO,
];

/// Interprets the records of a LIME file.
pub(super) fn open<'a>(
    bytes: &'a [u8],
    dims: Option<Extents>,
    checks: &mut Checks,
) -> Result<Contents<'a>, Fault> {
    let records = parse(bytes)?;
    for record in &records {
        checks.require(known_or_foreign(record))?;
    }
    let data = match (find(&records, ILDG_DATA)?, find(&records, SCIDAC_DATA)?) {
        (Some(data), None) | (None, Some(data)) => data,
        (Some(_), Some(second)) => {
            let remedy = "this file is not one gauge configuration";
            return Err(Fault::new("LIME records", "one record of links", second.name(), remedy));
        }
        (None, None) => return Err(no_links(&records)),
    };
    let mut claims = Claims::default();
    if let Some(record) = find(&records, ILDG_FORMAT)? {
        claims.add_ildg_format(&Element::root(record)?, checks)?;
    }
    if let Some(record) = find(&records, PRIVATE_FILE)? {
        claims.add_private_file(&Element::root(record)?)?;
    }
    if let Some(record) = find(&records, PRIVATE_RECORD)? {
        claims.add_private_record(&Element::root(record)?)?;
    }
    let layout = claims.settle(data, dims, checks)?;
    let checksum = find(&records, CHECKSUM)?.map(stored_checksum).transpose()?;
    if checksum.is_none() {
        checks.require(complete(&records))?;
    }
    let format = if data.kind == ILDG_DATA { Format::Ildg } else { Format::Scidac };
    Ok(Contents {
        format,
        layout,
        payload: data.data,
        payload_record: data.name(),
        checksum,
        stated: stated(&records)?,
        entries: records.iter().map(entry).collect(),
        label: find(&records, LFN)?.and_then(|record| Label::from_lfn(xml::text(record).ok()?)),
    })
}

/// The record of a type; two of one type are not one configuration.
fn find<'r, 'a>(records: &'r [Record<'a>], kind: &str) -> Result<Option<&'r Record<'a>>, Fault> {
    let mut found = records.iter().filter(|record| record.kind == kind);
    let first = found.next();
    match found.next() {
        None => Ok(first),
        Some(second) => {
            let remedy = "this file holds more than one field; extract the gauge configuration";
            Err(Fault::new(
                "LIME records",
                format!("one {kind}"),
                format!("another as {}", second.name()),
                remedy,
            ))
        }
    }
}

/// A type that is almost a known one is that one, damaged.
fn known_or_foreign(record: &Record<'_>) -> Result<(), Fault> {
    let kind = record.kind.as_bytes();
    let distance = |known: &str| {
        let differ = kind.iter().zip(known.as_bytes()).filter(|(a, b)| a != b).count();
        differ + kind.len().abs_diff(known.len())
    };
    match KNOWN.into_iter().find(|known| distance(known) <= 2) {
        Some(known) if known != record.kind => {
            Err(Fault::new(format!("record {} (its type)", record.number), known, record.kind, DAMAGED))
        }
        _ => Ok(()),
    }
}

fn no_links(records: &[Record<'_>]) -> Fault {
    let kinds: Vec<&str> = records.iter().map(|record| record.kind).collect();
    let remedy = "the file is truncated before its links, or is not a gauge configuration";
    Fault::new("LIME records", ILDG_DATA, format!("only {}", kinds.join(", ")), remedy)
}

/// A last record that does not end its message, in a file that uses these flags, was followed by others.
fn complete(records: &[Record<'_>]) -> Result<(), Fault> {
    let flagged = records.iter().any(|record| record.begins_message || record.ends_message);
    match records.last() {
        Some(last) if flagged && !last.ends_message => {
            let expected = format!("more records of its message, such as {CHECKSUM}, after it");
            Err(Fault::new(last.name(), expected, "the end of the file", TRUNCATED))
        }
        _ => Ok(()),
    }
}

/// What records say about the links, each with its place.
#[derive(Default)]
struct Claims {
    dims: Vec<(String, Extents)>,
    n_colours: Vec<(String, usize)>,
    precision: Vec<(String, Precision)>,
}

impl Claims {
    fn add_ildg_format(&mut self, xml: &Element<'_>, checks: &mut Checks) -> Result<(), Fault> {
        let version = xml.required("version")?;
        if !version.parse().is_ok_and(|version: f64| (1.0..2.0).contains(&version)) {
            checks.require(Err(xml.fault("version", "1.0 to 1.2", version)))?;
        }
        let field = xml.required("field")?;
        let n = field.strip_prefix("su").and_then(|rest| rest.strip_suffix("gauge"));
        let n = n.and_then(colours).ok_or_else(|| xml.fault("field", "su3gauge, su2gauge, …", field))?;
        self.n_colours.push((xml.place("field"), n));
        let text = xml.required("precision")?;
        let precision = text.parse().map_err(|_| xml.fault("precision", "32 or 64", text))?;
        self.precision.push((xml.place("precision"), precision));
        let mut dims = [0; 4];
        for (extent, name) in dims.iter_mut().zip(["lx", "ly", "lz", "lt"]) {
            *extent = xml.extent(name, xml.required(name)?)?;
        }
        self.dims.push((xml.record(), dims));
        Ok(())
    }

    fn add_private_file(&mut self, xml: &Element<'_>) -> Result<(), Fault> {
        let text = xml.required("dims")?;
        let dims: Vec<usize> =
            text.split_whitespace().map(|extent| xml.extent("dims", extent)).collect::<Result<_, _>>()?;
        let dims = Extents::try_from(dims).map_err(|_| xml.fault("dims", "four extents", text))?;
        self.dims.push((xml.place("dims"), dims));
        Ok(())
    }

    /// Colours and precision are optional here.
    fn add_private_record(&mut self, xml: &Element<'_>) -> Result<(), Fault> {
        let datatype = xml.optional("datatype").unwrap_or("ColorMatrix");
        if !datatype.contains("ColorMatrix") {
            return Err(xml.fault("datatype", "a ColorMatrix", datatype));
        }
        let datacount = xml.optional("datacount").unwrap_or("4");
        if datacount != "4" {
            return Err(xml.fault("datacount", "4 matrices a site", datacount));
        }
        let n_colours = xml.optional("colors").and_then(colours);
        self.n_colours.extend(n_colours.map(|n| (xml.place("colors"), n)));
        let precision = match xml.optional("precision") {
            Some("F" | "f") => Some(Precision::Single),
            Some("D" | "d") => Some(Precision::Double),
            Some(other) => return Err(xml.fault("precision", "F or D", other)),
            None => None,
        };
        self.precision.extend(precision.map(|precision| (xml.place("precision"), precision)));
        Ok(())
    }

    /// The layout all claims agree on; what nobody says follows from the command line and the size of the payload.
    fn settle(self, data: &Record<'_>, given: Option<Extents>, checks: &mut Checks) -> Result<Layout, Fault> {
        let stated = agreed(&self.dims, extents, checks)?;
        let dims = match (stated, given) {
            (Some(dims), Some(given)) if dims != given => {
                let remedy = "leave out --dims to take what the file says";
                let expected = format!("{} (--dims)", extents(given));
                return Err(Fault::new(self.dims[0].0.as_str(), expected, extents(dims), remedy));
            }
            (Some(dims), _) | (None, Some(dims)) => dims,
            (None, None) => {
                let sites = data.data.len() / (4 * 9 * 16);
                let remedy = format!(
                    "no record of this file says them: give them with --dims X,Y,Z,T (SU(3) in 64 bit would have {sites} sites)"
                );
                return Err(Fault::new(data.name(), "known extents", "none", remedy));
            }
        };
        let n_colours = agreed(&self.n_colours, |n| format!("SU({n})"), checks)?;
        let precision = agreed(&self.precision, |precision| format!("{} bit", precision.bits()), checks)?;
        let inferred = || {
            infer(data.data.len(), dims).ok_or_else(|| {
                let expected = format!("a size that fits SU(N) on {}", extents(dims));
                let remedy = "the extents are wrong: give those of the file with --dims X,Y,Z,T";
                Fault::new(data.name(), expected, format!("{} bytes", data.data.len()), remedy)
            })
        };
        let n_colours = n_colours.map_or_else(|| Ok(inferred()?.0), Ok)?;
        let precision = precision.map_or_else(|| Ok(inferred()?.1), Ok)?;
        Ok(Layout { dims, n_colours, rows: n_colours, precision, endian: Endian::Big })
    }
}

/// N of SU(N); nobody has files of larger groups.
fn colours(text: &str) -> Option<usize> {
    text.parse().ok().filter(|n| (1..100).contains(n))
}

/// What the first says, if the others say the same.
fn agreed<T: Copy + PartialEq>(
    claims: &[(String, T)],
    show: impl Fn(T) -> String,
    checks: &mut Checks,
) -> Result<Option<T>, Fault> {
    let Some(((first, value), others)) = claims.split_first() else { return Ok(None) };
    for (place, other) in others {
        if other != value {
            let expected = format!("{}, as in {first}", show(*value));
            checks.require(Err(Fault::new(place.as_str(), expected, show(*other), DAMAGED)))?;
        }
    }
    Ok(Some(*value))
}

fn stored_checksum(record: &Record<'_>) -> Result<Checksum, Fault> {
    let xml = Element::root(record)?;
    let sum = |name| {
        let text = xml.required(name)?;
        u32::from_str_radix(text, 16).map_err(|_| xml.fault(name, "a hexadecimal number of 32 bits", text))
    };
    Ok(Checksum::Scidac { suma: sum("suma")?, sumb: sum("sumb")? })
}

/// What the files of several codes state about the links.
fn stated(records: &[Record<'_>]) -> Result<Vec<Stated>, Fault> {
    let mut stated = Vec::new();
    if let Some(record) = find(records, RECORD)?
        && xml::text(record)?.contains("usqcdInfo")
    {
        let xml = Element::root(record)?;
        for (name, quantity) in [("plaq", Quantity::Plaquette), ("linktr", Quantity::LinkTrace)] {
            if let Some(text) = xml.optional(name) {
                let record = xml.place(name);
                stated.push(Stated { record, quantity, text: text.to_owned() });
            }
        }
    }
    let value =
        |line: &str| Some(line.trim().strip_prefix("plaquette")?.trim().strip_prefix('=')?.trim().to_owned());
    for record in records.iter().filter(|record| record.kind == XLF_INFO) {
        if let Some(text) = xml::text(record)?.lines().find_map(value) {
            let record = format!("{} plaquette", record.name());
            stated.push(Stated { record, quantity: Quantity::Plaquette, text });
        }
    }
    Ok(stated)
}

fn entry(record: &Record<'_>) -> Entry {
    let position = format!("{} bytes at byte {}", record.data.len(), record.offset);
    Entry { name: record.kind.to_owned(), value: position }
}

/// The bytes of an ILDG file with all records other codes ask for.
pub(super) fn write(field: &GaugeField, precision: Precision, label: &Label) -> Vec<u8> {
    let (dims, n) = (field.dims(), field.n_colours());
    let layout = Layout { dims, n_colours: n, rows: n, precision, endian: Endian::Big };
    let payload = layout.encode(field.links());
    let properties = Properties::of(field);
    let [lx, ly, lz, lt] = dims;
    let header = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
    let file = format!(
        "{header}<scidacFile><version>1.1</version><spacetime>4</spacetime><dims>{lx} {ly} {lz} {lt} </dims>\
         <volfmt>0</volfmt></scidacFile>"
    );
    // Readers ask for a date; with a real one the same field would not make the same file.
    let letter = if precision == Precision::Double { 'D' } else { 'F' };
    let record = format!(
        "{header}<scidacRecord><version>1.1</version><date>not recorded</date><recordtype>0</recordtype>\
         <datatype>USQCD_{letter}{n}_ColorMatrix</datatype><precision>{letter}</precision><colors>{n}</colors>\
         <typesize>{}</typesize><datacount>4</datacount></scidacRecord>",
        layout.link_bytes()
    );
    let info = format!(
        "{header}<usqcdInfo><version>1.0</version><plaq>{:.15}</plaq><linktr>{:.15}</linktr>\
         <info>{} {}</info></usqcdInfo>",
        properties.plaquette,
        properties.link_trace,
        label.ensemble(),
        label.number()
    );
    // Groups other than SU(3) came with version 1.2.
    let version = if n == 3 { "1.0" } else { "1.2" };
    let format = format!(
        "{header}<ildgFormat xmlns=\"http://www.lqcd.org/ildg\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
         xsi:schemaLocation=\"http://www.lqcd.org/ildg filefmt.xsd\"><version>{version}</version>\
         <field>su{n}gauge</field><precision>{}</precision><lx>{lx}</lx><ly>{ly}</ly><lz>{lz}</lz><lt>{lt}</lt>\
         </ildgFormat>",
        precision.bits()
    );
    let (suma, sumb) = scidac(&payload, layout.site_bytes());
    let sums = format!(
        "{header}<scidacChecksum><version>1.0</version><suma>{suma:08x}</suma><sumb>{sumb:08x}</sumb></scidacChecksum>"
    );
    let program = format!("{header}<title>latflow {}</title>", env!("CARGO_PKG_VERSION"));
    compose(&[
        &[(PRIVATE_FILE, file.as_bytes()), (FILE, program.as_bytes())],
        &[
            (PRIVATE_RECORD, record.as_bytes()),
            (RECORD, info.as_bytes()),
            (ILDG_FORMAT, format.as_bytes()),
            (LFN, label.lfn().as_bytes()),
            (ILDG_DATA, &payload),
            (CHECKSUM, sums.as_bytes()),
        ],
    ])
}
