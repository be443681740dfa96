//! Exact Markov chains for lattice field theories.
//!
//! A kernel is immutable and owns no state; a state owns every density it may be asked for again. Every sampler here is
//! exact for any flow: a bad model costs acceptance, never bias.

mod error;
mod hmc;
mod independence;
mod integrator;
mod kernel;
mod tuning;

pub use error::{Error, Result};
pub use hmc::Hmc;
pub use independence::{IndependenceChains, IndependenceMetropolis, IndependenceState};
pub use integrator::{Integrator, Trajectory};
pub use kernel::{MarkovKernel, StepInfo, metropolis};
pub use tuning::StepTuner;
