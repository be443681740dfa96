//! Contract table of the Markov kernels: integrators, exactness on solvable lattices, agreement with each other.

use candle_core::{DType, Device, Tensor};
use latflow_action::{Action, DeterminantAction, Exact, Phi4, Pseudofermion, Refresh, Sum};
use latflow_fermion::{ConjugateGradient, DenseYukawa, EvenOddYukawa, StaggeredYukawa};
use latflow_flow::train::{Clip, Schedule, Trainer};
use latflow_flow::{
    Activation, AffineCoupling, Bijection, Chain, CubicRoot, ExponentialConvolution, FlowModel, Gaussian,
    NetShape, ParamStore,
};
use latflow_lattice::check::max_difference;
use latflow_lattice::{Boundary, Lattice, Parity, Streams, normal_tensor};
use latflow_sampler::{
    Error, Hmc, IndependenceChains, IndependenceMetropolis, Integrator, MarkovKernel, StepInfo, StepTuner,
    metropolis,
};

const CPU: Device = Device::Cpu;
const TIGHT: ConjugateGradient = ConjugateGradient { tolerance: 1e-13, max_iterations: 1000 };

type Theory = Sum<Phi4, DeterminantAction>;

fn noise(seed: u64, shape: &[usize], sigma: f64) -> Tensor {
    normal_tensor(&mut Streams::new(seed).stream("test", 0), sigma, shape, DType::F64, &CPU).unwrap()
}

fn theory(dims: &[usize], g: f64) -> (Theory, Pseudofermion<Phi4, EvenOddYukawa>) {
    let lattice = Lattice::new(dims).unwrap();
    let phi4 = Phi4::new(&lattice, -1.0, 1.5).unwrap();
    let full = StaggeredYukawa::new(&lattice, 0.1, g, Boundary::Antiperiodic).unwrap();
    let even_odd = EvenOddYukawa::new(&full, Parity::Even, &CPU).unwrap();
    let exact = Sum(phi4.clone(), DeterminantAction(DenseYukawa::even_odd(&full).unwrap()));
    (exact, Pseudofermion::new(phi4, even_odd, TIGHT))
}

/// Mean and error of a batch of chains: chains are independent, so the error is that of the chain means.
fn over_chains(rows: &[Vec<f64>]) -> (f64, f64) {
    let chains = rows[0].len();
    let means: Vec<f64> =
        (0..chains).map(|c| rows.iter().map(|r| r[c]).sum::<f64>() / rows.len() as f64).collect();
    let mean = means.iter().sum::<f64>() / chains as f64;
    let variance = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / (chains * (chains - 1)) as f64;
    (mean, variance.sqrt())
}

/// Runs a kernel; returns φ(0)², φ(0)φ(1) of every chain at every kept step, and the acceptance.
fn two_moments<K: MarkovKernel<Position = Tensor>>(
    kernel: &K,
    start: Tensor,
    seed: u64,
    steps: usize,
) -> (Vec<Vec<f64>>, Vec<Vec<f64>>, f64) {
    let mut rng = Streams::new(seed).stream("test", 1);
    let mut state = kernel.init(start, &mut rng).unwrap();
    let (mut squares, mut products, mut acceptance) = (Vec::new(), Vec::new(), 0.0);
    for step in 0..steps + 50 {
        let (next, info) = kernel.step(state, &mut rng).unwrap();
        state = next;
        // A coarse trajectory may run away now and then: it counts as a rejection of that chain alone.
        assert!(info.nonfinite <= 2, "{info:?}");
        if step >= 50 {
            acceptance += info.acceptance() / steps as f64;
            let phi = kernel.position(&state).to_vec2::<f64>().unwrap();
            squares.push(phi.iter().map(|p| p[0] * p[0]).collect());
            products.push(phi.iter().map(|p| p[0] * p[1]).collect());
        }
    }
    (squares, products, acceptance)
}

/// ⟨φ_0²⟩ and ⟨φ_0 φ_1⟩ on the two-site lattice by two-dimensional quadrature, formulas written out by hand.
///
/// Both neighbours of a site are the other one: S = −4 φ_0 φ_1 + Σ [(m² + 2) φ² + λ φ⁴]. In time the two hops add up to
/// ½ (ψ' + ψ') = ψ' with opposite signs on the two sites: det D = (m_f + g φ_0)(m_f + g φ_1) + 1.
fn two_site_quadrature(g: f64) -> (f64, f64) {
    let (m2, lambda, mass) = (-1.0, 1.5, 0.1);
    let h = 0.01;
    let grid: Vec<f64> = (-400..=400).map(|i| f64::from(i) * h).collect();
    let local = |p: f64| (m2 + 2.0) * p * p + lambda * p.powi(4);
    let (mut z, mut square, mut product) = (0.0, 0.0, 0.0);
    for &a in &grid {
        for &b in &grid {
            let det = (mass + g * a) * (mass + g * b) + 1.0;
            let w = (4.0 * a * b - local(a) - local(b)).exp() * det * det;
            z += w;
            square += w * a * a;
            product += w * a * b;
        }
    }
    (square / z, product / z)
}

