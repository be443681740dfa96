//! Spectra of SU(3) matrices: decomposition at any degeneracy, coordinates, and gradients by differences along the group.

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{stream, uniform, values};
use latflow_kernels::{Spectrum, haar_log_density};
use nalgebra::{Complex, Matrix3};
use rand::Rng;
use std::f64::consts::TAU;

type C = Complex<f64>;
type M = Matrix3<C>;

fn normal(rng: &mut impl Rng) -> f64 {
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
}

fn determinant(m: &M) -> C {
    let minor = |a: usize, b: usize| m[(1, a)] * m[(2, b)] - m[(1, b)] * m[(2, a)];
    m[(0, 0)] * minor(1, 2) - m[(0, 1)] * minor(0, 2) + m[(0, 2)] * minor(0, 1)
}

fn random_unitary(rng: &mut impl Rng) -> M {
    let mut columns: Vec<nalgebra::Vector3<C>> = Vec::new();
    for _ in 0..3 {
        let mut v = nalgebra::Vector3::from_fn(|_, _| C::new(normal(rng), normal(rng)));
        for _ in 0..2 {
            columns.iter().for_each(|u| v -= u * u.dotc(&v));
            v /= C::new(v.norm(), 0.0);
        }
        columns.push(v);
    }
    let q = M::from_columns(&columns);
    q * C::from_polar(1.0, -determinant(&q).arg() / 3.0)
}

fn diagonal(theta: [f64; 3]) -> M {
    M::from_diagonal(&theta.map(|t| C::from_polar(1.0, t)).into())
}

fn conjugated(theta: [f64; 3], rng: &mut impl Rng) -> M {
    let x = random_unitary(rng);
    x * diagonal(theta) * x.adjoint()
}

/// Random matrices, all kinds of degenerate ones, and a few of special form.
fn matrices(random: usize) -> Vec<M> {
    let mut rng = stream(11);
    let mut all: Vec<M> = (0..random).map(|_| random_unitary(&mut rng)).collect();
    for k in 0..3 {
        all.push(diagonal([TAU * f64::from(k) / 3.0; 3]));
    }
    for center in [0.0, TAU / 3.0, -TAU / 3.0] {
        for exponent in 0..17 {
            let size = 10f64.powi(-exponent);
            let (a, b) = (normal(&mut rng), normal(&mut rng));
            // Near a central element, and two nearly equal eigenvalues.
            let near = [size * a, size * b, -size * (a + b)];
            all.push(conjugated(near.map(|t| t + center), &mut rng));
            all.push(conjugated([a, a + size, -2.0 * a - size], &mut rng));
        }
        let a = normal(&mut rng);
        all.push(conjugated([a, a, -2.0 * a], &mut rng));
        all.push(diagonal([a, a, -2.0 * a]));
    }
    all.push(diagonal([TAU / 2.0, 0.0, -TAU / 2.0]));
    all.push(diagonal([TAU / 2.0, TAU / 2.0, 0.0]));
    // Permutations with phases: no diagonal at all.
    for _ in 0..20 {
        let d = diagonal([normal(&mut rng), 0.0, 0.0]);
        for rows in [[1, 2, 0], [2, 0, 1], [0, 2, 1], [1, 0, 2]] {
            let p = M::from_fn(|i, j| C::new(f64::from(u8::from(rows[i] == j)), 0.0)) * d;
            all.push(p * C::from_polar(1.0, -determinant(&p).arg() / 3.0));
        }
    }
    all
}

fn tensor(matrices: &[M]) -> Tensor {
    let numbers: Vec<f64> = matrices
        .iter()
        .flat_map(|m| (0..9).flat_map(|k| [m[(k / 3, k % 3)].re, m[(k / 3, k % 3)].im]).collect::<Vec<_>>())
        .collect();
    Tensor::from_vec(numbers, (matrices.len(), 3, 3, 2), &Device::Cpu).unwrap()
}

