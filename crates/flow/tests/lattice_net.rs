//! Networks of the gauge and pseudofermion flows: sizes, start, symmetry, output at chosen sites.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use candle_core::{DType, Device, Tensor};
use candle_nn::Module;
use common::noise;
use latflow_flow::{Convolutions, LatticeNet, LatticeNetShape, ParamStore, Xavier};
use latflow_lattice::check::max_difference;
use latflow_lattice::{Boundary, Lattice, Streams};

const CPU: Device = Device::Cpu;

fn store(seed: u64, dtype: DType) -> ParamStore {
    ParamStore::new(Streams::new(seed), dtype, &CPU)
}

fn lattice() -> Lattice {
    Lattice::new(&[4, 4, 4, 4]).unwrap()
}

fn parameters(store: &ParamStore, name: &str) -> Vec<f64> {
    let (_, var) = store.iter().find(|(n, _)| *n == name).unwrap();
    var.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

#[test]
fn networks_have_the_papers_sizes() {
    let mut store = store(1, DType::F32);
    let marginal = LatticeNetShape::marginal();
    let mut count = |name: &str, inputs, outputs, shape: &LatticeNetShape| {
        LatticeNet::new(&mut store, name, &lattice(), inputs, outputs, shape).unwrap().parameter_count()
    };
    assert_eq!(count("spread", 12, 49, &marginal), 61_402);
    assert_eq!(count("middle", 13, 49, &marginal), 61_498);
    let conditional = LatticeNetShape::conditional();
    assert_eq!(count("ordinary", 6, 8, &conditional), 81 * (6 * 8 + 8 * 8) + 16);
    let separable = LatticeNetShape { convolutions: Convolutions::Separable, ..conditional };
    assert_eq!(count("separable", 6, 8, &separable), 3 * (6 * 8 + 7 * 8 * 8) + 16);
    assert_eq!(store.count(), 61_402 + 61_498 + 9_088 + 1_504);
}

#[test]
fn operations_of_the_papers_flow() {
    // 48 layers of two networks: 1.51 G multiply-adds a configuration when everything is computed everywhere.
    let mut store = store(1, DType::F32);
    let mut flops = |inputs: usize| {
        let name = inputs.to_string();
        let net = LatticeNet::new(&mut store, &name, &lattice(), inputs, 49, &LatticeNetShape::marginal());
        net.unwrap().flops_forward(1)
    };
    let total = 48.0 * (flops(12) + flops(13)) / 2.0;
    assert!((total / 1e9 - 1.507).abs() < 1e-3, "{total}");
}

/// z-scores of mean and variance of numbers that should be N(0, σ²).
fn scores(numbers: &[f64], sigma: f64) -> [f64; 2] {
    let n = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / n;
    let square = numbers.iter().map(|x| x * x).sum::<f64>() / (n * sigma * sigma);
    [mean / (sigma / n.sqrt()), (square - 1.0) / (2.0 / n).sqrt()]
}

#[test]
fn weights_start_with_xaviers_variance() {
    let mut store = store(7, DType::F64);
    LatticeNet::new(&mut store, "marginal", &lattice(), 12, 49, &LatticeNetShape::marginal()).unwrap();
    let theta = parameters(&store, "marginal");
    let mut rest = &theta[..];
    for (inputs, outputs) in [(12, 32), (32, 32), (32, 32), (32, 49)] {
        for direction in 0..4 {
            let inputs = if direction == 0 { inputs } else { outputs };
            let weights = rest.split_off(..3 * inputs * outputs).unwrap();
            let sigma = 0.5 * (2.0 / (3 * inputs + 3 * outputs) as f64).sqrt();
            for z in scores(weights, sigma) {
                assert!(z.abs() < 4.0, "{inputs} → {outputs}: {z}");
            }
        }
        assert!(rest.split_off(..outputs).unwrap().iter().all(|b| *b == 0.0));
    }
    assert!(rest.is_empty());

    let shape = LatticeNetShape { hidden: vec![400], ..LatticeNetShape::conditional() };
    let line = Lattice::new(&[4]).unwrap();
    LatticeNet::new(&mut store, "conditional", &line, 6, 500, &shape).unwrap();
    let theta = parameters(&store, "conditional");
    let biases = [&theta[3 * 6 * 400..][..400], &theta[theta.len() - 500..]].concat();
    let weights = &theta[..3 * 6 * 400];
    let sigma = 0.3 * (2.0f64 / (3 * 406) as f64).sqrt();
    for z in scores(&biases, 0.05).into_iter().chain(scores(weights, sigma)) {
        assert!(z.abs() < 4.0, "{z}");
    }
}

#[test]
fn every_network_starts_with_its_own_numbers() {
    let mut store = store(7, DType::F64);
    for name in ["a", "b"] {
        LatticeNet::new(&mut store, name, &lattice(), 2, 3, &LatticeNetShape::marginal()).unwrap();
    }
    assert_ne!(parameters(&store, "a"), parameters(&store, "b"));
}

fn shapes() -> Vec<LatticeNetShape> {
    let start =
        |shape: LatticeNetShape| LatticeNetShape { initial: Xavier { gain: 1.0, bias: 0.5 }, ..shape };
    let separable =
        LatticeNetShape { convolutions: Convolutions::Separable, ..LatticeNetShape::conditional() };
    vec![start(LatticeNetShape::marginal()), start(LatticeNetShape::conditional()), start(separable)]
}

fn translate(lattice: &Lattice, x: &Tensor, by: &[isize]) -> Tensor {
    let moved = lattice.translate(&x.transpose(1, 2).unwrap(), by, Boundary::Periodic).unwrap();
    moved.transpose(1, 2).unwrap().contiguous().unwrap()
}

#[test]
fn networks_commute_with_translations() {
    for lattice in [lattice(), Lattice::new(&[4, 6, 4, 4]).unwrap()] {
        for shape in shapes() {
            let net = LatticeNet::new(&mut store(3, DType::F64), "net", &lattice, 5, 6, &shape).unwrap();
            let x = noise(4, &[2, lattice.volume(), 5], 1.0);
            let y = net.forward(&x).unwrap();
            for by in [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [2, 3, 1, 2]] {
                let moved = net.forward(&translate(&lattice, &x, &by)).unwrap();
                let error = max_difference(&moved, &translate(&lattice, &y, &by)).unwrap();
                assert!(error < 1e-12, "{shape:?}, {by:?}: {error:e}");
                assert!(max_difference(&moved, &y).unwrap() > 1e-3, "{shape:?}, {by:?}: output is constant");
            }
        }
    }
}

#[test]
fn the_output_at_chosen_sites_is_the_output_there() {
    let sites = [3u32, 250, 17, 0];
    for shape in shapes() {
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-4)] {
            let net = LatticeNet::new(&mut store(3, dtype), "net", &lattice(), 12, 49, &shape).unwrap();
            let x = noise(4, &[2, 256, 12], 1.0);
            let some = net.at(&sites).unwrap().forward(&x).unwrap();
            assert_eq!((some.dims(), some.dtype()), (&[2, 4, 49][..], dtype));
            let all = net.forward(&x).unwrap();
            let there = all.index_select(&Tensor::new(&sites, &CPU).unwrap(), 1).unwrap();
            let [some, there] = [some, there].map(|t| t.to_dtype(DType::F64).unwrap());
            let error = max_difference(&some, &there).unwrap();
            assert!(error < tolerance, "{shape:?}, {dtype:?}: {error:e}");
        }
    }
}

#[test]
fn misfits_are_errors() {
    let mut store = store(1, DType::F64);
    let mut build = |inputs, shape: LatticeNetShape| {
        LatticeNet::new(&mut store, "net", &lattice(), inputs, 3, &shape).map(drop)
    };
    let shape = LatticeNetShape::marginal;
    assert!(build(0, shape()).is_err());
    assert!(build(2, LatticeNetShape { hidden: vec![4, 0], ..shape() }).is_err());
    assert!(build(2, LatticeNetShape { kernel: 5, ..shape() }).is_err());
    assert!(build(2, LatticeNetShape { kernel: 2, ..shape() }).is_err());
    assert!(build(2, LatticeNetShape { initial: Xavier { gain: -1.0, bias: 0.0 }, ..shape() }).is_err());
    assert!(build(2, LatticeNetShape { initial: Xavier { gain: 1.0, bias: f64::NAN }, ..shape() }).is_err());
    build(2, shape()).unwrap();
    assert!(build(2, shape()).is_err());
}
