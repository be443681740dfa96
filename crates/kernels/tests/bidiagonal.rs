//! Products of cyclic bidiagonal operators: dense matrices, the composed twin, gradients, lines that strain the recursion.

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{deviation, stream, uniform};
use latflow_kernels::{BidiagonalProduct, Cycles};

/// Four kinds of lines on 3 × 4 sites: forward and backward along rows (closing with a sign) and columns.
fn product(operators: usize) -> BidiagonalProduct {
    let rows: Vec<u32> = (0..12).collect();
    let columns: Vec<u32> = (0..4).flat_map(|x| (0..3).map(move |y| y * 4 + x)).collect();
    let backwards = |sites: &[u32]| sites.iter().rev().copied().collect();
    let cycles = vec![
        Cycles::new(columns.clone(), 3, false).unwrap(),
        Cycles::new(rows.clone(), 4, true).unwrap(),
        Cycles::new(backwards(&columns), 3, false).unwrap(),
        Cycles::new(backwards(&rows), 4, true).unwrap(),
    ];
    BidiagonalProduct::new(cycles, operators).unwrap()
}

fn fields(operators: usize, seed: u64, scale: f64) -> (Tensor, Tensor) {
    let mut rng = stream(seed);
    let x = uniform(&[3, 2, 12], DType::F64, &mut rng);
    let coefficients = (uniform(&[3, 12, 2 * operators], DType::F64, &mut rng) * scale).unwrap();
    (x, coefficients)
}

#[test]
fn fused_and_composed_agree_with_their_gradients() {
    // Large coefficients make |Πb| exceed Πa on many lines.
    for (operators, scale) in [(1, 0.5), (2, 3.0), (7, 0.5), (6, 4.0)] {
        let (x, c) = fields(operators, 1, scale);
        let product = product(operators);
        let (x, c) = (Var::from_tensor(&x).unwrap(), Var::from_tensor(&c).unwrap());
        let weights = uniform(&[3, 2, 12], DType::F64, &mut stream(2));
        let run = |f: &dyn Fn(&Tensor, &Tensor) -> (Tensor, Tensor)| {
            let (y, log_det) = f(&x, &c);
            let loss = ((&y * &weights).unwrap().sum_all().unwrap()
                + log_det.sqr().unwrap().sum_all().unwrap())
            .unwrap();
            let gradients = loss.backward().unwrap();
            [y, log_det, gradients.get(&x).unwrap().clone(), gradients.get(&c).unwrap().clone()]
        };
        let forward = run(&|x, c| product.forward(x, c).unwrap());
        let composed = run(&|x, c| product.forward_composed(x, c).unwrap());
        let inverse = run(&|x, c| product.inverse(x, c).unwrap());
        let inverse_composed = run(&|x, c| product.inverse_composed(x, c).unwrap());
        for (a, b) in forward.iter().zip(&composed).chain(inverse.iter().zip(&inverse_composed)) {
            let d = deviation(a, b);
            assert!(d < 1e-9, "{operators} operators: {d:e}");
        }
        let (back, log_det) = product.inverse(&forward[0], &c).unwrap();
        assert!(deviation(&back, &x) < 1e-9);
        assert!(deviation(&log_det.neg().unwrap(), &forward[1]) < 1e-12);
    }
}

#[test]
fn one_factor_is_the_matrix_it_says() {
    // Along a row of four, antiperiodic: a on the diagonal, b beside it, −b in the corner; det = Πa + Πb.
    let rows: Vec<u32> = (0..4).collect();
    let one = BidiagonalProduct::new(vec![Cycles::new(rows, 4, true).unwrap()], 1).unwrap();
    let raw = [0.3, -1.2, 0.8, 0.1];
    let b = [0.5, 2.0, -0.7, 1.5];
    let a = raw.map(|x: f64| x.exp().ln_1p() / std::f64::consts::LN_2);
    let c: Vec<f64> = raw.iter().zip(b).flat_map(|(a, b)| [*a, b]).collect();
    let c = Tensor::from_vec(c, (1, 4, 2), &Device::Cpu).unwrap();
    for i in 0..4 {
        let mut unit = [0.0; 4];
        unit[i] = 1.0;
        let x = Tensor::from_slice(&unit, (1, 1, 4), &Device::Cpu).unwrap();
        let (y, log_det) = one.forward(&x, &c).unwrap();
        let mut expected = [0.0; 4];
        expected[i] = a[i];
        expected[(i + 3) % 4] = if i == 0 { -b[3] } else { b[i - 1] };
        let y = y.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert!(y.iter().zip(expected).all(|(y, e)| (y - e).abs() < 1e-15), "{y:?} {expected:?}");
        let det = a.iter().product::<f64>() + b.iter().product::<f64>();
        assert!((log_det.to_vec1::<f64>().unwrap()[0] - det.abs().ln()).abs() < 1e-14);
    }
}

#[test]
fn zero_couplings_have_a_gradient_and_huge_ones_do_not_overflow() {
    let product = product(4);
    let (x, _) = fields(4, 3, 1.0);
    let zero = Var::zeros((3, 12, 8), DType::F64, &Device::Cpu).unwrap();
    let (y, log_det) = product.forward(&x, &zero).unwrap();
    assert!(deviation(&y, &x) < 1e-15);
    let gradient = log_det.sum_all().unwrap().backward().unwrap().get(&zero).unwrap().clone();
    // ∂ log a/∂ã = ½/ln 2 at ã = 0, and no first order in b.
    let gradient = gradient.reshape((144, 2)).unwrap().to_vec2::<f64>().unwrap();
    assert!(gradient.iter().all(|g| (g[0] - 0.5 / std::f64::consts::LN_2).abs() < 1e-14 && g[1] == 0.0));
    let ones = Tensor::ones((3, 12, 4, 1), DType::F64, &Device::Cpu).unwrap();
    for (raw, b) in [(0.0, 1e120), (1e120, 1.0), (1e120, -1e120)] {
        let huge = Tensor::cat(&[(&ones * raw).unwrap(), (&ones * b).unwrap()], 3).unwrap();
        let huge = huge.reshape((3, 12, 8)).unwrap();
        let (_, log_det) = product.forward(&x, &huge).unwrap();
        let log_det = log_det.to_vec1::<f64>().unwrap();
        assert!(log_det.iter().all(|l| (l / 48.0 - 120.0 * 10_f64.ln()).abs() < 0.5), "{log_det:?}");
    }
}

#[test]
fn wrong_tables_and_shapes_are_refused() {
    assert!(Cycles::new(vec![0, 1, 1, 3], 2, false).is_err());
    assert!(Cycles::new(vec![0, 1, 2, 4], 2, false).is_err());
    assert!(Cycles::new(vec![0, 1, 2], 2, false).is_err());
    assert!(BidiagonalProduct::new(vec![], 1).is_err());
    let (x, c) = fields(3, 5, 1.0);
    assert!(product(2).forward(&x, &c).is_err());
    assert!(product(3).forward(&x.to_dtype(DType::F32).unwrap(), &c).is_err());
}
