//! Residual gauge layers: dense Jacobian, gauge equivariance, inverse, gradients, the bound, and what one step is worth.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use candle_core::{DType, Device, Tensor, Var};
use latflow_fermion::log_abs_det;
use latflow_flow::residual::{ResidualFlow, ResidualShape};
use latflow_flow::{Bijection, Error, ParamStore};
use latflow_lattice::check::max_difference;
use latflow_lattice::gauge::{generators, haar_matrices, matrix, plaquettes};
use latflow_lattice::{Lattice, Links, Manifold, Streams, normal_tensor, sum_per_configuration};

const CPU: Device = Device::Cpu;

fn noise(seed: u64, shape: &[usize], sigma: f64) -> Tensor {
    normal_tensor(&mut Streams::new(seed).stream("test", 0), sigma, shape, DType::F64, &CPU).unwrap()
}

fn haar(lattice: &Lattice, batch: usize, n: usize) -> Links {
    Links::haar(lattice, batch, n, &mut Streams::new(1).stream("haar", 0), &CPU).unwrap()
}

const FULL: ResidualShape = ResidualShape { passes: 1, weight: 0.03, quadratic: true, hidden: 4 };

/// A flow whose parameters are random, small enough for the bound.
fn random_flow(lattice: &Lattice, n: usize, shape: ResidualShape) -> (ResidualFlow, ParamStore) {
    let mut store = ParamStore::new(Streams::new(2), DType::F64, &CPU);
    let flow = ResidualFlow::new(&mut store, "r", lattice, n, shape).unwrap();
    for (i, (name, value)) in store.snapshot().unwrap().into_iter().enumerate() {
        let sigma = match name.rsplit('.').next().unwrap() {
            "weights" => 0.04,
            "quadratic" => 0.003,
            "out" => 0.02,
            _ => 0.5,
        };
        let change = noise(10 + i as u64, value.dims(), sigma);
        store.set(&name, &(value + change).unwrap()).unwrap();
    }
    (flow, store)
}

/// 2 Im tr T^a (U V†) for matrices near each other: the ω of U = exp(iω^aT^a) V to second order, `[B, rest]`.
fn tangent(u: &Links, v: &Links) -> Tensor {
    let n = u.colours();
    let w = matrix::product(u.tensor(), &matrix::adjoint(v.tensor()).unwrap()).unwrap();
    let flat = w.reshape(((), n * n, 2)).unwrap();
    let (re, im) = (
        flat.narrow(2, 0, 1).unwrap().squeeze(2).unwrap(),
        flat.narrow(2, 1, 1).unwrap().squeeze(2).unwrap(),
    );
    let d = n * n - 1;
    // tr T W = Σ_ij T_ij W_ji: the transposed generators.
    let t = Tensor::from_vec(generators(n), (d, n, n, 2), &CPU).unwrap().transpose(1, 2).unwrap();
    let part =
        |k: usize| t.narrow(3, k, 1).unwrap().contiguous().unwrap().reshape((d, n * n)).unwrap().t().unwrap();
    let trace = (im.contiguous().unwrap().matmul(&part(0)).unwrap()
        + re.contiguous().unwrap().matmul(&part(1)).unwrap())
    .unwrap();
    (trace * 2.0).unwrap().reshape((u.tensor().dims()[0], ())).unwrap()
}

/// log |det| of the map in tangent coordinates, by differences of fourth order along every generator of every link.
fn dense_log_det(map: impl Fn(&Links) -> Links, u: &Links) -> f64 {
    let shape = u.tangent_shape();
    let size: usize = shape[1..].iter().product();
    let copies = u.tensor().broadcast_as([&[size], &u.tensor().dims()[1..]].concat()).unwrap();
    let copies = Links::new(copies.contiguous().unwrap()).unwrap();
    let end = map(u);
    let end = Links::new(end.tensor().broadcast_as(copies.tensor().shape()).unwrap().contiguous().unwrap());
    let end = end.unwrap();
    let unit = Tensor::eye(size, DType::F64, &CPU).unwrap().reshape([&[size], &shape[1..]].concat()).unwrap();
    let at = |h: f64| tangent(&map(&copies.exp(&(&unit * h).unwrap()).unwrap()), &end);
    let h = 1e-3;
    let near = (at(h) - at(-h)).unwrap();
    let far = (at(2.0 * h) - at(-2.0 * h)).unwrap();
    let rows = (((near * 8.0).unwrap() - far).unwrap() / (12.0 * h)).unwrap();
    log_abs_det(&rows.unsqueeze(0).unwrap()).unwrap().to_vec1::<f64>().unwrap()[0]
}

