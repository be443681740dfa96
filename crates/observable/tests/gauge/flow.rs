//! The Wilson flow: its velocity, its integrator, and what it must not change.

use candle_core::{DType, Device, Tensor};
use latflow_lattice::check::max_difference;
use latflow_lattice::gauge::haar_matrices;
use latflow_lattice::{Configuration, Lattice, Links, Manifold, normal_tensor};
use latflow_observable::Error;
use latflow_observable::gauge::{
    AlongFlow, CloverCharge, CloverEnergy, Flowed, Plaquette, PlaquetteEnergy, WilsonFlow, wilson_velocity,
};
use std::f64::consts::PI;

use crate::{assert_close, constant_flux, haar, numbers, rng, rows};

/// g₀²S_w of each configuration.
fn action(lattice: &Lattice, links: &Links) -> Vec<f64> {
    let density = numbers(&PlaquetteEnergy::new(lattice).unwrap(), links);
    density.into_iter().map(|e| e * lattice.volume() as f64).collect()
}

/// Links near 1, of a given roughness.
fn smooth(lattice: &Lattice, batch: usize, n: usize, sigma: f64) -> Links {
    let unit = Links::unit(lattice, batch, n, &Device::Cpu).unwrap();
    let omega =
        normal_tensor(&mut rng("smooth"), sigma, &unit.tangent_shape(), DType::F64, &Device::Cpu).unwrap();
    unit.exp(&omega).unwrap()
}

fn product(a: &Tensor, b: &Tensor) -> Vec<f64> {
    (a * b).unwrap().flatten_from(1).unwrap().sum(1).unwrap().to_vec1().unwrap()
}

#[test]
fn the_velocity_is_minus_the_gradient_of_the_action() {
    for (dims, n) in [(vec![2, 4, 2, 2], 3), (vec![4, 2, 4], 2), (vec![2, 4], 3)] {
        let lattice = Lattice::new(&dims).unwrap();
        let links = haar(&lattice, 2, n, "velocity");
        let omega = wilson_velocity(&links, &lattice).unwrap();
        let along = normal_tensor(&mut rng("tangent"), 1.0, &links.tangent_shape(), DType::F64, &Device::Cpu)
            .unwrap();
        let h = 1e-5;
        let at = |step: f64| action(&lattice, &links.exp(&(&along * step).unwrap()).unwrap());
        let (ahead, behind) = (at(h), at(-h));
        for (b, expected) in product(&omega, &along).iter().enumerate() {
            let slope = (ahead[b] - behind[b]) / (2.0 * h);
            assert_close(-slope, *expected, 1e-7, "velocity");
        }
        // Along the flow itself the action falls by |ω|² a unit of time.
        let flow = WilsonFlow::new(&lattice).unwrap();
        let epsilon = 1e-5;
        let (start, end) =
            (action(&lattice, &links), action(&lattice, &flow.step(&links, &[epsilon; 2]).unwrap().links));
        let second = action(&lattice, &flow.step(&links, &[2.0 * epsilon; 2]).unwrap().links);
        for (b, square) in product(&omega, &omega).iter().enumerate() {
            let slope = (4.0 * end[b] - 3.0 * start[b] - second[b]) / (2.0 * epsilon);
            assert_close(slope, -square, 1e-5, "dS/dt");
        }
    }
}

/// A weak transverse wave A_y ∝ cos kx decays like exp(−k̂²t), k̂ = 2 sin k/2: the flow is normalised to the heat equation.
#[test]
fn a_weak_wave_decays_like_heat() {
    let lattice = Lattice::new(&[8, 2, 2, 4]).unwrap();
    let amplitude = 1e-3;
    let k = 2.0 * PI / 8.0;
    let mut omega = vec![0.0; 4 * lattice.volume() * 8];
    for site in 0..lattice.volume() {
        omega[(lattice.volume() + site) * 8 + 2] =
            amplitude * (k * lattice.coordinates(site)[0] as f64).cos();
    }
    let unit = Links::unit(&lattice, 1, 3, &Device::Cpu).unwrap();
    let omega = Tensor::from_vec(omega, unit.tangent_shape(), &Device::Cpu).unwrap();
    let links = unit.exp(&omega).unwrap();
    let energy = PlaquetteEnergy::new(&lattice).unwrap();
    // Corrections are of the order of the square of the amplitude; 1 − cos keeps ten digits.
    let flow = WilsonFlow::new(&lattice).unwrap().with_tolerance(1e-9).unwrap();
    let times = [0.3, 1.0, 2.5];
    let decayed = rows(&AlongFlow::new("energy", &flow, &times, energy.clone()), &links).remove(0);
    let start = numbers(&energy, &links)[0];
    for (t, e) in times.into_iter().zip(decayed) {
        assert_close(e / start, (-2.0 * 4.0 * (k / 2.0).sin().powi(2) * t).exp(), 1e-5, "energy of a wave");
    }
}

