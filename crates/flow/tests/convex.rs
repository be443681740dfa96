//! Convex potential flows: what the contract table of `layers.rs` does not ask of a layer. Passes written by hand against
//! automatic derivatives, positivity, stochastic estimates against dense ones.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use candle_core::{DType, Device, Tensor, Var};
use latflow_action::{DeterminantAction, Exact, Phi4, Sum};
use latflow_fermion::{ConjugateGradient, DenseYukawa, HermitianPositive, LinearOperator, StaggeredYukawa};
use latflow_flow::check::{log_det_defect, round_trip_defect};
use latflow_flow::potential::{
    ConvexFlow, ConvexPotential, LogDet, LogDetGradient, LogDetValue, NewtonCg, PotentialShape,
    lanczos_log_det,
};
use latflow_flow::train::{Clip, Schedule, Trainer};
use latflow_flow::{Bijection, Chain, Error, FlowModel, Gaussian, ParamStore};
use latflow_lattice::check::{equivariance_defect, max_difference};
use latflow_lattice::{Boundary, Lattice, Streams, normal_tensor};
use nalgebra::DMatrix;
use std::collections::BTreeMap;

const CPU: Device = Device::Cpu;

fn noise(seed: u64, shape: &[usize], sigma: f64) -> Tensor {
    normal_tensor(&mut Streams::new(seed).stream("test", 0), sigma, shape, DType::F64, &CPU).unwrap()
}

fn shape(convolutions: usize, channels: usize, kernel: usize) -> PotentialShape {
    PotentialShape { convolutions, channels, kernel, nonlinear: 0.7, quadratic: 0.4 }
}

struct Model {
    lattice: Lattice,
    store: ParamStore,
    flow: ConvexFlow,
}

/// A layer whose parameters are all moved from where they start.
fn model(dims: &[usize], shape: &PotentialShape, log_det: LogDet) -> Model {
    let lattice = Lattice::new(dims).unwrap();
    let mut store = ParamStore::new(Streams::new(2), DType::F64, &CPU);
    let potential = ConvexPotential::new(&mut store, "u", &lattice, shape).unwrap();
    let flow = ConvexFlow::new(potential, log_det, NewtonCg::default()).unwrap();
    let moved: BTreeMap<String, Tensor> = store
        .snapshot()
        .unwrap()
        .into_iter()
        .map(|(name, value)| {
            let shift = noise(3, value.dims(), 0.3);
            (name, (value + shift).unwrap())
        })
        .collect();
    store.restore(&moved).unwrap();
    Model { lattice, store, flow }
}

/// Boxes smaller than the lattice, as large, and larger, in one, two and three dimensions.
fn models() -> Vec<Model> {
    [
        (vec![4, 6], shape(2, 3, 3)),
        (vec![4, 6], shape(4, 4, 3)),
        (vec![8, 10], shape(3, 2, 3)),
        (vec![12, 6], shape(4, 2, 3)),
        (vec![8, 6], shape(3, 2, 5)),
        (vec![14], shape(4, 3, 3)),
        (vec![4, 4, 4], shape(3, 2, 3)),
    ]
    .into_iter()
    .map(|(dims, shape)| model(&dims, &shape, LogDet::exact()))
    .collect()
}

fn scalar(t: &Tensor) -> f64 {
    t.sum_all().unwrap().to_scalar().unwrap()
}

#[test]
fn the_gradient_is_the_derivative_of_the_value() {
    for m in models() {
        for z in [noise(4, &[2, m.lattice.volume()], 1.0), noise(5, &[2, m.lattice.volume()], 0.0)] {
            let z = Var::from_tensor(&z).unwrap();
            let u = m.flow.potential().value(&z).unwrap();
            let automatic = u.sum_all().unwrap().backward().unwrap().remove(&z).unwrap();
            let defect = max_difference(&automatic, &m.flow.potential().gradient(&z).unwrap()).unwrap();
            assert!(defect < 1e-13, "{}: {defect:e}", m.lattice);
        }
    }
}

