//! Every instruction set gives the same matrices up to rounding.

use super::blocks::{Operation, apply_with};
use super::exponential::{Backward, Forward};
use crate::conv::simd::{Element, Level};

/// Anti-hermitian matrices of norms from 10⁻³ to 30, a fixed sequence.
fn anti_hermitian<T: Element, const N: usize>(count: usize) -> Vec<T> {
    let mut out = Vec::new();
    for m in 0..count {
        let size = 10f64.powf(-3.0 + 4.5 * m as f64 / count as f64);
        let x = |i: usize, j: usize, k: usize| size * ((m * 31 + i * 7 + j * 5 + k * 3) as f64).sin();
        for i in 0..N {
            for j in 0..N {
                let (re, im) = if i < j { (x(i, j, 0), x(i, j, 1)) } else { (-x(j, i, 0), x(j, i, 1)) };
                out.extend([if i == j { 0.0 } else { re }, im].map(T::from_f64));
            }
        }
    }
    out
}

fn defect<T: Element, O: Operation<K>, const K: usize>(operation: O, inputs: [&[T]; K]) -> f64 {
    let all = Level::available();
    let reference = apply_with(all[0], operation, inputs);
    let largest = reference.iter().fold(0.0, |a: f64, x| a.max(x.to_f64().abs()));
    assert!(largest.is_finite() && largest > 0.0);
    let compare = |level: &Level| {
        let other = apply_with(*level, operation, inputs);
        let difference = reference.iter().zip(&other).map(|(a, b)| (a.to_f64() - b.to_f64()).abs());
        difference.fold(0.0, f64::max) / largest
    };
    all[1..].iter().map(compare).fold(0.0, f64::max)
}

#[test]
fn instruction_sets_agree() {
    // 21 matrices: the last register is not full at any width.
    let (two, three) = (anti_hermitian::<f64, 2>(21), anti_hermitian::<f64, 3>(21));
    let grad: Vec<f64> = (0..three.len()).map(|i| (i as f64).cos()).collect();
    for defect in [
        defect(Forward::<2>, [&two[..]]),
        defect(Forward::<3>, [&three[..]]),
        defect(Backward::<2>, [&two[..], &grad[..two.len()]]),
        defect(Backward::<3>, [&three[..], &grad[..]]),
    ] {
        assert!(defect < 1e-13, "{defect:e}");
    }
    let three = anti_hermitian::<f32, 3>(21);
    let grad: Vec<f32> = grad.iter().map(|g| *g as f32).collect();
    for defect in [defect(Forward::<3>, [&three[..]]), defect(Backward::<3>, [&three[..], &grad[..]])] {
        assert!(defect < 1e-4, "{defect:e}");
    }
}