/// Halving the step divides the error of the third-order scheme by 8 and that of its companion, an accepted difference, by 8 a step.
#[test]
fn the_integrator_is_of_third_order() {
    let lattice = Lattice::new(&[2, 2, 4]).unwrap();
    let links = smooth(&lattice, 1, 3, 0.6);
    let flow = WilsonFlow::new(&lattice).unwrap();
    let run = |steps: usize| {
        let mut field = links.clone();
        for _ in 0..steps {
            field = flow.step(&field, &[0.4 / steps as f64]).unwrap().links;
        }
        field
    };
    let exact = run(256);
    let error = |steps: usize| max_difference(run(steps).tensor(), exact.tensor()).unwrap();
    let order = |coarse: f64, fine: f64| (coarse / fine).log2();
    let global = order(error(16), error(32));
    assert!((global - 3.0).abs() < 0.15, "global order {global}");
    let difference = |epsilon: f64| flow.step(&links, &[epsilon]).unwrap().difference[0];
    let local = order(difference(0.01), difference(0.005));
    assert!((local - 3.0).abs() < 0.15, "order of the difference {local}");
}

#[test]
fn the_step_size_keeps_the_error_near_the_tolerance() {
    let lattice = Lattice::new(&[2, 2, 2, 4]).unwrap();
    let links = haar(&lattice, 2, 3, "tolerance");
    let at = |tolerance: f64| {
        let flow = WilsonFlow::new(&lattice).unwrap().with_tolerance(tolerance).unwrap();
        flow.flow(&links, 1.0).unwrap()
    };
    let exact = at(1e-9);
    let errors: Vec<f64> =
        [1e-3, 1e-5].into_iter().map(|t| max_difference(at(t).tensor(), exact.tensor()).unwrap()).collect();
    // Steps grow as δ^{1/3}: the third-order error should fall about as the tolerance itself.
    assert!(errors[0] < 3e-2 && errors[1] < 3e-4, "{errors:?}");
    assert!(errors[1] < errors[0] / 20.0, "{errors:?}");
}

#[test]
fn the_action_only_falls_and_the_links_stay_in_the_group() {
    let lattice = Lattice::new(&[2, 2, 2, 4]).unwrap();
    let links = haar(&lattice, 9, 3, "falls");
    let flow = WilsonFlow::new(&lattice).unwrap();
    let times: Vec<f64> = (0..=20).map(|i| 0.05 * f64::from(i)).collect();
    let energies =
        rows(&AlongFlow::new("energy", &flow, &times, PlaquetteEnergy::new(&lattice).unwrap()), &links);
    for row in &energies {
        assert!(row.windows(2).all(|pair| pair[1] < pair[0]), "{row:?}");
        assert!(row[20] < 0.5 * row[0], "{row:?}");
    }
    assert_eq!(
        energies.iter().map(|row| row[0]).collect::<Vec<_>>(),
        numbers(&PlaquetteEnergy::new(&lattice).unwrap(), &links)
    );
    assert!(flow.flow(&links, 1.0).unwrap().unitarity_deviation().unwrap() < 1e-13);
}

#[test]
fn the_flow_commutes_with_gauge_transformations_and_with_batching() {
    let lattice = Lattice::new(&[2, 2, 4]).unwrap();
    let links = haar(&lattice, 11, 3, "commutes");
    let flow = WilsonFlow::new(&lattice).unwrap();
    let end = flow.flow(&links, 0.7).unwrap();
    let omega = haar_matrices(11 * lattice.volume(), 3, &mut rng("moves"), &Device::Cpu).unwrap();
    let omega = omega.reshape((11, lattice.volume(), 3, 3, 2)).unwrap();
    let moved = flow.flow(&links.gauge_transform(&lattice, &omega).unwrap(), 0.7).unwrap();
    let expected = end.gauge_transform(&lattice, &omega).unwrap();
    let defect = max_difference(moved.tensor(), expected.tensor()).unwrap();
    assert!(defect < 1e-11, "{defect}");
    for b in [0, 7, 10] {
        let one = Links::new(links.tensor().narrow(0, b, 1).unwrap()).unwrap();
        let alone = flow.flow(&one, 0.7).unwrap();
        let defect = max_difference(alone.tensor(), &end.tensor().narrow(0, b, 1).unwrap()).unwrap();
        assert!(defect < 1e-12, "configuration {b}: {defect}");
    }
}

