//! Contract tables of the Dirac operators: adjointness, linearity, oracles written from the paper.

use candle_core::{DType, Device, Tensor};
use latflow_fermion::check::{adjoint_defect, linearity_defect};
use latflow_fermion::{
    ConjugateGradient, DenseYukawa, Dirac, Error, EvenOddYukawa, IluYukawa, LinearOperator, NormalOperator,
    StaggeredYukawa, log_abs_det, quadratic_form_of_inverse, stochastic_log_det, to_dense,
};
use latflow_lattice::check::max_difference;
use latflow_lattice::{Boundary, Lattice, Parity, Streams, normal_tensor, sum_per_configuration};
use nalgebra::DMatrix;

const CPU: Device = Device::Cpu;

fn noise(seed: u64, shape: &[usize]) -> Tensor {
    normal_tensor(&mut Streams::new(seed).stream("test", 0), 1.0, shape, DType::F64, &CPU).unwrap()
}

fn dirac(dims: &[usize], mass: f64, g: f64) -> StaggeredYukawa {
    StaggeredYukawa::new(&Lattice::new(dims).unwrap(), mass, g, Boundary::Antiperiodic).unwrap()
}

/// [YUK (41)–(44)] with explicit Kronecker deltas in two dimensions, written from the paper.
fn oracle(l: usize, lt: usize, mass: f64, g: f64, phi: &[f64]) -> DMatrix<f64> {
    let delta_space = |d: i64| if d == 0 || d.unsigned_abs() as usize == l { 1.0 } else { 0.0 };
    let delta_time = |d: i64| {
        if d == 0 {
            1.0
        } else if d.unsigned_abs() as usize == lt {
            -1.0
        } else {
            0.0
        }
    };
    DMatrix::from_fn(l * lt, l * lt, |i, j| {
        let (x1, x2) = ((i / lt) as i64, (i % lt) as i64);
        let (d1, d2) = (x1 - (j / lt) as i64, x2 - (j % lt) as i64);
        let eta2 = if x1 % 2 == 0 { 1.0 } else { -1.0 };
        let hop1 = (delta_space(d1 + 1) - delta_space(d1 - 1)) * delta_time(d2) / 2.0;
        let hop2 = eta2 * (delta_time(d2 + 1) - delta_time(d2 - 1)) * delta_space(d1) / 2.0;
        hop1 + hop2 + if i == j { mass + g * phi[i] } else { 0.0 }
    })
}

#[test]
fn the_operator_is_the_papers_matrix() {
    for (l, lt) in [(4, 6), (2, 4), (4, 2), (6, 4)] {
        let phi = noise(1, &[2, l * lt]);
        let operator = dirac(&[l, lt], 0.2, 0.7).bind(&phi).unwrap();
        let dense = to_dense(&operator, 2, l * lt, &phi).unwrap();
        for (b, phi) in phi.to_vec2::<f64>().unwrap().iter().enumerate() {
            let expected = oracle(l, lt, 0.2, 0.7, phi);
            let got = dense.get(b).unwrap().to_vec2::<f64>().unwrap();
            for i in 0..l * lt {
                for j in 0..l * lt {
                    assert!((got[i][j] - expected[(i, j)]).abs() < 1e-15, "{l}×{lt}: row {i} column {j}");
                }
            }
        }
    }
}

#[test]
fn adjoints_are_adjoint_and_operators_linear() {
    let full = dirac(&[4, 6], 0.1, 0.5);
    let (v, w) = (noise(2, &[3, 2, 24]), noise(3, &[3, 2, 24]));
    let phi = noise(4, &[3, 24]);
    let half = |t: &Tensor| t.narrow(2, 0, 12).unwrap().contiguous().unwrap();
    let even = EvenOddYukawa::new(&full, Parity::Even, &CPU).unwrap().bind(&phi).unwrap();
    let odd = EvenOddYukawa::new(&full, Parity::Odd, &CPU).unwrap().bind(&phi).unwrap();
    let bound = full.bind(&phi).unwrap();
    let normal = NormalOperator(even.clone());
    let ilu = IluYukawa::new(EvenOddYukawa::new(&full, Parity::Even, &CPU).unwrap()).bind(&phi).unwrap();
    let rows: [(&str, &dyn LinearOperator, Tensor, Tensor); 5] = [
        ("full", &bound, v.clone(), w.clone()),
        ("even", &even, half(&v), half(&w)),
        ("odd", &odd, half(&v), half(&w)),
        ("ilu", &ilu, half(&v), half(&w)),
        ("normal", &normal, half(&v), half(&w)),
    ];
    for (name, operator, v, w) in rows {
        assert!(adjoint_defect(operator, &v, &w).unwrap() < 1e-12, "{name}");
        assert!(linearity_defect(operator, 0.3, &v, &w).unwrap() < 1e-12, "{name}");
    }
}

