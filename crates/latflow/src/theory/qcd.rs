//! QCD: SU(3) links in four dimensions with the Wilson gauge action and two or no flavours of Wilson fermions.
//!
//! ```text
//! p(U) ∝ e^{−S_g(U)} |det D(U)|^{N_f}                        N_f = 0 or 2
//! heat bath with N_f = 2: configurations of e^{−S_g}, log w = 2 log |det D|
//! ```

use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use latflow_action::{DeterminantAction, Exact, Hasenbusch, HasenbuschPair, Pseudofermion, Sum, WilsonGauge};
use latflow_fermion::{BiCgStab, DenseWilson, Dirac, EvenOddWilson, Wilson};
use latflow_lattice::{Boundary, Configuration, Lattice, Links, Rng};
use latflow_observable::Observable;
use latflow_observable::gauge::{
    CloverCharge, PaperPlaquette, PionCorrelator, Plaquette, PolyakovLoop, WilsonFlow,
};
use latflow_sampler::GaugeHeatBath;
use serde_json::{Map, Value, json};

use super::update::{MolecularDynamics, Sweeps, Target, Update};
use super::{FieldTheory, GaugeTheory, Measurand};
use crate::config::{self, COLOURS, Config, DETERMINANT_SITES, FermionBoundary, FermionTreatment, Start};
use crate::io::create_folder;
use crate::io::gauge::{Extents, Format, GaugeField, Label, Precision, write_gauge};
use crate::results::LOG_WEIGHT;
use crate::session::note;

/// The theory on a lattice.
pub(crate) struct Qcd {
    action: config::Qcd,
    measure: config::Measure,
    method: config::Update,
    lattice: Lattice,
    gauge: WilsonGauge,
    /// Of the quarks in the sea, or of those that are measured; `None` where there are neither.
    quarks: Option<Wilson>,
    flow: WilsonFlow,
    observables: Vec<Measurand>,
    device: Device,
}

impl Qcd {
    /// The theory of a configuration on its lattice.
    ///
    /// # Errors
    /// When the operators do not exist at these parameters.
    pub(crate) fn new(
        lattice: &Lattice,
        action: &config::Qcd,
        config: &Config,
        device: &Device,
    ) -> Result<Self> {
        let boundary = match action.fermion_boundary {
            FermionBoundary::Antiperiodic => Boundary::Antiperiodic,
            FermionBoundary::Periodic => Boundary::Periodic,
        };
        let quarks = action.kappa.map(|kappa| Wilson::new(lattice, kappa, boundary)).transpose()?;
        let mut theory = Self {
            action: action.clone(),
            measure: config.measure.clone(),
            method: config.hmc.method,
            lattice: lattice.clone(),
            gauge: WilsonGauge::new(lattice, COLOURS, action.beta)?,
            quarks,
            flow: WilsonFlow::new(lattice)?.with_tolerance(config.measure.flow_tolerance)?,
            observables: Vec::new(),
            device: device.clone(),
        };
        theory.observables = theory.measurands();
        Ok(theory)
    }

    /// The quarks in the sea.
    pub(crate) fn sea(&self) -> Option<&Wilson> {
        self.quarks.as_ref().filter(|_| self.action.n_f > 0)
    }

    /// S_g.
    pub(crate) fn gauge(&self) -> WilsonGauge {
        self.gauge.clone()
    }

    /// The coupling β.
    pub(crate) fn beta(&self) -> f64 {
        self.action.beta
    }

    /// Whether chains are of the pure gauge theory and reweighted.
    fn reweighted(&self) -> bool {
        self.method == config::Update::HeatBath && self.action.n_f > 0
    }

    fn measurands(&self) -> Vec<Measurand> {
        let mut all: Vec<Measurand> =
            ["plaquette", "polyakov_loop_re", "polyakov_loop_im", "topological_charge"]
                .map(Measurand::always)
                .to_vec();
        let mut rare = |name: String, every: u64| all.push(Measurand { name, every });
        if self.measured_quarks().is_some() {
            let times = 0..self.lattice.time_extent();
            times.for_each(|t| rare(format!("pion_correlator_{t}"), self.measure.pion_every));
        }
        if self.measure.flow_every > 0 {
            for name in ["topological_charge_flowed", "topological_charge_flowed_squared"] {
                rare(name.into(), self.measure.flow_every);
            }
        }
        if self.reweighted() {
            rare(LOG_WEIGHT.into(), 1);
        }
        all
    }

