//! Hybrid Monte Carlo of the links V that a flow carries to those of the theory, U = f(V) (Lüscher 2009).
//!
//! ```text
//! S̃(V, ϕ) = S(f(V), ϕ) − log |det ∂f/∂V|           ϕ from the heat bath at f(V)
//! ```
//!
//! Chains and checkpoints hold V; everything is measured on U. Where f is a stack of couplings its Jacobian is exact, where
//! it is the solution of a differential equation both are as exact as `flow.tolerance`.

use std::path::Path;

use anyhow::{Result, bail};
use candle_core::Device;
use latflow_action::{Action, DeterminantAction, Exact, Pseudofermion, Sum};
use latflow_fermion::{DenseWilson, EvenOddWilson};
use latflow_flow::Bijection;
use latflow_lattice::{Configuration, Lattice, Links, Rng};
use latflow_sampler::PulledBack;
use serde_json::{Map, Value};

use super::gauge_flow::GaugeFlow;
use super::qcd::Qcd;
use super::update::{MolecularDynamics, Target, Update};
use super::{FieldTheory, GaugeTheory, Measurand};
use crate::config::{self, Config, FermionTreatment, Start};
use crate::model::{Shared, Trained};

/// The theory as a theory of V.
pub(crate) struct Transformed {
    qcd: Qcd,
    flow: Shared<Links>,
    report: Map<String, Value>,
}

impl<F: Bijection<Links> + Clone, T: Target<Links>> Target<Links> for PulledBack<F, T> {
    fn mean_iterations(&self) -> Option<f64> {
        self.target.mean_iterations()
    }
}

impl Transformed {
    /// Fits the flow of a configuration, or takes that of the weights.
    ///
    /// # Errors
    /// When there is none, or the fit fails.
    pub(crate) fn new(qcd: Qcd, config: &Config, weights: Option<&Trained>, device: &Device) -> Result<Self> {
        let (qcd, flow, report) = GaugeFlow::new(qcd, config, weights, device)?.into_map()?;
        Ok(Self { qcd, flow, report })
    }

    fn field(&self, v: &Links) -> Result<Links> {
        Ok(self.flow.forward(v, &())?.0.detach())
    }

    fn dynamics<T>(
        &self,
        hmc: &config::Hmc,
        fresh: impl Fn() -> T + 'static,
    ) -> Result<Box<dyn Update<Links>>>
    where
        T: Target<Links> + 'static,
        T::Conditional: Action<Links> + 'static,
    {
        let flow = self.flow.clone();
        let fresh = move || PulledBack { flow: flow.clone(), target: fresh() };
        Ok(Box::new(MolecularDynamics::new(hmc, fresh)?))
    }
}

impl FieldTheory for Transformed {
    type Field = Links;

    fn name(&self) -> &'static str {
        self.qcd.name()
    }

    fn parameters(&self) -> Map<String, Value> {
        self.qcd.parameters()
    }

    fn lattice(&self) -> &Lattice {
        self.qcd.lattice()
    }

    fn scheme(&self) -> &'static str {
        "transformed_hmc"
    }

    fn start(&self, start: Start, chains: usize, rng: &mut Rng) -> Result<Links> {
        self.qcd.start(start, chains, rng)
    }

    fn update(&self, hmc: &config::Hmc) -> Result<Box<dyn Update<Links>>> {
        let gauge = self.qcd.gauge();
        let Some(quarks) = self.qcd.sea() else {
            return self.dynamics(hmc, move || Exact(gauge.clone()));
        };
        match hmc.fermions {
            FermionTreatment::Determinant => {
                let exact = Exact(Sum(gauge, DeterminantAction(DenseWilson::new(quarks))));
                self.dynamics(hmc, move || exact.clone())
            }
            FermionTreatment::Pseudofermion => {
                let (dirac, solver) = (EvenOddWilson::new(quarks), hmc.solver());
                self.dynamics(hmc, move || Pseudofermion::new(gauge.clone(), dirac.clone(), solver))
            }
            FermionTreatment::None => bail!("hmc.fermions = none leaves out the flavours of action.qcd.n_f"),
        }
    }

    fn observables(&self) -> &[Measurand] {
        self.qcd.observables()
    }

    fn observe(&self, v: &Links, k: u64) -> Result<Vec<Vec<f64>>> {
        self.qcd.observe(&self.field(v)?, k)
    }

    fn details(&self) -> Map<String, Value> {
        self.report.clone()
    }

    fn save(&self, v: &Links, folder: &Path, step: u64) -> Result<()> {
        self.qcd.save(&self.field(v)?, folder, step)
    }
}

impl GaugeTheory for Transformed {
    fn measure(&self, links: &Links) -> Result<Map<String, Value>> {
        self.qcd.measure(links)
    }
}