fn untensor(t: &Tensor) -> Vec<M> {
    let numbers = values(t);
    numbers
        .chunks_exact(18)
        .map(|m| M::from_fn(|i, j| C::new(m[2 * (3 * i + j)], m[2 * (3 * i + j) + 1])))
        .collect()
}

fn largest(m: &M) -> f64 {
    m.iter().map(|z| z.norm()).fold(0.0, f64::max)
}

#[test]
fn any_matrix_is_its_spectrum_and_an_orthonormal_frame() {
    let all = matrices(100_000);
    let spectrum = Spectrum::new(&tensor(&all)).unwrap();
    let (theta, frames) = spectrum.eigen().unwrap();
    let (mut orthonormal, mut residual, mut at_a_wall) = (0f64, 0f64, 0f64);
    for ((w, x), theta) in all.iter().zip(untensor(&frames)).zip(values(&theta).chunks_exact(3)) {
        assert!(theta[0] <= theta[1] && theta[1] <= theta[2] && theta[2] - theta[0] < TAU);
        orthonormal = orthonormal.max(largest(&(x.adjoint() * x - M::identity())));
        let defect = largest(&(w * x - x * diagonal([theta[0], theta[1], theta[2]])));
        // Gaps below 1e-12 are opened by that much.
        let gap = (theta[1] - theta[0]).min(theta[2] - theta[1]).min(TAU - theta[2] + theta[0]);
        if gap > 1e-11 {
            residual = residual.max(defect);
        } else {
            at_a_wall = at_a_wall.max(defect);
        }
    }
    let found = format!("X†X − 1: {orthonormal:e}, WX − Xλ: {residual:e}, at a wall {at_a_wall:e}");
    assert!(orthonormal < 1e-14 && residual < 1e-14 && at_a_wall < 3e-12, "{found}");
}

#[test]
fn eigenvalues_are_those_of_a_schur_decomposition() {
    let all = matrices(500);
    let (theta, _) = Spectrum::new(&tensor(&all)).unwrap().eigen().unwrap();
    for (w, theta) in all.iter().zip(values(&theta).chunks_exact(3)) {
        let Some(schur) = nalgebra::Schur::try_new(*w, 1e-15, 1000) else { continue };
        let (_, t) = schur.unpack();
        for theta in theta {
            let nearest = (0..3).map(|k| (t[(k, k)] - C::from_polar(1.0, *theta)).norm()).fold(9.0, f64::min);
            // Schur's own residual on a nearly normal matrix is a few 1e-15.
            assert!(nearest < 3e-12, "{nearest:e}");
        }
    }
}

/// Positions strictly inside the box.
fn inner(n: usize, seed: u64) -> Tensor {
    uniform(&[n], DType::F64, &mut stream(seed)).affine(0.45, 0.5).unwrap()
}

#[test]
fn a_move_arrives_with_the_same_eigenvectors() {
    let all = matrices(300);
    let n = all.len();
    let spectrum = Spectrum::new(&tensor(&all)).unwrap();
    let (w, r) = (inner(n, 1), inner(n, 2));
    let m = untensor(&spectrum.multiplier(&w, &r).unwrap());
    let moved: Vec<M> = all.iter().zip(&m).map(|(w, m)| m * w).collect();
    let (w_found, r_found) = Spectrum::new(&tensor(&moved)).unwrap().position().unwrap();
    for (found, asked) in [(w_found, w), (r_found, r)] {
        let defects: Vec<f64> = values(&(found - asked).unwrap()).iter().map(|d| d.abs()).collect();
        // Those on a wall were opened by 1e-12 before they moved.
        assert!(defects[..300].iter().all(|d| *d < 3e-14) && defects.iter().all(|d| *d < 1e-11));
    }
    for ((old, new), m) in all.iter().zip(&moved).zip(&m) {
        assert!(largest(&(old * new - new * old)) < 1e-11, "W and W′ do not commute");
        assert!(largest(&(m.adjoint() * m - M::identity())) < 3e-15);
        assert!((determinant(m) - 1.0).norm() < 1e-14);
    }
    // Nowhere to go: the multiplier is 1.
    let (w, r) = spectrum.position().unwrap();
    for m in untensor(&spectrum.multiplier(&w, &r).unwrap()) {
        assert!(largest(&(m - M::identity())) < 3e-15);
    }
}

