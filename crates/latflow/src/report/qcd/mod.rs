//! The report of QCD: every ensemble of the paper's theory beside HMC, and the pure gauge theory by two algorithms.
//!
//! ```text
//! sampling       acceptance, ⟨e^{−ΔH}⟩, solver, τ_int, ESS          figure 2   histograms, ratio to HMC
//! observables    means with their distance to HMC                    figure 3   residuals beside χ²
//! pure gauge     heat bath beside HMC
//! ```

mod figures;
mod flows;
mod histograms;

use std::path::Path;

use anyhow::Result;
use latflow_observable::ValueError;

use super::document::{Block, Cell, Table, markdown};
use super::{Finished, mean_cell, percent, publish, z_cell};
use crate::manifest::VERSION;
use crate::paper::qcd::PUBLISHED;
use crate::progress::duration;
use histograms::Comparison;

/// Everything that a reproduction has made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Qcd {
    /// Hybrid Monte Carlo of the paper's theory.
    pub hmc: Option<Finished>,
    /// Other ensembles of the same theory.
    pub schemes: Vec<Scheme>,
    /// Flows at other couplings, masses and volumes.
    pub frontier: Vec<Scheme>,
    /// What training the paper's architecture as printed would take.
    pub cost: Vec<Cost>,
    /// The pure gauge theory, each coupling by heat bath and by HMC.
    pub pure: Vec<[Finished; 2]>,
}

/// One ensemble of the paper's theory.
#[derive(Debug, Clone)]
pub(crate) struct Scheme {
    /// Its name for people.
    pub label: String,
    /// What it left behind.
    pub run: Finished,
}

/// The price of one stage of a training.
#[derive(Debug, Clone)]
pub(crate) struct Cost {
    /// What is trained.
    pub label: &'static str,
    /// Samples of the whole training.
    pub samples: f64,
    /// A few steps of it.
    pub step: Finished,
}

/// The observables of the tables: as in `results.json`, and for people.
const OBSERVABLES: [(&str, &str); 6] = [
    ("plaquette", "⟨Re tr P⟩/3"),
    ("polyakov_loop_re", "Re L"),
    ("polyakov_loop_im", "Im L"),
    ("pion_correlator_1", "C_π(1)"),
    ("topological_charge_flowed", "Q"),
    ("topological_charge_flowed_squared", "Q²"),
];

/// Writes `report.md`, `report.html` and `figures/*.svg`; returns the tables for the terminal. `settings` are the flags that
/// repeat this reproduction.
///
/// # Errors
/// When the measurements of a run cannot be read, or a file cannot be written.
pub(crate) fn write(root: &Path, settings: &str, qcd: &Qcd) -> Result<String> {
    let tables = tables(qcd);
    let comparison = Comparison::new(qcd)?;
    let figures = comparison.as_ref().map(figures::figures).unwrap_or_default();
    let mut blocks = vec![
        Block::Heading(1, "QCD with two flavours of Wilson fermions".into()),
        Block::Text(format!(
            "Section 3 of arXiv:2208.03832, by latflow {VERSION}, flags `{settings}`. The paper's theory: SU(3) on 4⁴, β = {}, \
             κ = {}, N_f = 2.",
            PUBLISHED.beta, PUBLISHED.kappa
        )),
    ];
    blocks.extend(tables.iter().cloned());
    if !figures.is_empty() {
        blocks.push(Block::Heading(2, "Distributions".into()));
        blocks.extend(comparison.iter().map(|comparison| Block::Table(comparison.chi_squared())));
        blocks.extend(figures.iter().cloned().map(Block::Figure));
    }
    blocks.push(Block::Heading(2, "Notes".into()));
    blocks.push(Block::List(NOTES.map(str::to_owned).to_vec()));
    blocks.push(Block::Heading(2, "How to reproduce".into()));
    blocks.push(Block::Code(format!("cargo xtask repro-qcd {settings}")));
    blocks.push(Block::Heading(2, "Configurations".into()));
    let flows = qcd.schemes.iter().chain(&qcd.frontier).map(|s| &s.run);
    let all = qcd.hmc.iter().chain(flows).chain(qcd.pure.iter().flatten());
    blocks.extend(all.map(|run| Block::Details(title(run), run.config.clone())));
    publish(root, &blocks, &figures)?;
    Ok(markdown(&tables))
}

