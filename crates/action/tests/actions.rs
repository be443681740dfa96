//! Contract table of the actions: oracles written from the paper, forces by finite differences, symmetries, heat bath.

use candle_core::{DType, Device, Tensor};
use latflow_action::check::force_defect;
use latflow_action::{
    Action, DeterminantAction, Error, Exact, ForceRatios, Phi4, Pseudofermion, StochasticDeterminant, Sum,
    TrainingTarget, action_and_force, force_ratios,
};
use latflow_fermion::{ConjugateGradient, DenseYukawa, EvenOddYukawa, StaggeredYukawa};
use latflow_lattice::check::max_difference;
use latflow_lattice::{Boundary, Lattice, Parity, Streams, normal_tensor};
use proptest::prelude::*;

const CPU: Device = Device::Cpu;
const TIGHT: ConjugateGradient = ConjugateGradient { tolerance: 1e-13, max_iterations: 1000 };

fn noise(seed: u64, shape: &[usize]) -> Tensor {
    normal_tensor(&mut Streams::new(seed).stream("test", 0), 0.5, shape, DType::F64, &CPU).unwrap()
}

struct Theory {
    lattice: Lattice,
    phi4: Phi4,
    full: StaggeredYukawa,
    even_odd: EvenOddYukawa,
    determinant: DeterminantAction,
}

fn theory(dims: &[usize], g: f64) -> Theory {
    let lattice = Lattice::new(dims).unwrap();
    let full = StaggeredYukawa::new(&lattice, 0.0, g, Boundary::Antiperiodic).unwrap();
    Theory {
        phi4: Phi4::new(&lattice, -1.55, 2.4).unwrap(),
        even_odd: EvenOddYukawa::new(&full, Parity::Even, &CPU).unwrap(),
        determinant: DeterminantAction(DenseYukawa::even_odd(&full).unwrap()),
        full,
        lattice,
    }
}

/// [YUK (40)] by loops over sites.
fn phi4_oracle(lattice: &Lattice, m2: f64, lambda: f64, phi: &[f64]) -> f64 {
    let d = lattice.ndim() as f64;
    (0..lattice.volume())
        .map(|x| {
            let hops: f64 = (0..lattice.ndim())
                .map(|mu| {
                    let mut y = lattice.coordinates(x);
                    y[mu] = (y[mu] + 1) % lattice.dims()[mu];
                    phi[x] * phi[lattice.site(&y)]
                })
                .sum();
            -2.0 * hops + (m2 + 2.0 * d) * phi[x].powi(2) + lambda * phi[x].powi(4)
        })
        .sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn phi4_is_the_papers_sum(
        half in prop::collection::vec(1usize..4, 1..4), m2 in -4.0..4.0, lambda in 0.1..8.0, seed in 0u64..1000,
    ) {
        let lattice = Lattice::new(&half.iter().map(|h| 2 * h).collect::<Vec<_>>()).unwrap();
        let phi = noise(seed, &[2, lattice.volume()]);
        let got = Phi4::new(&lattice, m2, lambda).unwrap().action(&phi).unwrap().to_vec1::<f64>().unwrap();
        for (got, phi) in got.iter().zip(phi.to_vec2::<f64>().unwrap()) {
            let expected = phi4_oracle(&lattice, m2, lambda, &phi);
            prop_assert!((got - expected).abs() < 1e-11 * (1.0 + expected.abs()));
        }
    }
}

#[test]
fn forces_are_derivatives() {
    let t = theory(&[4, 6], 0.6);
    let (phi, omega) = (noise(1, &[3, 24]), noise(2, &[3, 24]));
    let mut rng = Streams::new(3).stream("test", 0);
    let full = Pseudofermion::new(t.phi4.clone(), t.full.clone(), TIGHT).heatbath(&phi, &mut rng).unwrap();
    let even_odd =
        Pseudofermion::new(t.phi4.clone(), t.even_odd.clone(), TIGHT).heatbath(&phi, &mut rng).unwrap();
    let rows: [(&str, &dyn Action<Tensor>); 5] = [
        ("phi4", &t.phi4),
        ("determinant", &t.determinant),
        ("pseudofermion", &full),
        ("even/odd pseudofermion", &even_odd),
        ("sum", &Sum(t.phi4.clone(), t.determinant.clone())),
    ];
    // Away from the field the pseudofermion was drawn for, so that the test sees a generic ϕ.
    let elsewhere = (&phi + noise(4, &[3, 24])).unwrap();
    for (name, action) in rows {
        let defect = force_defect(&action, &elsewhere, &omega, 1e-3).unwrap();
        assert!(defect < 1e-8, "{name}: {defect:e}");
    }
}

