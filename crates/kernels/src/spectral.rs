//! Spectra of SU(3) matrices: eigenvalues moved, eigenvectors kept.
//!
//! A function of matrices that transforms under conjugation as its argument does moves eigenvalues and nothing else. Its
//! derivative follows from that of the eigenvalues, so that neither eigenvectors nor their derivatives, which grow without
//! bound where eigenvalues meet, are ever differentiated.

mod alcove;
mod block;
mod class;
mod eigen;
mod loops;
mod spectrum;

pub use loops::{LinkLoops, multiply_links};
pub use spectrum::{Spectrum, haar_log_density};