#[test]
fn a_massless_free_operator_has_the_momentum_space_determinant() {
    // D_0† D_0 is diagonal in momentum space: det D_0 = Π_p [m² + Σ_μ sin² p_μ]^{1/2}, p_t antiperiodic.
    for (l, lt, mass) in [(4, 4, 0.0), (6, 4, 0.0), (4, 8, 0.3)] {
        let mut expected = 0.0;
        for i in 0..l {
            for j in 0..lt {
                let p1 = 2.0 * std::f64::consts::PI * i as f64 / l as f64;
                let p2 = std::f64::consts::PI * (2 * j + 1) as f64 / lt as f64;
                expected += 0.5 * (mass * mass + p1.sin().powi(2) + p2.sin().powi(2)).ln();
            }
        }
        let operator = dirac(&[l, lt], mass, 0.7);
        let zero = Tensor::zeros((1, l * lt), DType::F64, &CPU).unwrap();
        for det in [DenseYukawa::full(&operator), DenseYukawa::even_odd(&operator).unwrap()] {
            let got = det.log_abs_det(&zero).unwrap().to_vec1::<f64>().unwrap()[0];
            assert!((got - expected).abs() < 1e-11, "{l}×{lt}, m = {mass}: {got} and {expected}");
        }
    }
}

#[test]
fn all_forms_of_the_determinant_agree() {
    for mass in [0.0, 0.25] {
        let full = dirac(&[4, 6], mass, 0.6);
        let phi = noise(5, &[4, 24]);
        let composed = log_abs_det(&to_dense(&full.bind(&phi).unwrap(), 4, 24, &phi).unwrap()).unwrap();
        let a = DenseYukawa::full(&full).log_abs_det(&phi).unwrap();
        let b = DenseYukawa::even_odd(&full).unwrap().log_abs_det(&phi).unwrap();
        assert!(max_difference(&composed, &a).unwrap() < 1e-11);
        assert!(max_difference(&composed, &b).unwrap() < 1e-11);
        for parity in [Parity::Even, Parity::Odd] {
            let reduced = EvenOddYukawa::new(&full, parity, &CPU).unwrap();
            let m = to_dense(&reduced.bind(&phi).unwrap(), 4, 12, &phi).unwrap();
            let c = (log_abs_det(&m).unwrap() + 2.0 * reduced.log_abs_det_hop()).unwrap();
            assert!(max_difference(&composed, &c).unwrap() < 1e-11, "{parity:?}");
        }
    }
}

#[test]
fn gradients_of_the_determinant_agree_with_the_composed_path_and_with_differences() {
    let full = dirac(&[6, 8], 0.1, 0.6);
    let var = candle_core::Var::from_tensor(&noise(6, &[3, 48])).unwrap();
    let gradient = |f: &dyn Fn(&Tensor) -> Tensor| {
        let weights = Tensor::new(&[1.0, -0.5, 2.0], &CPU).unwrap();
        let sum = (f(var.as_tensor()) * weights).unwrap().sum_all().unwrap();
        sum.backward().unwrap().get(&var).unwrap().detach()
    };
    let even_odd = DenseYukawa::even_odd(&full).unwrap();
    let dense = DenseYukawa::full(&full);
    let composed =
        gradient(&|phi| log_abs_det(&to_dense(&full.bind(phi).unwrap(), 3, 48, phi).unwrap()).unwrap());
    assert!(max_difference(&composed, &gradient(&|phi| dense.log_abs_det(phi).unwrap())).unwrap() < 1e-10);
    assert!(max_difference(&composed, &gradient(&|phi| even_odd.log_abs_det(phi).unwrap())).unwrap() < 1e-10);
    let direction = noise(7, &[3, 48]);
    let at = |h: f64| {
        let phi = (var.as_tensor().detach() + (&direction * h).unwrap()).unwrap();
        even_odd.log_abs_det(&phi).unwrap().to_vec1::<f64>().unwrap()
    };
    let (plus, minus) = (at(1e-5), at(-1e-5));
    let along = sum_per_configuration(&(&composed * &direction).unwrap()).unwrap().to_vec1::<f64>().unwrap();
    for (b, weight) in [1.0, -0.5, 2.0].into_iter().enumerate() {
        let difference = (plus[b] - minus[b]) / 2e-5;
        assert!((along[b] / weight - difference).abs() < 1e-7 * (1.0 + difference.abs()));
    }
}

