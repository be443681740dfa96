//! QCD by a gauge flow: configurations that are drawn independently, each with its weights.
//!
//! ```text
//! U ~ q(U):   log w_0 = −S_g(U) + 2 log |det D(U)| − log q(U)                                        the exact determinant
//!             log w_n = −S_g(U) − log q(U) + log 1/n Σ_k e^{−ϕ_k†(DD†)⁻¹ϕ_k}/(Z_N q(ϕ_k|U)),  ϕ_k ~ q(·|U)   n draws
//! ```
//!
//! The flow is fitted when the run begins, to the gauge action and the closed traces of the fermions' expansion, from its own
//! random stream: a run that is gone on with fits it again and gets the same numbers.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use candle_core::{DType, Device};
use latflow_action::{Action, ExpandedDeterminant, Pseudofermion, Sum, WilsonGauge};
use latflow_fermion::{ConjugateGradient, DenseWilson, Dirac, EvenOddWilson, Wilson, WilsonExpansion};
use latflow_flow::transport::{
    ContinuousFlow, LoopBasis, PriorPath, Ridge, TimeGrid, TransportFit, TransportOptions, fit,
};
use latflow_flow::{Distribution, ExponentialPseudofermion, FlowModel, Gaussian, HaarUniform, ParamStore};
use latflow_kernels::LoopFeatures;
use latflow_lattice::{Configuration, Lattice, Links, Rng, Streams};
use latflow_sampler::{AnnealedFlow, GaugeHeatBath, PseudofermionEstimate, StepInfo, Sweeps};
use serde_json::{Map, Value, json};

use super::qcd::Qcd;
use super::update::{Dynamics, Update};
use super::{FieldTheory, GaugeTheory, Measurand};
use crate::config::{self, COLOURS, FlowKind, Start};
use crate::results::{LOG_WEIGHT, drawn_weight};
use crate::session::note;

type BoxedAction = Box<dyn Action<Links>>;
type Model = FlowModel<HaarUniform, ContinuousFlow<LoopBasis>>;
type Conditional = FlowModel<Gaussian, ExponentialPseudofermion<WilsonExpansion>>;

/// Where configurations come from.
enum Source {
    Haar(HaarUniform),
    Flow(Box<Model>),
    Annealed(Box<AnnealedFlow<HaarUniform, WilsonGauge, LoopBasis, GaugeHeatBath>>, WilsonGauge),
}

impl Source {
    /// Links, and −log q of each; along trajectories what stands for it.
    fn propose(&self, n: usize, rng: &mut Rng) -> latflow_sampler::Result<(Links, Vec<f64>)> {
        match self {
            Self::Haar(prior) => {
                let (links, log_q) = prior.sample_with_log_prob(n, &(), rng)?;
                Ok((links, log_q.neg()?.to_vec1()?))
            }
            Self::Flow(model) => {
                let (links, log_q) = model.sample_with_log_prob(n, &(), rng)?;
                Ok((links.detach(), log_q.detach().neg()?.to_vec1()?))
            }
            Self::Annealed(flow, end) => {
                let drawn = flow.propose(n, rng)?;
                let action = end.action(&drawn.x)?.to_vec1::<f64>()?;
                let weights = drawn.log_weight.iter().zip(action).map(|(w, s)| w + s).collect();
                Ok((drawn.x, weights))
            }
        }
    }
}

/// Weights of the configurations drawn last, one column a kind of weight.
type Weights = Rc<RefCell<Vec<Vec<f64>>>>;

/// The theory as a flow sees it.
pub(crate) struct GaugeFlow {
    qcd: Qcd,
    config: config::Flow,
    source: Rc<Source>,
    observables: Vec<Measurand>,
    weights: Weights,
    /// What the fit has to say.
    report: Map<String, Value>,
}