#[test]
fn hessian_products_dense_hessian_and_jacobian_agree() {
    for m in models() {
        let (volume, potential) = (m.lattice.volume(), m.flow.potential());
        let z = Var::from_tensor(&noise(6, &[2, volume], 1.0)).unwrap();
        let x = potential.gradient(&z).unwrap();
        let dense = potential.dense_hessian(&z).unwrap();
        let rows: Vec<Tensor> = (0..volume)
            .map(|s| {
                let row = x.narrow(1, s, 1).unwrap().sum_all().unwrap();
                row.backward().unwrap().remove(&z).unwrap().detach()
            })
            .collect();
        let jacobian = Tensor::stack(&rows, 1).unwrap();
        let defect = max_difference(&dense, &jacobian).unwrap();
        assert!(defect < 1e-12, "{}: dense Hessian {defect:e}", m.lattice);
        let asymmetry = max_difference(&dense, &dense.t().unwrap().contiguous().unwrap()).unwrap();
        assert!(asymmetry < 1e-14, "{}: asymmetry {asymmetry:e}", m.lattice);
        let v = noise(7, &[2, volume], 1.0);
        let product = potential.hessian(&z).unwrap().apply(&v).unwrap();
        let expected = dense.matmul(&v.unsqueeze(2).unwrap()).unwrap().squeeze(2).unwrap();
        let defect = max_difference(&product, &expected).unwrap();
        assert!(defect < 1e-12, "{}: product {defect:e}", m.lattice);
    }
}

#[test]
fn potentials_are_strongly_convex_for_random_weights() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let mut store = ParamStore::new(Streams::new(8), DType::F64, &CPU);
    let potential = ConvexPotential::new(&mut store, "u", &lattice, &shape(4, 3, 3)).unwrap();
    let mut nonlinear: f64 = 0.0;
    for seed in 0..30 {
        let start = store.snapshot().unwrap();
        // Weights of all signs and sizes; the last one is log w2.
        let theta = noise(100 + seed, start["u"].dims(), 1.5);
        store.set("u", &theta).unwrap();
        let quadratic = theta.to_vec1::<f64>().unwrap().pop().unwrap().exp();
        let dense = potential.dense_hessian(&noise(200 + seed, &[1, 16], 3.0)).unwrap();
        let h = DMatrix::from_vec(16, 16, dense.flatten_all().unwrap().to_vec1::<f64>().unwrap());
        let eigenvalues = h.symmetric_eigen().eigenvalues;
        let excess = (eigenvalues.min() - quadratic) / eigenvalues.max();
        assert!(excess > -1e-14, "seed {seed}: smallest eigenvalue {} below {quadratic}", eigenvalues.min());
        nonlinear = nonlinear.max(eigenvalues.max() / quadratic);
    }
    assert!(nonlinear > 10.0, "the network must do something: {nonlinear}");
}

#[test]
fn layers_are_equivariant_under_every_translation() {
    let m = model(&[4, 6], &shape(4, 4, 3), LogDet::exact());
    let z = noise(9, &[2, 24], 1.0);
    let map = |z: &Tensor| Ok(m.flow.forward(z, &()).unwrap().0);
    let (_, log_det) = m.flow.forward(&z, &()).unwrap();
    for (i, j) in (0..4).flat_map(|i| (0..6).map(move |j| (i, j))) {
        let defect = equivariance_defect(&m.lattice, map, &z, &[i, j], Boundary::Periodic).unwrap();
        assert!(defect < 1e-12, "translation by ({i}, {j}): {defect:e}");
        let moved = m.lattice.translate(&z, &[i, j], Boundary::Periodic).unwrap();
        let change = max_difference(&m.flow.forward(&moved, &()).unwrap().1, &log_det).unwrap();
        assert!(change < 1e-12, "translation by ({i}, {j}): log det changes by {change:e}");
    }
}

