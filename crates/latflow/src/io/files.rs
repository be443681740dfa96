//! Reading and replacing files so that a crash, a kill or a full disk leaves the old version or the new one, never half.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {cause}{}", path.display(), hint(cause))]
pub struct FileError {
    /// What was tried.
    pub action: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// What the system said; part of the message, so not a source of its own.
    pub cause: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "\n  there is no room; whatever was written before is intact: make some, then go on with --resume"
        }
        _ => "",
    }
}

/// Attaches the operation and the file to a system error.
pub(super) fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FileError + 'a {
    move |cause| FileError { action, path: path.to_path_buf(), cause }
}

/// Reads a whole file.
///
/// # Errors
/// [`FileError`] with the name of the file.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(failed("read", path))
}

/// Creates a folder and those above it.
///
/// # Errors
/// [`FileError`] with the name of the folder.
pub fn create_folder(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(failed("create folder", path))
}

/// Replaces a file: a temporary neighbour is written, synchronised and renamed over it.
///
/// # Errors
/// [`FileError`]; the previous version, if any, is then untouched and the temporary file is gone.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = write_synced(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // Best effort: what matters is the first error.
        let _ = fs::remove_file(&temporary);
        return Err(failed("write", path)(error));
    }
    sync_folder(folder)
}

/// Writes a new file and waits until it is on disk.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Waits until renames inside a folder are on disk. Folders cannot be opened on every system; there it is skipped.
pub(super) fn sync_folder(folder: &Path) -> Result<(), FileError> {
    match File::open(folder) {
        Ok(handle) => handle.sync_all().map_err(failed("synchronise folder", folder)),
        Err(_) => Ok(()),
    }
}

/// FNV-1a over 64-bit words, then over the remaining bytes, then mixed: finds truncation and flipped bits.
pub fn checksum(bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(PRIME);
        // Multiplication carries upwards only; the fold brings high bits back down.
        hash ^= hash >> 29;
    }
    for byte in rest {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    }
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::{checksum, write_atomically};

    #[test]
    fn every_single_bit_counts() {
        let bytes: Vec<u8> = (0..203u16).map(|i| (i * 7 % 251) as u8).collect();
        let original = checksum(&bytes);
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[position] ^= 1 << bit;
                assert_ne!(checksum(&damaged), original, "byte {position} bit {bit}");
            }
            assert_ne!(checksum(&bytes[..position]), original, "cut at {position}");
        }
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_atomically(&path, b"old").unwrap();
        // A folder in the way of the temporary file makes writing fail.
        let blocker = folder.path().join(format!(".a.{}.tmp", std::process::id()));
        std::fs::create_dir(&blocker).unwrap();
        let error = write_atomically(&path, b"new").unwrap_err();
        assert!(error.to_string().contains("cannot write"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
    }
}
