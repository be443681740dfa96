//! Annealed flows on a lattice of two sites, where everything is a two-dimensional integral, with flows that are bad on purpose.
//!
//! ```text
//! S = −4 φ_0 φ_1 + Σ [(m² + 2) φ² + λ φ⁴]                     both neighbours of a site are the other one
//! ```

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use candle_core::{DType, Device, Tensor};
use latflow_action::{Action, Exact, Phi4};
use latflow_flow::transport::{
    ActionPath, AtTime, Basis, ContinuousFlow, Factor, Feature, Local, PriorPath, Ridge, ScalarBasis,
    StreamingMoments, TimeGrid, TransportOptions, fit, fit_refreshed,
};
use latflow_flow::{Distribution, Gaussian, ParamStore, Sample};
use latflow_lattice::{Lattice, Streams, normal_tensor};
use latflow_sampler::{
    AnnealedFlow, Error, Hmc, IndependenceState, Integrator, MarkovKernel, Result, Sweeps,
};
use std::sync::Arc;

const CPU: Device = Device::Cpu;
const M2: f64 = -1.0;
const LAMBDA: f64 = 1.5;
const SIGMA: f64 = 1.0;

type Path = PriorPath<Gaussian, Phi4>;
type Kernel = Hmc<Exact<AtTime<Path>>, Tensor>;
type Sampler = AnnealedFlow<Gaussian, Phi4, ScalarBasis, Kernel>;

fn path() -> Path {
    let lattice = Lattice::new(&[2]).unwrap();
    PriorPath { prior: Gaussian::new(SIGMA, 2, &CPU).unwrap(), end: Phi4::new(&lattice, M2, LAMBDA).unwrap() }
}

/// Trajectories long enough to move, and coarse enough that some are rejected.
fn kernel(t: f64) -> Result<Kernel> {
    Hmc::new(Exact(AtTime { path: path(), t }), Integrator::Leapfrog, 1.0, 3)
}

fn grid(intervals: usize) -> TimeGrid {
    TimeGrid::clustered(intervals, 1.0).unwrap()
}

fn basis() -> Arc<ScalarBasis> {
    let table = [
        Feature::new("linear", Local::ONE, Local::field(Factor::power(1)), 1),
        Feature::new("sine", Local::ONE, Local::field(Factor::sin(1.5)), 1),
    ];
    Arc::new(ScalarBasis::new(&Lattice::new(&[2]).unwrap(), &table, &CPU).unwrap())
}

/// A flow with random coefficients of the given size.
fn flow(intervals: usize, strength: f64) -> (ContinuousFlow<ScalarBasis>, ParamStore) {
    let mut store = ParamStore::new(Streams::new(1), DType::F64, &CPU);
    let flow = ContinuousFlow::new(&mut store, "c", basis(), grid(intervals), 2).unwrap();
    let shape = store.snapshot().unwrap()["c"].dims().to_vec();
    let mut rng = Streams::new(2).stream("coefficients", 0);
    store.set("c", &normal_tensor(&mut rng, strength, &shape, DType::F64, &CPU).unwrap()).unwrap();
    (flow, store)
}

fn sampler(intervals: usize, strength: f64, sweeps: usize) -> Sampler {
    let sweeps = Sweeps::new(&grid(intervals), sweeps, kernel).unwrap();
    AnnealedFlow::new(path(), flow(intervals, strength).0, sweeps).unwrap()
}

/// Z, ⟨φ_0²⟩ and ⟨φ_0φ_1⟩ by the trapezoidal rule.
fn quadrature() -> (f64, f64, f64) {
    let h = 0.01;
    let points: Vec<f64> = (-400..=400).map(|i| f64::from(i) * h).collect();
    let local = |p: f64| (M2 + 2.0) * p * p + LAMBDA * p.powi(4);
    let [mut z, mut square, mut product] = [0.0; 3];
    for &p in &points {
        for &q in &points {
            let w = (4.0 * p * q - local(p) - local(q)).exp() * h * h;
            z += w;
            square += w * p * p;
            product += w * p * q;
        }
    }
    (z, square / z, product / z)
}

fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n * (n - 1.0))).sqrt())
}

fn variance(values: &[f64]) -> f64 {
    let (_, error) = mean_and_error(values);
    error * error * values.len() as f64
}

/// z-scores of ⟨w⟩/Z, ⟨w φ_0²⟩/(Z ⟨φ_0²⟩) and ⟨w φ_0φ_1⟩/(Z ⟨φ_0φ_1⟩) against 1, and the largest of their errors.
fn scores(state: &IndependenceState<Tensor>) -> ([f64; 3], f64) {
    let (z, square, product) = quadrature();
    let phi = state.x.to_vec2::<f64>().unwrap();
    let weighted = |o: &dyn Fn(&[f64]) -> f64| -> Vec<f64> {
        phi.iter().zip(&state.log_weight).map(|(p, w)| o(p) * (w - z.ln()).exp()).collect()
    };
    let values =
        [weighted(&|_| 1.0), weighted(&|p| p[0] * p[0] / square), weighted(&|p| p[0] * p[1] / product)];
    let parts = values.map(|v| mean_and_error(&v));
    (parts.map(|(m, e)| (m - 1.0) / e), parts.iter().fold(0.0, |worst, p| f64::max(worst, p.1)))
}