/// Σ_b w_b f_b for the log-determinant (of the inverse, if asked), with its gradients in the field and the parameters.
fn weighted(m: &Model, flow: &ConvexFlow, field: &Tensor, inverse: bool) -> (f64, Tensor, Tensor) {
    let field = Var::from_tensor(field).unwrap();
    let (out, log_det) = if inverse { flow.inverse(&field, &()) } else { flow.forward(&field, &()) }.unwrap();
    let weights = noise(10, log_det.dims(), 1.0);
    let mut sum = (log_det * weights).unwrap().sum_all().unwrap();
    if inverse {
        // The inverse itself, too, has derivatives that are not automatic.
        let weights = noise(11, out.dims(), 1.0);
        sum = (sum + (out * weights).unwrap().sum_all().unwrap()).unwrap();
    }
    let mut gradients = sum.backward().unwrap();
    let theta = m.store.iter().next().unwrap().1;
    (scalar(&sum), gradients.remove(&field).unwrap(), gradients.remove(theta).unwrap())
}

#[test]
fn exact_gradients_are_finite_differences() {
    for (dims, shape) in [([4, 6], shape(4, 3, 3)), ([8, 6], shape(3, 2, 3)), ([4, 4], shape(2, 3, 3))] {
        let m = model(&dims, &shape, LogDet::exact());
        let z = noise(12, &[3, m.lattice.volume()], 1.0);
        let theta = m.store.snapshot().unwrap()["u"].clone();
        for inverse in [false, true] {
            let (_, dz, dtheta) = weighted(&m, &m.flow, &z, inverse);
            let value = |z: &Tensor, theta: &Tensor| {
                m.store.set("u", theta).unwrap();
                weighted(&m, &m.flow, z, inverse).0
            };
            for seed in 0..6 {
                let (vz, vt) = (noise(20 + seed, z.dims(), 1.0), noise(30 + seed, theta.dims(), 1.0));
                let at = |h: f64| {
                    let shift = |x: &Tensor, v: &Tensor| (x + (v * h).unwrap()).unwrap();
                    [value(&shift(&z, &vz), &theta), value(&z, &shift(&theta, &vt))]
                };
                // Fourth order: the error is h⁴ times a fifth derivative, and rounding over h.
                let h = 1e-3;
                let (p, q, pp, qq) = (at(h), at(-h), at(2.0 * h), at(-2.0 * h));
                for (i, (gradient, v)) in [(&dz, &vz), (&dtheta, &vt)].into_iter().enumerate() {
                    let difference = (8.0 * (p[i] - q[i]) - (pp[i] - qq[i])) / (12.0 * h);
                    let got = scalar(&(gradient * v).unwrap());
                    let scale = difference.abs().max(1.0);
                    assert!(
                        (got - difference).abs() < 1e-7 * scale,
                        "{}, inverse {inverse}, {}: {got} against {difference}",
                        m.lattice,
                        ["field", "parameters"][i]
                    );
                }
            }
            m.store.set("u", &theta).unwrap();
        }
    }
}

fn stochastic(seed: u64, probes: usize) -> LogDet {
    let solver = ConjugateGradient { tolerance: 1e-12, max_iterations: 500 };
    let gradient = LogDetGradient::Stochastic { probes, solver, streams: Streams::new(seed) };
    LogDet { value: LogDetValue::Dense, gradient }
}

