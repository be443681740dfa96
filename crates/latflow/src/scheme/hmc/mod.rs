//! Hybrid Monte Carlo of any field, or what its configuration puts in its place: thermalise and tune, measure, analyse.
//!
//! Each row of the series is one measurement time,
//!
//! ```text
//! acceptance probability, ⟨e^{−ΔH}⟩ and solver iterations, averaged over chains and trajectories since the last row;
//! one number a chain and observable; the correlators, averaged over groups of chains; the force norms, averaged over chains
//! ```
//!
//! with NaN for what was not measured at this time.

mod results;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::Tensor;
use latflow_fermion::ConjugateGradient;
use latflow_lattice::{Configuration, Rng, Streams};
use latflow_sampler::{StepInfo, StepTuner};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use crate::config::{self, Config, FermionTreatment};
use crate::correlators::{CORRELATORS_EVERY, CorrelatorColumns};
use crate::io::Snapshot;
use crate::results::reported_name;
use crate::run::{CONFIGURATIONS, RunDirectory, Step, Task};
use crate::theory::{FieldTheory, Update};

/// Measurements of the force norms in a run.
const FORCE_MEASUREMENTS: u64 = 8;
/// Acceptance, ⟨e^{−ΔH}⟩ and iterations.
const LEADING: usize = 3;

/// A theory of any field with its chains.
pub(super) struct HmcTask<T: FieldTheory + ?Sized> {
    config: config::Hmc,
    theory: Box<T>,
    solver: ConjugateGradient,
    update: Box<dyn Update<T::Field>>,
    x: T::Field,
    state: State,
    /// Where configurations go.
    saved: PathBuf,
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
    /// Sums of the leading columns since the last row, and over how many trajectories.
    sums: [f64; LEADING],
    summed: u64,
}

impl<T: FieldTheory + ?Sized> HmcTask<T> {
    /// # Errors
    /// When the configuration asks for a kernel that does not exist.
    pub(super) fn new(run: &RunDirectory, theory: Box<T>) -> Result<Self> {
        let (Config { seed, .. }, hmc) = (run.config(), run.config().hmc.clone());
        let update = theory.update(&hmc)?;
        let streams = Streams::new(*seed);
        let x = theory.start(hmc.start, hmc.chains, &mut streams.stream("hmc/start", 0))?;
        let state = State {
            done: 0,
            trajectories: streams.stream("hmc/trajectories", 0),
            forces: streams.stream("hmc/force_norms", 0),
            log_steps: StepTuner::new(hmc.target_acceptance, hmc.steps).log_steps,
            tuner_updates: 0,
            late_log_steps: 0.0,
            sums: [0.0; LEADING],
            summed: 0,
        };
        let (solver, saved) = (hmc.solver(), run.path(CONFIGURATIONS));
        Ok(Self { config: hmc, theory, solver, update, x, state, saved })
    }

    fn tuning(&self) -> bool {
        self.config.target_acceptance > 0.0
    }

    fn tuner(&self) -> StepTuner {
        let State { log_steps, tuner_updates, .. } = self.state;
        StepTuner { target: self.config.target_acceptance, log_steps, updates: tuner_updates }
    }

    /// Molecular dynamics takes as many steps as the tuner says.
    fn set_steps(&mut self) {
        let steps = self.tuner().steps();
        if let (true, Some(dynamics)) = (self.tuning(), self.update.dynamics()) {
            dynamics.set_steps(steps);
        }
    }

    /// Measurement number k, if one falls on the trajectory just done.
    fn measurement(&self) -> Option<u64> {
        let measured = self.state.done.checked_sub(self.config.thermalization).filter(|n| *n > 0)?;
        measured.is_multiple_of(self.config.measure_every).then(|| measured / self.config.measure_every - 1)
    }

    fn correlators(&self) -> CorrelatorColumns {
        CorrelatorColumns::new(self.theory.as_ref(), self.config.chains)
    }

    fn row(&mut self, k: u64) -> Result<Vec<f64>> {
        let n = self.state.summed as f64;
        let mut row: Vec<f64> = self.state.sums.iter().map(|sum| sum / n).collect();
        (self.state.sums, self.state.summed) = ([0.0; LEADING], 0);
        row.extend(self.theory.observe(&self.x, k)?.iter().flatten());
        let correlators = self.correlators();
        let interval = CORRELATORS_EVERY.div_ceil(self.config.measure_every);
        row.extend(if k.is_multiple_of(interval) {
            correlators.measure(self.theory.as_ref(), &self.x)?
        } else {
            correlators.absent()
        });
        let measurements = self.config.trajectories / self.config.measure_every;
        if self.config.fermions != FermionTreatment::None
            && k.is_multiple_of(measurements.div_ceil(FORCE_MEASUREMENTS))
        {
            row.extend(self.theory.force_norms(&self.x, self.solver, &mut self.state.forces)?);
        } else {
            row.extend(self.theory.force_names().iter().map(|_| f64::NAN));
        }
        Ok(row)
    }

