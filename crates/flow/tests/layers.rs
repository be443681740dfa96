//! Contract table of the flow layers: inverse, dense Jacobian with initial, random and trained weights, symmetries.
//!
//! A new layer is one row of [`rows`].

mod common;

use candle_core::{DType, Device, Tensor};
use common::{noise, scramble};
use latflow_action::{DeterminantAction, Exact, Phi4, Sum};
use latflow_fermion::{DenseYukawa, StaggeredYukawa};
use latflow_flow::check::{log_det_defect, round_trip_defect};
use latflow_flow::potential::{ConvexFlow, ConvexPotential, LogDet, NewtonCg, PotentialShape};
use latflow_flow::train::{Clip, Schedule, Trainer};
use latflow_flow::{
    Activation, AffineCoupling, Bijection, Chain, CubicRoot, ExponentialConvolution, FlowModel, Gaussian,
    NetShape, ParamStore,
};
use latflow_lattice::check::equivariance_defect;
use latflow_lattice::{Boundary, Lattice, Parity, Streams};

const CPU: Device = Device::Cpu;

type Build = fn(&mut ParamStore, &Lattice) -> Box<dyn Bijection<Tensor>>;

struct Row {
    name: &'static str,
    build: Build,
    /// Shift under which the layer must be equivariant, per direction.
    shift: isize,
    /// f(−z) = −f(z).
    odd: bool,
}

fn net(activation: Activation, hidden: &[usize]) -> NetShape {
    NetShape { hidden: hidden.to_vec(), kernel: 3, activation, final_activation: Activation::Identity }
}

fn rows() -> Vec<Row> {
    fn coupling(
        store: &mut ParamStore,
        lattice: &Lattice,
        parity: Parity,
        shape: &NetShape,
    ) -> AffineCoupling {
        AffineCoupling::new(store, &format!("coupling {parity:?}"), lattice, parity, shape).unwrap()
    }
    vec![
        Row {
            name: "affine coupling, even active, leaky ReLU",
            build: |s, l| Box::new(coupling(s, l, Parity::Even, &net(Activation::LeakyRelu(0.01), &[8, 4]))),
            shift: 2,
            odd: false,
        },
        Row {
            name: "affine coupling, odd active, tanh",
            build: |s, l| Box::new(coupling(s, l, Parity::Odd, &net(Activation::Tanh, &[5]))),
            shift: 2,
            odd: false,
        },
        Row {
            name: "cubic root",
            build: |s, _| Box::new(CubicRoot::new(s, "cubic", 0.5).unwrap()),
            shift: 1,
            odd: true,
        },
        Row {
            name: "exponential convolution, short",
            build: |s, l| Box::new(ExponentialConvolution::new(s, "linear", l, 1).unwrap()),
            shift: 1,
            odd: true,
        },
        Row {
            name: "exponential convolution, whole lattice",
            build: |s, l| Box::new(ExponentialConvolution::new(s, "linear", l, 100).unwrap()),
            shift: 1,
            odd: true,
        },
        Row {
            name: "convex potential",
            build: |s, l| {
                let shape = PotentialShape {
                    channels: 4,
                    nonlinear: 0.5,
                    quadratic: 0.8,
                    ..PotentialShape::default()
                };
                let potential = ConvexPotential::new(s, "u", l, &shape).unwrap();
                Box::new(ConvexFlow::new(potential, LogDet::exact(), NewtonCg::default()).unwrap())
            },
            shift: 1,
            odd: false,
        },
        Row {
            name: "chain",
            build: |s, l| {
                Box::new(Chain::new(
                    Box::new(ExponentialConvolution::new(s, "a", l, 2).unwrap()),
                    vec![
                        Box::new(CubicRoot::new(s, "b", 0.5).unwrap()),
                        Box::new(coupling(s, l, Parity::Even, &net(Activation::LeakyRelu(0.01), &[4]))),
                        Box::new(coupling(s, l, Parity::Odd, &net(Activation::LeakyRelu(0.01), &[4]))),
                    ],
                ))
            },
            shift: 2,
            odd: false,
        },
    ]
}

fn check(name: &str, layer: &dyn Bijection<Tensor>, volume: usize) {
    let z = noise(1, &[3, volume], 0.5);
    let defect = round_trip_defect(layer, &z, &()).unwrap();
    assert!(defect < 1e-11, "{name}: round trip {defect:e}");
    let defect = log_det_defect(layer, &z, &()).unwrap();
    assert!(defect < 1e-9, "{name}: log-determinant {defect:e}");
}

#[test]
fn every_layer_is_invertible_with_the_determinant_it_reports() {
    let lattice = Lattice::new(&[4, 6]).unwrap();
    for row in rows() {
        let mut store = ParamStore::new(Streams::new(2), DType::F64, &CPU);
        let layer = (row.build)(&mut store, &lattice);
        check(row.name, layer.as_ref(), lattice.volume());
        scramble(&store, 0.1);
        check(row.name, layer.as_ref(), lattice.volume());
    }
}

#[test]
fn every_layer_is_exact_with_a_single_precision_network() {
    // The field is f64: the inverse sees the same frozen sites, so it undoes the map to rounding even with f32 parameters.
    let lattice = Lattice::new(&[4, 4]).unwrap();
    for row in rows() {
        let mut store = ParamStore::new(Streams::new(3), DType::F32, &CPU);
        let layer = (row.build)(&mut store, &lattice);
        scramble(&store, 0.1);
        let defect = round_trip_defect(layer.as_ref(), &noise(4, &[5, 16], 0.5), &()).unwrap();
        assert!(defect < 1e-11, "{}: {defect:e}", row.name);
    }
}