#[test]
fn the_log_determinant_is_that_of_the_map() {
    let cases: [(&[usize], usize, ResidualShape); 4] = [
        (&[4, 4], 3, FULL),
        (&[4, 4], 3, ResidualShape { quadratic: false, hidden: 0, ..FULL }),
        (&[4, 4], 2, ResidualShape { passes: 2, ..FULL }),
        (&[2, 2, 4], 2, FULL),
    ];
    for (dims, n, shape) in cases {
        let lattice = Lattice::new(dims).unwrap();
        let (flow, _) = random_flow(&lattice, n, shape);
        assert_eq!(flow.depth(), shape.passes * 2 * dims.len());
        let u = haar(&lattice, 1, n);
        let (_, log_det) = flow.forward(&u, &()).unwrap();
        let log_det = log_det.to_vec1::<f64>().unwrap()[0];
        let dense = dense_log_det(|u| flow.forward(u, &()).unwrap().0, &u);
        assert!((log_det - dense).abs() < 1e-7, "{dims:?}, SU({n}): {log_det} reported, {dense} dense");
        assert!(dense.abs() > 0.1, "{dims:?}: log |det| = {dense} is too small to mean anything");
    }
}

#[test]
fn layers_are_gauge_equivariant() {
    for (dims, n) in [(&[4, 4][..], 3), (&[2, 2, 2, 4][..], 3), (&[4, 2, 4][..], 2)] {
        let lattice = Lattice::new(dims).unwrap();
        let (flow, _) = random_flow(&lattice, n, FULL);
        let u = haar(&lattice, 2, n);
        let mut rng = Streams::new(3).stream("gauge", 0);
        let v = lattice.volume();
        let omega = haar_matrices(2 * v, n, &mut rng, &CPU).unwrap().reshape((2, v, n, n, 2)).unwrap();
        let (a, log_det) = flow.forward(&u, &()).unwrap();
        let (b, log_det_b) = flow.forward(&u.gauge_transform(&lattice, &omega).unwrap(), &()).unwrap();
        let turned = a.gauge_transform(&lattice, &omega).unwrap();
        assert!(max_difference(turned.tensor(), b.tensor()).unwrap() < 1e-12, "{dims:?}");
        assert!(max_difference(&log_det, &log_det_b).unwrap() < 1e-10, "{dims:?}");
        assert!(a.unitarity_deviation().unwrap() < 1e-13);
        assert!(max_difference(a.tensor(), u.tensor()).unwrap() > 0.01, "{dims:?}: nothing moved");
    }
}

#[test]
fn the_inverse_undoes_the_flow() {
    for (dims, n) in [(&[4, 4][..], 3), (&[2, 2, 2, 4][..], 3), (&[4, 4][..], 2)] {
        let lattice = Lattice::new(dims).unwrap();
        let (flow, _) = random_flow(&lattice, n, ResidualShape { passes: 2, ..FULL });
        let u = haar(&lattice, 3, n);
        let (x, log_det) = flow.forward(&u, &()).unwrap();
        let (back, log_det_back) = flow.inverse(&x, &()).unwrap();
        let moved = max_difference(back.tensor(), u.tensor()).unwrap();
        assert!(moved < 1e-10, "{dims:?}: {moved:e}");
        assert!(max_difference(&log_det, &log_det_back.neg().unwrap()).unwrap() < 1e-9, "{dims:?}");
    }
}

#[test]
fn gradients_in_links_and_parameters_are_derivatives_both_ways() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let (flow, store) = random_flow(&lattice, 3, FULL);
    let u = haar(&lattice, 2, 3);
    let weights = noise(4, u.tensor().dims(), 1.0);
    let omega = Var::zeros(u.tangent_shape(), DType::F64, &CPU).unwrap();
    for forward in [true, false] {
        let loss = || {
            let start = u.exp(omega.as_tensor()).unwrap();
            let pair = if forward { flow.forward(&start, &()) } else { flow.inverse(&start, &()) };
            let (x, log_det) = pair.unwrap();
            let linear = (x.tensor() * &weights).unwrap().sum_all().unwrap();
            (linear + (log_det.sqr().unwrap() * 0.3).unwrap().sum_all().unwrap()).unwrap()
        };
        let gradients = loss().backward().unwrap();
        let vars = store.iter().map(|(name, var)| (name.as_str(), var)).chain([("links", &omega)]);
        for (i, (name, var)) in vars.enumerate() {
            let gradient = gradients.get(var).unwrap_or_else(|| panic!("no gradient in {name}")).detach();
            let start = var.as_tensor().detach().copy().unwrap();
            let direction = noise(50 + i as u64, start.dims(), 1.0);
            let along = (&gradient * &direction).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
            // A step that keeps the quadratic weights within the bound.
            let h = if name.ends_with("quadratic") { 1e-4 } else { 1e-3 };
            let at = |h: f64| {
                var.set(&(&start + (&direction * h).unwrap()).unwrap()).unwrap();
                loss().to_scalar::<f64>().unwrap()
            };
            let difference = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
            var.set(&start).unwrap();
            let scale = 1.0 + along.abs();
            assert!(
                (along - difference).abs() < 1e-6 * scale,
                "{name}, forward {forward}: {along} and {difference}"
            );
        }
    }
}

