//! Samplers of links that flows take part in, on SU(3) in two dimensions, where the theory is solvable.
//!
//! ```text
//! Z = Σ_r λ_r^V,   λ_0 = ∫dU e^{(β/3) Re tr U};   the other representations are suppressed by (λ_r/λ_0)^V, 10⁻¹⁴ here
//! ⟨Re tr P⟩ = 3 d ln λ_0/dβ
//! ```
//!
//! Flows are bad on purpose: a wrong density or a wrong Jacobian moves the mean.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use candle_core::{DType, Device, Tensor};
use latflow_action::check::force_defect;
use latflow_action::{Action, Exact, WilsonGauge};
use latflow_flow::residual::{ResidualFlow, ResidualShape};
use latflow_flow::transport::{ContinuousFlow, LoopBasis, PriorPath, TimeGrid};
use latflow_flow::{Bijection, HaarUniform, ParamStore};
use latflow_lattice::check::max_difference;
use latflow_lattice::{Lattice, Links, Manifold, Streams, normal_tensor};
use latflow_sampler::{AnnealedFlow, GaugeHeatBath, Hmc, Integrator, MarkovKernel, PulledBack, Sweeps};
use std::sync::Arc;

const CPU: Device = Device::Cpu;
const BETA: f64 = 2.0;

fn lattice() -> Lattice {
    Lattice::new(&[4, 4]).unwrap()
}

fn wilson(beta: f64) -> WilsonGauge {
    WilsonGauge::new(&lattice(), 3, beta).unwrap()
}

fn haar(batch: usize) -> Links {
    Links::haar(&lattice(), batch, 3, &mut Streams::new(1).stream("haar", 0), &CPU).unwrap()
}

fn noise(seed: u64, shape: &[usize], sigma: f64) -> Tensor {
    normal_tensor(&mut Streams::new(seed).stream("test", 0), sigma, shape, DType::F64, &CPU).unwrap()
}

/// Twice too strong a step, with quadratic terms and a network of random weights.
fn residual() -> ResidualFlow {
    let mut store = ParamStore::new(Streams::new(2), DType::F64, &CPU);
    let shape = ResidualShape { passes: 1, weight: BETA / 8.0, quadratic: true, hidden: 3 };
    let flow = ResidualFlow::new(&mut store, "r", &lattice(), 3, shape).unwrap();
    for (i, (name, value)) in store.snapshot().unwrap().into_iter().enumerate() {
        let sigma = if name.ends_with("quadratic") { 0.004 } else { 0.03 };
        let change = noise(10 + i as u64, value.dims(), sigma);
        store.set(&name, &(value + change).unwrap()).unwrap();
    }
    flow
}

/// Lüscher's leading order with random coefficients of every loop on top.
fn continuous(intervals: usize) -> ContinuousFlow<LoopBasis> {
    let mut store = ParamStore::new(Streams::new(3), DType::F64, &CPU);
    let basis = Arc::new(LoopBasis::new(&lattice()).unwrap());
    let grid = TimeGrid::clustered(intervals, 1.0).unwrap();
    let flow = ContinuousFlow::new(&mut store, "c", basis, grid, 1).unwrap();
    let shape = store.snapshot().unwrap()["c"].dims().to_vec();
    let first = Tensor::from_vec(
        (0..shape[0] * shape[1]).map(|k| if k % shape[1] == 0 { BETA / 64.0 } else { 0.0 }).collect(),
        &shape[..],
        &CPU,
    );
    store.set("c", &(first.unwrap() + noise(4, &shape, 0.002)).unwrap()).unwrap();
    flow
}

/// ln λ_0 and ⟨Re tr P⟩/3 from the eigenvalues e^{ia}, e^{ib}, e^{−i(a+b)}.
fn exact() -> (f64, f64) {
    let n = 200;
    let (mut z, mut trace) = (0.0, 0.0);
    let angle = |k: usize| 2.0 * std::f64::consts::PI * k as f64 / n as f64;
    for (a, b) in (0..n * n).map(|k| (angle(k / n), angle(k % n))) {
        let c = -a - b;
        let gap = |x: f64, y: f64| 2.0 - 2.0 * (x - y).cos();
        let re_trace = a.cos() + b.cos() + c.cos();
        let weight = gap(a, b) * gap(b, c) * gap(c, a) * (BETA / 3.0 * re_trace).exp() / (6 * n * n) as f64;
        z += weight;
        trace += weight * re_trace / 3.0;
    }
    (z.ln(), trace / z)
}

/// Mean of Re tr P/3 of each configuration.
fn plaquette(u: &Links) -> Vec<f64> {
    let s = wilson(BETA).action(u).unwrap().to_vec1::<f64>().unwrap();
    s.iter().map(|s| -s / (BETA * 16.0)).collect()
}

fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n * (n - 1.0))).sqrt())
}