#[test]
fn conjugation_moves_through() {
    let (all, mut rng) = (matrices(200)[..200].to_vec(), stream(3));
    let omega: Vec<M> = all.iter().map(|_| random_unitary(&mut rng)).collect();
    let turned: Vec<M> = all.iter().zip(&omega).map(|(w, o)| o * w * o.adjoint()).collect();
    let (one, two) = (Spectrum::new(&tensor(&all)).unwrap(), Spectrum::new(&tensor(&turned)).unwrap());
    let (a, b) = (one.position().unwrap(), two.position().unwrap());
    assert!(common::deviation(&a.0, &b.0) < 1e-13 && common::deviation(&a.1, &b.1) < 1e-12);
    let (w, r) = (inner(200, 4), inner(200, 5));
    let (a, b) = (one.multiplier(&w, &r).unwrap(), two.multiplier(&w, &r).unwrap());
    for ((a, b), o) in untensor(&a).iter().zip(untensor(&b)).zip(&omega) {
        assert!(largest(&(o * a * o.adjoint() - b)) < 1e-13);
    }
}

/// Directions of su(3) as matrices i H with H hermitian and traceless.
fn direction(rng: &mut impl Rng) -> M {
    let g = M::from_fn(|_, _| C::new(normal(rng), normal(rng)));
    let h = (g + g.adjoint()) * C::new(0.5, 0.0);
    (h - M::identity() * (h.trace() / 3.0)) * C::new(0.0, 1.0)
}

/// (1 + hX/2)(1 − hX/2)⁻¹, unitary like e^{hX} and equal to it in h².
fn step(x: &M, h: f64) -> M {
    let half = x * C::new(0.5 * h, 0.0);
    (M::identity() - half).try_inverse().unwrap() * (M::identity() + half)
}

/// Loss of everything a spectrum gives, with a move that depends on where it starts and keeps the walls.
fn loss(matrices: &Tensor, shift: &Tensor, weights: &Tensor) -> Tensor {
    let n = matrices.dims()[0];
    let spectrum = Spectrum::new(matrices).unwrap();
    let (w, r) = spectrum.position().unwrap();
    // u + s u (1 − u), monotone for |s| < 1.
    let bend = |u: &Tensor| (u + ((u - u.sqr().unwrap()).unwrap() * shift).unwrap()).unwrap();
    let m = spectrum.multiplier(&bend(&w), &bend(&r)).unwrap();
    let density =
        (haar_log_density(&bend(&w), &bend(&r)).unwrap() - haar_log_density(&w, &r).unwrap()).unwrap();
    let first = (m.reshape((n, 18)).unwrap() * weights).unwrap().sum_all().unwrap();
    (first + (density * weights.narrow(1, 0, 1).unwrap().squeeze(1).unwrap()).unwrap().sum_all().unwrap())
        .unwrap()
}