#[test]
fn weights_are_exact_for_any_flow_and_any_number_of_sweeps() {
    // Twelve numbers: |z| < 4 raises a false alarm once in 1,300.
    for (strength, sweeps, samples) in
        [(0.0, 1, 20_000), (0.3, 0, 60_000), (0.3, 1, 20_000), (0.3, 2, 20_000)]
    {
        let mut rng = Streams::new(3).stream("annealed", sweeps as u64);
        let state = sampler(5, strength, sweeps).propose(samples, &mut rng).unwrap();
        let (z, error) = scores(&state);
        assert!(z.iter().all(|z| z.abs() < 4.0), "strength {strength}, {sweeps} sweeps: {z:?}");
        assert!(
            error < 0.03,
            "strength {strength}, {sweeps} sweeps: error {error} too large to mean anything"
        );
    }
}

#[test]
fn sweeps_make_up_for_a_bad_flow() {
    let spread = |sweeps| {
        let mut rng = Streams::new(4).stream("annealed", 0);
        variance(&sampler(12, 0.5, sweeps).propose(4000, &mut rng).unwrap().log_weight)
    };
    let (none, some) = (spread(0), spread(2));
    assert!(some < none / 2.0, "Var(log w) = {none} without sweeps, {some} with");
}

#[test]
fn wrong_weights_and_wrong_kernels_are_caught() {
    let samples = 20_000;
    let far = |what: &str, state: &IndependenceState<Tensor>| {
        let (z, _) = scores(state);
        assert!(z.iter().any(|z| z.abs() > 8.0), "{what} went unnoticed: {z:?}");
    };
    // The kernel of the target at every node does not leave e^{−S_t} invariant.
    let mut rng = Streams::new(5).stream("annealed", 0);
    let sweeps = Sweeps::new(&grid(5), 1, |_| kernel(1.0)).unwrap();
    let wrong = AnnealedFlow::new(path(), flow(5, 0.5).0, sweeps).unwrap();
    far("a kernel of another coupling", &wrong.propose(samples, &mut rng).unwrap());
    // Weights written out by hand: right, with S_{t_{k+1}} taken after the sweep, without the log-determinants.
    let (path, (flow, _)) = (path(), flow(5, 0.5));
    let sweeps = Sweeps::new(&grid(5), 1, kernel).unwrap();
    for variant in 0..3 {
        let mut rng = Streams::new(6).stream("annealed", 0);
        let mut x = path.prior.sample(samples, &(), &mut rng).unwrap();
        let action = |x: &Tensor, t: f64| -> Tensor {
            let start = path.prior.log_prob(x, &()).unwrap();
            ((start * (t - 1.0)).unwrap() + (path.end.action(x).unwrap() * t).unwrap()).unwrap()
        };
        let mut log_weight = Tensor::zeros(samples, DType::F64, &CPU).unwrap();
        for k in 0..5 {
            let t = |k: usize| k as f64 / 5.0;
            let before = action(&x, t(k));
            let (y, log_det) = flow.between(&x, k, k + 1).unwrap();
            let y = y.detach();
            x = if k < 4 { sweeps.apply(k + 1, y.clone(), &mut rng).unwrap() } else { y.clone() };
            let after = action(if variant == 1 { &x } else { &y }, t(k + 1));
            log_weight = (log_weight + (before - after).unwrap()).unwrap();
            if variant != 2 {
                log_weight = (log_weight + log_det.detach()).unwrap();
            }
        }
        let state = IndependenceState { x, log_weight: log_weight.to_vec1().unwrap() };
        match variant {
            0 => assert!(scores(&state).0.iter().all(|z| z.abs() < 4.0), "{:?}", scores(&state)),
            1 => far("an action taken after the sweep", &state),
            _ => far("a log-determinant left out", &state),
        }
    }
}

#[test]
fn independence_metropolis_on_trajectories_is_exact() {
    let sampler = sampler(4, 0.5, 1);
    let (_, square, product) = quadrature();
    let mut rng = Streams::new(7).stream("annealed", 0);
    let mut state = sampler.start(400, &mut rng).unwrap();
    let (mut sums, mut acceptance, steps) = (vec![[0.0; 2]; 400], 0.0, 150);
    for step in 0..steps + 30 {
        let (next, info) = sampler.step(state, &mut rng).unwrap();
        state = next;
        assert_eq!(info.nonfinite, 0);
        if step >= 30 {
            acceptance += info.acceptance() / f64::from(steps);
            for (sum, phi) in sums.iter_mut().zip(state.x.to_vec2::<f64>().unwrap()) {
                sum[0] += phi[0] * phi[0] / square / f64::from(steps);
                sum[1] += phi[0] * phi[1] / product / f64::from(steps);
            }
        }
    }
    for i in 0..2 {
        let (mean, error) = mean_and_error(&sums.iter().map(|s| s[i]).collect::<Vec<_>>());
        assert!(((mean - 1.0) / error).abs() < 4.0 && error < 0.02, "{mean} ± {error}");
    }
    assert!((0.1..0.95).contains(&acceptance), "{acceptance}");
}

