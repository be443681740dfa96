//! SU(3): products, the exponential map, plaquettes and forces in four dimensions, against the multiply-add peak, the composed
//! formulas and nalgebra.
//!
//! ```text
//! product of two matrices:                  27 complex products, 18 complex sums: 198                        flops
//! exp(iH) U, H from eight numbers:          H² 198, series 20 · 16, Σ p_k H^k 144, product 198, rest 100      flops
//! sum of plaquettes, a site:                6 planes · (2 products + 36)                                      flops
//! sum and force, a link:                    6 staples · (2 products + 18) + product + 36 + 20                 flops
//! bytes, f64:   a matrix 144, its eight angles 64; each operand is read and each result written once
//! ```
//!
//! First a table of rates and fractions of peak, then criterion's statistics.

use candle_core::{DType, Device, Result, Tensor};
use criterion::Criterion;
use latflow_action::{Action, WilsonGauge, action_and_force};
use latflow_benches::peak::{Peak, shortest};
use latflow_benches::tensor_error;
use latflow_kernels::gauge::Plaquettes;
use latflow_kernels::unitary::{matrix_product, rotate};
use latflow_lattice::gauge::{algebra_element, matrix};
use latflow_lattice::{Lattice, Links, Manifold, Streams, normal_tensor};
use latflow_sampler::{GaugeHeatBath, MarkovKernel};
use nalgebra::{Complex, Matrix3};
use std::hint::black_box;

const PRODUCT: f64 = 198.0;
const ROTATION: f64 = 2.0 * PRODUCT + 20.0 * 16.0 + 144.0 + 100.0;
const PLAQUETTES: f64 = 6.0 * (2.0 * PRODUCT + 36.0);
const FORCE: f64 = 4.0 * (6.0 * (2.0 * PRODUCT + 18.0) + PRODUCT + 56.0);

struct Case {
    name: String,
    lattice: Lattice,
    links: Links,
    omega: Tensor,
}

impl Case {
    fn new(extent: usize, batch: usize) -> Result<Self> {
        let lattice = Lattice::new(&[extent; 4]).map_err(tensor_error)?;
        let mut rng = Streams::new(1).stream("bench", 0);
        let links = Links::haar(&lattice, batch, 3, &mut rng, &Device::Cpu).map_err(tensor_error)?;
        let omega = normal_tensor(&mut rng, 0.1, &links.tangent_shape(), DType::F64, &Device::Cpu);
        let name = format!("{batch} × {extent}⁴");
        Ok(Self { name, lattice, links, omega: omega.map_err(tensor_error)? })
    }

    fn sites(&self) -> f64 {
        (self.links.tensor().dims()[0] * self.lattice.volume()) as f64
    }

    fn action(&self) -> Result<WilsonGauge> {
        WilsonGauge::new(&self.lattice, 3, 5.7).map_err(tensor_error)
    }
}

/// The same products by nalgebra, one matrix after another on one thread.
fn nalgebra_product(links: &Links) -> Result<impl FnMut() -> Result<()>> {
    let data = links.tensor().flatten_all()?.to_vec1::<f64>()?;
    let matrices: Vec<Matrix3<Complex<f64>>> = data
        .chunks_exact(18)
        .map(|m| Matrix3::from_fn(|i, j| Complex::new(m[2 * (3 * i + j)], m[2 * (3 * i + j) + 1])))
        .collect();
    let mut out = matrices.clone();
    Ok(move || {
        for (c, a) in out.iter_mut().zip(&matrices) {
            *c = a * a;
        }
        black_box(&out);
        Ok(())
    })
}

/// How many times longer the second takes.
fn print_ratio<R, S>(
    name: &str,
    ours: impl FnMut() -> Result<R>,
    other: impl FnMut() -> Result<S>,
) -> Result<()> {
    println!("{name:<52} {:>10.1} times ours", shortest(other)? / shortest(ours)?);
    Ok(())
}

