//! What the series of a chain says: means, autocorrelation, correlators, forces; reweighted means where its configurations
//! were drawn from another density.
//!
//! ```text
//! ⟨O⟩ = ⟨w O⟩' / ⟨w⟩'        error: jackknife of the ratio with the blocks of both series
//! ```

use std::collections::BTreeMap;

use anyhow::Result;
use latflow_observable::{Chains, LogWeights, default_bin, jackknife};
use serde_json::{Map, Value, json};

use super::{HmcTask, LEADING};
use crate::io::Series;
use crate::results::{Analysis, LOG_WEIGHT, Measured, RunResult, draws_of};
use crate::run::{RunDirectory, Task};
use crate::scheme::Report;
use crate::scheme::series::observe_all;
use crate::session::note;
use crate::theory::FieldTheory;

/// Effective number of configurations below which their scatter says nothing about the error of a reweighted mean.
const FEWEST: f64 = 10.0;

/// Chains of one observable, before they are checked.
type Raw = Vec<Vec<f64>>;

impl<T: FieldTheory + ?Sized> HmcTask<T> {
    /// Observable `index` at the times at which observable `at` is measured.
    fn series(&self, rows: &[Vec<f64>], index: usize, at: usize) -> Raw {
        let (observables, chains) = (self.theory.observables(), self.config.chains);
        let due: Vec<&Vec<f64>> =
            (0..).zip(rows).filter(|(k, _)| observables[at].due(*k)).map(|(_, row)| row).collect();
        let column = |chain: usize| LEADING + chain * observables.len() + index;
        (0..chains).map(|chain| due.iter().map(|row| row[column(chain)]).collect()).collect()
    }

    /// Puts reweighted means in the place of plain ones, which go to the details. The effective sample size and the acceptance
    /// that independence Metropolis would have.
    fn reweight(
        &self,
        rows: &[Vec<f64>],
        weight: usize,
        observables: &mut BTreeMap<String, Measured>,
        analysis: &mut Analysis,
    ) -> Result<(f64, Option<f64>)> {
        let mut plain = Map::new();
        for (index, measurand) in self.theory.observables().iter().enumerate() {
            let name = &measurand.name;
            if index == weight || name == LOG_WEIGHT || draws_of(name).is_some() {
                observables.remove(name);
                continue;
            }
            let log_weights = self.series(rows, weight, index);
            let all = log_weights.concat();
            let effective = LogWeights::new(&all)?.ess() * all.len() as f64;
            let weights = Chains::new(log_weights)?.relative_weights()?;
            let weighted = weights.times(&Chains::new(self.series(rows, index, index))?)?;
            let measured = observables.entry(name.clone()).and_modify(|measured| {
                plain.insert(name.clone(), json!([measured.mean, measured.error]));
                measured.mean = weighted.mean() / weights.mean();
            });
            let pair = [&weighted, &weights];
            let error = default_bin(&pair).and_then(|bin| jackknife(&pair, bin, |means| means[0] / means[1]));
            let error = error.map(|found| found.estimate.error);
            if let Err(error) = &error {
                note(&format!("warning: {name}: no error of the reweighted mean: {error}"));
            } else if effective < FEWEST {
                note(&format!(
                    "warning: {name}: no error of the reweighted mean: {effective:.1} configurations carry all the weight"
                ));
            }
            measured.and_modify(|measured| measured.error = error.ok().filter(|_| effective >= FEWEST));
        }
        analysis.details.insert("unweighted".into(), plain.into());
        let all: Vec<f64> = self.series(rows, weight, weight).concat();
        if let Err(error) = analysis.add_weights(&all, self.theory.lattice().volume()) {
            note(&format!("warning: log Z and the variance of the weights are unknown: {error:#}"));
        }
        let weights = LogWeights::new(&all)?;
        Ok((weights.ess(), weights.acceptance().ok().map(|acceptance| acceptance.value)))
    }

    /// The same configurations with other weights of pseudofermions than those of `exact`, which come first: effective size,
    /// acceptance and reweighted means.
    fn drawn(&self, rows: &[Vec<f64>], exact: &RunResult, analysis: &mut Analysis) -> Result<()> {
        for (weight, measurand) in self.theory.observables().iter().enumerate() {
            let draws = draws_of(&measurand.name);
            if draws.is_none() || draws == exact.draws {
                continue;
            }
            let mut observables = exact.observables.clone();
            let mut rest = Analysis::default();
            let (ess, acceptance) = self.reweight(rows, weight, &mut observables, &mut rest)?;
            analysis.others.push(RunResult {
                acceptance,
                ess: Some(ess),
                draws,
                observables,
                ..exact.clone()
            });
        }
        Ok(())
    }

