//! Velocities of loop features as differentiable operations: flows of links that can be trained and moved through.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use candle_core::{DType, Device, Tensor, Var};
use latflow_flow::transport::{Basis, ContinuousFlow, LoopBasis, TimeGrid};
use latflow_flow::{Bijection, ParamStore};
use latflow_lattice::{Lattice, Links, Manifold, Streams, normal_tensor};
use std::sync::Arc;

const CPU: Device = Device::Cpu;

fn noise(seed: u64, shape: &[usize], sigma: f64) -> Tensor {
    normal_tensor(&mut Streams::new(seed).stream("test", 0), sigma, shape, DType::F64, &CPU).unwrap()
}

/// Compares the gradient of a loss in every variable with differences of fourth order along a random direction.
fn check_gradients(what: &str, vars: &[(&str, &Var)], loss: impl Fn() -> Tensor) {
    let gradients = loss().backward().unwrap();
    for (i, (name, var)) in vars.iter().enumerate() {
        let gradient = gradients.get(var).unwrap_or_else(|| panic!("{what}: no gradient in {name}")).detach();
        let start = var.as_tensor().detach().copy().unwrap();
        let direction = noise(50 + i as u64, start.dims(), 1.0);
        let along = (&gradient * &direction).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
        let at = |h: f64| {
            var.set(&(&start + (&direction * h).unwrap()).unwrap()).unwrap();
            loss().to_scalar::<f64>().unwrap()
        };
        let h = 1e-4;
        let difference = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
        var.set(&start).unwrap();
        let scale = 1.0 + along.abs();
        assert!((along - difference).abs() < 1e-6 * scale, "{what}, {name}: {along} and {difference}");
    }
}

#[test]
fn velocity_and_divergence_have_gradients_in_links_and_coefficients() {
    for dims in [&[4, 4][..], &[4, 4, 4]] {
        let lattice = Lattice::new(dims).unwrap();
        let basis = LoopBasis::new(&lattice).unwrap();
        let u = Links::haar(&lattice, 2, 3, &mut Streams::new(1).stream("haar", 0), &CPU).unwrap();
        let omega = Var::zeros(u.tangent_shape(), DType::F64, &CPU).unwrap();
        let c = Var::from_tensor(&noise(2, &[basis.count()], 0.1)).unwrap();
        let (g, h) = (noise(3, &u.tangent_shape(), 1.0), noise(4, &[2], 0.3));
        check_gradients("velocity", &[("links", &omega), ("coefficients", &c)], || {
            let u = u.exp(omega.as_tensor()).unwrap();
            let (v, divergence) = basis.combine(&u, c.as_tensor()).unwrap();
            let (v, divergence) = ((v * &g).unwrap(), (divergence * &h).unwrap());
            (v.sum_all().unwrap() + divergence.sum_all().unwrap()).unwrap()
        });
    }
}

#[test]
fn flows_of_links_have_gradients_both_ways() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let mut store = ParamStore::new(Streams::new(5), DType::F64, &CPU);
    let basis = Arc::new(LoopBasis::new(&lattice).unwrap());
    let grid = TimeGrid::clustered(2, 1.0).unwrap();
    let flow = ContinuousFlow::new(&mut store, "c", basis, grid, 1).unwrap().with_tolerance(1.0).unwrap();
    let shape = store.snapshot().unwrap()["c"].dims().to_vec();
    store.set("c", &noise(6, &shape, 0.01)).unwrap();
    let u = Links::haar(&lattice, 2, 3, &mut Streams::new(1).stream("haar", 0), &CPU).unwrap();
    let omega = Var::zeros(u.tangent_shape(), DType::F64, &CPU).unwrap();
    let weights = noise(7, u.tensor().dims(), 1.0);
    for forward in [true, false] {
        let c = store.iter().next().unwrap().1;
        check_gradients(if forward { "forward" } else { "inverse" }, &[("links", &omega), ("c", c)], || {
            let u = u.exp(omega.as_tensor()).unwrap();
            let pair = if forward { flow.forward(&u, &()) } else { flow.inverse(&u, &()) };
            let (x, log_det) = pair.unwrap();
            let linear = (x.tensor() * &weights).unwrap().sum_all().unwrap();
            (linear + log_det.sqr().unwrap().sum_all().unwrap()).unwrap()
        });
    }
}
