//! Products of even and odd fields against their composed twin.

mod common;

use candle_core::{DType, Tensor, Var};
use common::{deviation, stream, uniform};
use latflow_kernels::{Grade, graded_products, graded_products_composed};

fn inputs(dtype: DType, channels: usize) -> [Var; 3] {
    let mut rng = stream(1);
    let even = (uniform(&[3, 10, channels], dtype, &mut rng) * 3.0).unwrap();
    let odd = (uniform(&[3, 10, channels], dtype, &mut rng) * 20.0).unwrap();
    [even, odd, uniform(&[channels], dtype, &mut rng)].map(|t| Var::from_tensor(&t).unwrap())
}

fn value_and_gradients(y: &Tensor, inputs: &[Var; 3]) -> Vec<Tensor> {
    let weights = uniform(y.dims(), y.dtype(), &mut stream(2));
    let gradients = (y * weights).unwrap().sum_all().unwrap().backward().unwrap();
    let gradients =
        inputs.iter().map(|v| gradients.get(v).map_or_else(|| v.zeros_like().unwrap(), Tensor::clone));
    std::iter::once(y.detach()).chain(gradients).collect()
}

#[test]
fn fused_and_composed_agree_with_their_gradients() {
    for (dtype, tolerance) in [(DType::F64, 1e-14), (DType::F32, 2e-6)] {
        for (channels, slope) in [(1, 0.0), (5, 0.3), (32, 0.01)] {
            let [e, o, c] = &inputs(dtype, channels);
            for grade in [Grade::Even, Grade::Odd] {
                let fused = graded_products(e, o, c, slope, grade).unwrap();
                let composed = graded_products_composed(e, o, c, slope, grade).unwrap();
                let inputs = [e.clone(), o.clone(), c.clone()];
                let all = value_and_gradients(&fused, &inputs);
                for (i, (a, b)) in all.iter().zip(value_and_gradients(&composed, &inputs)).enumerate() {
                    let d = deviation(a, &b);
                    assert!(d < tolerance, "{dtype:?}, {channels} channels, {grade:?}, {i}: {d:e}");
                }
            }
        }
    }
}

#[test]
fn odd_parts_are_odd_and_smooth_at_zero() {
    let [e, o, c] = &inputs(DType::F64, 4);
    let minus = o.neg().unwrap();
    let even = graded_products(e, o, c, 0.1, Grade::Even).unwrap();
    assert!(deviation(&graded_products(e, &minus, c, 0.1, Grade::Even).unwrap(), &even) < 1e-15);
    let odd = graded_products(e, o, c, 0.1, Grade::Odd).unwrap();
    let minus = graded_products(e, &minus, c, 0.1, Grade::Odd).unwrap();
    assert!(deviation(&minus, &odd.neg().unwrap()) < 1e-15);
    // a = o (1 + c/4) + …: the slope at zero, where |v| alone has none.
    let zero = Var::from_tensor(&o.zeros_like().unwrap()).unwrap();
    let a = graded_products(e, &zero, c, 0.1, Grade::Odd).unwrap().narrow(2, 0, 4).unwrap();
    let slope = a.sum_all().unwrap().backward().unwrap().get(&zero).unwrap().clone();
    let expected =
        c.as_tensor().affine(0.25, 1.0).unwrap().broadcast_as((3, 10, 4)).unwrap().contiguous().unwrap();
    assert!(deviation(&slope, &expected) < 1e-15);
}

#[test]
fn wrong_shapes_and_slopes_are_refused() {
    let [e, o, c] = &inputs(DType::F64, 4);
    let fewer = o.narrow(2, 0, 3).unwrap();
    assert!(graded_products(e, &fewer, c, 0.1, Grade::Even).is_err());
    assert!(graded_products(e, o, &c.to_dtype(DType::F32).unwrap(), 0.1, Grade::Even).is_err());
    assert!(graded_products(e, o, c, -0.1, Grade::Odd).is_err());
}
