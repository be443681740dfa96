//! Training of the φ-marginal flow by the reverse Kullback–Leibler divergence.
//!
//! ESS and acceptance come from the weights of the training batch when its target is exact; with the stochastic gradient
//! they are measured on the side, with a stream of their own.

use anyhow::Result;
use candle_core::{DType, Tensor};
use latflow_action::Action;
use latflow_fermion::ConjugateGradient;
use latflow_flow::Distribution;
use latflow_flow::train::{Clip, Estimator, Schedule, TrainState, Trainer};
use latflow_lattice::Streams;
use latflow_observable::LogWeights;
use serde_json::{Map, json};

use crate::config::{self, Config, Gradient};
use crate::io::{Snapshot, write_atomically};
use crate::model::{ScalarFlow, marginal_flow};
use crate::results::{Analysis, Results, RunResult};
use crate::run::{Outcome, RunDirectory, Step, Task, drive};
use crate::session::{self, Session};
use crate::theory::{BoxedTarget, ScalarTheory, theory};

/// Samples of the ESS measured on the side.
const EVALUATION: usize = 256;
/// Samples of the ESS reported at the end.
const FINAL_EVALUATION: usize = 2048;

/// The file that sampling reads.
pub(super) const MODEL: &str = "model.safetensors";

struct TrainTask {
    config: Config,
    theory: Box<dyn ScalarTheory>,
    flow: ScalarFlow,
    target: BoxedTarget,
    trainer: Trainer,
}

impl TrainTask {
    fn new(config: &Config) -> Result<Self> {
        let device = session::device(&config.device)?;
        let theory = theory(config, &device)?;
        let flow = marginal_flow(config, &*theory, &device)?;
        let train = &config.train;
        let solver =
            ConjugateGradient { tolerance: train.solver_tolerance, max_iterations: train.solver_iterations };
        let target = theory.training_target(train.gradient, solver);
        let clip = Clip { value: train.clip.value, norm: train.clip.norm };
        let streams = Streams::new(config.seed);
        let estimator = match train.estimator {
            config::Estimator::Total => Estimator::Total,
            config::Estimator::Path => Estimator::Path,
        };
        let trainer = Trainer::new(&flow.parameters, Schedule::new(&train.lr)?, clip, train.batch, streams)?
            .with_estimator(estimator);
        Ok(Self { config: config.clone(), theory, flow, target, trainer })
    }

    /// Exact log weights of fresh samples, from a stream that belongs to this step alone.
    fn log_weights(&self, n: usize, step: u64) -> Result<Vec<f64>> {
        let mut rng = Streams::new(self.config.seed).stream("train/evaluation", step);
        let (phi, log_q) = self.flow.density.sample_with_log_prob(n, &(), &mut rng)?;
        let log_weight =
            (self.theory.action().action(&phi.detach())? + log_q.detach().to_dtype(DType::F64)?)?.neg()?;
        Ok(log_weight.to_vec1::<f64>()?)
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
        let step = self.trainer.step(&self.flow.density, &self.target, &self.flow.parameters)?;
        let logged = step.step % self.config.train.log_every == 0 || step.step == self.total();
        if !logged {
            return Ok(Step::default());
        }
        let log_weights = match self.config.train.gradient {
            Gradient::Determinant => step.log_weights,
            Gradient::Stochastic => self.log_weights(EVALUATION, step.step)?,
        };
        let weights = LogWeights::new(&log_weights)?;
        // Undefined while one sample carries all the weight, as it may in the first steps.
        let (ess, acceptance) = (weights.ess(), weights.acceptance().map_or(f64::NAN, |a| a.value));
        let mut metrics = Map::new();
        metrics.insert("loss".into(), json!(step.loss));
        metrics.insert("ess".into(), json!(ess));
        metrics.insert("acceptance".into(), json!(acceptance));
        metrics.insert("gradient_norm".into(), json!(step.gradient_norm));
        metrics.insert("learning_rate".into(), json!(step.rate));
        let status = format!("loss {:.3} ESS {ess:.3} acceptance {acceptance:.2}", step.loss);
        Ok(Step { metrics: Some(metrics), rows: Vec::new(), status })
    }

    fn snapshot(&self) -> Result<Snapshot<TrainState>> {
        let (state, tensors) = self.trainer.checkpoint(&self.flow.parameters)?;
        Ok(Snapshot { tensors, state })
    }

    fn restore(&mut self, step: u64, snapshot: Snapshot<TrainState>) -> Result<()> {
        anyhow::ensure!(
            snapshot.state.step == step,
            "checkpoint of step {step} says {}",
            snapshot.state.step
        );
        Ok(self.trainer.restore(&self.flow.parameters, &snapshot.state, &snapshot.tensors)?)
    }
}

/// Trains to the end and writes the model.
pub(super) fn work(run: &RunDirectory, session: &Session) -> Result<Outcome> {
    let mut task = TrainTask::new(run.config())?;
    let outcome = drive(&mut task, run, session)?;
    if let Outcome::Finished { seconds } = outcome {
        let tensors = task.flow.parameters.snapshot()?;
        let bytes = safetensors::serialize(
            tensors.iter().map(|(name, tensor): (&String, &Tensor)| (name, tensor)),
            None,
        )?;
        write_atomically(&run.path(MODEL), &bytes)?;
        let weights = LogWeights::new(&task.log_weights(FINAL_EVALUATION, task.total() + 1)?)?;
        let acceptance = weights.acceptance()?;
        let log_z = weights.log_z()?;
        let mut analysis = Analysis::default();
        analysis.details.insert("parameters_of_the_flow".into(), json!(task.flow.parameters.count()));
        analysis.details.insert("evaluation_samples".into(), json!(FINAL_EVALUATION));
        analysis.details.insert("acceptance".into(), json!([acceptance.value, acceptance.error]));
        analysis.details.insert("log_z".into(), json!([log_z.value, log_z.error]));
        let result = RunResult {
            scheme: "train".into(),
            theory: task.theory.name().into(),
            model: Some(task.flow.name.clone()),
            parameters: task.theory.parameters(),
            acceptance: Some(acceptance.value),
            ess: Some(weights.ess()),
            seconds,
            training_samples: task.config.train.steps * task.config.train.batch as u64,
            observables: std::collections::BTreeMap::new(),
        };
        run.finish(&Results { runs: vec![result] }, &analysis)?;
    }
    Ok(outcome)
}
