//! Chains that move step by step with a model: the Gibbs sampler and the samplers of the prior's space.
//!
//! Each row of the series is one measured step: for every chain the logarithm of the acceptance ratio, the observables of its
//! present field and whether it moved in this step, then the correlators, NaN where they were not measured. Their proposals
//! depend on the chain, so that there is nothing to reweight.

use anyhow::{Context, Result, bail};
use candle_core::{DType, Tensor};
use latflow_flow::Sample;
use latflow_lattice::{Rng, normal_tensor};
use latflow_sampler::{GibbsFlow, Hmc, Integrator, LatentState, MarkovKernel, PriorRefreshment, PulledBack};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::series::{Columns, observe_all};
use super::walk::{Walk, Walker};
use super::{Report, sampling_scheme, streams};
use crate::config::{Config, FermionTreatment, Method};
use crate::correlators::CORRELATORS_EVERY;
use crate::io::{Series, Snapshot};
use crate::model::{Densities, MarginalDensity, Model, Shared, Site};
use crate::results::{Analysis, RunResult};
use crate::run::{MODEL, RunDirectory, Step, Task};
use crate::session;
use crate::theory::{HmcTarget, ScalarTheory, theory};

/// Width of the Gibbs sampler's random start.
const START: f64 = 0.3;

pub(super) struct ChainTask {
    config: Config,
    theory: Box<dyn ScalarTheory>,
    walk: Box<dyn Walk>,
    model: String,
    training_samples: u64,
    state: State,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    done: u64,
    rng: Rng,
    /// Of each chain's present field; empty before the first measurement.
    observables: Vec<Vec<f64>>,
    /// Whether it has moved since.
    moved: Vec<bool>,
}

impl ChainTask {
    /// # Errors
    /// When the model does not fit its weights or the method.
    pub(super) fn new(run: &RunDirectory) -> Result<Self> {
        let config = run.config().clone();
        let device = session::device(&config.device)?;
        let theory = theory(&config, &device)?;
        let joint = theory.joint(config.sample.solver());
        let site = Site { config: &config, theory: &*theory, joint: &joint, device: &device };
        let (model, training_samples) = site.trained_model(&run.path(MODEL))?;
        let name = model.name.clone();
        let walk = walk(&site, model)?;
        let chains = config.sample.chains;
        let state = State {
            done: 0,
            rng: streams(&config).stream("sample/steps", 0),
            observables: Vec::new(),
            moved: vec![true; chains],
        };
        Ok(Self { config, theory, walk, model: name, training_samples, state })
    }

    fn columns(&self) -> Columns {
        Columns::new(&*self.theory, self.config.sample.chains)
    }

    /// Measures the chains that have moved.
    fn measure(&mut self, phi: &Tensor) -> Result<()> {
        let state = &mut self.state;
        state.observables.resize(state.moved.len(), Vec::new());
        let moved: Vec<u32> = (0u32..).zip(&state.moved).filter(|(_, m)| **m).map(|(c, _)| c).collect();
        if !moved.is_empty() {
            let rows = Tensor::from_slice(&moved, moved.len(), phi.device())?;
            let evaluation = self.theory.evaluate(&phi.index_select(&rows, 0)?)?;
            for (chain, observables) in moved.iter().zip(evaluation.observables) {
                state.observables[*chain as usize] = observables;
            }
        }
        state.moved.fill(false);
        Ok(())
    }
}

/// The kernel that a configuration asks for, at its start.
fn walk(site: &Site<'_>, model: Model) -> Result<Box<dyn Walk>> {
    let sample = &site.config.sample;
    let mut rng = streams(site.config).stream("sample/start", 0);
    match (model.densities, sample.method) {
        (Densities::Gibbs(gibbs), Method::Independence) => {
            let shape = [sample.chains, site.theory.lattice().volume()];
            let phi = normal_tensor(&mut rng, START, &shape, DType::F64, site.device)?;
            let kernel: GibbsFlow<_, _> = GibbsFlow::new(gibbs.density, site.joint.clone());
            Ok(Box::new(Walker::new(kernel, phi, Box::new(|_, phi| Ok(phi.clone())))))
        }
        (Densities::Marginal(marginal), Method::PriorRefreshment) => {
            let phi: Tensor = marginal.density.sample(sample.chains, &(), &mut rng)?;
            let kernel = PriorRefreshment::new(marginal.density, site.theory.action(), sample.angle)?;
            let start = kernel.init(phi.detach(), &mut rng)?;
            Ok(Box::new(Walker::new(kernel, start, Box::new(|_, s: &LatentState<Tensor>| Ok(s.x.clone())))))
        }
        (Densities::Marginal(marginal), Method::PriorHmc) => {
            prior_dynamics(site, marginal, &mut rng, |target, unit| {
                let length = sample.trajectory_length * unit;
                Hmc::new(target, Integrator::Omelyan, length, sample.integrator_steps)
            })
        }
        (Densities::Marginal(marginal), Method::PriorLangevin) => {
            prior_dynamics(site, marginal, &mut rng, |target, unit| {
                Hmc::langevin(target, sample.step_size * unit)
            })
        }
        _ => bail!("sample.method is no way to sample with this model.scheme"),
    }
}

