//! Gauge configuration files that are good: what is written is read, by `latflow cfg` and from files of other codes.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, IndexOp, Tensor};
use latflow::io::gauge::{
    ChecksumState, Format, GaugeField, Label, Precision, ReadOptions, parse_gauge, read_gauge, write_gauge,
};
use latflow_lattice::gauge::matrix::re_trace;
use latflow_lattice::gauge::plaquettes;
use latflow_lattice::{Lattice, Links};
use num_complex::Complex64;

use crate::common::{run, succeed, text};
use crate::gauge_field::{averages, file_numbers, file_order, lime, random_field, records, site};
use crate::inputs::refused;

const NON_CUBIC: [usize; 4] = [4, 2, 3, 6];

fn rounded(field: &GaugeField) -> GaugeField {
    let round = |x: f64| f64::from(x as f32);
    let links = field.links().iter().map(|z| Complex64::new(round(z.re), round(z.im))).collect();
    GaugeField::new(field.dims(), field.n_colours(), links).expect("as many links")
}

/// Every format, group and precision, back and forth through the command line.
#[test]
fn files_are_read_as_they_were_written() {
    let folder = tempfile::tempdir().expect("a folder");
    for n in [2, 3, 4] {
        let field = random_field(NON_CUBIC, n, 7 + n as u64);
        let (plaquette, trace) = averages(&field);
        for (format, other, extension, other_extension) in
            [(Format::Ildg, Format::Nersc, "ildg", "nersc"), (Format::Nersc, Format::Ildg, "nersc", "lime")]
        {
            for (precision, tolerance) in [(Precision::Double, 1e-14), (Precision::Single, 1e-7)] {
                let expected = if precision == Precision::Double { field.clone() } else { rounded(&field) };
                let name = |e: &str| folder.path().join(format!("su{n}-{}_0012.{e}", precision.bits()));
                let (first, second) = (name(&format!("first.{extension}")), name(other_extension));
                let label = Label::new("run", 12);
                write_gauge(&first, &field, format, precision, &label).expect("written");
                succeed(&["cfg", "convert", text(&first), text(&second), "--force"]);
                for (file, format) in [(&first, format), (&second, other)] {
                    let read = read_gauge(file, &ReadOptions::default()).expect("a good file");
                    assert!(read.field == expected, "{}", file.display());
                    assert_eq!((read.format, read.precision), (format, precision));
                    assert_eq!(read.label.as_ref(), Some(&label), "{}", file.display());
                    assert_eq!(read.warnings, [""; 0]);
                    assert!(matches!(read.checksum, ChecksumState::Verified(_)));
                    assert!((read.properties.plaquette - plaquette).abs() < tolerance);
                    assert!((read.properties.link_trace - trace).abs() < tolerance);
                    assert!(read.properties.unitarity.0 < 10.0 * tolerance);
                    assert!(read.properties.determinant.0 < 10.0 * tolerance);
                    let good = succeed(&["cfg", "check", text(file)]);
                    assert!(
                        good.contains(&format!("SU({n}) on 4×2×3×6, {} bit", precision.bits())),
                        "{good}"
                    );
                }
            }
        }
    }
}

/// From double to single precision and back: what is left is the rounded field, and a warning says so.
#[test]
fn precision_is_converted() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let (double, single, again) = (path("a.ildg"), path("b"), path("c.nersc"));
    let field = random_field([2, 2, 2, 4], 3, 5);
    write_gauge(&double, &field, Format::Ildg, Precision::Double, &Label::of_file(&double)).expect("written");
    succeed(&["cfg", "convert", text(&double), text(&single), "--format", "ildg", "--precision", "32"]);
    succeed(&["cfg", "convert", text(&single), text(&again), "--precision", "64"]);
    let read = read_gauge(&again, &ReadOptions::default()).expect("a good file");
    assert!(read.field == rounded(&field) && read.precision == Precision::Double);
    let output = run(&["cfg", "check", text(&again)]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.contains("warning: ") && stderr.contains("single precision"));
}

