//! Table II: hybrid Monte Carlo beside the paper, and our φ-marginal flow beside both.

use latflow_observable::ValueError;

use super::document::{Cell, NONE, Table};
use super::{Coupling, Finished, Models, mean_cell, percent, z_cell};
use crate::paper::number;
use crate::progress::duration;

const HEADER: [&str; 6] = ["", "paper", "HMC (ours)", "flow (ours)", "z HMC−paper", "z flow−HMC"];

/// The table of one coupling.
pub(super) fn table(coupling: &Coupling<'_>) -> Table {
    let p = coupling.published;
    let same_lattice = coupling.on_the_papers_lattice();
    let marginal =
        coupling.flows.iter().find(|f| f.models == Models::Ours && f.sample.result.scheme == "marginal");
    let (hmc, flow) = (coupling.hmc.as_ref(), marginal.map(|flow| &flow.sample));
    let published = |text: &'static str| same_lattice.then_some(text);
    let mut rows: Vec<Vec<Cell>> = vec![HEADER.map(Cell::from).to_vec()];
    let trusted = |run: Option<&Finished>, name| run.and_then(|run| run.trusted(name));
    for (label, name, paper) in [
        ("⟨|M|⟩", "abs_magnetization", published(p.abs_magnetization)),
        ("⟨|ψ̄ψ|⟩", "abs_condensate", published(p.abs_condensate)),
        ("⟨φ²⟩", "phi2", None),
    ] {
        rows.push(vec![
            label.into(),
            paper.into(),
            mean_cell(hmc, name),
            mean_cell(flow, name),
            z_cell(trusted(hmc, name), paper.map(number)),
            z_cell(trusted(flow, name), trusted(hmc, name)),
        ]);
    }
    for (label, name) in [("⟨|M|⟩, reweighted", "abs_magnetization"), ("⟨φ²⟩, reweighted", "phi2")]
    {
        let ours = flow.and_then(|run| run.reweighted(name));
        let z = z_cell(ours, trusted(hmc, name));
        let ours = ours.map(|x| x.to_string()).into();
        rows.push(vec![label.into(), NONE.into(), NONE.into(), ours, NONE.into(), z]);
    }
    let mut plain = |label: &str, paper: Option<String>, hmc: Option<String>, flow: Option<String>| {
        rows.push(vec![label.into(), paper.into(), hmc.into(), flow.into(), NONE.into(), NONE.into()]);
    };
    let f = p.flow("marginal");
    let paper = |text: String| same_lattice.then(|| format!("{text} (flow)"));
    let acceptance = |run: Option<&Finished>| run.and_then(|run| run.result.acceptance).map(percent);
    let theirs = f.and_then(|f| paper(format!("{:.0} %", 100.0 * f.acceptance)));
    plain("acceptance", theirs, acceptance(hmc), acceptance(flow));
    let text = |x: Option<ValueError>| x.map(|x| x.to_string());
    plain("⟨e^{−ΔH}⟩", None, text(hmc.and_then(|run| run.pair("exp_minus_delta_h"))), None);
    for (label, name, published) in [
        ("|M|", "abs_magnetization", f.map(|f| f.tau_int_magnetization)),
        ("|ψ̄ψ|", "abs_condensate", f.map(|f| f.tau_int_condensate)),
    ] {
        let tau = |run: Option<&Finished>| text(run.and_then(|run| run.tau(name)));
        let gamma = |run: Option<&Finished>| text(run.and_then(|run| run.tau_gamma(name)));
        let published = published.and_then(|text| paper(text.to_owned()));
        plain(&format!("τ_int {label}, Madras–Sokal"), published, tau(hmc), tau(flow));
        plain(&format!("τ_int {label}, Gamma method"), None, gamma(hmc), gamma(flow));
    }
    for (label, name) in [
        ("force ratio, exact determinant", "determinant"),
        ("force ratio, one pseudofermion", "pseudofermion"),
        ("force ratio, one even/odd pseudofermion", "even_odd_pseudofermion"),
    ] {
        let ratio = hmc.and_then(|run| run.analysis.force_ratios.get(name));
        let ratio = ratio.map(|ratio| format!("{:.2} %", 100.0 * ratio));
        plain(label, same_lattice.then(|| format!("{:.0} % (which?)", 100.0 * p.force_ratio)), ratio, None);
    }
    let seconds = |run: Option<&Finished>| run.map(|run| duration(run.result.seconds));
    plain("sampling time", None, seconds(hmc), seconds(flow));
    // What none of our runs says anything about is left out.
    rows.retain(|row| row[2].text != NONE || row[3].text != NONE);
    Table { rows }
}
