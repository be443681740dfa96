use super::*;
use candle_core::{DType, Device, Var};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

const CPU: Device = Device::Cpu;

/// (extents, configurations): lanes of configurations, of nodes, of both, with idle ones, and more than one block.
const CASES: [([usize; 4], usize); 6] = [
    ([2, 4, 2, 2], 8),
    ([2, 2, 2, 2], 19),
    ([2, 4, 6, 2], 5),
    ([4, 4, 2, 4], 1),
    ([2, 4, 4, 4], 2),
    ([2, 2, 2, 2], 1),
];

/// Links need not be unitary for anything here.
fn noise(seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let data: Vec<f64> = (0..shape.iter().product()).map(|_| rng.random_range(-0.5..0.5)).collect();
    Tensor::from_vec(data, shape, &CPU).unwrap()
}

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    let d = (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    d.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

struct Case {
    dims: [usize; 4],
    net: TransportNet,
    fields: [Tensor; 3],
}

fn case(dims: [usize; 4], batch: usize, hidden: &[usize]) -> Case {
    let volume: usize = dims.iter().product();
    let net = TransportNet::new(hidden).unwrap();
    let links = noise(1, &[batch, 4, volume, 3, 3, 2]);
    let psi = noise(2, &[batch, 2, 12 * volume]);
    let numbers = noise(3, &[batch, volume, net.coefficients()]);
    Case { dims, net, fields: [links, psi, numbers] }
}

/// One network in every layout, and networks of all shapes of tiles in one.
fn cases() -> Vec<Case> {
    let layouts = CASES.iter().map(|&(dims, batch)| case(dims, batch, &[3]));
    let nets = [&[][..], &[1, 4], &[4, 2, 5]].map(|hidden| case([2, 2, 2, 2], 11, hidden));
    layouts.chain(nets).collect()
}

fn f32s(fields: &[Tensor; 3]) -> [Tensor; 3] {
    fields.clone().map(|t| t.to_dtype(DType::F32).unwrap())
}

#[test]
fn the_network_is_the_composed_one_in_all_layouts_and_both_precisions() {
    for Case { dims, net, fields } in cases() {
        for antiperiodic in [true, false] {
            let [u, psi, k] = &fields;
            let packed = WilsonLinks::new(u, &dims, antiperiodic).unwrap();
            let got = net.forward(u, psi, k, &packed).unwrap();
            let expected = net.forward_composed(u, psi, k, &dims, antiperiodic).unwrap();
            let size = expected.sqr().unwrap().mean_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
            assert!(difference(&got, &expected) < 1e-13 * size.max(1.0) * 10.0, "{dims:?} {net:?}");
            let [u, psi, k] = &f32s(&fields);
            let packed = WilsonLinks::new(u, &dims, antiperiodic).unwrap();
            let got = net.forward(u, psi, k, &packed).unwrap().to_dtype(DType::F64).unwrap();
            assert!(difference(&got, &expected) < 1e-4 * size.max(1.0), "{dims:?} {net:?} f32");
        }
    }
}

#[test]
fn gradients_are_those_of_the_composed_network() {
    for Case { dims, net, fields } in cases() {
        let vars = fields.map(|t| Var::from_tensor(&t).unwrap());
        let [u, psi, k] = &vars;
        let weight = noise(4, psi.dims());
        let gradients = |y: Tensor| {
            let g = (y * &weight).unwrap().sum_all().unwrap().backward().unwrap();
            vars.each_ref().map(|v| g.get(v).unwrap().detach())
        };
        let packed = WilsonLinks::new(u, &dims, true).unwrap();
        let got = gradients(net.forward(u, psi, k, &packed).unwrap());
        let expected = gradients(net.forward_composed(u, psi, k, &dims, true).unwrap());
        for (name, (got, expected)) in ["links", "ψ", "numbers"].iter().zip(got.iter().zip(&expected)) {
            let size = expected.sqr().unwrap().mean_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
            assert!(difference(got, expected) < 1e-12 * size.max(1.0), "{name} on {dims:?} with {net:?}");
        }
    }
}

#[test]
fn gradients_are_finite_differences() {
    let Case { dims, net, fields } = case([2, 2, 2, 4], 3, &[2, 2]);
    let weight = noise(4, fields[1].dims());
    let value = |[u, psi, k]: &[Tensor; 3]| {
        let packed = WilsonLinks::new(u, &dims, true).unwrap();
        (net.forward(u, psi, k, &packed).unwrap() * &weight).unwrap().sum_all().unwrap()
    };
    let vars = fields.clone().map(|t| Var::from_tensor(&t).unwrap());
    let gradients = value(&vars.each_ref().map(|v| v.as_tensor().clone())).backward().unwrap();
    for (n, name) in ["links", "ψ", "numbers"].into_iter().enumerate() {
        let direction = noise(10 + n as u64, fields[n].dims());
        let at = |h: f64| {
            let mut moved = fields.clone();
            moved[n] = (&moved[n] + (&direction * h).unwrap()).unwrap();
            value(&moved).to_scalar::<f64>().unwrap()
        };
        let along = (gradients.get(&vars[n]).unwrap() * &direction).unwrap().sum_all().unwrap();
        let along = along.to_scalar::<f64>().unwrap();
        let difference = (at(1e-4) - at(-1e-4)) / 2e-4;
        assert!(
            (along - difference).abs() < 1e-6 * along.abs() && along.abs() > 0.1,
            "{name}: {along} {difference}"
        );
    }
}

#[test]
fn one_layer_with_the_numbers_of_the_hop_is_the_hop() {
    let dims = [2, 4, 2, 4];
    let net = TransportNet::new(&[]).unwrap();
    let links = noise(5, &[3, 4, 64, 3, 3, 2]);
    let psi = noise(6, &[3, 2, 12 * 64]);
    let mut numbers = vec![0.0; net.coefficients()];
    for mu in 0..4 {
        for (forwards, sign) in [(true, -1.0), (false, 1.0)] {
            let [b, c] = net.layers()[0].hop(0, 0, mu, forwards);
            (numbers[b], numbers[c]) = (1.0, sign);
        }
    }
    let numbers = Tensor::from_vec(numbers, (1, 1, 17), &CPU).unwrap().broadcast_as((3, 64, 17)).unwrap();
    let packed = WilsonLinks::new(&links, &dims, true).unwrap();
    let got = net.forward(&links, &psi, &numbers, &packed).unwrap();
    let all = crate::wilson::Sites::All;
    let expected = crate::wilson::wilson_hop(&links, &psi, &packed, all, false).unwrap();
    assert!(difference(&got, &expected) < 1e-13);
}

#[test]
fn what_does_not_fit_is_refused() {
    let net = TransportNet::new(&[2]).unwrap();
    assert!(TransportNet::new(&[2, 0]).is_err());
    let links = noise(7, &[1, 4, 16, 3, 3, 2]);
    let packed = WilsonLinks::new(&links, &[2, 2, 2, 2], true).unwrap();
    let psi = noise(8, &[1, 2, 192]);
    let numbers = noise(9, &[1, 16, net.coefficients()]);
    assert!(net.forward(&links, &psi, &numbers, &packed).is_ok());
    assert!(net.forward(&links, &psi, &numbers.narrow(2, 0, 17).unwrap(), &packed).is_err());
    assert!(net.forward(&links, &psi.narrow(2, 0, 96).unwrap(), &numbers, &packed).is_err());
    let single = psi.to_dtype(DType::F32).unwrap();
    assert!(net.forward(&links, &single, &numbers, &packed).is_err());
}
