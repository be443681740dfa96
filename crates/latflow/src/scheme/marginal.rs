//! The φ-marginal scheme: independence Metropolis with the exact determinant [YUK (15)], and reweighting of the same samples.
//!
//! Each row of the series is one Markov step: for every chain the proposal's log weight, its observables and whether it was
//! accepted, then the correlators of the chains' fields averaged in groups, NaN where they were not measured. The
//! chains follow from the proposals and the decisions; step 0 is where they start.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use latflow_flow::Distribution;
use latflow_lattice::{Rng, Streams};
use latflow_observable::{Chains, LogWeights};
use latflow_sampler::IndependenceChains;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::train::MODEL;
use crate::config::{Config, Needs, load};
use crate::correlators::{CORRELATORS_EVERY, CorrelatorColumns};
use crate::io::{Series, Snapshot, read};
use crate::model::{ScalarFlow, marginal_flow};
use crate::results::{Analysis, Results, RunResult, observe, reported_name};
use crate::run::{Outcome, RunDirectory, Step, Task, drive};
use crate::session::{self, Session};
use crate::theory::{ScalarTheory, theory};

/// One configuration of a chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Sample {
    phi: Vec<f64>,
}

struct SampleTask {
    config: Config,
    theory: Box<dyn ScalarTheory>,
    flow: ScalarFlow,
    device: Device,
    state: State,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    done: u64,
    proposals: Rng,
    metropolis: Rng,
    log_weight: Vec<f64>,
    data: Vec<Sample>,
}

impl SampleTask {
    fn new(config: &Config, model: &Path) -> Result<Self> {
        let device = session::device(&config.device)?;
        let theory = theory(config, &device)?;
        let flow = marginal_flow(config, &*theory, &device)?;
        let tensors = candle_core::safetensors::load_buffer(&read(model)?, &device)
            .with_context(|| format!("{} is not a safetensors file", model.display()))?;
        flow.parameters
            .restore(&tensors.into_iter().collect())
            .with_context(|| format!("{} does not fit [model.marginal]", model.display()))?;
        let streams = Streams::new(config.seed);
        let state = State {
            done: 0,
            proposals: streams.stream("sample/proposals", 0),
            metropolis: streams.stream("sample/metropolis", 0),
            log_weight: Vec::new(),
            data: Vec::new(),
        };
        Ok(Self { config: config.clone(), theory, flow, device, state })
    }

    fn columns(&self) -> (usize, usize) {
        let chain = self.theory.observables().len() + 2;
        (chain, chain * self.config.sample.chains + self.correlator_columns().width())
    }

    fn correlator_columns(&self) -> CorrelatorColumns {
        CorrelatorColumns::new(self.config.sample.chains, self.theory.lattice().time_extent())
    }

    /// One Markov step of every chain with given proposals; its row.
    fn metropolis(
        &mut self,
        log_weight: &[f64],
        observables: &[Vec<f64>],
        phi: &[Vec<f64>],
    ) -> Result<(Vec<f64>, f64)> {
        let data: Vec<Sample> = phi.iter().map(|phi| Sample { phi: phi.clone() }).collect();
        let state = &mut self.state;
        let accepted = if state.done == 0 {
            let start = IndependenceChains::new(log_weight.to_vec(), data)?;
            (state.log_weight, state.data) = (start.log_weight, start.data);
            vec![true; log_weight.len()]
        } else {
            let mut chains = IndependenceChains {
                log_weight: std::mem::take(&mut state.log_weight),
                data: std::mem::take(&mut state.data),
            };
            let info = chains.step(log_weight, &data, &mut state.metropolis)?;
            (state.log_weight, state.data) = (chains.log_weight, chains.data);
            info.accepted
        };
        state.done += 1;
        let mut row = Vec::with_capacity(self.columns().1);
        for ((weight, observables), accepted) in log_weight.iter().zip(observables).zip(&accepted) {
            row.push(*weight);
            row.extend(observables);
            row.push(f64::from(u8::from(*accepted)));
        }
        let rate = accepted.iter().filter(|a| **a).count() as f64 / accepted.len() as f64;
        Ok((row, rate))
    }