#[test]
fn actions_are_invariant_under_their_symmetries() {
    let t = theory(&[4, 6], 0.6);
    let phi = noise(5, &[2, 24]);
    let moved = |d: &[isize]| t.lattice.translate(&phi, d, Boundary::Periodic).unwrap();
    let both = Sum(t.phi4.clone(), t.determinant.clone());
    let reference = both.action(&phi).unwrap();
    // One-site shifts and φ → −φ are symmetries of |det D|² at m_f = 0, although the operator itself changes.
    for transformed in [moved(&[2, 0]), moved(&[0, 2]), moved(&[1, 0]), moved(&[0, 1]), phi.neg().unwrap()] {
        assert!(max_difference(&both.action(&transformed).unwrap(), &reference).unwrap() < 1e-10);
    }
}

#[test]
fn the_heat_bath_has_the_mean_action_of_its_dimension() {
    // ϕ†(DD†)⁻¹ϕ = χ†χ has mean N, and variance N, over e^{−χ†χ}. 4000 draws of N = 12.
    let t = theory(&[4, 6], 0.6);
    let phi = Tensor::cat(&vec![noise(6, &[1, 24]); 4000], 0).unwrap();
    let mut rng = Streams::new(7).stream("test", 0);
    let pf = Pseudofermion::new(t.phi4.clone(), t.even_odd.clone(), TIGHT).heatbath(&phi, &mut rng).unwrap();
    let mean = pf.action(&phi).unwrap().mean_all().unwrap().to_scalar::<f64>().unwrap();
    let z = (mean - 12.0) / (12.0 / 4000.0f64).sqrt();
    assert!(z.abs() < 4.0, "mean action {mean}, z = {z}");
}

#[test]
fn pseudofermions_average_to_the_determinant() {
    // E[e^{−(S_PF(φ') − S_PF(φ))}] over ϕ ~ p(ϕ|φ) is |det D(φ')|² / |det D(φ)|²: the pseudofermion's normalisation.
    let t = theory(&[4, 4], 0.4);
    let (one, shift) = (noise(8, &[1, 16]), (noise(9, &[1, 16]) * 0.3).unwrap());
    let n = 20_000;
    let phi = Tensor::cat(&vec![one.clone(); n], 0).unwrap();
    let other = phi.broadcast_add(&shift).unwrap();
    let mut rng = Streams::new(10).stream("test", 0);
    let pf = Pseudofermion::new(t.phi4.clone(), t.even_odd.clone(), TIGHT).heatbath(&phi, &mut rng).unwrap();
    let change = (pf.action(&other).unwrap() - pf.action(&phi).unwrap()).unwrap().to_vec1::<f64>().unwrap();
    let ratios: Vec<f64> = change.iter().map(|c| (-c).exp()).collect();
    let mean = ratios.iter().sum::<f64>() / n as f64;
    let error = (ratios.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (n * (n - 1)) as f64).sqrt();
    let log_det = |x: &Tensor| t.determinant.action(x).unwrap().to_vec1::<f64>().unwrap()[0];
    let exact = (log_det(&one) - log_det(&(&one + &shift).unwrap())).exp();
    let z = (mean - exact) / error;
    assert!(z.abs() < 4.0 && error < 0.1 * exact, "{mean} ± {error}, exact {exact}");
}