    /// The quarks whose pion is measured along a chain.
    fn measured_quarks(&self) -> Option<&Wilson> {
        self.quarks.as_ref().filter(|_| self.measure.pion_every > 0)
    }

    fn extents(&self) -> Result<Extents> {
        self.lattice.dims().try_into().context("QCD has four directions")
    }

    fn pion(&self, quarks: &Wilson) -> PionCorrelator {
        let config::Measure { solver_tolerance: tolerance, solver_iterations: max_iterations, .. } =
            self.measure;
        PionCorrelator::new(quarks).with_solver(BiCgStab { tolerance, max_iterations })
    }

    /// Plaquette, Polyakov loop and charge, `[B]` each.
    fn loops(&self, links: &Links) -> Result<[Vec<f64>; 4]> {
        let polyakov = PolyakovLoop::new(&self.lattice).measure(links)?;
        let part = |part| -> Result<Vec<f64>> { Ok(polyakov.narrow(1, part, 1)?.squeeze(1)?.to_vec1()?) };
        let plaquette = Plaquette::new(&self.lattice)?.measure(links)?.to_vec1()?;
        Ok([plaquette, part(0)?, part(1)?, self.charge(links)?])
    }

    fn charge(&self, links: &Links) -> Result<Vec<f64>> {
        Ok(CloverCharge::new(&self.lattice)?.measure(links)?.to_vec1()?)
    }

    fn flowed_charge(&self, links: &Links) -> Result<Vec<f64>> {
        self.charge(&self.flow.flow(links, self.measure.flow_time)?)
    }

    /// Hybrid Monte Carlo with a target that is made anew for every trajectory.
    fn dynamics<T: Target<Links> + 'static>(
        hmc: &config::Hmc,
        fresh: impl Fn() -> T + 'static,
    ) -> Result<Box<dyn Update<Links>>>
    where
        T::Conditional: 'static,
    {
        Ok(Box::new(MolecularDynamics::new(hmc, fresh)?))
    }

    /// Hybrid Monte Carlo with pseudofermions of an operator of each hopping parameter.
    fn pseudofermions<D>(
        &self,
        hmc: &config::Hmc,
        quarks: &Wilson,
        operator: impl Fn(&Wilson) -> D,
    ) -> Result<Box<dyn Update<Links>>>
    where
        D: Dirac<Field = Links> + Clone + 'static,
    {
        let (bosonic, light, solver) = (self.gauge.clone(), operator(quarks), hmc.solver());
        match self.action.hasenbusch {
            Some(kappa) => {
                let fermions = HasenbuschPair::new(light, operator(&quarks.with_kappa(kappa)?), solver)?;
                Self::dynamics(hmc, move || Hasenbusch {
                    bosonic: bosonic.clone(),
                    fermions: fermions.clone(),
                })
            }
            None => Self::dynamics(hmc, move || Pseudofermion::new(bosonic.clone(), light.clone(), solver)),
        }
    }
}

impl FieldTheory for Qcd {
    type Field = Links;

