//! Files written here, read by latqcdtools, a Python package of another collaboration.
//!
//! Runs if LATFLOW_PYTHON names an interpreter that can import it (`pip install latqcdtools`), and says so otherwise. Its
//! readers know SU(3) with equal spatial extents.

use std::process::Command;

use latflow::io::gauge::{Format, Label, Precision, write_gauge};

use crate::gauge_field::{averages, random_field};

const SCRIPT: &str = r#"
import sys, numpy
try:
    from latqcdtools.interfaces.confReader import ILDGReader, NERSCReader
    from latqcdtools.interfaces.lime import scidacChecksum, xmlFind
except ImportError:
    print("no latqcdtools"); sys.exit()
path, kind, ns, nt, links = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
gauge = (ILDGReader if kind == "ildg" else NERSCReader)(ns, nt, nproc=1).readConf(path)
# ours: direction, x, y, z, t; theirs: t, z, y, x, direction
ours = numpy.fromfile(links, dtype="<c16").reshape(4, ns, ns, ns, nt, 3, 3).transpose(4, 3, 2, 1, 0, 5, 6)
matches = True
if kind == "ildg":
    # The reader skips the checksum of ILDG files; the function behind it does not.
    data = open(path, "rb").read()
    start = data.index(b"ildg-binary-data") + 128
    size = int.from_bytes(data[start - 136:start - 128], "big")
    volume = ns**3 * nt
    suma, sumb = scidacChecksum(data[start:start + size], volume, size // volume)
    end = data[start + size:]
    matches = (suma, sumb) == (int(xmlFind(end, "suma"), 16), int(xmlFind(end, "sumb"), 16)) if b"suma" in end else False
print("result", abs(gauge.field - ours).max(), gauge.getPlaquette(), gauge.getLinkTrace(), int(matches))
"#;

#[test]
fn latqcdtools_reads_the_same_links() {
    let Some(python) = std::env::var_os("LATFLOW_PYTHON") else {
        eprintln!("skipped: set LATFLOW_PYTHON to a Python interpreter with latqcdtools");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let field = random_field([4, 4, 4, 6], 3, 2026);
    let (plaquette, trace) = averages(&field);
    let links = folder.path().join("links");
    let bytes: Vec<u8> = field.links().iter().flat_map(|z| [z.re, z.im]).flat_map(f64::to_le_bytes).collect();
    std::fs::write(&links, bytes).expect("written");
    for (format, kind) in [(Format::Ildg, "ildg"), (Format::Nersc, "nersc")] {
        for (precision, tolerance) in [(Precision::Double, 0.0), (Precision::Single, 1e-7)] {
            let path = folder.path().join(kind);
            write_gauge(&path, &field, format, precision, &Label::new("run", 1)).expect("written");
            let output = Command::new(&python)
                .args(["-c", SCRIPT])
                .arg(&path)
                .args([kind, "4", "6"])
                .arg(&links)
                .output()
                .expect("Python starts");
            let stdout = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
            if stdout.contains("no latqcdtools") {
                eprintln!("skipped: this Python has no latqcdtools");
                return;
            }
            let result = stdout.lines().find_map(|line| line.strip_prefix("result ")).expect("a result");
            let result: Vec<f64> = result.split(' ').map(|x| x.parse().expect("a number")).collect();
            eprintln!(
                "{kind}, {} bit: distance, plaquette, link trace, checksum: {result:?}",
                precision.bits()
            );
            assert!(result[0] <= tolerance, "links differ by {}", result[0]);
            assert!((result[1] - plaquette).abs() < 1e-14 + tolerance);
            assert!((result[2] - trace).abs() < 1e-14 + tolerance);
            assert!(result[3] == 1.0, "the checksum");
        }
    }
}
