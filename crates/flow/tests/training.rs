//! Priors, densities, the optimiser and its checkpoints.

use candle_core::{DType, Device, Tensor};
use latflow_action::{Exact, Phi4};
use latflow_flow::train::{Adam, Clip, Estimator, Schedule, Trainer};
use latflow_flow::{
    Activation, AffineCoupling, Bijection, Chain, CubicRoot, Distribution, Error, ExponentialConvolution,
    FlowModel, Gaussian, NetShape, ParamStore, Sample,
};
use latflow_lattice::check::max_difference;
use latflow_lattice::{Lattice, Parity, Streams};
use std::collections::BTreeMap;

const CPU: Device = Device::Cpu;

type Model = FlowModel<Gaussian, Chain<Tensor>>;

fn model(dtype: DType, seed: u64) -> (Model, ParamStore, Exact<Phi4>) {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let mut store = ParamStore::new(Streams::new(seed), dtype, &CPU);
    let shape = NetShape {
        hidden: vec![8],
        kernel: 3,
        activation: Activation::LeakyRelu(0.01),
        final_activation: Activation::Identity,
    };
    let mut layers: Vec<Box<dyn Bijection<Tensor>>> =
        vec![Box::new(CubicRoot::new(&mut store, "1", 0.3).unwrap())];
    for (name, parity) in [("2", Parity::Even), ("3", Parity::Odd)] {
        layers.push(Box::new(AffineCoupling::new(&mut store, name, &lattice, parity, &shape).unwrap()));
    }
    let first = Box::new(ExponentialConvolution::new(&mut store, "0", &lattice, 2).unwrap());
    let flow = Chain::new(first, layers);
    let target = Exact(Phi4::new(&lattice, -1.0, 2.0).unwrap());
    (FlowModel { prior: Gaussian::new(0.6, 16, &CPU).unwrap(), flow }, store, target)
}

fn trainer(store: &ParamStore, seed: u64) -> Trainer {
    let schedule = Schedule::new(&[(0, 1e-2), (20, 1e-3)]).unwrap();
    Trainer::new(store, schedule, Clip { value: 5.0, norm: 20.0 }, 64, Streams::new(seed)).unwrap()
}

#[test]
fn the_prior_is_normalised_with_variance_half_sigma_squared() {
    // ∫ r dζ by the trapezoidal rule in one dimension, and the sample variance with its error, n = 40000.
    let prior = Gaussian::new(0.34, 1, &CPU).unwrap();
    let grid: Vec<f64> = (-4000..=4000).map(|i| f64::from(i) * 1e-3).collect();
    let n = grid.len();
    let r = prior.log_prob(&Tensor::from_vec(grid, (n, 1), &CPU).unwrap(), &()).unwrap().exp().unwrap();
    let integral = r.sum_all().unwrap().to_scalar::<f64>().unwrap() * 1e-3;
    assert!((integral - 1.0).abs() < 1e-12, "{integral}");
    let wide = Gaussian::new(0.34, 4, &CPU).unwrap();
    let z = wide.sample(10_000, &(), &mut Streams::new(1).stream("test", 0)).unwrap();
    let variance = z.sqr().unwrap().mean_all().unwrap().to_scalar::<f64>().unwrap();
    let expected = 0.34 * 0.34 / 2.0;
    let score = (variance - expected) / (expected * (2.0f64 / 40_000.0).sqrt());
    assert!(score.abs() < 4.0, "variance {variance}, expected {expected}, z = {score}");
    assert!(matches!(Gaussian::new(-1.0, 4, &CPU), Err(Error::Parameter { .. })));
}

#[test]
fn sampling_and_evaluating_give_the_same_density() {
    let (model, store, target) = model(DType::F32, 2);
    let mut t = trainer(&store, 3);
    for _ in 0..10 {
        t.step(&model, &target, &store).unwrap();
    }
    let (x, log_q) = model.sample_with_log_prob(32, &(), &mut Streams::new(4).stream("test", 0)).unwrap();
    assert!(max_difference(&model.log_prob(&x, &()).unwrap(), &log_q).unwrap() < 1e-10);
}

#[test]
fn the_density_integrates_to_one() {
    // E_q[r'(x)/q(x)] = 1 for any normalised r': a wrong Jacobian or prior shows up as a wrong mean.
    let (model, store, target) = model(DType::F64, 5);
    let mut t = trainer(&store, 6);
    for _ in 0..30 {
        t.step(&model, &target, &store).unwrap();
    }
    let n = 20_000;
    let (x, log_q) = model.sample_with_log_prob(n, &(), &mut Streams::new(7).stream("test", 0)).unwrap();
    // Narrower than the model, so that the ratio has a finite variance.
    let narrow = Gaussian::new(0.4, 16, &CPU).unwrap();
    let ratio = (narrow.log_prob(&x, &()).unwrap() - log_q).unwrap().exp().unwrap().to_vec1::<f64>().unwrap();
    let mean = ratio.iter().sum::<f64>() / n as f64;
    let error = (ratio.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (n * (n - 1)) as f64).sqrt();
    assert!(((mean - 1.0) / error).abs() < 4.0 && error < 0.2, "{mean} ± {error}");
}

