//! The fused convolution against its composed twin, against candle's own derivatives, and against the formula itself.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use candle_core::{DType, Device, Result, Tensor, Var};
use common::{deviation, pull_back, shuffled, square, stream, uniform, values};
use latflow_kernels::{Stencil, convolution, convolution_composed};

/// y[b, s, o] = bias[o] + Σ_{t,i} sign x w by four nested loops.
fn by_definition(x: &Tensor, weight: &Tensor, bias: &Tensor, stencil: &Stencil) -> Tensor {
    let (batch, volume, inputs) = x.dims3().unwrap();
    let outputs = bias.elem_count();
    let (x, w, bias) = (values(x), values(weight), values(bias));
    let mut y = Vec::new();
    for b in 0..batch {
        for s in 0..volume {
            for (o, bias) in bias.iter().enumerate() {
                let mut sum = *bias;
                for t in 0..stencil.taps() {
                    let n = stencil.neighbours()[t * volume + s] as usize;
                    let sign = stencil.signs().map_or(1.0, |signs| f64::from(signs[t * volume + s]));
                    for i in 0..inputs {
                        sum += sign * x[(b * volume + n) * inputs + i] * w[(t * inputs + i) * outputs + o];
                    }
                }
                y.push(sum);
            }
        }
    }
    Tensor::from_vec(y, (batch, volume, outputs), &Device::Cpu).unwrap()
}

/// With candle's automatic derivatives all the way.
fn plain(x: &Tensor, weight: &Tensor, bias: &Tensor, stencil: &Stencil) -> Result<Tensor> {
    let (batch, volume, inputs) = x.dims3()?;
    let mut y = Tensor::zeros((batch * volume, bias.elem_count()), x.dtype(), x.device())?;
    for t in 0..stencil.taps() {
        let range = t * volume..(t + 1) * volume;
        let n = Tensor::new(&stencil.neighbours()[range.clone()], x.device())?;
        let mut tap = x.index_select(&n, 1)?;
        if let Some(signs) = stencil.signs() {
            let signs: Vec<f64> = signs[range].iter().map(|&s| f64::from(s)).collect();
            tap = tap
                .broadcast_mul(&Tensor::from_vec(signs, (1, volume, 1), x.device())?.to_dtype(x.dtype())?)?;
        }
        let w = weight.narrow(0, t * inputs, inputs)?;
        y = (y + tap.reshape((batch * volume, inputs))?.matmul(&w)?)?;
    }
    y.reshape((batch, volume, bias.elem_count()))?.broadcast_add(bias)
}

fn compare(stencil: &Stencil, batch: usize, inputs: usize, outputs: usize) {
    let mut rng = stream((batch * 10_000 + inputs * 100 + outputs) as u64);
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
        let x = uniform(&[batch, stencil.volume(), inputs], dtype, &mut rng);
        let w = uniform(&[stencil.taps() * inputs, outputs], dtype, &mut rng);
        let b = uniform(&[outputs], dtype, &mut rng);
        let arguments = [&x, &w, &b];
        let fused = pull_back(|a| convolution(&a[0], &a[1], &a[2], stencil), &arguments, 1);
        let composed = pull_back(|a| convolution_composed(&a[0], &a[1], &a[2], stencil), &arguments, 1);
        let plain = pull_back(|a| plain(&a[0], &a[1], &a[2], stencil), &arguments, 1);
        for (k, what) in ["y", "dx", "dw", "db"].into_iter().enumerate() {
            for (name, other) in [("composed", &composed[k]), ("plain candle", &plain[k])] {
                let error = deviation(&fused[k], other);
                assert!(
                    error <= tolerance,
                    "{what} against {name}: {error:e} for {dtype:?}, B = {batch}, V = {}, T = {}, {inputs} → {outputs}",
                    stencil.volume(),
                    stencil.taps()
                );
            }
        }
        let expected = by_definition(&x, &w, &b, stencil).to_dtype(dtype).unwrap();
        assert!(deviation(&fused[0], &expected) <= tolerance);
    }
}

#[test]
fn square_lattice_at_the_channels_networks_have() {
    let stencil = square(6, 4, false);
    for (inputs, outputs) in
        [(1, 32), (2, 32), (32, 1), (32, 2), (16, 16), (32, 32), (48, 48), (64, 64), (3, 64)]
    {
        compare(&stencil, 3, inputs, outputs);
    }
}

#[test]
fn odd_channel_counts() {
    let stencil = square(4, 5, false);
    for inputs in [1, 2, 3, 5, 7, 8, 9, 17, 33, 70] {
        for outputs in [1, 2, 3, 5, 15, 17, 31, 80, 100] {
            compare(&stencil, 1, inputs, outputs);
        }
    }
}

#[test]
fn odd_volumes_taps_and_batches() {
    let mut rng = stream(5);
    for (taps, volume) in [(1, 1), (2, 3), (3, 7), (4, 13), (5, 11), (9, 2), (10, 29)] {
        for signed in [false, true] {
            let stencil = shuffled(taps, volume, signed, &mut rng);
            for (inputs, outputs) in [(1, 16), (16, 1), (3, 2), (20, 24), (32, 32)] {
                compare(&stencil, 5, inputs, outputs);
            }
        }
    }
}

