//! Against nalgebra, against exact results, and against the definitions, with every instruction set there is.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::{Inverse, Lu, ScaledMatrix, stride, with_matrix_at};
use crate::conv::simd::Level;
use nalgebra::{DMatrix, DVector};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

const ORDERS: [usize; 20] = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 24, 31, 33, 40, 63, 64, 65, 100, 128, 201];

fn uniform(order: usize, seed: u64) -> DMatrix<f64> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    DMatrix::from_fn(order, order, |_, _| rng.random_range(-1.0..1.0))
}

fn with_lu<R>(level: Level, m: &DMatrix<f64>, f: impl FnOnce(Lu<'_>) -> R) -> R {
    with_matrix_at(level, m.nrows(), |mut a| {
        a.clear();
        for (j, column) in m.column_iter().enumerate() {
            a.column_mut(j).copy_from_slice(column.as_slice());
        }
        f(a.decompose())
    })
}

fn inverse(level: Level, m: &DMatrix<f64>) -> Option<DMatrix<f64>> {
    let n = m.nrows();
    let collect = |x: Inverse<'_>| DMatrix::from_fn(n, n, |i, j| x.column(j)[i]);
    with_lu(level, m, |lu| lu.inverse().map(collect))
}

/// log |det| and sign by nalgebra.
fn reference(m: &DMatrix<f64>) -> (f64, f64) {
    let lu = m.clone().lu();
    let diagonal = lu.lu_internal().diagonal();
    let sign = diagonal.iter().map(|u| u.signum()).product::<f64>() * lu.p().determinant::<f64>();
    (diagonal.iter().map(|u| u.abs().ln()).sum(), sign)
}

/// Rounding of an elimination of this order with a growth of order ten, relative to ‖A‖ ‖A⁻¹‖.
fn rounding(order: usize) -> f64 {
    10.0 * order as f64 * f64::EPSILON
}

fn check_against_nalgebra(level: Level, m: &DMatrix<f64>, name: &str) {
    let n = m.nrows();
    let theirs = m.clone().try_inverse().unwrap();
    let condition = m.norm() * theirs.norm();
    let (log_abs, sign) = reference(m);
    let b = DVector::from_fn(n, |i, _| (i as f64).cos());
    let (got, solution) = with_lu(level, m, |lu| {
        let mut x = b.clone();
        lu.solve(x.as_mut_slice()).unwrap();
        (lu.determinant(), x)
    });
    let case = format!("{name} of order {n}, {}", level.name());
    assert!((got.log_abs - log_abs).abs() < rounding(n) * condition, "{case}: {got:?}, {log_abs}");
    assert_eq!(got.sign, sign, "{case}");
    let ours = inverse(level, m).unwrap();
    let residual = (m * &ours - DMatrix::identity(n, n)).norm();
    assert!(residual < rounding(n) * condition, "{case}: residual {residual:e}, condition {condition:e}");
    let difference = (&ours - &theirs).norm() / theirs.norm();
    assert!(difference < rounding(n) * condition, "{case}: difference {difference:e}");
    let residual = (m * &solution - &b).norm();
    assert!(residual < rounding(n) * m.norm() * solution.norm(), "{case}: solution {residual:e}");
}

#[test]
fn random_matrices_agree_with_nalgebra() {
    for &level in Level::available() {
        for n in ORDERS {
            check_against_nalgebra(level, &uniform(n, n as u64), "random");
            // Rows of very different size, so that nearly every pivot is an exchange.
            let mut graded = uniform(n, 1000 + n as u64);
            for (i, mut row) in graded.row_iter_mut().enumerate() {
                row *= 2f64.powi((i * 37 % n) as i32 % 20);
            }
            check_against_nalgebra(level, &graded, "graded");
        }
    }
}

#[test]
fn nearly_singular_matrices_agree_with_nalgebra_and_with_the_exact_determinant() {
    for &level in Level::available() {
        for n in [2, 9, 32, 65] {
            // The last column is nearly a combination of the others.
            let mut m = uniform(n, 7 * n as u64);
            let mixed = m.columns(0, n - 1).column_sum() + m.column(n - 1) * 1e-9;
            m.set_column(n - 1, &mixed);
            check_against_nalgebra(level, &m, "nearly singular");
            // ε + ones: eigenvalues ε, n − 1 times, and ε + n; 1 + ε is rounded to half a unit in the last place.
            let epsilon = 2f64.powi(-30);
            let m = DMatrix::from_fn(n, n, |i, j| if i == j { 1.0 + epsilon } else { 1.0 });
            let expected = (n - 1) as f64 * epsilon.ln() + (epsilon + n as f64).ln();
            let got = with_lu(level, &m, |lu| lu.determinant());
            let tolerance = rounding(n) * n as f64 / epsilon;
            assert!((got.log_abs - expected).abs() < tolerance && got.sign == 1.0, "{got:?}, {expected}");
        }
    }
}

#[test]
fn permutations_have_exact_signs_and_inverses() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
    for &level in Level::available() {
        for n in ORDERS {
            let mut images: Vec<usize> = (0..n).collect();
            let mut sign = 1.0;
            for i in (1..n).rev() {
                let k = rng.random_range(0..=i);
                images.swap(i, k);
                if i != k {
                    sign = -sign;
                }
            }
            let scale = |i: usize| if i.is_multiple_of(3) { -2.0 } else { 4.0 };
            let m = DMatrix::from_fn(n, n, |i, j| if images[i] == j { scale(j) } else { 0.0 });
            let det = with_lu(level, &m, |lu| lu.determinant());
            let expected: f64 = (0..n).map(|j| scale(j).abs().ln()).sum();
            let sign = (0..n).fold(sign, |s, j| s * scale(j).signum());
            assert_eq!(det.sign, sign, "order {n}");
            assert!((det.log_abs - expected).abs() <= rounding(n) * expected);
            let exact = DMatrix::from_fn(n, n, |i, j| if images[j] == i { 1.0 / scale(i) } else { 0.0 });
            assert_eq!(inverse(level, &m).unwrap(), exact);
        }
    }
}

