//! Incomplete LU preconditioning: what it leaves alone, what it breaks, and what it is good for.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use candle_core::{DType, Device, Tensor, Var};
use latflow_fermion::{
    ConjugateGradient, Dirac, EvenOddYukawa, IluYukawa, LinearOperator, StaggeredYukawa, log_abs_det,
    quadratic_form_of_inverse, to_dense,
};
use latflow_lattice::check::max_difference;
use latflow_lattice::{Boundary, Lattice, Parity, Streams, normal_tensor, sum_per_configuration};
use nalgebra::DMatrix;

const CPU: Device = Device::Cpu;

fn noise(seed: u64, sigma: f64, shape: &[usize]) -> Tensor {
    normal_tensor(&mut Streams::new(seed).stream("test", 0), sigma, shape, DType::F64, &CPU).unwrap()
}

fn pair(dims: &[usize], mass: f64, g: f64, kept: Parity) -> (EvenOddYukawa, IluYukawa) {
    let full = StaggeredYukawa::new(&Lattice::new(dims).unwrap(), mass, g, Boundary::Antiperiodic).unwrap();
    let even_odd = EvenOddYukawa::new(&full, kept, &CPU).unwrap();
    (even_odd.clone(), IluYukawa::new(even_odd))
}

fn matrices<D: Dirac<Field = Tensor>>(dirac: &D, phi: &Tensor) -> Tensor {
    let batch = phi.dim(0).unwrap();
    to_dense(&dirac.bind(phi).unwrap(), batch, dirac.components(), phi).unwrap()
}

#[test]
fn the_operator_is_its_definition_and_has_the_determinant_it_started_with() {
    for (mass, kept) in [(0.0, Parity::Even), (0.3, Parity::Odd)] {
        let (even_odd, ilu) = pair(&[4, 6], mass, 0.7, kept);
        let phi = noise(1, 0.8, &[3, 24]);
        let (before, after) = (matrices(&even_odd, &phi), matrices(&ilu, &phi));
        for b in 0..3 {
            let read = |t: &Tensor| {
                let rows = t.get(b).unwrap().to_vec2::<f64>().unwrap();
                DMatrix::from_fn(12, 12, |i, j| rows[i][j])
            };
            let m = read(&before);
            let unit = |inside: &dyn Fn(usize, usize) -> bool| {
                DMatrix::from_fn(12, 12, |i, j| match i == j {
                    true => 1.0,
                    false if inside(i, j) => m[(i, j)],
                    false => 0.0,
                })
            };
            let (lower, upper) = (unit(&|i, j| j < i), unit(&|i, j| j > i));
            let expected = lower.try_inverse().unwrap() * &m * upper.try_inverse().unwrap();
            assert!((read(&after) - &expected).amax() < 1e-11 * expected.amax());
        }
        let difference =
            max_difference(&log_abs_det(&before).unwrap(), &log_abs_det(&after).unwrap()).unwrap();
        assert!(difference < 1e-11, "{difference:e}");
    }
}

#[test]
fn gradients_agree_with_differences() {
    let (_, ilu) = pair(&[4, 6], 0.1, 0.6, Parity::Even);
    let var = Var::from_tensor(&noise(2, 0.7, &[2, 24])).unwrap();
    let (v, w) = (noise(3, 1.0, &[2, 2, 12]), noise(4, 1.0, &[2, 2, 12]));
    let direction = noise(5, 1.0, &[2, 24]);
    for adjoint in [false, true] {
        let value = |phi: &Tensor| {
            let operator = ilu.bind(phi).unwrap();
            let image = if adjoint { operator.apply_adjoint(&v) } else { operator.apply(&v) };
            sum_per_configuration(&(image.unwrap() * &w).unwrap()).unwrap()
        };
        let gradients = value(var.as_tensor()).sum_all().unwrap().backward().unwrap();
        let along = (gradients.get(&var).unwrap() * &direction).unwrap();
        let along = sum_per_configuration(&along).unwrap().to_vec1::<f64>().unwrap();
        let at = |h: f64| {
            let phi = (var.as_tensor().detach() + (&direction * h).unwrap()).unwrap();
            value(&phi).to_vec1::<f64>().unwrap()
        };
        let (plus, minus) = (at(1e-5), at(-1e-5));
        for (b, along) in along.iter().enumerate() {
            let difference = (plus[b] - minus[b]) / 2e-5;
            assert!((along - difference).abs() < 1e-8 * (1.0 + difference.abs()), "{along}, {difference}");
        }
    }
}

