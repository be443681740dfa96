//! The histograms of [QCD Fig. 2]: four observables of every ensemble in the same bins, with bootstrap errors.

use std::ops::Range;

use anyhow::Result;
use latflow_lattice::Streams;
use latflow_observable::{BOOTSTRAP_ENSEMBLES, Bins, Chains, Histogram, Resampling, ResidualDistribution};

use super::super::document::{Cell, Table};
use super::super::finished::{Finished, Weighted};
use super::{Qcd, Scheme};

/// Seed of the bootstrap: the report of the same runs is the same report.
const SEED: u64 = 2208_03832;
/// Measurements below this share, or above the rest of it, lie outside the bins.
const TAIL: f64 = 1e-3;
/// Bounds on the number of bins.
const BINS: Range<usize> = 8..40;
/// Effective measurements of a bin whose residual is counted.
const FEWEST: f64 = 20.0;
/// Effective configurations of an ensemble that is shown: 25 a bin, so that errors of bins are what they seem.
const FEWEST_CONFIGURATIONS: f64 = 200.0;
/// Bins of the residuals, and the largest residual in them.
const RESIDUAL_BINS: (usize, f64) = (12, 3.6);

/// An observable of the figure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quantity {
    /// Which part of the figure.
    pub letter: char,
    /// As in `results.json`.
    observable: &'static str,
    /// What it is multiplied with.
    scale: f64,
    /// For people.
    pub title: &'static str,
}

const QUANTITIES: [Quantity; 4] = [
    // Six planes: [QCD (2)] is not divided by their number.
    Quantity { letter: 'a', observable: "plaquette", scale: 6.0, title: "plaquette, Σ over planes" },
    Quantity { letter: 'b', observable: "polyakov_loop_re", scale: 1.0, title: "Polyakov loop, Re L" },
    Quantity { letter: 'c', observable: "pion_correlator_1", scale: 1.0, title: "pion correlator, C_π(1)" },
    Quantity {
        letter: 'd',
        observable: "topological_charge_flowed",
        scale: 1.0,
        title: "topological charge after Wilson flow",
    },
];

/// One observable of all ensembles.
#[derive(Debug, Clone)]
pub(super) struct Compared {
    pub quantity: Quantity,
    /// Of the ensemble that the others are compared with.
    pub reference: Histogram,
    /// Index among the names, and the histogram.
    pub others: Vec<(usize, Histogram)>,
}

/// All histograms.
#[derive(Debug, Clone)]
pub(super) struct Comparison {
    /// Names of the ensembles, the reference first.
    pub names: Vec<String>,
    /// The observables that the reference has.
    pub compared: Vec<Compared>,
}

impl Comparison {
    /// HMC and every other ensemble of the same theory, or, where there is none, the two halves of HMC. `None` without HMC.
    ///
    /// # Errors
    /// When measurements cannot be read.
    pub(super) fn new(qcd: &Qcd) -> Result<Option<Self>> {
        let Some(hmc) = &qcd.hmc else { return Ok(None) };
        // Of a few configurations, or of a few that carry all the weight, a histogram says nothing.
        let schemes: Vec<&Scheme> = qcd.schemes.iter().filter(|scheme| informative(&scheme.run)).collect();
        let halves = schemes.is_empty();
        let names = if halves {
            ["HMC, first half", "HMC, second half"].map(str::to_owned).to_vec()
        } else {
            let others = schemes.iter().map(|scheme| scheme.label.clone());
            std::iter::once("HMC".to_owned()).chain(others).collect()
        };
        let mut compared = Vec::new();
        for quantity in QUANTITIES {
            let Some(reference) = read(hmc, quantity)? else { continue };
            let series = if halves {
                split(&reference)?.map(Some).to_vec()
            } else {
                let others = schemes.iter().map(|scheme| read(&scheme.run, quantity));
                std::iter::once(Ok(Some(reference))).chain(others).collect::<Result<_>>()?
            };
            compared.extend(compare(quantity, &series)?);
        }
        Ok((!compared.is_empty()).then_some(Self { names, compared }))
    }

    /// The residuals of all bins of all observables of one ensemble against the reference.
    fn all_residuals(&self, index: usize) -> Vec<f64> {
        let of = |compared: &Compared| {
            let (_, other) = compared.others.iter().find(|(i, _)| *i == index)?;
            other.residuals(&compared.reference, FEWEST).ok()
        };
        self.compared.iter().filter_map(of).flatten().collect()
    }

    /// Their distribution [QCD Fig. 3], for each ensemble.
    pub(super) fn residuals(&self) -> Vec<(usize, ResidualDistribution)> {
        let of = |index: usize| -> Option<(usize, ResidualDistribution)> {
            let (bins, largest) = RESIDUAL_BINS;
            Some((index, ResidualDistribution::new(&self.all_residuals(index), bins, largest).ok()?))
        };
        (1..self.names.len()).filter_map(of).collect()
    }

    /// Number of bins and χ² = Σ r² over all observables, for each ensemble.
    pub(super) fn chi_squared(&self) -> Table {
        let mut rows = vec![["", "bins", "χ²", "χ² / bins"].map(Cell::from).to_vec()];
        for (index, name) in self.names.iter().enumerate().skip(1) {
            let residuals = self.all_residuals(index);
            let (n, sum) = (residuals.len(), residuals.iter().map(|r| r * r).sum::<f64>());
            let numbers = [n.to_string(), format!("{sum:.1}"), format!("{:.2}", sum / n as f64)];
            rows.push(std::iter::once(name.clone()).chain(numbers).map(Cell::from).collect());
        }
        Table { rows }
    }
}