#[test]
fn parts_of_a_flow_are_the_flow() {
    let (flow, _) = flow(6, 0.3);
    let z = normal_tensor(&mut Streams::new(8).stream("test", 0), 0.7, &[3, 2], DType::F64, &CPU).unwrap();
    let (whole, log_det) = flow.between(&z, 0, 6).unwrap();
    let (middle, first) = flow.between(&z, 0, 4).unwrap();
    let (end, second) = flow.between(&middle, 4, 6).unwrap();
    let (back, third) = flow.between(&end, 6, 0).unwrap();
    let close = |a: &Tensor, b: &Tensor| latflow_lattice::check::max_difference(a, b).unwrap() < 1e-3;
    assert!(close(&whole, &end) && close(&log_det, &(first + second).unwrap()));
    assert!(close(&back, &z) && close(&third.neg().unwrap(), &log_det));
    let (same, nothing) = flow.between(&z, 3, 3).unwrap();
    assert!(close(&same, &z) && nothing.to_vec1::<f64>().unwrap() == [0.0; 3]);
    assert!(flow.between(&z, 0, 7).is_err());
    // A part may use its share of the tolerance and no more.
    let error = flow.integration_error(&z).unwrap();
    assert!(error > 0.0);
    assert!(flow.clone().with_tolerance(error * 1e-9).unwrap().between(&z, 0, 1).is_err());
}

#[test]
fn coefficients_are_fitted_on_samples_that_forgot_the_past() {
    let options =
        TransportOptions { grid: grid(10), batches: 4, batch: 1000, steps: 1, ridge: Ridge::default() };
    // Fine steps: a chain that is stuck in the tail of φ⁴ would decide the regression.
    let fine = |t| Hmc::new(Exact(AtTime { path: path(), t }), Integrator::Omelyan, 1.0, 10);
    let sweeps = Sweeps::new(&options.grid, 2, fine).unwrap();
    let prior = path().prior;
    let stream = || Streams::new(9).stream("fit", 0);
    let plain = fit(basis().as_ref(), &path(), &prior, &options, &mut stream()).unwrap();
    let refresh = |k, x, rng: &mut _| sweeps.apply(k, x, rng);
    let refreshed =
        fit_refreshed(basis().as_ref(), &path(), &prior, &options, refresh, &mut stream()).unwrap();
    assert_eq!(plain.coefficients[0], refreshed.coefficients[0]);
    // The regression at t = 1 on exact samples of the target: a long chain of its kernel.
    let mut rng = stream();
    let mut x = prior.sample(16_000, &(), &mut rng).unwrap();
    let target = fine(1.0).unwrap();
    for _ in 0..40 {
        x = target.step(x, &mut rng).unwrap().0;
    }
    let point = path().at(&x, 1.0).unwrap();
    let rows = basis().stein(&x, &point.gradient).unwrap();
    let mut folds = [0, 1].map(|_| StreamingMoments::new(rows.dims()[1]));
    for (i, fold) in folds.iter_mut().enumerate() {
        let part = |t: &Tensor| t.narrow(0, 8000 * i, 8000).unwrap();
        fold.add(&part(&rows), &part(&point.rate)).unwrap();
    }
    let best = Ridge::default().solve(&folds, &[]).unwrap().coefficients;
    let residual = |c: &[f64]| {
        let c = Tensor::from_slice(c, (c.len(), 1), &CPU).unwrap();
        let left = rows.matmul(&c).unwrap().squeeze(1).unwrap();
        variance(&(left - &point.rate).unwrap().to_vec1::<f64>().unwrap())
    };
    let [best, carried, refreshed] =
        [&best, plain.coefficients.last().unwrap(), refreshed.coefficients.last().unwrap()]
            .map(|c| residual(c));
    let excess = (carried - best, refreshed - best);
    assert!(
        excess.1 < excess.0 / 3.0,
        "residual {best}, with carried samples {carried}, refreshed {refreshed}"
    );
    let failing =
        |_, _, _: &mut _| -> std::result::Result<Tensor, Error> { Err(Error::Chains { chains: 1, got: 0 }) };
    let failed = fit_refreshed(basis().as_ref(), &path(), &prior, &options, failing, &mut stream());
    assert!(matches!(failed, Err(latflow_flow::Error::Refresh(_))));
}

#[test]
fn sweeps_belong_to_a_grid() {
    let sweeps = Sweeps::new(&grid(4), 1, kernel).unwrap();
    assert_eq!(sweeps.steps(), 1);
    assert!(AnnealedFlow::new(path(), flow(5, 0.0).0, sweeps.clone()).is_err());
    let x = Tensor::zeros((1, 2), DType::F64, &CPU).unwrap();
    let mut rng = Streams::new(10).stream("test", 0);
    for k in [0, 5] {
        assert!(matches!(sweeps.apply(k, x.clone(), &mut rng), Err(Error::Parameter { .. })));
    }
}