#[test]
fn gradients_are_those_of_differences_along_the_group() {
    let mut rng = stream(21);
    let mut all: Vec<M> = (0..60).map(|_| random_unitary(&mut rng)).collect();
    // Close to walls, and to a corner.
    for size in [1e-2, 1e-3] {
        for theta in
            [[0.7, 0.7 + size, -1.4 - size], [size, 2.0 * size, -3.0 * size], [2.0, -2.0 + size, -size]]
        {
            all.push(conjugated(theta, &mut rng));
        }
    }
    let n = all.len();
    let (shift, weights) = (
        uniform(&[n], DType::F64, &mut stream(22)).affine(0.8, 0.0).unwrap(),
        uniform(&[n, 18], DType::F64, &mut stream(23)),
    );
    let (w, s) = (Var::from_tensor(&tensor(&all)).unwrap(), Var::from_tensor(&shift).unwrap());
    let gradients = loss(w.as_tensor(), s.as_tensor(), &weights).backward().unwrap();
    let by_w = untensor(gradients.get(&w).unwrap());
    let by_shift = values(gradients.get(&s).unwrap());
    // Matrices do not mix: one difference a matrix.
    for (i, m) in all.iter().enumerate() {
        let row = |t: &Tensor| t.narrow(0, i, 1).unwrap();
        let value = |m: &M, shift: &Tensor| {
            loss(&tensor(std::slice::from_ref(m)), shift, &row(&weights)).to_scalar::<f64>().unwrap()
        };
        for _ in 0..4 {
            let x = direction(&mut rng);
            let h = 1e-6;
            let at = |h: f64| value(&(step(&x, h) * m), &row(&shift));
            let difference = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
            let along = (by_w[i].adjoint() * x * m).trace().re;
            assert!(
                (along - difference).abs() < 1e-6 * (1.0 + difference.abs()),
                "{i}: {along} {difference}"
            );
        }
        let h = 1e-6;
        let at = |h: f64| value(m, &(row(&shift) + h).unwrap());
        let difference = (at(h) - at(-h)) / (2.0 * h);
        assert!((by_shift[i] - difference).abs() < 1e-6 * (1.0 + difference.abs()));
    }
}

#[test]
fn walls_have_finite_values_and_gradients() {
    let mut rng = stream(31);
    let mut all = vec![M::identity(), diagonal([TAU / 3.0; 3]), diagonal([-TAU / 3.0; 3])];
    for k in 0..6 {
        let t = 0.3 * f64::from(k);
        all.push(conjugated([t, t, -2.0 * t], &mut rng));
        all.push(diagonal([t, t, -2.0 * t]));
    }
    let n = all.len();
    let (shift, weights) = (inner(n, 1), uniform(&[n, 18], DType::F64, &mut stream(2)));
    let w = Var::from_tensor(&tensor(&all)).unwrap();
    let value = loss(w.as_tensor(), &shift, &weights);
    assert!(value.to_scalar::<f64>().unwrap().is_finite());
    let gradients = value.backward().unwrap();
    assert!(values(gradients.get(&w).unwrap()).iter().all(|x| x.is_finite()));
}

#[test]
fn what_is_not_special_unitary_is_refused_and_nan_stays_nan() {
    let mut rng = stream(41);
    let good = random_unitary(&mut rng);
    let cases = [
        good * C::new(1.001, 0.0),
        good * C::from_polar(1.0, 0.01),
        good + M::from_fn(|i, j| C::new(f64::from(u8::from(i > j)) * 1e-3, 0.0)),
        M::zeros(),
    ];
    for bad in cases {
        let mut all = vec![good; 300];
        all[137] = bad;
        let error = Spectrum::new(&tensor(&all)).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("matrix 137 of 300"), "{error}");
    }
    let mut all = vec![good; 10];
    all[3][(1, 2)].re = f64::NAN;
    let spectrum = Spectrum::new(&tensor(&all)).unwrap();
    let (w, r) = spectrum.position().unwrap();
    let m = spectrum.multiplier(&w, &r).unwrap();
    for (i, (w, r)) in values(&w).iter().zip(values(&r)).enumerate() {
        assert_eq!((w.is_nan(), r.is_nan()), (i == 3, i == 3));
    }
    assert!(values(&m)[3 * 18..4 * 18].iter().all(|x| x.is_nan()));
    assert!(Spectrum::new(&Tensor::zeros((2, 2, 2, 2), DType::F64, &Device::Cpu).unwrap()).is_err());
}