#[test]
fn the_stochastic_gradient_is_unbiased() {
    let m = model(&[4, 4], &shape(3, 3, 3), LogDet::exact());
    let z = noise(13, &[2, 16], 1.0);
    let (_, dz, dtheta) = weighted(&m, &m.flow, &z, false);
    let directions: Vec<(Tensor, Tensor)> =
        (0..8).map(|i| (noise(40 + i, dz.dims(), 1.0), noise(50 + i, dtheta.dims(), 1.0))).collect();
    let project = |dz: &Tensor, dtheta: &Tensor| -> Vec<f64> {
        let one = |a: &Tensor, b: &Tensor| scalar(&(a * b).unwrap());
        directions.iter().flat_map(|(vz, vt)| [one(dz, vz), one(dtheta, vt)]).collect()
    };
    let exact = project(&dz, &dtheta);
    let samples: Vec<Vec<f64>> = (0..400)
        .map(|seed| {
            let flow = m.flow.with_log_det(stochastic(seed, 2)).unwrap();
            let (_, dz, dtheta) = weighted(&m, &flow, &z, false);
            project(&dz, &dtheta)
        })
        .collect();
    let n = samples.len() as f64;
    // Sixteen scores, of which |z| > 4 has a probability of 1e-3 in all.
    for (i, exact) in exact.iter().enumerate() {
        let mean = samples.iter().map(|s| s[i]).sum::<f64>() / n;
        let variance = samples.iter().map(|s| (s[i] - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let score = (mean - exact) / (variance / n).sqrt();
        assert!(variance > 0.0 && score.abs() < 4.0, "component {i}: {mean} against {exact}, z = {score:.2}");
    }
}

#[test]
fn noise_belongs_to_the_configuration() {
    let m = model(&[4, 4], &shape(3, 3, 3), stochastic(1, 1));
    let z = noise(14, &[3, 16], 1.0);
    let gradient = |z: &Tensor| {
        let z = Var::from_tensor(z).unwrap();
        let (_, log_det) = m.flow.forward(&z, &()).unwrap();
        log_det.sum_all().unwrap().backward().unwrap().remove(&z).unwrap()
    };
    let all = gradient(&z);
    for b in 0..3 {
        let alone = gradient(&z.narrow(0, b, 1).unwrap());
        let defect = max_difference(&alone, &all.narrow(0, b, 1).unwrap()).unwrap();
        assert!(defect < 1e-11, "configuration {b}: {defect:e}");
    }
    let other = m.flow.with_log_det(stochastic(2, 1)).unwrap();
    let z = Var::from_tensor(&z).unwrap();
    let (_, log_det) = other.forward(&z, &()).unwrap();
    let changed = log_det.sum_all().unwrap().backward().unwrap().remove(&z).unwrap();
    assert!(max_difference(&changed, &all).unwrap() > 1e-3, "another seed must give other noise");
}

#[test]
fn lanczos_is_exact_for_unit_vectors_and_has_honest_errors() {
    let m = model(&[6, 6], &shape(3, 4, 3), LogDet::exact());
    let z = noise(15, &[200, 36], 1.0);
    let dense = m.flow.forward(&z, &()).unwrap().1.to_vec1::<f64>().unwrap();
    // Σ_j e_jᵀ log(H) e_j is the trace: no noise, only the quadrature's error.
    let first = z.narrow(0, 0, 2).unwrap();
    let unit = |j: usize| {
        let column: Vec<f64> = (0..72).map(|i| if i % 36 == j { 6.0 } else { 0.0 }).collect();
        Tensor::from_vec(column, (2, 36), &CPU).unwrap()
    };
    let hessian = m.flow.potential().hessian(&first).unwrap();
    let units: Vec<Tensor> = (0..36).map(unit).collect();
    for (steps, tolerance) in [(6, 1e-3), (30, 1e-11)] {
        let trace = lanczos_log_det(&hessian, &units, steps).unwrap().mean;
        for (trace, dense) in trace.iter().zip(&dense) {
            assert!((trace - dense).abs() < tolerance, "{steps} steps: {trace} against {dense}");
        }
    }
    let estimate = m.flow.estimate_log_det(&z, 40, 25, Streams::new(16)).unwrap();
    let scores: Vec<f64> =
        (0..200).map(|b| (estimate.mean[b] - dense[b]) / estimate.standard_error[b]).collect();
    let n = scores.len() as f64;
    let mean = scores.iter().sum::<f64>() / n;
    let square = scores.iter().map(|s| s * s).sum::<f64>() / n;
    // Student's t with 39 degrees of freedom: variance 39/37, fourth moment 3·39²/(37·35).
    let variance: f64 = 39.0 / 37.0;
    let deviation = (3.0 * 39.0 * 39.0 / (37.0 * 35.0) - variance * variance).sqrt();
    assert!((mean * (n / variance).sqrt()).abs() < 4.0, "mean score {mean}");
    assert!(((square - variance) / deviation * n.sqrt()).abs() < 4.0, "mean squared score {square}");
}

struct Diagonal(Tensor);

impl LinearOperator for Diagonal {
    fn apply(&self, v: &Tensor) -> latflow_fermion::Result<Tensor> {
        Ok((&self.0 * v)?)
    }

    fn apply_adjoint(&self, v: &Tensor) -> latflow_fermion::Result<Tensor> {
        self.apply(v)
    }
}

impl HermitianPositive for Diagonal {}

#[test]
fn lanczos_of_diagonal_matrices() {
    // A multiple of one, a matrix with three eigenvalues, and one that is not finite.
    let rows = vec![vec![2.0; 6], vec![1.0, 1.0, 3.0, 3.0, 9.0, 9.0], vec![f64::NAN; 6]];
    let operator = Diagonal(Tensor::new(rows, &CPU).unwrap());
    let signs = |seed: u64| noise(seed, &[3, 6], 1.0).sign().unwrap();
    let estimate = lanczos_log_det(&operator, &[signs(1), signs(2)], 5).unwrap();
    for (got, expected) in estimate.mean.iter().zip([6.0 * 2f64.ln(), 6.0 * 3f64.ln()]) {
        assert!((got - expected).abs() < 1e-13, "{got} against {expected}");
    }
    assert!(estimate.standard_error[0] < 1e-13 && estimate.mean[2].is_nan());
    let negative = Diagonal(Tensor::new(vec![vec![1.0, 1.0], vec![1.0, -2.0]], &CPU).unwrap());
    let ones = Tensor::ones((2, 2), DType::F64, &CPU).unwrap();
    let error = lanczos_log_det(&negative, &[ones.clone(), ones.clone()], 2);
    assert!(matches!(error, Err(Error::NotConvex { configuration: 1 })), "{error:?}");
    assert!(lanczos_log_det(&operator, &[signs(1)], 5).is_err(), "one probe has no error");
}

#[test]
fn an_inversion_that_fails_says_where() {
    let m = model(&[4, 4], &shape(3, 3, 3), LogDet::exact());
    let z = noise(17, &[3, 16], 3.0);
    let x = m.flow.potential().gradient(&z).unwrap().detach();
    let hasty = NewtonCg { max_iterations: 1, ..NewtonCg::default() };
    let flow = ConvexFlow::new(m.flow.potential().clone(), LogDet::exact(), hasty).unwrap();
    let error = flow.inverse(&x, &()).map(|_| ());
    assert!(matches!(error, Err(Error::Inversion { residual, .. }) if residual > 1e-12), "{error:?}");
    // A configuration that is not finite gets NaN, and its neighbours what they would get alone.
    let mut rows = x.to_vec2::<f64>().unwrap();
    rows[1][3] = f64::NAN;
    let (back, log_det) = m.flow.inverse(&Tensor::new(rows, &CPU).unwrap(), &()).unwrap();
    let (back, log_det) = (back.to_vec2::<f64>().unwrap(), log_det.to_vec1::<f64>().unwrap());
    let z = z.to_vec2::<f64>().unwrap();
    for b in 0..3 {
        let defect = back[b].iter().zip(&z[b]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert_eq!(log_det[b].is_nan(), b == 1, "configuration {b}");
        assert!(if b == 1 { back[b].iter().any(|z| z.is_nan()) } else { defect < 1e-11 }, "{b}: {defect:e}");
    }
}

#[test]
fn normalisation_starts_from_a_batch_and_lives_in_the_checkpoint() {
    let m = model(&[4, 6], &shape(4, 4, 3), LogDet::exact());
    let batch = noise(18, &[64, 24], 0.3);
    let before = m.flow.potential().gradient(&batch).unwrap();
    let x = m.flow.initialize(&m.store, &batch).unwrap();
    assert_eq!(max_difference(&x, &m.flow.potential().gradient(&batch).unwrap()).unwrap(), 0.0);
    assert!(max_difference(&x, &before).unwrap() > 1e-2);
    // Twice is once: the old normalisation is not applied before the new one is measured.
    let again = m.flow.initialize(&m.store, &batch).unwrap();
    assert!(max_difference(&x, &again).unwrap() < 1e-13);
    let fresh = model(&[4, 6], &shape(4, 4, 3), LogDet::exact());
    fresh.store.restore(&m.store.snapshot().unwrap()).unwrap();
    assert_eq!(max_difference(&again, &fresh.flow.potential().gradient(&batch).unwrap()).unwrap(), 0.0);
    let flat = Tensor::ones((8, 24), DType::F64, &CPU).unwrap();
    assert!(m.flow.initialize(&m.store, &flat).is_err(), "a batch that does not vary has no scale");
}

#[test]
fn trained_layers_keep_the_contract() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let phi4 = Phi4::new(&lattice, -4.0, 6.0).unwrap();
    let dirac = StaggeredYukawa::new(&lattice, 0.0, 0.3, Boundary::Antiperiodic).unwrap();
    let target = Exact(Sum(phi4, DeterminantAction(DenseYukawa::even_odd(&dirac).unwrap())));
    let mut store = ParamStore::new(Streams::new(19), DType::F64, &CPU);
    let shape = PotentialShape { convolutions: 3, channels: 4, ..PotentialShape::default() };
    let mut z = noise(20, &[64, 16], 0.3);
    let layers: Vec<ConvexFlow> = (0..2)
        .map(|i| {
            let potential = ConvexPotential::new(&mut store, &format!("u{i}"), &lattice, &shape).unwrap();
            let layer = ConvexFlow::new(potential, stochastic(21, 1), NewtonCg::default()).unwrap();
            z = layer.initialize(&store, &z).unwrap();
            layer
        })
        .collect();
    let chain = |log_det: &dyn Fn(&ConvexFlow) -> ConvexFlow| {
        Chain::new(Box::new(log_det(&layers[0])), vec![Box::new(log_det(&layers[1]))])
    };
    let prior = || Gaussian::new(0.5, 16, &CPU).unwrap();
    let model = FlowModel { prior: prior(), flow: chain(&|l| l.clone()) };
    let clip = Clip { value: 10.0, norm: 100.0 };
    let schedule = Schedule::new(&[(0, 3e-2)]).unwrap();
    let mut trainer = Trainer::new(&store, schedule, clip, 64, Streams::new(22)).unwrap();
    let losses: Vec<f64> = (0..150).map(|_| trainer.step(&model, &target, &store).unwrap().loss).collect();
    let mean = |l: &[f64]| l.iter().sum::<f64>() / l.len() as f64;
    assert!(
        mean(&losses[130..]) < mean(&losses[..10]) - 1.0,
        "training did not help: {} to {}",
        mean(&losses[..10]),
        mean(&losses[130..])
    );
    let exact = chain(&|l| l.with_log_det(LogDet::exact()).unwrap());
    let z = noise(23, &[3, 16], 0.5);
    let defect = round_trip_defect(&exact, &z, &()).unwrap();
    assert!(defect < 1e-11, "round trip {defect:e}");
    let defect = log_det_defect(&exact, &z, &()).unwrap();
    assert!(defect < 1e-9, "log-determinant {defect:e}");
}

#[test]
fn only_the_dense_value_is_exact() {
    let lanczos = LogDetValue::Lanczos { probes: 4, steps: 8, streams: Streams::new(1) };
    assert!(LogDetValue::Dense.is_exact() && !lanczos.is_exact());
    let m = model(&[4, 4], &shape(2, 2, 3), LogDet::exact());
    let z = noise(24, &[2, 16], 1.0);
    let log_det = LogDet { value: lanczos, ..stochastic(1, 1) };
    let flow = m.flow.with_log_det(log_det).unwrap();
    let (x, approximate) = flow.forward(&z, &()).unwrap();
    let (x_exact, exact) = m.flow.forward(&z, &()).unwrap();
    assert_eq!(max_difference(&x, &x_exact).unwrap(), 0.0);
    let defect = max_difference(&approximate, &exact).unwrap();
    assert!(defect > 1e-9 && defect < 1.0, "{defect:e}");
    for probes in [0, 1] {
        let value = LogDetValue::Lanczos { probes, steps: 8, streams: Streams::new(1) };
        assert!(m.flow.with_log_det(LogDet { value, ..LogDet::exact() }).is_err());
    }
    assert!(m.flow.with_log_det(stochastic(1, 0)).is_err());
}