type PriorTarget = PulledBack<Shared<Tensor>, HmcTarget>;

/// Dynamics of z; `make` gets the theory of z and the prior's standard deviation, the unit of its steps.
fn prior_dynamics(
    site: &Site<'_>,
    marginal: MarginalDensity,
    rng: &mut Rng,
    make: impl FnOnce(PriorTarget, f64) -> latflow_sampler::Result<Hmc<PriorTarget, Tensor>>,
) -> Result<Box<dyn Walk>> {
    let sample = &site.config.sample;
    let density = marginal.density;
    let target = PulledBack {
        flow: density.flow,
        target: site.theory.hmc_target(FermionTreatment::Determinant, sample.solver()),
    };
    let kernel = make(target, density.prior.sigma() * std::f64::consts::FRAC_1_SQRT_2)?;
    let z: Tensor = density.prior.sample(sample.chains, &(), rng)?;
    Ok(Box::new(Walker::new(
        kernel,
        z,
        Box::new(|kernel: &Hmc<PriorTarget, Tensor>, z| Ok(kernel.target.field(z)?)),
    )))
}

impl Task for ChainTask {
    type State = State;

    fn name(&self) -> String {
        sampling_scheme(&self.config).into()
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
        let info = self.walk.step(&mut self.state.rng)?;
        self.state.done += 1;
        for (moved, accepted) in self.state.moved.iter_mut().zip(&info.accepted) {
            *moved |= accepted;
        }
        let sample = &self.config.sample;
        let every = sample.measure_every;
        let mut rows = Vec::new();
        if let Some(step) = self.state.done.checked_sub(sample.thermalization + 1)
            && (step + 1).is_multiple_of(every)
        {
            let columns = self.columns();
            let phi = self.walk.field()?;
            self.measure(&phi)?;
            let mut row = columns.row(&info.log_ratio, &self.state.observables, &info.accepted);
            row.extend(if ((step + 1) / every - 1).is_multiple_of(CORRELATORS_EVERY.div_ceil(every)) {
                columns.correlators.measure(&*self.theory, &phi)?
            } else {
                columns.correlators.absent()
            });
            rows.push(row);
        }
        let mut metrics = Map::new();
        metrics.insert("acceptance".into(), json!(info.acceptance()));
        metrics.insert("acceptance_probability".into(), json!(info.acceptance_probability()));
        metrics.insert("nonfinite".into(), json!(info.nonfinite));
        let status = format!("acceptance {:.2}", info.acceptance_probability());
        Ok(Step { metrics: Some(metrics), rows, status })
    }

    fn snapshot(&self) -> Result<Snapshot<State>> {
        Ok(Snapshot { tensors: self.walk.save()?, state: self.state.clone() })
    }

    fn restore(&mut self, step: u64, snapshot: Snapshot<State>) -> Result<()> {
        let found = snapshot.state.done;
        anyhow::ensure!(found == step, "checkpoint of step {step} says {found}");
        self.walk.restore(&snapshot.tensors)?;
        self.state = snapshot.state;
        Ok(())
    }
}

impl Report for ChainTask {
    fn results(&mut self, run: &RunDirectory, seconds: f64) -> Result<(RunResult, Analysis)> {
        let (sample, columns) = (&self.config.sample, self.columns());
        let rows = Series::read_rows(&run.series(), columns.total())?;
        let mut analysis = Analysis::default();
        let series = |index: usize| {
            let chain = |c: usize| rows.iter().map(|row| columns.observable(row, c, index)).collect();
            (0..columns.chains).map(chain).collect()
        };
        let names = self.theory.observables();
        let interval = sample.measure_every as f64;
        let observed = observe_all(run, names, series, interval, &mut analysis)?;
        columns.correlators.analyse(run, &rows, columns.width * columns.chains, &mut analysis)?;
        let each = seconds / (sample.steps * columns.chains as u64) as f64;
        let details = &mut analysis.details;
        details.insert("seconds_per_proposal".into(), json!(each));
        let independent = observed.tau_int.map(|tau| 2.0 * tau * each);
        details.insert("seconds_per_independent_configuration".into(), json!(independent));
        match sample.method {
            Method::PriorRefreshment => details.insert("angle".into(), json!(sample.angle)),
            Method::PriorHmc => details.insert(
                "trajectory".into(),
                json!({ "length": sample.trajectory_length, "steps": sample.integrator_steps }),
            ),
            Method::PriorLangevin => details.insert("step_size".into(), json!(sample.step_size)),
            Method::Independence | Method::PseudoMarginal => None,
        };
        let acceptance = columns.acceptance(&rows).context("no step was measured")?;
        let result = RunResult {
            scheme: sampling_scheme(&self.config).into(),
            theory: self.theory.name().into(),
            model: Some(self.model.clone()),
            parameters: self.theory.parameters(),
            acceptance: Some(acceptance),
            ess: None,
            draws: None,
            seconds,
            training_samples: self.training_samples,
            observables: observed.observables,
        };
        Ok((result, analysis))
    }
}
