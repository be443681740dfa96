//! Training of any model by the reverse Kullback–Leibler divergence.
//!
//! ESS and acceptance come from the weights of the training batch where those are exact; elsewhere they are measured on the
//! side, with a stream of their own.

mod links;
mod objective;

use std::collections::BTreeMap;
use std::fs;
use std::rc::Rc;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use latflow_flow::ParamStore;
use latflow_flow::train::{Clip, Estimator, Schedule, TrainState, Trainer};
use latflow_lattice::Lattice;
use serde_json::{Map, Value, json};

use self::objective::{Objective, Quality, ScalarObjective};
use super::{Report, needs_starting_weights, streams};
use crate::config::{self, Config, Theory};
use crate::io::{Snapshot, write_atomically};
use crate::model::{Densities, GaugeModel, Milestone, ModelCard, Site, Trained, weights};
use crate::results::{Analysis, RunResult};
use crate::run::{MODEL, RunDirectory, START, Step, Task};
use crate::session::{self, note};
use crate::theory::{FieldTheory, Qcd, ScalarTheory, theory};

/// Samples of the ESS measured on the side.
const EVALUATION: usize = 256;
/// Entries of the history in a model card.
const HISTORY: usize = 50;

pub(super) struct TrainTask {
    config: Config,
    subject: Subject,
    objective: Box<dyn Objective>,
    trainer: Trainer,
    /// Samples that the weights it began with had seen.
    seen: u64,
    /// Seconds that went into parts which are kept as they are.
    spent: f64,
}

/// What is trained, and for which theory.
struct Subject {
    /// The theory's section and parameters.
    theory: &'static str,
    action: Map<String, Value>,
    volume: usize,
    /// The architecture.
    name: String,
    parameters: ParamStore,
    /// Parameters that belong to the model and stay as they are.
    fixed: Option<ParamStore>,
    /// Floating point operations of one sample in the networks of q(U), forward, for models of links.
    flops_forward: Option<f64>,
}

impl Subject {
    fn new(theory: &(impl FieldTheory + ?Sized), name: String, parameters: ParamStore) -> Self {
        let (action, volume) = (theory.parameters(), theory.lattice().volume());
        Self { theory: theory.name(), action, volume, name, parameters, fixed: None, flops_forward: None }
    }

    /// All parameters by name.
    fn snapshot(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut all = self.parameters.snapshot()?;
        if let Some(fixed) = &self.fixed {
            all.extend(fixed.snapshot()?);
        }
        Ok(all)
    }
}

impl TrainTask {
    /// # Errors
    /// When the model does not fit the lattice or the weights it begins with.
    pub(super) fn new(run: &RunDirectory) -> Result<Self> {
        let config = run.config().clone();
        let device = session::device(&config.device)?;
        let start = run.path(START);
        let start = if start.exists() { Some(Trained::read(&start, &device)?) } else { None };
        let (subject, objective) = match &config.action {
            Theory::Yukawa(_) => scalar(&config, &device, start.as_ref())?,
            Theory::Qcd(_) => links(&config, &device, start.as_ref())?,
        };
        anyhow::ensure!(subject.parameters.count() > 0, "{} has no parameters to train", subject.name);
        let train = &config.train;
        let clip = Clip { value: train.clip.value, norm: train.clip.norm };
        let estimator = match train.estimator {
            config::Estimator::Total => Estimator::Total,
            config::Estimator::Path => Estimator::Path,
        };
        let schedule = Schedule::new(&train.lr)?;
        let trainer = Trainer::new(&subject.parameters, schedule, clip, train.batch, streams(&config))?
            .with_estimator(estimator)
            .with_adam_epsilon(train.adam_epsilon)?;
        let spent = start.as_ref().filter(|_| subject.fixed.is_some()).map_or(0.0, Trained::seconds);
        let seen = start.map_or(0, |start| start.training_samples());
        Ok(Self { config, subject, objective, trainer, seen, spent })
    }

    /// The quality of fresh samples, from a stream that belongs to this step alone.
    fn judge(&self, n: usize, step: u64) -> Result<Quality> {
        let mut rng = streams(&self.config).stream("train/evaluation", step);
        self.objective.judge(n, &mut rng)
    }

    fn training_samples(&self) -> u64 {
        self.seen + self.config.train.steps * self.config.train.batch as u64
    }

    /// The quality that the metrics have recorded, thinned out.
    fn history(&self, run: &RunDirectory) -> Result<Vec<Milestone>> {
        let file = run.metrics();
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let every = lines.len().div_ceil(HISTORY).max(1);
        let entry = |line: &Value| {
            let step = line["step"].as_u64().unwrap_or(0);
            (step, line["ess"].as_f64(), line["acceptance"].as_f64())
        };
        // Counted from the end, so that the last one is there.
        Ok(lines.iter().rev().step_by(every).map(entry).collect::<Vec<_>>().into_iter().rev().collect())
    }
}

/// A flow of scalar fields, initialised.
fn scalar(
    config: &Config,
    device: &Device,
    start: Option<&Trained>,
) -> Result<(Subject, Box<dyn Objective>)> {
    let theory: Rc<dyn ScalarTheory> = Rc::from(theory(config, device)?);
    let joint = theory.joint(config.train.solver());
    let site = Site { config, theory: &*theory, joint: &joint, device };
    let model = site.model()?;
    match (start, &model.densities) {
        // Weights that only provide pseudofermions need have nothing else in common.
        (Some(start), _) => begin(start, &model.parameters, needs_starting_weights(config))?,
        (None, Densities::Marginal(density) | Densities::Autoregressive(density, _)) => {
            density.initialize(&model.parameters, &mut streams(config).stream("train/initialize", 0))?;
        }
        (None, _) => {}
    }
    let objective = ScalarObjective::new(theory.clone(), &site, &model, start)?;
    Ok((Subject::new(&*theory, model.name, model.parameters), Box::new(objective)))
}