fn parameter(run: &Finished, name: &str) -> f64 {
    run.result.parameters.get(name).and_then(serde_json::Value::as_f64).unwrap_or(f64::NAN)
}

/// What a run is, in one line.
fn title(run: &Finished) -> String {
    let dims: Vec<String> = run.dims.iter().map(usize::to_string).collect();
    let (beta, n_f) = (parameter(run, "beta"), parameter(run, "n_f"));
    let quarks =
        if n_f > 0.0 { format!(", κ = {}, N_f = {n_f}", parameter(run, "kappa")) } else { String::new() };
    format!("{}: {}, β = {beta}{quarks}", run.result.scheme, dims.join("×"))
}

fn tables(qcd: &Qcd) -> Vec<Block> {
    let mut rows: Vec<(&str, &Finished)> = qcd.hmc.iter().map(|run| ("HMC", run)).collect();
    rows.extend(qcd.schemes.iter().map(|scheme| (scheme.label.as_str(), &scheme.run)));
    let mut blocks = Vec::new();
    if let Some((_, first)) = rows.first() {
        blocks.push(Block::Heading(2, "The paper's theory".into()));
        blocks.push(Block::Text(title(first)));
        blocks.push(Block::Table(sampling(&rows)));
        blocks.push(Block::Table(observables(&rows, qcd.hmc.as_ref())));
    }
    let flow =
        |scheme: &&Scheme| scheme.run.result.draws.is_some() && scheme.run.result.scheme != "reweighting";
    let all = qcd.schemes.iter().filter(flow).chain(&qcd.frontier);
    let all: Vec<(&str, &Finished)> = all.map(|scheme| (scheme.label.as_str(), &scheme.run)).collect();
    if !all.is_empty() {
        blocks.push(Block::Heading(2, "Flows".into()));
        blocks.push(Block::Text(format!(
            "The paper reaches an ESS of about {} with {} pseudofermions at its point, and below {} by reweighting from the Haar \
             measure.",
            PUBLISHED.ess, PUBLISHED.draws, PUBLISHED.ess_haar
        )));
        blocks.push(Block::Table(flows::flows(&all)));
    }
    if !qcd.cost.is_empty() {
        blocks.push(Block::Heading(3, "What the paper's training costs".into()));
        blocks.push(Block::Text(flows::COST.into()));
        blocks.push(Block::Table(flows::cost(&qcd.cost)));
    }
    if !qcd.pure.is_empty() {
        blocks.push(Block::Heading(2, "The pure gauge theory by two algorithms".into()));
        blocks.push(Block::Table(pure(&qcd.pure)));
    }
    blocks
}

fn text(x: Option<ValueError>) -> Cell {
    x.map(|x| x.to_string()).into()
}

/// Whether the paper's numbers are about this run.
fn published(run: &Finished) -> bool {
    let same = |name, value: f64| parameter(run, name) == value;
    run.dims == PUBLISHED.dims
        && same("beta", PUBLISHED.beta)
        && same("kappa", PUBLISHED.kappa)
        && same("n_f", PUBLISHED.n_f)
}