#[test]
fn translations_are_broken_but_not_for_the_determinant() {
    let lattice = Lattice::new(&[4, 6]).unwrap();
    let (even_odd, ilu) = pair(&[4, 6], 0.0, 0.7, Parity::Even);
    let phi = noise(6, 0.8, &[1, 24]);
    // By two sites in space.
    let from: Vec<u32> = (0..24)
        .map(|x| {
            let (y, _) = lattice.neighbour(x, 0, 1, Boundary::Periodic);
            lattice.neighbour(y, 0, 1, Boundary::Periodic).0 as u32
        })
        .collect();
    let moved = phi.index_select(&Tensor::new(from, &CPU).unwrap(), 1).unwrap();
    let trace_of_square = |m: &Tensor| m.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
    let change = |a: Tensor, b: Tensor| (trace_of_square(&a) - trace_of_square(&b)).abs();
    assert!(change(matrices(&even_odd, &phi), matrices(&even_odd, &moved)) < 1e-10);
    assert!(change(matrices(&ilu, &phi), matrices(&ilu, &moved)) > 1e-3);
    let log_det = |phi: &Tensor| log_abs_det(&matrices(&ilu, phi)).unwrap();
    assert!(max_difference(&log_det(&phi), &log_det(&moved)).unwrap() < 1e-10);
}

/// Variance of χ†χ − χ†(MM†)⁻¹χ over the draws χ ~ e^{−χ†χ}, averaged over the fields: sampled with one draw a batch entry,
/// with its error, and exactly, tr [(MM†)⁻¹ − 1]².
fn variance_of_one_draw<D: Dirac<Field = Tensor>>(
    dirac: &D,
    fields: &Tensor,
    draws: usize,
) -> (f64, f64, f64) {
    let (count, n) = (fields.dim(0).unwrap(), dirac.components());
    let (mut sampled, mut squared_error, mut exact) = (0.0, 0.0, 0.0);
    for b in 0..count {
        let phi = fields.narrow(0, b, 1).unwrap();
        let rows = matrices(dirac, &phi).get(0).unwrap().to_vec2::<f64>().unwrap();
        let m = DMatrix::from_fn(n, n, |i, j| rows[i][j]);
        let form = (&m * m.transpose()).try_inverse().unwrap() - DMatrix::identity(n, n);
        exact += form.norm_squared() / count as f64;
        let batch = phi.broadcast_as((draws, phi.dim(1).unwrap())).unwrap().contiguous().unwrap();
        let chi = noise(100 + b as u64, std::f64::consts::FRAC_1_SQRT_2, &dirac.vector_shape(draws));
        let (inverse, _) =
            quadratic_form_of_inverse(dirac, &batch, &chi, &ConjugateGradient::default()).unwrap();
        let difference = (sum_per_configuration(&chi.sqr().unwrap()).unwrap() - inverse).unwrap();
        let x = difference.to_vec1::<f64>().unwrap();
        let mean = x.iter().sum::<f64>() / draws as f64;
        let moment = |k: i32| x.iter().map(|x| (x - mean).powi(k)).sum::<f64>() / draws as f64;
        sampled += moment(2) * draws as f64 / (draws - 1) as f64 / count as f64;
        squared_error += (moment(4) - moment(2).powi(2)) / draws as f64 / (count * count) as f64;
    }
    (sampled, squared_error.sqrt(), exact)
}

#[test]
fn one_draw_of_the_determinant_fluctuates_less() {
    let (even_odd, ilu) = pair(&[8, 8], 0.0, 0.3, Parity::Even);
    let fields = noise(7, 0.18f64.sqrt(), &[4, 64]);
    let before = variance_of_one_draw(&even_odd, &fields, 500);
    let after = variance_of_one_draw(&ilu, &fields, 500);
    for (sampled, error, exact) in [before, after] {
        assert!((sampled - exact).abs() < 4.0 * error, "{sampled} ± {error}, exact {exact}");
    }
    // One sixth here, one ninth on 16 × 16.
    assert!(after.2 < 0.25 * before.2, "{} and {}", before.2, after.2);
}