/// A flow of links, or of pseudofermions after one.
fn links(config: &Config, device: &Device, start: Option<&Trained>) -> Result<(Subject, Box<dyn Objective>)> {
    let Theory::Qcd(action) = &config.action else { anyhow::bail!("a scalar field has no links") };
    let qcd = Qcd::new(&Lattice::new(&config.lattice.dims)?, action, config, device)?;
    let model = GaugeModel::new(config, device)?;
    match (start, &model.fixed) {
        (Some(start), Some(fixed)) => {
            start.restore(fixed)?;
            begin(start, &model.parameters, true)?;
        }
        (Some(start), None) => begin(start, &model.parameters, false)?,
        (None, _) => {}
    }
    // Of what is trained; pseudofermions are not counted.
    let flops_forward = model.fixed.is_none().then_some(model.flops_forward);
    let objective = links::objective(config, &qcd, &model)?;
    let GaugeModel { parameters, fixed, name, .. } = model;
    Ok((Subject { fixed, flops_forward, ..Subject::new(&qcd, name, parameters) }, objective))
}

/// Takes what there is in other weights; nothing only where that is `allowed`.
fn begin(start: &Trained, parameters: &ParamStore, allowed: bool) -> Result<()> {
    let (taken, all) = (start.begin(parameters)?, parameters.iter().count());
    anyhow::ensure!(taken > 0 || allowed, "--model: no parameter of this model has a counterpart there");
    note(&format!("train: beginning with {taken} of {all} parameters of other weights"));
    Ok(())
}

impl Task for TrainTask {
    type State = TrainState;

    fn name(&self) -> String {
        "train".into()
    }

    fn total(&self) -> u64 {
        self.config.train.steps
    }

    fn done(&self) -> u64 {
        self.trainer.steps_done()
    }

    fn checkpoint_every(&self) -> u64 {
        self.config.train.checkpoint_every
    }

    fn step(&mut self) -> Result<Step> {
        let step = self.objective.step(&mut self.trainer, &self.subject.parameters)?;
        let logged = step.step % self.config.train.log_every == 0 || step.step == self.total();
        if !logged {
            return Ok(Step::default());
        }
        let quality = match self.objective.judge_batch(&step)? {
            Some(quality) => quality,
            None => self.judge(EVALUATION.min(self.config.train.evaluation), step.step)?,
        };
        let mut metrics = Map::new();
        metrics.insert("loss".into(), json!(step.loss));
        metrics.insert("ess".into(), json!(quality.ess));
        metrics.insert("acceptance".into(), json!(quality.acceptance.map(|a| a.value)));
        metrics.insert("gradient_norm".into(), json!(step.gradient_norm));
        metrics.insert("learning_rate".into(), json!(step.rate));
        let status = format!("loss {:.3} {quality}", step.loss);
        Ok(Step { metrics: Some(metrics), rows: Vec::new(), status })
    }

    fn snapshot(&self) -> Result<Snapshot<TrainState>> {
        let (state, tensors) = self.trainer.checkpoint(&self.subject.parameters)?;
        Ok(Snapshot { tensors, state })
    }

    fn restore(&mut self, step: u64, snapshot: Snapshot<TrainState>) -> Result<()> {
        let found = snapshot.state.step;
        anyhow::ensure!(found == step, "checkpoint of step {step} says {found}");
        Ok(self.trainer.restore(&self.subject.parameters, &snapshot.state, &snapshot.tensors)?)
    }
}

impl Report for TrainTask {
    /// Writes the model, too.
    fn results(&mut self, run: &RunDirectory, seconds: f64) -> Result<(RunResult, Analysis)> {
        let samples = self.config.train.evaluation;
        let quality = self.judge(samples, self.total() + 1)?;
        let acceptance = quality.acceptance;
        let card = ModelCard {
            name: self.subject.name.clone(),
            model: self.config.model.clone(),
            dims: self.config.lattice.dims.clone(),
            theory: self.subject.theory.into(),
            action: self.subject.action.clone(),
            seed: self.config.seed,
            revision: env!("LATFLOW_GIT_REVISION").into(),
            training_samples: self.training_samples(),
            seconds: self.spent + seconds,
            ess: quality.ess,
            acceptance: acceptance.map(|a| a.value),
            evaluation_samples: samples as u64,
            history: self.history(run)?,
        };
        write_atomically(&run.path(MODEL), &weights(&self.subject.snapshot()?, &card)?)?;
        let mut analysis = Analysis::default();
        if !quality.log_weights.is_empty()
            && let Err(error) = analysis.add_weights(&quality.log_weights, self.subject.volume)
        {
            note(&format!("warning: log Z and the variance of the weights are unknown: {error:#}"));
        }
        let details = &mut analysis.details;
        details.insert("model_scheme".into(), json!(self.config.model.scheme));
        details.insert("parameters_of_the_flow".into(), json!(self.subject.parameters.count()));
        details.insert("new_samples".into(), json!(self.training_samples() - self.seen));
        details.insert("flops_forward".into(), json!(self.subject.flops_forward));
        details.insert("evaluation_samples".into(), json!(samples));
        details.insert("acceptance".into(), json!(acceptance.map(|a| [a.value, a.error])));
        let result = RunResult {
            scheme: "train".into(),
            theory: self.subject.theory.into(),
            model: Some(self.subject.name.clone()),
            parameters: self.subject.action.clone(),
            acceptance: acceptance.map(|a| a.value),
            ess: quality.ess,
            draws: None,
            seconds,
            training_samples: self.training_samples(),
            observables: BTreeMap::new(),
        };
        Ok((result, analysis))
    }
}