/// Whether an ensemble has enough configurations, as far as their weights go.
fn informative(run: &Finished) -> bool {
    let n = run.observable("plaquette").map_or(0, |measured| measured.n);
    run.result.ess.is_none_or(|ess| ess * n as f64 >= FEWEST_CONFIGURATIONS)
}

/// The measurements of an observable, in the units of the figure.
fn read(run: &Finished, quantity: Quantity) -> Result<Option<Weighted>> {
    let Some(mut found) = run.series(quantity.observable)? else { return Ok(None) };
    found.values = found.values.map(|x| quantity.scale * x)?;
    Ok(Some(found))
}

/// The first and the second half of every chain.
fn split(all: &Weighted) -> Result<[Weighted; 2]> {
    let half = (all.values.length() / 2).max(1);
    let part = |range: Range<usize>| -> Result<Weighted> {
        let cut = |chains: &Chains| Chains::new(chains.iter().map(|c| c[range.clone()].to_vec()).collect());
        let log_weights = all.log_weights.as_ref().map(cut).transpose()?;
        Ok(Weighted { values: cut(&all.values)?, log_weights, block: all.block.min(range.len()) })
    };
    let length = all.values.length();
    Ok([part(0..half)?, part(length - half..length)?])
}

/// Histograms in common bins; `None` where the reference has too few measurements for any.
fn compare(quantity: Quantity, series: &[Option<Weighted>]) -> Result<Option<Compared>> {
    let Some(bins) = bins(series)? else { return Ok(None) };
    let mut found = Vec::new();
    for (index, series) in series.iter().enumerate() {
        let Some(series) = series else { continue };
        let weights = series.log_weights.as_ref().map(Chains::relative_weights).transpose()?;
        let resampling = Resampling { block: series.block, ensembles: BOOTSTRAP_ENSEMBLES };
        let stream = format!("report/bootstrap/{}", quantity.observable);
        let mut rng = Streams::new(SEED).stream(&stream, index as u64);
        // A single block has no error: such an ensemble is left out.
        found.extend(
            Histogram::new(&bins, &series.values, weights.as_ref(), resampling, &mut rng)
                .ok()
                .map(|h| (index, h)),
        );
    }
    let mut found = found.into_iter();
    Ok(match found.next() {
        Some((0, reference)) => Some(Compared { quantity, reference, others: found.collect() }),
        _ => None,
    })
}

/// Bins that hold nearly all measurements of all ensembles.
fn bins(series: &[Option<Weighted>]) -> Result<Option<Bins>> {
    let mut all: Vec<f64> = series
        .iter()
        .flatten()
        .flat_map(|s| s.values.iter().flatten().copied().collect::<Vec<_>>())
        .collect();
    all.sort_by(f64::total_cmp);
    let at = |share: f64| all[((all.len() - 1) as f64 * share).round() as usize];
    let (low, high) = (at(TAIL), at(1.0 - TAIL));
    if low >= high {
        return Ok(None);
    }
    let fewest = series.iter().flatten().map(|s| s.values.n()).min().unwrap_or(0);
    let count = ((fewest as f64).sqrt() / 2.0) as usize;
    let margin = 1e-3 * (high - low);
    Ok(Some(Bins::uniform(low - margin..high + margin, count.clamp(BINS.start, BINS.end))?))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use latflow_lattice::{Streams, normal_tensor};
    use latflow_observable::Chains;

    use super::{QUANTITIES, Weighted, compare, split};

    fn normal(stream: &str, shift: f64) -> Chains {
        let mut rng = Streams::new(1).stream(stream, 0);
        let noise = normal_tensor(&mut rng, 1.0, &[8, 2000], DType::F64, &Device::Cpu).unwrap();
        Chains::new(noise.to_vec2::<f64>().unwrap()).unwrap().map(|x| x + shift).unwrap()
    }

    /// N(½, 1) with the weights e^{−x/2} is N(0, 1); without them it is not.
    #[test]
    fn weights_make_histograms_agree() {
        let plain = |values| Weighted { values, log_weights: None, block: 1 };
        let shifted = normal("b", 0.5);
        let weighted =
            Weighted { log_weights: Some(shifted.map(|x| -0.5 * x).unwrap()), ..plain(shifted.clone()) };
        let chi_squared = |other: Weighted| {
            let all = [Some(plain(normal("a", 0.0))), Some(other)];
            let found = compare(QUANTITIES[0], &all).unwrap().unwrap();
            let residuals = found.others[0].1.residuals(&found.reference, 20.0).unwrap();
            residuals.iter().map(|r| r * r).sum::<f64>() / residuals.len() as f64
        };
        let (with, without) = (chi_squared(weighted), chi_squared(plain(shifted)));
        assert!(with < 2.0 && without > 20.0, "{with} {without}");
    }

    #[test]
    fn halves_share_nothing() {
        let values = Chains::new(vec![(0..7).map(f64::from).collect()]).unwrap();
        let all = Weighted { log_weights: Some(values.clone()), values, block: 5 };
        let [first, second] = split(&all).unwrap();
        let numbers = |w: &Weighted| w.values.iter().flatten().copied().collect::<Vec<_>>();
        assert_eq!((numbers(&first), numbers(&second)), (vec![0.0, 1.0, 2.0], vec![4.0, 5.0, 6.0]));
        assert_eq!((first.block, second.log_weights), (3, Some(second.values)));
    }
}
