//! A flow of loops, fitted to the theory.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use candle_core::{DType, Device};
use latflow_action::{Action, ExpandedDeterminant, Sum, WilsonGauge};
use latflow_fermion::{EvenOddWilson, Wilson, WilsonExpansion};
use latflow_flow::transport::{
    ContinuousFlow, LoopBasis, PriorPath, Ridge, TimeGrid, TransportFit, TransportOptions, fit,
};
use latflow_flow::{FlowModel, HaarUniform, ParamStore};
use latflow_kernels::LoopFeatures;
use latflow_lattice::{Lattice, Links, Streams};
use latflow_sampler::{AnnealedFlow, GaugeHeatBath, Sweeps};
use serde_json::{Map, Value, json};

use super::source::Source;
use crate::config::{self, COLOURS};
use crate::model::Shared;
use crate::session::note;
use crate::theory::{FieldTheory, Qcd};

type BoxedAction = Box<dyn Action<Links>>;

/// The action that the flow is fitted to: with the fermions' closed traces where the lattice is that of the theory.
fn target(qcd: &Qcd, lattice: &Lattice) -> Result<BoxedAction> {
    let Some(quarks) = qcd.sea() else {
        return Ok(Box::new(WilsonGauge::new(lattice, COLOURS, qcd.beta())?));
    };
    if lattice == qcd.lattice() {
        let expansion = WilsonExpansion::new(&EvenOddWilson::new(quarks))?;
        let fermions = ExpandedDeterminant::new(expansion, 2)?;
        return Ok(Box::new(Sum(qcd.gauge(), fermions)));
    }
    Ok(Box::new(effective(qcd, quarks, lattice)?))
}

/// S_g with the plaquettes of the fermions: β + 48 N_f κ⁴.
fn effective(qcd: &Qcd, quarks: &Wilson, lattice: &Lattice) -> Result<WilsonGauge> {
    Ok(WilsonGauge::new(lattice, COLOURS, qcd.beta() + 96.0 * quarks.kappa().powi(4))?)
}

/// The flow that `[flow]` asks for, and what its fit has to say.
///
/// # Errors
/// When the fit fails.
pub(super) fn fitted(
    qcd: &Qcd,
    flow: &config::Flow,
    seed: u64,
    device: &Device,
    report: &mut Map<String, Value>,
) -> Result<Source> {
    let lattice = match flow.fit_dims.as_slice() {
        [] => qcd.lattice().clone(),
        dims => Lattice::new(dims)?,
    };
    let grid = TimeGrid::clustered(flow.intervals, flow.power)?;
    let options = TransportOptions {
        grid: grid.clone(),
        batches: flow.fit_batches,
        batch: flow.fit_batch,
        steps: 1,
        ridge: Ridge::default(),
    };
    let began = Instant::now();
    let prior = HaarUniform::new(&lattice, COLOURS, device);
    let plain = flow.sweeps > 0 || lattice != *qcd.lattice();
    let end: BoxedAction = match qcd.sea() {
        Some(quarks) if plain => Box::new(effective(qcd, quarks, &lattice)?),
        _ => target(qcd, &lattice)?,
    };
    let path = PriorPath { prior: prior.clone(), end };
    let mut rng = Streams::new(seed).stream("flow/fit", 0);
    let mut found = fit(&LoopBasis::new(&lattice)?, &path, &prior, &options, &mut rng)?;
    if plain {
        // Lines that wind around another lattice are other loops, and the pure gauge theory does not ask for them.
        found.coefficients.iter_mut().for_each(|c| c[LoopFeatures::LOCAL..].fill(0.0));
    }
    describe(&found, began.elapsed().as_secs_f64(), report);
    let mut store = ParamStore::new(Streams::new(seed), DType::F64, device);
    let basis = Arc::new(LoopBasis::new(qcd.lattice())?);
    let carried = ContinuousFlow::new(&mut store, "coefficients", basis, grid.clone(), 1)?;
    found.install(&store, "coefficients")?;
    let carried = carried.with_tolerance(flow.tolerance)?;
    let prior = HaarUniform::new(qcd.lattice(), COLOURS, device);
    let sample = latflow_flow::Sample::<Links>::sample(
        &prior,
        8,
        &(),
        &mut Streams::new(seed).stream("flow/error", 0),
    )?;
    report.insert("integration_error".into(), json!(carried.integration_error(&sample)?));
    if flow.sweeps == 0 {
        return Ok(Source::Flow(Box::new(FlowModel { prior, flow: Shared::new(carried) })));
    }
    let end = match qcd.sea() {
        Some(quarks) => effective(qcd, quarks, qcd.lattice())?,
        None => qcd.gauge(),
    };
    let heat_bath = |t: f64| {
        let action =
            WilsonGauge::new(end.lattice(), COLOURS, end.beta() * t).map_err(latflow_sampler::Error::from)?;
        GaugeHeatBath::new(action, 1)
    };
    let sweeps = Sweeps::new(&grid, flow.sweeps, heat_bath)?;
    let annealed = AnnealedFlow::new(PriorPath { prior, end: end.clone() }, carried, sweeps)?;
    Ok(Source::Annealed(Box::new(annealed), end))
}

fn describe(found: &TransportFit, seconds: f64, report: &mut Map<String, Value>) {
    let residuals: Vec<Value> = found
        .nodes
        .iter()
        .map(|n| json!({ "t": n.t, "without_flow": n.variance, "residual": n.test }))
        .collect();
    report.insert("fit_seconds".into(), json!(seconds));
    report.insert("fit_samples".into(), json!(found.samples));
    report.insert("fit_residuals".into(), residuals.into());
    note(&format!("fitted {} configurations in {seconds:.1} s", found.samples));
}