impl GaugeFlow {
    /// Fits the flow of a configuration.
    ///
    /// # Errors
    /// When the fit fails.
    pub(crate) fn new(qcd: Qcd, flow: &config::Flow, seed: u64, device: &Device) -> Result<Self> {
        let mut report = Map::new();
        let source = match flow.kind {
            FlowKind::Haar => Source::Haar(HaarUniform::new(qcd.lattice(), COLOURS, device)),
            FlowKind::Loops => fitted(&qcd, flow, seed, device, &mut report)?,
        };
        let mut observables = qcd.observables().to_vec();
        let drawn = if qcd.sea().is_some() { flow.draws.as_slice() } else { &[] };
        observables.extend(drawn.iter().map(|n| Measurand::always(&drawn_weight(*n))));
        observables.push(Measurand::always(LOG_WEIGHT));
        let (config, source, weights) = (flow.clone(), Rc::new(source), Weights::default());
        Ok(Self { qcd, config, source, observables, weights, report })
    }
}

/// The action that the flow is fitted to: with the fermions' closed traces where the lattice is that of the theory.
fn target(qcd: &Qcd, lattice: &Lattice) -> Result<BoxedAction> {
    let Some(quarks) = qcd.sea() else {
        return Ok(Box::new(WilsonGauge::new(lattice, COLOURS, qcd.beta())?));
    };
    if lattice == qcd.lattice() {
        let expansion = WilsonExpansion::new(&EvenOddWilson::new(quarks))?;
        let fermions = ExpandedDeterminant::new(expansion, 2)?;
        return Ok(Box::new(Sum(WilsonGauge::new(lattice, COLOURS, qcd.beta())?, fermions)));
    }
    Ok(Box::new(effective(qcd, quarks, lattice)?))
}

/// S_g with the plaquettes of the fermions: β + 48 N_f κ⁴.
fn effective(qcd: &Qcd, quarks: &Wilson, lattice: &Lattice) -> Result<WilsonGauge> {
    Ok(WilsonGauge::new(lattice, COLOURS, qcd.beta() + 96.0 * quarks.kappa().powi(4))?)
}

