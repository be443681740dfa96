//! Stencils, seeded tensors and error measures shared by the tests.

#![allow(dead_code, reason = "every test binary uses its own part")]

use candle_core::{DType, Device, Result, Tensor, Var};
use latflow_kernels::Stencil;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

pub(crate) type Stream = Xoshiro256PlusPlus;

pub(crate) fn stream(seed: u64) -> Stream {
    Stream::seed_from_u64(seed)
}

/// 3×3 filter on a periodic `rows × columns` lattice; fields may be antiperiodic along the second direction.
pub(crate) fn square(rows: usize, columns: usize, antiperiodic: bool) -> Stencil {
    let (mut neighbours, mut signs) = (Vec::new(), Vec::new());
    for dy in [rows - 1, 0, 1] {
        for dx in [-1, 0, 1] {
            for y in 0..rows {
                for x in 0..columns as i64 {
                    let x = x + dx;
                    let wrapped = x.rem_euclid(columns as i64) as usize;
                    neighbours.push(((y + dy) % rows * columns + wrapped) as u32);
                    signs.push(if x == wrapped as i64 { 1 } else { -1 });
                }
            }
        }
    }
    Stencil::new(rows * columns, neighbours, antiperiodic.then_some(signs)).unwrap()
}

/// Kernel of an odd extent along one direction of a periodic lattice, the last direction the fastest.
pub(crate) fn along(dims: &[usize], direction: usize, kernel: usize) -> Stencil {
    let volume: usize = dims.iter().product();
    let (length, stride) = (dims[direction], dims[direction + 1..].iter().product::<usize>());
    let read = |tap: usize, s: usize| {
        let x = s / stride % length;
        s - x * stride + (x + tap + length - kernel / 2) % length * stride
    };
    let neighbours = (0..kernel).flat_map(|tap| (0..volume).map(move |s| read(tap, s) as u32));
    Stencil::new(volume, neighbours.collect(), None).unwrap()
}

/// One kernel a direction.
pub(crate) fn directions(dims: &[usize], kernel: usize) -> Vec<Stencil> {
    (0..dims.len()).map(|direction| along(dims, direction, kernel)).collect()
}

/// Taps that are random permutations of the sites with random signs.
pub(crate) fn shuffled(taps: usize, volume: usize, signed: bool, rng: &mut Stream) -> Stencil {
    let mut neighbours = Vec::new();
    for _ in 0..taps {
        let mut tap: Vec<u32> = (0..volume as u32).collect();
        for i in (1..volume).rev() {
            tap.swap(i, rng.random_range(0..=i));
        }
        neighbours.extend(tap);
    }
    let signs =
        signed.then(|| (0..taps * volume).map(|_| if rng.random::<bool>() { 1 } else { -1 }).collect());
    Stencil::new(volume, neighbours, signs).unwrap()
}

/// Uniform in (−1, 1).
pub(crate) fn uniform(shape: &[usize], dtype: DType, rng: &mut Stream) -> Tensor {
    let n = shape.iter().product();
    let data: Vec<f64> = (0..n).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// max |a − b| / max |b|.
pub(crate) fn deviation(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!((a.dims(), a.dtype()), (b.dims(), b.dtype()));
    let (a, b) = (values(a), values(b));
    let scale = b.iter().fold(f64::MIN_POSITIVE, |m, b| m.max(b.abs()));
    let worst = a
        .iter()
        .zip(&b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |m: f64, d| if d.is_nan() { d } else { m.max(d) });
    assert!(!worst.is_nan());
    worst / scale
}

pub(crate) fn values(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The value of `f` and the gradients of Σ f ∘ g, for a fixed g, with respect to every argument.
pub(crate) fn pull_back(
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
    arguments: &[&Tensor],
    seed: u64,
) -> Vec<Tensor> {
    let vars: Vec<Var> = arguments.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tracked).unwrap();
    let g = uniform(y.dims(), y.dtype(), &mut stream(seed));
    let grads = (&y * &g).unwrap().sum_all().unwrap().backward().unwrap();
    let mut all = vec![y.detach()];
    all.extend(vars.iter().map(|v| grads.get(v).unwrap().detach()));
    all
}
