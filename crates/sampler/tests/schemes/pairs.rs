//! Schemes that sample the scalar field and the pseudofermion together.

use crate::{
    Run, Theory, agrees_log_z, joint_flow, marginal_flow, noise, pseudofermion_conditional, quadrature, run,
    theory,
};
use candle_core::Tensor;
use latflow_action::{Action, HeatBath};
use latflow_flow::{Autoregressive, Distribution};
use latflow_lattice::Streams;
use latflow_sampler::{IndependenceMetropolis, IndependenceState};

type Pair = (Tensor, Tensor);

fn chains<Q: Distribution<Pair>>(proposal: Q, seed: u64) -> Run {
    let Theory { full, .. } = theory();
    let phi = noise(seed, &[300, 2], 0.5);
    let pf = HeatBath::draw(&full, &phi, &mut Streams::new(seed).stream("test", 2)).unwrap();
    let kernel = IndependenceMetropolis::new(proposal, full);
    let fields = |s: &IndependenceState<Pair>| (s.x.0.clone(), Some(s.x.1.clone()));
    run(&kernel, (phi, pf), fields, 3000, seed)
}

fn log_weights<Q: Distribution<Pair>, A: Action<Pair>>(proposal: Q, target: A) -> Vec<f64> {
    let kernel = IndependenceMetropolis::new(proposal, target);
    kernel.propose(40_000, &mut Streams::new(3).stream("test", 0)).unwrap().log_weight
}

#[test]
fn the_autoregressive_scheme_is_exact() {
    let proposal = Autoregressive { first: marginal_flow(), second: pseudofermion_conditional(2) };
    let run = chains(proposal, 1);
    run.agrees("autoregressive", &quadrature());
    assert!((0.05..0.8).contains(&run.acceptance), "{}", run.acceptance);
}

#[test]
fn the_fully_joint_scheme_is_exact() {
    let run = chains(joint_flow(2), 2);
    run.agrees("fully joint", &quadrature());
    assert!((0.05..0.8).contains(&run.acceptance), "{}", run.acceptance);
}

#[test]
fn all_joint_models_have_the_partition_function_of_the_determinant() {
    // log Z of the joint theory is that of the marginal one plus N log π, minus what preconditioning took out.
    let exact = quadrature();
    let Theory { full, even_odd, .. } = theory();
    for (what, weights, normalisation) in [
        (
            "autoregressive",
            log_weights(
                Autoregressive { first: marginal_flow(), second: pseudofermion_conditional(2) },
                full.clone(),
            ),
            full.log_normalisation(),
        ),
        (
            "autoregressive, even/odd",
            log_weights(
                Autoregressive { first: marginal_flow(), second: pseudofermion_conditional(1) },
                even_odd.clone(),
            ),
            even_odd.log_normalisation(),
        ),
        ("fully joint", log_weights(joint_flow(2), full.clone()), full.log_normalisation()),
        ("fully joint, even/odd", log_weights(joint_flow(1), even_odd.clone()), even_odd.log_normalisation()),
    ] {
        agrees_log_z(what, &weights, exact.log_z + normalisation);
    }
}
