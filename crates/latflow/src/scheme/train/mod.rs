//! Training of any model by the reverse Kullback–Leibler divergence.
//!
//! ESS and acceptance come from the weights of the training batch where those are exact; elsewhere they are measured on the
//! side, with a stream of their own.

mod objective;

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use latflow_flow::train::{Clip, Estimator, Schedule, TrainState, Trainer};
use serde_json::{Map, Value, json};

use self::objective::{Objective, Quality};
use super::{Report, needs_starting_weights, streams};
use crate::config::{self, Config};
use crate::io::{Snapshot, write_atomically};
use crate::model::{Densities, Milestone, Model, ModelCard, Site, Trained, weights};
use crate::results::{Analysis, RunResult};
use crate::run::{MODEL, RunDirectory, START, Step, Task};
use crate::session::{self, note};
use crate::theory::{ScalarTheory, theory};

/// Samples of the ESS measured on the side.
const EVALUATION: usize = 256;
/// Samples of the ESS reported at the end.
const FINAL_EVALUATION: usize = 2048;
/// Entries of the history in a model card.
const HISTORY: usize = 50;

pub(super) struct TrainTask {
    config: Config,
    theory: Box<dyn ScalarTheory>,
    model: Model,
    objective: Objective,
    trainer: Trainer,
    /// Samples that the weights it began with had seen.
    seen: u64,
}

impl TrainTask {
    /// # Errors
    /// When the model does not fit the lattice or the weights it begins with.
    pub(super) fn new(run: &RunDirectory) -> Result<Self> {
        let config = run.config().clone();
        let device = session::device(&config.device)?;
        let theory = theory(&config, &device)?;
        let train = &config.train;
        let joint = theory.joint(train.solver());
        let site = Site { config: &config, theory: &*theory, joint: &joint, device: &device };
        let start = run.path(START);
        let start = if start.exists() { Some(Trained::read(&start, &device)?) } else { None };
        let model = site.model()?;
        match (&start, &model.densities) {
            (Some(start), _) => {
                let (taken, all) = (start.begin(&model)?, model.parameters.iter().count());
                // Weights that only provide pseudofermions need have nothing else in common.
                let useful = taken > 0 || needs_starting_weights(&config);
                anyhow::ensure!(useful, "--model: no parameter of this model has a counterpart there");
                note(&format!("train: beginning with {taken} of {all} parameters of other weights"));
            }
            (None, Densities::Marginal(density) | Densities::Autoregressive(density, _)) => {
                density.initialize(&model.parameters, &mut streams(&config).stream("train/initialize", 0))?;
            }
            (None, _) => {}
        }
        anyhow::ensure!(model.parameters.count() > 0, "{} has no parameters to train", model.name);
        let objective = Objective::new(&site, &model, start.as_ref())?;
        let clip = Clip { value: train.clip.value, norm: train.clip.norm };
        let estimator = match train.estimator {
            config::Estimator::Total => Estimator::Total,
            config::Estimator::Path => Estimator::Path,
        };
        let schedule = Schedule::new(&train.lr)?;
        let trainer = Trainer::new(&model.parameters, schedule, clip, train.batch, streams(&config))?
            .with_estimator(estimator);
        let seen = start.map_or(0, |start| start.training_samples());
        Ok(Self { config, theory, model, objective, trainer, seen })
    }

    /// The quality of fresh samples, from a stream that belongs to this step alone.
    fn judge(&self, n: usize, step: u64) -> Result<Quality> {
        let mut rng = streams(&self.config).stream("train/evaluation", step);
        self.objective.judge(&*self.theory, n, &mut rng)
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
        let step = self.objective.step(&mut self.trainer, &self.model.parameters)?;
        let logged = step.step % self.config.train.log_every == 0 || step.step == self.total();
        if !logged {
            return Ok(Step::default());
        }
        let quality = match self.objective.judge_batch(&step)? {
            Some(quality) => quality,
            None => self.judge(EVALUATION, step.step)?,
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
        let (state, tensors) = self.trainer.checkpoint(&self.model.parameters)?;
        Ok(Snapshot { tensors, state })
    }

    fn restore(&mut self, step: u64, snapshot: Snapshot<TrainState>) -> Result<()> {
        let found = snapshot.state.step;
        anyhow::ensure!(found == step, "checkpoint of step {step} says {found}");
        Ok(self.trainer.restore(&self.model.parameters, &snapshot.state, &snapshot.tensors)?)
    }
}

impl Report for TrainTask {
    /// Writes the model, too.
    fn results(&mut self, run: &RunDirectory, seconds: f64) -> Result<(RunResult, Analysis)> {
        let quality = self.judge(FINAL_EVALUATION, self.total() + 1)?;
        let acceptance = quality.acceptance;
        let card = ModelCard {
            name: self.model.name.clone(),
            model: self.config.model.clone(),
            dims: self.config.lattice.dims.clone(),
            theory: self.theory.name().into(),
            action: self.theory.parameters(),
            seed: self.config.seed,
            revision: env!("LATFLOW_GIT_REVISION").into(),
            training_samples: self.training_samples(),
            seconds,
            ess: quality.ess,
            acceptance: acceptance.map(|a| a.value),
            evaluation_samples: FINAL_EVALUATION as u64,
            history: self.history(run)?,
        };
        write_atomically(&run.path(MODEL), &weights(&self.model.parameters.snapshot()?, &card)?)?;
        let mut analysis = Analysis::default();
        if !quality.log_weights.is_empty()
            && let Err(error) = analysis.add_weights(&quality.log_weights, self.theory.lattice().volume())
        {
            note(&format!("warning: log Z and the variance of the weights are unknown: {error:#}"));
        }
        let details = &mut analysis.details;
        details.insert("model_scheme".into(), json!(self.config.model.scheme));
        details.insert("parameters_of_the_flow".into(), json!(self.model.parameters.count()));
        details.insert("evaluation_samples".into(), json!(FINAL_EVALUATION));
        details.insert("acceptance".into(), json!(acceptance.map(|a| [a.value, a.error])));
        let result = RunResult {
            scheme: "train".into(),
            theory: self.theory.name().into(),
            model: Some(self.model.name.clone()),
            parameters: self.theory.parameters(),
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