/// Where each number stands, in both formats, from links that carry their own address.
#[test]
fn every_number_is_where_it_belongs() {
    let folder = tempfile::tempdir().expect("a folder");
    let dims = [2, 3, 4, 5];
    let links = (0..4 * 120 * 9).map(|i| Complex64::new(f64::from(i), -f64::from(i) - 0.5)).collect();
    let field = GaugeField::new(dims, 3, links).expect("120 sites");
    let unverified = ReadOptions { dims: None, verify: false };
    for (format, precision) in [
        (Format::Ildg, Precision::Double),
        (Format::Ildg, Precision::Single),
        (Format::Nersc, Precision::Double),
    ] {
        let path = folder.path().join("addresses");
        write_gauge(&path, &field, format, precision, &Label::new("a", 0)).expect("written");
        let bytes = fs::read(&path).expect("the file");
        let payload = match format {
            Format::Nersc => bytes[bytes.len() - 4 * 120 * 9 * 16..].to_vec(),
            _ => {
                records(&bytes).into_iter().find(|(_, kind, _)| kind == "ildg-binary-data").expect("links").2
            }
        };
        let width = precision.bits() / 8;
        let number = |i: usize| match precision {
            Precision::Double => f64::from_be_bytes(payload[8 * i..][..8].try_into().expect("8 bytes")),
            Precision::Single => {
                f64::from(f32::from_be_bytes(payload[4 * i..][..4].try_into().expect("4 bytes")))
            }
        };
        assert_eq!(payload.len(), 4 * 120 * 18 * width);
        for (rank, x) in file_order(dims).enumerate() {
            for mu in 0..4 {
                for entry in 0..9 {
                    let memory = ((mu * 120 + site(dims, x)) * 9 + entry) as f64;
                    let place = 2 * ((4 * rank + mu) * 9 + entry);
                    assert_eq!((number(place), number(place + 1)), (memory, -memory - 0.5), "{x:?} {mu}");
                }
            }
        }
        assert!(read_gauge(&path, &unverified).expect("readable").field == field);
    }
}

/// The form in which other parts of the program have them.
#[test]
fn fields_are_links() {
    let dims = [2, 4, 2, 6];
    let (first, second) = (random_field(dims, 2, 3), random_field(dims, 2, 4));
    let tensors =
        [&first, &second].map(|field| field.to_links(&Device::Cpu).expect("links").tensor().clone());
    let links = Links::new(Tensor::cat(&tensors, 0).expect("a batch")).expect("links");
    assert_eq!(links.tensor().dims(), [2, 4, 96, 2, 2, 2]);
    assert!(GaugeField::from_links(dims, &links, 0).expect("the first") == first);
    assert!(GaugeField::from_links(dims, &links, 1).expect("the second") == second);
    assert!(GaugeField::from_links(dims, &links, 2).is_err());
    assert!(GaugeField::from_links([2, 4, 2, 4], &links, 0).is_err());
    // What the library measures on them is what the files say.
    let lattice = Lattice::new(&dims).expect("even extents");
    let plane = |(mu, nu)| {
        let loops = plaquettes(&links, &lattice, mu, nu).expect("plaquettes");
        let traces = re_trace(&loops).and_then(|traces| Ok(traces.mean(1)?)).expect("traces");
        traces.to_vec1::<f64>().expect("two numbers")[1] / 12.0
    };
    let measured: f64 = (0..4).flat_map(|mu| (0..mu).map(move |nu| (nu, mu))).map(plane).sum();
    assert!((measured - averages(&second).0).abs() < 1e-14);
    let site = lattice.site(&[1, 2, 0, 5]);
    let row =
        links.tensor().i((1, 3, site, 1, 0)).and_then(|pair| pair.to_vec1::<f64>()).expect("two numbers");
    let entry = second.link(3, crate::gauge_field::site(dims, [1, 2, 0, 5]))[2];
    assert_eq!(row, [entry.re, entry.im]);
}

