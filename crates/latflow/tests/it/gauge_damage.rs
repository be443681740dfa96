//! Gauge configuration files that are not good: every damage has its error, and none passes unnoticed.

use std::fs;
use std::path::{Path, PathBuf};

use latflow::io::gauge::{
    ChecksumState, Format, GaugeField, GaugeFile, Label, Precision, ReadOptions, parse_gauge, read_gauge,
    write_gauge,
};
use num_complex::Complex64;

use crate::common::{run, succeed, text};
use crate::gauge_field::{lime, random_field, records, relabelled};
use crate::inputs::refused;

const DIMS: [usize; 4] = [2, 2, 2, 4];

struct Files {
    folder: tempfile::TempDir,
    ildg: Vec<u8>,
    nersc: Vec<u8>,
}

fn written(folder: &Path, field: &GaugeField, format: Format) -> Vec<u8> {
    let path = folder.join("written");
    write_gauge(&path, field, format, Precision::Double, &Label::new("run", 12)).expect("written");
    fs::read(&path).expect("the file")
}

impl Files {
    fn new(dims: [usize; 4], n: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let field = random_field(dims, n, 31);
        let [ildg, nersc] =
            [Format::Ildg, Format::Nersc].map(|format| written(folder.path(), &field, format));
        Self { folder, ildg, nersc }
    }

    /// A file with these bytes is refused by `check`, with its name and these words.
    fn refused(&self, bytes: &[u8], words: &[&str]) {
        let path = self.put(bytes);
        let common = ["damaged.file: ", "expected ", ", got "];
        refused(&["cfg", "check", text(&path)], &[&common[..], words].concat());
    }

    fn put(&self, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join("damaged.file");
        fs::write(&path, bytes).expect("written");
        path
    }
}

fn verified(bytes: &[u8]) -> Result<GaugeFile, String> {
    parse_gauge(bytes, &ReadOptions::default()).map_err(|fault| fault.to_string())
}

#[test]
fn truncated_files() {
    let files = Files::new(DIMS, 3);
    let records = records(&files.ildg);
    let links = records.iter().position(|(_, kind, _)| kind == "ildg-binary-data").expect("links");
    for (index, (offset, kind, data)) in records.iter().enumerate() {
        let name = format!("record {} ({kind})", index + 1);
        let header = format!("record {} (LIME header at byte {offset})", index + 1);
        let truncated = "the file is truncated";
        if index > 0 {
            files.refused(&files.ildg[..offset + 1], &[&header, "144 bytes", "got 1 bytes", truncated]);
        }
        files.refused(&files.ildg[..offset + 143], &[&header, "144 bytes", "got 143 bytes", truncated]);
        let expected = format!("{} bytes of data", data.len());
        files.refused(&files.ildg[..offset + 144], &[&name, &expected, "got 0 bytes", truncated]);
        let half = format!("got {} bytes", data.len() / 2);
        files.refused(&files.ildg[..offset + 144 + data.len() / 2], &[&name, &expected, &half, truncated]);
        if !data.len().is_multiple_of(8) {
            files
                .refused(&files.ildg[..offset + 144 + data.len()], &[&name, "NUL after its data", truncated]);
        }
        // Between two records: the links are missing, or what follows them is.
        if (1..=links).contains(&index) {
            files.refused(&files.ildg[..*offset], &["LIME records", "ildg-binary-data", "truncated"]);
        } else if index > links {
            files.refused(
                &files.ildg[..*offset],
                &["(ildg-binary-data)", "scidac-checksum", "the end of the file", truncated],
            );
        }
    }
    let end = files.nersc.len();
    files.refused(&files.nersc[..100], &["header", "END_HEADER", "none in the first 100 bytes", "truncated"]);
    for cut in [end - 1, end - 8, end / 2] {
        files.refused(
            &files.nersc[..cut],
            &["payload", "18432 bytes for SU(3) on 2×2×2×4, 64 bit", "truncated"],
        );
    }
    let longer = [&files.nersc[..], &[0]].concat();
    files.refused(&longer, &["payload", "18432 bytes", "got 18433 bytes"]);
}

