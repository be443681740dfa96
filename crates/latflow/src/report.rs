//! Tables for people: one run's summary, and the reproduction's *paper · HMC (ours) · flow (ours) · z*.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use latflow_observable::{Chains, Hotelling, ValueError, hotelling};
use serde_json::Value;

use crate::io::read_npy;
use crate::paper::{DIMS, Published, number};
use crate::progress::duration;
use crate::results::{Analysis, Measured, RunResult, chain_file};
use crate::run::RunDirectory;

/// A finished run.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    /// Its row of `results.json`.
    pub result: RunResult,
    /// Its `analysis.json`.
    pub analysis: Analysis,
    root: PathBuf,
}

impl Finished {
    /// Reads the results of a run.
    ///
    /// # Errors
    /// When it is not finished.
    pub(crate) fn read(run: &RunDirectory) -> Result<Self> {
        let (mut results, analysis) = run.results()?;
        anyhow::ensure!(!results.runs.is_empty(), "{} has no results", run.root().display());
        Ok(Self { result: results.runs.remove(0), analysis, root: run.root().to_path_buf() })
    }

    fn tau(&self, name: &str, gamma: bool) -> Option<ValueError> {
        let autocorrelation = self.analysis.autocorrelation.get(name)?;
        let (value, error) =
            if gamma { autocorrelation.gamma_method? } else { autocorrelation.madras_sokal? };
        Some(ValueError::new(value, error))
    }

    fn detail(&self, name: &str) -> Option<f64> {
        self.analysis.details.get(name)?.as_f64()
    }
}

/// Everything about one row of Table II.
#[derive(Debug, Clone)]
pub(crate) struct Coupling<'a> {
    /// The paper's numbers.
    pub published: &'a Published,
    /// Our lattice; the paper's numbers mean something only on theirs.
    pub dims: Vec<usize>,
    /// Hybrid Monte Carlo.
    pub hmc: Option<Finished>,
    /// Training of the flow.
    pub train: Option<Finished>,
    /// Sampling with the flow.
    pub flow: Option<Finished>,
}

const NONE: &str = "—";
const HEADER: [&str; 6] = ["", "paper", "HMC (ours)", "flow (ours)", "z HMC−paper", "z flow−HMC"];

/// Summary of one finished run.
///
/// # Errors
/// When it is not finished.
pub(crate) fn summary(run: &RunDirectory) -> Result<String> {
    let finished = Finished::read(run)?;
    let result = &finished.result;
    let mut rows = vec![["".to_owned(), "value".to_owned(), "tau_int".to_owned(), "n".to_owned()]];
    for (name, measured) in &result.observables {
        let tau = finished.tau(name, false).map_or_else(|| NONE.into(), |tau| tau.to_string());
        rows.push([name.clone(), shown(measured), tau, measured.n.to_string()]);
    }
    let mut text = if rows.len() > 1 { table(&rows) } else { String::new() };
    let percent = |x: Option<f64>| x.map_or_else(|| NONE.into(), |x| format!("{:.1} %", 100.0 * x));
    writeln!(
        text,
        "{}: acceptance {}, ESS {}, {}; {}",
        result.scheme,
        percent(result.acceptance),
        percent(result.ess),
        duration(result.seconds),
        run.root().display()
    )?;
    Ok(text)
}

fn shown(measured: &Measured) -> String {
    if measured.error.is_some() {
        measured.value().to_string()
    } else {
        format!("{:.6} (no error)", measured.mean)
    }
}