#[test]
fn hmc_reproduces_the_two_site_integrals() {
    // Three quantities for each of two treatments of the fermions: a false alarm at |z| > 4 has probability 4e-4.
    let g = 1.2;
    let (square, product) = two_site_quadrature(g);
    let (exact, pseudofermion) = theory(&[2], g);
    let start = noise(1, &[200, 2], 0.5);
    let determinant = Hmc::new(Exact(exact), Integrator::Leapfrog, 1.0, 8).unwrap();
    let stochastic = Hmc::new(pseudofermion, Integrator::Omelyan, 1.0, 4).unwrap();
    let runs = [
        ("determinant", two_moments(&determinant, start.clone(), 2, 300)),
        ("pseudofermion", two_moments(&stochastic, start, 3, 300)),
    ];
    for (name, (squares, products, acceptance)) in runs {
        assert!(acceptance > 0.6 && acceptance < 0.999, "{name}: acceptance {acceptance}");
        for (what, rows, expected) in [("φ²", squares, square), ("φφ'", products, product)] {
            let (mean, error) = over_chains(&rows);
            let z = (mean - expected) / error;
            assert!(z.abs() < 4.0, "{name}: ⟨{what}⟩ = {mean} ± {error}, exact {expected}, z = {z}");
            assert!(error < 0.02 * expected.abs(), "{name}: error {error} too large to mean anything");
        }
    }
}

#[test]
fn trajectories_are_reversible_and_second_order() {
    let (exact, pseudofermion) = theory(&[4, 4], 0.5);
    let x = noise(4, &[3, 16], 0.4);
    let p = noise(5, &[3, 16], 1.0);
    for integrator in [Integrator::Leapfrog, Integrator::Omelyan] {
        let kernel = |n| Hmc::<_, Tensor>::new(Exact(exact.clone()), integrator, 1.0, n).unwrap();
        let (there, momenta, _) = kernel(10).trajectory(&exact, &x, &p).unwrap();
        let (back, momenta, _) = kernel(10).trajectory(&exact, &there, &momenta.neg().unwrap()).unwrap();
        assert!(max_difference(&back, &x).unwrap() < 1e-12, "{integrator:?}");
        assert!(max_difference(&momenta.neg().unwrap(), &p).unwrap() < 1e-12, "{integrator:?}");
        // ΔH ∝ ε²: halving the step divides it by 4, up to higher orders.
        let change = |n| kernel(n).trajectory(&exact, &x, &p).unwrap().2;
        for (coarse, fine) in change(40).into_iter().zip(change(80)) {
            assert!((coarse / fine - 4.0).abs() < 0.2, "{integrator:?}: {coarse} / {fine}");
        }
    }
    // Minimum norm: at λ = ¼ the scheme would be two leapfrog steps of ε/2, and its ΔH only 4 times smaller.
    let norm = |integrator, n| {
        let kernel = Hmc::<_, Tensor>::new(Exact(exact.clone()), integrator, 1.0, n).unwrap();
        let change = kernel.trajectory(&exact, &x, &p).unwrap().2;
        change.iter().map(|h| h * h).sum::<f64>().sqrt()
    };
    let gain = norm(Integrator::Leapfrog, 40) / norm(Integrator::Omelyan, 40);
    assert!(gain > 6.0, "Omelyan's ΔH is only {gain} times smaller");
    let mut rng = Streams::new(6).stream("test", 0);
    let action = pseudofermion.refresh(&x, &mut rng).unwrap();
    let kernel = Hmc::<_, Tensor>::new(pseudofermion, Integrator::Omelyan, 1.0, 10).unwrap();
    let (there, momenta, _) = kernel.trajectory(&action, &x, &p).unwrap();
    let (back, _, _) = kernel.trajectory(&action, &there, &momenta.neg().unwrap()).unwrap();
    assert!(max_difference(&back, &x).unwrap() < 1e-11);
}

