//! Wilson fermions: the hop in lanes, solvers, and the exact determinant.
//!
//! ```text
//! hop, one site of the result:   1,320 flops
//! bytes, all sites:              8 V (4 · 18 links + 24 read + 24 written)      every number once
//! bytes, one parity:             8 V/2 (8 · 18 links + 24 read + 24 written)    every link belongs to one pair of an even and an odd site
//! D̂D̂† and CG, one iteration:     4 · 1,320 · V/2 + 24 · 20 · V/2 flops
//! log |det D|:                   (8/3) (6V)³ flops of a complex LU of D̂, which the decomposition in use does without
//! ```
//!
//! Lattices of 4⁴ come in batches of 64 configurations, one a lane; 8⁴ and 16⁴ alone, one sub-lattice a lane. First a table of rates,
//! fractions of the multiply-add peak and of the measured copy bandwidth, then criterion's statistics.

use candle_core::{DType, Device, Result, Tensor, Var};
use criterion::Criterion;
use latflow_benches::peak::{Peak, shortest};
use latflow_benches::tensor_error;
use latflow_fermion::{
    BiCgStab, ConjugateGradient, DenseWilson, Dirac, EvenOddWilson, EvenOddWilsonOperator, NormalOperator,
    Wilson, quadratic_form_of_inverse,
};
use latflow_kernels::peak;
use latflow_kernels::wilson::{
    FLOPS_PER_SITE, HopFactor, Sites, WilsonLinks, WilsonVector, wilson_hop_composed,
};
use latflow_lattice::{Boundary, Lattice, Links, Streams, normal_tensor};
use rayon::prelude::*;

const KAPPA: f64 = 0.1;

/// A hop on packed vectors.
struct Case {
    links: WilsonLinks,
    from: Vec<WilsonVector>,
    to: Vec<WilsonVector>,
    sites: f64,
    numbers_a_site: f64,
}

fn noise(seed: u64, shape: &[usize]) -> Result<Tensor> {
    let mut rng = Streams::new(seed).stream("bench", 0);
    normal_tensor(&mut rng, 1.0, shape, DType::F64, &Device::Cpu).map_err(tensor_error)
}

fn links(extent: usize, batch: usize) -> Result<(Lattice, Links)> {
    let lattice = Lattice::new(&[extent; 4]).map_err(tensor_error)?;
    let mut rng = Streams::new(1).stream("bench", 0);
    let links = Links::haar(&lattice, batch, 3, &mut rng, &Device::Cpu).map_err(tensor_error)?;
    Ok((lattice, links))
}

impl Case {
    fn new(extent: usize, batch: usize, targets: Sites, dtype: DType) -> Result<Self> {
        let (lattice, links) = links(extent, batch)?;
        let links = WilsonLinks::new(&links.tensor().to_dtype(dtype)?, lattice.dims(), true)?;
        let count = targets.count(lattice.volume());
        let psi = noise(2, &[batch, 2, 12 * count])?.to_dtype(dtype)?;
        let from = links.pack(&psi, targets.neighbours())?;
        let to = from.iter().map(|_| links.zeros(targets)).collect();
        let numbers_a_site = if targets == Sites::All { 72.0 + 48.0 } else { 144.0 + 48.0 };
        Ok(Self { links, from, to, sites: (batch * count) as f64, numbers_a_site })
    }

    fn hop(&mut self) -> Result<()> {
        let (links, hop) = (&self.links, HopFactor { factor: 1.0, adjoint: false });
        let blocks = self.to.par_iter_mut().zip(&self.from).enumerate();
        blocks.try_for_each(|(block, (to, from))| links.hop(block, from, None, hop, to))
    }
}

fn hops(peak: &Peak, copy: f64) -> Result<()> {
    println!("\n{:<44} {:>9} {:>9} {:>8} {:>9} {:>8}", "hop", "ms", "GF/s", "of FMA", "GB/s", "of copy");
    for (extent, batch) in [(4, 64), (4, 8), (8, 1), (16, 1)] {
        for targets in [Sites::All, Sites::Even] {
            for dtype in [DType::F64, DType::F32] {
                let mut case = Case::new(extent, batch, targets, dtype)?;
                let seconds = shortest(|| case.hop())?;
                let flops = FLOPS_PER_SITE * case.sites / seconds;
                let bytes = case.numbers_a_site * case.sites * dtype.size_in_bytes() as f64 / seconds;
                println!(
                    "{:<44} {:>9.4} {:>9.1} {:>7.0}% {:>9.1} {:>7.0}%",
                    format!("{batch} × {extent}⁴, {targets:?}, {dtype:?}"),
                    seconds * 1e3,
                    flops / 1e9,
                    100.0 * flops / peak.of(dtype),
                    bytes / 1e9,
                    100.0 * bytes / copy
                );
            }
        }
    }
    Ok(())
}

struct Theory {
    links: Links,
    dirac: EvenOddWilson,
    operator: EvenOddWilsonOperator,
    b: Tensor,
}

impl Theory {
    fn new(extent: usize, batch: usize) -> Result<Self> {
        let (lattice, links) = links(extent, batch)?;
        let full = Wilson::new(&lattice, KAPPA, Boundary::Antiperiodic).map_err(tensor_error)?;
        let dirac = EvenOddWilson::new(&full);
        let operator = dirac.bind(&links).map_err(tensor_error)?;
        let b = noise(3, &dirac.vector_shape(batch))?;
        Ok(Self { links, dirac, operator, b })
    }

