//! Logs that grow: text lines and rows of numbers, cut back to the checkpoint when a run resumes.
//!
//! A checkpoint remembers how many bytes of each log belong to it. After a kill the log may be longer, even end in half a
//! line; opening it at the remembered length removes the rest, so that a resumed run writes the file an undisturbed one
//! would have.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::files::{FileError, failed, read};

#[derive(Debug)]
struct Appender {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Appender {
    fn open(path: &Path, length: u64) -> Result<Self, FileError> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(failed("open", path))?;
        let present = file.metadata().map_err(failed("inspect", path))?.len();
        if present < length {
            let short = format!("the checkpoint needs its first {length} bytes, there are {present}");
            return Err(failed("continue", path)(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                short,
            )));
        }
        file.set_len(length).map_err(failed("cut back", path))?;
        file.seek(SeekFrom::End(0)).map_err(failed("write", path))?;
        Ok(Self { path: path.to_path_buf(), file, length })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.file.write_all(bytes).map_err(failed("write", &self.path))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn sync(&self) -> Result<u64, FileError> {
        self.file.sync_data().map_err(failed("write", &self.path))?;
        Ok(self.length)
    }
}

/// A file of text lines.
#[derive(Debug)]
pub struct TextLog(Appender);

impl TextLog {
    /// Opens or creates the log and cuts it back to `length` bytes.
    ///
    /// # Errors
    /// [`FileError`] when the file is shorter than that, or cannot be written.
    pub fn open(path: &Path, length: u64) -> Result<Self, FileError> {
        Appender::open(path, length).map(Self)
    }

    /// Appends one line.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be written.
    pub fn line(&mut self, line: &str) -> Result<(), FileError> {
        self.0.append(format!("{line}\n").as_bytes())
    }

    /// Waits until all lines are on disk and returns the length in bytes.
    ///
    /// # Errors
    /// [`FileError`] when the disk refuses.
    pub fn sync(&self) -> Result<u64, FileError> {
        self.0.sync()
    }
}

/// A file of rows of f64, little-endian, without header; the number of columns is the caller's.
#[derive(Debug)]
pub struct Series(Appender);

impl Series {
    /// Opens or creates the file and cuts it back to `length` bytes.
    ///
    /// # Errors
    /// [`FileError`] when the file is shorter than that, or cannot be written.
    pub fn open(path: &Path, length: u64) -> Result<Self, FileError> {
        Appender::open(path, length).map(Self)
    }

    /// Appends one row.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be written.
    pub fn row(&mut self, row: &[f64]) -> Result<(), FileError> {
        let bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.0.append(&bytes)
    }

    /// Waits until all rows are on disk and returns the length in bytes.
    ///
    /// # Errors
    /// [`FileError`] when the disk refuses.
    pub fn sync(&self) -> Result<u64, FileError> {
        self.0.sync()
    }

    /// Reads the rows of a file; an incomplete last row is not a row.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read.
    pub fn read_rows(path: &Path, columns: usize) -> Result<Vec<Vec<f64>>, FileError> {
        let bytes = read(path)?;
        let (words, _) = bytes.as_chunks::<8>();
        let numbers: Vec<f64> = words.iter().map(|word| f64::from_le_bytes(*word)).collect();
        Ok(numbers.chunks_exact(columns).map(<[f64]>::to_vec).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{Series, TextLog};

    #[test]
    fn a_log_is_cut_back_to_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = TextLog::open(&path, 0).unwrap();
        log.line("first").unwrap();
        let length = log.sync().unwrap();
        log.line("second, lost").unwrap();
        drop(log);
        let mut log = TextLog::open(&path, length).unwrap();
        log.line("second").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first\nsecond\n");
        let error = TextLog::open(&path, 1000).unwrap_err();
        assert!(error.to_string().contains("1000 bytes, there are 13"), "{error}");
    }

    #[test]
    fn rows_come_back_and_half_rows_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        let mut series = Series::open(&path, 0).unwrap();
        series.row(&[1.0, 2.0]).unwrap();
        series.row(&[3.0]).unwrap();
        assert_eq!(Series::read_rows(&path, 2).unwrap(), [[1.0, 2.0]]);
    }
}
