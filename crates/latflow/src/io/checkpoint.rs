//! Checkpoints: one folder each, complete or absent.
//!
//! ```text
//! checkpoint/00000200/tensors.safetensors    named tensors, number types as they are
//! checkpoint/00000200/state.bin              "LATFLOW\0" schema config_hash step tensors_checksum length | state | checksum
//! ```
//!
//! A folder is filled under a temporary name, synchronised and renamed, so that a kill leaves it out or in. The last two are
//! kept. Reading checks every byte; a damaged checkpoint is reported and the one before it is used. This is the only file
//! that knows bincode.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::{Serialize, de::DeserializeOwned};

use super::files::{FileError, checksum, create_folder, failed, read, sync_folder, write_synced};

const MAGIC: &[u8; 8] = b"LATFLOW\0";
const SCHEMA: u32 = 1;
const TENSORS: &str = "tensors.safetensors";
const STATE: &str = "state.bin";
const KEPT: usize = 2;

/// What a task needs to go on: tensors and everything else.
#[derive(Debug, Clone)]
pub struct Snapshot<S> {
    /// Weights, optimizer moments, fields.
    pub tensors: BTreeMap<String, Tensor>,
    /// Random streams, counters, tuned parameters.
    pub state: S,
}

/// A snapshot that was read back.
#[derive(Debug, Clone)]
pub struct Checkpoint<S> {
    /// Steps done when it was taken.
    pub step: u64,
    /// Its content.
    pub snapshot: Snapshot<S>,
}

/// A checkpoint that cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The bytes are not what was written.
    #[error("checkpoint {} is damaged: {problem}", path.display())]
    Damaged {
        /// Its file.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },
    /// It belongs to another configuration.
    #[error(
        "checkpoint {} was written under another configuration (hash {found:016x}, now {expected:016x}): \
         a run resumes only as it was started", path.display()
    )]
    OtherConfiguration {
        /// Its file.
        path: PathBuf,
        /// Hash of the present configuration.
        expected: u64,
        /// Hash in the file.
        found: u64,
    },
    /// Written by another version of this program.
    #[error("checkpoint {}: schema {found}, this program reads {SCHEMA}", path.display())]
    Schema {
        /// Its file.
        path: PathBuf,
        /// Schema number in the file.
        found: u32,
    },
    /// The tensor library refused.
    #[error("checkpoint {}: {problem}", path.display())]
    Tensors {
        /// Its file.
        path: PathBuf,
        /// The library's words.
        problem: String,
    },
}

/// The folder of a run's checkpoints.
#[derive(Debug, Clone)]
pub struct CheckpointStore {
    folder: PathBuf,
    config_hash: u64,
}

impl CheckpointStore {
    /// The store in this folder, for runs of the configuration with this hash.
    pub fn new(folder: impl Into<PathBuf>, config_hash: u64) -> Self {
        Self { folder: folder.into(), config_hash }
    }

    /// Saves a snapshot and removes what is older than the last two.
    ///
    /// # Errors
    /// [`CheckpointError`]; the previous checkpoints are then intact.
    pub fn save<S: Serialize>(&self, step: u64, snapshot: &Snapshot<S>) -> Result<(), CheckpointError> {
        create_folder(&self.folder)?;
        let target = self.folder.join(format!("{step:08}"));
        let temporary = self.folder.join(format!(".{step:08}.{}.tmp", std::process::id()));
        let tensors = safetensors::serialize(&snapshot.tensors, None)
            .map_err(|error| CheckpointError::Tensors { path: target.clone(), problem: error.to_string() })?;
        let state = self.encode(step, &tensors, &snapshot.state, &target)?;

        let written = fs::create_dir(&temporary)
            .and_then(|()| write_synced(&temporary.join(TENSORS), &tensors))
            .and_then(|()| write_synced(&temporary.join(STATE), &state))
            // A damaged checkpoint of the same step, written before a fall-back, makes room.
            .and_then(|()| if target.exists() { fs::remove_dir_all(&target) } else { Ok(()) })
            .and_then(|()| fs::rename(&temporary, &target));
        if let Err(error) = written {
            // Best effort: what matters is the first error.
            let _ = fs::remove_dir_all(&temporary);
            return Err(failed("write checkpoint", &target)(error).into());
        }
        sync_folder(&self.folder)?;
        let steps = self.steps()?;
        for old in steps.iter().rev().skip(KEPT) {
            let path = self.folder.join(format!("{old:08}"));
            fs::remove_dir_all(&path).map_err(failed("remove old checkpoint", &path))?;
        }
        Ok(())
    }

