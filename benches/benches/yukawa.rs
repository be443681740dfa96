//! The Yukawa theory on 16 × 16: operator, solver, determinant, trajectory, and one training step of an affine flow.
//!
//! ```text
//! staggered operator, one real vector:  V (2 · 4 hops + 1 diagonal)                     flops
//! even/odd operator, one real vector:   2 · 2 (V/2)² + 2 · V/2 + V/2                     flops
//! log |det| with gradient, one field:   (2/3 + 4/3) n³, n = V/2, for LU and inverse      flops
//! training step, 12 couplings:          12 × (network forward + network backward)         flops
//! ```
//!
//! First a table of rates and fractions of peak, then criterion's statistics.

use candle_core::{DType, Device, Result, Tensor, Var};
use criterion::Criterion;
use latflow_action::{Exact, Phi4, Pseudofermion};
use latflow_benches::peak::Peak;
use latflow_benches::tensor_error;
use latflow_fermion::{
    ConjugateGradient, DenseYukawa, Dirac, EvenOddYukawa, LinearOperator, NormalOperator, StaggeredYukawa,
};
use latflow_flow::train::{Clip, Schedule, Trainer};
use latflow_flow::{Activation, AffineCoupling, Bijection, Chain, FlowModel, Gaussian, NetShape, ParamStore};
use latflow_lattice::{Boundary, Lattice, Parity, Rng, Streams, normal_tensor};
use latflow_sampler::{Hmc, Integrator, MarkovKernel};

const CHAINS: usize = 64;
const VOLUME: usize = 256;

struct Theory {
    phi4: Phi4,
    full: StaggeredYukawa,
    even_odd: EvenOddYukawa,
    dense: DenseYukawa,
    phi: Tensor,
    rng: Rng,
}

impl Theory {
    fn new() -> Result<Self> {
        let lattice = Lattice::new(&[16, 16]).map_err(tensor_error)?;
        let full = StaggeredYukawa::new(&lattice, 0.0, 0.3, Boundary::Antiperiodic).map_err(tensor_error)?;
        let mut rng = Streams::new(1).stream("bench", 0);
        Ok(Self {
            phi4: Phi4::new(&lattice, -1.55, 2.4).map_err(tensor_error)?,
            even_odd: EvenOddYukawa::new(&full, Parity::Even, &Device::Cpu).map_err(tensor_error)?,
            dense: DenseYukawa::even_odd(&full).map_err(tensor_error)?,
            phi: noise(&mut rng, 0.35, &[CHAINS, VOLUME])?,
            full,
            rng,
        })
    }

    fn vector(&mut self, sites: usize) -> Result<Tensor> {
        noise(&mut self.rng, 1.0, &[CHAINS, 2, sites])
    }
}

fn noise(rng: &mut Rng, sigma: f64, shape: &[usize]) -> Result<Tensor> {
    normal_tensor(rng, sigma, shape, DType::F64, &Device::Cpu).map_err(tensor_error)
}

/// The 12-coupling affine flow of `pytorch_step.py`, on the same φ⁴ theory: the determinant is timed by itself.
struct Training {
    model: FlowModel<Gaussian, Chain<Tensor>>,
    store: ParamStore,
    target: Exact<Phi4>,
    trainer: Trainer,
}

impl Training {
    fn new(batch: usize) -> std::result::Result<Self, Box<dyn std::error::Error>> {
        let lattice = Lattice::new(&[16, 16])?;
        let mut store = ParamStore::new(Streams::new(1), DType::F32, &Device::Cpu);
        let shape = NetShape {
            hidden: vec![32, 32],
            kernel: 3,
            activation: Activation::LeakyRelu(0.01),
            final_activation: Activation::Identity,
        };
        let mut layers: Vec<Box<dyn Bijection<Tensor>>> = Vec::new();
        for index in 0..12 {
            let active = if index % 2 == 0 { Parity::Even } else { Parity::Odd };
            let name = format!("{index:02}");
            layers.push(Box::new(AffineCoupling::new(&mut store, &name, &lattice, active, &shape)?));
        }
        let first = layers.remove(0);
        let prior = Gaussian::new(0.5, VOLUME, &Device::Cpu)?;
        let schedule = Schedule::new(&[(0, 1e-4)])?;
        let trainer = Trainer::new(&store, schedule, Clip::default(), batch, Streams::new(1))?;
        let target = Exact(Phi4::new(&lattice, -4.0, 6.0)?);
        Ok(Self { model: FlowModel { prior, flow: Chain::new(first, layers) }, store, target, trainer })
    }

    fn step(&mut self) -> Result<f64> {
        let step = self.trainer.step(&self.model, &self.target, &self.store).map_err(tensor_error)?;
        Ok(step.loss)
    }

    /// Multiply-adds of the networks, counted as in the convolution bench: forward, recomputation and three gradients.
    fn flops(batch: usize) -> f64 {
        let per_site = |c: [usize; 2]| 2.0 * 9.0 * (c[0] * c[1]) as f64;
        let layers = [[1, 32], [32, 32], [32, 2]].map(per_site);
        let forward: f64 = layers.iter().sum();
        let hidden = layers[0] + layers[1];
        let inner_inputs = layers[1] + layers[2];
        // The input gradient of the first layer is needed in every coupling but the first.
        12.0 * (VOLUME * batch) as f64 * (2.0 * forward + hidden + inner_inputs + layers[0])
    }
}