#[test]
fn steps_that_may_not_be_invertible_are_refused() {
    let lattice = Lattice::new(&[4, 4, 4, 4]).unwrap();
    let flow = |weight: f64| {
        let mut store = ParamStore::new(Streams::new(5), DType::F64, &CPU);
        let shape = ResidualShape { passes: 1, weight, quadratic: false, hidden: 0 };
        ResidualFlow::new(&mut store, "r", &lattice, 3, shape).unwrap()
    };
    // Where all staples are equal |M| is largest: ½ · 6 c at U A = 6c. The 8-norm adds 3^{1/8}.
    let unit = Links::unit(&lattice, 1, 3, &CPU).unwrap();
    for (weight, fits) in [(0.28, true), (-0.28, true), (0.3, false), (-0.34, false), (f64::NAN, false)] {
        for result in [flow(weight).forward(&unit, &()), flow(weight).inverse(&unit, &())] {
            match result {
                Ok(_) => assert!(fits, "{weight} was accepted"),
                Err(Error::Steep { bound }) => {
                    assert!(!fits && (bound >= 1.0 || bound.is_nan()), "{weight}: {bound}")
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    // Close to the bound, on rough and on smooth fields, the inverse is still found.
    for u in [haar(&lattice, 1, 3), unit.exp(&noise(6, &[1, 4, 256, 8], 0.1)).unwrap()] {
        let flow = flow(0.27);
        let (x, _) = flow.forward(&u, &()).unwrap();
        let (back, _) = flow.inverse(&x, &()).unwrap();
        let moved = max_difference(back.tensor(), u.tensor()).unwrap();
        assert!(moved < 1e-8, "{moved:e}");
    }
    let mut store = ParamStore::new(Streams::new(5), DType::F64, &CPU);
    let none = ResidualShape { passes: 0, weight: 0.0, quadratic: false, hidden: 0 };
    assert!(ResidualFlow::new(&mut store, "r", &lattice, 3, none).is_err());
    let other = haar(&Lattice::new(&[4, 4]).unwrap(), 1, 3);
    assert!(flow(0.1).forward(&other, &()).is_err());
}

/// log w = −S − log q of links drawn from a flow at β = 1, SU(3).
fn log_weights(lattice: &Lattice, passes: usize, total: f64, batch: usize) -> Vec<f64> {
    let mut store = ParamStore::new(Streams::new(7), DType::F64, &CPU);
    let shape = ResidualShape { passes, weight: total / passes as f64, quadratic: false, hidden: 0 };
    let flow = ResidualFlow::new(&mut store, "r", lattice, 3, shape).unwrap();
    let (x, log_det) = flow.forward(&haar(lattice, batch, 3), &()).unwrap();
    let mut log_weight = log_det.detach();
    for mu in 0..lattice.ndim() {
        for nu in mu + 1..lattice.ndim() {
            let traces = matrix::re_trace(&plaquettes(&x, lattice, mu, nu).unwrap()).unwrap();
            log_weight =
                (log_weight + (sum_per_configuration(&traces.detach()).unwrap() / 3.0).unwrap()).unwrap();
        }
    }
    log_weight.to_vec1().unwrap()
}

#[test]
fn one_step_of_the_trivializing_flow_is_worth_a_hundredfold() {
    let lattice = Lattice::new(&[4, 4, 4, 4]).unwrap();
    let spread = |weights: &[f64]| {
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        weights.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / (weights.len() - 1) as f64
    };
    let none = spread(&log_weights(&lattice, 1, 0.0, 40));
    let one = spread(&log_weights(&lattice, 1, 0.063, 40));
    let two = spread(&log_weights(&lattice, 2, 0.063, 40));
    // 85 and below 1: the relative error of a variance of 40 numbers is 0.22.
    assert!(none > 30.0 && one < none / 40.0 && two < 1.2 * one, "{none}, {one}, {two}");
}
