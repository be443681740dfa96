//! The bijection: error of the log-determinant, round trip, gradients, refusal, volume transfer.

use super::{CPU, noise, random_flow, small_table, tune};
use candle_core::{DType, Tensor, Var};
use latflow_flow::check::{log_det_defect, round_trip_defect};
use latflow_flow::transport::{ContinuousFlow, ScalarBasis, TimeGrid};
use latflow_flow::{Bijection, Error, ParamStore};
use latflow_lattice::check::max_difference;
use latflow_lattice::{Lattice, Streams};
use std::sync::Arc;

#[test]
fn the_log_determinant_is_that_of_the_map_up_to_the_fourth_power_of_the_step() {
    tune();
    let lattice = Lattice::new(&[4, 2]).unwrap();
    let z = noise(3, &[2, 8], 0.5);
    let mut defects = Vec::new();
    for steps in [2, 4, 8] {
        let (flow, _) = random_flow(&lattice, 0.1, TimeGrid::clustered(3, 1.5).unwrap(), steps);
        let flow = flow.with_tolerance(10.0).unwrap();
        let defect = log_det_defect(&flow, &z, &()).unwrap();
        let error = flow.integration_error(&z).unwrap();
        // The error is measured at h and the solution returned is that of h/2, 16 times better.
        assert!(defect < error, "{steps} steps: defect {defect:e}, measured error {error:e}");
        defects.push(defect);
    }
    let order = (defects[0] / defects[2]).log2() / 2.0;
    assert!(order > 3.5 && defects[2] < 1e-6, "order {order}: {defects:?}");
}

#[test]
fn the_inverse_undoes_the_flow_to_the_order_of_the_step() {
    tune();
    let lattice = Lattice::new(&[4, 6]).unwrap();
    let z = noise(4, &[3, 24], 0.5);
    let defect = |steps| {
        let (flow, _) = random_flow(&lattice, 0.1, TimeGrid::clustered(3, 1.5).unwrap(), steps);
        round_trip_defect(&flow.with_tolerance(10.0).unwrap(), &z, &()).unwrap()
    };
    let (coarse, fine) = (defect(2), defect(16));
    assert!(coarse > 256.0 * fine && fine < 1e-8, "{coarse:e} and {fine:e}");
}

#[test]
fn gradients_flow_through_checkpoints() {
    tune();
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let (flow, store) = random_flow(&lattice, 0.1, TimeGrid::clustered(2, 1.0).unwrap(), 1);
    let flow = flow.with_tolerance(10.0).unwrap();
    let z = Var::from_tensor(&noise(5, &[3, 16], 0.5)).unwrap();
    let weights = noise(6, &[3, 16], 1.0);
    for forward in [true, false] {
        let loss = || {
            let z = z.as_tensor();
            let pair = if forward { flow.forward(z, &()) } else { flow.inverse(z, &()) };
            let (x, log_det) = pair.unwrap();
            ((x * &weights).unwrap().sum_all().unwrap()
                + (log_det.sqr().unwrap() * 3.0).unwrap().sum_all().unwrap())
            .unwrap()
        };
        let gradients = loss().backward().unwrap();
        let coefficients = store.iter().next().unwrap().1;
        for var in [&z, coefficients] {
            let gradient = gradients.get(var).unwrap().detach();
            let start = var.as_tensor().detach().copy().unwrap();
            let direction = noise(7, start.dims(), 1.0);
            let along = (&gradient * &direction).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
            let at = |h: f64| {
                var.set(&(&start + (&direction * h).unwrap()).unwrap()).unwrap();
                loss().to_scalar::<f64>().unwrap()
            };
            let difference = (8.0 * (at(1e-4) - at(-1e-4)) - (at(2e-4) - at(-2e-4))) / 12e-4;
            var.set(&start).unwrap();
            assert!((along - difference).abs() < 1e-8 * (1.0 + along.abs()), "{along} and {difference}");
        }
    }
}