/// What stands in the headers contradicts the links, and the error says which.
#[test]
fn mislabelled_files() {
    let files = Files::new(DIMS, 3);
    let size = "18432 bytes";
    for (from, to, words) in [
        (
            "<lt>4",
            "<lt>8",
            &[
                "record 1 (scidac-private-file-xml) <dims>",
                "2×2×2×8, as in record 5 (ildg-format)",
                "2×2×2×4",
            ][..],
        ),
        ("<lt>4", "<lt>2", &["scidac-private-file-xml", "2×2×2×2", "2×2×2×4"]),
        (
            "<lx>2</lx><ly>2</ly><lz>2</lz><lt>4",
            "<lx>4</lx><ly>2</ly><lz>2</lz><lt>2",
            &["scidac-private-file-xml", "4×2×2×2"],
        ),
        ("<lx>2", "<lx>0", &["record 5 (ildg-format) <lx>", "positive number", "\"0\""]),
        ("<lx>2</lx>", "<lq>2</lx>", &["record 5 (ildg-format)", "<lx>", "none"]),
        ("<precision>64", "<precision>32", &["(scidac-private-record-xml) <precision>", "32", "64"]),
        ("<precision>64", "<precision>66", &["(ildg-format) <precision>", "32 or 64", "66"]),
        ("<precision>D", "<precision>Q", &["(scidac-private-record-xml) <precision>", "F or D"]),
        ("su3gauge", "su2gauge", &["(scidac-private-record-xml) <colors>", "SU(2), as in", "got SU(3)"]),
        ("su3gauge", "so3gauge", &["(ildg-format) <field>", "su3gauge", "so3gauge"]),
        ("_ColorMatrix", "_ColorVector", &["(scidac-private-record-xml) <datatype>", "ColorVector"]),
        ("<datacount>4", "<datacount>1", &["(scidac-private-record-xml) <datacount>", "4 matrices", "1"]),
        (
            "ildg-binary-data",
            "ildg-binary-dada",
            &["record 7 (its type)", "ildg-binary-data", "ildg-binary-dada"],
        ),
        (
            "scidac-checksum",
            "scidac-checks5m",
            &["record 8 (its type)", "scidac-checksum", "scidac-checks5m"],
        ),
        ("ildg-binary-data", "some-binary-file", &["LIME records", "ildg-binary-data", "some-binary-file"]),
    ] {
        files.refused(&relabelled(&files.ildg, from, to), words);
    }
    // With no other record to contradict, the size does.
    let all = records(&files.ildg);
    let lone = lime(&[("ildg-format", &all[4].2), ("ildg-binary-data", &all[6].2)]);
    for (from, to, words) in [
        ("<lt>4", "<lt>8", &["36864 bytes for SU(3) on 2×2×2×8, 64 bit", "would fit SU(3) in 32 bit"][..]),
        ("<lt>4", "<lt>3", &["13824 bytes for SU(3) on 2×2×2×3, 64 bit", "extents"]),
        (
            "<precision>64",
            "<precision>32",
            &["9216 bytes for SU(3) on 2×2×2×4, 32 bit", "would fit SU(3) in 64 bit"],
        ),
        ("su3gauge", "su2gauge", &["8192 bytes for SU(2) on 2×2×2×4, 64 bit", "would fit SU(3) in 64 bit"]),
    ] {
        let words = [&["record 2 (ildg-binary-data)", size], words].concat();
        files.refused(&relabelled(&lone, from, to), &words);
    }
    // More bytes than can be counted.
    let format =
        b"<version>1.0</version><field>su3gauge</field><precision>64</precision><lx>9999999999999999999</lx>\
        <ly>9999999999999999999</ly><lz>9999999999999999999</lz><lt>2</lt>";
    files.refused(&lime(&[("ildg-format", format), ("ildg-binary-data", &all[6].2)]), &["record 2", size]);
    for (from, to, words) in [
        ("DIMENSION_4 = 4", "DIMENSION_4 = 2", &["payload", "9216 bytes for SU(3) on 2×2×2×2", size][..]),
        ("DIMENSION_1 = 2", "DIMENSION_1 = x", &["header key DIMENSION_1", "positive number", "\"x\""]),
        ("DIMENSION_1 = 2", "DIMENSION_2 = 2", &["header line 6", "every key once", "DIMENSION_2"]),
        ("DIMENSION_3", "DIMENSION_E", &["header", "a key DIMENSION_3", "none"]),
        (
            "IEEE64BIG",
            "IEEE32BIG",
            &["payload", "9216 bytes for SU(3) on 2×2×2×4, 32 bit", "would fit SU(3) in 64 bit"],
        ),
        ("IEEE64BIG", "IEEE64BUG", &["header key FLOATING_POINT", "IEEE64LITTLE", "IEEE64BUG"]),
        (
            "4D_SU3_GAUGE_3x3",
            "4D_SU2_GAUGE_2x2",
            &["payload", "8192 bytes for SU(2)", "would fit SU(3) in 64 bit"],
        ),
        ("4D_SU3_GAUGE_3x3", "4D_SU3_GAUGE_3x4", &["header key DATATYPE", "4D_SU3_GAUGE_3x3", "3x4"]),
        ("HDR_VERSION = 1.0", "HDR_VERSION = 2.0", &["header key HDR_VERSION", "1.0", "2.0"]),
        ("BOUNDARY_4 = PERIODIC", "BOUNDARY_4 = PERIODID", &["header key BOUNDARY_4", "PERIODID"]),
        ("PLAQUETTE", "PLAQUETTA", &["header", "a key PLAQUETTE", "none"]),
        ("CHECKSUM", "CHECKSAM", &["header", "a key CHECKSUM", "none"]),
        ("SEQUENCE_NUMBER = ", "SEQUENCE_NUMBER   ", &["header line 18", "KEY = VALUE", "SEQUENCE_NUMBER"]),
    ] {
        files.refused(&relabelled(&files.nersc, from, to), words);
    }
    // Other extents of the same size: the links are the same numbers, the plaquette is another.
    let swapped =
        relabelled(&files.nersc, "DIMENSION_3 = 2\nDIMENSION_4 = 4", "DIMENSION_3 = 4\nDIMENSION_4 = 2");
    files.refused(&swapped, &["header key PLAQUETTE", "from the links", "--no-verify"]);
    let dims = ["<lz>2</lz><lt>4", "<lz>4</lz><lt>2", "<dims>2 2 2 4", "<dims>2 2 4 2"];
    let swapped = relabelled(&relabelled(&files.ildg, dims[0], dims[1]), dims[2], dims[3]);
    files.refused(&swapped, &["(scidac-record-xml) <plaq>", "from the links", "--no-verify"]);
    // The other byte order: the sum of words tells.
    let text = relabelled(&files.nersc, "FLOATING_POINT = IEEE64BIG\n", "FLOATING_POINT=IEEE64SMALL\n");
    files.refused(&text, &["payload", "the checksum", "the other byte order", "FLOATING_POINT"]);
}

