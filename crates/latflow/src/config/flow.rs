//! `[flow]`: which gauge flow, what is fitted of it, and how its configurations are weighted.

use serde::{Deserialize, Serialize};

use super::check::{Checked, at_least_one, positive, require};
use super::{Config, Qcd, Theory, Update};

/// Most pseudofermions of one weight.
const MOST_DRAWS: u64 = 4096;

/// `[flow]`: used by `hmc.method = "flow"` and `"transformed"`. With the first, configurations are drawn anew in every step, so that a chain has no memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flow {
    /// What carries Haar-distributed links to the theory.
    pub kind: FlowKind,
    /// `loops`: intervals of flow time with coefficients of their own at each end.
    pub intervals: usize,
    /// `loops`: they are denser towards the end where this is above 1.
    pub power: f64,
    /// `loops`: largest change of log q when the integrator's step is halved.
    pub tolerance: f64,
    /// `loops`: extents of the lattice on which coefficients are fitted; empty for that of the theory.
    pub fit_dims: Vec<usize>,
    /// `loops`: batches of configurations that a fit carries along.
    pub fit_batches: usize,
    /// `loops`: configurations in such a batch.
    pub fit_batch: usize,
    /// `loops`: sweeps of heat bath at each time between the intervals, with weights of whole trajectories.
    pub sweeps: usize,
    /// Order of the linear flow of pseudofermions in hops; 0 is the unit Gaussian.
    pub pseudofermion_order: usize,
    /// Weights with the exact determinant; without, those of the most draws take their place.
    pub exact: bool,
    /// Pseudofermions of each weight.
    pub draws: Vec<u64>,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            kind: FlowKind::Loops,
            intervals: 6,
            power: 1.5,
            tolerance: 1e-3,
            fit_dims: Vec::new(),
            fit_batches: 8,
            fit_batch: 16,
            sweeps: 0,
            pseudofermion_order: 2,
            exact: true,
            draws: vec![1, 8, 64],
        }
    }
}

/// `kind` of `[flow]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowKind {
    /// None: links are Haar-distributed and carry the whole action as their weight.
    Haar,
    /// Continuous, along gradients of plaquettes and of pairs of plaquettes, with coefficients fitted by regression.
    #[default]
    Loops,
    /// The model of `[model]`, with the weights that `latflow train` made of it; runs of `latflow sample`.
    Model,
}

/// Everything that depends on `[flow]` being in use.
pub(super) fn check(config: &Config) -> Checked {
    let (flow, dims) = (&config.flow, &config.lattice.dims);
    let Theory::Qcd(Qcd { beta, n_f, hasenbusch, .. }) = &config.action else {
        return require(
            !config.hmc.method.has_flow(),
            "hmc.method",
            "gauge flows move links, and this theory has none",
            "\"hmc\"",
        );
    };
    if !config.hmc.method.has_flow() {
        return Ok(());
    }
    at_least_one(flow.intervals as u64, "flow.intervals")?;
    at_least_one(flow.fit_batch as u64, "flow.fit_batch")?;
    positive(flow.tolerance, "flow.tolerance")?;
    require(
        flow.power >= 1.0 && flow.power.is_finite(),
        "flow.power",
        "crowds the times at the wrong end",
        "numbers from 1",
    )?;
    require(flow.fit_batches >= 2, "flow.fit_batches", "leaves nothing to judge a fit by", "2 and more")?;
    let fit = if flow.fit_dims.is_empty() { dims } else { &flow.fit_dims };
    let even = |dims: &[usize]| dims.iter().all(|l| *l >= 4 && l % 2 == 0);
    require(
        flow.kind != FlowKind::Loops || (fit.len() == dims.len() && even(fit) && even(dims)),
        "flow.fit_dims",
        "holds extents on which loops meet a link twice, or lattice.dims does",
        "as many even extents of at least 4 as the lattice has",
    )?;
    require(
        flow.sweeps == 0 || (flow.kind == FlowKind::Loops && *beta >= 0.0),
        "flow.sweeps",
        "are of the heat bath along the flow, and it needs both and β ≥ 0",
        "0, or kind = \"loops\"",
    )?;
    require(
        config.hmc.method != Update::Transformed || (flow.kind != FlowKind::Haar && flow.sweeps == 0),
        "hmc.method",
        "moves what a flow maps, and flow.kind = \"haar\" is none, nor are flow.sweeps",
        "flow.kind = \"loops\" or \"model\" with flow.sweeps = 0, or another method",
    )?;
    require(
        config.hmc.method != Update::Transformed || (hasenbusch.is_none() && config.hmc.substeps.is_empty()),
        "hmc.method",
        "has one force through the flow, and action.qcd.hasenbusch or hmc.substeps divides it",
        "hmc.substeps = [] and no action.qcd.hasenbusch, or another method",
    )?;
    let last = if *n_f > 0 { 2 } else { 0 };
    require(
        *n_f == 0 || flow.pseudofermion_order <= last,
        "flow.pseudofermion_order",
        "is an order whose trace is not known",
        "0, 1 or 2",
    )?;
    require(
        flow.exact || !flow.draws.is_empty() || *n_f == 0,
        "flow.draws",
        "leaves no weight where the determinant is not to be evaluated",
        "at least one number, or exact = true",
    )?;
    require(
        flow.draws.iter().all(|n| (1..=MOST_DRAWS).contains(n)) && flow.draws.windows(2).all(|w| w[0] < w[1]),
        "flow.draws",
        "are not rising numbers of pseudofermions",
        "numbers from 1 to 4096 that rise, such as [1, 8, 64]",
    )
}
