//! Separable networks and outputs at chosen sites: against the same layers one by one, the formula, and finite differences.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{deviation, directions, pull_back, shuffled, square, stream, uniform, values};
use latflow_kernels::{Activation, ConvNet, Stencil};
use rand::Rng;

const LEAKY: Activation = Activation::LeakyRelu(0.01);

fn arguments(net: &ConvNet, batch: usize, dtype: DType, seed: u64) -> (Tensor, Tensor) {
    let mut rng = stream(seed);
    let x = uniform(&[batch, net.volume(), net.inputs()], dtype, &mut rng);
    let mut theta = Vec::new();
    for layer in net.layer_ranges() {
        // Every layer about as large as its input.
        let scale = (3.0 / layer.fan_in as f64).sqrt();
        theta.push(uniform(&[layer.weight.len()], DType::F64, &mut rng).affine(scale, 0.0).unwrap());
        theta.push(uniform(&[layer.bias.len()], DType::F64, &mut rng));
    }
    (x, Tensor::cat(&theta, 0).unwrap().to_dtype(dtype).unwrap())
}

fn compare(net: &ConvNet, batch: usize, what: &str) {
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5)] {
        let (x, theta) = arguments(net, batch, dtype, 1);
        let fused = pull_back(|a| net.forward(&a[0], &a[1]), &[&x, &theta], 2);
        let composed = pull_back(|a| net.forward_composed(&a[0], &a[1]), &[&x, &theta], 2);
        let [sites, outputs] = net.output_shape();
        assert_eq!(fused[0].dims(), [batch, sites, outputs]);
        for (k, of) in ["y", "dx", "dtheta"].into_iter().enumerate() {
            let error = deviation(&fused[k], &composed[k]);
            assert!(error <= tolerance, "{of}: {error:e} for {dtype:?}, {what}");
        }
    }
}

fn separable(dims: &[usize], kernel: usize, channels: &[usize], last: Activation) -> ConvNet {
    ConvNet::separable(&directions(dims, kernel), channels, LEAKY, last).unwrap()
}

/// The sites of one class of a width-4 mask: Σ_k s_k x_k = 0 mod 4.
fn mask(dims: &[usize], shifts: &[usize]) -> Vec<u32> {
    let volume: usize = dims.iter().product();
    let phase = |site: usize| {
        let mut rest = site;
        let mut phase = 0;
        for (l, s) in dims.iter().zip(shifts).rev() {
            phase += rest % l * s;
            rest /= l;
        }
        phase % 4
    };
    (0..volume).filter(|&s| phase(s) == 0).map(|s| s as u32).collect()
}

#[test]
fn one_block_is_one_sum_a_direction() {
    let (dims, channels) = ([4, 6, 3], [2, 5]);
    let net = separable(&dims, 3, &channels, Activation::Identity);
    let (x, theta) = arguments(&net, 2, DType::F64, 3);
    let got = values(&net.forward(&x, &theta).unwrap());
    let (theta, volume) = (values(&theta), 72);
    let site = |x: [usize; 3]| (x[0] * 6 + x[1]) * 3 + x[2];
    let mut h = values(&x);
    let mut start = 0;
    for direction in 0..3 {
        let inputs = if direction == 0 { 2 } else { 5 };
        let mut y = vec![0.0; 2 * volume * 5];
        for (b, at) in (0..2).flat_map(|b| (0..volume).map(move |s| (b, [s / 18, s / 3 % 6, s % 3]))) {
            for (o, tap, i) in (0..5).flat_map(|o| (0..3 * inputs).map(move |k| (o, k / inputs, k % inputs)))
            {
                let mut from = at;
                from[direction] = (at[direction] + tap + dims[direction] - 1) % dims[direction];
                let w = theta[start + (tap * inputs + i) * 5 + o];
                y[(b * volume + site(at)) * 5 + o] += w * h[(b * volume + site(from)) * inputs + i];
            }
        }
        start += 3 * inputs * 5;
        h = y;
    }
    for (k, y) in h.iter_mut().enumerate() {
        *y += theta[start + k % 5];
        assert!((*y - got[k]).abs() <= 1e-13, "{k}: {y} {}", got[k]);
    }
    assert_eq!(start + 5, theta.len());
}

#[test]
fn fused_agrees_with_composed() {
    let none = Activation::Identity;
    compare(&separable(&[4, 4, 4, 4], 3, &[12, 32, 32, 49], none), 2, "the gauge flow's");
    compare(&separable(&[4, 4, 4, 4], 3, &[6, 8, 8], Activation::Tanh), 3, "the context's");
    compare(&separable(&[4, 4, 6, 8], 3, &[5, 17, 3], none), 1, "of unequal extents");
    compare(&separable(&[4, 6], 3, &[4, 33, 6], Activation::Tanh), 5, "in two dimensions");
    compare(&separable(&[8], 5, &[3, 20, 1], none), 4, "in one dimension, five taps");
    compare(&separable(&[4], 3, &[70, 4], none), 20, "of one line");
    let mut rng = stream(5);
    let mixed = [square(4, 4, true), shuffled(2, 16, true, &mut rng), square(4, 4, false)];
    let mixed = ConvNet::separable(&mixed, &[3, 9, 20, 2], LEAKY, Activation::Tanh).unwrap();
    compare(&mixed, 3, "of stencils with and without signs");
}

