//! NPY arrays, the format of NumPy's `save`: `<f8`, C order, versions 1.0 and 2.0.
//!
//! ```text
//! "\x93NUMPY" major minor header_length {'descr': '<f8', 'fortran_order': False, 'shape': (16, 16), } padding \n data
//! ```

use std::path::{Path, PathBuf};

use super::files::{FileError, read, write_atomically};

/// An array of f64 with its shape, last axis fastest.
#[derive(Debug, Clone, PartialEq)]
pub struct NpyArray {
    /// Extents of the axes.
    pub shape: Vec<usize>,
    /// Elements in C order.
    pub data: Vec<f64>,
}

/// An NPY file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NpyError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The content is not what is needed.
    #[error("{}: {what}: expected {expected}, got {got}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Which part of it.
        what: &'static str,
        /// What should stand there.
        expected: String,
        /// What stands there.
        got: String,
    },
}

const MAGIC: &[u8] = b"\x93NUMPY";
const HEADER_ALIGNMENT: usize = 64;

/// Reads an array, of the given shape where one is given.
///
/// # Errors
/// [`NpyError`] when the file is not NPY, has another number type, order or shape, is too short or too long, or holds a
/// number that is not finite.
pub fn read_npy(path: &Path, shape: Option<&[usize]>) -> Result<NpyArray, NpyError> {
    let bytes = read(path)?;
    parse(&bytes, shape).map_err(|(what, expected, got)| NpyError::Content {
        path: path.to_path_buf(),
        what,
        expected,
        got,
    })
}

type Mismatch = (&'static str, String, String);

fn parse(bytes: &[u8], expected: Option<&[usize]>) -> Result<NpyArray, Mismatch> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (prefix, rest) = bytes.split_at_checked(8).ok_or_else(|| {
        ("file", "an NPY file".to_owned(), format!("{} bytes, too short for any", bytes.len()))
    })?;
    if !prefix.starts_with(MAGIC) {
        return Err((
            "file",
            "an NPY file, which begins with \\x93NUMPY".into(),
            format!("one that begins with {:?}", text(&prefix[..6])),
        ));
    }
    let length_bytes = match (prefix[6], prefix[7]) {
        (1, 0) => 2,
        (2, 0) => 4,
        (major, minor) => return Err(("NPY version", "1.0 or 2.0".into(), format!("{major}.{minor}"))),
    };
    let cut = || ("header", "a complete header".to_owned(), "the end of the file".to_owned());
    let (length, rest) = rest.split_at_checked(length_bytes).ok_or_else(cut)?;
    let length = length.iter().rev().fold(0usize, |sum, byte| (sum << 8) | usize::from(*byte));
    let (header, data) = rest.split_at_checked(length).ok_or_else(cut)?;
    let header = text(header);

    let descr = field(&header, "descr").unwrap_or_default();
    if descr != "'<f8'" {
        return Err(("number type", "'<f8' (little-endian f64)".into(), descr.into()));
    }
    let order = field(&header, "fortran_order").unwrap_or_default();
    if order != "False" {
        return Err((
            "fortran_order",
            "False (C order; numpy.ascontiguousarray converts)".into(),
            order.into(),
        ));
    }
    let found = field(&header, "shape").unwrap_or_default();
    let wanted = || expected.map_or_else(|| "a tuple of extents".to_owned(), tuple);
    let shape = parse_shape(found).ok_or_else(|| ("shape", wanted(), found.to_owned()))?;
    if expected.is_some_and(|expected| expected != shape) {
        return Err(("shape", wanted(), tuple(&shape)));
    }
    let n = shape.iter().try_fold(1usize, |n, extent| n.checked_mul(*extent)).filter(|n| *n < usize::MAX / 8);
    let n = n.ok_or_else(|| ("shape", wanted(), tuple(&shape)))?;
    if data.len() != 8 * n {
        let got = if data.len() < 8 * n { "truncated" } else { "trailing bytes" };
        return Err((
            "data",
            format!("{} bytes for shape {}", 8 * n, tuple(&shape)),
            format!("{} ({got})", data.len()),
        ));
    }
    let (words, _) = data.as_chunks::<8>();
    let data: Vec<f64> = words.iter().map(|word| f64::from_le_bytes(*word)).collect();
    match data.iter().position(|x| !x.is_finite()) {
        Some(index) => Err((
            "data",
            "finite numbers".into(),
            format!("{} at {}", data[index], tuple(&position(index, &shape))),
        )),
        None => Ok(NpyArray { shape, data }),
    }
}