fn nersc(field: &GaugeField, datatype: &str, floating_point: &str, rows: usize) -> Vec<u8> {
    let numbers = file_numbers(field, rows);
    let big = floating_point.ends_with("BIG");
    let mut sum = 0u32;
    let mut payload = Vec::new();
    for x in numbers {
        let mut word = if floating_point.starts_with("IEEE64") {
            sum = sum.wrapping_add(x.to_bits() as u32).wrapping_add((x.to_bits() >> 32) as u32);
            x.to_be_bytes().to_vec()
        } else {
            sum = sum.wrapping_add((x as f32).to_bits());
            (x as f32).to_be_bytes().to_vec()
        };
        if !big {
            word.reverse();
        }
        payload.extend(word);
    }
    let [lx, ly, lz, lt] = field.dims();
    let (plaquette, trace) = averages(field);
    let header = format!(
        "BEGIN_HEADER\nHDR_VERSION = 1.0\nDATATYPE = {datatype}\nDIMENSION_1 = {lx}\nDIMENSION_2={ly}\n\
         DIMENSION_3 = {lz}\nDIMENSION_4 = {lt}\nCHECKSUM = {sum:X}\nLINK_TRACE = {trace:.10}\n\
         PLAQUETTE = {plaquette:.8}\nENSEMBLE_LABEL = b = 6\nFLOATING_POINT = {floating_point}\nEND_HEADER\n"
    );
    [header.as_bytes(), &payload].concat()
}

#[test]
fn all_variants_of_nersc() {
    let field = random_field(NON_CUBIC, 3, 11);
    for (datatype, rows) in [("4D_SU3_GAUGE_3x3", 3), ("4D_SU3_GAUGE", 2)] {
        for floating_point in
            ["IEEE32BIG", "IEEE64BIG", "IEEE32", "IEEE64", "IEEE32LITTLE", "IEEE64LITTLE", "IEEE64SMALL"]
        {
            let bytes = nersc(&field, datatype, floating_point, rows);
            let read = parse_gauge(&bytes, &ReadOptions::default())
                .unwrap_or_else(|fault| panic!("{datatype} {floating_point}: {fault}"));
            // One step of Gram–Schmidt leaves some rounding in the rows, and so does the product of two of them.
            let (expected, tolerance) = match floating_point.contains("64") {
                true => (field.clone(), 1e-13),
                false => (rounded(&field), 1e-6),
            };
            for (i, (a, b)) in read.field.links().iter().zip(expected.links()).enumerate() {
                let (distance, stored) = ((a - b).norm(), i % 9 < 3 * rows);
                assert!(distance == 0.0 || !stored && distance < tolerance, "{datatype} {i}: {distance}");
            }
            assert_eq!(read.warnings, [""; 0]);
        }
    }
    // Without FLOATING_POINT numbers are as they always were.
    let bytes = nersc(&field, "4D_SU3_GAUGE", "IEEE32BIG", 2);
    let end = bytes.windows(11).position(|w| w == b"END_HEADER\n").expect("a header");
    let old = [&bytes[..end - "FLOATING_POINT = IEEE32BIG\n".len()], &bytes[end..]].concat();
    assert!(parse_gauge(&old, &ReadOptions::default()).is_ok());
}