/// The kernels against the composed velocity: single steps, and whole flows with their choice of steps.
#[test]
fn kernels_flow_like_composed_operations() {
    for (dims, n, batch) in [(vec![2, 2, 2, 4], 3, 1), (vec![4, 4], 2, 10), (vec![4, 2, 2], 3, 3)] {
        let lattice = Lattice::new(&dims).unwrap();
        let links = haar(&lattice, batch, n, "kernels");
        let fused = WilsonFlow::new(&lattice).unwrap();
        let composed = {
            let lattice = lattice.clone();
            WilsonFlow::with_velocity(move |u| wilson_velocity(u, &lattice))
        };
        let epsilon: Vec<f64> = (0..batch).map(|b| 0.03 + 0.01 * b as f64).collect();
        let (a, b) = (fused.step(&links, &epsilon).unwrap(), composed.step(&links, &epsilon).unwrap());
        assert!(max_difference(a.links.tensor(), b.links.tensor()).unwrap() < 1e-13);
        for (a, b) in a.difference.iter().zip(&b.difference) {
            assert!(*b > 1e-4 && (a - b).abs() < 1e-13, "{a} {b}");
        }
        let (a, b) = (fused.along(&links, &[0.0, 0.1, 0.3]), composed.along(&links, &[0.0, 0.1, 0.3]));
        for (a, b) in a.unwrap().iter().zip(&b.unwrap()) {
            assert!(max_difference(a.tensor(), b.tensor()).unwrap() < 1e-11);
        }
    }
}

/// Constant flux solves the field equations of the lattice: it stays, and keeps its charge.
#[test]
fn constant_flux_is_a_fixed_point() {
    let lattice = Lattice::new(&[4, 4, 4, 4]).unwrap();
    let links = constant_flux(&lattice, &[1.0, -1.0, 0.0], 1.0, 1.0);
    let velocity = wilson_velocity(&links, &lattice).unwrap();
    assert!(
        velocity.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f64>().unwrap() < 1e-13
    );
    let flow = WilsonFlow::new(&lattice).unwrap();
    let charge = CloverCharge::new(&lattice).unwrap();
    let before = numbers(&charge, &links)[0];
    assert!(before > 1.5);
    assert_close(numbers(&Flowed::new("flowed", &flow, 0.5, charge), &links)[0], before, 1e-10, "Q");
}

/// What is left of a weak field after a while are its longest waves, transverse with momentum π/2 on this lattice: the average over four
/// leaves costs the clover a factor cos²(π/4). And another velocity gives another flow.
#[test]
fn energies_of_long_waves_and_other_velocities() {
    let lattice = Lattice::new(&[4, 4, 4, 4]).unwrap();
    let links = smooth(&lattice, 1, 2, 0.1);
    let flow = WilsonFlow::new(&lattice).unwrap().with_tolerance(1e-7).unwrap();
    let ratio = |t: f64| {
        let field = flow.flow(&links, t).unwrap();
        numbers(&CloverEnergy::new(&lattice).unwrap(), &field)[0]
            / numbers(&PlaquetteEnergy::new(&lattice).unwrap(), &field)[0]
    };
    let (rough, late) = (ratio(0.0), ratio(2.5));
    assert!(rough < 0.2, "{rough}");
    // Constant modes, which do not decay and whose energies agree, pull the ratio up from a half.
    assert!((0.4..0.75).contains(&late), "clover over plaquette energy: {late}");
    let twice = {
        let lattice = lattice.clone();
        WilsonFlow::with_velocity(move |u| Ok((wilson_velocity(u, &lattice)? * 2.0)?))
    };
    let plaquette = Plaquette::new(&lattice).unwrap();
    let (a, b) = (flow.flow(&links, 0.4).unwrap(), twice.flow(&links, 0.2).unwrap());
    assert_close(numbers(&plaquette, &a)[0], numbers(&plaquette, &b)[0], 1e-4, "twice as fast");
}

#[test]
fn flows_that_cannot_be_are_refused() {
    let lattice = Lattice::new(&[2, 2]).unwrap();
    let flow = WilsonFlow::new(&lattice).unwrap();
    let links = haar(&lattice, 2, 2, "refused");
    for times in [vec![-1.0], vec![1.0, 0.5], vec![f64::NAN]] {
        assert!(matches!(flow.along(&links, &times), Err(Error::Parameter { .. })), "{times:?}");
    }
    assert!(WilsonFlow::new(&lattice).unwrap().with_tolerance(0.0).is_err());
    assert!(matches!(flow.step(&links, &[0.1]), Err(Error::UnequalLength { expected: 2, got: 1, .. })));
    let mut row = 0;
    let broken = links
        .map(&mut |u| {
            row += 1;
            let ruin = Tensor::new(&[0.0, f64::NAN], &Device::Cpu)?.reshape((2, 1, 1, 1, 1, 1))?;
            Ok(u.broadcast_add(&ruin)?)
        })
        .unwrap();
    assert_eq!(row, 1);
    assert!(matches!(flow.flow(&broken, 0.1), Err(Error::FlowDiverged { configuration: 1, .. })));
}
