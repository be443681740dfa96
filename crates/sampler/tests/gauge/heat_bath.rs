//! The heat bath: exact where plaquettes are independent, and independent of the number of threads.

use super::{CPU, haar, over_chains, rng, run, theory};
use crate::oracle::{one_plaquette, strong_coupling};
use latflow_action::{Action, WilsonGauge};
use latflow_lattice::check::max_difference;
use latflow_lattice::{Lattice, Links};
use latflow_sampler::{Error, GaugeHeatBath, MarkovKernel};

#[test]
fn plaquettes_in_two_dimensions_are_independent() {
    // Two quantities in six theories: a false alarm at |z| > 4 has probability 8e-4.
    for (n, beta, overrelaxation) in
        [(2, 0.7, 0), (2, 2.2, 1), (2, 8.0, 2), (3, 1.0, 1), (3, 5.7, 1), (3, -2.0, 0)]
    {
        let action = theory(&[4, 4], n, beta);
        let kernel = GaugeHeatBath::new(action.clone(), overrelaxation).unwrap();
        let series = run(&kernel, &action, haar(&action, 40, 1), 2, [20, 60]);
        let exact = one_plaquette(n, beta);
        for (what, rows, exact) in
            [("plaquette", &series.plaquette, exact), ("2 × 1", &series.two_by_one, exact * exact)]
        {
            let (mean, error) = over_chains(rows);
            let z = (mean - exact) / error;
            assert!(z.abs() < 4.0, "SU({n}), β = {beta}, {what}: {mean} ± {error}, exact {exact}, z = {z}");
            assert!(error < 6e-3, "SU({n}), β = {beta}, {what}: error {error} too large to mean anything");
        }
    }
}

#[test]
fn strong_coupling_in_four_dimensions() {
    let action = theory(&[4, 4, 4, 4], 3, 1.0);
    let kernel = GaugeHeatBath::new(action.clone(), 0).unwrap();
    let series = run(&kernel, &action, haar(&action, 8, 3), 4, [5, 12]);
    let (mean, error) = over_chains(&series.plaquette);
    let z = (mean - strong_coupling(1.0)) / error;
    assert!(z.abs() < 4.0 && error < 2e-3, "{mean} ± {error}, z = {z}");
}

#[test]
fn overrelaxation_keeps_the_action_and_moves_the_links() {
    // The same stream, so the same heat bath in both; the reflections come on top.
    let action = theory(&[4, 4], 3, 4.0);
    let start = haar(&action, 3, 5);
    let step = |sweeps| {
        let kernel = GaugeHeatBath::new(action.clone(), sweeps).unwrap();
        kernel.step(start.clone(), &mut rng(6)).unwrap().0
    };
    let (without, with) = (step(0), step(3));
    let (a, b) = (action.action(&without).unwrap(), action.action(&with).unwrap());
    assert!(max_difference(&a, &b).unwrap() < 1e-11);
    assert!(max_difference(without.tensor(), with.tensor()).unwrap() > 0.1);
    assert!(max_difference(&a, &action.action(&start).unwrap()).unwrap() > 1.0);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let action = theory(&[4, 2, 4], 2, 1.5);
    let kernel = GaugeHeatBath::new(action.clone(), 1).unwrap();
    let start = haar(&action, 5, 7);
    let step = |threads: usize, start: &Links| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| kernel.step(start.clone(), &mut rng(8)).unwrap().0)
    };
    let reference = step(1, &start);
    assert_eq!(max_difference(reference.tensor(), step(3, &start).tensor()).unwrap(), 0.0);
    // A configuration does not see the others of its batch.
    let first = Links::new(start.tensor().narrow(0, 0, 1).unwrap()).unwrap();
    let alone = step(2, &first);
    assert_eq!(max_difference(&reference.tensor().narrow(0, 0, 1).unwrap(), alone.tensor()).unwrap(), 0.0);
}

#[test]
fn other_groups_and_lattices_are_refused() {
    assert!(matches!(GaugeHeatBath::new(theory(&[4, 4], 4, 1.0), 0), Err(Error::Parameter { .. })));
    let kernel = GaugeHeatBath::new(theory(&[4, 4], 3, 1.0), 0).unwrap();
    let lattice = Lattice::new(&[2, 4]).unwrap();
    assert!(kernel.step(Links::unit(&lattice, 1, 3, &CPU).unwrap(), &mut rng(9)).is_err());
    let action: &WilsonGauge = kernel.action();
    let two = Links::unit(action.lattice(), 1, 2, &CPU).unwrap();
    assert!(kernel.step(two, &mut rng(10)).is_err());
}
