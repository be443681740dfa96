//! Hybrid Monte Carlo: thermalise and tune, measure, analyse.
//!
//! Each row of the series is one measurement time,
//!
//! ```text
//! acceptance probability, ⟨e^{−ΔH}⟩, one number a chain and observable, then what is measured more rarely, NaN elsewhere:
//! the correlators, and the force norms averaged over the chains
//! ```

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};
use latflow_fermion::ConjugateGradient;
use latflow_lattice::{Rng, Streams, normal_tensor};
use latflow_observable::{Chains, jackknife};
use latflow_sampler::{Hmc, Integrator, MarkovKernel, StepInfo, StepTuner};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::Report;
use super::series::observe_all;
use crate::config::{self, Config, FermionTreatment};
use crate::correlators::{CORRELATORS_EVERY, CorrelatorColumns};
use crate::io::{Series, Snapshot};
use crate::results::{Analysis, RunResult};
use crate::run::{RunDirectory, Step, Task};
use crate::session;
use crate::theory::{HmcTarget, ScalarTheory, theory};

/// Width of the random start, close to the fluctuations of the theories of interest.
const START: f64 = 0.3;
/// Measurements of the force norms in a run.
const FORCE_MEASUREMENTS: u64 = 8;
/// Acceptance and ⟨e^{−ΔH}⟩.
const LEADING: usize = 2;

pub(super) struct HmcTask {
    config: config::Hmc,
    theory: Box<dyn ScalarTheory>,
    solver: ConjugateGradient,
    kernel: Hmc<HmcTarget, Tensor>,
    phi: Tensor,
    state: State,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    done: u64,
    trajectories: Rng,
    forces: Rng,
    log_steps: f64,
    tuner_updates: u64,
    /// Sum of `log_steps` over the second half of the thermalization; its mean is what is kept, free of the search's noise.
    late_log_steps: f64,
}

impl HmcTask {
    /// # Errors
    /// When the theory does not exist at its parameters.
    pub(super) fn new(config: &Config) -> Result<Self> {
        let device = session::device(&config.device)?;
        let theory = theory(config, &device)?;
        let hmc = config.hmc.clone();
        let solver =
            ConjugateGradient { tolerance: hmc.solver_tolerance, max_iterations: hmc.solver_iterations };
        let integrator = match hmc.integrator {
            config::Integrator::Leapfrog => Integrator::Leapfrog,
            config::Integrator::Omelyan => Integrator::Omelyan,
        };
        let target = theory.hmc_target(hmc.fermions, solver);
        let kernel = Hmc::new(target, integrator, hmc.trajectory_length, hmc.steps)?;
        let streams = Streams::new(config.seed);
        let shape = [hmc.chains, theory.lattice().volume()];
        let phi = normal_tensor(&mut streams.stream("hmc/start", 0), START, &shape, DType::F64, &device)?;
        let state = State {
            done: 0,
            trajectories: streams.stream("hmc/trajectories", 0),
            forces: streams.stream("hmc/force_norms", 0),
            log_steps: StepTuner::new(hmc.target_acceptance, hmc.steps).log_steps,
            tuner_updates: 0,
            late_log_steps: 0.0,
        };
        Ok(Self { config: hmc, theory, solver, kernel, phi, state })
    }

    fn tuning(&self) -> bool {
        self.config.target_acceptance > 0.0
    }

    fn tuner(&self) -> StepTuner {
        let State { log_steps, tuner_updates, .. } = self.state;
        StepTuner { target: self.config.target_acceptance, log_steps, updates: tuner_updates }
    }

    /// Measurement number k, if one falls on the trajectory just done.
    fn measurement(&self) -> Option<u64> {
        let measured = self.state.done.checked_sub(self.config.thermalization).filter(|n| *n > 0)?;
        measured.is_multiple_of(self.config.measure_every).then(|| measured / self.config.measure_every - 1)
    }

    fn correlators(&self) -> CorrelatorColumns {
        CorrelatorColumns::new(self.config.chains, self.theory.lattice().time_extent())
    }

