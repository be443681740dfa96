//! The fit: solvable cases, the path-residual identity, features that pay, fine-tuning.

use super::{CPU, mean, noise, random_flow, tune, variance};
use candle_core::DType;
use latflow_action::{Action, Exact, Phi4};
use latflow_flow::check::{log_det_defect, round_trip_defect};
use latflow_flow::train::{Clip, Schedule, Trainer};
use latflow_flow::transport::{
    ActionPath, Basis, ContinuousFlow, Factor, Feature, Local, PriorPath, Ridge, ScalarBasis,
    StreamingMoments, TimeGrid, TransportFit, TransportOptions, fit, step,
};
use latflow_flow::{Distribution, FlowModel, Gaussian, ParamStore};
use latflow_lattice::{Lattice, Streams};
use std::sync::Arc;

type Model = FlowModel<Gaussian, ContinuousFlow<ScalarBasis>>;

fn options(intervals: usize, power: f64, batches: usize, batch: usize) -> TransportOptions {
    let grid = TimeGrid::clustered(intervals, power).unwrap();
    TransportOptions { grid, batches, batch, steps: 1, ridge: Ridge::default() }
}

fn fitted(
    lattice: &Lattice,
    table: &[Feature],
    sigma: f64,
    action: &Phi4,
    options: &TransportOptions,
) -> (Model, ParamStore, TransportFit) {
    let basis = Arc::new(ScalarBasis::new(lattice, table, &CPU).unwrap());
    let prior = Gaussian::new(sigma, lattice.volume(), &CPU).unwrap();
    let path = PriorPath { prior: prior.clone(), end: action.clone() };
    let mut rng = Streams::new(1).stream("fit", 0);
    let result = fit(basis.as_ref(), &path, &prior, options, &mut rng).unwrap();
    let mut store = ParamStore::new(Streams::new(2), DType::F64, &CPU);
    let flow = ContinuousFlow::new(&mut store, "c", basis, options.grid.clone(), 1).unwrap();
    result.install(&store, "c").unwrap();
    (FlowModel { prior, flow }, store, result)
}

/// Fresh log-weights.
fn log_weights(model: &Model, action: &Phi4, samples: usize) -> Vec<f64> {
    let mut rng = Streams::new(3).stream("evaluate", 0);
    let (x, log_q) = model.sample_with_log_prob(samples, &(), &mut rng).unwrap();
    (log_q + action.action(&x).unwrap()).unwrap().neg().unwrap().to_vec1().unwrap()
}

#[test]
fn a_free_field_is_solved_exactly() {
    tune();
    // P_t = (1 − t) P_0 + t P_1 in momentum space; the velocity is −½ (Ṗ/P) φ, linear with a kernel as long as the lattice.
    let lattice = Lattice::new(&[4, 6]).unwrap();
    let action = Phi4::new(&lattice, 0.8, 0.0).unwrap();
    let table = [Feature::new("linear", Local::ONE, Local::field(Factor::power(1)), 3)];
    let mut spread = Vec::new();
    for intervals in [4, 8] {
        let (model, _, result) = fitted(&lattice, &table, 0.6, &action, &options(intervals, 1.0, 2, 60));
        for node in &result.nodes {
            assert!(node.train < 1e-12 * node.variance && node.test < 1e-12 * node.variance, "{node:?}");
        }
        // Class (0, 0) is the mean over momenta of the eigenvalue.
        for (node, c) in result.nodes.iter().zip(&result.coefficients) {
            let eigenvalue = |k: usize| {
                let n = lattice.coordinates(k);
                let angle = |mu: usize| 2.0 * std::f64::consts::PI * n[mu] as f64 / lattice.dims()[mu] as f64;
                let end = 0.8 + 4.0 - 2.0 * (angle(0).cos() + angle(1).cos());
                let start = 1.0 / 0.36;
                -0.5 * (end - start) / ((1.0 - node.t) * start + node.t * end)
            };
            let expected = mean(&(0..24).map(eigenvalue).collect::<Vec<_>>());
            assert!((c[0] - expected).abs() < 1e-6, "t = {}: {} and {expected}", node.t, c[0]);
        }
        let weights = log_weights(&model, &action, 200);
        spread.push(variance(&weights));
        // log Z = −log q − S for every configuration: Z = Π_k (π/P_k)^{1/2}.
        let log_z: f64 = (0..24)
            .map(|k| {
                let n = lattice.coordinates(k);
                let angle = |mu: usize| 2.0 * std::f64::consts::PI * n[mu] as f64 / lattice.dims()[mu] as f64;
                0.5 * (std::f64::consts::PI / (4.8 - 2.0 * (angle(0).cos() + angle(1).cos()))).ln()
            })
            .sum();
        let bias = mean(&weights) - log_z;
        assert!(bias.abs() < 3.0 * spread[spread.len() - 1].sqrt() + 1e-3, "log Z is off by {bias:e}");
    }
    // What is left is the interpolation of c(t): fourth order in amplitude, eighth in the variance.
    assert!(spread[0] < 1e-2 && spread[1] < spread[0] / 30.0, "{spread:?}");
}