fn report() -> Result<()> {
    let peak = Peak::measure();
    peak.print_heading()?;
    for (extent, batch) in [(4, 8), (4, 64), (8, 1), (8, 4)] {
        let case = Case::new(extent, batch)?;
        let (u, sites) = (case.links.tensor(), case.sites());
        let single = u.to_dtype(DType::F32)?;
        let plaquettes = Plaquettes::new(case.lattice.dims())?;
        for (dtype, u) in [(DType::F64, u), (DType::F32, &single)] {
            let row = |what: &str, flops: f64, run: &mut dyn FnMut() -> Result<Tensor>| {
                peak.print_row(&format!("{}, {dtype:?}: {what}", case.name), dtype, flops, run)
            };
            let omega = case.omega.to_dtype(dtype)?;
            row("product", 4.0 * sites * PRODUCT, &mut || matrix_product(u, u, false, false))?;
            row("exp(iH) U", 4.0 * sites * ROTATION, &mut || rotate(&omega, u))?;
            row("sum of plaquettes", sites * PLAQUETTES, &mut || plaquettes.sums(u))?;
            row("sum and force", sites * FORCE, &mut || Ok(plaquettes.sum_and_force(u, 1.0)?.1))?;
        }
        let megabytes = 1e-6 * 4.0 * sites * 144.0;
        println!("links of {}: {megabytes:.1} MB; a product moves three times as much", case.name);
    }
    let case = Case::new(4, 8)?;
    let (u, action) = (case.links.tensor(), case.action()?);
    let ours = || matrix_product(u, u, false, false);
    print_ratio("product, nalgebra on one thread", ours, nalgebra_product(&case.links)?)?;
    print_ratio("product, composed", ours, || matrix::product_composed(u, u).map_err(tensor_error))?;
    let composed = || {
        let step = algebra_element(&case.omega, 3).and_then(|x| matrix::exponential_composed(&x));
        step.and_then(|step| matrix::product_composed(&step, u)).map_err(tensor_error)
    };
    print_ratio("exp(iH) U, composed", || rotate(&case.omega, u), composed)?;
    let fused = || action.action(&case.links).map_err(tensor_error);
    print_ratio("action, composed", fused, || action.composed(&case.links).map_err(tensor_error))?;
    let fused = || action_and_force(&action, &case.links).map_err(tensor_error);
    let differentiated = Differentiated(&action);
    print_ratio("action and force, fused action differentiated", fused, || {
        action_and_force(&differentiated, &case.links).map_err(tensor_error)
    })?;
    let composed = Composed(&action);
    print_ratio("action and force, composed", fused, || {
        action_and_force(&composed, &case.links).map_err(tensor_error)
    })?;
    let (heat_bath, mut rng) =
        (GaugeHeatBath::new(action.clone(), 0).map_err(tensor_error)?, Streams::new(2).stream("bench", 0));
    let mut links = case.links.clone();
    let seconds = shortest(|| {
        links = heat_bath.step(links.clone(), &mut rng).map_err(tensor_error)?.0;
        Ok(())
    })?;
    println!("heat bath: {:.0} ns a link on all threads", 1e9 * seconds / (4.0 * case.sites()));
    Ok(())
}

struct Composed<'a>(&'a WilsonGauge);

impl Action<Links> for Composed<'_> {
    fn action(&self, links: &Links) -> latflow_action::Result<Tensor> {
        self.0.composed(links)
    }
}

/// Without the fused force.
struct Differentiated<'a>(&'a WilsonGauge);

impl Action<Links> for Differentiated<'_> {
    fn action(&self, links: &Links) -> latflow_action::Result<Tensor> {
        self.0.action(links)
    }
}

fn statistics(criterion: &mut Criterion) -> Result<()> {
    for (extent, batch) in [(4, 64), (8, 1)] {
        let case = Case::new(extent, batch)?;
        let (u, action) = (case.links.tensor(), case.action()?);
        let mut group = criterion.benchmark_group(format!("su3-{batch}x{extent}^4"));
        group.bench_function("product", |b| b.iter(|| matrix_product(u, u, false, false)));
        group.bench_function("rotation", |b| b.iter(|| rotate(&case.omega, u)));
        group.bench_function("action-and-force", |b| b.iter(|| action_and_force(&action, &case.links)));
        group.finish();
    }
    Ok(())
}

fn main() -> Result<()> {
    latflow_kernels::tune_process();
    report()?;
    let mut criterion = latflow_benches::criterion();
    statistics(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}
