//! The network as one op against the same network layer by layer, and its gradients against finite differences.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{deviation, pull_back, square, stream, uniform, values};
use latflow_kernels::{Activation, ConvNet, Stencil};

const LEAKY: Activation = Activation::LeakyRelu(0.01);

fn arguments(net: &ConvNet, batch: usize, dtype: DType, seed: u64) -> (Tensor, Tensor) {
    let mut rng = stream(seed);
    let x = uniform(&[batch, net.volume(), net.inputs()], dtype, &mut rng);
    let theta = uniform(&[net.parameter_count()], dtype, &mut rng).affine(0.3, 0.0).unwrap();
    (x, theta)
}

fn compare(stencil: Stencil, channels: &[usize], hidden: Activation, last: Activation, batch: usize) {
    let net = ConvNet::new(stencil, channels, hidden, last).unwrap();
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5)] {
        let (x, theta) = arguments(&net, batch, dtype, 1);
        let fused = pull_back(|a| net.forward(&a[0], &a[1]), &[&x, &theta], 2);
        let composed = pull_back(|a| net.forward_composed(&a[0], &a[1]), &[&x, &theta], 2);
        for (k, what) in ["y", "dx", "dtheta"].into_iter().enumerate() {
            let error = deviation(&fused[k], &composed[k]);
            assert!(
                error <= tolerance,
                "{what}: {error:e} for {dtype:?}, {channels:?}, {hidden:?}, {last:?}"
            );
        }
    }
}

#[test]
fn fused_agrees_with_composed() {
    for antiperiodic in [false, true] {
        for channels in [&[1, 32, 32, 2][..], &[2, 16, 3], &[3, 5], &[1, 8, 1, 40, 2], &[5, 33, 70, 17]] {
            for (hidden, last) in [
                (LEAKY, Activation::Identity),
                (Activation::Tanh, Activation::Tanh),
                (Activation::Identity, Activation::LeakyRelu(0.3)),
            ] {
                compare(square(4, 6, antiperiodic), channels, hidden, last, 3);
            }
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    for antiperiodic in [false, true] {
        let net =
            ConvNet::new(square(4, 3, antiperiodic), &[2, 17, 9, 3], Activation::Tanh, Activation::Tanh)
                .unwrap();
        let (x, theta) = arguments(&net, 2, DType::F64, 3);
        let mut rng = stream(4);
        let (dx, dtheta) =
            (uniform(x.dims(), DType::F64, &mut rng), uniform(theta.dims(), DType::F64, &mut rng));
        let g = uniform(&[2, 12, 3], DType::F64, &mut rng);
        let loss = |h: f64| {
            let x = (&x + dx.affine(h, 0.0).unwrap()).unwrap();
            let theta = (&theta + dtheta.affine(h, 0.0).unwrap()).unwrap();
            let y = net.forward(&x, &theta).unwrap();
            (y * &g).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap()
        };
        let h = 1e-4;
        let difference = (8.0 * (loss(h) - loss(-h)) - (loss(2.0 * h) - loss(-2.0 * h))) / (12.0 * h);

        let (vx, vt) = (Var::from_tensor(&x).unwrap(), Var::from_tensor(&theta).unwrap());
        let y = net.forward(&vx, &vt).unwrap();
        let grads = (y * &g).unwrap().sum_all().unwrap().backward().unwrap();
        let along =
            |grad: &Tensor, d: &Tensor| (grad * d).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
        let directional = along(grads.get(&vx).unwrap(), &dx) + along(grads.get(&vt).unwrap(), &dtheta);
        let error = (difference - directional).abs() / directional.abs();
        assert!(error <= 1e-8, "finite difference {difference}, gradient {directional}: {error:e}");
    }
}

#[test]
fn untracked_arguments_get_no_gradient_and_change_none() {
    let net = ConvNet::new(square(4, 4, false), &[1, 16, 2], LEAKY, Activation::Identity).unwrap();
    let (x, theta) = arguments(&net, 3, DType::F64, 5);
    let both = pull_back(|a| net.forward(&a[0], &a[1]), &[&x, &theta], 6);
    let only_x = pull_back(|a| net.forward(&a[0], &theta), &[&x], 6);
    let only_theta = pull_back(|a| net.forward(&x, &a[0]), &[&theta], 6);
    assert_eq!(values(&both[1]), values(&only_x[1]));
    assert_eq!(values(&both[2]), values(&only_theta[1]));
    assert!(!net.forward(&x, &theta).unwrap().track_op());
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let net = ConvNet::new(square(6, 6, true), &[1, 32, 20, 2], LEAKY, Activation::Tanh).unwrap();
    for batch in [1, 3, 100] {
        let run = |threads: usize| {
            let (x, theta) = arguments(&net, batch, DType::F32, 7);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let all = pool.install(|| pull_back(|a| net.forward(&a[0], &a[1]), &[&x, &theta], 8));
            all.iter().flat_map(values).map(f64::to_bits).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(3), "batch {batch}");
    }
}

#[test]
fn layer_ranges_tile_theta() {
    let net = ConvNet::new(square(4, 4, false), &[1, 32, 2], LEAKY, Activation::Identity).unwrap();
    let layers = net.layer_ranges();
    assert_eq!((layers[0].weight.clone(), layers[0].bias.clone()), (0..288, 288..320));
    assert_eq!((layers[1].weight.clone(), layers[1].bias.clone()), (320..896, 896..898));
    assert_eq!((layers[1].fan_in, layers[1].inputs, layers[1].outputs), (288, 32, 2));
    assert_eq!(net.parameter_count(), 898);
    assert_eq!(net.flops_forward(10), 2.0 * (288.0 + 576.0) * 160.0);
}

#[test]
fn misfits_are_errors() {
    let stencil = square(4, 4, false);
    let new = |channels: &[usize], slope| {
        ConvNet::new(stencil.clone(), channels, Activation::LeakyRelu(slope), Activation::Identity)
    };
    assert!(new(&[3], 0.1).is_err() && new(&[3, 0, 1], 0.1).is_err());
    assert!(new(&[3, 1], -0.1).is_err() && new(&[3, 1], f64::NAN).is_err());
    let net = new(&[3, 4, 1], 0.1).unwrap();
    let (x, theta) = arguments(&net, 2, DType::F64, 9);
    assert!(net.forward(&x, &theta).is_ok());
    assert!(net.forward(&x.narrow(1, 0, 15).unwrap(), &theta).is_err());
    assert!(net.forward(&x.narrow(2, 0, 2).unwrap(), &theta).is_err());
    assert!(net.forward(&x, &theta.narrow(0, 1, 3).unwrap()).is_err());
    assert!(net.forward(&x.to_dtype(DType::F32).unwrap(), &theta).is_err());
    let nothing = Tensor::zeros((0, 16, 3), DType::F64, &Device::Cpu).unwrap();
    assert_eq!(net.forward(&nothing, &theta).unwrap().dims(), [0, 16, 1]);
}
