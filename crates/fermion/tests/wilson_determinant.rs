//! Contract table of the exact determinant of the Wilson operator.

use candle_core::{DType, Device, Tensor, Var};
use latflow_fermion::{DenseWilson, Dirac, EvenOddWilson, LinearOperator, Wilson};
use latflow_lattice::check::max_difference;
use latflow_lattice::gauge::{matrix, path, plaquettes};
use latflow_lattice::{
    Boundary, Lattice, Links, Manifold, Rng, Streams, normal_tensor, sum_per_configuration,
};
use nalgebra::DMatrix;
use num_complex::Complex64;

const CPU: Device = Device::Cpu;

fn rng(seed: u64) -> Rng {
    Streams::new(seed).stream("test", 0)
}

fn lattice(dims: &[usize]) -> Lattice {
    Lattice::new(dims).unwrap()
}

fn haar(seed: u64, lattice: &Lattice, batch: usize) -> Links {
    Links::haar(lattice, batch, 3, &mut rng(seed), &CPU).unwrap()
}

fn wilson(lattice: &Lattice, kappa: f64, boundary: Boundary) -> Wilson {
    Wilson::new(lattice, kappa, boundary).unwrap()
}

fn log_det(dirac: &Wilson, links: &Links) -> Vec<f64> {
    DenseWilson::new(dirac).log_abs_det(links).unwrap().to_vec1().unwrap()
}

/// The matrix of an operator on one configuration, column by column.
fn dense(operator: &dyn LinearOperator, n: usize) -> DMatrix<Complex64> {
    let mut m = DMatrix::zeros(n, n);
    for j in 0..n {
        let mut unit = vec![0.0; 2 * n];
        unit[j] = 1.0;
        let column = operator.apply(&Tensor::from_vec(unit, (1, 2, n), &CPU).unwrap()).unwrap();
        let column = column.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for i in 0..n {
            m[(i, j)] = Complex64::new(column[i], column[n + i]);
        }
    }
    m
}

/// (log |det|, phase).
fn determinant(m: DMatrix<Complex64>) -> (f64, f64) {
    let lu = m.lu();
    let (mut log, mut phase) = (0.0, Complex64::new(lu.p().determinant::<f64>(), 0.0));
    for u in lu.lu_internal().diagonal().iter() {
        log += u.norm().ln();
        phase *= *u / u.norm();
    }
    (log, phase.arg())
}

#[test]
fn the_determinant_is_real_and_that_of_the_whole_operator() {
    // The last κ is beyond what Cholesky factors can do.
    for (dims, kappa) in [([2, 2, 2, 2], 0.1), ([2, 2, 2, 4], 0.14), ([2, 2, 2, 2], 0.35)] {
        let lattice = lattice(&dims);
        let volume = lattice.volume();
        for (boundary, links) in [
            (Boundary::Antiperiodic, haar(1, &lattice, 1)),
            (Boundary::Periodic, haar(2, &lattice, 1)),
            (Boundary::Antiperiodic, Links::unit(&lattice, 1, 3, &CPU).unwrap()),
        ] {
            let dirac = wilson(&lattice, kappa, boundary);
            let (full, phase) = determinant(dense(&dirac.bind(&links).unwrap(), 12 * volume));
            let half = dense(&EvenOddWilson::new(&dirac).bind(&links).unwrap(), 6 * volume);
            let (reduced, _) = determinant(half);
            let got = log_det(&dirac, &links)[0];
            assert!((full - reduced).abs() < 1e-10, "κ = {kappa}: {full} and {reduced}");
            assert!((full - got).abs() < 1e-10, "κ = {kappa}: {full} and {got}");
            let real = phase.abs().min((phase.abs() - std::f64::consts::PI).abs());
            assert!(real < 1e-9, "κ = {kappa}: phase {phase}");
            if kappa < 0.125 {
                assert!(phase.abs() < 1e-9, "positive below 1/8");
            }
        }
    }
}

