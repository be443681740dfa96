//! QCD by a gauge flow: configurations that are drawn independently, each with its weights.
//!
//! ```text
//! U ~ q(U):   log w_0 = −S_g(U) + 2 log |det D(U)| − log q(U)                                        the exact determinant
//!             log w_n = −S_g(U) − log q(U) + log 1/n Σ_k e^{−ϕ_k†(DD†)⁻¹ϕ_k}/(Z_N q(ϕ_k|U)),  ϕ_k ~ q(·|U)   n draws
//! ```
//!
//! A flow of loops is fitted when the run begins, to the gauge action and the closed traces of the fermions' expansion, from its
//! own random stream: a run that is gone on with fits it again and gets the same numbers. A trained one comes with its weights.

mod fermions;
mod fitted;
mod source;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result};
use candle_core::Device;
use latflow_action::{Action, WilsonGauge};
use latflow_flow::HaarUniform;
use latflow_lattice::{Configuration, Lattice, Links, Rng};
use latflow_sampler::StepInfo;
use serde_json::{Map, Value, json};

use self::fermions::Fermions;
use self::fitted::fitted;
use self::source::Source;
use super::qcd::Qcd;
use super::update::{Dynamics, Update};
use super::{FieldTheory, GaugeTheory, Measurand};
use crate::config::{self, COLOURS, Config, FlowKind, PseudofermionSites, Start};
use crate::model::{GaugeModel, PseudofermionDensity, Shared, Trained};
use crate::results::{LOG_WEIGHT, drawn_weight};

/// Weights of the configurations drawn last, one column a kind of weight.
type Weights = Rc<RefCell<Vec<Vec<f64>>>>;

/// The theory as a flow sees it.
pub(crate) struct GaugeFlow {
    qcd: Qcd,
    config: config::Flow,
    source: Rc<Source>,
    /// Of pseudofermions, where it is trained.
    conditional: Option<(PseudofermionDensity, PseudofermionSites)>,
    observables: Vec<Measurand>,
    weights: Weights,
    /// What the fit has to say.
    report: Map<String, Value>,
}

impl GaugeFlow {
    /// Fits the flow of a configuration, or takes that of the weights.
    ///
    /// # Errors
    /// When the fit fails, or the weights are missing or those of another model.
    pub(crate) fn new(qcd: Qcd, config: &Config, weights: Option<&Trained>, device: &Device) -> Result<Self> {
        let (flow, seed) = (&config.flow, config.seed);
        let mut report = Map::new();
        let mut conditional = None;
        let source = match flow.kind {
            FlowKind::Haar => Source::Haar(HaarUniform::new(qcd.lattice(), COLOURS, device)),
            FlowKind::Loops => fitted(&qcd, flow, seed, device, &mut report)?,
            FlowKind::Model => {
                let weights = weights.context(
                    "flow.kind = \"model\" samples with trained weights: use `latflow sample`, with --model",
                )?;
                let model = GaugeModel::new(config, device)?;
                model.restore(weights)?;
                report.insert("model".into(), json!(model.name));
                report.insert("training_samples".into(), json!(weights.training_samples()));
                conditional = model.pseudofermion.map(|both| (both.sampling, config.model.ptcn.sites));
                Source::Flow(Box::new(model.links.sampling))
            }
        };
        let mut observables = qcd.observables().to_vec();
        let drawn = if qcd.sea().is_some() { flow.draws.as_slice() } else { &[] };
        observables.extend(drawn.iter().map(|n| Measurand::always(&drawn_weight(*n))));
        observables.push(Measurand::always(LOG_WEIGHT));
        let (config, source, weights) = (flow.clone(), Rc::new(source), Weights::default());
        Ok(Self { qcd, config, source, conditional, observables, weights, report })
    }
}

impl GaugeFlow {
    /// The theory, its flow as a map, and what the fit has to say.
    ///
    /// # Errors
    /// When it is no map.
    pub(super) fn into_map(self) -> Result<(Qcd, Shared<Links>, Map<String, Value>)> {
        let map = self.source.map().context("flow: configurations come from no map")?;
        Ok((self.qcd, map, self.report))
    }
}

/// Fresh configurations in every step.
struct Draws {
    source: Rc<Source>,
    gauge: WilsonGauge,
    /// Exact determinant and estimate, with fermions.
    fermions: Option<Fermions>,
    weights: Weights,
}

impl Update<Links> for Draws {
    fn step(&mut self, x: Links, rng: &mut Rng) -> latflow_sampler::Result<(Links, StepInfo)> {
        let n = x.batch()?;
        let (links, base) = self.source.propose(n, rng)?;
        let action = self.gauge.action(&links)?.to_vec1::<f64>()?;
        let plain: Vec<f64> = base.iter().zip(&action).map(|(base, s)| base - s).collect();
        let plus = |extra: Vec<f64>| plain.iter().zip(extra).map(|(w, e)| w + e).collect::<Vec<f64>>();
        let mut columns = Vec::new();
        let mut last = plain.clone();
        if let Some(fermions) = &self.fermions {
            columns.extend(fermions.estimates(&links, rng)?.into_iter().map(&plus));
            last = match fermions.exact(&links)? {
                Some(exact) => plus(exact),
                None => columns.last().cloned().unwrap_or_default(),
            };
        }
        columns.push(last);
        *self.weights.borrow_mut() = columns;
        Ok((links, StepInfo { accepted: vec![true; n], log_ratio: vec![0.0; n], nonfinite: 0 }))
    }

    fn dynamics(&mut self) -> Option<&mut dyn Dynamics> {
        None
    }

    fn iterations(&self) -> Option<f64> {
        self.fermions.as_ref().map(Fermions::iterations)
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
            (FlowKind::Model, _) => "spectral_flow",
        }
    }

    fn start(&self, start: Start, chains: usize, rng: &mut Rng) -> Result<Links> {
        self.qcd.start(start, chains, rng)
    }

    fn update(&self, hmc: &config::Hmc) -> Result<Box<dyn Update<Links>>> {
        let fermions = self.qcd.sea().map(|quarks| Fermions::new(self, quarks, hmc.solver()));
        Ok(Box::new(Draws {
            source: self.source.clone(),
            gauge: self.qcd.gauge(),
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
        let drawn = !self.config.exact && self.qcd.sea().is_some();
        if drawn { self.config.draws.last().copied().unwrap_or(0) } else { 0 }
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