#[test]
fn the_mean_of_exp_minus_delta_h_is_one() {
    let (exact, pseudofermion) = theory(&[4, 4], 0.5);
    fn score<T: Refresh<Tensor>>(kernel: &Hmc<T, Tensor>, seed: u64) -> (f64, f64) {
        let mut rng = Streams::new(seed).stream("test", 0);
        let mut x = noise(seed + 1, &[100, 16], 0.5);
        let mut rows = Vec::new();
        for step in 0..140 {
            let (next, info) = kernel.step(x, &mut rng).unwrap();
            x = next;
            if step >= 40 {
                rows.push(info.log_ratio.iter().map(|r| r.exp()).collect());
            }
        }
        over_chains(&rows)
    }
    // Coarse steps, so that ΔH is of order one and the identity is not trivial.
    let runs = [
        ("determinant", score(&Hmc::new(Exact(exact), Integrator::Leapfrog, 1.0, 5).unwrap(), 7)),
        ("pseudofermion", score(&Hmc::new(pseudofermion, Integrator::Leapfrog, 1.0, 5).unwrap(), 8)),
    ];
    for (name, (mean, error)) in runs {
        assert!(((mean - 1.0) / error).abs() < 4.0 && error < 0.1, "{name}: {mean} ± {error}");
    }
}

fn trained_flow(
    lattice: &Lattice,
    target: &Theory,
    seed: u64,
) -> (FlowModel<Gaussian, Chain<Tensor>>, ParamStore) {
    let mut store = ParamStore::new(Streams::new(seed), DType::F32, &CPU);
    let shape = NetShape {
        hidden: vec![8],
        kernel: 1,
        activation: Activation::LeakyRelu(0.01),
        final_activation: Activation::Identity,
    };
    let shape = NetShape { kernel: if lattice.dims().iter().all(|l| *l > 2) { 3 } else { 1 }, ..shape };
    let mut rest: Vec<Box<dyn Bijection<Tensor>>> =
        vec![Box::new(CubicRoot::new(&mut store, "1", 0.3).unwrap())];
    for (name, parity) in [("2", Parity::Even), ("3", Parity::Odd)] {
        rest.push(Box::new(AffineCoupling::new(&mut store, name, lattice, parity, &shape).unwrap()));
    }
    let first = Box::new(ExponentialConvolution::new(&mut store, "0", lattice, 2).unwrap());
    let prior = Gaussian::new(0.6, lattice.volume(), &CPU).unwrap();
    let model = FlowModel { prior, flow: Chain::new(first, rest) };
    let schedule = Schedule::new(&[(0, 2e-2)]).unwrap();
    let mut trainer =
        Trainer::new(&store, schedule, Clip { value: 10.0, norm: 100.0 }, 128, Streams::new(seed)).unwrap();
    for _ in 0..60 {
        trainer.step(&model, &Exact(target.clone()), &store).unwrap();
    }
    (model, store)
}

#[test]
fn independence_metropolis_reproduces_the_two_site_integrals_with_any_flow() {
    let g = 1.2;
    let (square, product) = two_site_quadrature(g);
    let lattice = Lattice::new(&[2]).unwrap();
    let (target, _) = theory(&[2], g);
    let (model, _store) = trained_flow(&lattice, &target, 9);
    let kernel = IndependenceMetropolis::new(model, target);
    let (squares, products, acceptance) = two_moments(&kernel, noise(10, &[200, 2], 0.3), 11, 300);
    assert!(acceptance > 0.05 && acceptance < 0.99, "acceptance {acceptance}");
    for (what, rows, expected) in [("φ²", squares, square), ("φφ'", products, product)] {
        let (mean, error) = over_chains(&rows);
        assert!(((mean - expected) / error).abs() < 4.0, "⟨{what}⟩ = {mean} ± {error}, exact {expected}");
    }
}

#[test]
fn hmc_and_independence_metropolis_agree_on_a_small_lattice() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let (target, pseudofermion) = theory(&[4, 4], 0.4);
    let (model, _store) = trained_flow(&lattice, &target, 12);
    let flow = IndependenceMetropolis::new(model, target);
    let hmc = Hmc::new(pseudofermion, Integrator::Omelyan, 1.5, 6).unwrap();
    let start = noise(13, &[128, 16], 0.4);
    let (a2, ap, acceptance) = two_moments(&flow, start.clone(), 14, 250);
    let (b2, bp, _) = two_moments(&hmc, start, 15, 250);
    assert!(acceptance > 0.2, "acceptance {acceptance}");
    for (what, a, b) in [("φ²", a2, b2), ("φφ'", ap, bp)] {
        let ((a, da), (b, db)) = (over_chains(&a), over_chains(&b));
        let z = (a - b) / da.hypot(db);
        assert!(z.abs() < 4.0, "⟨{what}⟩: flow {a} ± {da}, HMC {b} ± {db}, z = {z}");
    }
}

#[test]
fn the_stored_weight_is_that_of_the_current_configuration() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let (target, _) = theory(&[4, 4], 0.4);
    let (model, _store) = trained_flow(&lattice, &target, 16);
    let kernel = IndependenceMetropolis::new(model, target);
    let mut rng = Streams::new(17).stream("test", 0);
    let mut state = kernel.init(noise(18, &[16, 16], 0.3), &mut rng).unwrap();
    for _ in 0..20 {
        (state, _) = kernel.step(state, &mut rng).unwrap();
    }
    let recomputed = kernel.init(state.x.clone(), &mut rng).unwrap();
    for (a, b) in state.log_weight.iter().zip(&recomputed.log_weight) {
        assert!((a - b).abs() < 1e-9, "{a} and {b}");
    }
}