#[test]
fn free_fermions_have_the_momentum_space_determinant() {
    // Eigenvalues 1 − 2κ Σ cos p ± 2iκ |sin p|, each twice for spin and three times for colour. κ = 0.3 goes through pivots.
    let lattice = lattice(&[4, 2, 4, 4]);
    let links = Links::unit(&lattice, 1, 3, &CPU).unwrap();
    for (kappa, boundary) in
        [(0.11, Boundary::Antiperiodic), (0.11, Boundary::Periodic), (0.3, Boundary::Antiperiodic)]
    {
        let half = if boundary == Boundary::Antiperiodic { 0.5 } else { 0.0 };
        let mut expected = 0.0;
        for mode in 0..lattice.volume() {
            let (mut cosines, mut sines) = (0.0, 0.0);
            for (mu, (n, l)) in lattice.coordinates(mode).iter().zip(lattice.dims()).enumerate() {
                let shift = if mu == 3 { half } else { 0.0 };
                let p = std::f64::consts::TAU * (*n as f64 + shift) / *l as f64;
                cosines += p.cos();
                sines += p.sin().powi(2);
            }
            let a: f64 = 1.0 - 2.0 * kappa * cosines;
            expected += 6.0 * (a * a + 4.0 * kappa * kappa * sines).ln();
        }
        let got = log_det(&wilson(&lattice, kappa, boundary), &links)[0];
        assert!((got - expected).abs() < 1e-9, "κ = {kappa}: {got} and {expected}");
    }
}

/// Σ over sites of Re tr of closed paths, `[B]` as numbers.
fn loops(product: &Tensor) -> Vec<f64> {
    sum_per_configuration(&matrix::re_trace(product).unwrap()).unwrap().to_vec1().unwrap()
}

#[test]
fn the_hopping_expansion_starts_with_plaquettes_and_winding_loops() {
    // log det D = −Σ_n κⁿ tr Hⁿ / n. A closed path of n steps that never turns back carries the trace of its projectors: 8 a plaquette
    // with each of its 8 starts and orientations: tr H⁴ = −64 Σ_P Re tr P + …, and a straight winding loop has (1 ∓ γ)⁴ = 8 (1 ∓ γ), trace
    // 32: tr H⁴ contains Σ over 4 starts and 2 orientations, with the boundary sign in time.
    let lattice = lattice(&[4, 4, 4, 4]);
    let links = haar(3, &lattice, 2);
    let mut plaquette = [0.0; 2];
    for mu in 0..4 {
        for nu in mu + 1..4 {
            let p = loops(&plaquettes(&links, &lattice, mu, nu).unwrap());
            plaquette.iter_mut().zip(p).for_each(|(sum, p)| *sum += p);
        }
    }
    for boundary in [Boundary::Antiperiodic, Boundary::Periodic] {
        let mut winding = [0.0; 2];
        for mu in 0..4 {
            let sign = if mu == 3 && boundary == Boundary::Antiperiodic { -1.0 } else { 1.0 };
            let w = loops(&path(&links, &lattice, &[(mu, 1); 4]).unwrap());
            // Every loop is found from each of its four sites.
            winding.iter_mut().zip(w).for_each(|(sum, w)| *sum += sign * w / 4.0);
        }
        // The coefficient of κ⁴ by Richardson extrapolation: the next order is κ⁶.
        let order = |kappa: f64| -> Vec<f64> {
            log_det(&wilson(&lattice, kappa, boundary), &links).iter().map(|l| l / kappa.powi(4)).collect()
        };
        let (coarse, fine) = (order(0.02), order(0.01));
        for b in 0..2 {
            let found = (4.0 * fine[b] - coarse[b]) / 3.0;
            let expected = 16.0 * plaquette[b] - 64.0 * winding[b];
            assert!((found - expected).abs() < 1e-3 * expected.abs() + 0.05, "{found} and {expected}");
        }
    }
}

