//! The models that start near the answer, on 16 × 16: heat-bath densities, the decimation flow, pseudofermion draws.
//!
//! ```text
//! site density, one site:      97 nodes × (2 · 6 powers + 32 for e^x and the sum)                       flops
//! decimation, one field:       Σ_stages 2 |Λ_k| · 2 · 9 · (16 + 16² + 16 · 6)  (φ and −φ) + its sites    flops
//! one pseudofermion draw:      13 terms of e^A, each one even/odd operator on 2 real vectors              flops
//! ```

use candle_core::{DType, Device, Result, Tensor};
use latflow_action::{DeterminantAction, Exact, Phi4, Sum};
use latflow_benches::peak::Peak;
use latflow_benches::tensor_error;
use latflow_fermion::{DenseYukawa, EvenOddExpansion, EvenOddYukawa, StaggeredYukawa};
use latflow_flow::decimation::{LocalPotential, SiteCoupling, SiteShape, stages};
use latflow_flow::train::{Clip, Estimator, Schedule, Trainer};
use latflow_flow::{
    Activation, Bijection, Chain, Distribution, ExponentialPseudofermion, FlowModel, Gaussian, NetShape,
    ParamStore,
};
use latflow_kernels::SiteDensity;
use latflow_lattice::{Boundary, Lattice, Parity, Streams, normal_tensor};

const VOLUME: usize = 256;
const POWERS: u32 = 6;
const CELLS: usize = 96;
const CHANNELS: usize = 16;

type Model = FlowModel<Gaussian, Chain<Tensor>>;
type Failure = Box<dyn std::error::Error>;

fn noise(seed: u64, sigma: f64, shape: &[usize]) -> Result<Tensor> {
    let mut rng = Streams::new(seed).stream("bench", 0);
    normal_tensor(&mut rng, sigma, shape, DType::F64, &Device::Cpu).map_err(tensor_error)
}

fn site_flops(sites: usize) -> f64 {
    (sites * (CELLS + 1)) as f64 * (2.0 * f64::from(POWERS) + 32.0)
}

/// The decimation flow of the g = 0.3 theory, and its training.
struct Decimation {
    model: Model,
    store: ParamStore,
    target: Exact<Sum<Phi4, DeterminantAction>>,
    trainer: Trainer,
    network_flops: f64,
}

impl Decimation {
    fn new(batch: usize) -> std::result::Result<Self, Failure> {
        let lattice = Lattice::new(&[16, 16])?;
        let dirac = StaggeredYukawa::new(&lattice, 0.0, 0.3, Boundary::Antiperiodic)?;
        let mut store = ParamStore::new(Streams::new(1), DType::F32, &Device::Cpu);
        let potential = LocalPotential { quadratic: 2.45, quartic: 2.4, hopping: 2.0 };
        let (mut layers, mut network_flops): (Vec<Box<dyn Bijection<Tensor>>>, f64) = (Vec::new(), 0.0);
        for stage in stages(&lattice)? {
            let net = NetShape {
                hidden: vec![CHANNELS; 2],
                kernel: 3,
                activation: Activation::Tanh,
                final_activation: Activation::Identity,
            };
            let net = (stage.level > 0).then_some(net);
            if net.is_some() && stage.visible.contains(&true) {
                let weights = CHANNELS + CHANNELS * CHANNELS + CHANNELS * POWERS as usize;
                network_flops += (2 * stage.sublattice.len() * 2 * 9 * weights) as f64;
            }
            let shape = SiteShape { net, radius: 8, powers: POWERS, cells: CELLS };
            let name = stage.name.clone();
            layers.push(Box::new(SiteCoupling::new(&mut store, &name, &lattice, &stage, &shape, potential)?));
        }
        let first = layers.remove(0);
        let prior = Gaussian::new(std::f64::consts::SQRT_2, VOLUME, &Device::Cpu)?;
        let schedule = Schedule::new(&[(0, 1e-4)])?;
        let trainer = Trainer::new(&store, schedule, Clip::default(), batch, Streams::new(1))?;
        let determinant = DeterminantAction(DenseYukawa::even_odd(&dirac)?);
        let target = Exact(Sum(Phi4::new(&lattice, -1.55, 2.4)?, determinant));
        let model = FlowModel { prior, flow: Chain::new(first, layers) };
        let trainer = trainer.with_estimator(Estimator::Path);
        Ok(Self { model, store, target, trainer, network_flops })
    }