#[test]
fn gaussian_weights_give_the_known_acceptance() {
    // log w ~ N(−s²/2, s²) under the proposal: acceptance erfc(s/2) [exact]. s = 1: 0.4795.
    let (chains, steps) = (400, 500);
    let mut rng = Streams::new(19).stream("test", 0);
    let mut draw = || -> Vec<f64> {
        let z = normal_tensor(&mut rng, 1.0, &[chains], DType::F64, &CPU).unwrap().to_vec1::<f64>().unwrap();
        z.into_iter().map(|z| z - 0.5).collect()
    };
    let mut uniform = Streams::new(20).stream("test", 0);
    let mut state = IndependenceChains::new(draw(), vec![(); chains]).unwrap();
    let mut rows = Vec::new();
    for step in 0..steps + 20 {
        let info = state.step(&draw(), &vec![(); chains], &mut uniform).unwrap();
        if step >= 20 {
            rows.push(info.accepted.iter().map(|a| f64::from(u8::from(*a))).collect());
        }
    }
    let (mean, error) = over_chains(&rows);
    assert!(((mean - 0.479_500_1) / error).abs() < 4.0 && error < 0.005, "{mean} ± {error}");
}

#[test]
fn measurements_follow_their_configurations() {
    // Every proposal carries its own log weight as data: after any number of steps both must still be the same number.
    let mut rng = Streams::new(24).stream("test", 0);
    let mut draw = || noise_of(&mut rng, 50);
    let first = draw();
    let mut uniform = Streams::new(25).stream("test", 0);
    let mut state = IndependenceChains::new(first.clone(), first.clone()).unwrap();
    for _ in 0..30 {
        let (before, proposed) = (state.clone(), draw());
        let info = state.step(&proposed, &proposed, &mut uniform).unwrap();
        assert_eq!(state.log_weight, state.data);
        for (c, accepted) in info.accepted.iter().enumerate() {
            let expected = if *accepted { proposed[c] } else { before.data[c] };
            assert_eq!(state.data[c], expected);
            // Uphill is always accepted.
            assert!(*accepted || proposed[c] <= before.log_weight[c]);
        }
    }
    assert!(state.data.iter().zip(&first).filter(|(a, b)| a != b).count() > 40);
}

fn noise_of(rng: &mut latflow_lattice::Rng, n: usize) -> Vec<f64> {
    normal_tensor(rng, 1.0, &[n], DType::F64, &CPU).unwrap().to_vec1::<f64>().unwrap()
}

#[test]
fn undefined_densities_are_counted_rejections() {
    let mut rng = Streams::new(21).stream("test", 0);
    let StepInfo { accepted, nonfinite, .. } =
        metropolis(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 50.0], &mut rng);
    assert_eq!((accepted, nonfinite), (vec![false, false, false, true], 2));
    assert!(matches!(
        IndependenceChains::new(vec![0.0, f64::NAN], vec![(); 2]),
        Err(Error::Start { chain: 1, .. })
    ));
    let mut chains = IndependenceChains::new(vec![0.0; 2], vec![(); 2]).unwrap();
    assert!(matches!(chains.step(&[0.0], &[()], &mut rng), Err(Error::Chains { .. })));
    let (exact, _) = theory(&[2], 0.1);
    assert!(Hmc::<_, Tensor>::new(Exact(exact.clone()), Integrator::Leapfrog, -1.0, 4).is_err());
    assert!(Hmc::<_, Tensor>::new(Exact(exact.clone()), Integrator::Leapfrog, 1.0, 0).is_err());
    assert!(exact.action(&noise(1, &[1, 2], 0.1)).is_ok());
}

#[test]
fn the_tuner_finds_the_target_acceptance() {
    let (exact, _) = theory(&[4, 4], 0.4);
    let mut kernel = Hmc::new(Exact(exact), Integrator::Leapfrog, 1.5, 20).unwrap();
    let mut tuner = StepTuner::new(0.8, 20);
    let mut rng = Streams::new(22).stream("test", 0);
    let mut x = noise(23, &[64, 16], 0.4);
    let mut late = 0.0;
    for step in 0..200 {
        let (next, info) = kernel.step(x, &mut rng).unwrap();
        x = next;
        if step < 120 {
            tuner.observe(info.acceptance_probability());
            kernel.set_steps(tuner.steps());
        } else {
            late += info.acceptance_probability() / 80.0;
        }
    }
    // An integer number of steps cannot hit the target exactly.
    assert!(late > 0.72 && late < 0.93 && kernel.steps() < 20, "{late} with {} steps", kernel.steps());
}