#[test]
fn wrong_numbers() {
    let files = Files::new(DIMS, 3);
    let header = String::from_utf8_lossy(&files.nersc).into_owned();
    let value = |key: &str| {
        let line = header.lines().find(|line| line.starts_with(key)).expect("a key").to_owned();
        line.split(" = ").nth(1).expect("a value").to_owned()
    };
    for key in ["PLAQUETTE", "LINK_TRACE"] {
        let (right, name) = (value(key), format!("header key {key}"));
        let wrong = right.replacen("0.", "0.1", 1)[..right.len()].to_owned();
        let line = |value: &str| format!("{key} = {value}");
        files.refused(
            &relabelled(&files.nersc, &line(&right), &line(&wrong)),
            &[&name, &wrong, &right, "--no-verify"],
        );
        let word = format!("{:<1$}", "unknown", right.len());
        files.refused(
            &relabelled(&files.nersc, &line(&right), &line(&word)),
            &[&name, "unknown", "no number"],
        );
    }
    let sum = value("CHECKSUM");
    let other = if sum.starts_with('a') { "b" } else { "a" }.to_owned() + &sum[1..];
    let line = |value: &str| format!("CHECKSUM = {value}");
    files.refused(
        &relabelled(&files.nersc, &line(&sum), &line(&other)),
        &["payload", &format!("the checksum {other}"), &format!("got {sum}"), "damaged"],
    );
    let xml = records(&files.ildg).pop().expect("a checksum").2;
    let xml = String::from_utf8(xml).expect("text");
    let suma = xml.split("<suma>").nth(1).expect("suma")[..8].to_owned();
    let other = if suma.starts_with('0') { "1" } else { "0" }.to_owned() + &suma[1..];
    let element = |value: &str| format!("<suma>{value}");
    let wrong = relabelled(&files.ildg, &element(&suma), &element(&other));
    let words =
        ["record 7 (ildg-binary-data)", &format!("suma {other}"), &format!("suma {suma}"), "--no-verify"];
    files.refused(&wrong, &words);
    let words = ["record 8 (scidac-checksum) <suma>", "hexadecimal", "xyz"];
    files.refused(&relabelled(&files.ildg, &element(&suma[..3]), &element("xyz")), &words);

    // As it is, with a warning, when asked for.
    let path = files.put(&wrong);
    let output = run(&["cfg", "info", text(&path), "--no-verify"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("checksum    WRONG (stated suma "));
    assert!(String::from_utf8_lossy(&output.stderr).contains("warning: "));
    let copy = files.folder.path().join("copy.nersc");
    refused(&["cfg", "convert", text(&path), text(&copy)], &["checksum"]);
    assert!(!copy.exists());
    succeed(&["cfg", "convert", text(&path), text(&copy), "--no-verify"]);
    assert!(succeed(&["cfg", "check", text(&copy)]).contains("good"));
    let state = read_gauge(&path, &ReadOptions { dims: None, verify: false }).expect("readable").checksum;
    assert!(matches!(state, ChecksumState::Wrong { .. }));
}

/// Links that no checksum protects are still looked at.
#[test]
fn bad_links() {
    let files = Files::new(DIMS, 3);
    let field = random_field(DIMS, 3, 31);
    let volume = field.volume();
    // Direction z, site (1, 0, 1, 3).
    let site = (2 + 1) * 4 + 3 + 4;
    let changed = |change: &dyn Fn(&mut [Complex64])| {
        let mut links = field.links().to_vec();
        change(&mut links[(2 * volume + site) * 9..][..9]);
        GaugeField::new(DIMS, 3, links).expect("as many links")
    };
    let place = format!("direction z at ({}, {}, {}, 3)", site / 16, site / 8 % 2, site / 4 % 2);
    for format in [Format::Ildg, Format::Nersc] {
        let scaled = changed(&|link| link[4] *= 1.01);
        files
            .refused(&written(files.folder.path(), &scaled, format), &["links in SU(3), |U U† − 1|", &place]);
        let phase = Complex64::from_polar(1.0, 0.01);
        let rotated = changed(&|link| link[..3].iter_mut().for_each(|z| *z *= phase));
        files.refused(&written(files.folder.path(), &rotated, format), &["|det U − 1|", "1.000e-2", &place]);
        // Too large to be multiplied.
        let huge = changed(&|link| link[0] = Complex64::new(1e300, -1e300));
        files.refused(&written(files.folder.path(), &huge, format), &["links in SU(3)", "inf", &place]);
        let slightly = changed(&|link| link[4] *= 1.0 + 1e-7);
        let path = files.put(&written(files.folder.path(), &slightly, format));
        let output = run(&["cfg", "check", text(&path)]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.contains(&place) && stderr.contains("warning"), "{stderr}");
    }
    let broken = changed(&|link| link[4].im = f64::NAN);
    let out = files.folder.path().join("never");
    let label = Label::new("run", 0);
    let error =
        write_gauge(&out, &broken, Format::Ildg, Precision::Double, &label).expect_err("not a number");
    assert!(
        error.to_string().contains(&place) && error.to_string().contains("NaN") && !out.exists(),
        "{error}"
    );
    // In a file of someone who wrote it all the same, and in one that was to be read at any price.
    let payload: Vec<u8> =
        crate::gauge_field::file_numbers(&broken, 3).iter().flat_map(|x| x.to_be_bytes()).collect();
    let path = files.put(&lime(&[("ildg-binary-data", &payload)]));
    for arguments in [&["check"][..], &["info", "--no-verify"]] {
        let dims = [text(&path), "--dims", "2,2,2,4"];
        refused(
            &[&["cfg"], arguments, &dims].concat(),
            &["record 1 (ildg-binary-data)", "finite numbers", "NaN", &place],
        );
    }
}

/// All single-bit errors: either the file is refused, or what was read is what had been written.
#[test]
fn no_flipped_bit_changes_the_links_unnoticed() {
    let files = Files::new([2, 1, 2, 2], 2);
    for bytes in [&files.ildg, &files.nersc] {
        let good = verified(bytes).expect("a good file");
        let (mut refused, mut harmless) = (0, 0);
        for byte in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[byte] ^= 1 << bit;
                match verified(&flipped) {
                    Err(_) => refused += 1,
                    Ok(file) => {
                        harmless += 1;
                        assert!(file.field == good.field, "byte {byte} bit {bit}");
                        assert_eq!((file.checksum, file.precision), (good.checksum.clone(), good.precision));
                    }
                }
            }
        }
        eprintln!("{}: {refused} flipped bits refused, {harmless} harmless ones", good.format);
        // The harmless ones are in free text: names, titles, addresses, trailing digits.
        assert!(refused > 8 * 8 * 4 * 64, "all bits of the links, and more");
        assert!(harmless < 8 * 1200, "{harmless}");
    }
}

