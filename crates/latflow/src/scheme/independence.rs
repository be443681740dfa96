//! Independence Metropolis with proposals from any source, and reweighting of the same proposals.
//!
//! Each row of the series is one Markov step: for every chain the proposal's log weight, its observables and whether it was
//! accepted, then the correlators of the chains' fields, NaN where they were not measured. The chains follow from the
//! proposals and the decisions; step 0 is where they start.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{Device, Tensor};
use latflow_lattice::Rng;
use latflow_observable::LogWeights;
use latflow_sampler::IndependenceChains;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::proposals::{Proposed, Source};
use super::series::{Columns, observe_all};
use super::{Report, sampling_scheme, streams};
use crate::config::Config;
use crate::correlators::CORRELATORS_EVERY;
use crate::io::{Series, Snapshot};
use crate::model::Site;
use crate::results::{Analysis, RunResult, reported_name};
use crate::run::{MODEL, RunDirectory, Step, Task};
use crate::session::{self, note};
use crate::theory::{ScalarTheory, theory};

/// One configuration of a chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Sample {
    phi: Vec<f64>,
}

pub(super) struct IndependenceTask {
    config: Config,
    theory: Box<dyn ScalarTheory>,
    source: Source,
    model: String,
    training_samples: u64,
    device: Device,
    state: State,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    done: u64,
    proposals: Rng,
    metropolis: Rng,
    log_weight: Vec<f64>,
    data: Vec<Sample>,
}

impl IndependenceTask {
    /// # Errors
    /// When the model does not fit its weights or the method.
    pub(super) fn new(run: &RunDirectory) -> Result<Self> {
        let config = run.config().clone();
        let device = session::device(&config.device)?;
        let theory = theory(&config, &device)?;
        let joint = theory.joint(config.sample.solver());
        let site = Site { config: &config, theory: &*theory, joint: &joint, device: &device };
        let (model, training_samples) = site.trained_model(&run.path(MODEL))?;
        let (source, model) = Source::new(&site, model)?;
        let state = State {
            done: 0,
            proposals: streams(&config).stream("sample/proposals", 0),
            metropolis: streams(&config).stream("sample/metropolis", 0),
            log_weight: Vec::new(),
            data: Vec::new(),
        };
        Ok(Self { config, theory, source, model, training_samples, device, state })
    }

    fn columns(&self) -> Columns {
        Columns::new(&*self.theory, self.config.sample.chains)
    }

    /// One Markov step of every chain with given proposals.
    fn metropolis(&mut self, log_weight: &[f64], phi: &[Vec<f64>]) -> Result<Vec<bool>> {
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
        Ok(accepted)
    }

    fn correlators(&self) -> Result<Vec<f64>> {
        let (sample, columns) = (&self.config.sample, self.columns().correlators);
        let step = self.state.done;
        if step <= sample.thermalization
            || !(step - sample.thermalization - 1).is_multiple_of(CORRELATORS_EVERY)
        {
            return Ok(columns.absent());
        }
        let flat: Vec<f64> = self.state.data.iter().flat_map(|sample| sample.phi.iter().copied()).collect();
        let phi = Tensor::from_vec(flat, (sample.chains, self.theory.lattice().volume()), &self.device)?;
        columns.measure(&*self.theory, &phi)
    }
}

