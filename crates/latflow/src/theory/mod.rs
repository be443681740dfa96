//! The registry of theories: a configuration's `[action.…]` section becomes something that can be sampled and measured.
//!
//! A new theory of a scalar field is one variant of [`config::Theory`], one arm in [`theory`] and one `impl ScalarTheory`.

mod joint;

use anyhow::Result;
use candle_core::{Device, Tensor};
use latflow_action::{
    Action, DeterminantAction, Exact, Phi4, Pseudofermion, Refresh, StochasticDeterminant, Sum,
    TrainingTarget, force_ratios,
};
use latflow_fermion::{ConjugateGradient, DenseYukawa, EvenOddYukawa, StaggeredYukawa};
use latflow_flow::decimation::LocalPotential;
use latflow_lattice::{Boundary, Lattice, Parity, Rng};
use latflow_observable::{FermionCorrelator, Magnetization, Observable, Phi2, TwoPoint};
use serde_json::{Map, Value, json};

pub(crate) use joint::JointTheory;

use crate::config::{self, Config, FermionBoundary, FermionTreatment, Gradient};

/// What the commands need of a theory whose fundamental field, after integrating out fermions, is a real scalar φ `[B, V]`.
pub(crate) trait ScalarTheory {
    /// The name of its section.
    fn name(&self) -> &'static str;

    /// Its parameters, for the tables.
    fn parameters(&self) -> Map<String, Value>;

    /// The lattice.
    fn lattice(&self) -> &Lattice;

    /// What flows that build on one-site densities start from.
    fn local_potential(&self) -> LocalPotential;

    /// −log of the unnormalised density of φ, exactly.
    fn action(&self) -> BoxedAction;

    /// What hybrid Monte Carlo integrates.
    fn hmc_target(&self, fermions: FermionTreatment, solver: ConjugateGradient) -> HmcTarget;

    /// What training differentiates.
    fn training_target(&self, gradient: Gradient, solver: ConjugateGradient) -> BoxedTarget;

    /// The theory of φ and one pseudofermion.
    fn joint(&self, solver: ConjugateGradient) -> JointTheory;

    /// Names of the numbers that [`ScalarTheory::evaluate`] measures.
    fn observables(&self) -> &'static [&'static str];

    /// The exact action `[B]` and each observable `[B]`, sharing the expensive parts.
    ///
    /// # Errors
    /// When a configuration has no fermion propagator.
    fn evaluate(&self, phi: &Tensor) -> Result<Evaluation>;

    /// Correlators, `[B, L_t]` each, by name.
    ///
    /// # Errors
    /// When a configuration has no fermion propagator.
    fn correlators(&self, phi: &Tensor) -> Result<Vec<Correlator>>;

    /// Mean force norms over the batch, by name, `bosonic` first; empty for a theory without fermions.
    ///
    /// # Errors
    /// When a solver fails.
    fn force_norms(
        &self,
        phi: &Tensor,
        solver: ConjugateGradient,
        rng: &mut Rng,
    ) -> Result<Vec<(&'static str, f64)>>;

    /// Everything that `latflow measure` prints about one field.
    ///
    /// # Errors
    /// When the field has no fermion propagator.
    fn measure(&self, phi: &Tensor) -> Result<Map<String, Value>>;
}

