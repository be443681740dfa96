//! Circular 3×3 convolutions on a 16 × 16 lattice, and the network of one coupling, against the machine's multiply-add peak.
//!
//! ```text
//! flops of one convolution, and of each of its two gradients: 2 · 9 · C_i · C_o · 256 · batch
//! ```
//!
//! First a table of rates and fractions of peak, then criterion's statistics.

use candle_core::{CustomOp3, DType, Device, Result, Tensor, Var};
use criterion::{BenchmarkId, Criterion, Throughput};
use latflow_benches::peak::Peak;
use latflow_kernels::{Activation, ConvNet, Convolution, Stencil, convolution, convolution_composed};

const EXTENT: usize = 16;
const VOLUME: usize = EXTENT * EXTENT;

fn stencil() -> Result<Stencil> {
    let shift = |x: usize, d: usize| (x + EXTENT + d - 1) % EXTENT;
    let taps = (0..3).flat_map(|dy| (0..3).map(move |dx| (dy, dx)));
    let read = taps.flat_map(|(dy, dx)| {
        (0..VOLUME).map(move |s| (shift(s / EXTENT, dy) * EXTENT + shift(s % EXTENT, dx)) as u32)
    });
    Stencil::new(VOLUME, read.collect(), None)
}

/// Numbers of order one; speed does not depend on them as long as none is denormal.
fn numbers(shape: &[usize], dtype: DType) -> Result<Tensor> {
    let n: usize = shape.iter().product();
    let data: Vec<f64> = (0..n).map(|i| ((i * 37 + 11) % 101) as f64 / 50.0 - 1.0).collect();
    Tensor::from_vec(data, shape, &Device::Cpu)?.to_dtype(dtype)
}

/// One convolution with everything it needs.
struct Case {
    stencil: Stencil,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    flops: f64,
}

impl Case {
    fn new(channels: usize, batch: usize, dtype: DType) -> Result<Self> {
        let stencil = stencil()?;
        let rows = stencil.taps() * channels;
        Ok(Self {
            x: numbers(&[batch, VOLUME, channels], dtype)?,
            weight: numbers(&[rows, channels], dtype)?.affine(1.0 / rows as f64, 0.0)?,
            bias: numbers(&[channels], dtype)?,
            flops: 2.0 * (rows * channels * VOLUME * batch) as f64,
            stencil,
        })
    }

    fn forward(&self) -> Result<Tensor> {
        convolution(&self.x, &self.weight, &self.bias, &self.stencil)
    }