impl Task for IndependenceTask {
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
        let (chains, columns) = (self.config.sample.chains, self.columns());
        let left = (self.total() - self.state.done) as usize;
        let steps = (self.config.sample.batch / chains).clamp(1, left);
        let n = steps * chains;
        let Proposed { phi, log_weight, observables } =
            self.source.propose(&*self.theory, n, &mut self.state.proposals)?;
        let phi = phi.to_vec2::<f64>()?;
        let (mut rows, mut moved) = (Vec::with_capacity(steps), 0);
        for step in 0..steps {
            let range = step * chains..(step + 1) * chains;
            let log_weight = &log_weight[range.clone()];
            let accepted = self.metropolis(log_weight, &phi[range.clone()])?;
            let mut row = columns.row(log_weight, &observables[range], &accepted);
            row.extend(self.correlators()?);
            moved += accepted.iter().filter(|accepted| **accepted).count();
            rows.push(row);
        }
        let acceptance = moved as f64 / n as f64;
        let ess = LogWeights::new(&log_weight)?.ess();
        let mut metrics = Map::new();
        metrics.insert("acceptance".into(), json!(acceptance));
        metrics.insert("ess".into(), json!(ess));
        let status = format!("acceptance {acceptance:.2} ESS {ess:.3}");
        Ok(Step { metrics: Some(metrics), rows, status })
    }

    fn snapshot(&self) -> Result<Snapshot<State>> {
        Ok(Snapshot { tensors: BTreeMap::new(), state: self.state.clone() })
    }

    fn restore(&mut self, step: u64, snapshot: Snapshot<State>) -> Result<()> {
        let (state, chains) = (snapshot.state, self.config.sample.chains);
        anyhow::ensure!(state.done == step, "checkpoint of step {step} says {}", state.done);
        let found = state.data.len();
        anyhow::ensure!(found == chains, "checkpoint of {found} chains, expected {chains}");
        self.state = state;
        Ok(())
    }
}

impl Report for IndependenceTask {
    fn results(&mut self, run: &RunDirectory, seconds: f64) -> Result<(RunResult, Analysis)> {
        let (names, columns) = (self.theory.observables(), self.columns());
        let (chains, first) = (columns.chains, self.config.sample.thermalization as usize);
        let rows = Series::read_rows(&run.series(), columns.total())?;
        let all = |value: &dyn Fn(&[f64], usize) -> f64| -> Vec<f64> {
            rows.iter().flat_map(|row| (0..chains).map(|c| value(row, c))).collect()
        };
        let log_weights = all(&|row, c| columns.log_weight(row, c));
        let weights = LogWeights::new(&log_weights)?;
        let (mut analysis, mut reweighted) = (Analysis::default(), Map::new());
        for (index, measurand) in names.iter().enumerate() {
            let (name, absolute) = reported_name(&measurand.name);
            let values = all(&|row, c| {
                let x = columns.observable(row, c, index);
                if absolute { x.abs() } else { x }
            });
            // Null where one weight leaves the others nothing: that is a finding, not a failure.
            let estimate = weights.mean(&values).ok().map(|mean| [mean.value, mean.error]);
            reweighted.insert(name, json!(estimate));
        }
        let series = |index: usize| {
            let chain = |c: usize| {
                let mut current = f64::NAN;
                let all = rows.iter().map(|row| {
                    if columns.accepted(row, c) {
                        current = columns.observable(row, c, index);
                    }
                    current
                });
                all.skip(first).collect::<Vec<f64>>()
            };
            (0..chains).map(chain).collect()
        };
        let observed = observe_all(run, names, series, 1.0, &mut analysis)?;
        columns.correlators.analyse(run, &rows, columns.width * chains, &mut analysis)?;
        if let Err(error) = analysis.add_weights(&log_weights, self.theory.lattice().volume()) {
            note(&format!("warning: log Z and the variance of the weights are unknown: {error:#}"));
        }
        let each = seconds / log_weights.len() as f64;
        let details = &mut analysis.details;
        details.insert("reweighted".into(), Value::Object(reweighted));
        details.insert("seconds_per_proposal".into(), json!(each));
        let independent = observed.tau_int.map(|tau| 2.0 * tau * each);
        details.insert("seconds_per_independent_configuration".into(), json!(independent));
        let result = RunResult {
            scheme: sampling_scheme(&self.config).into(),
            theory: self.theory.name().into(),
            model: Some(self.model.clone()),
            parameters: self.theory.parameters(),
            // The start of a chain is not a decision.
            acceptance: columns.acceptance(&rows[first.max(1).min(rows.len())..]),
            ess: Some(weights.ess()),
            draws: None,
            seconds,
            training_samples: self.training_samples,
            observables: observed.observables,
        };
        Ok((result, analysis))
    }
}
