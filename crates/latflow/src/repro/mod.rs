//! `latflow repro-yukawa` and `latflow repro-qcd`: every ensemble of a reproduction, one run directory each, and one report.
//!
//! ```text
//! OUT/repro.json                    what was asked for
//! OUT/g0.1/hmc                      hybrid Monte Carlo
//! OUT/g0.1/ours/marginal/train      only where weights are trained rather than shipped
//! OUT/g0.1/ours/marginal/sample     …/gibbs, …/paper/marginal, …
//! OUT/hmc  OUT/reweighting  OUT/spectral/sample  …   of QCD
//! OUT/results.json  OUT/report.md  OUT/report.html  OUT/figures
//! ```

mod plan;
mod qcd;
mod samplers;
mod shipped;
mod spectral;
mod stages;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use crate::paper::PUBLISHED;
use crate::report::{self, Coupling, Flow};
use crate::run::{MODEL, START};
use crate::scheme::{Scheme, trained_model};
use plan::Plan;
pub(crate) use plan::Repro;
pub(crate) use qcd::{ReproQcd, repro_qcd};
use samplers::{SAMPLERS, Sampler};
use stages::{Files, Place, Stages};

/// Runs all stages that are not finished yet and writes the report.
///
/// # Errors
/// When a stage fails; what is finished stays.
pub(crate) fn repro_yukawa(arguments: &Repro) -> Result<ExitCode> {
    let plan = arguments.plan();
    let default = || PathBuf::from("runs").join(format!("repro-yukawa-{}", plan.scale.name()));
    let place = Place {
        command: "repro-yukawa",
        resume: arguments.resume.as_deref(),
        out: arguments.out.clone().unwrap_or_else(default),
        force: arguments.force,
        device: &plan.device.clone(),
    };
    let (stages, plan) = Stages::open(place, plan)?;
    let work = Work { stages: &stages, plan: &plan };
    let mut couplings = Vec::new();
    for published in PUBLISHED.iter().filter(|published| plan.coupling.includes(published.coupling)) {
        let coupling = published.coupling;
        let config = samplers::hmc(&plan, coupling)?;
        let dims = config.lattice.dims.clone();
        let mut hmc = None;
        if plan.scheme.hmc() {
            let folder = Path::new(&folder(coupling)).join("hmc");
            let Some(finished) = stages.run(Scheme::Hmc, &folder, config, Files::new())? else {
                return Ok(stages.interrupted());
            };
            hmc = Some(finished);
        }
        let mut flows = Vec::new();
        for sampler in SAMPLERS.iter().filter(|sampler| plan.includes(sampler)) {
            let Some(flow) = work.sampler(sampler, coupling)? else { return Ok(stages.interrupted()) };
            flows.push(flow);
        }
        couplings.push(Coupling { published, dims, hmc, flows });
    }
    let tables = report::write(stages.root(), &plan.flags(), &couplings)?;
    let finished = couplings.iter().flat_map(|c| c.hmc.iter().chain(c.flows.iter().map(|flow| &flow.sample)));
    stages.conclude(finished, &tables)
}

fn folder(coupling: &str) -> String {
    format!("g{coupling}")
}

/// What every ensemble of the Yukawa theory needs.
struct Work<'a> {
    stages: &'a Stages,
    plan: &'a Plan,
}

impl Work<'_> {
    /// One ensemble: its training, unless there are weights for it, then its chains. `None` when someone interrupted.
    fn sampler(&self, sampler: &Sampler, coupling: &str) -> Result<Option<Flow>> {
        let Some(weights) = self.weights(sampler.trained_as(), coupling)? else { return Ok(None) };
        let (folder, config) =
            (sampler.folder(coupling).join("sample"), sampler.sampling(self.plan, coupling)?);
        let sample = self.stages.run(Scheme::Sample, &folder, config, vec![(MODEL, weights)])?;
        let Sampler { models, label, in_figures, .. } = *sampler;
        Ok(sample.map(|sample| Flow { models, label, in_figures, sample }))
    }

    /// The weights of an ensemble: those that come with the program, or trained here. `None` when someone interrupted.
    fn weights(&self, sampler: &Sampler, coupling: &str) -> Result<Option<Vec<u8>>> {
        let config = sampler.training(self.plan, coupling)?;
        if let Some(bytes) = sampler.weights(self.plan, &config, coupling)? {
            return Ok(Some(bytes));
        }
        let mut files = Files::new();
        if let Some(first) = sampler.starts_from() {
            let Some(weights) = self.weights(first, coupling)? else { return Ok(None) };
            files.push((START, weights));
        }
        let folder = sampler.folder(coupling).join("train");
        if self.stages.run(Scheme::Train, &folder, config.clone(), files)?.is_none() {
            return Ok(None);
        }
        let (_, bytes) = trained_model(&self.stages.root().join(folder), &config)?;
        Ok(Some(bytes))
    }
}