    fn row(&mut self, k: u64, acceptance: f64, exponential: f64) -> Result<Vec<f64>> {
        let mut row = vec![acceptance, exponential];
        let evaluation = self.theory.evaluate(&self.phi)?;
        row.extend(evaluation.observables.iter().flatten());
        let correlators = self.correlators();
        let interval = CORRELATORS_EVERY.div_ceil(self.config.measure_every);
        row.extend(if k.is_multiple_of(interval) {
            correlators.measure(self.theory.as_ref(), &self.phi)?
        } else {
            correlators.absent()
        });
        let measurements = self.config.trajectories / self.config.measure_every;
        if self.config.fermions != FermionTreatment::None
            && k.is_multiple_of(measurements.div_ceil(FORCE_MEASUREMENTS))
        {
            let norms = self.theory.force_norms(&self.phi, self.solver, &mut self.state.forces)?;
            row.extend(norms.iter().map(|(_, norm)| norm));
        } else {
            row.extend([f64::NAN; FORCES.len()]);
        }
        Ok(row)
    }
}

const FORCES: [&str; 4] = ["bosonic", "determinant", "pseudofermion", "even_odd_pseudofermion"];

/// A trajectory that ran away into a region where the solver does not converge is a rejection of all chains. That is exact:
/// the reversed trajectory meets the same fields, so it fails too.
fn solver_failed(error: &latflow_sampler::Error) -> bool {
    use latflow_fermion::Error::{NoConvergence, NotPositive};
    matches!(
        error,
        latflow_sampler::Error::Action(latflow_action::Error::Fermion(
            NoConvergence { .. } | NotPositive { .. }
        ))
    )
}

impl Task for HmcTask {
    type State = State;

    fn name(&self) -> String {
        "hmc".into()
    }

    fn total(&self) -> u64 {
        self.config.thermalization + self.config.trajectories
    }

    fn done(&self) -> u64 {
        self.state.done
    }

    fn checkpoint_every(&self) -> u64 {
        self.config.checkpoint_every
    }

    fn step(&mut self) -> Result<Step> {
        let thermalizing = self.state.done < self.config.thermalization;
        if self.tuning() {
            self.kernel.set_steps(self.tuner().steps());
        }
        // A fresh target counts this trajectory's iterations alone.
        self.kernel.target = self.theory.hmc_target(self.config.fermions, self.solver);
        let info = match self.kernel.step(self.phi.clone(), &mut self.state.trajectories) {
            Ok((phi, info)) => {
                self.phi = phi.detach();
                info
            }
            Err(error) if solver_failed(&error) => {
                let chains = self.config.chains;
                StepInfo {
                    accepted: vec![false; chains],
                    log_ratio: vec![f64::NEG_INFINITY; chains],
                    nonfinite: chains,
                }
            }
            Err(other) => return Err(other.into()),
        };
        self.state.done += 1;
        let acceptance = info.acceptance_probability();
        if thermalizing && self.tuning() {
            let mut tuner = self.tuner();
            tuner.observe(acceptance);
            (self.state.log_steps, self.state.tuner_updates) = (tuner.log_steps, tuner.updates);
            let early = self.config.thermalization / 2;
            if self.state.done > early {
                self.state.late_log_steps += tuner.log_steps;
            }
            if self.state.done == self.config.thermalization {
                self.state.log_steps =
                    self.state.late_log_steps / (self.config.thermalization - early) as f64;
            }
        }

        let finite: Vec<f64> = info.log_ratio.iter().copied().filter(|ratio| ratio.is_finite()).collect();
        let energy = finite.iter().map(|ratio| -ratio).sum::<f64>() / finite.len() as f64;
        let chains = self.config.chains as f64;
        let exponential =
            info.log_ratio.iter().map(|ratio| if ratio.is_nan() { 0.0 } else { ratio.exp() }).sum::<f64>()
                / chains;
        let mut rows = Vec::new();
        let mut metrics = Map::new();
        metrics.insert("phase".into(), json!(if thermalizing { "thermalization" } else { "measurement" }));
        metrics.insert("acceptance".into(), json!(info.acceptance()));
        metrics.insert("acceptance_probability".into(), json!(acceptance));
        metrics.insert("delta_h".into(), json!(energy));
        metrics.insert("nonfinite".into(), json!(info.nonfinite));
        metrics.insert("integrator_steps".into(), json!(self.kernel.steps()));
        if let Some(iterations) = self.kernel.target.mean_iterations() {
            metrics.insert("solver_iterations".into(), json!(iterations));
        }
        if let Some(k) = self.measurement() {
            let row = self.row(k, acceptance, exponential)?;
            let n = self.theory.observables().len();
            let chains = row[LEADING..LEADING + n * self.config.chains].chunks_exact(n);
            metrics.insert(
                "abs_magnetization".into(),
                json!(chains.map(|o| o[0].abs()).sum::<f64>() / self.config.chains as f64),
            );
            rows.push(row);
        }
        let status = format!("acceptance {:.2} steps {}", acceptance, self.kernel.steps());
        Ok(Step { metrics: Some(metrics), rows, status })
    }

