//! Tables and figures for people: one run's summary, and the reproduction's comparison with the paper and with HMC.
//!
//! ```text
//! finished   what a run left behind            table_three  Table III: schemes beside the paper and HMC
//! agreement  Hotelling's tests                 table_two    Table II: HMC beside the paper
//! svg        axes, points, bands               figures      Figures 4 and 5
//! qcd        the report of QCD
//! document   blocks, and them as Markdown      html         the same blocks as one self-contained page
//! ```

mod agreement;
mod document;
mod figures;
mod finished;
mod html;
pub(crate) mod qcd;
mod svg;
mod table_three;
mod table_two;

use std::path::Path;

use anyhow::Result;
use latflow_observable::ValueError;

use crate::io::{create_folder, write_atomically};
use crate::manifest::VERSION;
use crate::paper::{DIMS, Published};
use crate::progress::duration;
use crate::results::Measured;
use crate::run::RunDirectory;
use document::{Block, Cell, Figure, NONE, Table, markdown};
pub(crate) use finished::Finished;

/// Everything about one row of Table II.
#[derive(Debug, Clone)]
pub(crate) struct Coupling<'a> {
    /// The paper's numbers.
    pub published: &'a Published,
    /// Our lattice; the paper's numbers mean something only on theirs.
    pub dims: Vec<usize>,
    /// Hybrid Monte Carlo.
    pub hmc: Option<Finished>,
    /// Sampling with flows.
    pub flows: Vec<Flow>,
}

impl Coupling<'_> {
    fn on_the_papers_lattice(&self) -> bool {
        self.dims == DIMS
    }
}

/// One ensemble made with a flow.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    /// Whose architecture.
    pub models: Models,
    /// Name of the scheme for people.
    pub label: &'static str,
    /// Whether Figures 4 and 5 show it.
    pub in_figures: bool,
    /// Sampling.
    pub sample: Finished,
}

/// Whose architecture a flow has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Models {
    /// Flows that start near the answer.
    Ours,
    /// The paper's flows, scaled down to two cores unless the scale is `paper`.
    Paper,
}

/// Above this a z-score is a contradiction.
const CONTRADICTION: f64 = 3.0;