    /// The newest usable checkpoint, with a warning for every newer one that is damaged; `None` when there is none at all.
    ///
    /// # Errors
    /// [`CheckpointError`] when every checkpoint is damaged, or they belong to another configuration or version.
    pub fn latest<S: DeserializeOwned>(
        &self,
        device: &Device,
        mut warn: impl FnMut(&CheckpointError),
    ) -> Result<Option<Checkpoint<S>>, CheckpointError> {
        let mut last_error = None;
        for step in self.steps()?.into_iter().rev() {
            match self.load(step, device) {
                Ok(snapshot) => return Ok(Some(Checkpoint { step, snapshot })),
                Err(error @ (CheckpointError::Damaged { .. } | CheckpointError::File(_))) => {
                    warn(&error);
                    last_error = Some(error);
                }
                Err(other) => return Err(other),
            }
        }
        last_error.map_or(Ok(None), Err)
    }

    /// Steps of the stored checkpoints, increasing.
    ///
    /// # Errors
    /// [`FileError`] when the folder cannot be read.
    pub fn steps(&self) -> Result<Vec<u64>, FileError> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(&self.folder).map_err(failed("read folder", &self.folder))?;
        let mut steps = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed("read folder", &self.folder))?.file_name();
            steps.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        steps.sort_unstable();
        Ok(steps)
    }

    /// Folders that a kill left half written.
    ///
    /// # Errors
    /// [`FileError`] when one cannot be removed.
    pub fn remove_leftovers(&self) -> Result<(), FileError> {
        if !self.folder.exists() {
            return Ok(());
        }
        for entry in fs::read_dir(&self.folder).map_err(failed("read folder", &self.folder))? {
            let path = entry.map_err(failed("read folder", &self.folder))?.path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    fn encode<S: Serialize>(
        &self,
        step: u64,
        tensors: &[u8],
        state: &S,
        path: &Path,
    ) -> Result<Vec<u8>, CheckpointError> {
        let state = bincode::serde::encode_to_vec(state, bincode::config::standard())
            .map_err(|error| CheckpointError::Tensors { path: path.into(), problem: error.to_string() })?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(SCHEMA.to_le_bytes());
        for word in [self.config_hash, step, checksum(tensors), state.len() as u64] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(state);
        bytes.extend(checksum(&bytes).to_le_bytes());
        Ok(bytes)
    }

    fn load<S: DeserializeOwned>(&self, step: u64, device: &Device) -> Result<Snapshot<S>, CheckpointError> {
        let folder = self.folder.join(format!("{step:08}"));
        let path = folder.join(STATE);
        let damaged = |problem: String| CheckpointError::Damaged { path: path.clone(), problem };
        let bytes = read(&path)?;
        let mut reader = Reader { bytes: &bytes };
        let short = || damaged(format!("{} bytes, too short", bytes.len()));
        if reader.take(MAGIC.len()).ok_or_else(short)? != MAGIC {
            return Err(damaged("it does not begin with LATFLOW".into()));
        }
        let schema = reader.u32().ok_or_else(short)?;
        let (body, sum) = bytes.split_last_chunk::<8>().ok_or_else(short)?;
        if checksum(body) != u64::from_le_bytes(*sum) {
            return Err(damaged("checksum of the state does not fit: truncated or changed".into()));
        }
        if schema != SCHEMA {
            return Err(CheckpointError::Schema { path: path.clone(), found: schema });
        }
        let mut word = || reader.u64().ok_or_else(short);
        let (config_hash, stored_step, tensors_sum, length) = (word()?, word()?, word()?, word()?);
        if config_hash != self.config_hash {
            let expected = self.config_hash;
            return Err(CheckpointError::OtherConfiguration {
                path: path.clone(),
                expected,
                found: config_hash,
            });
        }
        if stored_step != step {
            return Err(damaged(format!("it is of step {stored_step}, its folder says {step}")));
        }
        let state = reader.take(length as usize).ok_or_else(short)?;
        let (state, used) = bincode::serde::decode_from_slice(state, bincode::config::standard())
            .map_err(|error| damaged(error.to_string()))?;
        if used as u64 != length {
            return Err(damaged(format!("the state uses {used} of {length} bytes")));
        }

        let path = folder.join(TENSORS);
        let tensors = read(&path)?;
        if checksum(&tensors) != tensors_sum {
            let problem = "checksum of the tensors does not fit: truncated or changed".into();
            return Err(CheckpointError::Damaged { path, problem });
        }
        let tensors = candle_core::safetensors::load_buffer(&tensors, device)
            .map_err(|error| CheckpointError::Tensors { path, problem: error.to_string() })?;
        Ok(Snapshot { tensors: tensors.into_iter().collect(), state })
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(n)?;
        self.bytes = rest;
        Some(head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use candle_core::{DType, Device, Tensor};

    use super::{CheckpointError, CheckpointStore, KEPT, Snapshot};

    fn snapshot(x: f64) -> Snapshot<(u64, String)> {
        let wide = Tensor::full(x, (2, 3), &Device::Cpu).unwrap();
        let narrow = wide.to_dtype(DType::F32).unwrap();
        let tensors = BTreeMap::from([("narrow".to_owned(), narrow), ("wide".to_owned(), wide)]);
        Snapshot { tensors, state: (x as u64, "state".into()) }
    }

    type Latest = Result<Option<super::Checkpoint<(u64, String)>>, CheckpointError>;

    fn latest(folder: &Path) -> (Latest, Vec<String>) {
        let mut warnings = Vec::new();
        let store = CheckpointStore::new(folder, 7);
        let found = store.latest(&Device::Cpu, |error| warnings.push(error.to_string()));
        (found, warnings)
    }

    #[test]
    fn the_last_two_are_kept_and_come_back_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let store = CheckpointStore::new(folder.path(), 7);
        assert!(latest(folder.path()).0.unwrap().is_none());
        for step in 1..=4 {
            store.save(step, &snapshot(step as f64 / 3.0)).unwrap();
        }
        assert_eq!(store.steps().unwrap().len(), KEPT);
        let found = latest(folder.path()).0.unwrap().unwrap();
        assert_eq!(found.step, 4);
        let wide = &found.snapshot.tensors["wide"];
        assert_eq!((wide.dtype(), found.snapshot.tensors["narrow"].dtype()), (DType::F64, DType::F32));
        assert_eq!(wide.to_vec2::<f64>().unwrap()[1][2].to_bits(), (4.0f64 / 3.0).to_bits());
        assert_eq!(found.snapshot.state, (1, "state".to_owned()));
    }

    #[test]
    fn damage_anywhere_is_noticed_and_the_previous_checkpoint_is_used() {
        for file in ["state.bin", "tensors.safetensors"] {
            let folder = tempfile::tempdir().unwrap();
            let store = CheckpointStore::new(folder.path(), 7);
            store.save(1, &snapshot(1.0)).unwrap();
            store.save(2, &snapshot(2.0)).unwrap();
            let path = folder.path().join("00000002").join(file);
            let good = std::fs::read(&path).unwrap();
            let mut versions: Vec<Vec<u8>> = (0..good.len()).step_by(5).map(|n| good[..n].to_vec()).collect();
            for position in (0..good.len()).step_by(3) {
                let mut flipped = good.clone();
                flipped[position] ^= 4;
                versions.push(flipped);
            }
            for version in versions {
                std::fs::write(&path, &version).unwrap();
                let (found, warnings) = latest(folder.path());
                assert_eq!(found.unwrap().unwrap().step, 1);
                assert!(warnings.len() == 1 && warnings[0].contains("damaged"), "{warnings:?}");
            }
            std::fs::remove_file(&path).unwrap();
            assert_eq!(latest(folder.path()).0.unwrap().unwrap().step, 1);
            // The damaged step is written anew on the way.
            store.save(2, &snapshot(2.0)).unwrap();
            assert_eq!(latest(folder.path()).0.unwrap().unwrap().step, 2);
        }
    }

    #[test]
    fn nothing_usable_is_an_error_and_so_is_another_configuration() {
        let folder = tempfile::tempdir().unwrap();
        CheckpointStore::new(folder.path(), 8).save(1, &snapshot(1.0)).unwrap();
        assert!(matches!(latest(folder.path()).0, Err(CheckpointError::OtherConfiguration { .. })));
        std::fs::write(folder.path().join("00000001/state.bin"), b"LATFLOW\0").unwrap();
        assert!(matches!(latest(folder.path()).0, Err(CheckpointError::Damaged { .. })));
    }
}