/// Whatever happens to a file, reading it ends with an answer, and links that are accepted are the right ones.
#[test]
fn no_damage_breaks_the_reader() {
    use proptest::prelude::*;
    let files = Files::new([2, 1, 2, 2], 2);
    let good = [&files.ildg, &files.nersc].map(|bytes| (bytes, verified(bytes).expect("a good file").field));
    let damage =
        (0..2usize, any::<prop::sample::Index>(), 0..24usize, prop::collection::vec(any::<u8>(), 0..24));
    proptest!(ProptestConfig::with_cases(4000), |((which, start, removed, inserted) in damage)| {
        let (bytes, field) = &good[which];
        // Mostly in the headers.
        let start = start.index(bytes.len()) * start.index(bytes.len()) / bytes.len();
        let end = bytes.len().min(start + removed);
        let damaged = [&bytes[..start], &inserted, &bytes[end..]].concat();
        for options in [ReadOptions::default(), ReadOptions { dims: Some([2, 1, 2, 2]), verify: false }] {
            if let Ok(file) = parse_gauge(&damaged, &options) {
                prop_assert!(!options.verify || file.field == *field);
            }
        }
    });
}

#[test]
fn what_is_no_gauge_configuration() {
    let files = Files::new([2, 2, 2, 2], 2);
    let formats = ["first bytes", "456789ab", "BEGIN_HEADER"];
    files.refused(b"", &[&formats[..], &["an empty file"]].concat());
    files.refused(b"\x93NUMPY\x01\x00", &[&formats[..], &["NUMPY"]].concat());
    let mut magic = files.ildg.clone();
    magic[0] ^= 4;
    files.refused(&magic, &formats);
    files.refused(
        &lime(&[("ildg-format", b"<a/>")]),
        &["LIME records", "ildg-binary-data", "only ildg-format"],
    );
    let twice = [&files.ildg[..], &files.ildg].concat();
    files.refused(&twice, &["LIME records", "one ildg-binary-data", "another"]);
    let folder = files.folder.path();
    refused(&["cfg", "check", text(folder)], &["cannot read", text(folder)]);
    refused(&["cfg", "info", "nowhere.ildg"], &["cannot read nowhere.ildg"]);
}

