//! The estimator of the determinant at fixed φ: its mean, and the mean of what it must not be mistaken for.

use crate::{CPU, G, MASS, Theory, agrees, mean_and_error, noise, pseudofermion_conditional, theory};
use candle_core::Tensor;
use latflow_action::{Action, Exact, HeatBath, Phi4, Pseudofermion};
use latflow_fermion::Dirac;
use latflow_flow::{Distribution, Gaussian};
use latflow_lattice::{Streams, sum_per_configuration};
use latflow_sampler::{Error, LogEstimate, PseudofermionEstimate};

const COPIES: usize = 20_000;

/// Many copies of one φ at which DD† is far from 1 and yet below 2.
fn copies() -> Tensor {
    Tensor::new(&[[0.6, 0.3]], &CPU).unwrap().broadcast_as((COPIES, 2)).unwrap().contiguous().unwrap()
}

fn check_mean<D: Dirac<Field = Tensor> + Clone, Q: Distribution<Tensor, Tensor>>(
    name: &str,
    theory: &Pseudofermion<Phi4, D>,
    conditional: Q,
    draws: usize,
    exact: f64,
) -> f64 {
    let estimate = PseudofermionEstimate::new(theory.clone(), conditional, draws).unwrap();
    let phi = copies().narrow(0, 0, COPIES / draws).unwrap();
    let logs = estimate.log_estimate(&phi, &mut Streams::new(1).stream("test", 0)).unwrap();
    let ratios: Vec<f64> = logs.iter().map(|l| (l - exact).exp()).collect();
    let (mean, error) = mean_and_error(&ratios);
    agrees(name, (mean, error), 1.0, 0.03);
    error * (ratios.len() as f64).sqrt()
}

#[test]
fn estimates_average_to_the_exact_density() {
    let Theory { marginal, full, even_odd } = theory();
    let one = copies().narrow(0, 0, 1).unwrap();
    let exact = -marginal.action(&one).unwrap().to_vec1::<f64>().unwrap()[0];
    let unit = |n| Gaussian::pseudofermion(1.0, n, &CPU).unwrap();
    check_mean("unit noise, full", &full, unit(2), 1, exact);
    check_mean("unit noise, even/odd", &even_odd, unit(1), 1, exact);
    check_mean("learned noise, even/odd", &even_odd, pseudofermion_conditional(1), 1, exact);
    // 13 draws do not divide the number of rows solved at once.
    let one = check_mean("learned noise, full", &full, pseudofermion_conditional(2), 1, exact);
    let many = check_mean("learned noise, full, 13 draws", &full, pseudofermion_conditional(2), 13, exact);
    // The deviation falls by √13 = 3.6.
    assert!((3.0..4.3).contains(&(one / many)), "{one} and {many}");
}

#[test]
fn every_configuration_gets_its_own_estimate() {
    // Four configurations are solved at once and the fifth after them: a draw on the wrong row would change the means.
    let Theory { marginal, full, .. } = theory();
    let few = noise(2, &[5, 2], 0.7);
    let exact = marginal.action(&few).unwrap().to_vec1::<f64>().unwrap();
    let estimate =
        PseudofermionEstimate::new(full, Gaussian::pseudofermion(1.4, 2, &CPU).unwrap(), 1000).unwrap();
    assert_eq!(estimate.draws(), 1000);
    let logs = estimate.log_estimate(&few, &mut Streams::new(3).stream("test", 0)).unwrap();
    for (log, action) in logs.iter().zip(exact) {
        assert!((log + action).abs() < 0.1, "{log} and {}", -action);
    }
}

#[test]
fn noise_from_the_heat_bath_estimates_something_else() {
    // Mean of e^{−ϕ†(M⁻¹−1)ϕ} over ϕ ~ p(ϕ|φ): 1/det(2 − M), not det M. M = DD† by hand.
    let Theory { full, .. } = theory();
    let phi = copies();
    let (a, b) = (MASS + G * 0.6, MASS + G * 0.3);
    let (m00, m01, m11) = (a * a + 1.0, b - a, b * b + 1.0);
    let det = (a * b + 1.0) * (a * b + 1.0);
    assert!((m00 * m11 - m01 * m01 - det).abs() < 1e-12);
    let biased = 1.0 / ((2.0 - m00) * (2.0 - m11) - m01 * m01);
    let mut rng = Streams::new(4).stream("test", 0);
    let weight = |pf: &Tensor| -> Vec<f64> {
        let norm = sum_per_configuration(&pf.sqr().unwrap()).unwrap();
        let form = full.pseudofermion_action(&phi, pf).unwrap();
        (norm - form).unwrap().exp().unwrap().to_vec1::<f64>().unwrap()
    };
    let heat_bath = mean_and_error(&weight(&HeatBath::draw(&full, &phi, &mut rng).unwrap()));
    let unit = Gaussian::pseudofermion(1.0, 2, &CPU).unwrap();
    let pf = unit.sample_with_log_prob(COPIES, &(), &mut rng).unwrap().0;
    agrees("unit noise: det M", mean_and_error(&weight(&pf)), det, 0.02);
    agrees("heat bath: 1/det(2 − M)", heat_bath, biased, 0.05);
    assert!((biased - det).abs() > 10.0 * heat_bath.1, "{biased} and {det} cannot be told apart");
}

#[test]
fn an_exact_action_is_an_estimate_without_noise() {
    let Theory { marginal, full, .. } = theory();
    let phi = noise(5, &[3, 2], 0.5);
    let action = marginal.action(&phi).unwrap().to_vec1::<f64>().unwrap();
    let logs = Exact(marginal).log_estimate(&phi, &mut Streams::new(6).stream("test", 0)).unwrap();
    assert!(logs.iter().zip(action).all(|(l, s)| *l == -s));
    assert!(matches!(
        PseudofermionEstimate::new(full, pseudofermion_conditional(2), 0),
        Err(Error::Parameter { name: "draws", .. })
    ));
}
