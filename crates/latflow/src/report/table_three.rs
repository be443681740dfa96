//! Table III: every scheme at every coupling, beside the paper and beside HMC, in three tables of the same rows.
//!
//! ```text
//! sampling       acceptance, τ_int of both observables, ESS, Var(log w)/V, log Z
//! observables    means with their distance to HMC and to the paper; Hotelling's p for three sets of observables
//! cost           training and sampling
//! ```

use anyhow::Result;
use latflow_observable::{Hotelling, ValueError};

use super::agreement::agreement;
use super::document::{Block, Cell, Table};
use super::{CONTRADICTION, Coupling, Finished, Flow, Models, mean_cell, percent, z_cell};
use crate::paper::{self, number};
use crate::progress::duration;

/// One ensemble and what it is compared with.
struct Row<'a> {
    label: &'a str,
    coupling: &'a Coupling<'a>,
    /// `None` in the row of HMC itself.
    flow: Option<&'a Flow>,
    run: &'a Finished,
}

impl Row<'_> {
    /// The paper's row, on the paper's lattice.
    fn published(&self) -> Option<&paper::Flow> {
        let scheme = &self.flow?.sample.result.scheme;
        let published = self.coupling.published;
        self.coupling.on_the_papers_lattice().then(|| published.flow(scheme)).flatten()
    }

    /// The paper's mean of an observable.
    fn published_mean(&self, name: &str) -> Option<&'static str> {
        let p = self.coupling.published;
        let (hmc, flow) = match name {
            "abs_magnetization" => (p.abs_magnetization, self.published().map(|f| f.abs_magnetization)),
            "abs_condensate" => (p.abs_condensate, self.published().map(|f| f.abs_condensate)),
            _ => return None,
        };
        if self.flow.is_some() { flow } else { self.coupling.on_the_papers_lattice().then_some(hmc) }
    }

    /// HMC, for every row but its own.
    fn hmc(&self) -> Option<&Finished> {
        self.flow.and(self.coupling.hmc.as_ref())
    }

    fn name(&self) -> [Cell; 2] {
        [self.label.into(), self.coupling.published.coupling.into()]
    }
}