#[test]
fn the_factors_multiply_to_the_matrix_and_no_multiplier_exceeds_one() {
    for &level in Level::available() {
        for n in [4, 23, 64, 129] {
            let m = uniform(n, 50 + n as u64);
            with_lu(level, &m, |lu| {
                let element = |i: usize, j: usize| lu.matrix.a[j * stride(n) + i];
                let l = DMatrix::from_fn(n, n, |i, j| match i.cmp(&j) {
                    std::cmp::Ordering::Greater => element(i, j),
                    std::cmp::Ordering::Equal => 1.0,
                    std::cmp::Ordering::Less => 0.0,
                });
                let u = DMatrix::from_fn(n, n, |i, j| if i <= j { element(i, j) } else { 0.0 });
                // The reciprocal of the pivot is rounded before it is multiplied with.
                assert!(l.amax() <= 1.0 + 2.0 * f64::EPSILON, "{}", l.amax());
                let mut exchanged = m.clone();
                for (i, &pivot) in lu.pivots[..n].iter().enumerate() {
                    exchanged.swap_rows(i, pivot);
                }
                let error = (l * u - &exchanged).norm();
                assert!(error < rounding(n) * m.norm(), "order {n}: {error:e}");
            });
        }
    }
}

#[test]
fn singular_matrices_and_numbers_that_are_none() {
    for &level in Level::available() {
        for n in [1, 2, 8, 13, 40] {
            let mut column = uniform(n, 9);
            column.column_mut(n / 2).fill(0.0);
            let mut row = uniform(n, 10);
            row.row_mut(n / 2).fill(0.0);
            let ones = DMatrix::from_element(n, n, 1.0);
            let zero = DMatrix::zeros(n, n);
            for m in [&column, &row, &ones, &zero] {
                if n == 1 && m[(0, 0)] == 1.0 {
                    continue;
                }
                let det = with_lu(level, m, |lu| {
                    assert!(lu.is_singular() && lu.solve(&mut vec![1.0; n]).is_none());
                    lu.determinant()
                });
                assert_eq!((det.log_abs, det.sign), (f64::NEG_INFINITY, 0.0));
                assert!(inverse(level, m).is_none());
            }
            let mut nan = uniform(n, 11);
            nan[(n - 1, n / 3)] = f64::NAN;
            assert!(with_lu(level, &nan, |lu| lu.determinant()).log_abs.is_nan());
            // Pivots whose reciprocals overflow.
            let m = uniform(n, 12);
            let tiny = with_lu(level, &(&m * 1e-309), |lu| lu.determinant());
            let (log_abs, sign) = reference(&m);
            let expected = log_abs + n as f64 * 1e-309f64.ln();
            // Subnormal numbers have a relative precision of 5e-324 / 1e-309.
            let tolerance = 1e-14 * n as f64 * m.norm() * m.clone().try_inverse().unwrap().norm();
            assert!((tiny.log_abs - expected).abs() < tolerance && tiny.sign == sign, "{tiny:?}, {expected}");
        }
        assert_eq!(with_lu(level, &DMatrix::zeros(0, 0), |lu| lu.determinant()).log_abs, 0.0);
    }
}

#[test]
fn scaled_matrices_have_the_determinant_and_gradients_of_explicit_ones() {
    for &level in Level::available() {
        for n in [1, 6, 8, 21, 64, 77] {
            let (k, s) = (uniform(n, 20), uniform(n, 21));
            let scales = uniform(n.max(2), 22);
            let (r, c) = (&scales.as_slice()[..n], &scales.as_slice()[scales.len() - n..]);
            let m = DMatrix::from_fn(n, n, |i, j| k[(i, j)] + r[i] * s[(i, j)] * c[j]);
            let family = ScaledMatrix::new(n, |i, j| k[(i, j)], |i, j| s[(i, j)]);
            let inverse = m.clone().try_inverse().unwrap();
            let tolerance = rounding(n) * m.norm() * inverse.norm() * inverse.norm();
            let (mut dr, mut dc) = (vec![0.0; n], vec![0.0; n]);
            let det = family.gradients_at(level, r, c, &mut dr, &mut dc);
            assert_eq!(det, family.determinant_at(level, r, c));
            let (log_abs, sign) = reference(&m);
            assert!((det.log_abs - log_abs).abs() < tolerance && det.sign == sign);
            for i in 0..n {
                let row: f64 = (0..n).map(|j| inverse[(j, i)] * s[(i, j)] * c[j]).sum();
                let column: f64 = (0..n).map(|j| inverse[(i, j)] * s[(j, i)] * r[j]).sum();
                assert!((dr[i] - row).abs() < tolerance && (dc[i] - column).abs() < tolerance, "order {n}");
            }
            let singular = ScaledMatrix::new(n, |_, _| 0.0, |_, j| if j == 0 { 0.0 } else { 1.0 });
            let det = singular.gradients_at(level, r, c, &mut dr, &mut dc);
            assert_eq!(det.log_abs, f64::NEG_INFINITY);
            assert!(dr.iter().chain(&dc).all(|d| d.is_nan()));
        }
    }
}
