//! Exactness of every sampling scheme on a lattice of two sites in time, where expectation values are two-dimensional integrals.
//!
//! ```text
//! S_B = −4 φ_0 φ_1 + Σ [(m² + 2) φ² + λ φ⁴]             both neighbours of a site are the other one
//! D   = (  a   1 )    a = m_f + g φ_0, b = m_f + g φ_1   forward and backward hop add up, antiperiodic
//!       ( −1   b )    det D = ab + 1,  Tr DD† = a² + b² + 2
//! ```
//!
//! Every model is bad on purpose: no correlation between the sites, conditionals that lean the wrong way, Jacobians that
//! depend on the field. A scheme that forgot one of its densities, or took it at the wrong field, would be far off.

mod estimate;
mod gibbs;
mod latent;
mod pairs;
mod pseudo_marginal;

use candle_core::{DType, Device, Tensor};
use latflow_action::{DeterminantAction, Phi4, Pseudofermion, Sum};
use latflow_fermion::{ConjugateGradient, DenseYukawa, EvenOddYukawa, StaggeredYukawa};
use latflow_flow::{Bijection, CubicRoot, FlowModel, Gaussian, Independent, ParamStore, Result};
use latflow_lattice::{Boundary, Lattice, Parity, Streams, normal_tensor, sum_per_configuration};
use latflow_sampler::MarkovKernel;

const CPU: Device = Device::Cpu;
const TIGHT: ConjugateGradient = ConjugateGradient { tolerance: 1e-13, max_iterations: 100 };
const M2: f64 = 0.0;
const LAMBDA: f64 = 1.0;
const G: f64 = 0.6;
const MASS: f64 = 0.2;

type Marginal = Sum<Phi4, DeterminantAction>;

/// The three forms of the theory: exact determinant, pseudofermion of D, pseudofermion of its even/odd form.
struct Theory {
    marginal: Marginal,
    full: Pseudofermion<Phi4, StaggeredYukawa>,
    even_odd: Pseudofermion<Phi4, EvenOddYukawa>,
}

fn theory() -> Theory {
    let lattice = Lattice::new(&[2]).unwrap();
    let phi4 = Phi4::new(&lattice, M2, LAMBDA).unwrap();
    let full = StaggeredYukawa::new(&lattice, MASS, G, Boundary::Antiperiodic).unwrap();
    let even_odd = EvenOddYukawa::new(&full, Parity::Even, &CPU).unwrap();
    Theory {
        marginal: Sum(phi4.clone(), DeterminantAction(DenseYukawa::full(&full))),
        full: Pseudofermion::new(phi4.clone(), full, TIGHT),
        even_odd: Pseudofermion::new(phi4, even_odd, TIGHT),
    }
}

/// log Z of the marginal density and expectation values, by the trapezoidal rule.
struct Quadrature {
    log_z: f64,
    /// ⟨φ_0²⟩.
    square: f64,
    /// ⟨φ_0 φ_1⟩.
    product: f64,
    /// ⟨ϕ†ϕ⟩ = ⟨Tr DD†⟩ of the full operator.
    norm: f64,
}

fn quadrature() -> Quadrature {
    let h = 0.01;
    let grid: Vec<f64> = (-400..=400).map(|i| f64::from(i) * h).collect();
    let local = |p: f64| (M2 + 2.0) * p * p + LAMBDA * p.powi(4);
    let [mut z, mut square, mut product, mut norm] = [0.0; 4];
    for &p in &grid {
        for &q in &grid {
            let (a, b) = (MASS + G * p, MASS + G * q);
            let w = (4.0 * p * q - local(p) - local(q)).exp() * (a * b + 1.0).powi(2) * h * h;
            z += w;
            square += w * p * p;
            product += w * p * q;
            norm += w * (a * a + b * b + 2.0);
        }
    }
    Quadrature { log_z: z.ln(), square: square / z, product: product / z, norm: norm / z }
}

fn noise(seed: u64, shape: &[usize], sigma: f64) -> Tensor {
    normal_tensor(&mut Streams::new(seed).stream("test", 0), sigma, shape, DType::F64, &CPU).unwrap()
}

/// Mean and error of independent numbers.
fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n * (n - 1.0));
    (mean, variance.sqrt())
}