fn report() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let peak = Peak::measure();
    peak.print_heading()?;
    let mut t = Theory::new()?;
    let vectors = (2 * CHAINS) as f64;
    let v = t.vector(VOLUME)?;
    let half = t.vector(VOLUME / 2)?;
    let operator = t.full.bind(&t.phi)?;
    let per_vector = t.full.hop().flops() + VOLUME as f64;
    peak.print_row("staggered operator, 64 chains", DType::F64, vectors * per_vector, || {
        operator.apply(&v).map_err(tensor_error)
    })?;
    let reduced = t.even_odd.bind(&t.phi)?;
    let n = (VOLUME / 2) as f64;
    let per_half = 4.0 * n * n + 3.0 * n;
    peak.print_row("even/odd operator, 64 chains", DType::F64, vectors * per_half, || {
        reduced.apply(&half).map_err(tensor_error)
    })?;
    let solver = ConjugateGradient { tolerance: 1e-10, max_iterations: 1000 };
    let full_normal = NormalOperator(operator.clone());
    let solved = solver.solve(&full_normal, &v)?;
    let iterations = *solved.iterations.iter().max().unwrap_or(&0) as f64;
    // Two operators, two products and three updates an iteration.
    let cost = iterations * vectors * (2.0 * per_vector + 10.0 * VOLUME as f64);
    let name = format!("CG on DD†, 64 chains, 1e-10, {iterations} iterations");
    peak.print_row(&name, DType::F64, cost, || solver.solve(&full_normal, &v).map_err(tensor_error))?;
    let normal = NormalOperator(reduced.clone());
    let solved = solver.solve(&normal, &half)?;
    let iterations = *solved.iterations.iter().max().unwrap_or(&0) as f64;
    let cost = iterations * vectors * (2.0 * per_half + 10.0 * n);
    let name = format!("CG on MM†, 64 chains, 1e-10, {iterations} iterations");
    peak.print_row(&name, DType::F64, cost, || solver.solve(&normal, &half).map_err(tensor_error))?;

    let lu = CHAINS as f64 * 2.0 / 3.0 * n.powi(3);
    peak.print_row("log |det D|, 64 fields", DType::F64, lu, || {
        t.dense.log_abs_det(&t.phi).map_err(tensor_error)
    })?;
    let tracked = Var::from_tensor(&t.phi)?;
    peak.print_row("log |det D| and gradient, 64 fields", DType::F64, 3.0 * lu, || {
        t.dense.log_abs_det(tracked.as_tensor()).map_err(tensor_error)?.sum_all()?.backward()
    })?;

    let (hmc, mut x, mut rng) = trajectory(&t)?;
    let forces = hmc.forces();
    // The solver dominates: about six iterations a force to 1e-8.
    let cost = forces as f64 * 6.0 * vectors * (2.0 * per_half + 10.0 * n);
    let name = format!("HMC trajectory, 64 chains, {forces} forces (solver flops)");
    peak.print_row(&name, DType::F64, cost, || {
        x = hmc.step(x.clone(), &mut rng).map_err(tensor_error)?.0;
        Ok(())
    })?;
    for batch in [64, 256] {
        let mut training = Training::new(batch)?;
        let name = format!("training step, 12 couplings 1-32-32-2, batch {batch}");
        peak.print_row(&name, DType::F32, Training::flops(batch), || training.step())?;
    }
    Ok(())
}

type Trajectory = (Hmc<Pseudofermion<Phi4, EvenOddYukawa>, Tensor>, Tensor, Rng);

fn trajectory(t: &Theory) -> Result<Trajectory> {
    let solver = ConjugateGradient { tolerance: 1e-8, max_iterations: 1000 };
    let target = Pseudofermion::new(t.phi4.clone(), t.even_odd.clone(), solver);
    let hmc = Hmc::new(target, Integrator::Omelyan, 2.0, 8).map_err(tensor_error)?;
    let mut rng = Streams::new(2).stream("bench", 0);
    let mut x = t.phi.clone();
    for _ in 0..20 {
        x = hmc.step(x, &mut rng).map_err(tensor_error)?.0;
    }
    Ok((hmc, x, rng))
}

fn statistics(criterion: &mut Criterion) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut t = Theory::new()?;
    let (v, half) = (t.vector(VOLUME)?, t.vector(VOLUME / 2)?);
    let operator = t.full.bind(&t.phi)?;
    let normal = NormalOperator(t.even_odd.bind(&t.phi)?);
    let solver = ConjugateGradient::default();
    let mut group = criterion.benchmark_group("yukawa-16x16-64-chains");
    group.bench_function("staggered-operator", |b| b.iter(|| operator.apply(&v)));
    group.bench_function("conjugate-gradient-even-odd", |b| b.iter(|| solver.solve(&normal, &half)));
    group.bench_function("log-det", |b| b.iter(|| t.dense.log_abs_det(&t.phi)));
    let tracked = Var::from_tensor(&t.phi)?;
    group.bench_function("log-det-and-gradient", |b| {
        b.iter(|| t.dense.log_abs_det(tracked.as_tensor()).map(|s| s.sum_all()?.backward()));
    });
    let (hmc, x, mut rng) = trajectory(&t)?;
    group.bench_function("hmc-trajectory", |b| b.iter(|| hmc.step(x.clone(), &mut rng)));
    group.finish();
    let mut training = Training::new(256)?;
    criterion.bench_function("training-step-12-couplings-batch-256", |b| b.iter(|| training.step()));
    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    latflow_kernels::tune_process();
    report()?;
    let mut criterion = latflow_benches::criterion();
    statistics(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}