/// The value of one key of the header, a Python dictionary.
fn field<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let rest = [format!("'{key}'"), format!("\"{key}\"")].iter().find_map(|quoted| {
        let start = header.find(quoted.as_str())?;
        header[start + quoted.len()..].trim_start().strip_prefix(':')
    })?;
    let rest = rest.trim_start();
    let end = if rest.starts_with('(') { rest.find(')')? + 1 } else { rest.find([',', '}'])? };
    Some(rest[..end].trim())
}

fn parse_shape(text: &str) -> Option<Vec<usize>> {
    let inside = text.strip_prefix('(')?.strip_suffix(')')?;
    inside.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| part.parse().ok()).collect()
}

/// A shape as Python writes it.
fn tuple(shape: &[usize]) -> String {
    let numbers: Vec<String> = shape.iter().map(usize::to_string).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    format!("({}{comma})", numbers.join(", "))
}

fn position(mut index: usize, shape: &[usize]) -> Vec<usize> {
    let mut coordinates = vec![0; shape.len()];
    for (x, extent) in coordinates.iter_mut().zip(shape).rev() {
        *x = index % extent;
        index /= extent;
    }
    coordinates
}

/// Writes an array as NPY 1.0, atomically.
///
/// # Errors
/// [`FileError`] when the file cannot be written.
pub fn write_npy(path: &Path, array: &NpyArray) -> Result<(), FileError> {
    let mut header =
        format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {}, }}", tuple(&array.shape));
    let unpadded = MAGIC.len() + 4 + header.len() + 1;
    header.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(HEADER_ALIGNMENT) - unpadded));
    header.push('\n');
    let mut bytes = Vec::with_capacity(MAGIC.len() + 4 + header.len() + 8 * array.data.len());
    bytes.extend(MAGIC);
    bytes.extend([1, 0]);
    // A shape of a few axes is far below the 64 KiB of version 1.0.
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(array.data.iter().flat_map(|x| x.to_le_bytes()));
    write_atomically(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::{NpyArray, parse, read_npy, write_npy};

    fn file(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn arrays_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        for shape in [vec![4usize], vec![2, 6], vec![2, 2, 4]] {
            let n: usize = shape.iter().product();
            let array =
                NpyArray { shape: shape.clone(), data: (0..n).map(|i| 0.1 * i as f64 - 1e-300).collect() };
            let path = folder.path().join("field.npy");
            write_npy(&path, &array).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().len() as usize % 64, 8 * n % 64, "data are aligned");
            assert_eq!(read_npy(&path, Some(&shape)).unwrap(), array);
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_expected_and_found() {
        let zeros = vec![0u8; 32];
        let mut nan = zeros.clone();
        nan[8..16].copy_from_slice(&f64::NAN.to_le_bytes());
        let good = file("'<f8'", "False", "(2, 2)", &zeros);
        for (bytes, what, expected, got) in [
            (file("'<f4'", "False", "(2, 2)", &zeros[..16]), "number type", "<f8", "<f4"),
            (file("'>f8'", "False", "(2, 2)", &zeros), "number type", "<f8", ">f8"),
            (file("'<f8'", "True", "(2, 2)", &zeros), "fortran_order", "False", "True"),
            (file("'<f8'", "False", "(4,)", &zeros), "shape", "(2, 2)", "(4,)"),
            (file("'<f8'", "False", "(2, 2, 1)", &zeros), "shape", "(2, 2)", "(2, 2, 1)"),
            (file("'<f8'", "False", "(2, 2)", &zeros[..31]), "data", "32 bytes", "31 (truncated)"),
            (
                file("'<f8'", "False", "(2, 2)", &[&zeros[..], &[0]].concat()),
                "data",
                "32 bytes",
                "33 (trailing bytes)",
            ),
            (file("'<f8'", "False", "(2, 2)", &nan), "data", "finite", "NaN at (0, 1)"),
            (b"PK\x03\x04 something".to_vec(), "file", "NPY", "PK"),
            (b"\x93NU".to_vec(), "file", "NPY", "3 bytes"),
            (good[..20].to_vec(), "header", "complete", "end of the file"),
            (b"\x93NUMPY\x03\x00    ".to_vec(), "NPY version", "1.0 or 2.0", "3.0"),
        ] {
            let (w, e, g) = parse(&bytes, Some(&[2, 2])).unwrap_err();
            assert!(
                w == what && e.contains(expected) && g.contains(got),
                "{what}: {w}: expected {e}, got {g}"
            );
        }
        assert!(parse(&good, Some(&[2, 2])).is_ok());
    }

    #[test]
    fn version_two_has_a_longer_header_length() {
        let one = file("'<f8'", "False", "(2,)", &[0; 16]);
        let mut two = b"\x93NUMPY\x02\x00".to_vec();
        two.extend([one[8], one[9], 0, 0]);
        two.extend(&one[10..]);
        assert_eq!(parse(&two, None).unwrap().data, [0.0, 0.0]);
    }
}
