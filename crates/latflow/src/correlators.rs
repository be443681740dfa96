//! Correlators of a run: their columns in the series, their errors, and the rows that a test of agreement needs.
//!
//! Measuring a correlator costs a decomposition of the Dirac operator, so that it is done every few Markov steps. One
//! measurement is the average over a group of chains,
//!
//! ```text
//! row: group 0: one correlator at 0 … L_t − 1, the next, …; group 1: …;   NaN where nothing was measured
//! ```
//!
//! Groups are independent of each other like the chains they are made of, and as correlated in time; blocks are cut in
//! each of them.

use std::path::Path;

use anyhow::{Context, Result};
use latflow_observable::{Chains, default_bin, jackknife};

use crate::io::{NpyArray, create_folder, read_npy, write_npy};
use crate::results::{Analysis, CHAINS, chain_file};
use crate::run::RunDirectory;
use crate::theory::FieldTheory;

/// Markov steps between two measurements of the correlators.
pub(crate) const CORRELATORS_EVERY: u64 = 5;
/// Groups that a run's chains are averaged in: enough for covariances of a dozen time slices, few enough for small rows.
const GROUPS: usize = 10;

/// Where a series keeps the correlators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CorrelatorColumns {
    names: &'static [&'static str],
    times: usize,
    groups: usize,
}

impl CorrelatorColumns {
    /// The correlators of a theory, for so many chains. Groups are of equal size: their number divides that of the chains.
    pub(crate) fn new<T: FieldTheory + ?Sized>(theory: &T, chains: usize) -> Self {
        let (names, times) = (theory.correlator_names(), theory.lattice().time_extent());
        Self { names, times, groups: groups(chains) }
    }

    /// Numbers a row.
    pub(crate) fn width(&self) -> usize {
        self.groups * self.names.len() * self.times
    }

    /// Where nothing is measured.
    pub(crate) fn absent(&self) -> Vec<f64> {
        vec![f64::NAN; self.width()]
    }

    /// One measurement on the chains' fields.
    ///
    /// # Errors
    /// When a configuration has no fermion propagator.
    pub(crate) fn measure<T: FieldTheory + ?Sized>(&self, theory: &T, x: &T::Field) -> Result<Vec<f64>> {
        let measured = theory.correlators(x)?;
        let mut row = Vec::with_capacity(self.width());
        for group in 0..self.groups {
            for chains in &measured {
                let size = chains.len() / self.groups;
                let members = &chains[group * size..(group + 1) * size];
                row.extend((0..self.times).map(|t| members.iter().map(|c| c[t]).sum::<f64>() / size as f64));
            }
        }
        Ok(row)
    }

    /// Means, errors and `chains/NAME.npy` `[groups, measurements, L_t]` from the rows of a series, whose correlators
    /// begin at column `first`.
    ///
    /// # Errors
    /// When a measured number is not finite, or a file cannot be written.
    pub(crate) fn analyse(
        &self,
        run: &RunDirectory,
        rows: &[Vec<f64>],
        first: usize,
        analysis: &mut Analysis,
    ) -> Result<()> {
        let columns = rows.iter().map(|row| &row[first..first + self.width()]);
        let present: Vec<&[f64]> =
            columns.filter(|columns| columns.first().is_some_and(|x| !x.is_nan())).collect();
        if present.is_empty() {
            return Ok(());
        }
        create_folder(&run.path(CHAINS))?;
        for (index, name) in self.names.iter().enumerate() {
            let column = |group: usize| (group * self.names.len() + index) * self.times;
            let slices =
                |columns: &&[f64], group| columns[column(group)..column(group) + self.times].to_vec();
            let data = (0..self.groups).flat_map(|g| present.iter().flat_map(move |row| slices(row, g)));
            let shape = vec![self.groups, present.len(), self.times];
            let array = NpyArray { shape, data: data.collect() };
            write_npy(&chain_file(run.root(), name), &array)?;
            let series = time_slices(&array)?;
            let bin = default_bin(&series.iter().collect::<Vec<_>>()).ok();
            let slice = |series: &Chains| {
                let error = bin.and_then(|bin| jackknife(&[series], bin, |means| means[0]).ok());
                (series.mean(), error.map(|estimate| estimate.estimate.error))
            };
            let slices = series.iter().map(slice).collect();
            analysis.correlators.insert((*name).to_owned(), slices);
            analysis.correlator_bins.extend(bin.map(|bin| ((*name).to_owned(), bin)));
        }
        Ok(())
    }
}

/// The largest number of groups of equal size, within bounds.
fn groups(chains: usize) -> usize {
    (1..=GROUPS.min(chains)).rev().find(|groups| chains.is_multiple_of(*groups)).unwrap_or(1)
}

/// A finished run's correlator, one series a time slice, its chains the groups.
///
/// # Errors
/// When the file is not there or is not such an array.
pub(crate) fn read_correlator(run: &Path, name: &str) -> Result<Vec<Chains>> {
    let file = chain_file(run, name);
    time_slices(&read_npy(&file, None)?).with_context(|| file.display().to_string())
}

fn time_slices(array: &NpyArray) -> Result<Vec<Chains>> {
    let &[_, measurements, times] = array.shape.as_slice() else {
        anyhow::bail!("expected groups, measurements and time slices, got shape {:?}", array.shape);
    };
    let group = |group: &[f64], t: usize| group.iter().skip(t).step_by(times).copied().collect::<Vec<f64>>();
    let slice = |t| array.data.chunks_exact(measurements * times).map(|g| group(g, t)).collect();
    (0..times).map(|t| Ok(Chains::new(slice(t))?)).collect()
}

#[cfg(test)]
mod tests {
    use super::{groups, time_slices};
    use crate::io::NpyArray;

    #[test]
    fn groups_divide_the_chains() {
        for (chains, expected) in [(100, 10), (64, 8), (16, 8), (7, 7), (13, 1), (1, 1)] {
            assert_eq!(groups(chains), expected, "{chains} chains");
        }
    }

    #[test]
    fn slices_are_taken_in_every_group() {
        let data: Vec<f64> = (0..12).map(f64::from).collect();
        let slices = time_slices(&NpyArray { shape: vec![2, 3, 2], data }).unwrap();
        let first: Vec<&[f64]> = slices[0].iter().collect();
        assert_eq!(first, [[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]);
    }
}