/// Name and time slices of a correlator, one row a configuration.
pub(crate) type Correlator = (&'static str, Vec<Vec<f64>>);

/// Any deterministic action of a scalar field.
pub(crate) type BoxedAction = Box<dyn Action<Tensor>>;

/// Any training target of a scalar field.
pub(crate) struct BoxedTarget(Box<dyn TrainingTarget<Tensor>>);

impl TrainingTarget<Tensor> for BoxedTarget {
    fn surrogate_action(&self, phi: &Tensor, rng: &mut Rng) -> latflow_action::Result<Tensor> {
        self.0.surrogate_action(phi, rng)
    }
}

/// Action and observables of a batch.
#[derive(Debug, Clone)]
pub(crate) struct Evaluation {
    /// S(φ) of each configuration.
    pub action: Vec<f64>,
    /// One row a configuration, in the order of the names.
    pub observables: Vec<Vec<f64>>,
}

/// The ways to treat the fermions in hybrid Monte Carlo.
#[derive(Debug, Clone)]
pub(crate) enum HmcTarget {
    /// One pseudofermion of the full operator.
    Full(Pseudofermion<Phi4, StaggeredYukawa>),
    /// One pseudofermion of the even/odd operator.
    EvenOdd(Box<Pseudofermion<Phi4, EvenOddYukawa>>),
    /// The exact determinant.
    Determinant(Exact<Sum<Phi4, DeterminantAction>>),
    /// No fermions.
    Quenched(Exact<Phi4>),
}

impl Refresh<Tensor> for HmcTarget {
    type Conditional = BoxedAction;

    fn refresh(&self, phi: &Tensor, rng: &mut Rng) -> latflow_action::Result<BoxedAction> {
        Ok(match self {
            Self::Full(target) => Box::new(target.refresh(phi, rng)?),
            Self::EvenOdd(target) => Box::new(target.refresh(phi, rng)?),
            Self::Determinant(target) => Box::new(target.refresh(phi, rng)?),
            Self::Quenched(target) => Box::new(target.refresh(phi, rng)?),
        })
    }
}

impl HmcTarget {
    /// Mean conjugate gradient iterations a solve; `None` where nothing is solved.
    pub(crate) fn mean_iterations(&self) -> Option<f64> {
        match self {
            Self::Full(target) => Some(target.mean_iterations()),
            Self::EvenOdd(target) => Some(target.mean_iterations()),
            Self::Determinant(_) | Self::Quenched(_) => None,
        }
    }
}

/// The theory of a configuration.
///
/// # Errors
/// When its operators do not exist at these parameters.
pub(crate) fn theory(config: &Config, device: &Device) -> Result<Box<dyn ScalarTheory>> {
    let lattice = Lattice::new(&config.lattice.dims)?;
    match &config.action {
        config::Theory::Yukawa(parameters) => Ok(Box::new(Yukawa::new(&lattice, parameters, device)?)),
    }
}

/// φ⁴ with two degenerate staggered fermions, [YUK (40)] and [YUK (41)].
pub(crate) struct Yukawa {
    config: config::Yukawa,
    bosonic: Phi4,
    dirac: StaggeredYukawa,
    even_odd: Option<EvenOddYukawa>,
    dense: DenseYukawa,
    device: Device,
}

impl Yukawa {
    /// The theory on a lattice.
    ///
    /// # Errors
    /// When the even/odd form is asked for and singular.
    pub(crate) fn new(lattice: &Lattice, config: &config::Yukawa, device: &Device) -> Result<Self> {
        let boundary = match config.fermion_boundary {
            FermionBoundary::Antiperiodic => Boundary::Antiperiodic,
            FermionBoundary::Periodic => Boundary::Periodic,
        };
        let bosonic = Phi4::new(lattice, config.m2, config.lambda)?;
        let dirac = StaggeredYukawa::new(lattice, config.fermion_mass, config.g, boundary)?;
        let (even_odd, dense) = if config.even_odd {
            (Some(EvenOddYukawa::new(&dirac, Parity::Even, device)?), DenseYukawa::even_odd(&dirac)?)
        } else {
            (None, DenseYukawa::full(&dirac))
        };
        Ok(Self { config: config.clone(), bosonic, dirac, even_odd, dense, device: device.clone() })
    }

    fn exact(&self) -> Sum<Phi4, DeterminantAction> {
        Sum(self.bosonic.clone(), DeterminantAction(self.dense.clone()))
    }
}

impl ScalarTheory for Yukawa {
    fn name(&self) -> &'static str {
        "yukawa"
    }

    fn parameters(&self) -> Map<String, Value> {
        let parameters = json!({
            "dims": self.lattice().dims(),
            "m2": self.config.m2,
            "lambda": self.config.lambda,
            "g": self.config.g,
            "fermion_mass": self.config.fermion_mass,
            "fermion_boundary": self.config.fermion_boundary,
        });
        parameters.as_object().cloned().unwrap_or_default()
    }

    fn lattice(&self) -> &Lattice {
        self.bosonic.lattice()
    }

    fn local_potential(&self) -> LocalPotential {
        // S_B = Σ_x [(m² + 2d) φ_x² + λ φ_x⁴ − 2 Σ_μ φ_x φ_{x+μ}]
        LocalPotential {
            quadratic: self.config.m2 + 2.0 * self.lattice().ndim() as f64,
            quartic: self.config.lambda,
            hopping: 2.0,
        }
    }

    fn action(&self) -> BoxedAction {
        Box::new(self.exact())
    }

    fn hmc_target(&self, fermions: FermionTreatment, solver: ConjugateGradient) -> HmcTarget {
        let bosonic = self.bosonic.clone();
        match fermions {
            FermionTreatment::Pseudofermion => match self.joint(solver) {
                JointTheory::Full(theory) => HmcTarget::Full(theory),
                JointTheory::EvenOdd(theory) => HmcTarget::EvenOdd(theory),
            },
            FermionTreatment::Determinant => HmcTarget::Determinant(Exact(self.exact())),
            FermionTreatment::None => HmcTarget::Quenched(Exact(bosonic)),
        }
    }

    fn training_target(&self, gradient: Gradient, solver: ConjugateGradient) -> BoxedTarget {
        let bosonic = self.bosonic.clone();
        BoxedTarget(match (gradient, &self.even_odd) {
            (Gradient::Determinant, _) => Box::new(Exact(self.exact())),
            (Gradient::Stochastic, Some(dirac)) => {
                Box::new(StochasticDeterminant { bosonic, dirac: dirac.clone(), solver, draws: 1 })
            }
            (Gradient::Stochastic, None) => {
                Box::new(StochasticDeterminant { bosonic, dirac: self.dirac.clone(), solver, draws: 1 })
            }
        })
    }

    fn joint(&self, solver: ConjugateGradient) -> JointTheory {
        let bosonic = self.bosonic.clone();
        match &self.even_odd {
            Some(dirac) => JointTheory::EvenOdd(Box::new(Pseudofermion::new(bosonic, dirac.clone(), solver))),
            None => JointTheory::Full(Pseudofermion::new(bosonic, self.dirac.clone(), solver)),
        }
    }

    fn observables(&self) -> &'static [&'static str] {
        &["magnetization", "condensate", "phi2"]
    }

    fn evaluate(&self, phi: &Tensor) -> Result<Evaluation> {
        let phi = phi.detach();
        let bosonic = self.bosonic.action(&phi)?.to_vec1::<f64>()?;
        // One decomposition for the determinant and the trace of the inverse.
        let (log_det, diagonal) = self.dense.log_abs_det_and_inverse_diagonal(&phi)?;
        let action = bosonic.iter().zip(&log_det).map(|(s, log_det)| s - 2.0 * log_det).collect();
        let volume = self.lattice().volume();
        let magnetization = Magnetization.measure(&phi)?.to_vec1::<f64>()?;
        let phi2 = Phi2.measure(&phi)?.to_vec1::<f64>()?;
        let observables = diagonal
            .chunks_exact(volume)
            .zip(magnetization.iter().zip(&phi2))
            .map(|(diagonal, (m, phi2))| vec![*m, diagonal.iter().sum::<f64>() / volume as f64, *phi2])
            .collect();
        Ok(Evaluation { action, observables })
    }

    fn correlators(&self, phi: &Tensor) -> Result<Vec<Correlator>> {
        let observables: [Box<dyn Observable<Tensor>>; 2] =
            [Box::new(TwoPoint::new(self.lattice())), Box::new(FermionCorrelator::new(&self.dense))];
        observables.iter().map(|o| Ok((o.name(), o.measure(phi)?.to_vec2::<f64>()?))).collect()
    }

    fn force_norms(
        &self,
        phi: &Tensor,
        solver: ConjugateGradient,
        rng: &mut Rng,
    ) -> Result<Vec<(&'static str, f64)>> {
        let built;
        let even_odd = match &self.even_odd {
            Some(even_odd) => even_odd,
            None => {
                match EvenOddYukawa::new(&self.dirac, Parity::Even, &self.device) {
                    Ok(even_odd) => built = even_odd,
                    // Periodic time: there is no even/odd form to compare, and the report leaves the ratios out.
                    Err(latflow_fermion::Error::SingularHopping { .. }) => {
                        let names = ["bosonic", "determinant", "pseudofermion", "even_odd_pseudofermion"];
                        return Ok(names.map(|name| (name, f64::NAN)).to_vec());
                    }
                    Err(error) => return Err(error.into()),
                }
                &built
            }
        };
        let norms = force_ratios(
            phi,
            &self.bosonic,
            &DeterminantAction(self.dense.clone()),
            &Pseudofermion::new(self.bosonic.clone(), self.dirac.clone(), solver),
            &Pseudofermion::new(self.bosonic.clone(), even_odd.clone(), solver),
            rng,
        )?;
        let mean = |norms: &[f64]| norms.iter().sum::<f64>() / norms.len() as f64;
        Ok(vec![
            ("bosonic", mean(&norms.bosonic)),
            ("determinant", mean(&norms.determinant)),
            ("pseudofermion", mean(&norms.pseudofermion)),
            ("even_odd_pseudofermion", mean(&norms.even_odd_pseudofermion)),
        ])
    }

    fn measure(&self, phi: &Tensor) -> Result<Map<String, Value>> {
        let full = DenseYukawa::full(&self.dirac);
        let (log_det, diagonal) = full.log_abs_det_and_inverse_diagonal(phi)?;
        let correlator = FermionCorrelator::new(&full).measure(phi)?.to_vec2::<f64>()?;
        let values = json!({
            "action_boson": self.bosonic.action(phi)?.to_vec1::<f64>()?[0],
            "log_abs_det": log_det[0],
            "magnetization": Magnetization.measure(phi)?.to_vec1::<f64>()?[0],
            "phi2": Phi2.measure(phi)?.to_vec1::<f64>()?[0],
            "condensate": diagonal.iter().sum::<f64>() / self.lattice().volume() as f64,
            "fermion_correlator": correlator[0],
        });
        Ok(values.as_object().cloned().unwrap_or_default())
    }
}