/// QIO's own files, and files with nothing but the links.
#[test]
fn other_lime_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let (written, path) = (folder.path().join("a.ildg"), folder.path().join("b.lime"));
    let field = random_field(NON_CUBIC, 3, 13);
    write_gauge(&written, &field, Format::Ildg, Precision::Single, &Label::new("a", 1)).expect("written");
    let all = records(&fs::read(&written).expect("the file"));
    let data = |kind: &str| all.iter().find(|(_, k, _)| k == kind).expect("a record").2.as_slice();
    let payload = data("ildg-binary-data");

    let private = ["scidac-private-file-xml", "scidac-private-record-xml"];
    let scidac = lime(&[
        (private[0], data(private[0])),
        (private[1], data(private[1])),
        ("scidac-binary-data", payload),
        ("scidac-checksum", data("scidac-checksum")),
    ]);
    fs::write(&path, scidac).expect("written");
    assert!(
        succeed(&["cfg", "check", text(&path)])
            .contains("SciDAC, SU(3) on 4×2×3×6, 32 bit, checksum verified")
    );
    assert!(read_gauge(&path, &ReadOptions::default()).expect("a good file").field == rounded(&field));

    fs::write(&path, lime(&[("ildg-binary-data", payload)])).expect("written");
    refused(&["cfg", "check", text(&path)], &["b.lime", "record 1 (ildg-binary-data)", "--dims X,Y,Z,T"]);
    refused(&["cfg", "check", text(&path), "--dims", "4,2,3,5"], &["a size that fits", "4×2×3×5", "--dims"]);
    let output = run(&["cfg", "check", text(&path), "--dims", "4,2,3,6"]);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stderr).contains("no checksum"));

    // Foreign records, and spaces in values, are none of our business.
    let format =
        b"<?xml version=\"1.0\"?>\n<ildgFormat a=\"b\"><version> 1.0 </version> <field> su3gauge </field>\
        <precision> 32 </precision><lx> 4 </lx><ly> 2</ly><lz>3 </lz>\n<lt>6</lt></ildgFormat>\n\0";
    let foreign =
        lime(&[("smearing-notes", b"stout"), ("ildg-format", format), ("ildg-binary-data", payload)]);
    fs::write(&path, foreign).expect("written");
    assert!(succeed(&["cfg", "info", text(&path)]).contains("smearing-notes"));
}

/// Configurations written by other codes; the plaquettes were computed with the codes of others.
#[test]
fn configurations_of_other_codes() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    for (file, dims, n, plaquette, checksum) in [
        ("tmlqcd-unity-4x4x4x4.ildg", None, 3, 1.0, "verified (suma 35b49a1b, sumb b49a1b35)"),
        ("gaugefields-su3-8x8x8x8.ildg", Some("8,8,8,8"), 3, 0.555_243_594_506_939_2, "absent"),
        ("gaugefields-su2-4x4x4x4.ildg", Some("4,4,4,4"), 2, -0.007_853_743_153_861_81, "absent"),
    ] {
        let path: PathBuf = fixtures.join(file);
        if !path.exists() {
            eprintln!("skipped: there is no {file} in ../shared/fixtures");
            continue;
        }
        let dims = dims.map_or(Vec::new(), |dims| vec!["--dims", dims]);
        let info = succeed(&[&["cfg", "info", text(&path)], &dims[..]].concat());
        let value = |name: &str| {
            let line = info.lines().find(|line| line.starts_with(name)).expect("a line").to_owned();
            line[name.len()..].trim().to_owned()
        };
        let measured: f64 = value("plaquette").parse().expect("a number");
        assert!((measured - plaquette).abs() <= 1e-14, "{file}: {measured}");
        assert_eq!((value("group"), value("checksum")), (format!("SU({n})"), checksum.into()), "{file}");
        let deviation = value("unitarity");
        let deviation: f64 = deviation.split(' ').next().and_then(|x| x.parse().ok()).expect("a number");
        assert!(deviation < 1e-13, "{file}: {deviation}");
        // A copy in each format is the same field.
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["copy.nersc", "copy.ildg"] {
            let copy = folder.path().join(name);
            succeed(&[&["cfg", "convert", text(&path), text(&copy)], &dims[..]].concat());
            let copied = succeed(&["cfg", "info", text(&copy)]);
            assert!(copied.contains(&value("plaquette")), "{copied}");
        }
    }
}
