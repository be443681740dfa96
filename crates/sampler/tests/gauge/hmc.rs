//! HMC on links: its contract, and the same plaquettes as the heat bath.

use super::{haar, noise, over_chains, run, slow, theory};
use crate::oracle::{one_plaquette, strong_coupling};
use latflow_action::{Exact, Sum, WilsonGauge};
use latflow_lattice::check::max_difference;
use latflow_lattice::{Links, Manifold};
use latflow_sampler::{GaugeHeatBath, Hmc, Integrator};

fn kernel(
    action: &WilsonGauge,
    integrator: Integrator,
    length: f64,
    steps: usize,
) -> Hmc<Exact<WilsonGauge>, Links> {
    Hmc::new(Exact(action.clone()), integrator, length, steps).unwrap()
}

#[test]
fn trajectories_are_reversible_and_second_order() {
    for (dims, n, beta, steps) in
        [(&[4usize, 4, 4, 4][..], 3, 5.7, 10), (&[4, 6], 2, 2.0, 10), (&[2, 2], 4, 3.0, 3)]
    {
        let action = theory(dims, n, beta);
        let links = haar(&action, 2, 1);
        let p = noise(&links.tangent_shape(), &mut super::rng(2));
        for integrator in [Integrator::Leapfrog, Integrator::Omelyan] {
            let run = |steps, u: &Links, p: &candle_core::Tensor| {
                kernel(&action, integrator, 0.5, steps).trajectory(&action, u, p).unwrap()
            };
            let (there, momenta, _) = run(steps, &links, &p);
            let (back, momenta, _) = run(steps, &there, &momenta.neg().unwrap());
            assert!(max_difference(there.tensor(), links.tensor()).unwrap() > 0.1);
            let defect = max_difference(back.tensor(), links.tensor()).unwrap();
            assert!(defect < 1e-12, "{dims:?} {integrator:?}: {defect:e}");
            assert!(max_difference(&momenta.neg().unwrap(), &p).unwrap() < 1e-12);
            // ΔH ∝ ε²: halving the step divides it by 4, up to higher orders.
            let (coarse, fine) = (run(2 * steps, &links, &p).2, run(4 * steps, &links, &p).2);
            for (coarse, fine) in coarse.iter().zip(&fine) {
                assert!((coarse / fine - 4.0).abs() < 0.4, "{dims:?} {integrator:?}: {coarse} / {fine}");
            }
        }
    }
}

#[test]
fn two_dimensions_and_the_mean_of_exp_minus_delta_h() {
    // Three quantities in three theories: a false alarm at |z| > 4 has probability 6e-4. Coarse steps, so that ΔH matters.
    for (n, beta, steps) in [(2, 2.2, 4), (3, 1.0, 4), (3, 5.7, 6)] {
        let action = theory(&[4, 4], n, beta);
        let kernel = kernel(&action, Integrator::Leapfrog, 1.5, steps);
        let series = run(&kernel, &action, haar(&action, 64, 3), 4, [30, 80]);
        assert!(series.acceptance > 0.5 && series.acceptance < 0.995, "acceptance {}", series.acceptance);
        let exact = one_plaquette(n, beta);
        for (what, rows, exact) in [
            ("plaquette", &series.plaquette, exact),
            ("2 × 1", &series.two_by_one, exact * exact),
            ("e^{−ΔH}", &series.ratio, 1.0),
        ] {
            let (mean, error) = over_chains(rows);
            let z = (mean - exact) / error;
            assert!(z.abs() < 4.0, "SU({n}), β = {beta}, {what}: {mean} ± {error}, exact {exact}, z = {z}");
            assert!(error < 0.03, "SU({n}), β = {beta}, {what}: error {error} too large to mean anything");
        }
    }
}

#[test]
fn two_halves_of_a_theory_on_two_time_scales_are_the_theory() {
    // S = S_{β/4} + S_{3β/4}: the slow quarter takes every third step.
    let (beta, n) = (2.2, 2);
    let parts = Sum(theory(&[4, 4], n, 0.75 * beta), theory(&[4, 4], n, 0.25 * beta));
    let action = theory(&[4, 4], n, beta);
    let kernel = Hmc::new(Exact(parts), Integrator::Leapfrog, 1.5, 3).unwrap().with_substeps(&[3]).unwrap();
    let series = run(&kernel, &action, haar(&action, 64, 5), 6, [30, 80]);
    let exact = one_plaquette(n, beta);
    for (what, rows, exact) in [("plaquette", &series.plaquette, exact), ("e^{−ΔH}", &series.ratio, 1.0)] {
        let (mean, error) = over_chains(rows);
        let z = (mean - exact) / error;
        assert!(z.abs() < 4.0 && error < 0.03, "{what}: {mean} ± {error}, exact {exact}, z = {z}");
    }
}

/// Plaquettes at β by both algorithms on 4⁴: (mean, error) each.
fn both(beta: f64, chains: usize, updates: [usize; 2], steps: usize) -> [(f64, f64); 2] {
    let action = theory(&[4, 4, 4, 4], 3, beta);
    let heat_bath = GaugeHeatBath::new(action.clone(), 1).unwrap();
    let bath = run(&heat_bath, &action, haar(&action, chains, 7), 8, updates);
    let hmc = kernel(&action, Integrator::Omelyan, 1.0, steps);
    let hmc = run(&hmc, &action, haar(&action, chains, 9), 10, updates);
    assert!(hmc.acceptance > 0.6, "β = {beta}: acceptance {}", hmc.acceptance);
    [over_chains(&bath.plaquette), over_chains(&hmc.plaquette)]
}

#[test]
fn hmc_agrees_with_strong_coupling_in_four_dimensions() {
    let action = theory(&[4, 4, 4, 4], 3, 1.0);
    let hmc = kernel(&action, Integrator::Leapfrog, 1.0, 8);
    let series = run(&hmc, &action, haar(&action, 8, 11), 12, [5, 12]);
    let (mean, error) = over_chains(&series.plaquette);
    let z = (mean - strong_coupling(1.0)) / error;
    assert!(z.abs() < 4.0 && error < 2e-3, "{mean} ± {error}, z = {z}");
    assert!(series.acceptance > 0.7, "acceptance {}", series.acceptance);
}

#[test]
fn hmc_and_heat_bath_agree() {
    if !slow() {
        return;
    }
    // |z| > 3.5 three times: probability 1.4e-3.
    for (beta, steps) in [(1.0, 5), (2.0, 5), (5.7, 8)] {
        let [(bath, bath_error), (hmc, hmc_error)] = both(beta, 16, [100, 400], steps);
        let z = (bath - hmc) / bath_error.hypot(hmc_error);
        eprintln!(
            "β = {beta}: heat bath {bath:.6} ± {bath_error:.6}, HMC {hmc:.6} ± {hmc_error:.6}, z = {z:.2}"
        );
        assert!(z.abs() < 3.5, "β = {beta}: z = {z}");
        if beta <= 2.0 {
            // What is left out at β = 2 is of the order of 10⁻³.
            let z = (bath - strong_coupling(beta)) / bath_error.hypot(6e-5 * beta.powi(4));
            assert!(z.abs() < 3.5, "β = {beta}: {bath} for {}", strong_coupling(beta));
        }
    }
}