#[test]
fn command_line_mistakes() {
    let files = Files::new([2, 2, 2, 2], 2);
    let path = |name: &str| files.folder.path().join(name);
    let (good, taken, bad) = (path("good.ildg"), path("taken.nersc"), path("bad.nersc"));
    fs::write(&good, &files.ildg).expect("written");
    fs::write(&taken, b"important").expect("written");
    fs::write(&bad, &files.nersc[..500]).expect("written");
    let convert = ["cfg", "convert", text(&good)];
    refused(&[&convert[..], &[text(&taken)]].concat(), &["taken.nersc", "exists", "--force"]);
    assert_eq!(fs::read(&taken).expect("the file"), b"important");
    refused(&[&convert[..], &["out.hdf5"]].concat(), &["out.hdf5", ".ildg", "--format"]);
    refused(&[&convert[..], &["out", "--format", "milc"]].concat(), &["milc", "ildg, nersc"]);
    refused(&[&convert[..], &["out.ildg", "--precision", "16"]].concat(), &["16", "32, 64"]);
    refused(&["cfg", "info", text(&good), "--dims", "2,2,2"], &["2,2,2", "four positive numbers"]);
    refused(&["cfg", "info", text(&good), "--dims", "2,2,2,4"], &["2×2×2×4 (--dims)", "got 2×2×2×2"]);
    refused(&["cfg", "info", text(&bad), "--dims", "2,2,2,4"], &["2×2×2×4 (--dims)", "got 2×2×2×2"]);
    // Several files: every one has its line, and one bad one is enough.
    let output = run(&["cfg", "check", text(&good), text(&bad), text(&good)]);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success());
    assert_eq!(stdout.matches("good.ildg: good").count(), 2);
    assert!(stderr.contains("bad.nersc: ") && stderr.contains("1 of 3 files"), "{stderr}");
    succeed(&[&convert[..], &[text(&taken), "--force"]].concat());
    assert!(succeed(&["cfg", "check", text(&taken)]).contains("NERSC, SU(2) on 2×2×2×2, 64 bit"));
}
