//! What every sampler writes to its series and how it is read back.
//!
//! ```text
//! row: (log weight or log acceptance ratio, observables …, accepted) of chain 0, of chain 1, …; correlators
//! ```

use std::collections::BTreeMap;

use anyhow::Result;
use latflow_observable::{Chains, summarize};

use crate::correlators::CorrelatorColumns;
use crate::results::{Analysis, Measured, observe, reported_name};
use crate::run::RunDirectory;
use crate::theory::{FieldTheory, Measurand};

/// The columns of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    /// Chains.
    pub chains: usize,
    /// Numbers a chain.
    pub width: usize,
    /// Where and how the correlators follow.
    pub correlators: CorrelatorColumns,
}

impl Columns {
    pub(super) fn new<T: FieldTheory + ?Sized>(theory: &T, chains: usize) -> Self {
        let correlators = CorrelatorColumns::new(theory, chains);
        Self { chains, width: theory.observables().len() + 2, correlators }
    }

    /// Numbers a row.
    pub(super) fn total(&self) -> usize {
        self.chains * self.width + self.correlators.width()
    }

    /// A row without its correlators.
    pub(super) fn row(&self, log_weight: &[f64], observables: &[Vec<f64>], accepted: &[bool]) -> Vec<f64> {
        let mut row = Vec::with_capacity(self.total());
        for ((weight, observables), accepted) in log_weight.iter().zip(observables).zip(accepted) {
            row.push(*weight);
            row.extend(observables);
            row.push(f64::from(u8::from(*accepted)));
        }
        row
    }

    pub(super) fn log_weight(&self, row: &[f64], chain: usize) -> f64 {
        row[chain * self.width]
    }

    pub(super) fn observable(&self, row: &[f64], chain: usize, index: usize) -> f64 {
        row[chain * self.width + 1 + index]
    }

    pub(super) fn accepted(&self, row: &[f64], chain: usize) -> bool {
        row[(chain + 1) * self.width - 1] > 0.0
    }

    /// Fraction of accepted steps; `None` without rows.
    pub(super) fn acceptance(&self, rows: &[Vec<f64>]) -> Option<f64> {
        let accepted = rows
            .iter()
            .flat_map(|row| (0..self.chains).map(|c| self.accepted(row, c)))
            .filter(|a| *a)
            .count();
        (!rows.is_empty()).then(|| accepted as f64 / (rows.len() * self.chains) as f64)
    }
}

/// Means and autocorrelation of all observables.
pub(super) struct Observed {
    /// By name.
    pub observables: BTreeMap<String, Measured>,
    /// τ_int in Markov steps of the first observable, of it and of its absolute value where that is reported: what a
    /// configuration must wait to be another one.
    pub tau_int: Option<f64>,
}

/// Summarises every observable. `series(i)` are the chains of observable i with their signs, `interval` the Markov steps
/// between two measurements.
///
/// # Errors
/// When a measurement is not finite, or the chains cannot be written.
pub(super) fn observe_all(
    run: &RunDirectory,
    measurands: &[Measurand],
    series: impl Fn(usize) -> Vec<Vec<f64>>,
    interval: f64,
    analysis: &mut Analysis,
) -> Result<Observed> {
    let mut observables = BTreeMap::new();
    let mut tau_int: Option<f64> = None;
    for (index, measurand) in measurands.iter().enumerate() {
        let (name, absolute) = reported_name(&measurand.name);
        let interval = interval * measurand.every as f64;
        let series = Chains::new(series(index))?;
        let measured = if absolute {
            observe(run, &name, &series.map(f64::abs)?, interval, analysis)?
        } else {
            observe(run, &name, &series, interval, analysis)?
        };
        if index == 0 {
            tau_int = measured.tau_int;
            if absolute {
                let signed = summarize(&series, None).ok().and_then(|summary| summary.tau_int);
                let signed = signed.map(|tau| tau.tau_int.value * interval);
                // Both or nothing: a sign that flips too rarely to be seen is the slowest of all.
                tau_int = tau_int.zip(signed).map(|(a, b)| a.max(b));
            }
        }
        observables.insert(name, measured);
    }
    Ok(Observed { observables, tau_int })
}
