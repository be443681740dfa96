//! Exact Markov chains for lattice field theories.
//!
//! A kernel is immutable and owns no state; a state owns every density it may be asked for again. Every sampler here is
//! exact for any flow: a bad model costs acceptance, never bias.

mod annealed;
mod error;
mod estimate;
mod gibbs;
mod heat_bath;
mod hmc;
mod independence;
mod integrator;
mod kernel;
mod latent;
mod pseudo_marginal;
mod tuning;

pub use annealed::{AnnealedFlow, Sweeps};
pub use error::{Error, Result};
pub use estimate::{LogEstimate, PseudofermionEstimate, log_mean_exp};
pub use gibbs::GibbsFlow;
pub use heat_bath::GaugeHeatBath;
pub use hmc::Hmc;
pub use independence::{IndependenceChains, IndependenceMetropolis, IndependenceState};
pub use integrator::{Integrator, Trajectory};
pub use kernel::{MarkovKernel, StepInfo, metropolis};
pub use latent::{LatentState, PriorRefreshment, PulledBack};
pub use pseudo_marginal::PseudoMarginal;
pub use tuning::StepTuner;