/// The tables of all couplings.
///
/// # Errors
/// When the chains of a run cannot be read.
pub(crate) fn tables(couplings: &[Coupling<'_>]) -> Result<String> {
    let mut text = String::new();
    for coupling in couplings {
        let p = coupling.published;
        let dims: Vec<String> = coupling.dims.iter().map(usize::to_string).collect();
        writeln!(text, "V = {}, m² = {}, λ = {}, g = {}, m_f = 0\n", dims.join("×"), p.m2, p.lambda, p.g)?;
        text.push_str(&table(&rows(coupling)));
        if let Some(test) = agreement(coupling)? {
            writeln!(
                text,
                "\nHMC and flow in (|M|, |ψ̄ψ|, φ²) together, Hotelling: T² = {:.2}, p = {:.3}",
                test.t2, test.p_value
            )?;
        }
        text.push('\n');
    }
    Ok(text)
}

fn rows(coupling: &Coupling<'_>) -> Vec<[String; 6]> {
    let p = coupling.published;
    let same_lattice = coupling.dims == DIMS;
    let (hmc, flow) = (coupling.hmc.as_ref(), coupling.flow.as_ref());
    let published = |text: &'static str| same_lattice.then_some(text);
    let mut rows = vec![HEADER.map(str::to_owned)];
    let observables = [
        ("⟨|M|⟩", "abs_magnetization", published(p.abs_magnetization)),
        ("⟨|ψ̄ψ|⟩", "abs_condensate", published(p.abs_condensate)),
        ("⟨φ²⟩", "phi2", None),
    ];
    for (label, name, paper) in observables {
        let ours = |run: Option<&Finished>| run.and_then(|run| run.result.observables.get(name)).copied();
        let (hmc, flow) = (ours(hmc), ours(flow));
        let z = |a: Option<ValueError>, b: Option<ValueError>| match (a, b) {
            (Some(a), Some(b)) => format!("{:+.1}", a.z_score(b)),
            _ => NONE.into(),
        };
        let cell = |measured: Option<Measured>| match measured {
            Some(measured) if trusted(&measured).is_some() => shown(&measured),
            Some(measured) => format!("{} (too short)", shown(&measured)),
            None => NONE.into(),
        };
        let (hmc_value, flow_value) = (hmc.as_ref().and_then(trusted), flow.as_ref().and_then(trusted));
        rows.push([
            label.into(),
            paper.unwrap_or(NONE).into(),
            cell(hmc),
            cell(flow),
            z(hmc_value, paper.map(number)),
            z(flow_value, hmc_value),
        ]);
    }
    for (label, name) in [("⟨|M|⟩, reweighted", "abs_magnetization"), ("⟨φ²⟩, reweighted", "phi2")]
    {
        let ours = flow.and_then(|run| pair(run.analysis.details.get("reweighted")?.get(name)?));
        let theirs = hmc.and_then(|run| run.result.observables.get(name)).and_then(trusted);
        let z = ours.zip(theirs).map_or_else(|| NONE.into(), |(a, b)| format!("{:+.1}", a.z_score(b)));
        let ours = ours.map_or_else(|| NONE.into(), |x| x.to_string());
        rows.push([label.into(), NONE.into(), NONE.into(), ours, NONE.into(), z]);
    }
    let mut plain = |label: &str, paper: Option<String>, hmc: Option<String>, flow: Option<String>| {
        let cell = |x: Option<String>| x.unwrap_or_else(|| NONE.into());
        rows.push([label.into(), cell(paper), cell(hmc), cell(flow), NONE.into(), NONE.into()]);
    };
    let percent = |x: f64| format!("{:.1} %", 100.0 * x);
    let f = &p.flows[0];
    let paper = |text: &str| same_lattice.then(|| format!("{text} (flow)"));
    let acceptance = |run: Option<&Finished>| run.and_then(|run| run.result.acceptance).map(percent);
    plain("acceptance", paper(&format!("{:.0} %", 100.0 * f.acceptance)), acceptance(hmc), acceptance(flow));
    plain("ESS", None, None, flow.and_then(|run| run.result.ess).map(percent));
    let number_of = |run: Option<&Finished>, name: &str| {
        run.and_then(|run| pair(run.analysis.details.get(name)?)).map(|x| x.to_string())
    };
    plain("⟨e^{−ΔH}⟩", None, number_of(hmc, "exp_minus_delta_h"), None);
    plain("log Z", None, None, number_of(flow, "log_z"));
    for (label, name, published) in [
        ("|M|", "abs_magnetization", f.tau_int_magnetization),
        ("|ψ̄ψ|", "abs_condensate", f.tau_int_condensate),
    ] {
        let tau = |run: Option<&Finished>, gamma| {
            run.and_then(|run| run.tau(name, gamma)).map(|tau| tau.to_string())
        };
        plain(&format!("τ_int {label}, Madras–Sokal"), paper(published), tau(hmc, false), tau(flow, false));
        plain(&format!("τ_int {label}, Gamma method"), None, tau(hmc, true), tau(flow, true));
    }
    for (label, name) in [
        ("force ratio, exact determinant", "determinant"),
        ("force ratio, one pseudofermion", "pseudofermion"),
        ("force ratio, one even/odd pseudofermion", "even_odd_pseudofermion"),
    ] {
        let ratio = hmc
            .and_then(|run| run.analysis.force_ratios.get(name))
            .map(|ratio| format!("{:.2} %", 100.0 * ratio));
        plain(label, same_lattice.then(|| format!("{:.0} % (which?)", 100.0 * p.force_ratio)), ratio, None);
    }
    let seconds = |run: Option<&Finished>| run.map(|run| duration(run.result.seconds));
    plain("sampling time", None, seconds(hmc), seconds(flow));
    let independent = |run: Option<&Finished>| {
        let seconds = run.and_then(|run| run.detail("seconds_per_independent_configuration"));
        seconds.map(|seconds| format!("{:.2} ms", 1e3 * seconds))
    };
    plain("time per independent configuration (2 τ_int of |M|)", None, independent(hmc), independent(flow));
    plain("training time", None, None, seconds(coupling.train.as_ref()));
    let samples = coupling.train.as_ref().map(|run| format!("{:.3e}", run.result.training_samples as f64));
    plain("training samples", paper(&format!("{:.3e}", f.training_samples())), None, samples);
    // What none of our runs says anything about is left out.
    rows.retain(|row| row[2] != NONE || row[3] != NONE);
    rows
}

/// `[value, error]` in the details of an analysis.
fn pair(value: &Value) -> Option<ValueError> {
    Some(ValueError::new(value.get(0)?.as_f64()?, value.get(1)?.as_f64()?))
}

/// A mean whose chains are long enough to know their autocorrelation: otherwise its error means nothing.
fn trusted(measured: &Measured) -> Option<ValueError> {
    (measured.error.is_some() && measured.tau_int.is_some()).then(|| measured.value())
}

/// Hotelling's test of the flow's chains against those of HMC.
fn agreement(coupling: &Coupling<'_>) -> Result<Option<Hotelling>> {
    let (Some(hmc), Some(flow)) = (&coupling.hmc, &coupling.flow) else { return Ok(None) };
    let names = ["abs_magnetization", "abs_condensate", "phi2"];
    let (Some(a), Some(b)) = (ensemble(hmc, &names)?, ensemble(flow, &names)?) else { return Ok(None) };
    let (series_a, series_b): (Vec<&Chains>, Vec<&Chains>) = (a.0.iter().collect(), b.0.iter().collect());
    Ok(hotelling(&series_a, a.1, &series_b, b.1).ok())
}

/// The chains of a run and a block length that covers the autocorrelation of all of them.
fn ensemble(run: &Finished, names: &[&str]) -> Result<Option<(Vec<Chains>, usize)>> {
    let (mut chains, mut bin) = (Vec::new(), 1);
    for name in names {
        let trusted = run.result.observables.get(*name).and_then(trusted).is_some();
        let block = run.analysis.autocorrelation.get(*name).and_then(|autocorrelation| autocorrelation.bin);
        let Some(block) = block.filter(|_| trusted) else { return Ok(None) };
        bin = bin.max(block);
        chains.push(read_chains(&run.root, name, run.result.observables[*name].n as usize)?);
    }
    Ok(Some((chains, bin)))
}

fn read_chains(root: &Path, name: &str, n: usize) -> Result<Chains> {
    let file = chain_file(root, name);
    let array = read_npy(&file, None)?;
    anyhow::ensure!(
        array.shape.len() == 2 && array.data.len() == n,
        "{}: expected {n} numbers",
        file.display()
    );
    Ok(Chains::new(array.data.chunks_exact(array.shape[1]).map(<[f64]>::to_vec).collect())?)
}

/// `report.md`
///
/// # Errors
/// When the chains of a run cannot be read.
pub(crate) fn report(scale: &str, couplings: &[Coupling<'_>]) -> Result<String> {
    let tables = tables(couplings)?;
    Ok(format!(
        "# Yukawa theory with two staggered flavours: Table II and the φ-marginal flow\n\n\
         Scale `{scale}`, latflow {version}. Paper: arXiv:2106.05934, Tables II–IV.\n\n\
         {tables}\
         Notes\n\n\
         * Errors are by blocking and jackknife, one standard deviation in the last digits. |z| is a difference in units of \
         the combined error: above 3 it would be a contradiction.\n\
         * HMC and flow sample the same density by different algorithms; a flow's quality changes acceptance and errors, \
         never the means.\n\
         * τ_int is in trajectories for HMC and in proposals for the flow.\n\
         * \"(too short)\": the chains do not determine their own autocorrelation, so that no error can be trusted and no z \
         is given.\n\
         * The paper gives one force ratio and no definition of the fermionic force; ours are ⟨‖F_F‖⟩/⟨‖F_B‖⟩ for three.\n",
        version = crate::manifest::VERSION
    ))
}

/// A Markdown table whose columns line up in plain text too.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(visible(cell));
        }
    }
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| {
            // The bars of absolute values would end a cell.
            let padding = " ".repeat(width - visible(cell));
            format!("{}{padding}", cell.replace('|', "\\|"))
        });
        text.push_str(&format!("| {} |\n", cells.collect::<Vec<_>>().join(" | ")));
        if index == 0 {
            let rule = widths.iter().map(|width| "-".repeat(*width));
            text.push_str(&format!("| {} |\n", rule.collect::<Vec<_>>().join(" | ")));
        }
    }
    text
}

/// Columns a cell takes, with bars escaped and combining marks on top of their letters.
fn visible(cell: &str) -> usize {
    cell.chars().filter(|c| !('\u{300}'..='\u{36f}').contains(c)).count() + cell.matches('|').count()
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn tables_line_up_and_keep_their_bars() {
        let text = table(&[["".into(), "paper".into()], ["⟨|ψ̄ψ|⟩".into(), "0.0159(1)".into()]]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "| ⟨\\|ψ̄ψ\\|⟩ | 0.0159(1) |");
        assert_eq!(lines[0], "|          | paper     |");
    }
}