/// |z| < 4 has a false alarm in 16,000; about forty numbers are tested in this file.
#[track_caller]
fn agrees(what: &str, (mean, error): (f64, f64), exact: f64, largest_error: f64) {
    let z = (mean - exact) / error;
    assert!(z.abs() < 4.0, "{what}: {mean} ± {error}, exact {exact}, z = {z}");
    assert!(error < largest_error, "{what}: error {error} too large to mean anything");
}

/// log Z of log weights against its exact value.
#[track_caller]
fn agrees_log_z(what: &str, log_weight: &[f64], exact: f64) {
    let weights: Vec<f64> = log_weight.iter().map(|w| (w - exact).exp()).collect();
    agrees(&format!("Z / Z exact, {what}"), mean_and_error(&weights), 1.0, 0.03);
}

/// Chain means of φ_0², φ_0 φ_1 and, where there is one, ϕ†ϕ, and the acceptance.
struct Run {
    square: Vec<f64>,
    product: Vec<f64>,
    norm: Vec<f64>,
    acceptance: f64,
}

impl Run {
    /// Chains are independent of each other, so that the error is that of their means.
    #[track_caller]
    fn agrees(&self, name: &str, exact: &Quadrature) {
        agrees(&format!("{name} ⟨φ²⟩"), mean_and_error(&self.square), exact.square, 0.01);
        agrees(&format!("{name} ⟨φφ'⟩"), mean_and_error(&self.product), exact.product, 0.01);
        if !self.norm.is_empty() {
            agrees(&format!("{name} ⟨ϕ†ϕ⟩"), mean_and_error(&self.norm), exact.norm, 0.03);
        }
    }
}

const THERMALIZATION: usize = 50;

/// Runs a kernel and measures the fields that `fields` finds in its state.
fn run<K: MarkovKernel>(
    kernel: &K,
    start: K::Position,
    fields: impl Fn(&K::State) -> (Tensor, Option<Tensor>),
    steps: usize,
    seed: u64,
) -> Run {
    let mut rng = Streams::new(seed).stream("test", 1);
    let mut state = kernel.init(start, &mut rng).unwrap();
    let mut run = Run { square: vec![], product: vec![], norm: vec![], acceptance: 0.0 };
    let add = |sums: &mut Vec<f64>, values: Vec<f64>| {
        sums.resize(values.len(), 0.0);
        sums.iter_mut().zip(values).for_each(|(sum, v)| *sum += v / steps as f64);
    };
    for step in 0..THERMALIZATION + steps {
        let (next, info) = kernel.step(state, &mut rng).unwrap();
        state = next;
        assert!(info.nonfinite <= 1, "{info:?}");
        if step >= THERMALIZATION {
            run.acceptance += info.acceptance() / steps as f64;
            let (phi, pf) = fields(&state);
            let phi = phi.to_vec2::<f64>().unwrap();
            add(&mut run.square, phi.iter().map(|p| p[0] * p[0]).collect());
            add(&mut run.product, phi.iter().map(|p| p[0] * p[1]).collect());
            if let Some(pf) = pf {
                let norm = sum_per_configuration(&pf.sqr().unwrap()).unwrap();
                add(&mut run.norm, norm.to_vec1::<f64>().unwrap());
            }
        }
    }
    run
}

/// ζ → φ, every site by itself: knows nothing of the coupling between them.
fn marginal_flow() -> FlowModel<Gaussian, CubicRoot> {
    let mut store = ParamStore::new(Streams::new(1), DType::F64, &CPU);
    let flow = CubicRoot::new(&mut store, "cubic", 0.4).unwrap();
    FlowModel { prior: Gaussian::new(1.1, 2, &CPU).unwrap(), flow }
}

/// x = e^{s(c)} z + t(c), s = `scale` · tanh, t = `shift` · tanh of the condition's two features.
#[derive(Debug, Clone, Copy)]
struct Affine {
    scale: f64,
    shift: f64,
}