#[test]
fn the_training_gradient_is_the_derivative_of_the_loss() {
    let (model, store, target) = model(DType::F64, 8);
    let loss = || {
        let (x, log_q) = model.sample_with_log_prob(64, &(), &mut Streams::new(9).stream("test", 0)).unwrap();
        let action = latflow_action::Action::action(&target.0, &x).unwrap();
        (log_q + action).unwrap().mean_all().unwrap()
    };
    let gradients = loss().backward().unwrap();
    for (name, var) in store.iter() {
        let gradient = gradients.get(var).unwrap().detach();
        let start = var.as_tensor().detach().copy().unwrap();
        let direction = (gradient.sign().unwrap() + 0.5).unwrap();
        let along = (&gradient * &direction).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
        let at = |h: f64| {
            var.set(&(&start + (&direction * h).unwrap()).unwrap()).unwrap();
            loss().to_scalar::<f64>().unwrap()
        };
        let difference = (at(1e-6) - at(-1e-6)) / 2e-6;
        var.set(&start).unwrap();
        // A few leaky ReLU kinks may lie inside the step.
        assert!((along - difference).abs() < 1e-4 * (1.0 + along.abs()), "{name}: {along} and {difference}");
    }
}

#[test]
fn a_resumed_training_is_the_same_bit_by_bit() {
    let (model_a, store_a, target) = model(DType::F32, 10);
    let mut a = trainer(&store_a, 11);
    for _ in 0..17 {
        a.step(&model_a, &target, &store_a).unwrap();
    }
    let (state, tensors) = a.checkpoint(&store_a).unwrap();
    let (model_b, store_b, _) = model(DType::F32, 999);
    let mut b = trainer(&store_b, 998);
    b.restore(&store_b, &state, &tensors).unwrap();
    assert_eq!(b.steps_done(), 17);
    for _ in 0..10 {
        let x = a.step(&model_a, &target, &store_a).unwrap();
        let y = b.step(&model_b, &target, &store_b).unwrap();
        assert_eq!(
            (x.loss.to_bits(), x.gradient_norm.to_bits()),
            (y.loss.to_bits(), y.gradient_norm.to_bits())
        );
    }
    let (state_a, tensors_a) = a.checkpoint(&store_a).unwrap();
    let (state_b, tensors_b) = b.checkpoint(&store_b).unwrap();
    assert_eq!(state_a, state_b);
    for (name, t) in &tensors_a {
        assert_eq!(t.to_vec1::<f32>().unwrap(), tensors_b[name].to_vec1::<f32>().unwrap(), "{name}");
    }
}

#[test]
fn checkpoints_of_another_model_are_refused() {
    let (_, store, _) = model(DType::F32, 12);
    let mut values = store.snapshot().unwrap();
    let (name, value) = values.pop_first().unwrap();
    assert!(matches!(store.restore(&values), Err(Error::Checkpoint { .. })));
    values.insert(name.clone(), Tensor::zeros(3, DType::F32, &CPU).unwrap());
    assert!(matches!(store.restore(&values), Err(Error::Checkpoint { .. })));
    values.insert(name, value);
    assert!(store.restore(&values).is_ok());
    values.insert("unknown".into(), Tensor::zeros(3, DType::F32, &CPU).unwrap());
    assert!(matches!(store.restore(&values), Err(Error::Checkpoint { .. })));
}

#[test]
fn adam_follows_its_recursion() {
    for epsilon in [1e-8, 1e-2] {
        let mut store = ParamStore::new(Streams::new(13), DType::F64, &CPU);
        store.create("w", &[2], |_| vec![1.0, -2.0]).unwrap();
        let mut adam = Adam::new(&store).unwrap();
        if epsilon != 1e-8 {
            adam = adam.with_epsilon(epsilon).unwrap();
        }
        let (mut w, mut m, mut v) = ([1.0, -2.0], [0.0; 2], [0.0f64; 2]);
        for t in 1..=5 {
            let g = [0.3 * f64::from(t), -0.7];
            let gradients = BTreeMap::from([("w".to_owned(), Tensor::new(&g, &CPU).unwrap())]);
            adam.step(&store, &gradients, 0.1).unwrap();
            for i in 0..2 {
                m[i] = 0.9 * m[i] + 0.1 * g[i];
                v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
                let scale = (v[i] / (1.0 - 0.999f64.powi(t))).sqrt() + epsilon;
                w[i] -= 0.1 * (m[i] / (1.0 - 0.9f64.powi(t))) / scale;
            }
            let got = store.snapshot().unwrap()["w"].to_vec1::<f64>().unwrap();
            assert!((got[0] - w[0]).abs() + (got[1] - w[1]).abs() < 1e-13, "step {t}");
        }
    }
}