    /// The columns that belong to all chains, and what they cost.
    fn details(
        &mut self,
        rows: &[Vec<f64>],
        seconds: f64,
        tau_int: Option<f64>,
        analysis: &mut Analysis,
    ) -> Result<Option<f64>> {
        let column = |index: usize| Chains::new(vec![rows.iter().map(|row| row[index]).collect()]);
        let mut acceptance = None;
        let details = &mut analysis.details;
        if let Some(dynamics) = self.update.dynamics() {
            acceptance = Some(column(0)?.mean());
            // A trajectory that gained hundreds of units of energy makes the mean infinite: that is null, not a lost run.
            let exponential = column(1)
                .ok()
                .and_then(|column| jackknife(&[&column], (rows.len() / 20).max(1), |means| means[0]).ok());
            details.insert("integrator_steps".into(), json!(dynamics.steps()));
            details.insert("force_evaluations".into(), json!(dynamics.forces()));
            details.insert("trajectory_length".into(), json!(self.config.trajectory_length));
            let exponential = exponential.map(|e| [e.estimate.value, e.estimate.error]);
            details.insert("exp_minus_delta_h".into(), json!(exponential));
            details.insert("fermions".into(), json!(self.config.fermions));
        }
        if self.update.iterations().is_some() {
            details.insert("solver_iterations".into(), json!(column(2)?.mean()));
        }
        let chains = self.config.chains as u64;
        let trajectories = (self.config.trajectories * chains) as f64;
        let measuring = seconds * self.config.trajectories as f64 / self.total() as f64;
        details.insert("seconds_per_trajectory".into(), json!(measuring / trajectories));
        let independent = tau_int.map(|tau| 2.0 * tau * measuring / trajectories);
        details.insert("seconds_per_independent_configuration".into(), json!(independent));
        Ok(acceptance)
    }
}

impl<T: FieldTheory + ?Sized> Report for HmcTask<T> {
    fn results(&mut self, run: &RunDirectory, seconds: f64) -> Result<(RunResult, Analysis)> {
        let (correlators, forces) = (self.correlators(), self.theory.force_names());
        let observed = LEADING + self.theory.observables().len() * self.config.chains;
        let first_force = observed + correlators.width();
        let rows = Series::read_rows(&run.series(), first_force + forces.len())?;
        let mut analysis = Analysis::default();
        let interval = self.config.measure_every as f64;
        let series = |index: usize| self.series(&rows, index, index);
        let mut measured = observe_all(run, self.theory.observables(), series, interval, &mut analysis)?;
        correlators.analyse(run, &rows, observed, &mut analysis)?;
        let norms: Vec<&[f64]> = rows
            .iter()
            .map(|row| &row[first_force..])
            .filter(|row| row.first().is_some_and(|x| !x.is_nan()))
            .collect();
        let norm = |index: usize| norms.iter().map(|row| row[index]).sum::<f64>();
        for (index, name) in forces.iter().enumerate().skip(1).filter(|_| !norms.is_empty()) {
            analysis.force_ratios.insert((*name).to_owned(), norm(index) / norm(0));
        }
        let every = self.theory.observables().iter().map(|m| (m.name.clone(), json!(m.every)));
        analysis.details.insert("measured_every".into(), every.collect::<Map<_, _>>().into());
        let mut acceptance = self.details(&rows, seconds, measured.tau_int, &mut analysis)?;
        let (mut ess, mut draws) = (None, None);
        if let Some(weight) = self.theory.log_weight() {
            let (size, accepted) = self.reweight(&rows, weight, &mut measured.observables, &mut analysis)?;
            (ess, acceptance, draws) = (Some(size), accepted, Some(self.theory.draws()));
        }
        let details = self.theory.details();
        let samples = details.get("training_samples").or_else(|| details.get("fit_samples"));
        let training_samples = samples.and_then(Value::as_u64).unwrap_or(0);
        let model = details.get("model").and_then(Value::as_str).map(str::to_owned);
        analysis.details.extend(details);
        let result = RunResult {
            scheme: self.theory.scheme().into(),
            theory: self.theory.name().into(),
            model,
            parameters: self.theory.parameters(),
            acceptance,
            ess,
            draws,
            seconds,
            training_samples,
            observables: measured.observables,
        };
        self.drawn(&rows, &result, &mut analysis)?;
        Ok((result, analysis))
    }
}