impl Affine {
    /// Features `[B, 2]`: φ itself, or (Σ re ϕ, Σ im ϕ), so that any number of components fits; made to fit x.
    fn scale_and_shift(self, x: &Tensor, condition: &Tensor) -> Result<(Tensor, Tensor)> {
        let features = if condition.rank() == 3 { condition.sum(2)? } else { condition.clone() }.tanh()?;
        let features = if x.rank() == 3 { features.unsqueeze(2)? } else { features };
        let of = |factor: f64| -> Result<Tensor> { Ok((&features * factor)?.broadcast_as(x.shape())?) };
        Ok((of(self.scale)?, of(self.shift)?))
    }
}

impl Bijection<Tensor, Tensor> for Affine {
    fn forward(&self, z: &Tensor, condition: &Tensor) -> Result<(Tensor, Tensor)> {
        let (s, t) = self.scale_and_shift(z, condition)?;
        Ok((((z * s.exp()?)? + t)?, sum_per_configuration(&s)?))
    }

    fn inverse(&self, x: &Tensor, condition: &Tensor) -> Result<(Tensor, Tensor)> {
        let (s, t) = self.scale_and_shift(x, condition)?;
        Ok((((x - t)? * s.neg()?.exp()?)?, sum_per_configuration(&s)?.neg()?))
    }
}

/// q(ϕ|φ): wider than p(ϕ|φ), off centre, with a width that depends on φ.
fn pseudofermion_conditional(components: usize) -> FlowModel<Gaussian, Affine> {
    let prior = Gaussian::pseudofermion(1.3, components, &CPU).unwrap();
    FlowModel { prior, flow: Affine { scale: 0.2, shift: 0.4 } }
}

/// q(φ|ϕ): leans where p(φ|ϕ) does not, with a Jacobian that depends on φ, which does not cancel between two fields.
fn scalar_conditional() -> FlowModel<Gaussian, Bent> {
    let mut store = ParamStore::new(Streams::new(1), DType::F64, &CPU);
    let root = CubicRoot::new(&mut store, "cubic", 0.4).unwrap();
    let flow = Bent { affine: Affine { scale: 0.5, shift: 0.6 }, root };
    FlowModel { prior: Gaussian::new(1.1, 2, &CPU).unwrap(), flow }
}

/// An affine map given ϕ, then a cubic root of every site.
#[derive(Debug, Clone)]
struct Bent {
    affine: Affine,
    root: CubicRoot,
}

impl Bijection<Tensor, Tensor> for Bent {
    fn forward(&self, z: &Tensor, pf: &Tensor) -> Result<(Tensor, Tensor)> {
        let (y, first) = self.affine.forward(z, pf)?;
        let (x, second) = self.root.forward(&y, &())?;
        Ok((x, (first + second)?))
    }

    fn inverse(&self, x: &Tensor, pf: &Tensor) -> Result<(Tensor, Tensor)> {
        let (y, second) = self.root.inverse(x, &())?;
        let (z, first) = self.affine.inverse(&y, pf)?;
        Ok((z, (first + second)?))
    }
}

/// (ζ, χ) → (φ, ϕ): χ is stretched by ζ, then ζ by the new ϕ. Neither factor is a density on its own.
#[derive(Debug, Clone, Copy)]
struct Entangled(Affine, Affine);

impl Bijection<(Tensor, Tensor)> for Entangled {
    fn forward(&self, (zeta, chi): &(Tensor, Tensor), (): &()) -> Result<((Tensor, Tensor), Tensor)> {
        let (pf, first) = self.0.forward(chi, zeta)?;
        let (phi, second) = self.1.forward(zeta, &pf)?;
        Ok(((phi, pf), (first + second)?))
    }

    fn inverse(&self, (phi, pf): &(Tensor, Tensor), (): &()) -> Result<((Tensor, Tensor), Tensor)> {
        let (zeta, second) = self.1.inverse(phi, pf)?;
        let (chi, first) = self.0.inverse(pf, &zeta)?;
        Ok(((zeta, chi), (first + second)?))
    }
}

fn joint_flow(components: usize) -> FlowModel<Independent<Gaussian, Gaussian>, Entangled> {
    let first = Gaussian::new(0.9, 2, &CPU).unwrap();
    let second = Gaussian::pseudofermion(1.3, components, &CPU).unwrap();
    let flow = Entangled(Affine { scale: 0.2, shift: 0.4 }, Affine { scale: 0.2, shift: 0.2 });
    FlowModel { prior: Independent { first, second }, flow }
}