#[test]
fn random_networks_agree_with_composed() {
    let mut rng = stream(11);
    for case in 0..60 {
        let ndim = rng.random_range(1..=4);
        let dims: Vec<usize> = (0..ndim).map(|_| [3, 4, 4, 6][rng.random_range(0..4)]).collect();
        let mut order: Vec<usize> = (0..ndim).collect();
        order.rotate_left(rng.random_range(0..ndim));
        let all = directions(&dims, 3);
        let stencils: Vec<Stencil> = order.iter().map(|&k| all[k].clone()).collect();
        let layers = rng.random_range(1..=3);
        let channels: Vec<usize> = (0..=layers).map(|_| rng.random_range(1..=40)).collect();
        let activation = [LEAKY, Activation::Tanh, Activation::Elu][rng.random_range(0..3)];
        let mut net = ConvNet::separable(&stencils, &channels, activation, activation).unwrap();
        let volume = net.volume();
        let wanted = rng.random_range(0..=volume.min(80));
        let sites: Vec<u32> = (0..wanted).map(|_| rng.random_range(0..volume) as u32).collect();
        if wanted > 0 {
            net = net.at(&sites).unwrap();
        }
        let batch = rng.random_range(1..=3);
        compare(&net, batch, &format!("case {case}: {dims:?}, {channels:?}, {activation:?}, {wanted} sites"));
    }
}

#[test]
fn output_at_sites_is_the_whole_output_there() {
    let dims = [4, 4, 4, 4];
    for shifts in [[1, 2, 1, 1], [2, 1, 1, 1], [1, 1, 1, 2]] {
        let sites = mask(&dims, &shifts);
        assert_eq!(sites.len(), 64);
        let all = separable(&dims, 3, &[12, 32, 49], Activation::Identity);
        let some = all.at(&sites).unwrap();
        compare(&some, 2, "at the sites of a mask");
        let (x, theta) = arguments(&all, 2, DType::F64, 4);
        let index = Tensor::new(&sites[..], &Device::Cpu).unwrap();
        let expected = all.forward(&x, &theta).unwrap().index_select(&index, 1).unwrap();
        assert!(deviation(&some.forward(&x, &theta).unwrap(), &expected) <= 1e-13);
    }
    // Other stencils, repeated sites, and few outputs.
    let mut rng = stream(6);
    for stencil in [square(4, 6, true), square(4, 6, false), shuffled(11, 24, true, &mut rng)] {
        for channels in [&[2, 17, 3][..], &[5, 33], &[1, 40, 50]] {
            let net = ConvNet::new(stencil.clone(), channels, LEAKY, Activation::Tanh).unwrap();
            compare(&net.at(&[23, 0, 5, 5, 11]).unwrap(), 3, "at five sites");
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let all = ConvNet::separable(&directions(&[4, 4, 3], 3), &[5, 9, 18], Activation::Tanh, Activation::Tanh);
    let all = all.unwrap();
    for net in [all.clone(), all.at(&[1, 7, 20, 47]).unwrap()] {
        let (x, theta) = arguments(&net, 2, DType::F64, 3);
        let mut rng = stream(4);
        let (dx, dtheta) =
            (uniform(x.dims(), DType::F64, &mut rng), uniform(theta.dims(), DType::F64, &mut rng));
        let [sites, outputs] = net.output_shape();
        let g = uniform(&[2, sites, outputs], DType::F64, &mut rng);
        let loss = |h: f64| {
            let x = (&x + dx.affine(h, 0.0).unwrap()).unwrap();
            let theta = (&theta + dtheta.affine(h, 0.0).unwrap()).unwrap();
            (net.forward(&x, &theta).unwrap() * &g).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap()
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
        assert!(error <= 1e-7, "finite difference {difference}, gradient {directional}: {error:e}");
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let net = separable(&[4, 4, 4], 3, &[6, 32, 49], Activation::Tanh).at(&[3, 9, 40]).unwrap();
    for batch in [1, 3, 70] {
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
fn ranges_tile_theta_and_count_operations() {
    let net = separable(&[4, 4, 4, 4], 3, &[12, 32, 49], Activation::Identity);
    let layers = net.layer_ranges();
    assert_eq!(layers.len(), 8);
    assert_eq!((layers[0].weight.clone(), layers[0].bias.clone()), (0..1_152, 1_152..1_152));
    assert_eq!((layers[3].weight.clone(), layers[3].bias.clone()), (7_296..10_368, 10_368..10_400));
    assert_eq!((layers[4].fan_in, layers[4].fan_out), (96, 147));
    assert!(layers.windows(2).all(|l| l[0].bias.end == l[1].weight.start));
    assert_eq!(net.parameter_count(), layers[7].bias.end);
    let weights: usize = layers.iter().map(|l| l.weight.len()).sum();
    assert_eq!(net.flops_forward(3), 2.0 * (weights * 256 * 3) as f64);
    let some = net.at(&[0, 1]).unwrap();
    assert_eq!(some.flops_forward(3), 2.0 * ((weights - 147 * 49) * 256 + 147 * 49 * 2) as f64 * 3.0);
    assert_eq!((some.output_shape(), net.output_shape()), ([2, 49], [256, 49]));
}

#[test]
fn misfits_are_errors() {
    let stencils = directions(&[4, 4], 3);
    let new = |stencils: &[Stencil]| ConvNet::separable(stencils, &[3, 4], LEAKY, LEAKY);
    assert!(new(&[]).is_err());
    assert!(new(&[stencils[0].clone(), directions(&[4, 6], 3)[0].clone()]).is_err());
    let net = new(&stencils).unwrap();
    assert!(net.at(&[]).is_err() && net.at(&[16]).is_err());
    let (x, theta) = arguments(&net, 2, DType::F64, 9);
    assert!(net.forward(&x.narrow(1, 0, 15).unwrap(), &theta).is_err());
    assert!(net.forward(&x, &theta.narrow(0, 1, 3).unwrap()).is_err());
    let nothing = Tensor::zeros((0, 16, 3), DType::F64, &Device::Cpu).unwrap();
    assert_eq!(net.at(&[5]).unwrap().forward(&nothing, &theta).unwrap().dims(), [0, 1, 4]);
}
