//! The Yukawa theory: φ⁴ with two degenerate staggered fermions, [YUK (40)] and [YUK (41)].

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use latflow_action::{
    Action, DeterminantAction, Exact, Phi4, Pseudofermion, Refresh, StochasticDeterminant, Sum, force_ratios,
};
use latflow_fermion::{ConjugateGradient, DenseYukawa, EvenOddYukawa, StaggeredYukawa};
use latflow_flow::decimation::LocalPotential;
use latflow_lattice::{Boundary, Lattice, Parity, Rng, normal_tensor};
use latflow_observable::{FermionCorrelator, Magnetization, Observable, Phi2, TwoPoint};
use serde_json::{Map, Value, json};

use super::update::{MolecularDynamics, Target, Update};
use super::{BoxedAction, BoxedTarget, Evaluation, FieldTheory, JointTheory, Measurand, ScalarTheory};
use crate::config::{self, FermionBoundary, FermionTreatment, Gradient, Start};

/// Width of the random start, close to the fluctuations of the theories of interest.
const START: f64 = 0.3;

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

impl Target<Tensor> for HmcTarget {
    fn mean_iterations(&self) -> Option<f64> {
        match self {
            Self::Full(target) => Some(target.mean_iterations()),
            Self::EvenOdd(target) => Some(target.mean_iterations()),
            Self::Determinant(_) | Self::Quenched(_) => None,
        }
    }
}

/// The theory on a lattice.
#[derive(Debug, Clone)]
pub(crate) struct Yukawa {
    config: config::Yukawa,
    bosonic: Phi4,
    dirac: StaggeredYukawa,
    even_odd: Option<EvenOddYukawa>,
    dense: DenseYukawa,
    device: Device,
    observables: Vec<Measurand>,
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
        let observables = ["magnetization", "condensate", "phi2"].map(Measurand::always).to_vec();
        let (config, device) = (config.clone(), device.clone());
        Ok(Self { config, bosonic, dirac, even_odd, dense, device, observables })
    }

    fn exact(&self) -> Sum<Phi4, DeterminantAction> {
        Sum(self.bosonic.clone(), DeterminantAction(self.dense.clone()))
    }
}

impl FieldTheory for Yukawa {
    type Field = Tensor;

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

    fn start(&self, start: Start, chains: usize, rng: &mut Rng) -> Result<Tensor> {
        let shape = [chains, self.lattice().volume()];
        Ok(match start {
            Start::Hot => normal_tensor(rng, START, &shape, DType::F64, &self.device)?,
            Start::Cold => Tensor::zeros(&shape, DType::F64, &self.device)?,
        })
    }

    fn update(&self, hmc: &config::Hmc) -> Result<Box<dyn Update<Tensor>>> {
        let (theory, fermions, solver) = (self.clone(), hmc.fermions, hmc.solver());
        Ok(Box::new(MolecularDynamics::new(hmc, move || theory.hmc_target(fermions, solver))?))
    }

    fn observables(&self) -> &[Measurand] {
        &self.observables
    }

    fn observe(&self, phi: &Tensor, _: u64) -> Result<Vec<Vec<f64>>> {
        Ok(self.evaluate(phi)?.observables)
    }

    fn correlator_names(&self) -> &'static [&'static str] {
        &["two_point", "fermion_correlator"]
    }

    fn correlators(&self, phi: &Tensor) -> Result<Vec<Vec<Vec<f64>>>> {
        let observables: [Box<dyn Observable<Tensor>>; 2] =
            [Box::new(TwoPoint::new(self.lattice())), Box::new(FermionCorrelator::new(&self.dense))];
        observables.iter().map(|o| Ok(o.measure(phi)?.to_vec2::<f64>()?)).collect()
    }

    fn force_names(&self) -> &'static [&'static str] {
        &["bosonic", "determinant", "pseudofermion", "even_odd_pseudofermion"]
    }

    fn force_norms(&self, phi: &Tensor, solver: ConjugateGradient, rng: &mut Rng) -> Result<Vec<f64>> {
        let built;
        let even_odd = match &self.even_odd {
            Some(even_odd) => even_odd,
            None => {
                match EvenOddYukawa::new(&self.dirac, Parity::Even, &self.device) {
                    Ok(even_odd) => built = even_odd,
                    // Periodic time: there is no even/odd form to compare, and the report leaves the ratios out.
                    Err(latflow_fermion::Error::SingularHopping { .. }) => {
                        return Ok(vec![f64::NAN; self.force_names().len()]);
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
        let all = [&norms.bosonic, &norms.determinant, &norms.pseudofermion, &norms.even_odd_pseudofermion];
        Ok(all.map(|norms| mean(norms)).to_vec())
    }
}

impl ScalarTheory for Yukawa {
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
        match (gradient, &self.even_odd) {
            // There is no expansion here, and configurations that ask for one are refused.
            (Gradient::Determinant | Gradient::Expansion, _) => Box::new(Exact(self.exact())),
            (Gradient::Stochastic, Some(dirac)) => Box::new(StochasticDeterminant {
                bosonic,
                dirac: dirac.clone(),
                solver,
                draws: 1,
                shift: 0.0,
            }),
            (Gradient::Stochastic, None) => Box::new(StochasticDeterminant {
                bosonic,
                dirac: self.dirac.clone(),
                solver,
                draws: 1,
                shift: 0.0,
            }),
        }
    }

    fn joint(&self, solver: ConjugateGradient) -> JointTheory {
        let bosonic = self.bosonic.clone();
        match &self.even_odd {
            Some(dirac) => JointTheory::EvenOdd(Box::new(Pseudofermion::new(bosonic, dirac.clone(), solver))),
            None => JointTheory::Full(Pseudofermion::new(bosonic, self.dirac.clone(), solver)),
        }
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
