//! The registry of sampling schemes, each a resumable task and an analysis of its measurements.
//!
//! A new scheme is one variant of [`Scheme`], one arm in each of its methods, and one file here.

mod hmc;
mod marginal;
mod train;

use anyhow::Result;

use crate::config::Needs;
use crate::run::{Outcome, RunDirectory};
use crate::session::Session;

pub(crate) use marginal::trained_model;

/// A way to sample, or a preparation for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Hybrid Monte Carlo.
    Hmc,
    /// Training of the φ-marginal flow.
    Train,
    /// Independence Metropolis and reweighting with the φ-marginal flow [YUK (15)].
    Marginal,
}

impl Scheme {
    /// The subcommand, which is also the name of the default run directory.
    pub(crate) fn command(self) -> &'static str {
        match self {
            Self::Hmc => "hmc",
            Self::Train => "train",
            Self::Marginal => "sample",
        }
    }

    /// What its configuration must fulfil.
    pub(crate) fn needs(self) -> Needs {
        match self {
            Self::Hmc => Needs::Sampling,
            Self::Train | Self::Marginal => Needs::Flow,
        }
    }

    /// Works on a run until it is finished or interrupted.
    ///
    /// # Errors
    /// When a step fails or the disk refuses; the last checkpoint is then intact.
    pub(crate) fn work(self, run: &RunDirectory, session: &Session) -> Result<Outcome> {
        match self {
            Self::Hmc => hmc::work(run, session),
            Self::Train => train::work(run, session),
            Self::Marginal => marginal::work(run, session),
        }
    }
}
