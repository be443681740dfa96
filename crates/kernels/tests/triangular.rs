//! Unit triangular solutions against the composed twin, the definition, and candle's own derivatives.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use candle_core::{DType, Tensor};
use common::{deviation, pull_back, stream, uniform, values};
use latflow_kernels::{Triangle, unit_triangular_solve, unit_triangular_solve_composed};

const CASES: [(Triangle, bool); 4] =
    [(Triangle::Lower, false), (Triangle::Lower, true), (Triangle::Upper, false), (Triangle::Upper, true)];

/// T y for one right-hand side after the other, by three loops.
fn times(y: &Tensor, a: &Tensor, triangle: Triangle, transposed: bool) -> Tensor {
    let (batch, components, n) = y.dims3().unwrap();
    let (data, a) = (values(y), values(a));
    let mut v = data.clone();
    for b in 0..batch {
        for c in 0..components {
            for i in 0..n {
                for j in 0..n {
                    let (row, column) = if transposed { (j, i) } else { (i, j) };
                    let inside = match triangle {
                        Triangle::Lower => column < row,
                        Triangle::Upper => column > row,
                    };
                    if inside {
                        let at = (b * components + c) * n;
                        v[at + i] += a[(b * n + row) * n + column] * data[at + j];
                    }
                }
            }
        }
    }
    Tensor::from_vec(v, y.dims(), y.device()).unwrap()
}

#[test]
fn solutions_solve_and_agree_with_the_composed_twin() {
    let mut rng = stream(1);
    for (batch, components, n) in [(1, 1, 1), (2, 2, 5), (3, 2, 8), (2, 1, 19), (2, 3, 40)] {
        let v = uniform(&[batch, components, n], DType::F64, &mut rng);
        let a = (uniform(&[batch, n, n], DType::F64, &mut rng) * 0.4).unwrap();
        for (triangle, transposed) in CASES {
            let y = unit_triangular_solve(&v, &a, triangle, transposed).unwrap();
            let composed = unit_triangular_solve_composed(&v, &a, triangle, transposed).unwrap();
            assert!(deviation(&y, &composed) < 1e-12, "{triangle:?}, {transposed}, order {n}");
            assert!(deviation(&times(&y, &a, triangle, transposed), &v) < 1e-11);
        }
    }
}

#[test]
fn gradients_agree_with_the_composed_twin() {
    let mut rng = stream(2);
    let v = uniform(&[2, 2, 13], DType::F64, &mut rng);
    let a = (uniform(&[2, 13, 13], DType::F64, &mut rng) * 0.5).unwrap();
    for (triangle, transposed) in CASES {
        let fused = pull_back(|x| unit_triangular_solve(&x[0], &x[1], triangle, transposed), &[&v, &a], 3);
        let composed =
            pull_back(|x| unit_triangular_solve_composed(&x[0], &x[1], triangle, transposed), &[&v, &a], 3);
        for (fused, composed) in fused.iter().zip(&composed) {
            assert!(deviation(fused, composed) < 1e-12, "{triangle:?}, {transposed}");
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let mut rng = stream(3);
    let v = uniform(&[2, 2, 6], DType::F64, &mut rng);
    for a in [uniform(&[2, 6, 5], DType::F64, &mut rng), uniform(&[1, 6, 6], DType::F64, &mut rng)] {
        assert!(unit_triangular_solve(&v, &a, Triangle::Lower, false).is_err());
    }
    let a = uniform(&[2, 6, 6], DType::F32, &mut rng);
    assert!(unit_triangular_solve(&v, &a, Triangle::Upper, false).is_err());
}
