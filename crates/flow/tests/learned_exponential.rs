//! The exponential flow of Wilson fermions: the noise of one draw, and coefficients that are parameters.

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{noise, scramble};
use latflow_action::{Action, Pseudofermion};
use latflow_fermion::{
    ConjugateGradient, DenseWilson, EvenOddWilson, FullExpansion, LogarithmicExpansion, StaggeredYukawa,
    Wilson, WilsonExpansion,
};
use latflow_flow::check::{log_det_defect, round_trip_defect};
use latflow_flow::train::{Clip, Estimator, Schedule, Trainer};
use latflow_flow::{
    Autoregressive, Bijection, Distribution, Error, ExponentialPseudofermion, Fixed, FlowModel, Gaussian,
    HaarUniform, ParamStore,
};
use latflow_lattice::check::max_difference;
use latflow_lattice::{Boundary, Lattice, Links, Streams};

const CPU: Device = Device::Cpu;

fn store() -> ParamStore {
    ParamStore::new(Streams::new(1), DType::F64, &CPU)
}

#[test]
fn the_density_is_exact_for_any_coefficients() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let dirac = StaggeredYukawa::new(&lattice, 0.0, 0.7, Boundary::Antiperiodic).unwrap();
    let expansion = FullExpansion::new(&dirac, &CPU).unwrap();
    let (phi, chi) = (noise(1, &[2, 16], 0.6), noise(2, &[2, 2, 16], 0.7));
    for order in 1..=2 {
        let mut store = store();
        let fixed = ExponentialPseudofermion::new(expansion.clone(), order).unwrap();
        let flow = ExponentialPseudofermion::learnable(&mut store, "a", expansion.clone(), order).unwrap();
        assert_eq!(store.count(), order);
        let (expected, got) = (fixed.forward(&chi, &phi).unwrap(), flow.forward(&chi, &phi).unwrap());
        assert!(max_difference(&expected.0, &got.0).unwrap() < 1e-14);
        assert!(max_difference(&expected.1, &got.1).unwrap() < 1e-13);
        scramble(&store, 0.3);
        assert!(max_difference(&flow.forward(&chi, &phi).unwrap().0, &expected.0).unwrap() > 1e-2);
        assert!(round_trip_defect(&flow, &chi, &phi).unwrap() < 1e-11);
        assert!(log_det_defect(&flow, &chi, &phi).unwrap() < 1e-9);
    }
    let none = ExponentialPseudofermion::learnable(&mut store(), "a", expansion, 0);
    assert!(matches!(none, Err(Error::Parameter { .. })));
}

/// No gauge action.
#[derive(Debug, Clone)]
struct Free;

impl Action<Links> for Free {
    fn action(&self, links: &Links) -> latflow_action::Result<Tensor> {
        Ok(Tensor::zeros(links.tensor().dim(0)?, DType::F64, &CPU)?)
    }
}

/// At fixed links log w = −χ†Aχ + const with A = W†(DD†)⁻¹W − 1, so that its variance is tr A². A is the derivative of the action
/// at ϕ = Wχ, and tr A² = E|Aχ|² has little noise of its own. The mean weight is the determinant.
#[test]
fn one_draw_has_the_variance_of_the_trace_formula() {
    let lattice = Lattice::new(&[4, 4, 4, 4]).unwrap();
    let (n, draws, probes) = (6 * 256, 384, 4);
    let one = Links::haar(&lattice, 1, 3, &mut Streams::new(6).stream("test", 0), &CPU).unwrap();
    let copies = |count: usize| {
        let mut shape = one.tensor().dims().to_vec();
        shape[0] = count;
        Links::new(one.tensor().broadcast_as(shape).unwrap().contiguous().unwrap()).unwrap()
    };
    let many = copies(draws);
    // Single draws of these orders have about these variances on Haar links.
    for (kappa, order, rough) in [(0.1, 1, 0.5), (0.1, 2, 0.0057), (0.13, 1, 4.2), (0.13, 2, 0.14)] {
        let wilson = Wilson::new(&lattice, kappa, Boundary::Antiperiodic).unwrap();
        let half = EvenOddWilson::new(&wilson);
        let theory = Pseudofermion::new(Free, half.clone(), ConjugateGradient::default());
        let flow = ExponentialPseudofermion::new(WilsonExpansion::new(&half).unwrap(), order).unwrap();
        let chi = Var::from_tensor(&noise(7, &[probes, 2, n], std::f64::consts::FRAC_1_SQRT_2)).unwrap();
        let (phi, _) = flow.forward(&chi, &copies(probes)).unwrap();
        let action = theory.pseudofermion_action(&copies(probes), &phi).unwrap();
        let gradient = action.sum_all().unwrap().backward().unwrap().get(&chi).unwrap().detach();
        let excess = ((gradient * 0.5).unwrap() - chi.as_tensor().detach()).unwrap();
        let expected = excess.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap() / probes as f64;
        let model = FlowModel { prior: Gaussian::pseudofermion(1.0, n, &CPU).unwrap(), flow };
        let mut rng = Streams::new(8).stream("draws", 0);
        let (phi, log_q) = model.sample_with_log_prob(draws, &many, &mut rng).unwrap();
        let log_w = (theory.pseudofermion_action(&many, &phi).unwrap() + log_q).unwrap().neg().unwrap();
        let log_w: Vec<f64> = log_w.to_vec1::<f64>().unwrap();
        let mean = log_w.iter().sum::<f64>() / draws as f64;
        let variance = log_w.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / (draws - 1) as f64;
        let z = (variance / expected - 1.0) / (2.0 / draws as f64).sqrt();
        assert!(z.abs() < 4.0, "κ = {kappa}, order {order}: {variance:e}, expected {expected:e}");
        assert!((expected / rough).ln().abs() < 0.5, "κ = {kappa}, order {order}: {expected:e}");
        if order == 2 {
            let exact =
                2.0 * DenseWilson::new(&wilson).log_abs_det(&one).unwrap().to_vec1::<f64>().unwrap()[0];
            let exact = exact + n as f64 * std::f64::consts::PI.ln();
            let w: Vec<f64> = log_w.iter().map(|w| (w - exact).exp()).collect();
            let mean = w.iter().sum::<f64>() / draws as f64;
            let error = (w.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / (draws * draws) as f64).sqrt();
            assert!((mean - 1.0).abs() < 4.0 * error, "κ = {kappa}: {mean} ± {error}");
        }
    }
}

