//! Files that survive: atomic writes, NPY arrays, append-only logs, checkpoints, gauge configurations.

mod append;
mod checkpoint;
mod files;
pub mod gauge;
mod npy;

pub use append::{Series, TextLog};
pub use checkpoint::{Checkpoint, CheckpointError, CheckpointStore, Snapshot};
pub use files::{FileError, checksum, create_folder, read, write_atomically};
pub use npy::{NpyArray, NpyError, read_npy, write_npy};