#[test]
fn a_velocity_too_steep_for_its_steps_is_refused() {
    tune();
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let z = noise(8, &[4, 16], 0.5);
    let (flow, _) = random_flow(&lattice, 3.0, TimeGrid::clustered(2, 1.0).unwrap(), 1);
    for result in [flow.forward(&z, &()), flow.inverse(&z, &())] {
        let refused = matches!(result, Err(Error::Integration { error, tolerance, .. }) if error > tolerance);
        assert!(refused, "a stiff flow was accepted");
    }
    // Not a number is no error below the tolerance either.
    let (flow, store) = random_flow(&lattice, 0.1, TimeGrid::clustered(2, 1.0).unwrap(), 1);
    assert!(flow.forward(&z, &()).is_ok());
    let broken = (store.snapshot().unwrap()["c"].clone() * f64::NAN).unwrap();
    store.set("c", &broken).unwrap();
    assert!(matches!(flow.forward(&z, &()), Err(Error::Integration { .. })));
}

#[test]
fn steps_are_halved_until_the_tolerance_is_met() {
    tune();
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let z = noise(9, &[4, 16], 0.5);
    let grid = || TimeGrid::clustered(2, 1.0).unwrap();
    let (flow, _) = random_flow(&lattice, 0.1, grid(), 1);
    let error = flow.integration_error(&z).unwrap();
    // Twice, each time by about 16.
    let demanding = flow.clone().with_tolerance(error / 100.0).unwrap();
    let (exact, _) = random_flow(&lattice, 0.1, grid(), 32);
    let (x, log_det) = exact.forward(&z, &()).unwrap();
    let (y, log_det_y) = demanding.forward(&z, &()).unwrap();
    assert!(max_difference(&log_det, &log_det_y).unwrap() < error / 100.0);
    assert!(max_difference(&x, &y).unwrap() < error / 100.0);
    for bad in [0.0, -1.0, f64::NAN] {
        assert!(flow.clone().with_tolerance(bad).is_err());
    }
}

#[test]
fn the_flow_does_not_know_the_size_of_the_lattice() {
    tune();
    // On a field that repeats with the small lattice's period the large lattice must do the same.
    let (small, large) = (Lattice::new(&[6, 6]).unwrap(), Lattice::new(&[12, 12]).unwrap());
    let mut flows = Vec::new();
    for lattice in [&small, &large] {
        let (flow, _) = random_flow(lattice, 0.1, TimeGrid::clustered(2, 1.0).unwrap(), 1);
        flows.push(flow);
    }
    let z = noise(10, &[1, 36], 0.5).to_vec2::<f64>().unwrap().remove(0);
    let place = |s: usize| {
        let x = large.coordinates(s);
        small.site(&[x[0] % 6, x[1] % 6])
    };
    let tiled: Vec<f64> = (0..144).map(|s| z[place(s)]).collect();
    let run = |flow: &ContinuousFlow<ScalarBasis>, z: Vec<f64>| {
        let n = z.len();
        let (x, log_det) = flow.forward(&Tensor::from_vec(z, (1, n), &CPU).unwrap(), &()).unwrap();
        (x.to_vec2::<f64>().unwrap().remove(0), log_det.to_vec1::<f64>().unwrap()[0])
    };
    let (a, det_a) = run(&flows[0], z);
    let (b, det_b) = run(&flows[1], tiled);
    assert!((0..144).all(|s| (b[s] - a[place(s)]).abs() < 1e-12));
    assert!((det_b - 4.0 * det_a).abs() < 1e-11 * (1.0 + det_b.abs()));
}

#[test]
fn the_flow_starts_as_the_identity_and_accepts_single_precision_parameters() {
    tune();
    let lattice = Lattice::new(&[4, 2]).unwrap();
    let basis = Arc::new(ScalarBasis::new(&lattice, &small_table(), &CPU).unwrap());
    let mut store = ParamStore::new(Streams::new(11), DType::F32, &CPU);
    let flow = ContinuousFlow::new(&mut store, "c", basis, TimeGrid::clustered(2, 2.0).unwrap(), 1).unwrap();
    let z = noise(12, &[2, 8], 0.5);
    let (x, log_det) = flow.forward(&z, &()).unwrap();
    assert_eq!(max_difference(&x, &z).unwrap(), 0.0);
    assert_eq!(log_det.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap(), 0.0);
    let shape = store.snapshot().unwrap()["c"].dims().to_vec();
    store.set("c", &noise(13, &shape, 0.05)).unwrap();
    let defect = log_det_defect(&flow, &z, &()).unwrap();
    assert!(defect < 1e-4, "{defect:e}");
}