fn fitted(
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
        return Ok(Source::Flow(Box::new(FlowModel { prior, flow: carried })));
    }
    let end = match qcd.sea() {
        Some(quarks) => effective(qcd, quarks, qcd.lattice())?,
        None => WilsonGauge::new(qcd.lattice(), COLOURS, qcd.beta())?,
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

/// Fresh configurations in every step.
struct Draws {
    source: Rc<Source>,
    gauge: WilsonGauge,
    /// Exact determinant and estimate, with fermions.
    fermions: Option<Fermions>,
    weights: Weights,
}

struct Fermions {
    exact: Option<DenseWilson>,
    estimate: PseudofermionEstimate<WilsonGauge, EvenOddWilson, Conditional>,
    draws: Vec<u64>,
}

/// Configurations whose pseudofermions are solved for at once.
const TOGETHER: usize = 64;

impl Fermions {
    fn new(qcd: &Qcd, quarks: &Wilson, config: &config::Flow, solver: ConjugateGradient) -> Result<Self> {
        let dirac = EvenOddWilson::new(quarks);
        let prior = Gaussian::pseudofermion(1.0, dirac.components(), &Device::Cpu)?;
        let flow = ExponentialPseudofermion::new(WilsonExpansion::new(&dirac)?, config.pseudofermion_order)?;
        let theory = Pseudofermion::new(WilsonGauge::new(qcd.lattice(), COLOURS, qcd.beta())?, dirac, solver);
        let estimate = PseudofermionEstimate::new(theory, FlowModel { prior, flow }, 1)?;
        let exact = config.exact.then(|| DenseWilson::new(quarks));
        Ok(Self { exact, estimate, draws: config.draws.clone() })
    }

    /// log of the mean over the first n draws of the determinant's estimate, for every n that is asked for: `[n][configuration]`.
    fn estimates(&self, links: &Links, rng: &mut Rng) -> latflow_sampler::Result<Vec<Vec<f64>>> {
        let batch = links.batch()?;
        let most = self.draws.last().copied().unwrap_or(0) as usize;
        let mut all = vec![Vec::with_capacity(most); batch];
        let at_once = (TOGETHER / batch).max(1);
        for start in (0..most).step_by(at_once) {
            let count = at_once.min(most - start);
            let drawn = self.estimate.log_weights(links, count, rng)?;
            all.iter_mut().zip(drawn.chunks_exact(count)).for_each(|(all, new)| all.extend_from_slice(new));
        }
        let of =
            |n: &u64| all.iter().map(|draws| latflow_sampler::log_mean_exp(&draws[..*n as usize])).collect();
        Ok(self.draws.iter().map(of).collect())
    }
}

impl Update<Links> for Draws {
    fn step(&mut self, x: Links, rng: &mut Rng) -> latflow_sampler::Result<(Links, StepInfo)> {
        let n = x.batch()?;
        let (links, base) = self.source.propose(n, rng)?;
        let action = self.gauge.action(&links)?.to_vec1::<f64>()?;
        let plain: Vec<f64> = base.iter().zip(&action).map(|(base, s)| base - s).collect();
        let plus = |extra: Vec<f64>| plain.iter().zip(extra).map(|(w, e)| w + e).collect::<Vec<f64>>();
        let mut columns = Vec::new();
        let mut exact: Vec<f64> = plain.clone();
        if let Some(fermions) = &self.fermions {
            let estimates = fermions.estimates(&links, rng)?;
            columns.extend(estimates.into_iter().map(&plus));
            exact = match &fermions.exact {
                Some(dense) => {
                    let log_det = dense.log_abs_det(&links).map_err(latflow_action::Error::from)?;
                    plus(log_det.to_vec1::<f64>()?.iter().map(|d| 2.0 * d).collect())
                }
                None => columns.last().cloned().unwrap_or_default(),
            };
        }
        columns.push(exact);
        *self.weights.borrow_mut() = columns;
        Ok((links, StepInfo { accepted: vec![true; n], log_ratio: vec![0.0; n], nonfinite: 0 }))
    }

    fn dynamics(&mut self) -> Option<&mut dyn Dynamics> {
        None
    }

    fn iterations(&self) -> Option<f64> {
        self.fermions.as_ref().map(|f| f.estimate.theory.mean_iterations())
    }
}

impl FieldTheory for GaugeFlow {
    type Field = Links;

    fn name(&self) -> &'static str {
        self.qcd.name()
    }

    fn parameters(&self) -> Map<String, Value> {
        self.qcd.parameters()
    }

    fn lattice(&self) -> &Lattice {
        self.qcd.lattice()
    }

    fn scheme(&self) -> &'static str {
        match (self.config.kind, self.config.sweeps) {
            (FlowKind::Haar, _) => "haar",
            (FlowKind::Loops, 0) => "flow",
            (FlowKind::Loops, _) => "annealed_flow",
        }
    }

    fn start(&self, start: Start, chains: usize, rng: &mut Rng) -> Result<Links> {
        self.qcd.start(start, chains, rng)
    }

    fn update(&self, hmc: &config::Hmc) -> Result<Box<dyn Update<Links>>> {
        let fermions =
            self.qcd.sea().map(|quarks| Fermions::new(&self.qcd, quarks, &self.config, hmc.solver()));
        Ok(Box::new(Draws {
            source: self.source.clone(),
            gauge: WilsonGauge::new(self.lattice(), COLOURS, self.qcd.beta())?,
            fermions: fermions.transpose()?,
            weights: self.weights.clone(),
        }))
    }

    fn observables(&self) -> &[Measurand] {
        &self.observables
    }

    fn observe(&self, links: &Links, k: u64) -> Result<Vec<Vec<f64>>> {
        let weights = self.weights.borrow();
        let mut rows = self.qcd.observe(links, k)?;
        for (b, row) in rows.iter_mut().enumerate() {
            row.extend(weights.iter().map(|column| column[b]));
        }
        Ok(rows)
    }

    fn log_weight(&self) -> Option<usize> {
        Some(self.observables.len() - 1)
    }

    fn draws(&self) -> u64 {
        if self.config.exact { 0 } else { self.config.draws.last().copied().unwrap_or(0) }
    }

    fn details(&self) -> Map<String, Value> {
        self.report.clone()
    }

    fn save(&self, links: &Links, folder: &Path, step: u64) -> Result<()> {
        self.qcd.save(links, folder, step)
    }
}

impl GaugeTheory for GaugeFlow {
    fn measure(&self, links: &Links) -> Result<Map<String, Value>> {
        self.qcd.measure(links)
    }
}