    fn name(&self) -> &'static str {
        "qcd"
    }

    fn parameters(&self) -> Map<String, Value> {
        let parameters = json!({
            "dims": self.lattice.dims(),
            "beta": self.action.beta,
            "kappa": self.action.kappa,
            "n_f": self.action.n_f,
            "fermion_boundary": self.action.fermion_boundary,
        });
        parameters.as_object().cloned().unwrap_or_default()
    }

    fn lattice(&self) -> &Lattice {
        &self.lattice
    }

    fn scheme(&self) -> &'static str {
        match self.method {
            config::Update::Hmc => "hmc",
            config::Update::HeatBath if self.reweighted() => "reweighting",
            config::Update::HeatBath => "heat_bath",
            config::Update::Flow => "flow",
            config::Update::Transformed => "transformed_hmc",
        }
    }

    fn start(&self, start: Start, chains: usize, rng: &mut Rng) -> Result<Links> {
        Ok(match start {
            Start::Hot => Links::haar(&self.lattice, chains, COLOURS, rng, &self.device)?,
            Start::Cold => Links::unit(&self.lattice, chains, COLOURS, &self.device)?,
        })
    }

    fn update(&self, hmc: &config::Hmc) -> Result<Box<dyn Update<Links>>> {
        let gauge = self.gauge.clone();
        if hmc.method == config::Update::HeatBath {
            return Ok(Box::new(Sweeps(GaugeHeatBath::new(gauge, hmc.overrelaxation)?)));
        }
        let Some(quarks) = self.quarks.as_ref().filter(|_| self.action.n_f > 0) else {
            return Self::dynamics(hmc, move || Exact(gauge.clone()));
        };
        match hmc.fermions {
            FermionTreatment::Determinant => {
                let exact = Exact(Sum(gauge, DeterminantAction(DenseWilson::new(quarks))));
                Self::dynamics(hmc, move || exact.clone())
            }
            FermionTreatment::Pseudofermion if self.action.even_odd => {
                self.pseudofermions(hmc, quarks, EvenOddWilson::new)
            }
            FermionTreatment::Pseudofermion => self.pseudofermions(hmc, quarks, Wilson::clone),
            FermionTreatment::None => bail!("hmc.fermions = none leaves out the flavours of action.qcd.n_f"),
        }
    }

    fn observables(&self) -> &[Measurand] {
        &self.observables
    }

    fn observe(&self, links: &Links, k: u64) -> Result<Vec<Vec<f64>>> {
        let links = links.detach();
        let batch = links.batch()?;
        let mut columns = self.loops(&links)?.to_vec();
        let absent = vec![f64::NAN; batch];
        if let Some(quarks) = self.measured_quarks() {
            if k.is_multiple_of(self.measure.pion_every) {
                columns.extend(self.pion(quarks).measure(&links)?.t()?.to_vec2::<f64>()?);
            } else {
                columns.extend(vec![absent.clone(); self.lattice.time_extent()]);
            }
        }
        if self.measure.flow_every > 0 {
            let due = k.is_multiple_of(self.measure.flow_every);
            let charge = if due { self.flowed_charge(&links)? } else { absent };
            let square = charge.iter().map(|q| q * q).collect();
            columns.extend([charge, square]);
        }
        if let Some(quarks) = self.quarks.as_ref().filter(|_| self.reweighted()) {
            let log_det = DenseWilson::new(quarks).log_abs_det(&links)?.to_vec1::<f64>()?;
            columns.push(log_det.iter().map(|log_det| 2.0 * log_det).collect());
        }
        Ok((0..batch).map(|b| columns.iter().map(|column| column[b]).collect()).collect())
    }

    fn log_weight(&self) -> Option<usize> {
        self.reweighted().then(|| self.observables.len() - 1)
    }

    fn save(&self, links: &Links, folder: &Path, step: u64) -> Result<()> {
        create_folder(folder)?;
        for chain in 0..links.batch()? {
            let field = GaugeField::from_links(self.extents()?, links, chain)?;
            let (ensemble, file) = (format!("chain{chain}"), format!("chain{chain}_{step:06}.ildg"));
            let label = Label::new(&ensemble, step);
            write_gauge(&folder.join(file), &field, Format::Ildg, Precision::Double, &label)?;
        }
        Ok(())
    }
}

impl GaugeTheory for Qcd {
    fn measure(&self, links: &Links) -> Result<Map<String, Value>> {
        let [plaquette, re, im, charge] = self.loops(links)?;
        let mut values = Map::new();
        values.insert("plaquette".into(), json!(plaquette[0]));
        let paper = PaperPlaquette::new(&self.lattice)?.measure(links)?.to_vec1::<f64>()?;
        values.insert("plaquette_paper".into(), json!(paper[0]));
        values.insert("polyakov_loop".into(), json!([re[0], im[0]]));
        if let Some(quarks) = &self.quarks {
            if self.lattice.volume() <= DETERMINANT_SITES {
                let log_det = DenseWilson::new(quarks).log_abs_det(links)?.to_vec1::<f64>()?;
                values.insert("log_abs_det".into(), json!(log_det[0]));
            } else {
                note(
                    "warning: log_abs_det is left out: on this lattice the exact determinant takes gigabytes",
                );
            }
            let pion = self.pion(quarks).measure(links)?.to_vec2::<f64>()?;
            values.insert("pion_correlator".into(), json!(pion[0]));
        }
        values.insert("topological_charge".into(), json!(charge[0]));
        values.insert("topological_charge_flowed".into(), json!(self.flowed_charge(links)?[0]));
        Ok(values)
    }
}