#[test]
fn log_weights_grow_by_the_residual() {
    tune();
    // d/dt [ −S_t(x_t) − log q_t(x_t) ] = Σ c_i (∇·v_i − v_i·∇S_t) − ∂_tS_t, for any coefficients.
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let (flow, _) = random_flow(&lattice, 0.1, TimeGrid::clustered(3, 1.0).unwrap(), 1);
    let prior = Gaussian::new(0.6, 16, &CPU).unwrap();
    let path = PriorPath { prior, end: Phi4::new(&lattice, -4.0, 6.0).unwrap() };
    let x = noise(4, &[5, 16], 0.4);
    let t = 0.45;
    let mut velocity = |x: &_, t| flow.velocity(x, t);
    // log w at t + h minus log w at t, for both signs of h.
    let mut growth = |h: f64| -> Vec<f64> {
        let (moved, log_det) = step(&mut velocity, &x, t, h).unwrap();
        let (after, before) = (path.at(&moved, t + h).unwrap().action, path.at(&x, t).unwrap().action);
        (log_det - (after - before).unwrap()).unwrap().to_vec1().unwrap()
    };
    let (plus, minus) = (growth(1e-3), growth(-1e-3));
    let point = path.at(&x, t).unwrap();
    let (v, divergence) = flow.velocity(&x, t).unwrap();
    let along = (v * &point.gradient).unwrap().sum(1).unwrap();
    let residual = ((divergence - along).unwrap() - point.rate).unwrap().to_vec1::<f64>().unwrap();
    for b in 0..5 {
        let slope = (plus[b] - minus[b]) / 2e-3;
        assert!((slope - residual[b]).abs() < 1e-4 * (1.0 + slope.abs()), "{slope} and {}", residual[b]);
    }
}

#[test]
fn features_pay_for_the_papers_couplings() {
    tune();
    let lattice = Lattice::new(&[8, 8]).unwrap();
    let action = Phi4::new(&lattice, -4.0, 6.0).unwrap();
    let standard = Feature::standard(0.55, 2, 1);
    let groups = |names: &[&str]| -> Vec<Feature> {
        standard.iter().filter(|f| names.contains(&f.group.as_str())).cloned().collect()
    };
    let tables = [groups(&["linear"]), groups(&["linear", "sine"]), standard.clone()];
    let options = options(6, 2.0, 8, 96);
    let mut spread = Vec::new();
    for table in &tables {
        let (model, _, result) = fitted(&lattice, table, 0.6, &action, &options);
        let weights = log_weights(&model, &action, 512);
        let v = variance(&weights);
        // Error of a variance from the fourth moment.
        let m = mean(&weights);
        let squares: Vec<f64> = weights.iter().map(|w| (w - m).powi(2)).collect();
        spread.push((v, (variance(&squares) / 512.0).sqrt()));
        let last = result.nodes.last().unwrap();
        assert!(last.train <= last.test * 1.05 && last.test < last.variance, "{last:?}");
        // Groups are judged one after another, the last of them with everything.
        assert!((last.groups.last().unwrap().1 - last.test).abs() < 1e-9 * last.test);
    }
    for pair in spread.windows(2) {
        let z = (pair[0].0 - pair[1].0) / pair[0].1.hypot(pair[1].1);
        assert!(z > 4.0, "Var(log w) did not fall: {spread:?}");
    }
    assert!(spread[2].0 < 1.0, "{spread:?}");
}

#[test]
fn a_fit_depends_on_its_seed_alone() {
    tune();
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let action = Phi4::new(&lattice, -4.0, 6.0).unwrap();
    let table = Feature::standard(0.55, 1, 1);
    let options = options(3, 1.5, 2, 200);
    let (_, _, a) = fitted(&lattice, &table, 0.6, &action, &options);
    let (_, _, b) = fitted(&lattice, &table, 0.6, &action, &options);
    assert_eq!(a.coefficients, b.coefficients);
    assert_eq!(a.samples, 400);
}

