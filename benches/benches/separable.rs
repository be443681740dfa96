//! Separable networks of circular one-dimensional convolutions on 4⁴ sites, against the machine's multiply-add peak.
//!
//! ```text
//! flops of one convolution by its definition: 2 · 3 · C_i · C_o · sites · batch;  forward and backward: three times the forward
//! ```
//!
//! Rates count the operations of the definition. Along lines of four sites the kernel does 5 of 12 of them, and it computes the
//! hidden activations twice: a rate can exceed the peak.

use candle_core::{DType, Device, Result, Tensor, Var};
use criterion::{BenchmarkId, Criterion, Throughput};
use latflow_benches::peak::Peak;
use latflow_kernels::{Activation, ConvNet, Stencil};
use latflow_lattice::{Boundary, Lattice};

const EXTENTS: [usize; 4] = [4, 4, 4, 4];

/// The networks of [QCD Sec. 3.1].
const MARGINAL: &[usize] = &[12, 32, 32, 32, 49];
const CONTEXT: &[usize] = &[6, 8, 8];

fn directions(dims: &[usize]) -> Result<Vec<Stencil>> {
    let lattice = Lattice::new(dims).map_err(candle_core::Error::wrap)?;
    let along = |direction: usize| {
        let kernel: Vec<usize> = (0..dims.len()).map(|k| if k == direction { 3 } else { 1 }).collect();
        lattice.stencil(&kernel, Boundary::Periodic).map_err(candle_core::Error::wrap)
    };
    (0..dims.len()).map(along).collect()
}

/// The sites of a mask of width 4: a quarter of the lattice.
fn active(dims: &[usize], shifts: &[usize]) -> Result<Vec<u32>> {
    let lattice = Lattice::new(dims).map_err(candle_core::Error::wrap)?;
    let phase = |s: usize| lattice.coordinates(s).iter().zip(shifts).map(|(x, s)| x * s).sum::<usize>();
    Ok((0..lattice.volume()).filter(|&s| phase(s) % 4 == 0).map(|s| s as u32).collect())
}

fn numbers(shape: &[usize], dtype: DType) -> Result<Tensor> {
    let n: usize = shape.iter().product();
    let data: Vec<f64> = (0..n).map(|i| ((i * 37 + 11) % 101) as f64 / 50.0 - 1.0).collect();
    Tensor::from_vec(data, shape, &Device::Cpu)?.to_dtype(dtype)
}

/// A network with its arguments.
struct Case {
    name: String,
    net: ConvNet,
    x: Tensor,
    theta: Var,
    batch: usize,
    dtype: DType,
}

impl Case {
    fn new(name: &str, net: ConvNet, batch: usize, dtype: DType) -> Result<Self> {
        let x = numbers(&[batch, net.volume(), net.inputs()], dtype)?;
        let theta = Var::from_tensor(&numbers(&[net.parameter_count()], dtype)?.affine(0.1, 0.0)?)?;
        Ok(Self { name: format!("{name}, batch {batch}, {dtype:?}"), net, x, theta, batch, dtype })
    }

    fn flops(&self) -> f64 {
        self.net.flops_forward(self.batch)
    }

    fn forward(&self) -> Result<Tensor> {
        self.net.forward(&self.x, &self.theta.as_tensor().detach())
    }

    /// Forward, then the gradients of input and parameters.
    fn step(&self, x: &Var) -> Result<()> {
        self.net.forward(x, &self.theta)?.backward().map(drop)
    }

    fn composed_step(&self, x: &Var) -> Result<()> {
        self.net.forward_composed(x, &self.theta)?.backward().map(drop)
    }
}

fn cases() -> Result<Vec<Case>> {
    let (leaky, none) = (Activation::LeakyRelu(0.01), Activation::Identity);
    let marginal = |dims: &[usize]| ConvNet::separable(&directions(dims)?, MARGINAL, leaky, none);
    let all = marginal(&EXTENTS)?;
    let some = all.at(&active(&EXTENTS, &[1, 2, 1, 1])?)?;
    let context = ConvNet::separable(&directions(&EXTENTS)?, CONTEXT, Activation::Elu, Activation::Tanh)?;
    let large = marginal(&[6, 6, 6, 6])?;
    Ok(vec![
        Case::new("12-32-32-32-49", all.clone(), 64, DType::F32)?,
        Case::new("12-32-32-32-49 at 64 sites", some.clone(), 64, DType::F32)?,
        Case::new("12-32-32-32-49 at 64 sites", some.clone(), 512, DType::F32)?,
        Case::new("12-32-32-32-49 at 64 sites", some, 64, DType::F64)?,
        Case::new("12-32-32-32-49 on 6⁴", large, 16, DType::F32)?,
        Case::new("6-8-8", context, 64, DType::F32)?,
    ])
}

fn report(cases: &[Case]) -> Result<()> {
    let peak = Peak::measure();
    peak.print_heading()?;
    for case in cases {
        let x = Var::from_tensor(&case.x)?;
        let name = |what| format!("{}: {what}", case.name);
        peak.print_row(&name("forward"), case.dtype, case.flops(), || case.forward())?;
        peak.print_row(&name("step"), case.dtype, 3.0 * case.flops(), || case.step(&x))?;
    }
    let case = &cases[0];
    let x = Var::from_tensor(&case.x)?;
    let name = format!("{}: composed step", case.name);
    peak.print_row(&name, case.dtype, 3.0 * case.flops(), || case.composed_step(&x))
}

fn statistics(criterion: &mut Criterion, cases: &[Case]) -> Result<()> {
    let mut group = criterion.benchmark_group("separable-4d");
    for case in cases {
        let x = Var::from_tensor(&case.x)?;
        let name = case.name.replace(", ", "-").replace(' ', "-").to_lowercase();
        group.throughput(Throughput::Elements(case.flops() as u64));
        group.bench_function(BenchmarkId::new("forward", &name), |b| b.iter(|| case.forward()));
        group.throughput(Throughput::Elements(3 * case.flops() as u64));
        group.bench_function(BenchmarkId::new("step", &name), |b| b.iter(|| case.step(&x)));
    }
    group.finish();
    Ok(())
}

fn main() -> Result<()> {
    latflow_kernels::tune_process();
    let cases = cases()?;
    report(&cases)?;
    let mut criterion = latflow_benches::criterion();
    statistics(&mut criterion, &cases)?;
    criterion.final_summary();
    Ok(())
}