    /// The backward pass alone, without the bookkeeping of candle's `backward()`: gradients of those arguments that are tracked.
    fn backward(&self, x: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<()> {
        let op = Convolution::new(self.stencil.clone());
        // A convolution is linear, so the op never looks at its result: any tensor of that shape will do.
        op.bwd(x, weight, &self.bias, grad, grad).map(drop)
    }

    fn tracked(&self) -> Result<(Var, Var, Tensor)> {
        Ok((Var::from_tensor(&self.x)?, Var::from_tensor(&self.weight)?, self.x.affine(0.5, 0.1)?))
    }
}

/// A coupling's network, 1 → 32 → 32 → 2, as one op.
fn network(batch: usize) -> Result<(ConvNet, Tensor, Var)> {
    let leaky = Activation::LeakyRelu(0.01);
    let net = ConvNet::new(stencil()?, &[1, 32, 32, 2], leaky, Activation::Identity)?;
    let x = numbers(&[batch, VOLUME, 1], DType::F32)?;
    let theta = numbers(&[net.parameter_count()], DType::F32)?.affine(0.1, 0.0)?;
    Ok((net, x, Var::from_tensor(&theta)?))
}

/// Operations of the network's backward pass: all but the last layer again, the weight gradients, and the input gradients of all
/// layers but the first.
fn network_backward_flops(net: &ConvNet, batch: usize) -> f64 {
    let layers = net.layer_ranges();
    let flops = |l: usize| 2.0 * (layers[l].fan_in * layers[l].outputs * VOLUME * batch) as f64;
    let n = layers.len();
    let recomputed: f64 = (0..n - 1).map(flops).sum();
    let inputs: f64 = (1..n).map(flops).sum();
    recomputed + net.flops_forward(batch) + inputs
}

/// What candle's own `conv2d` makes of it, circular padding by concatenation.
fn candle_conv2d(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let wrap = |x: &Tensor, dim: usize| {
        Tensor::cat(&[&x.narrow(dim, EXTENT - 1, 1)?, x, &x.narrow(dim, 0, 1)?], dim)
    };
    wrap(&wrap(x, 2)?, 3)?.conv2d(weight, 0, 1, 1, 1)
}

fn report() -> Result<()> {
    let peak = Peak::measure();
    peak.print_heading()?;
    for (dtype, channels, batch) in [
        (DType::F32, 16, 64),
        (DType::F32, 16, 512),
        (DType::F32, 32, 64),
        (DType::F32, 32, 512),
        (DType::F32, 64, 64),
        (DType::F32, 64, 512),
        (DType::F64, 16, 64),
        (DType::F64, 32, 64),
        (DType::F64, 64, 64),
    ] {
        let case = Case::new(channels, batch, dtype)?;
        let name = |what| format!("{channels} → {channels}, batch {batch}, {dtype:?}: {what}");
        peak.print_row(&name("forward"), dtype, case.flops, || case.forward())?;
        let (x, weight, grad) = case.tracked()?;
        peak.print_row(&name("input gradient"), dtype, case.flops, || {
            case.backward(&x, &case.weight, &grad)
        })?;
        peak.print_row(&name("weight gradient"), dtype, case.flops, || {
            case.backward(&case.x, &weight, &grad)
        })?;
    }
    for batch in [64, 256, 1024] {
        let (net, x, theta) = network(batch)?;
        let name = |what| format!("network 1-32-32-2, batch {batch}, F32: {what}");
        peak.print_row(&name("forward"), DType::F32, net.flops_forward(batch), || net.forward(&x, &theta))?;
        let y = net.forward(&x, &theta)?;
        let flops = network_backward_flops(&net, batch);
        peak.print_row(&name("backward"), DType::F32, flops, || y.backward())?;
    }
    // What the same convolution costs in candle's `backward()`, and without kernels of our own.
    let case = Case::new(32, 64, DType::F32)?;
    peak.print_row("32 → 32, batch 64, F32: composed forward", DType::F32, case.flops, || {
        convolution_composed(&case.x, &case.weight, &case.bias, &case.stencil)
    })?;
    let (x, weight, _) = case.tracked()?;
    let y = convolution(&x, &weight, &case.bias, &case.stencil)?;
    peak.print_row("32 → 32, batch 64, F32: candle backward()", DType::F32, 2.0 * case.flops, || {
        y.backward()
    })?;
    let x = Var::from_tensor(&numbers(&[64, 32, EXTENT, EXTENT], DType::F32)?)?;
    let weight = Var::from_tensor(&numbers(&[32, 32, 3, 3], DType::F32)?)?;
    peak.print_row("32 → 32, batch 64, F32: candle conv2d forward", DType::F32, case.flops, || {
        candle_conv2d(&x, &weight)
    })?;
    let y = candle_conv2d(&x, &weight)?;
    peak.print_row("32 → 32, batch 64, F32: candle conv2d backward", DType::F32, 2.0 * case.flops, || {
        y.backward()
    })
}

fn statistics(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("convolution-3x3-16x16-f32");
    for (channels, batch) in [(16, 64), (32, 64), (32, 512), (64, 64)] {
        let case = Case::new(channels, batch, DType::F32)?;
        let name = format!("{channels}-to-{channels}-batch-{batch}");
        group.throughput(Throughput::Elements(case.flops as u64));
        group.bench_function(BenchmarkId::new("forward", &name), |b| b.iter(|| case.forward()));
        group.throughput(Throughput::Elements(2 * case.flops as u64));
        let (x, weight, grad) = case.tracked()?;
        group.bench_function(BenchmarkId::new("backward", &name), |b| {
            b.iter(|| case.backward(&x, &weight, &grad))
        });
    }
    group.finish();

    let batch = 256;
    let (net, x, theta) = network(batch)?;
    let mut group = criterion.benchmark_group("network-1-32-32-2-f32-batch-256");
    group.throughput(Throughput::Elements(net.flops_forward(batch) as u64));
    group.bench_function("forward", |b| b.iter(|| net.forward(&x, &theta)));
    group.throughput(Throughput::Elements(network_backward_flops(&net, batch) as u64));
    let y = net.forward(&x, &theta)?;
    group.bench_function("backward", |b| b.iter(|| y.backward()));
    group.finish();
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