#[test]
fn fine_tuning_improves_a_fitted_flow() {
    tune();
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let action = Phi4::new(&lattice, -4.0, 6.0).unwrap();
    let table = [
        Feature::new("linear", Local::ONE, Local::field(Factor::power(1)), 1),
        Feature::new("sine", Local::ONE, Local::field(Factor::sin(3.0)), 1),
    ];
    let (model, store, _) = fitted(&lattice, &table, 0.6, &action, &options(3, 2.0, 2, 200));
    let loss = |w: &[f64]| -mean(w);
    let before = log_weights(&model, &action, 2000);
    let schedule = Schedule::new(&[(0, 2e-2), (20, 5e-3)]).unwrap();
    let clip = Clip { value: 10.0, norm: 100.0 };
    let mut trainer = Trainer::new(&store, schedule, clip, 128, Streams::new(5)).unwrap();
    for _ in 0..30 {
        trainer.step(&model, &Exact(action.clone()), &store).unwrap();
    }
    let after = log_weights(&model, &action, 2000);
    // The same noise before and after: the loss falls by many standard errors of the difference.
    let gain: Vec<f64> = before.iter().zip(&after).map(|(b, a)| a - b).collect();
    let z = mean(&gain) / (variance(&gain) / 2000.0).sqrt();
    assert!(z > 5.0, "loss {} before, {} after: z = {z}", loss(&before), loss(&after));
    assert!(variance(&after) < variance(&before));
    // Training has not bought its gain from the integrator: the flow still is the map whose density it reports.
    let z = noise(6, &[2, 16], 0.4);
    let defects =
        [log_det_defect(&model.flow, &z, &()).unwrap(), round_trip_defect(&model.flow, &z, &()).unwrap()];
    assert!(defects.iter().all(|d| *d < 1e-3), "{defects:?}");
}

#[test]
fn a_ridge_is_chosen_by_data_it_was_not_fitted_to() {
    tune();
    // y = a_1 − 2 a_2 + noise, among 40 regressors and few samples: the best coefficients are shrunk.
    let samples = 60;
    let mut folds = [StreamingMoments::new(40), StreamingMoments::new(40)];
    for (i, fold) in folds.iter_mut().enumerate() {
        let a = noise(20 + i as u64, &[samples, 40], 1.0);
        let signal = (a.narrow(1, 0, 1).unwrap() - (a.narrow(1, 1, 1).unwrap() * 2.0).unwrap()).unwrap();
        let y = (signal.squeeze(1).unwrap() + noise(30 + i as u64, &[samples], 1.5)).unwrap();
        fold.add(&a, &(y + 1e3).unwrap()).unwrap();
    }
    let strengths = Ridge(vec![1e-12, 1e-1, 1.0, 1e3]);
    let chosen = strengths.solve(&folds, &[1, 2, 40]).unwrap();
    assert!(chosen.ridge > 1e-12 && chosen.ridge < 1e3, "{}", chosen.ridge);
    let free = Ridge(vec![1e-12]).solve(&folds, &[]).unwrap();
    assert!(free.train < chosen.train && chosen.test < free.test);
    assert!(chosen.partial[1] < chosen.partial[0] && chosen.partial[2] == chosen.test);
    // Without noise the coefficients are found, whatever constant is added.
    let mut folds = [StreamingMoments::new(3), StreamingMoments::new(3)];
    for (i, fold) in folds.iter_mut().enumerate() {
        let a = noise(40 + i as u64, &[50, 3], 1.0);
        let y = (a.narrow(1, 0, 1).unwrap() - (a.narrow(1, 1, 1).unwrap() * 2.0).unwrap()).unwrap();
        fold.add(&a, &(y.squeeze(1).unwrap() + 7.0).unwrap()).unwrap();
    }
    let exact = Ridge::default().solve(&folds, &[]).unwrap();
    let error =
        exact.coefficients.iter().zip([1.0, -2.0, 0.0]).map(|(c, e)| (c - e).abs()).fold(0.0, f64::max);
    assert!(error < 1e-9 && exact.test < 1e-15, "{exact:?}");
    let empty = [StreamingMoments::new(3), StreamingMoments::new(3)];
    assert!(Ridge::default().solve(&empty, &[]).is_err());
}

#[test]
fn fits_that_cannot_be_judged_are_refused() {
    tune();
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let basis =
        ScalarBasis::new(&lattice, &[Feature::new("a", Local::ONE, Local::field(Factor::power(1)), 1)], &CPU)
            .unwrap();
    assert_eq!(basis.count(), 4);
    let prior = Gaussian::new(0.6, 16, &CPU).unwrap();
    let path = PriorPath { prior: prior.clone(), end: Phi4::new(&lattice, -4.0, 6.0).unwrap() };
    for options in [options(2, 1.0, 1, 64), options(2, 1.0, 2, 0)] {
        let mut rng = Streams::new(1).stream("fit", 0);
        assert!(fit(&basis, &path, &prior, &options, &mut rng).is_err());
    }
    assert!(ScalarBasis::new(&lattice, &[], &CPU).is_err());
}
