//! The transport engine: vector fields, integrator, bijection and fit, on scalar fields and on a group.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fields;
mod fitting;
mod flow;
mod rotations;

use candle_core::{DType, Device, Tensor};
use latflow_flow::ParamStore;
use latflow_flow::transport::{ContinuousFlow, Factor, Feature, Local, ScalarBasis, TimeGrid};
use latflow_lattice::{Lattice, Streams, normal_tensor};
use std::sync::Arc;

const CPU: Device = Device::Cpu;

/// Keeps small matrix products on the thread of their test.
fn tune() {
    latflow_kernels::tune_process();
}

fn noise(seed: u64, shape: &[usize], sigma: f64) -> Tensor {
    normal_tensor(&mut Streams::new(seed).stream("test", 0), sigma, shape, DType::F64, &CPU).unwrap()
}

/// One row of every kind.
fn small_table() -> Vec<Feature> {
    let (one, field) = (Local::ONE, Local::field);
    vec![
        Feature::new("linear", one, field(Factor::power(1)), 2),
        Feature::new("sine", one, field(Factor::sin(3.0)), 1),
        Feature::new("gated", field(Factor::cos(1.5)), field(Factor::sin(1.5)), 1),
        Feature::new("composite", one, Local::product(Factor::cos(1.5), Factor::sin(0.8)), 1),
    ]
}

/// A flow of these features with random coefficients of size `strength`.
fn random_flow(
    lattice: &Lattice,
    strength: f64,
    grid: TimeGrid,
    steps: usize,
) -> (ContinuousFlow<ScalarBasis>, ParamStore) {
    let basis = ScalarBasis::new(lattice, &small_table(), &CPU).unwrap();
    let mut store = ParamStore::new(Streams::new(1), DType::F64, &CPU);
    let flow = ContinuousFlow::new(&mut store, "c", Arc::new(basis), grid, steps).unwrap();
    let shape = store.snapshot().unwrap()["c"].dims().to_vec();
    store.set("c", &noise(2, &shape, strength)).unwrap();
    (flow, store)
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

fn variance(x: &[f64]) -> f64 {
    let m = mean(x);
    x.iter().map(|v| (v - m).powi(2)).sum::<f64>() / x.len() as f64
}