#[test]
fn every_layer_keeps_its_symmetries() {
    let lattice = Lattice::new(&[4, 6]).unwrap();
    for row in rows() {
        let mut store = ParamStore::new(Streams::new(5), DType::F64, &CPU);
        let layer = (row.build)(&mut store, &lattice);
        scramble(&store, 0.1);
        let z = noise(6, &[2, 24], 0.5);
        let forward = |x: &Tensor| Ok(layer.forward(x, &()).unwrap().0);
        for shift in [[row.shift, 0], [0, row.shift]] {
            let defect = equivariance_defect(&lattice, forward, &z, &shift, Boundary::Periodic).unwrap();
            assert!(defect < 1e-12, "{}: translation by {shift:?} {defect:e}", row.name);
        }
        let (x, log_det) = layer.forward(&z, &()).unwrap();
        let (minus, log_det_minus) = layer.forward(&z.neg().unwrap(), &()).unwrap();
        let defect = (x + minus).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
        let change =
            (log_det - log_det_minus).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
        assert_eq!(row.odd, defect.max(change) < 1e-12, "{}: odd part {defect:e}", row.name);
    }
}

#[test]
fn a_trained_model_still_reports_its_dense_jacobian() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let phi4 = Phi4::new(&lattice, -4.0, 6.0).unwrap();
    let dirac = StaggeredYukawa::new(&lattice, 0.0, 0.3, Boundary::Antiperiodic).unwrap();
    let target = Exact(Sum(phi4, DeterminantAction(DenseYukawa::even_odd(&dirac).unwrap())));
    let mut store = ParamStore::new(Streams::new(7), DType::F64, &CPU);
    let flow = (rows().pop().unwrap().build)(&mut store, &lattice);
    let model = FlowModel { prior: Gaussian::new(0.5, 16, &CPU).unwrap(), flow: Chain::new(flow, vec![]) };
    let schedule = Schedule::new(&[(0, 2e-2)]).unwrap();
    let mut trainer =
        Trainer::new(&store, schedule, Clip { value: 10.0, norm: 100.0 }, 128, Streams::new(8)).unwrap();
    let losses: Vec<f64> = (0..150).map(|_| trainer.step(&model, &target, &store).unwrap().loss).collect();
    let mean = |l: &[f64]| l.iter().sum::<f64>() / l.len() as f64;
    assert!(mean(&losses[130..]) < mean(&losses[..10]) - 1.0, "training did not help");
    check("trained chain", &model.flow, 16);
}

#[test]
fn couplings_leave_the_frozen_sites_alone() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let mut store = ParamStore::new(Streams::new(9), DType::F64, &CPU);
    let layer =
        AffineCoupling::new(&mut store, "c", &lattice, Parity::Odd, &net(Activation::Tanh, &[4])).unwrap();
    scramble(&store, 0.3);
    let z = noise(10, &[1, 16], 1.0);
    let (x, _) = layer.forward(&z, &()).unwrap();
    let (x, z) = (x.to_vec2::<f64>().unwrap(), z.to_vec2::<f64>().unwrap());
    for site in 0..16 {
        assert_eq!(x[0][site] == z[0][site], lattice.parity(site) == Parity::Even, "site {site}");
    }
}

#[test]
fn an_exponential_convolution_transfers_between_volumes() {
    // On a configuration that repeats with the small lattice's period, the large lattice must do the same.
    let (small, large) = (Lattice::new(&[4, 4]).unwrap(), Lattice::new(&[8, 8]).unwrap());
    let mut stores = [(); 2].map(|()| ParamStore::new(Streams::new(11), DType::F64, &CPU));
    let on_small = ExponentialConvolution::new(&mut stores[0], "l", &small, 1).unwrap();
    let on_large = ExponentialConvolution::new(&mut stores[1], "l", &large, 1).unwrap();
    scramble(&stores[0], 0.2);
    stores[1].restore(&stores[0].snapshot().unwrap()).unwrap();
    let z = noise(12, &[1, 16], 1.0).to_vec2::<f64>().unwrap().remove(0);
    let tiled: Vec<f64> =
        (0..64).map(|s| large.coordinates(s)).map(|x| z[small.site(&[x[0] % 4, x[1] % 4])]).collect();
    let run = |layer: &ExponentialConvolution, z: Vec<f64>| {
        let n = z.len();
        layer.forward(&Tensor::from_vec(z, (1, n), &CPU).unwrap(), &()).unwrap()
    };
    let (a, det_a) = run(&on_small, z);
    let (b, det_b) = run(&on_large, tiled);
    let (a, b) = (a.to_vec2::<f64>().unwrap().remove(0), b.to_vec2::<f64>().unwrap().remove(0));
    for (s, b) in b.iter().enumerate() {
        let x = large.coordinates(s);
        assert!((b - a[small.site(&[x[0] % 4, x[1] % 4])]).abs() < 1e-13);
    }
    let ratio = (det_b / det_a).unwrap().to_vec1::<f64>().unwrap()[0];
    assert!((ratio - 4.0).abs() < 1e-12, "the log-determinant grows with the volume: {ratio}");
}