#[test]
fn antiperiodic_fields() {
    let stencil = square(4, 6, true);
    assert!(stencil.signs().is_some());
    for (inputs, outputs) in [(1, 32), (2, 2), (5, 7), (32, 2), (32, 32), (64, 64)] {
        compare(&stencil, 3, inputs, outputs);
    }
    // A translation by the whole extent changes the sign: the convolution of −x is that of x, up to the bias.
    let mut rng = stream(6);
    let x = uniform(&[2, 24, 3], DType::F64, &mut rng);
    let w = uniform(&[27, 4], DType::F64, &mut rng);
    let zero = Tensor::zeros(4, DType::F64, &Device::Cpu).unwrap();
    let y = convolution(&x, &w, &zero, &stencil).unwrap();
    let negative = convolution(&x.neg().unwrap(), &w, &zero, &stencil).unwrap().neg().unwrap();
    assert!(deviation(&negative, &y) <= 1e-15);
}

#[test]
fn more_samples_than_tasks() {
    let stencil = square(4, 4, false);
    for batch in [64, 65, 130, 200] {
        compare(&stencil, batch, 4, 6);
    }
}

#[test]
fn large_volume() {
    compare(&square(24, 24, true), 2, 32, 32);
}

#[test]
fn an_empty_batch_gives_empty_output_and_zero_gradients() {
    let stencil = square(4, 4, false);
    let mut rng = stream(8);
    let w = Var::from_tensor(&uniform(&[18, 3], DType::F64, &mut rng)).unwrap();
    let b = Var::from_tensor(&uniform(&[3], DType::F64, &mut rng)).unwrap();
    let x = Tensor::zeros((0, 16, 2), DType::F64, &Device::Cpu).unwrap();
    let y = convolution(&x, &w, &b, &stencil).unwrap();
    assert_eq!(y.dims(), [0, 16, 3]);
    let grads = y.sum_all().unwrap().backward().unwrap();
    assert!(values(grads.get(&w).unwrap()).iter().chain(&values(grads.get(&b).unwrap())).all(|&g| g == 0.0));
}

#[test]
fn strided_arguments_are_read_correctly() {
    let stencil = square(4, 4, false);
    let mut rng = stream(9);
    let x = uniform(&[3, 5, 16], DType::F64, &mut rng).transpose(1, 2).unwrap();
    let w = uniform(&[6, 45], DType::F64, &mut rng).t().unwrap();
    let b = uniform(&[12], DType::F64, &mut rng).narrow(0, 3, 6).unwrap();
    let y = convolution(&x, &w, &b, &stencil).unwrap();
    assert!(deviation(&y, &by_definition(&x, &w, &b, &stencil)) <= 1e-12);
}

#[test]
fn gradients_do_not_depend_on_the_number_of_threads() {
    let stencil = square(4, 4, false);
    let run = |threads: usize| {
        let mut rng = stream(10);
        let x = uniform(&[130, 16, 5], DType::F32, &mut rng);
        let w = uniform(&[45, 20], DType::F32, &mut rng);
        let b = uniform(&[20], DType::F32, &mut rng);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let all =
            pool.install(|| pull_back(|a| convolution(&a[0], &a[1], &a[2], &stencil), &[&x, &w, &b], 2));
        all.iter().flat_map(values).map(f64::to_bits).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn misfits_are_errors_that_say_what_was_expected() {
    let stencil = square(4, 4, false);
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F64, &Device::Cpu).unwrap();
    let (x, w, b) = (zeros(&[2, 16, 3]), zeros(&[27, 5]), zeros(&[5]));
    assert!(convolution(&x, &w, &b, &stencil).is_ok());
    for (x, w, b) in [
        (&zeros(&[2, 15, 3]), &w, &b),
        (&zeros(&[2, 16, 4]), &w, &b),
        (&x, &zeros(&[26, 5]), &b),
        (&x, &w, &zeros(&[4])),
        (&x.to_dtype(DType::F32).unwrap(), &w, &b),
    ] {
        for f in [convolution, convolution_composed] {
            let error = f(x, w, b, &stencil).unwrap_err().to_string();
            assert!(error.contains("expected"), "{error}");
        }
    }
    let half = [x, w, b].map(|t| t.to_dtype(DType::F16).unwrap());
    let error = convolution(&half[0], &half[1], &half[2], &stencil).unwrap_err().to_string();
    assert!(error.contains("expected f32 or f64"), "{error}");
}

#[test]
fn stencils_must_be_permutations_with_signs() {
    let error = |neighbours: Vec<u32>, signs| Stencil::new(3, neighbours, signs).unwrap_err().to_string();
    assert!(error(vec![0, 1, 2, 0], None).contains("4 neighbours for 3 sites"));
    assert!(error(vec![0, 1, 1], None).contains("reads site 1 twice"));
    assert!(error(vec![0, 1, 3], None).contains("reads site 3 of 3"));
    assert!(error(vec![0, 1, 2], Some(vec![1, 1])).contains("2 signs"));
    assert!(error(vec![0, 1, 2], Some(vec![1, 0, 1])).contains("sign 0 of tap 0 at site 1"));
    assert!(Stencil::new(3, vec![2, 0, 1], Some(vec![1, 1, 1])).unwrap().signs().is_none());
}