fn check_trajectories<F: Bijection<Links>>(name: &str, flow: &F, length: f64, steps: usize) {
    let target = PulledBack { flow, target: wilson(BETA) };
    let v = haar(24);
    let (_, expected) = exact();
    let small = Links::new(v.tensor().narrow(0, 0, 2).unwrap().contiguous().unwrap()).unwrap();
    let defect = force_defect(&target, &small, &noise(5, &small.tangent_shape(), 1.0), 1e-3).unwrap();
    assert!(defect < 1e-5, "{name}: force {defect:e}");

    let kernel = Hmc::new(Exact(target.clone()), Integrator::Leapfrog, length, steps).unwrap();
    let p = noise(6, &small.tangent_shape(), 1.0);
    let (end, momenta, change) = kernel.trajectory(&target, &small, &p).unwrap();
    let (back, _, _) = kernel.trajectory(&target, &end, &momenta.neg().unwrap()).unwrap();
    assert!(max_difference(back.tensor(), small.tensor()).unwrap() < 1e-9, "{name} is not reversible");
    assert!(change.iter().all(|h| h.abs() > 1e-6), "{name}: energy conserved too well to mean anything");

    let mut rng = Streams::new(7).stream("hmc", 0);
    let (mut state, mut violations, mut means) = (v, Vec::new(), vec![0.0; 24]);
    let (thermalization, measured) = (10, 40);
    for step in 0..thermalization + measured {
        let (next, info) = kernel.step(state, &mut rng).unwrap();
        state = next;
        assert_eq!(info.nonfinite, 0);
        if step >= thermalization {
            violations.extend(info.log_ratio.iter().map(|r| r.exp()));
            let x = target.field(&state).unwrap();
            means.iter_mut().zip(plaquette(&x)).for_each(|(m, p)| *m += p / f64::from(measured));
        }
    }
    let (mean, error) = mean_and_error(&violations);
    assert!(((mean - 1.0) / error).abs() < 4.0 && error < 0.1, "{name}: ⟨e^−ΔH⟩ = {mean} ± {error}");
    let (mean, error) = mean_and_error(&means);
    assert!(((mean - expected) / error).abs() < 4.0, "{name}: plaquette {mean} ± {error}, exact {expected}");
    assert!(error < 0.01, "{name}: error {error} too large to mean anything");
}

#[test]
fn hmc_through_a_residual_flow_is_exact() {
    check_trajectories("residual", &residual(), 1.0, 4);
}

#[test]
fn hmc_through_a_continuous_flow_is_exact() {
    check_trajectories("continuous", &continuous(2), 1.0, 4);
}

/// z-scores of ⟨w⟩/Z and of the plaquette, for sweeps by a kernel at every t; with the largest error.
fn annealed<M: MarkovKernel<Position = Links>>(
    steps: usize,
    kernel: impl FnMut(f64) -> latflow_sampler::Result<M>,
) -> ([f64; 2], f64) {
    let (log_lambda, expected) = exact();
    let flow = continuous(4);
    let path = PriorPath { prior: HaarUniform::new(&lattice(), 3, &CPU), end: wilson(BETA) };
    let sweeps = Sweeps::new(flow.grid(), steps, kernel).unwrap();
    let sampler = AnnealedFlow::new(path, flow, sweeps).unwrap();
    assert_eq!(sampler.sweeps().steps(), steps);
    let state = sampler.propose(400, &mut Streams::new(8).stream("annealed", 0)).unwrap();
    let weights: Vec<f64> = state.log_weight.iter().map(|w| (w - 16.0 * log_lambda).exp()).collect();
    let shifts: Vec<f64> =
        weights.iter().zip(plaquette(&state.x)).map(|(w, p)| w * (p / expected - 1.0)).collect();
    let (z, plaquette) = (mean_and_error(&weights), mean_and_error(&shifts));
    ([(z.0 - 1.0) / z.1, plaquette.0 / plaquette.1], z.1.max(plaquette.1))
}

#[test]
fn annealed_flows_of_links_have_the_exact_partition_function() {
    let hmc = |t: f64| Hmc::new(Exact(wilson(BETA * t)), Integrator::Leapfrog, 1.0, 5);
    let heat_bath = |t: f64| GaugeHeatBath::new(wilson(BETA * t), 1);
    let right =
        [("no sweeps", annealed(0, hmc)), ("HMC", annealed(1, hmc)), ("heat bath", annealed(1, heat_bath))];
    for (name, (z, error)) in right {
        assert!(z.iter().all(|z| z.abs() < 4.0), "{name}: {z:?}");
        assert!(error < 0.1, "{name}: error {error} too large to mean anything");
    }
    // Kernels of the target at every node do not leave e^{−S_t} invariant.
    let wrong = [("HMC", annealed(1, |_| hmc(1.0))), ("heat bath", annealed(1, |_| heat_bath(1.0)))];
    for (name, (z, _)) in wrong {
        assert!(z.iter().any(|z| z.abs() > 5.0), "kernels of the target went unnoticed, {name}: {z:?}");
    }
}