#[test]
fn inverse_diagonal_and_columns_are_those_of_the_inverse() {
    let full = dirac(&[6, 8], 0.0, 0.6);
    let phi = noise(8, &[2, 48]);
    for det in [DenseYukawa::full(&full), DenseYukawa::even_odd(&full).unwrap()] {
        let (_, diagonal) = det.log_abs_det_and_inverse_diagonal(&phi).unwrap();
        let column = det.inverse_column(&phi, 5).unwrap();
        for (b, phi) in phi.to_vec2::<f64>().unwrap().iter().enumerate() {
            let inverse = oracle(6, 8, 0.0, 0.6, phi).try_inverse().unwrap();
            for x in 0..48 {
                assert!((diagonal[b * 48 + x] - inverse[(x, x)]).abs() < 1e-10);
                assert!((column[b * 48 + x] - inverse[(x, 5)]).abs() < 1e-10);
            }
        }
    }
}

#[test]
fn conjugate_gradients_solve_every_configuration_and_report() {
    let full = dirac(&[6, 6], 0.0, 0.4);
    let phi = noise(9, &[5, 36]);
    let b = noise(10, &[5, 2, 36]);
    let a = NormalOperator(full.bind(&phi).unwrap());
    let solver = ConjugateGradient { tolerance: 1e-11, max_iterations: 500 };
    let solution = solver.solve(&a, &b).unwrap();
    let residual =
        sum_per_configuration(&(a.apply(&solution.x).unwrap() - &b).unwrap().sqr().unwrap()).unwrap();
    let norm = sum_per_configuration(&b.sqr().unwrap()).unwrap();
    for (i, r) in (residual / norm).unwrap().to_vec1::<f64>().unwrap().into_iter().enumerate() {
        assert!(r.sqrt() < 2e-11, "configuration {i}: true residual {}", r.sqrt());
        assert!(solution.relative_residual[i] <= 1e-11 && solution.iterations[i] > 5);
    }
    let hasty = ConjugateGradient { tolerance: 1e-11, max_iterations: 3 };
    assert!(matches!(hasty.solve(&a, &b), Err(Error::NoConvergence { iterations: 3, .. })));
    // A configuration that ran away gives NaN and leaves the others as they are.
    let mut bad = phi.to_vec2::<f64>().unwrap();
    bad[2][7] = f64::INFINITY;
    let a = NormalOperator(full.bind(&Tensor::new(bad, &CPU).unwrap()).unwrap());
    let with_bad = solver.solve(&a, &b).unwrap();
    for i in 0..5 {
        let row = |s: &latflow_fermion::Solution| {
            s.x.get(i).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
        };
        if i == 2 {
            assert!(with_bad.relative_residual[i].is_nan() && row(&with_bad).iter().any(|x| x.is_nan()));
        } else {
            assert_eq!(row(&with_bad), row(&solution), "configuration {i}");
        }
    }
}

#[test]
fn a_negative_operator_is_refused() {
    #[derive(Clone)]
    struct Negative;
    impl LinearOperator for Negative {
        fn apply(&self, v: &Tensor) -> latflow_fermion::Result<Tensor> {
            Ok(v.neg()?)
        }
        fn apply_adjoint(&self, v: &Tensor) -> latflow_fermion::Result<Tensor> {
            self.apply(v)
        }
    }
    impl latflow_fermion::HermitianPositive for Negative {}
    let result = ConjugateGradient::default().solve(&Negative, &noise(1, &[2, 2, 4]));
    assert!(matches!(result, Err(Error::NotPositive { configuration: 0, .. })));
}

#[test]
fn even_odd_solves_take_few_iterations() {
    let full = dirac(&[16, 16], 0.0, 0.3);
    let phi = (noise(11, &[4, 256]) * 0.35).unwrap();
    let b = noise(12, &[4, 2, 128]);
    let operator = EvenOddYukawa::new(&full, Parity::Even, &CPU).unwrap().bind(&phi).unwrap();
    let solution = ConjugateGradient::default().solve(&NormalOperator(operator), &b).unwrap();
    assert!(solution.iterations.iter().all(|i| *i < 25), "{:?}", solution.iterations);
}