#[test]
fn the_stochastic_target_has_the_exact_gradient_on_average() {
    let t = theory(&[4, 4], 0.6);
    let phi = Tensor::cat(&vec![noise(11, &[1, 16]); 8000], 0).unwrap();
    let target = StochasticDeterminant {
        bosonic: t.phi4.clone(),
        dirac: t.even_odd.clone(),
        solver: TIGHT,
        draws: 1,
        shift: 0.0,
    };
    let var = candle_core::Var::from_tensor(&phi).unwrap();
    let mut rng = Streams::new(12).stream("test", 0);
    let surrogate = target.surrogate_action(var.as_tensor(), &mut rng).unwrap();
    let gradient =
        surrogate.sum_all().unwrap().backward().unwrap().get(&var).unwrap().to_vec2::<f64>().unwrap();
    let one = phi.narrow(0, 0, 1).unwrap();
    let (_, force) = action_and_force(&Sum(t.phi4, t.determinant), &one).unwrap();
    let force = force.to_vec2::<f64>().unwrap().remove(0);
    let n = gradient.len() as f64;
    // 16 sites, χ² with 16 degrees of freedom: above 45 with probability 1.4e-4. Sites are nearly uncorrelated.
    let chi2: f64 = (0..16)
        .map(|x| {
            let mean = gradient.iter().map(|g| g[x]).sum::<f64>() / n;
            let variance = gradient.iter().map(|g| (g[x] - mean).powi(2)).sum::<f64>() / (n * (n - 1.0));
            (mean + force[x]).powi(2) / variance
        })
        .sum();
    assert!(chi2 < 45.0 && chi2 > 2.0, "χ² = {chi2} for 16 sites");
}

#[test]
fn force_ratios_report_every_definition() {
    let t = theory(&[8, 8], 0.3);
    let phi = noise(13, &[4, 64]);
    let mut rng = Streams::new(14).stream("test", 0);
    let full = Pseudofermion::new(t.phi4.clone(), t.full.clone(), TIGHT);
    let even_odd = Pseudofermion::new(t.phi4.clone(), t.even_odd.clone(), TIGHT);
    let ForceRatios { bosonic, determinant, pseudofermion, even_odd_pseudofermion } =
        force_ratios(&phi, &t.phi4, &t.determinant, &full, &even_odd, &mut rng).unwrap();
    // Two flavours: F(x) = −∂S_F/∂φ(x) = 2g (D⁻¹)_xx.
    let (_, diagonal) = DenseYukawa::full(&t.full).log_abs_det_and_inverse_diagonal(&phi).unwrap();
    for (norm, inverse) in determinant.iter().zip(diagonal.chunks_exact(64)) {
        let expected = 2.0 * 0.3 * inverse.iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!((norm / expected - 1.0).abs() < 1e-10, "{norm} and {expected}");
    }
    let (_, force) = action_and_force(&t.phi4, &phi).unwrap();
    for (norm, force) in bosonic.iter().zip(force.to_vec2::<f64>().unwrap()) {
        assert!((norm - force.iter().map(|f| f * f).sum::<f64>().sqrt()).abs() < 1e-11);
    }
    for b in 0..4 {
        assert!(bosonic[b] > pseudofermion[b] && pseudofermion[b] > even_odd_pseudofermion[b]);
        assert!(even_odd_pseudofermion[b] > determinant[b] && determinant[b] > 0.0);
    }
}

#[test]
fn impossible_theories_are_refused() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    assert!(matches!(Phi4::new(&lattice, 1.0, -0.1), Err(Error::Unbounded { .. })));
    assert!(matches!(Phi4::new(&lattice, -1.0, 0.0), Err(Error::Unbounded { .. })));
    assert!(matches!(Phi4::new(&lattice, f64::NAN, 1.0), Err(Error::Parameter { name: "m2", .. })));
    let phi4 = Phi4::new(&lattice, 1.0, 0.0).unwrap();
    assert!(matches!(phi4.action(&noise(1, &[2, 12])), Err(Error::Shape { .. })));
    let exact = Exact(phi4);
    assert!(exact.surrogate_action(&noise(1, &[2, 16]), &mut Streams::new(1).stream("t", 0)).is_ok());
}
