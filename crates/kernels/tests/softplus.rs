//! SoftPlus and its derivatives against candle's own operations and their automatic derivatives.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{deviation, pull_back, stream, uniform};
use latflow_kernels::{softplus, softplus_composed};

#[test]
fn values_and_derivatives_are_those_of_the_composed_twin() {
    for (n, scale) in [(1, 1.0), (37, 1.0), (40_000, 30.0)] {
        let a = (uniform(&[n], DType::F64, &mut stream(n as u64)) * scale).unwrap();
        for order in 0..3 {
            let fused = pull_back(|t| softplus(&t[0], order), &[&a], 1);
            let composed = pull_back(|t| softplus_composed(&t[0], order), &[&a], 1);
            for (fused, composed) in fused.iter().zip(&composed) {
                assert!(deviation(fused, composed) < 1e-14, "{n} numbers, derivative {order}");
            }
        }
    }
}

#[test]
fn the_derivative_at_zero_is_one_half() {
    let zero = Var::zeros((2, 3), DType::F64, &Device::Cpu).unwrap();
    for f in [softplus, softplus_composed] {
        let slope = f(&zero, 1).unwrap();
        let sum = f(&zero, 0).unwrap().sum_all().unwrap();
        let automatic = sum.backward().unwrap().remove(&zero).unwrap();
        for half in [slope, automatic] {
            assert!(half.to_vec2::<f64>().unwrap().iter().flatten().all(|s| *s == 0.5));
        }
    }
}

#[test]
fn other_orders_and_element_types_are_refused() {
    let a = Tensor::zeros(3, DType::F64, &Device::Cpu).unwrap();
    assert!(softplus(&a, 3).is_err() && softplus_composed(&a, 3).is_err());
    assert!(softplus(&a.to_dtype(DType::F32).unwrap(), 0).is_err());
}
