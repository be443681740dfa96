//! What gauge flows reach: effective sizes for several numbers of pseudofermions, and the frontier.

use latflow_observable::ValueError;

use super::super::document::{Cell, Table};
use super::super::percent;
use super::{Cost, Finished, parameter};
use crate::progress::duration;

/// An ensemble and its name for people.
type Row<'a> = (&'a str, &'a Finished);

/// Numbers of draws of any of the ensembles, 0, which is the exact determinant, first.
fn draws(rows: &[Row<'_>]) -> Vec<u64> {
    let all = rows.iter().flat_map(|(_, run)| std::iter::once(&run.result).chain(&run.others));
    let mut all: Vec<u64> = all.filter_map(|result| result.draws).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The ensembles with fermions: ESS and acceptance for each number of draws.
pub(super) fn flows(rows: &[Row<'_>]) -> Table {
    let draws = draws(rows);
    let name = |n: &u64| match n {
        0 => "ESS, exact determinant".to_owned(),
        1 => "1 draw".to_owned(),
        n => format!("{n} draws"),
    };
    let mut header: Vec<Cell> = ["", "lattice", "β", "κ"].map(Cell::from).to_vec();
    header.extend(draws.iter().map(|n| Cell::from(name(n))));
    let last = [
        "acceptance",
        "Var(log w)/V",
        "log Z",
        "h against h/2",
        "fit or training",
        "samples",
        "a configuration",
    ];
    header.extend(last.map(Cell::from));
    let mut table = vec![header];
    for (label, run) in rows {
        let dims: Vec<String> = run.dims.iter().map(usize::to_string).collect();
        let mut row = vec![
            Cell::from(*label),
            dims.join("×").into(),
            parameter(run, "beta").to_string().into(),
            Some(parameter(run, "kappa")).filter(|k| k.is_finite()).map(|k| k.to_string()).into(),
        ];
        for n in &draws {
            let mut results = std::iter::once(&run.result).chain(&run.others);
            let found = results.find(|result| result.draws == Some(*n));
            row.push(found.and_then(|result| result.ess).map(percent).into());
        }
        row.push(run.result.acceptance.map(percent).into());
        let text = |x: Option<ValueError>| Cell::from(x.map(|x| x.to_string()));
        row.push(text(run.pair("log_weight_variance_per_site")));
        row.push(text(run.pair("log_z")));
        row.push(run.detail("integration_error").map(|e| format!("{e:.0e}")).into());
        let card = run.card.as_ref();
        row.push(run.detail("fit_seconds").or(card.map(|card| card.seconds)).map(duration).into());
        let samples = run.detail("fit_samples").or(card.map(|card| card.training_samples as f64));
        row.push(samples.map(|n| n.to_string()).into());
        row.push(run.detail("seconds_per_trajectory").map(|s| format!("{:.0} ms", 1e3 * s)).into());
        table.push(row);
    }
    Table { rows: table }
}

/// What [`cost`] says and does not say.
pub(super) const COST: &str = "Extrapolated from a few steps of four samples on this machine, the last two columns from the \
    operations of the networks of q(U) alone: three forward passes a training sample, at a sustained 20 TFLOP/s for the GPU. \
    No GPU has run it.";

/// Operations a second that a large GPU sustains in single precision.
const GPU_FLOPS: f64 = 20e12;

/// Samples, and hours of the whole training here and on a GPU.
pub(super) fn cost(stages: &[Cost]) -> Table {
    let header = ["", "samples", "s a sample, here", "here", "GFLOP a sample", "GPU, by operations"];
    let mut table = vec![header.map(Cell::from).to_vec()];
    for Cost { label, samples, step } in stages {
        let seconds = step.result.seconds / step.detail("new_samples").unwrap_or(f64::NAN);
        let flops = step.detail("flops_forward").map(|forward| 3.0 * forward);
        table.push(vec![
            Cell::from(*label),
            format!("{samples:.1e}").into(),
            format!("{seconds:.2}").into(),
            format!("{:.0} days", seconds * samples / 86400.0).into(),
            flops.map(|flops| format!("{:.1}", flops / 1e9)).into(),
            flops.map(|flops| format!("{:.1} h", flops * samples / GPU_FLOPS / 3600.0)).into(),
        ]);
    }
    Table { rows: table }
}