#[test]
fn gradients_agree_with_differences_along_the_group() {
    // Cholesky and, at κ = 0.35 on nearly free fields, pivots.
    for (dims, kappa, rough) in [([2, 2, 2, 4], 0.12, true), ([4, 2, 2, 2], 0.35, false)] {
        let lattice = lattice(&dims);
        let links = if rough {
            haar(4, &lattice, 3)
        } else {
            let unit = Links::unit(&lattice, 3, 3, &CPU).unwrap();
            let shape = unit.tangent_shape();
            unit.exp(&normal_tensor(&mut rng(5), 0.1, &shape, DType::F64, &CPU).unwrap()).unwrap()
        };
        for boundary in [Boundary::Antiperiodic, Boundary::Periodic] {
            let determinant = DenseWilson::new(&wilson(&lattice, kappa, boundary));
            let omega = normal_tensor(&mut rng(6), 1.0, &links.tangent_shape(), DType::F64, &CPU).unwrap();
            let tangent = Var::zeros(links.tangent_shape(), DType::F64, &CPU).unwrap();
            let weights = Tensor::new(&[1.0, -0.5, 2.0], &CPU).unwrap();
            let tracked = links.exp(tangent.as_tensor()).unwrap();
            let value = (determinant.log_abs_det(&tracked).unwrap() * &weights).unwrap();
            let gradient = value.sum_all().unwrap().backward().unwrap().get(&tangent).unwrap().clone();
            let along = sum_per_configuration(&(gradient * &omega).unwrap()).unwrap();
            let along = along.to_vec1::<f64>().unwrap();
            let at = |h: f64| {
                let moved = links.exp(&(&omega * h).unwrap()).unwrap();
                determinant.log_abs_det(&moved).unwrap().to_vec1::<f64>().unwrap()
            };
            let h = 1e-4;
            let (a, b, c, d) = (at(h), at(-h), at(2.0 * h), at(-2.0 * h));
            for (i, weight) in [1.0, -0.5, 2.0].into_iter().enumerate() {
                let expected = weight * (8.0 * (a[i] - b[i]) - (c[i] - d[i])) / (12.0 * h);
                let scale = expected.abs().max(1.0);
                assert!((along[i] - expected).abs() < 1e-7 * scale, "{} and {expected}", along[i]);
            }
        }
    }
}

#[test]
fn singular_and_broken_configurations_stay_by_themselves() {
    // A constant mode of the free periodic operator has 1 − 8κ: singular at κ = 1/8.
    let lattice = lattice(&[2, 2, 2, 2]);
    let free = Links::unit(&lattice, 1, 3, &CPU).unwrap();
    let rough = haar(7, &lattice, 1);
    let nan = (rough.tensor() * f64::NAN).unwrap();
    let all = Tensor::cat(&[free.tensor(), rough.tensor(), &nan], 0).unwrap();
    let determinant = DenseWilson::new(&wilson(&lattice, 0.125, Boundary::Periodic));
    let tracked = Var::from_tensor(&all).unwrap();
    let value = determinant.log_abs_det(&Links::new(tracked.as_tensor().clone()).unwrap()).unwrap();
    let gradient = value.sum_all().unwrap().backward().unwrap().get(&tracked).unwrap().clone();
    let value = value.to_vec1::<f64>().unwrap();
    let alone = determinant.log_abs_det(&rough).unwrap().to_vec1::<f64>().unwrap();
    // Rounding may leave a pivot of the size of 1e-16 for each of the twelve zero modes.
    assert!(value[0] < -200.0, "{value:?}");
    assert!((value[1] - alone[0]).abs() < 1e-12);
    assert!(value[2].is_nan());
    let numbers =
        |row: usize| gradient.narrow(0, row, 1).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    assert!(numbers(1).iter().all(|g| g.is_finite()));
    assert!(numbers(2).iter().all(|g| g.is_nan()));
}

#[test]
fn one_configuration_and_a_batch_agree() {
    // One uses all threads for one matrix, a batch one thread for each.
    let lattice = lattice(&[2, 4, 2, 2]);
    let links = haar(8, &lattice, 5);
    let determinant = DenseWilson::new(&wilson(&lattice, 0.12, Boundary::Antiperiodic));
    let together = determinant.log_abs_det(&links).unwrap();
    for b in 0..5 {
        let one = Links::new(links.tensor().narrow(0, b, 1).unwrap()).unwrap();
        let alone = determinant.log_abs_det(&one).unwrap();
        assert!(max_difference(&alone, &together.narrow(0, b, 1).unwrap()).unwrap() < 1e-12);
    }
}