#[test]
fn quadratic_form_of_the_inverse_and_its_gradients() {
    let full = dirac(&[4, 4], 0.1, 0.5);
    let reduced = EvenOddYukawa::new(&full, Parity::Odd, &CPU).unwrap();
    let phi = candle_core::Var::from_tensor(&noise(13, &[2, 16])).unwrap();
    let pf = candle_core::Var::from_tensor(&noise(14, &[2, 2, 8])).unwrap();
    let solver = ConjugateGradient { tolerance: 1e-13, max_iterations: 500 };
    let value = |phi: &Tensor, pf: &Tensor| quadratic_form_of_inverse(&reduced, phi, pf, &solver).unwrap().0;
    let tracked = value(phi.as_tensor(), pf.as_tensor());
    let gradients = tracked.sum_all().unwrap().backward().unwrap();
    let (dphi, dpf) = (noise(15, &[2, 16]), noise(16, &[2, 2, 8]));
    let along = ((gradients.get(&phi).unwrap() * &dphi).unwrap().sum_all().unwrap()
        + (gradients.get(&pf).unwrap() * &dpf).unwrap().sum_all().unwrap())
    .unwrap()
    .to_scalar::<f64>()
    .unwrap();
    let at = |h: f64| {
        let phi = (phi.as_tensor().detach() + (&dphi * h).unwrap()).unwrap();
        let pf = (pf.as_tensor().detach() + (&dpf * h).unwrap()).unwrap();
        value(&phi, &pf).sum_all().unwrap().to_scalar::<f64>().unwrap()
    };
    let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
    assert!((along - difference).abs() < 1e-6 * difference.abs(), "{along} and {difference}");
}

#[test]
fn the_stochastic_gradient_is_unbiased() {
    // z-score over 4000 noise vectors for one fixed direction; a false alarm at |z| > 4 has probability 6e-5.
    let full = dirac(&[4, 4], 0.1, 0.8);
    let det = DenseYukawa::full(&full);
    let one = noise(17, &[1, 16]);
    let direction = noise(18, &[1, 16]);
    let var = candle_core::Var::from_tensor(&one).unwrap();
    let exact = (det.log_abs_det(var.as_tensor()).unwrap().sum_all().unwrap() * 2.0).unwrap();
    let exact = exact.backward().unwrap().get(&var).unwrap().detach();
    let exact = (exact * &direction).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
    for even_odd in [false, true] {
        let batch = Tensor::cat(&vec![one.clone(); 4000], 0).unwrap();
        let var = candle_core::Var::from_tensor(&batch).unwrap();
        let mut rng = Streams::new(19).stream("test", 0);
        let solver = ConjugateGradient::default();
        let surrogate = if even_odd {
            let reduced = EvenOddYukawa::new(&full, Parity::Even, &CPU).unwrap();
            stochastic_log_det(&reduced, var.as_tensor(), &solver, 1, &mut rng).unwrap()
        } else {
            stochastic_log_det(&full, var.as_tensor(), &solver, 1, &mut rng).unwrap()
        };
        let gradient = surrogate.sum_all().unwrap().backward().unwrap().get(&var).unwrap().detach();
        let samples = sum_per_configuration(&gradient.broadcast_mul(&direction).unwrap()).unwrap();
        let samples = samples.to_vec1::<f64>().unwrap();
        let n = samples.len() as f64;
        let mean = samples.iter().sum::<f64>() / n;
        let error = (samples.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / (n * (n - 1.0))).sqrt();
        let z = (mean - exact) / error;
        assert!(
            z.abs() < 4.0 && error < 0.2 * exact.abs(),
            "even/odd {even_odd}: {mean} ± {error}, exact {exact}, z = {z}"
        );
    }
}

#[test]
fn periodic_time_has_a_singular_hopping_block() {
    let full = StaggeredYukawa::new(&Lattice::new(&[4, 4]).unwrap(), 0.0, 0.5, Boundary::Periodic).unwrap();
    let error = EvenOddYukawa::new(&full, Parity::Even, &CPU).unwrap_err();
    assert!(matches!(error, Error::SingularHopping { .. }), "{error}");
    assert!(StaggeredYukawa::new(full.lattice(), f64::NAN, 0.5, Boundary::Periodic).is_err());
    // The full form at φ = 0 is −∞ up to rounding; a field that is not finite gives NaN, and its neighbour is untouched.
    let mut phi = vec![vec![0.0; 16], vec![0.3; 16]];
    let value = |phi: &[Vec<f64>]| {
        let var = candle_core::Var::from_tensor(&Tensor::new(phi.to_vec(), &CPU).unwrap()).unwrap();
        let log_det = DenseYukawa::full(&full).log_abs_det(var.as_tensor()).unwrap();
        let gradient =
            log_det.sum_all().unwrap().backward().unwrap().get(&var).unwrap().to_vec2::<f64>().unwrap();
        (log_det.to_vec1::<f64>().unwrap(), gradient)
    };
    let (logs, _) = value(&phi);
    assert!(logs[0] < -30.0 && logs[1].is_finite());
    phi[0][3] = f64::NAN;
    let (with_nan, gradient) = value(&phi);
    assert!(!with_nan[0].is_finite() && gradient[0].iter().any(|g| g.is_nan()));
    assert!(with_nan[1] == logs[1] && gradient[1].iter().all(|g| g.is_finite()));
}
