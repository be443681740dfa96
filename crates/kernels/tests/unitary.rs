//! Small complex matrices against nalgebra: products, exponentials, links that move, projection; gradients by differences.

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::stream;
use latflow_kernels::unitary::{
    fused, matrix_exponential, matrix_product, project_to_su_n, rotate, su_n_deviation,
};
use nalgebra::{Complex, DMatrix, DVector};
use rand::Rng;

type Matrix = DMatrix<Complex<f64>>;

fn random(shape: &[usize], size: f64, seed: u64) -> Tensor {
    let mut rng = stream(seed);
    let data: Vec<f64> = (0..shape.iter().product()).map(|_| size * rng.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

fn to_matrices(t: &Tensor) -> Vec<Matrix> {
    let n = t.dims()[t.rank() - 2];
    let data = t.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let matrix =
        |m: &[f64]| Matrix::from_fn(n, n, |i, j| Complex::new(m[2 * (i * n + j)], m[2 * (i * n + j) + 1]));
    data.chunks_exact(2 * n * n).map(matrix).collect()
}

fn to_tensor(matrices: &[Matrix]) -> Tensor {
    let n = matrices[0].nrows();
    let mut data = Vec::new();
    for m in matrices {
        (0..n * n).for_each(|i| data.extend([m[(i / n, i % n)].re, m[(i / n, i % n)].im]));
    }
    Tensor::from_vec(data, (matrices.len(), n, n, 2), &Device::Cpu).unwrap()
}

/// Anti-hermitian and traceless, of elements up to `size`.
fn algebra(count: usize, n: usize, size: f64, seed: u64) -> Vec<Matrix> {
    let anti = |m: Matrix| {
        let x = (&m - m.adjoint()) * Complex::from(0.5);
        let trace = x.trace() / n as f64;
        x - Matrix::identity(n, n) * trace
    };
    to_matrices(&random(&[count, n, n, 2], size, seed)).into_iter().map(anti).collect()
}

/// exp X by the eigenvalues of X/i.
fn exponential(x: &Matrix) -> Matrix {
    let eigen = (x * Complex::new(0.0, -1.0)).symmetric_eigen();
    let phases =
        DVector::from_iterator(x.nrows(), eigen.eigenvalues.iter().map(|t| Complex::new(0.0, *t).exp()));
    &eigen.eigenvectors * Matrix::from_diagonal(&phases) * eigen.eigenvectors.adjoint()
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    (a * b).unwrap().to_dtype(DType::F64).unwrap().sum_all().unwrap().to_scalar().unwrap()
}

fn largest(x: &Tensor) -> f64 {
    x.to_dtype(DType::F64).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

fn distance(found: &Tensor, expected: &[Matrix]) -> f64 {
    to_matrices(found).iter().zip(expected).map(|(a, b)| (a - b).camax()).fold(0.0, f64::max)
}

#[test]
fn products_are_those_of_matrices_and_gradients_exact() {
    for n in [2, 3] {
        for count in [1, 8, 13, 2500] {
            let shape = [count, n, n, 2];
            let (a, b, w) = (random(&shape, 1.0, 1), random(&shape, 1.0, 2), random(&shape, 1.0, 3));
            let (ma, mb) = (to_matrices(&a), to_matrices(&b));
            for (adjoint_a, adjoint_b) in [(false, false), (false, true), (true, false), (true, true)] {
                let turned = |m: &Matrix, adjoint: bool| if adjoint { m.adjoint() } else { m.clone() };
                let expected: Vec<Matrix> =
                    ma.iter().zip(&mb).map(|(a, b)| turned(a, adjoint_a) * turned(b, adjoint_b)).collect();
                let product = |a: &Tensor, b: &Tensor| matrix_product(a, b, adjoint_a, adjoint_b).unwrap();
                assert!(distance(&product(&a, &b), &expected) < 1e-14);
                // Bilinear: the derivative along δ is the product with δ.
                let (va, vb) = (Var::from_tensor(&a).unwrap(), Var::from_tensor(&b).unwrap());
                let gradients = (product(&va, &vb) * &w).unwrap().sum_all().unwrap().backward().unwrap();
                let delta = random(&shape, 1.0, 4);
                let along_a = dot(gradients.get(&va).unwrap(), &delta) - dot(&product(&delta, &b), &w);
                let along_b = dot(gradients.get(&vb).unwrap(), &delta) - dot(&product(&a, &delta), &w);
                assert!(along_a.abs() < 1e-11 && along_b.abs() < 1e-11, "{along_a:e} {along_b:e}");
                let single = |t: &Tensor| t.to_dtype(DType::F32).unwrap();
                let difference =
                    product(&single(&a), &single(&b)).to_dtype(DType::F64).unwrap() - product(&a, &b);
                assert!(largest(&difference.unwrap()) < 2e-6);
            }
        }
    }
}

#[test]
fn exponentials_are_unitary_and_those_of_eigenvalues() {
    for n in [2, 3] {
        for (size, tolerance) in [(1e-9, 1e-15), (0.1, 1e-15), (1.0, 2e-15), (10.0, 2e-14), (300.0, 1e-12)] {
            let x = algebra(101, n, size, 5);
            let e = matrix_exponential(&to_tensor(&x)).unwrap();
            let expected: Vec<Matrix> = x.iter().map(exponential).collect();
            let accuracy = distance(&e, &expected);
            // The oracle's own eigenvalues are exact to rounding of the norm.
            assert!(accuracy < 4e-15 * (1.0 + 3.0 * size), "{n} {size}: {accuracy:e}");
            let deviation = su_n_deviation(&e).unwrap();
            assert!(deviation < 2.0 * tolerance, "{n} {size}: {deviation:e}");
        }
    }
}

#[test]
fn exponentials_of_degenerate_matrices() {
    let i = |x: f64| Complex::new(0.0, x);
    let diagonal =
        |d: &[f64]| Matrix::from_diagonal(&DVector::from_iterator(d.len(), d.iter().map(|x| i(*x))));
    let third = 2.0 * std::f64::consts::PI / 3.0;
    let x = [
        diagonal(&[0.0, 0.0, 0.0]),
        diagonal(&[0.7, 0.7, -1.4]),
        diagonal(&[third, third, -2.0 * third]),
        diagonal(&[1e-8, -1e-8, 0.0]),
    ];
    let e = matrix_exponential(&to_tensor(&x)).unwrap();
    let expected: Vec<Matrix> = x.iter().map(exponential).collect();
    assert!(distance(&e, &expected) < 1e-14);
    let centre = &to_matrices(&e)[2];
    assert!((centre - Matrix::identity(3, 3) * i(third).exp()).camax() < 1e-14);
    let var = Var::from_tensor(&to_tensor(&x)).unwrap();
    let w = random(&[4, 3, 3, 2], 1.0, 6);
    let gradients = (matrix_exponential(&var).unwrap() * &w).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(largest(gradients.get(&var).unwrap()).is_finite());
}

/// (f(h) of 4 points) for a derivative with error h⁴.
fn slope(f: impl Fn(f64) -> f64, h: f64) -> f64 {
    (8.0 * (f(h) - f(-h)) - (f(2.0 * h) - f(-2.0 * h))) / (12.0 * h)
}

#[test]
fn gradients_of_exponentials_are_differences() {
    for n in [2, 3] {
        for size in [0.0, 0.05, 0.8, 6.0] {
            let x = to_tensor(&algebra(11, n, size, 7));
            let delta = to_tensor(&algebra(11, n, 1.0, 8));
            let w = random(&[11, n, n, 2], 1.0, 9);
            let value = |x: &Tensor| dot(&matrix_exponential(x).unwrap(), &w);
            let var = Var::from_tensor(&x).unwrap();
            let gradients =
                (matrix_exponential(&var).unwrap() * &w).unwrap().sum_all().unwrap().backward().unwrap();
            let along = dot(gradients.get(&var).unwrap(), &delta);
            let expected = slope(|h| value(&(&x + (&delta * h).unwrap()).unwrap()), 1e-3);
            assert!(
                (along - expected).abs() < 1e-9 * (1.0 + expected.abs()),
                "{n} {size}: {along} {expected}"
            );
        }
    }
}

/// T^a in the order of the kernels' documentation.
fn generators(n: usize) -> Vec<Matrix> {
    let c = Complex::new;
    let mut all = Vec::new();
    for k in 1..n {
        for j in 0..k {
            for t in [c(0.5, 0.0), c(0.0, -0.5)] {
                let mut m = Matrix::zeros(n, n);
                m[(j, k)] = t;
                m[(k, j)] = t.conj();
                all.push(m);
            }
        }
        let mut m = Matrix::zeros(n, n);
        let scale = 1.0 / ((2 * k * (k + 1)) as f64).sqrt();
        (0..k).for_each(|j| m[(j, j)] = c(scale, 0.0));
        m[(k, k)] = c(-(k as f64) * scale, 0.0);
        all.push(m);
    }
    all
}

#[test]
fn rotations_are_exponentials_times_links() {
    for n in [2, 3] {
        let (count, components) = (19, n * n - 1);
        let u: Vec<Matrix> = algebra(count, n, 3.0, 10).iter().map(exponential).collect();
        let u = to_tensor(&u);
        for size in [0.0, 0.1, 2.0] {
            let omega = random(&[count, components], size, 11);
            let rows = omega.to_vec2::<f64>().unwrap();
            let t = generators(n);
            let expected: Vec<Matrix> = rows
                .iter()
                .zip(to_matrices(&u))
                .map(|(row, u)| {
                    let h =
                        row.iter().zip(&t).fold(Matrix::zeros(n, n), |h, (w, t)| h + t * Complex::from(*w));
                    exponential(&(h * Complex::new(0.0, 1.0))) * u
                })
                .collect();
            assert!(distance(&rotate(&omega, &u).unwrap(), &expected) < 1e-14 * (1.0 + size));
            let w = random(&[count, n, n, 2], 1.0, 12);
            let value = |omega: &Tensor, u: &Tensor| dot(&rotate(omega, u).unwrap(), &w);
            let (vo, vu) = (Var::from_tensor(&omega).unwrap(), Var::from_tensor(&u).unwrap());
            let gradients = (rotate(&vo, &vu).unwrap() * &w).unwrap().sum_all().unwrap().backward().unwrap();
            let delta = random(&[count, components], 1.0, 13);
            let along = dot(gradients.get(&vo).unwrap(), &delta);
            let expected = slope(|h| value(&(&omega + (&delta * h).unwrap()).unwrap(), &u), 1e-3);
            assert!(
                (along - expected).abs() < 1e-9 * (1.0 + expected.abs()),
                "{n} {size}: {along} {expected}"
            );
            // Linear in the links.
            let delta = random(&[count, n, n, 2], 1.0, 14);
            let along = dot(gradients.get(&vu).unwrap(), &delta);
            assert!((along - value(&omega, &delta)).abs() < 1e-12);
        }
    }
}

#[test]
fn projection_keeps_the_unitary_factor_with_determinant_one() {
    for n in [2, 3] {
        let u: Vec<Matrix> = algebra(50, n, 3.0, 15).iter().map(exponential).collect();
        let noise = to_matrices(&random(&[50, n, n, 2], 0.01, 16));
        let bent: Vec<Matrix> = u.iter().zip(&noise).map(|(u, e)| u + e).collect();
        let projected = project_to_su_n(&to_tensor(&bent)).unwrap();
        assert!(su_n_deviation(&to_tensor(&bent)).unwrap() > 1e-3);
        assert!(su_n_deviation(&projected).unwrap() < 2e-15);
        // The unitary factor of the polar decomposition, turned: W†A is positive up to the phase of det A.
        for (w, a) in to_matrices(&projected).iter().zip(&bent) {
            let phase = Complex::new(0.0, -a.determinant().arg() / n as f64).exp();
            let x = w.adjoint() * a * phase;
            assert!((&x - x.adjoint()).camax() < 1e-14);
        }
        // Single precision, and what is in the group already.
        let rounded = to_tensor(&u).to_dtype(DType::F32).unwrap().to_dtype(DType::F64).unwrap();
        assert!(distance(&project_to_su_n(&rounded).unwrap(), &u) < 2e-7);
        assert!(distance(&project_to_su_n(&to_tensor(&u)).unwrap(), &u) < 1e-14);
    }
    let far = random(&[3, 3, 3, 2], 1.0, 17);
    assert!(project_to_su_n(&far).unwrap_err().to_string().contains("within 0.1 of the group"));
    let undefined = Tensor::from_vec(vec![f64::NAN; 18], (1, 3, 3, 2), &Device::Cpu).unwrap();
    assert!(project_to_su_n(&undefined).is_err());
    // Unitary, but of another determinant.
    let turned: Vec<Matrix> = vec![Matrix::identity(3, 3) * Complex::new(0.0, 1.0)];
    assert!(project_to_su_n(&to_tensor(&turned)).is_err());
}

#[test]
fn other_matrices_are_refused() {
    let four = random(&[2, 4, 4, 2], 1.0, 18);
    assert!(!fused(&four) && matrix_exponential(&four).unwrap_err().to_string().contains("N = 2 or 3"));
    let three = random(&[2, 3, 3, 2], 1.0, 19);
    assert!(matrix_product(&three, &four, false, false).is_err());
    assert!(rotate(&random(&[2, 3], 1.0, 20), &three).unwrap_err().to_string().contains("[2, 8]"));
}