    /// One trajectory of all chains.
    fn trajectory(&mut self) -> Result<StepInfo> {
        match self.update.step(self.x.clone(), &mut self.state.trajectories) {
            Ok((x, info)) => {
                self.x = x.detach();
                Ok(info)
            }
            // Molecular dynamics alone: a configuration that is drawn afresh must not be replaced by the one before.
            Err(error) if solver_failed(&error) && self.update.dynamics().is_some() => {
                let chains = self.config.chains;
                let log_ratio = vec![f64::NEG_INFINITY; chains];
                Ok(StepInfo { accepted: vec![false; chains], log_ratio, nonfinite: chains })
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Lets the tuner see a trajectory of the thermalization; at the end of it the mean of its second half is kept.
    fn tune(&mut self, acceptance: f64) {
        let mut tuner = self.tuner();
        tuner.observe(acceptance);
        (self.state.log_steps, self.state.tuner_updates) = (tuner.log_steps, tuner.updates);
        let early = self.config.thermalization / 2;
        if self.state.done > early {
            self.state.late_log_steps += tuner.log_steps;
        }
        if self.state.done == self.config.thermalization {
            self.state.log_steps = self.state.late_log_steps / (self.config.thermalization - early) as f64;
        }
    }
}

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

fn tensor_name(index: usize) -> String {
    format!("field_{index}")
}

/// The tensors of a field, by name.
fn tensors<X: Configuration>(x: &X) -> Result<BTreeMap<String, Tensor>> {
    let mut found = BTreeMap::new();
    x.map(&mut |tensor| {
        found.insert(tensor_name(found.len()), tensor.clone());
        Ok(tensor.clone())
    })?;
    Ok(found)
}

/// The field like `x` of these tensors.
fn field<X: Configuration>(x: &X, tensors: &BTreeMap<String, Tensor>) -> Result<X> {
    for (name, present) in self::tensors(x)? {
        let found = tensors.get(&name).with_context(|| format!("the checkpoint has no `{name}`"))?;
        let (expected, found) = (present.dims(), found.dims());
        anyhow::ensure!(expected == found, "{name}: expected {expected:?}, got {found:?}");
    }
    let mut index = 0;
    Ok(x.map(&mut |present| {
        index += 1;
        Ok(tensors[&tensor_name(index - 1)].to_device(present.device())?)
    })?)
}

impl<T: FieldTheory + ?Sized> Task for HmcTask<T> {
    type State = State;

    fn name(&self) -> String {
        self.theory.scheme().into()
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
        self.set_steps();
        let info = self.trajectory()?;
        self.state.done += 1;
        let acceptance = info.acceptance_probability();
        if thermalizing && self.tuning() {
            self.tune(acceptance);
        }

        let iterations = self.update.iterations();
        let finite: Vec<f64> = info.log_ratio.iter().copied().filter(|ratio| ratio.is_finite()).collect();
        let energy = finite.iter().map(|ratio| -ratio).sum::<f64>() / finite.len() as f64;
        let exponential = info.log_ratio.iter().map(|r| if r.is_nan() { 0.0 } else { r.exp() }).sum::<f64>();
        let leading = [acceptance, exponential / info.log_ratio.len() as f64, iterations.unwrap_or(0.0)];
        if !thermalizing {
            self.state.sums.iter_mut().zip(leading).for_each(|(sum, x)| *sum += x);
            self.state.summed += 1;
        }
        let mut rows = Vec::new();
        let mut metrics = Map::new();
        metrics.insert("phase".into(), json!(if thermalizing { "thermalization" } else { "measurement" }));
        let mut status = Vec::new();
        if let Some(dynamics) = self.update.dynamics() {
            metrics.insert("acceptance".into(), json!(info.acceptance()));
            metrics.insert("acceptance_probability".into(), json!(acceptance));
            metrics.insert("delta_h".into(), json!(energy));
            metrics.insert("nonfinite".into(), json!(info.nonfinite));
            metrics.insert("integrator_steps".into(), json!(dynamics.steps()));
            status.push(format!("acceptance {acceptance:.2} steps {}", dynamics.steps()));
        }
        if let Some(iterations) = iterations {
            metrics.insert("solver_iterations".into(), json!(iterations));
            status.push(format!("iterations {iterations:.1}"));
        }
        if let Some(k) = self.measurement() {
            let row = self.row(k)?;
            let observables = self.theory.observables();
            let chains = row[LEADING..LEADING + observables.len() * self.config.chains].iter();
            let first = chains.step_by(observables.len());
            let (name, absolute) = reported_name(&observables[0].name);
            let mean = first.map(|x| if absolute { x.abs() } else { *x }).sum::<f64>();
            metrics.insert(name, json!(mean / self.config.chains as f64));
            rows.push(row);
            if self.config.save_every > 0 && k.is_multiple_of(self.config.save_every) {
                self.theory.save(&self.x, &self.saved, self.state.done)?;
            }
        }
        Ok(Step { metrics: Some(metrics), rows, status: status.join(" ") })
    }

    fn snapshot(&self) -> Result<Snapshot<State>> {
        Ok(Snapshot { tensors: tensors(&self.x)?, state: self.state.clone() })
    }

    fn restore(&mut self, step: u64, snapshot: Snapshot<State>) -> Result<()> {
        let found = snapshot.state.done;
        anyhow::ensure!(found == step, "checkpoint of step {step} says {found}");
        self.x = field(&self.x, &snapshot.tensors)?;
        self.state = snapshot.state;
        self.set_steps();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::{field, tensors};

    #[test]
    fn a_field_of_several_tensors_comes_back() {
        let tensor = |x: f64| Tensor::full(x, (2, 3), &Device::Cpu).unwrap();
        let (present, stored) = ((tensor(0.0), tensor(0.0)), (tensor(1.0), tensor(2.0)));
        let found = field(&present, &tensors(&stored).unwrap()).unwrap();
        let number = |x: &Tensor| x.to_vec2::<f64>().unwrap()[1][2];
        assert_eq!((number(&found.0), number(&found.1)), (1.0, 2.0));
        let other = (tensor(0.0), Tensor::full(0.0, (2, 4), &Device::Cpu).unwrap());
        let error = field(&other, &tensors(&stored).unwrap()).unwrap_err().to_string();
        assert!(error.contains("field_1: expected [2, 4], got [2, 3]"), "{error}");
    }
}