/// Coefficients of Wilson fermions: exact gradients, and training finds those of the logarithm from others.
#[test]
fn training_finds_the_logarithm() {
    let lattice = Lattice::new(&[4, 4, 4, 4]).unwrap();
    let wilson = Wilson::new(&lattice, 0.13, Boundary::Antiperiodic).unwrap();
    let half = EvenOddWilson::new(&wilson);
    let expansion = WilsonExpansion::new(&half).unwrap();
    assert_eq!(expansion.largest_order(), 2);
    let n = 6 * 256;
    let mut store = store();
    let flow = ExponentialPseudofermion::learnable(&mut store, "a", expansion, 2).unwrap();
    let theory = Pseudofermion::new(Free, half, ConjugateGradient::default());
    let model = Autoregressive {
        first: Fixed(HaarUniform::new(&lattice, 3, &CPU)),
        second: FlowModel { prior: Gaussian::pseudofermion(1.0, n, &CPU).unwrap(), flow },
    };
    let draw = |seed| model.sample_with_log_prob(4, &(), &mut Streams::new(seed).stream("test", 0)).unwrap();
    let loss = || {
        let (pair, log_q) = draw(3);
        (theory.action(&pair).unwrap() + log_q).unwrap().mean_all().unwrap()
    };
    let gradient = loss().backward().unwrap().get(store.iter().next().unwrap().1).unwrap().detach();
    let var = store.iter().next().unwrap().1.clone();
    let start = var.as_tensor().detach().copy().unwrap();
    let gradient = gradient.to_vec1::<f64>().unwrap();
    for (k, gradient) in gradient.iter().enumerate() {
        let at = |h: f64| {
            let mut a = start.to_vec1::<f64>().unwrap();
            a[k] += h;
            var.set(&Tensor::from_vec(a, 2, &CPU).unwrap()).unwrap();
            loss().to_scalar::<f64>().unwrap()
        };
        let difference = (at(1e-4) - at(-1e-4)) / 2e-4;
        assert!(
            (gradient - difference).abs() < 1e-5 * (1.0 + gradient.abs()),
            "{k}: {gradient} {difference}"
        );
    }
    var.set(&start).unwrap();
    let variance = || {
        let mut log_w = Vec::new();
        for seed in 10..18 {
            let (pair, log_q) = draw(seed);
            log_w.extend((theory.action(&pair).unwrap() + log_q).unwrap().to_vec1::<f64>().unwrap());
        }
        let mean = log_w.iter().sum::<f64>() / log_w.len() as f64;
        log_w.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / (log_w.len() - 1) as f64
    };
    let logarithm = variance();
    var.set(&Tensor::new(&[0.8, -0.3], &CPU).unwrap()).unwrap();
    let before = variance();
    let schedule = Schedule::new(&[(0, 2e-2), (12, 5e-3)]).unwrap();
    let trainer = Trainer::new(&store, schedule, Clip::default(), 4, Streams::new(4)).unwrap();
    let mut trainer = trainer.with_estimator(Estimator::Path);
    for _ in 0..20 {
        trainer.step(&model, &theory, &store).unwrap();
    }
    let (after, a) = (variance(), var.as_tensor().to_vec1::<f64>().unwrap());
    // The same draws each time: their noise is common.
    assert!(after < 0.2 * before && logarithm < before, "{before} {after} {logarithm}");
    assert!((a[0] - 1.0).abs() < 0.1 && (a[1] + 0.5).abs() < 0.15, "{a:?}");
}