/// A difference in units of its error.
fn z_cell(a: Option<ValueError>, b: Option<ValueError>) -> Cell {
    // Rounded before it is written: there is no −0.0.
    let z = a.zip(b).map(|(a, b)| (10.0 * a.z_score(b)).round() / 10.0 + 0.0);
    z.map(|z| Cell { text: format!("{z:+.1}"), alarm: z.abs() > CONTRADICTION }).into()
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn shown(measured: &Measured) -> String {
    if measured.error.is_some() {
        measured.value().to_string()
    } else {
        format!("{:.6} (no error)", measured.mean)
    }
}

/// A mean; marked where its error cannot be trusted.
fn mean_cell(run: Option<&Finished>, name: &str) -> Cell {
    let measured = run.and_then(|run| run.observable(name).map(|measured| (run, measured)));
    let text = measured.map(|(run, measured)| match run.trusted(name) {
        Some(_) => shown(&measured),
        None => format!("{} (too short)", shown(&measured)),
    });
    text.into()
}

/// Summary of one finished run.
///
/// # Errors
/// When it is not finished.
pub(crate) fn summary(run: &RunDirectory) -> Result<String> {
    let finished = Finished::read(run)?;
    let result = &finished.result;
    let mut rows: Vec<Vec<Cell>> = vec![["", "value", "tau_int", "n"].map(Cell::from).to_vec()];
    for (name, measured) in &result.observables {
        let tau = finished.tau(name).map(|tau| tau.to_string()).into();
        rows.push(vec![name.as_str().into(), shown(measured).into(), tau, measured.n.to_string().into()]);
    }
    let table = if rows.len() > 1 { markdown(&[Block::Table(Table { rows })]) } else { String::new() };
    let share = |x: Option<f64>| x.map_or_else(|| NONE.to_owned(), percent);
    Ok(format!(
        "{table}{}: acceptance {}, ESS {}, {}; {}\n",
        result.scheme,
        share(result.acceptance),
        share(result.ess),
        duration(result.seconds),
        run.root().display()
    ))
}

/// Writes `report.md`, `report.html` and `figures/*.svg`; returns the tables for the terminal.
///
/// `settings` are the flags that repeat this reproduction.
///
/// # Errors
/// When the measurements of a run cannot be read, or a file cannot be written.
pub(crate) fn write(root: &Path, settings: &str, couplings: &[Coupling<'_>]) -> Result<String> {
    let tables = tables(couplings)?;
    let figures = figures::figures(couplings);
    let mut blocks = vec![
        Block::Heading(1, "Yukawa theory with two staggered flavours".into()),
        Block::Text(format!(
            "Tables II and III and Figures 4 and 5 of arXiv:2106.05934, by latflow {VERSION}, flags `{settings}`."
        )),
    ];
    blocks.extend(tables.iter().cloned());
    if !figures.is_empty() {
        blocks.push(Block::Heading(2, "Correlators".into()));
        blocks.extend(figures.iter().cloned().map(Block::Figure));
    }
    blocks.extend(notes());
    blocks.push(Block::Heading(2, "How to reproduce".into()));
    blocks.push(Block::Code(format!("cargo xtask repro-yukawa {settings}")));
    blocks.push(Block::Text(
        "The same seeds give the same numbers, bit by bit, on any number of threads of the same processor. Every run \
         directory holds its complete configuration, versions, seed and chains."
            .into(),
    ));
    blocks.extend(configurations(couplings));

    publish(root, &blocks, &figures)?;
    Ok(markdown(&tables))
}

/// Writes a report in both formats, and its figures.
fn publish(root: &Path, blocks: &[Block], figures: &[Figure]) -> Result<()> {
    if !figures.is_empty() {
        let folder = root.join("figures");
        create_folder(&folder)?;
        for figure in figures {
            write_atomically(&folder.join(format!("{}.svg", figure.name)), figure.svg.as_bytes())?;
        }
    }
    write_atomically(&root.join("report.md"), markdown(blocks).as_bytes())?;
    Ok(write_atomically(&root.join("report.html"), html::page(blocks).as_bytes())?)
}

fn tables(couplings: &[Coupling<'_>]) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    for (models, title) in [
        (Models::Paper, "Table III, the paper's architectures, desk budget"),
        (Models::Ours, "Table III, our models"),
    ] {
        if couplings.iter().any(|coupling| coupling.flows.iter().any(|flow| flow.models == models)) {
            blocks.push(Block::Heading(2, title.into()));
            blocks.extend(table_three::tables(couplings, models)?);
        }
    }
    if couplings.iter().any(|coupling| coupling.hmc.is_some()) {
        blocks.push(Block::Heading(2, "Table II, hybrid Monte Carlo".into()));
        for coupling in couplings {
            let p = coupling.published;
            let dims: Vec<String> = coupling.dims.iter().map(usize::to_string).collect();
            let dims = dims.join("×");
            let parameters = format!("V = {dims}, m² = {}, λ = {}, g = {}, m_f = 0", p.m2, p.lambda, p.g);
            blocks.push(Block::Text(parameters));
            blocks.push(Block::Table(table_two::table(coupling)));
        }
    }
    Ok(blocks)
}

fn notes() -> Vec<Block> {
    let items = [
        "Errors are by blocking and jackknife, one standard deviation in the last digits. z is a difference in units of the \
         combined error; |z| > 3 is a contradiction and printed bold.",
        "All samplers have the same density. A flow's quality changes acceptance and errors, never the means.",
        "T² and p: Hotelling's test of the ensemble against HMC, correlations included; p is uniform in [0, 1] when they \
         agree. C_φ(t) for t = 0 … L_t/2, C_ψ(t) for odd t.",
        "Observables of one ensemble are correlated: |M| and |ψ̄ψ| almost completely. One fluctuation shows in both.",
        "τ_int is in Markov steps: trajectories for HMC, proposals for flows, updates of a prior's field. Like the paper's it \
         is an average over chains, each with its own mean, which makes it too small by up to 20 τ_int²/N on chains of N steps.",
        "ESS, log Z and Var(log w)/V come from the proposals' weights. Gibbs sampling and updates of the prior's field have \
         none: their proposals belong to the chain.",
        "Training samples are gradient steps × batch, those of the weights a training began with included; the paper's from \
         its Table IV. Training time is that of the last training. The time of an independent configuration is 2 τ_int of \
         |M|, or of M where that is longer, times the cost of one step of one chain, training not included.",
        "\"(too short)\": the chains do not determine their own autocorrelation, so that no error can be trusted and no z is \
         given.",
        "The paper gives one force ratio and no definition of the fermionic force; ours are ⟨‖F_F‖⟩/⟨‖F_B‖⟩ for three.",
    ];
    vec![Block::Heading(2, "Notes".into()), Block::List(items.map(str::to_owned).to_vec())]
}

fn configurations(couplings: &[Coupling<'_>]) -> Vec<Block> {
    let mut blocks = vec![Block::Heading(2, "Configurations".into())];
    for coupling in couplings {
        let mut add = |what: String, run: Option<&Finished>| {
            let title = format!("g = {}, {what}", coupling.published.coupling);
            blocks.extend(run.map(|run| Block::Details(title, run.config.clone())));
        };
        add("HMC".into(), coupling.hmc.as_ref());
        for flow in &coupling.flows {
            let whose = match flow.models {
                Models::Ours => "our model",
                Models::Paper => "the paper's architecture",
            };
            add(format!("{}, {whose}", flow.label), Some(&flow.sample));
        }
    }
    blocks
}
