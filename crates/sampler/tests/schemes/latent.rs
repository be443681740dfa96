//! Samplers in the prior space.

use crate::{Theory, joint_flow, marginal_flow, noise, pseudofermion_conditional, quadrature, run, theory};
use candle_core::Tensor;
use latflow_action::Exact;
use latflow_action::check::force_defect;
use latflow_flow::{Autoregressive, FlowModel, Independent};
use latflow_lattice::Streams;
use latflow_lattice::check::max_difference;
use latflow_sampler::{
    Error, Hmc, IndependenceMetropolis, Integrator, LatentState, MarkovKernel, PriorRefreshment, PulledBack,
};
use std::f64::consts::FRAC_PI_2;

type Pair = (Tensor, Tensor);

#[test]
fn hmc_and_langevin_in_the_prior_space_are_exact() {
    let exact = quadrature();
    let Theory { marginal, full, .. } = theory();
    let flow = marginal_flow().flow;
    let determinant = PulledBack { flow: &flow, target: marginal };
    // The pseudofermion is drawn at f(z) before every trajectory.
    let refreshed = PulledBack { flow: &flow, target: full };
    let start = || noise(1, &[300, 2], 0.8);
    let fields = |z: &Tensor| (determinant.field(z).unwrap(), None);
    let hmc = Hmc::new(Exact(determinant.clone()), Integrator::Leapfrog, 1.2, 4).unwrap();
    let stochastic = Hmc::new(refreshed, Integrator::Omelyan, 1.2, 3).unwrap();
    let langevin = Hmc::langevin(Exact(determinant.clone()), 0.6).unwrap();
    assert_eq!((langevin.steps(), langevin.forces()), (1, 2));
    let runs = [
        ("HMC", run(&hmc, start(), fields, 300, 2)),
        ("HMC with pseudofermions", run(&stochastic, start(), fields, 600, 3)),
        ("Langevin", run(&langevin, start(), fields, 1200, 4)),
    ];
    for (name, run) in runs {
        run.agrees(name, &exact);
        assert!((0.4..0.995).contains(&run.acceptance), "{name}: {}", run.acceptance);
    }
}

#[test]
fn hmc_in_the_prior_space_of_both_fields_is_exact() {
    let Theory { full, .. } = theory();
    let target = PulledBack { flow: joint_flow(2).flow, target: full };
    let kernel = Hmc::new(Exact(target.clone()), Integrator::Leapfrog, 1.0, 5).unwrap();
    let fields = |z: &Pair| {
        let (phi, pf) = target.field(z).unwrap();
        (phi, Some(pf))
    };
    let start = (noise(5, &[300, 2], 0.6), noise(6, &[300, 2, 2], 0.6));
    let run = run(&kernel, start, fields, 500, 7);
    run.agrees("HMC of both fields", &quadrature());
    assert!((0.4..0.995).contains(&run.acceptance), "{}", run.acceptance);
}

#[test]
fn forces_in_the_prior_space_are_derivatives() {
    let Theory { marginal, full, .. } = theory();
    let one = PulledBack { flow: marginal_flow().flow, target: marginal };
    let (z, omega) = (noise(8, &[4, 2], 0.8), noise(9, &[4, 2], 1.0));
    assert!(force_defect(&one, &z, &omega, 1e-3).unwrap() < 1e-8);
    let both = PulledBack { flow: joint_flow(2).flow, target: full };
    let pair = (z, noise(10, &[4, 2, 2], 0.8));
    // Two scalars and four real components of the pseudofermion.
    assert!(force_defect(&both, &pair, &noise(11, &[4, 6], 1.0), 1e-3).unwrap() < 1e-8);
}

#[test]
fn partial_refreshment_is_exact_at_any_angle() {
    let exact = quadrature();
    let Theory { marginal, full, .. } = theory();
    let fields = |s: &LatentState<Tensor>| (s.x.clone(), None);
    let both = |s: &LatentState<Pair>| (s.x.0.clone(), Some(s.x.1.clone()));
    let start = || noise(12, &[300, 2], 0.5);
    let mut acceptance = Vec::new();
    for (theta, steps, seed) in [(0.3, 1500, 13), (1.0, 600, 14)] {
        let kernel = PriorRefreshment::new(marginal_flow(), marginal.clone(), theta).unwrap();
        assert_eq!(kernel.theta(), theta);
        let run = run(&kernel, start(), fields, steps, seed);
        run.agrees(&format!("θ = {theta}"), &exact);
        acceptance.push(run.acceptance);
    }
    assert!(acceptance[0] > acceptance[1] + 0.1, "{acceptance:?}");
    let pair = (start(), noise(15, &[300, 2, 2], 0.7));
    let kernel = PriorRefreshment::new(joint_flow(2), full.clone(), 0.7).unwrap();
    run(&kernel, pair.clone(), both, 1500, 16).agrees("fully joint", &exact);
    // The autoregressive model as one flow of both fields.
    let (first, second) = (marginal_flow(), pseudofermion_conditional(2));
    let model = FlowModel {
        prior: Independent { first: first.prior, second: second.prior },
        flow: Autoregressive { first: first.flow, second: second.flow },
    };
    let kernel = PriorRefreshment::new(model, full, 0.7).unwrap();
    run(&kernel, pair, both, 1500, 17).agrees("autoregressive", &exact);
}

#[test]
fn the_state_of_a_refreshment_is_consistent() {
    let Theory { marginal, .. } = theory();
    let kernel = PriorRefreshment::new(marginal_flow(), marginal.clone(), 0.8).unwrap();
    let independent = IndependenceMetropolis::new(marginal_flow(), marginal.clone());
    let mut rng = Streams::new(18).stream("test", 0);
    let mut state = kernel.init(noise(19, &[32, 2], 0.5), &mut rng).unwrap();
    for _ in 0..20 {
        (state, _) = kernel.step(state, &mut rng).unwrap();
    }
    let flow = PulledBack { flow: marginal_flow().flow, target: () };
    assert!(max_difference(&flow.field(&state.z).unwrap(), &state.x).unwrap() < 1e-12);
    // log w of the density that the flow's inverse finds.
    let recomputed = independent.init(state.x.clone(), &mut rng).unwrap();
    for (a, b) in state.log_weight.iter().zip(&recomputed.log_weight) {
        assert!((a - b).abs() < 1e-10, "{a} and {b}");
    }
    // A right angle forgets everything: the same stream gives the same chain as independent proposals.
    let right = PriorRefreshment::new(marginal_flow(), marginal.clone(), FRAC_PI_2).unwrap();
    let (mut a, mut b) = (rng.clone(), rng);
    let (mut refreshed, mut proposed) = (state, recomputed);
    for _ in 0..20 {
        (refreshed, _) = right.step(refreshed, &mut a).unwrap();
        (proposed, _) = independent.step(proposed, &mut b).unwrap();
    }
    assert!(max_difference(&refreshed.x, &proposed.x).unwrap() < 1e-10);
    for theta in [0.0, -0.5, 1.6, f64::NAN] {
        let refused = PriorRefreshment::<_, _, _, Tensor>::new(marginal_flow(), marginal.clone(), theta);
        assert!(matches!(refused, Err(Error::Parameter { name: "theta", .. })));
    }
}