    fn correlators(&self) -> Result<Vec<f64>> {
        let sample = &self.config.sample;
        let step = self.state.done;
        if step <= sample.thermalization
            || !(step - sample.thermalization - 1).is_multiple_of(CORRELATORS_EVERY)
        {
            return Ok(self.correlator_columns().absent());
        }
        let flat: Vec<f64> = self.state.data.iter().flat_map(|sample| sample.phi.iter().copied()).collect();
        let phi = Tensor::from_vec(flat, (sample.chains, self.theory.lattice().volume()), &self.device)?;
        self.correlator_columns().measure(self.theory.as_ref(), &phi)
    }
}

impl Task for SampleTask {
    type State = State;

    fn name(&self) -> String {
        "sample".into()
    }

    fn total(&self) -> u64 {
        self.config.sample.steps
    }

    fn done(&self) -> u64 {
        self.state.done
    }

    fn checkpoint_every(&self) -> u64 {
        self.config.sample.checkpoint_every
    }

    fn step(&mut self) -> Result<Step> {
        let chains = self.config.sample.chains;
        let left = (self.total() - self.state.done) as usize;
        let steps = (self.config.sample.batch / chains).clamp(1, left);
        let n = steps * chains;
        let (phi, log_q) = self.flow.density.sample_with_log_prob(n, &(), &mut self.state.proposals)?;
        let (phi, log_q) = (phi.detach(), log_q.detach().to_dtype(DType::F64)?.to_vec1::<f64>()?);
        let evaluation = self.theory.evaluate(&phi)?;
        let log_weight: Vec<f64> =
            evaluation.action.iter().zip(&log_q).map(|(s, log_q)| -s - log_q).collect();
        let phi = phi.to_vec2::<f64>()?;
        let (mut rows, mut accepted) = (Vec::with_capacity(steps), 0.0);
        for step in 0..steps {
            let range = step * chains..(step + 1) * chains;
            let (mut row, rate) = self.metropolis(
                &log_weight[range.clone()],
                &evaluation.observables[range.clone()],
                &phi[range],
            )?;
            row.extend(self.correlators()?);
            accepted += rate / steps as f64;
            rows.push(row);
        }
        let ess = LogWeights::new(&log_weight)?.ess();
        let mut metrics = Map::new();
        metrics.insert("acceptance".into(), json!(accepted));
        metrics.insert("ess".into(), json!(ess));
        Ok(Step { metrics: Some(metrics), rows, status: format!("acceptance {accepted:.2} ESS {ess:.3}") })
    }

    fn snapshot(&self) -> Result<Snapshot<State>> {
        Ok(Snapshot { tensors: BTreeMap::new(), state: self.state.clone() })
    }

    fn restore(&mut self, step: u64, snapshot: Snapshot<State>) -> Result<()> {
        let (state, chains) = (snapshot.state, self.config.sample.chains);
        anyhow::ensure!(state.done == step, "checkpoint of step {step} says {}", state.done);
        anyhow::ensure!(
            state.data.len() == chains,
            "checkpoint of {} chains, expected {chains}",
            state.data.len()
        );
        self.state = state;
        Ok(())
    }
}

/// The trained weights for a sampling run, which keeps its own copy of them. `model` is a training run or a file.
///
/// # Errors
/// When there is no trained model, or it was trained as another kind of flow.
pub(crate) fn trained_model(model: &Path, config: &Config) -> Result<(&'static str, Vec<u8>)> {
    let file = if model.is_dir() { model.join(MODEL) } else { model.to_path_buf() };
    if !file.exists() {
        bail!(
            "{}: there is no trained flow; run `latflow train` first, or name one with --model",
            file.display()
        );
    }
    let trained = model.join("config.toml");
    if trained.exists() {
        let trained = load(&trained, &[], Needs::FullOperator)?;
        if trained.model != config.model || trained.lattice != config.lattice {
            bail!(
                "{} was trained with other [model] or [lattice] sections than this configuration",
                file.display()
            );
        }
        if trained.action != config.action {
            session::note(&format!(
                "note: {} was trained for other couplings; sampling stays exact",
                file.display()
            ));
        }
    }
    Ok((MODEL, read(&file)?))
}