/// Schemes in the order of their stages, both couplings of a scheme together as in the paper, HMC first.
fn rows<'a>(couplings: &'a [Coupling<'a>], models: Models) -> Vec<Row<'a>> {
    let hmc = couplings.iter().filter_map(|coupling| {
        coupling.hmc.as_ref().map(|run| Row { label: "HMC", coupling, flow: None, run })
    });
    let mut rows: Vec<Row<'_>> = hmc.collect();
    let mut labels: Vec<&str> = Vec::new();
    let flows = || {
        let flows = couplings.iter().flat_map(|c| c.flows.iter().map(move |flow| (c, flow)));
        flows.filter(|(_, flow)| flow.models == models)
    };
    for (_, flow) in flows() {
        if !labels.contains(&flow.label) {
            labels.push(flow.label);
        }
    }
    for label in labels {
        let of_label = flows().filter(|(_, flow)| flow.label == label);
        rows.extend(of_label.map(|(coupling, flow)| Row {
            label,
            coupling,
            flow: Some(flow),
            run: &flow.sample,
        }));
    }
    rows
}

/// The tables of all ensembles made with one kind of models, and how well they agree with HMC altogether.
///
/// # Errors
/// When the measurements of a run cannot be read.
pub(super) fn tables(couplings: &[Coupling<'_>], models: Models) -> Result<Vec<Block>> {
    let rows = rows(couplings, models);
    let (observables, verdict) = observables(&rows)?;
    let mut blocks =
        vec![Block::Table(sampling(&rows)), Block::Table(observables), Block::Table(cost(&rows))];
    blocks.extend(verdict.map(Block::Text));
    Ok(blocks)
}

fn header(columns: &[&str]) -> Vec<Cell> {
    let names = ["scheme", "g"];
    names.iter().chain(columns).map(|name| Cell::from(*name)).collect()
}

fn row(row: &Row<'_>, cells: impl IntoIterator<Item = Cell>) -> Vec<Cell> {
    row.name().into_iter().chain(cells).collect()
}

fn text(x: Option<ValueError>) -> Cell {
    x.map(|x| x.to_string()).into()
}

fn sampling(rows: &[Row<'_>]) -> Table {
    let columns =
        ["acceptance", "paper", "τ_int |M|", "paper", "τ_int |ψ̄ψ|", "paper", "ESS", "Var(log w)/V", "log Z"];
    let mut table = vec![header(&columns)];
    for r in rows {
        let p = r.published();
        let cells = [
            r.run.result.acceptance.map(percent).into(),
            p.map(|p| format!("{:.0} %", 100.0 * p.acceptance)).into(),
            text(r.run.tau("abs_magnetization")),
            p.map(|p| p.tau_int_magnetization).into(),
            text(r.run.tau("abs_condensate")),
            p.map(|p| p.tau_int_condensate).into(),
            r.run.result.ess.map(percent).into(),
            text(r.run.pair("log_weight_variance_per_site")),
            text(r.run.pair("log_z")),
        ];
        table.push(row(r, cells));
    }
    Table { rows: table }
}

/// The table, and a sentence about all of it.
fn observables(rows: &[Row<'_>]) -> Result<(Table, Option<String>)> {
    let columns = [
        "⟨|M|⟩",
        "z HMC",
        "paper",
        "z paper",
        "⟨|ψ̄ψ|⟩",
        "z HMC",
        "paper",
        "z paper",
        "⟨φ²⟩",
        "z HMC",
        "T²",
        "p",
        "p C_φ",
        "p C_ψ",
    ];
    let mut table = vec![header(&columns)];
    let (mut scores, mut probabilities): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    for r in rows {
        let mut cells = Vec::new();
        for name in ["abs_magnetization", "abs_condensate", "phi2"] {
            let (ours, hmc) = (r.run.trusted(name), r.hmc().and_then(|run| run.trusted(name)));
            scores.extend(ours.zip(hmc).map(|(a, b)| a.z_score(b)));
            cells.extend([mean_cell(Some(r.run), name), z_cell(ours, hmc)]);
            if name != "phi2" {
                let paper = r.published_mean(name);
                cells.extend([paper.into(), z_cell(ours, paper.map(number))]);
            }
        }
        let tests = r.hmc().map(|hmc| agreement(r.run, hmc)).transpose()?.unwrap_or_default();
        let all = [tests.means, tests.two_point, tests.fermion_correlator];
        probabilities.extend(all.iter().flatten().map(|test| test.p_value));
        cells.push(tests.means.map(|test| format!("{:.1}", test.t2)).into());
        cells.extend(all.map(p_cell));
        table.push(row(r, cells));
    }
    Ok((Table { rows: table }, verdict(&scores, &probabilities)))
}

/// Probability of |z| > 3.
const IMPROBABLE: f64 = 0.0027;

fn p_cell(test: Option<Hotelling>) -> Cell {
    test.map(|test| Cell { text: format!("{:.3}", test.p_value), alarm: test.p_value < IMPROBABLE }).into()
}

fn verdict(scores: &[f64], probabilities: &[f64]) -> Option<String> {
    let largest = scores.iter().map(|z| z.abs()).max_by(f64::total_cmp)?;
    let above = scores.iter().filter(|z| z.abs() > CONTRADICTION).count();
    let smallest = probabilities.iter().copied().min_by(f64::total_cmp);
    let smallest = smallest.map_or_else(String::new, |p| {
        format!("; smallest p of {} Hotelling tests {p:.3}", probabilities.len())
    });
    Some(format!(
        "Agreement with HMC: largest |z| of {} means {largest:.1}, {above} above {CONTRADICTION}{smallest}.",
        scores.len()
    ))
}

fn cost(rows: &[Row<'_>]) -> Table {
    let columns = [
        "training samples",
        "paper",
        "training",
        "sampling",
        "measurements",
        "per independent configuration",
        "HMC",
    ];
    let mut table = vec![header(&columns)];
    let independent = |run: &Finished| {
        let seconds = run.detail("seconds_per_independent_configuration");
        seconds.map(|seconds| format!("{:.2} ms", 1e3 * seconds))
    };
    for r in rows {
        let samples = |n: f64| format!("{n:.2e}");
        let card = r.run.card.as_ref();
        let training = card.map(|card| card.seconds);
        let ours = card.map(|card| card.training_samples as f64);
        let cells = [
            ours.map(samples).into(),
            r.published().map(|p| samples(p.training_samples())).into(),
            training.map(duration).into(),
            duration(r.run.result.seconds).into(),
            r.run.observable("abs_magnetization").map(|measured| measured.n.to_string()).into(),
            independent(r.run).into(),
            r.hmc().and_then(independent).into(),
        ];
        table.push(row(r, cells));
    }
    Table { rows: table }
}
