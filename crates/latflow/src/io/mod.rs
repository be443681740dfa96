//! Files that survive: atomic writes, NPY arrays, append-only logs, checkpoints.

mod append;
mod checkpoint;
mod files;
mod npy;

pub use append::{Series, TextLog};
pub use checkpoint::{Checkpoint, CheckpointError, CheckpointStore, Snapshot};
pub use files::{FileError, checksum, create_folder, read, write_atomically};
pub use npy::{NpyArray, NpyError, read_npy, write_npy};