/// Samples to the end and writes the results.
pub(super) fn work(run: &RunDirectory, session: &Session) -> Result<Outcome> {
    let mut task = SampleTask::new(run.config(), &run.path(MODEL))?;
    let outcome = drive(&mut task, run, session)?;
    if let Outcome::Finished { seconds } = outcome {
        let (result, analysis) = results(&task, run, seconds)?;
        run.finish(&Results { runs: vec![result] }, &analysis)?;
    }
    Ok(outcome)
}

fn results(task: &SampleTask, run: &RunDirectory, seconds: f64) -> Result<(RunResult, Analysis)> {
    let names = task.theory.observables();
    let (width, columns) = task.columns();
    let (chains, first) = (task.config.sample.chains, task.config.sample.thermalization as usize);
    let rows = Series::read_rows(&run.series(), columns)?;
    let log_weights: Vec<f64> = rows.iter().flat_map(|row| (0..chains).map(|c| row[c * width])).collect();
    let weights = LogWeights::new(&log_weights)?;
    let (mut analysis, mut observables, mut reweighted) = (Analysis::default(), BTreeMap::new(), Map::new());
    for (index, name) in names.iter().enumerate() {
        let (name, absolute) = reported_name(name);
        let value = |row: &Vec<f64>, c: usize| {
            let x = row[c * width + 1 + index];
            if absolute { x.abs() } else { x }
        };
        let proposals: Vec<f64> = rows.iter().flat_map(|row| (0..chains).map(|c| value(row, c))).collect();
        let estimate = weights.mean(&proposals)?;
        reweighted.insert(name.clone(), json!([estimate.value, estimate.error]));
        let chain = |c: usize| {
            let mut current = f64::NAN;
            let all = rows.iter().map(|row| {
                if row[(c + 1) * width - 1] > 0.0 {
                    current = value(row, c);
                }
                current
            });
            all.skip(first).collect::<Vec<f64>>()
        };
        let series = Chains::new((0..chains).map(chain).collect())?;
        let measured = observe(run, &name, &series, 1.0, &mut analysis)?;
        observables.insert(name, measured);
    }
    task.correlator_columns().analyse(run, &rows, width * chains, &mut analysis)?;
    // The start of a chain is not a decision.
    let measured = &rows[first.max(1).min(rows.len())..];
    let accepted: f64 = measured.iter().flat_map(|row| (0..chains).map(|c| row[(c + 1) * width - 1])).sum();
    let acceptance = (!measured.is_empty()).then(|| accepted / (measured.len() * chains) as f64);
    analysis.add_weights(&log_weights, task.theory.lattice().volume())?;
    let details = &mut analysis.details;
    details.insert("reweighted".into(), Value::Object(reweighted));
    details.insert("seconds_per_proposal".into(), json!(seconds / log_weights.len() as f64));
    let independent = |tau: f64| 2.0 * tau * seconds / log_weights.len() as f64;
    let tau = observables.get("abs_magnetization").and_then(|m| m.tau_int);
    details.insert("seconds_per_independent_configuration".into(), json!(tau.map(independent)));
    let result = RunResult {
        scheme: "marginal".into(),
        theory: task.theory.name().into(),
        model: Some(task.flow.name.clone()),
        parameters: task.theory.parameters(),
        acceptance,
        ess: Some(weights.ess()),
        seconds,
        training_samples: task.config.train.steps * task.config.train.batch as u64,
        observables,
    };
    Ok((result, analysis))
}