fn sampling(rows: &[(&str, &Finished)]) -> Table {
    let columns = [
        "",
        "acceptance",
        "paper",
        "⟨e^{−ΔH}⟩",
        "iterations",
        "draws",
        "ESS",
        "τ_int P",
        "τ_int Re L",
        "τ_int Q²",
        "measurements",
        "time",
        "per independent configuration",
    ];
    let mut table = vec![columns.map(Cell::from).to_vec()];
    for (label, run) in rows {
        let hmc = run.result.scheme == "hmc" && published(run);
        let independent = run.detail("seconds_per_independent_configuration");
        table.push(vec![
            (*label).into(),
            run.result.acceptance.map(percent).into(),
            hmc.then(|| format!("{:.0} %", 100.0 * PUBLISHED.hmc_acceptance)).into(),
            text(run.pair("exp_minus_delta_h")),
            run.detail("solver_iterations").map(|n| format!("{n:.1}")).into(),
            run.result.draws.map(|n| n.to_string()).into(),
            run.result.ess.map(percent).into(),
            text(run.tau("plaquette")),
            text(run.tau("polyakov_loop_re")),
            text(run.tau("topological_charge_flowed_squared")),
            run.observable("plaquette").map(|measured| measured.n.to_string()).into(),
            duration(run.result.seconds).into(),
            independent.map(|seconds| format!("{:.1} ms", 1e3 * seconds)).into(),
        ]);
    }
    Table { rows: table }
}

/// Means and their distances to the reference.
fn observables(rows: &[(&str, &Finished)], reference: Option<&Finished>) -> Table {
    let names = OBSERVABLES.iter().flat_map(|(_, name)| [Cell::from(*name), "z".into()]);
    let mut table = vec![std::iter::once(Cell::from("")).chain(names).collect::<Vec<_>>()];
    for (label, run) in rows {
        let mut row = vec![Cell::from(*label)];
        for (name, _) in OBSERVABLES {
            // HMC is not compared with itself.
            let other = reference.filter(|hmc| !std::ptr::eq(*hmc, *run));
            row.push(mean_cell(Some(run), name));
            row.push(z_cell(other.and(run.trusted(name)), other.and_then(|hmc| hmc.trusted(name))));
        }
        table.push(row);
    }
    Table { rows: table }
}

fn pure(pairs: &[[Finished; 2]]) -> Table {
    let columns = [
        "β",
        "⟨Re tr P⟩/3, heat bath",
        "HMC",
        "z",
        "τ_int heat bath",
        "τ_int HMC",
        "Re L, heat bath",
        "HMC",
        "z",
    ];
    let mut table = vec![columns.map(Cell::from).to_vec()];
    for [heat_bath, hmc] in pairs {
        let mut row = vec![Cell::from(parameter(hmc, "beta").to_string())];
        for name in ["plaquette", "polyakov_loop_re"] {
            row.push(mean_cell(Some(heat_bath), name));
            row.push(mean_cell(Some(hmc), name));
            row.push(z_cell(heat_bath.trusted(name), hmc.trusted(name)));
            if name == "plaquette" {
                row.extend([heat_bath, hmc].map(|run| text(run.tau(name))));
            }
        }
        table.push(row);
    }
    Table { rows: table }
}

const NOTES: [&str; 7] = [
    "Errors are by blocking and jackknife, one standard deviation in the last digits. z is a difference in units of the combined \
     error; |z| > 3 is a contradiction and printed bold.",
    "⟨Re tr P⟩/3 is 1 for unit links. The paper's plaquette is the sum over the six planes, six times as large; Figure 2 shows that \
     one. L is the trace, not divided by 3.",
    "C_π(t) is from a point source on each configuration, for D = 1 − κH; fields with a canonical kinetic term have 4κ² times as \
     much.",
    "Q is the field's standard clover charge after Wilson flow, ε tr FF/32π², an integer in the continuum.",
    "τ_int is in trajectories of one chain, or sweeps of heat bath with their overrelaxation.",
    "Reweighting takes configurations of the pure gauge theory from the heat bath and gives them the weight |det D|² of two \
     flavours, without any approximation: draws = 0. Its acceptance is that of independence Metropolis with these proposals.",
    "\"(too short)\": the chains do not determine their own autocorrelation, so that no error can be trusted and no z is given.",
];