    fn snapshot(&self) -> Result<Snapshot<State>> {
        Ok(Snapshot {
            tensors: BTreeMap::from([("phi".to_owned(), self.phi.clone())]),
            state: self.state.clone(),
        })
    }

    fn restore(&mut self, step: u64, snapshot: Snapshot<State>) -> Result<()> {
        let phi = snapshot.tensors.get("phi").context("the checkpoint has no field `phi`")?;
        anyhow::ensure!(
            phi.dims() == self.phi.dims(),
            "phi: expected {:?}, got {:?}",
            self.phi.dims(),
            phi.dims()
        );
        anyhow::ensure!(
            snapshot.state.done == step,
            "checkpoint of step {step} says {}",
            snapshot.state.done
        );
        self.phi = phi.to_device(self.phi.device())?;
        self.state = snapshot.state;
        let steps = self.tuner().steps();
        self.kernel.set_steps(steps);
        Ok(())
    }
}

impl Report for HmcTask {
    fn results(&self, run: &RunDirectory, seconds: f64) -> Result<(RunResult, Analysis)> {
        let names = self.theory.observables();
        let (chains, correlators) = (self.config.chains, self.correlators());
        let observed = LEADING + names.len() * chains;
        let columns = observed + correlators.width() + FORCES.len();
        let rows = Series::read_rows(&run.series(), columns)?;
        let interval = self.config.measure_every as f64;
        let mut analysis = Analysis::default();
        let series = |index: usize| {
            let chain = |c: usize| rows.iter().map(|row| row[LEADING + c * names.len() + index]).collect();
            (0..chains).map(chain).collect()
        };
        let measured = observe_all(run, names, series, interval, &mut analysis)?;
        correlators.analyse(run, &rows, observed, &mut analysis)?;
        let forces: Vec<&[f64]> =
            rows.iter().map(|row| &row[columns - FORCES.len()..]).filter(|row| !row[0].is_nan()).collect();
        let force = |index: usize| forces.iter().map(|row| row[index]).sum::<f64>();
        for (index, name) in FORCES.iter().enumerate().skip(1).filter(|_| !forces.is_empty()) {
            analysis.force_ratios.insert((*name).to_owned(), force(index) / force(0));
        }

        let column = |index: usize| Chains::new(vec![rows.iter().map(|row| row[index]).collect()]);
        let acceptance = column(0)?.mean();
        // A trajectory that gained hundreds of units of energy makes the mean infinite: that is null, not a lost run.
        let exponential = column(1)
            .ok()
            .and_then(|column| jackknife(&[&column], (rows.len() / 20).max(1), |means| means[0]).ok());
        let (kernel, details) = (&self.kernel, &mut analysis.details);
        details.insert("integrator_steps".into(), json!(kernel.steps()));
        details.insert("force_evaluations".into(), json!(kernel.forces()));
        details.insert("trajectory_length".into(), json!(self.config.trajectory_length));
        details.insert(
            "exp_minus_delta_h".into(),
            json!(exponential.map(|e| [e.estimate.value, e.estimate.error])),
        );
        details.insert("fermions".into(), json!(self.config.fermions));
        let trajectories = (self.config.trajectories * chains as u64) as f64;
        let measuring = seconds * self.config.trajectories as f64 / self.total() as f64;
        details.insert("seconds_per_trajectory".into(), json!(measuring / trajectories));
        let independent = measured.tau_int.map(|tau| 2.0 * tau * measuring / trajectories);
        details.insert("seconds_per_independent_configuration".into(), json!(independent));
        let result = RunResult {
            scheme: "hmc".into(),
            theory: self.theory.name().into(),
            model: None,
            parameters: self.theory.parameters(),
            acceptance: Some(acceptance),
            ess: None,
            seconds,
            training_samples: 0,
            observables: measured.observables,
        };
        Ok((result, analysis))
    }
}