#[test]
fn clipping_bounds_value_then_norm() {
    let gradients = || BTreeMap::from([("a".to_owned(), Tensor::new(&[3.0, -40.0], &CPU).unwrap())]);
    let clipped = |value, norm| {
        let mut g = gradients();
        let before = Clip { value, norm }.apply(&mut g).unwrap();
        assert!((before - 1609.0f64.sqrt()).abs() < 1e-12);
        g["a"].to_vec1::<f64>().unwrap()
    };
    assert_eq!(clipped(10.0, f64::INFINITY), [3.0, -10.0]);
    assert_eq!(clipped(f64::INFINITY, f64::INFINITY), [3.0, -40.0]);
    let both = clipped(4.0, 2.5);
    assert!((both[0] - 1.5).abs() < 1e-12 && (both[1] + 2.0).abs() < 1e-12);
}

#[test]
fn schedules_step_down() {
    let s = Schedule::new(&[(0, 1e-3), (80_000, 1e-4)]).unwrap();
    assert_eq!((s.rate(0), s.rate(79_999), s.rate(80_000), s.rate(1_000_000)), (1e-3, 1e-3, 1e-4, 1e-4));
    for bad in [&[(5, 1e-3)][..], &[], &[(0, 1e-3), (0, 1e-4)], &[(0, -1.0)], &[(0, f64::NAN)]] {
        assert!(matches!(Schedule::new(bad), Err(Error::Parameter { .. })), "{bad:?}");
    }
}

#[test]
fn training_stops_loudly_when_the_loss_is_not_finite() {
    let (model, store, target) = model(DType::F64, 14);
    let broken: BTreeMap<String, Tensor> =
        store.snapshot().unwrap().into_iter().map(|(n, v)| (n, (v * f64::NAN).unwrap())).collect();
    store.restore(&broken).unwrap();
    let mut t = trainer(&store, 15);
    assert!(matches!(t.step(&model, &target, &store), Err(Error::NotFinite { step: 0, .. })));
    assert_eq!(t.steps_done(), 0);
}

/// The free field as target of a linear flow that contains it: at the optimum every path gradient vanishes, sample by sample,
/// while the total one is noise. Away from it both have the same mean.
#[test]
fn path_and_total_gradients_agree_on_average_and_the_path_has_no_noise_at_the_optimum() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let target = Exact(Phi4::new(&lattice, 1.0, 0.0).unwrap());
    let norms = |estimator: Estimator, trained: bool| {
        let mut store = ParamStore::new(Streams::new(1), DType::F64, &CPU);
        let layer = ExponentialConvolution::new(&mut store, "0", &lattice, 2).unwrap();
        let model = FlowModel { prior: Gaussian::new(0.7, 16, &CPU).unwrap(), flow: layer };
        if trained {
            let schedule = Schedule::new(&[(0, 3e-2), (250, 3e-3), (400, 3e-4)]).unwrap();
            let mut t = Trainer::new(&store, schedule, Clip::default(), 64, Streams::new(2)).unwrap();
            t = t.with_estimator(Estimator::Path);
            for _ in 0..500 {
                t.step(&model, &target, &store).unwrap();
            }
        }
        // A rate of zero: the same point again and again. Adam's first moment is (1 − β₁) times the first gradient.
        (0..50)
            .map(|seed| {
                let schedule = Schedule::new(&[(0, 1e-300)]).unwrap();
                let t = Trainer::new(&store, schedule, Clip::default(), 64, Streams::new(10 + seed)).unwrap();
                let mut t = t.with_estimator(estimator);
                t.step(&model, &target, &store).unwrap();
                let (_, tensors) = t.checkpoint(&store).unwrap();
                (&tensors["adam/first/0"] * 10.0).unwrap().to_vec1::<f64>().unwrap()
            })
            .collect::<Vec<_>>()
    };
    let moments = |all: &[Vec<f64>], i: usize| {
        let n = all.len() as f64;
        let mean = all.iter().map(|g| g[i]).sum::<f64>() / n;
        let variance = all.iter().map(|g| (g[i] - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, variance / n)
    };
    let (path, total) = (norms(Estimator::Path, false), norms(Estimator::Total, false));
    for i in 0..path[0].len() {
        let ((a, va), (b, vb)) = (moments(&path, i), moments(&total, i));
        let z = (a - b) / (va + vb).sqrt();
        assert!(z.abs() < 4.5, "component {i}: path {a}, total {b}, z = {z}");
    }
    let (path, total) = (norms(Estimator::Path, true), norms(Estimator::Total, true));
    for i in 0..path[0].len() {
        let (noise_path, noise_total) = (moments(&path, i).1, moments(&total, i).1);
        assert!(noise_path < 1e-2 * noise_total, "component {i}: {noise_path:e} against {noise_total:e}");
    }
}
