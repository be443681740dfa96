//! Spectra of SU(3) matrices and the spectral map of a coupling layer, in ns a matrix, beside nalgebra's Schur decomposition.
//!
//! One thread, then all; nalgebra on one. The layer has networks that cost nothing: what remains are loops, traces, spectra and splines.

use candle_core::{DType, Device, Result, Tensor, Var};
use criterion::Criterion;
use latflow_benches::peak::shortest;
use latflow_benches::tensor_error;
use latflow_flow::Bijection;
use latflow_flow::spectral::{Coordinate, LoopNetwork, SpectralCoupling};
use latflow_kernels::{Spectrum, Spline, haar_log_density, with_slice};
use latflow_lattice::gauge::haar_matrices;
use latflow_lattice::{Lattice, LinkMask, Links, Streams, normal_tensor};
use nalgebra::{Complex, Matrix3, Schur};

const MATRICES: usize = 8192;
const CONFIGURATIONS: usize = 64;

struct Case {
    matrices: Tensor,
    /// The same for nalgebra.
    dense: Vec<Matrix3<Complex<f64>>>,
    raw: [Tensor; 2],
    spline: Spline,
}

impl Case {
    fn new() -> Result<Self> {
        let mut rng = Streams::new(1).stream("bench", 0);
        let matrices = haar_matrices(MATRICES, 3, &mut rng, &Device::Cpu).map_err(tensor_error)?;
        let dense = with_slice::<f64, _>(&matrices, |all| {
            let entry = |m: &[f64], k: usize| Complex::new(m[2 * k], m[2 * k + 1]);
            all.chunks_exact(18).map(|m| Matrix3::from_fn(|i, j| entry(m, 3 * i + j))).collect()
        })?;
        let spline = Spline::new(16)?;
        let mut raw = || {
            normal_tensor(&mut rng, 0.3, &[MATRICES, spline.parameters()], DType::F32, &Device::Cpu)
                .map_err(tensor_error)
        };
        Ok(Self { matrices, dense, raw: [raw()?, raw()?], spline })
    }

    /// Eigenvalues to rounding, which is what the Schur form of a normal matrix is for.
    fn nalgebra(&self) -> Result<f64> {
        Ok(self.dense.iter().map(|m| Schur::new(*m).unpack().1[(0, 0)].re).sum())
    }

    /// Everything of a layer but its networks and its products of links.
    fn map(&self, matrices: &Tensor, raw: [&Tensor; 2]) -> Result<Tensor> {
        let spectrum = Spectrum::new(matrices)?;
        let (w, r) = spectrum.position()?;
        let (w_moved, w_slope) = self.spline.forward(&w, raw[0])?;
        let (r_moved, r_slope) = self.spline.forward(&r, raw[1])?;
        let haar = (haar_log_density(&w_moved, &r_moved)? - haar_log_density(&w, &r)?)?;
        let log_det = ((haar + w_slope)? + r_slope)?;
        spectrum.multiplier(&w_moved, &r_moved)?.sum_all()? + log_det.sum_all()?
    }
}

struct Layer {
    layer: SpectralCoupling,
    links: Links,
}

impl Layer {
    fn new() -> std::result::Result<Self, Box<dyn std::error::Error>> {
        let lattice = Lattice::new(&[4, 4, 4, 4])?;
        let mask = LinkMask::schedule(&lattice)?.remove(0);
        let mut rng = Streams::new(2).stream("bench", 0);
        let shape = [CONFIGURATIONS, mask.active_sites().len(), SpectralCoupling::PARAMETERS];
        let raw = normal_tensor(&mut rng, 0.3, &shape, DType::F32, &Device::Cpu)?;
        let network = || -> Box<dyn LoopNetwork> {
            let raw = raw.clone();
            Box::new(move |_: &Tensor| -> latflow_flow::Result<Tensor> { Ok(raw.clone()) })
        };
        let networks = [network(), network()];
        let layer = SpectralCoupling::new(&lattice, &mask, Coordinate::Spread, networks)?;
        Ok(Self { layer, links: Links::haar(&lattice, CONFIGURATIONS, 3, &mut rng, &Device::Cpu)? })
    }

    fn forward(&self, links: &Links) -> Result<Tensor> {
        let (x, log_det) = self.layer.forward(links, &()).map_err(tensor_error)?;
        x.tensor().sum_all()? + log_det.sum_all()?
    }
}

fn report() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let case = Case::new()?;
    let ns = 1e9 / MATRICES as f64;
    println!("{} threads, {MATRICES} matrices, ns a matrix", rayon::current_num_threads());
    let schur = ns * shortest(|| case.nalgebra())?;
    println!("{:<44} {schur:>9.1}", "nalgebra Schur, 1 thread");
    let eigen = ns * shortest(|| Spectrum::new(&case.matrices))?;
    println!("{:<44} {eigen:>9.1}   {:.1} times as fast", "eigenvalues and eigenvectors", schur / eigen);
    let [a, b] = &case.raw;
    let map = ns * shortest(|| case.map(&case.matrices, [a, b]))?;
    println!("{:<44} {map:>9.1}   {:.1} times as fast", "the spectral map with both splines", schur / map);
    let vars = [Var::from_tensor(&case.matrices)?, Var::from_tensor(a)?, Var::from_tensor(b)?];
    let raw = [vars[1].as_tensor(), vars[2].as_tensor()];
    let step = ns * shortest(|| case.map(vars[0].as_tensor(), raw)?.backward())?;
    println!("{:<44} {step:>9.1}", "the same with all gradients");
    let layer = Layer::new()?;
    let us = 1e6 / CONFIGURATIONS as f64;
    let forward = us * shortest(|| layer.forward(&layer.links))?;
    println!("{:<44} {forward:>9.1} µs a configuration", "coupling without networks, 4⁴");
    let var = Var::from_tensor(layer.links.tensor())?;
    let tracked = Links::new(var.as_tensor().clone())?;
    let step = us * shortest(|| layer.forward(&tracked)?.backward())?;
    println!("{:<44} {step:>9.1} µs a configuration", "the same with all gradients");
    Ok(())
}

fn statistics(criterion: &mut Criterion) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let case = Case::new()?;
    let layer = Layer::new()?;
    let [a, b] = &case.raw;
    let mut group = criterion.benchmark_group("spectral-8192-matrices");
    group.bench_function("nalgebra-schur", |bench| bench.iter(|| case.nalgebra()));
    group.bench_function("eigen", |bench| bench.iter(|| Spectrum::new(&case.matrices)));
    group.bench_function("map", |bench| bench.iter(|| case.map(&case.matrices, [a, b])));
    group.bench_function("coupling-64-configurations", |bench| bench.iter(|| layer.forward(&layer.links)));
    group.finish();
    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    latflow_kernels::tune_process();
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    one.install(|| report().map_err(|e| e.to_string()))?;
    report()?;
    let mut criterion = latflow_benches::criterion();
    statistics(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}