    fn sample(&self, n: usize) -> Result<(Tensor, Tensor)> {
        let mut rng = Streams::new(2).stream("bench", 0);
        self.model.sample_with_log_prob(n, &(), &mut rng).map_err(tensor_error)
    }

    fn step(&mut self) -> Result<f64> {
        let step = self.trainer.step(&self.model, &self.target, &self.store).map_err(tensor_error)?;
        Ok(step.loss)
    }

    /// A draw, the inverse pass with gradients, and the gradients of the draw: about seven passes through the networks.
    fn step_flops(&self, batch: usize) -> f64 {
        batch as f64 * (7.0 * self.network_flops + 5.0 * site_flops(VOLUME))
    }
}

/// One pseudofermion with its density.
struct Draw {
    model: FlowModel<Gaussian, ExponentialPseudofermion<EvenOddExpansion>>,
    phi: Tensor,
}

impl Draw {
    fn new(batch: usize) -> std::result::Result<Self, Failure> {
        let lattice = Lattice::new(&[16, 16])?;
        let dirac = StaggeredYukawa::new(&lattice, 0.0, 0.3, Boundary::Antiperiodic)?;
        let even_odd = EvenOddYukawa::new(&dirac, Parity::Even, &Device::Cpu)?;
        let flow = ExponentialPseudofermion::new(EvenOddExpansion::new(&even_odd, &Device::Cpu)?, 1)?;
        let prior = Gaussian::pseudofermion(1.0, VOLUME / 2, &Device::Cpu)?;
        Ok(Self { model: FlowModel { prior, flow }, phi: noise(3, 0.42, &[batch, VOLUME])? })
    }

    fn draw(&self) -> Result<(Tensor, Tensor)> {
        let mut rng = Streams::new(4).stream("bench", 0);
        let n = self.phi.dim(0)?;
        self.model.sample_with_log_prob(n, &self.phi, &mut rng).map_err(tensor_error)
    }
}

fn report() -> std::result::Result<(), Failure> {
    let peak = Peak::measure();
    peak.print_heading()?;
    let (z, theta) = (noise(5, 1.0, &[256_000])?, noise(6, 0.3, &[256_000, POWERS as usize])?);
    let powers: Vec<u32> = (1..=POWERS).collect();
    let density = SiteDensity::new(1.8, CELLS, &powers)?;
    peak.print_row("site density, 256,000 sites", DType::F64, site_flops(256_000), || {
        density.sample(&z, &theta)
    })?;
    let mut decimation = Decimation::new(192)?;
    let flops = 1000.0 * (decimation.network_flops + site_flops(VOLUME));
    peak.print_row("decimation, 1,000 fields with log q", DType::F32, flops, || decimation.sample(1000))?;
    let draw = Draw::new(1000)?;
    let half = (VOLUME / 2) as f64;
    let flops = 1000.0 * 13.0 * 2.0 * (4.0 * half * half + 3.0 * half);
    peak.print_row("pseudofermion with log q, 1,000 fields", DType::F64, flops, || draw.draw())?;
    let flops = decimation.step_flops(192);
    peak.print_row("decimation, training step, batch 192", DType::F32, flops, || decimation.step())?;
    Ok(())
}

fn main() -> std::result::Result<(), Failure> {
    latflow_kernels::tune_process();
    report()?;
    let mut criterion = latflow_benches::criterion();
    let mut decimation = Decimation::new(192)?;
    criterion.bench_function("decimation-1000-fields", |b| b.iter(|| decimation.sample(1000)));
    criterion.bench_function("decimation-training-step-batch-192", |b| b.iter(|| decimation.step()));
    let draw = Draw::new(1000)?;
    criterion.bench_function("pseudofermion-1000-fields", |b| b.iter(|| draw.draw()));
    criterion.final_summary();
    Ok(())
}