    fn half_sites(&self) -> f64 {
        self.b.elem_count() as f64 / 24.0
    }
}

fn solvers(peak: &Peak) -> Result<()> {
    println!("\n{:<52} {:>10} {:>9} {:>9} {:>9}", "fermions", "GFLOP", "ms", "GF/s", "of FMA");
    for (extent, batch) in [(4, 64), (8, 1)] {
        let t = Theory::new(extent, batch)?;
        let solver = ConjugateGradient { tolerance: 1e-10, max_iterations: 1000 };
        let normal = NormalOperator(t.operator.clone());
        let solved = solver.solve(&normal, &t.b).map_err(tensor_error)?;
        let iterations = *solved.iterations.iter().max().unwrap_or(&0) as f64;
        let cost = iterations * t.half_sites() * (4.0 * FLOPS_PER_SITE + 480.0);
        let name = format!("CG on D̂D̂†, {batch} × {extent}⁴, {iterations} iterations");
        peak.print_row(&name, DType::F64, cost, || solver.solve(&normal, &t.b).map_err(tensor_error))?;
        let stabilised = BiCgStab { tolerance: 1e-10, max_iterations: 1000 };
        let solved = stabilised.solve(&t.operator, &t.b).map_err(tensor_error)?;
        let iterations = *solved.iterations.iter().max().unwrap_or(&0) as f64;
        let cost = iterations * t.half_sites() * (4.0 * FLOPS_PER_SITE + 960.0);
        let name = format!("BiCGStab on D̂, {batch} × {extent}⁴, {iterations} iterations");
        peak.print_row(&name, DType::F64, cost, || {
            stabilised.solve(&t.operator, &t.b).map_err(tensor_error)
        })?;
        let name = format!("binding links, {batch} × {extent}⁴");
        peak.print_row(&name, DType::F64, 0.0, || t.dirac.bind(&t.links).map_err(tensor_error))?;
        let tracked = Var::from_tensor(t.links.tensor())?;
        let field = Links::new(tracked.as_tensor().clone()).map_err(tensor_error)?;
        let name = format!("pseudofermion action and gradient, {batch} × {extent}⁴");
        peak.print_row(&name, DType::F64, 0.0, || {
            let (action, _) =
                quadratic_form_of_inverse(&t.dirac, &field, &t.b, &solver).map_err(tensor_error)?;
            action.sum_all()?.backward()
        })?;
    }
    let (lattice, links) = links(4, 2)?;
    let determinant =
        DenseWilson::new(&Wilson::new(&lattice, KAPPA, Boundary::Antiperiodic).map_err(tensor_error)?);
    let cost = 2.0 * 8.0 / 3.0 * 1536f64.powi(3);
    peak.print_row("log |det D|, 2 × 4⁴", DType::F64, cost, || {
        determinant.log_abs_det(&links).map_err(tensor_error)
    })?;
    let tracked = Links::new(Var::from_tensor(links.tensor())?.as_tensor().clone()).map_err(tensor_error)?;
    peak.print_row("log |det D| and gradient, 2 × 4⁴", DType::F64, 3.0 * cost, || {
        determinant.log_abs_det(&tracked).map_err(tensor_error)?.sum_all()?.backward()
    })
}

/// The fused hop in lanes against the composed one on tensors.
fn ratio() -> Result<()> {
    let mut case = Case::new(4, 64, Sites::All, DType::F64)?;
    let (lattice, links) = links(4, 64)?;
    let psi = noise(2, &[64, 2, 12 * lattice.volume()])?;
    let composed = || wilson_hop_composed(links.tensor(), &psi, lattice.dims(), true, Sites::All, false);
    let (fused, composed) = (shortest(|| case.hop())?, shortest(composed)?);
    println!(
        "composed hop, 64 × 4⁴: {:.1} ms, {:.0} times the hop in lanes",
        composed * 1e3,
        composed / fused
    );
    Ok(())
}

fn statistics(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("wilson");
    for (extent, batch) in [(4, 64), (8, 1), (16, 1)] {
        for dtype in [DType::F64, DType::F32] {
            let mut case = Case::new(extent, batch, Sites::Even, dtype)?;
            let name = format!("half-hop-{batch}x{extent}^4-{dtype:?}");
            group.bench_function(name, |b| b.iter(|| case.hop()));
        }
    }
    let t = Theory::new(4, 64)?;
    let solver = ConjugateGradient::default();
    let normal = NormalOperator(t.operator.clone());
    group.bench_function("conjugate-gradient-64x4^4", |b| b.iter(|| solver.solve(&normal, &t.b)));
    group.finish();
    Ok(())
}

fn main() -> Result<()> {
    latflow_kernels::tune_process();
    let peak = Peak::measure();
    let copy = peak::copy_bandwidth(peak.threads);
    println!("instruction set {}, {} threads", peak::instruction_set(), peak.threads);
    println!("FMA peak {:.0} GF/s in f64, {:.0} GF/s in f32", peak.fma_f64 / 1e9, peak.fma_f32 / 1e9);
    println!("copy bandwidth {:.1} GB/s (read + written)", copy / 1e9);
    hops(&peak, copy)?;
    ratio()?;
    solvers(&peak)?;
    let mut criterion = latflow_benches::criterion();
    statistics(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}
