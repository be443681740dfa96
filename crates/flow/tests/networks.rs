//! Networks of P- and AP-fields: symmetries, the average against its definition, what cannot be built.

mod common;

use candle_core::{DType, Device, Tensor};
use candle_nn::Module;
use common::{noise, scramble};
use latflow_flow::{
    Activation, ApShape, Architecture, AverageShape, Channels, ContextNet, Error, FieldNetwork, Fields,
    NetShape, ParamStore, Squeeze,
};
use latflow_lattice::check::max_difference;
use latflow_lattice::{Boundary, Lattice, Streams};

const CPU: Device = Device::Cpu;
const BOTH: Channels = Channels { periodic: 1, antiperiodic: 2 };

fn store() -> ParamStore {
    ParamStore::new(Streams::new(1), DType::F64, &CPU)
}

fn shape(squeeze: Option<usize>) -> ApShape {
    ApShape { squeeze, hidden: vec![3, 2], kernel: 3, slope: 0.1, final_activation: Activation::Tanh }
}

fn net() -> NetShape {
    let (activation, final_activation) = (Activation::LeakyRelu(0.1), Activation::Tanh);
    NetShape { hidden: vec![4], kernel: 3, activation, final_activation }
}

fn average(step: usize, squeeze: Option<usize>) -> Architecture {
    Architecture::GroupAverage(AverageShape { squeeze, net: net(), step })
}

fn inputs(lattice: &Lattice) -> Fields {
    let v = lattice.volume();
    Fields { periodic: Some(noise(2, &[2, v, 1], 1.0)), antiperiodic: Some(noise(3, &[2, v, 2], 1.0)) }
}

fn translate(lattice: &Lattice, x: &Tensor, by: &[isize], boundary: Boundary) -> Tensor {
    let moved = lattice.translate(&x.transpose(1, 2).unwrap(), by, boundary).unwrap();
    moved.transpose(1, 2).unwrap().contiguous().unwrap()
}

fn move_both(lattice: &Lattice, fields: &Fields, by: &[isize]) -> Fields {
    let field = |x: &Option<Tensor>, boundary| x.as_ref().map(|x| translate(lattice, x, by, boundary));
    Fields {
        periodic: field(&fields.periodic, Boundary::Periodic),
        antiperiodic: field(&fields.antiperiodic, Boundary::Antiperiodic),
    }
}

fn difference(a: &Fields, b: &Fields) -> f64 {
    let pairs = [(&a.periodic, &b.periodic), (&a.antiperiodic, &b.antiperiodic)];
    pairs
        .into_iter()
        .map(|(a, b)| a.as_ref().zip(b.as_ref()).map_or(0.0, |(a, b)| max_difference(a, b).unwrap()))
        .fold(0.0, f64::max)
}

fn defect(net: &dyn FieldNetwork, lattice: &Lattice, by: &[isize]) -> f64 {
    let x = inputs(lattice);
    let moved = net.forward(&move_both(lattice, &x, by)).unwrap();
    difference(&moved, &move_both(lattice, &net.forward(&x).unwrap(), by))
}

#[test]
fn networks_know_all_translations_in_space_and_twice_around_in_time() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    for architecture in [Architecture::Convolutions(shape(None)), average(1, None)] {
        let mut store = store();
        let net = architecture.build(&mut store, "net", &lattice, BOTH, BOTH).unwrap();
        scramble(&store, 0.3);
        let out = net.forward(&inputs(&lattice)).unwrap();
        assert!(max_difference(out.periodic.as_ref().unwrap(), &noise(9, &[2, 16, 1], 0.0)).unwrap() > 0.05);
        assert!(
            max_difference(out.antiperiodic.as_ref().unwrap(), &noise(9, &[2, 16, 2], 0.0)).unwrap() > 0.05
        );
        for (x, t) in (0..4).flat_map(|x| (0..8).map(move |t| (x, t))) {
            let d = defect(net.as_ref(), &lattice, &[x, t]);
            assert!(d < 1e-12, "{architecture:?}: translation by ({x}, {t}) {d:e}");
        }
    }
}

#[test]
fn squeezing_and_coarse_averages_break_odd_translations_only() {
    let lattice = Lattice::new(&[4, 6]).unwrap();
    type Shifts = &'static [[isize; 2]];
    let cases: [(Architecture, Shifts, Shifts); 3] = [
        (Architecture::Convolutions(shape(Some(2))), &[[2, 0], [0, 1], [0, 6]], &[[1, 0], [3, 2]]),
        (average(2, None), &[[1, 0], [0, 2], [0, 6]], &[[0, 1], [0, 3]]),
        (average(2, Some(3)), &[[2, 0], [0, 2], [2, 4]], &[[0, 1], [1, 0], [1, 1]]),
    ];
    for (architecture, keeps, breaks) in cases {
        let mut store = store();
        let net = architecture.build(&mut store, "net", &lattice, BOTH, BOTH).unwrap();
        scramble(&store, 0.3);
        for by in keeps {
            let d = defect(net.as_ref(), &lattice, by);
            assert!(d < 1e-12, "{architecture:?}: translation by {by:?} {d:e}");
        }
        for by in breaks {
            let d = defect(net.as_ref(), &lattice, by);
            assert!(d > 1e-3, "{architecture:?}: translation by {by:?} is kept, {d:e}");
        }
    }
}

#[test]
fn the_average_is_its_definition() {
    let lattice = Lattice::new(&[4, 6]).unwrap();
    for step in [1, 2, 3] {
        let mut stores = [store(), store()];
        let averaged = average(step, None).build(&mut stores[0], "f", &lattice, BOTH, BOTH).unwrap();
        let f = ContextNet::new(&mut stores[1], "f/net", &lattice, 3, 3, &net()).unwrap();
        stores.iter().for_each(|store| scramble(store, 0.3));
        let x = inputs(&lattice);
        let (mut u, mut v) = (noise(9, &[2, 24, 1], 0.0), noise(9, &[2, 24, 2], 0.0));
        let all = (12 / step) as f64;
        for n in (0..12).step_by(step) {
            let n = n as isize;
            let moved = move_both(&lattice, &x, &[0, n]);
            let y = Tensor::cat(&[moved.periodic.unwrap(), moved.antiperiodic.unwrap()], 2).unwrap();
            let y = f.forward(&y.contiguous().unwrap()).unwrap();
            let back = |y: Tensor, boundary| (translate(&lattice, &y, &[0, -n], boundary) / all).unwrap();
            u = (u + back(y.narrow(2, 0, 1).unwrap(), Boundary::Periodic)).unwrap();
            v = (v + back(y.narrow(2, 1, 2).unwrap(), Boundary::Antiperiodic)).unwrap();
        }
        let expected = Fields { periodic: Some(u), antiperiodic: Some(v) };
        let d = difference(&averaged.forward(&x).unwrap(), &expected);
        assert!(d < 1e-13, "step {step}: {d:e}");
    }
}

#[test]
fn one_kind_of_field_is_enough() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let (p, a) = (Channels { periodic: 1, antiperiodic: 0 }, Channels { periodic: 0, antiperiodic: 2 });
    for (squeeze, (from, to)) in
        [None, Some(2)].into_iter().flat_map(|s| [(s, (p, p)), (s, (a, BOTH)), (s, (BOTH, p))])
    {
        for architecture in [Architecture::Convolutions(shape(squeeze)), average(2, squeeze)] {
            let mut store = store();
            let net = architecture.build(&mut store, "net", &lattice, from, to).unwrap();
            let all = inputs(&lattice);
            let x = Fields {
                periodic: all.periodic.filter(|_| from.periodic > 0),
                antiperiodic: all.antiperiodic.filter(|_| from.antiperiodic > 0),
            };
            // Networks start at zero. Once they have moved, no parameter is without a gradient.
            let out = net.forward(&x).unwrap();
            let loss = |out: &Fields| {
                let terms = [&out.periodic, &out.antiperiodic].into_iter().flatten();
                terms
                    .map(|x| (x + 0.5).unwrap().sqr().unwrap().sum_all().unwrap())
                    .reduce(|a, b| (a + b).unwrap())
                    .unwrap()
            };
            let zero = [&out.periodic, &out.antiperiodic]
                .into_iter()
                .flatten()
                .all(|x| x.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap() == 0.0);
            assert!(zero);
            assert_eq!(
                (out.periodic.is_some(), out.antiperiodic.is_some()),
                (to.periodic > 0, to.antiperiodic > 0)
            );
            scramble(&store, 0.3);
            let gradients = loss(&net.forward(&x).unwrap()).backward().unwrap();
            for (name, var) in store.iter() {
                let used = gradients
                    .get(var)
                    .is_some_and(|g| g.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap() > 0.0);
                assert!(used, "{architecture:?}, {from:?} to {to:?}: {name} has no gradient");
            }
        }
    }
}

#[test]
fn what_cannot_be_built_is_refused() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let p = Channels { periodic: 1, antiperiodic: 0 };
    let build = |architecture: Architecture, from, to| {
        architecture.build(&mut store(), "net", &lattice, from, to).map(|_| ()).unwrap_err()
    };
    // Nothing antiperiodic comes from P-fields, and only odd functions keep it so.
    let conv = Architecture::Convolutions;
    assert!(matches!(build(conv(shape(None)), p, BOTH), Error::Network { .. }));
    let leaky = ApShape { final_activation: Activation::LeakyRelu(0.1), ..shape(None) };
    assert!(matches!(build(conv(leaky), BOTH, BOTH), Error::Network { .. }));
    let empty = ApShape { hidden: vec![2, 0], ..shape(None) };
    assert!(matches!(build(conv(empty), BOTH, BOTH), Error::Parameter { .. }));
    for step in [0, 3, 16] {
        assert!(matches!(build(average(step, None), BOTH, BOTH), Error::Parameter { name: "step", .. }));
    }
    let net = conv(shape(None)).build(&mut store(), "net", &lattice, BOTH, BOTH).unwrap();
    let missing = Fields { antiperiodic: None, ..inputs(&lattice) };
    assert!(matches!(net.forward(&missing), Err(Error::Shape { .. })));
    let squeeze = Squeeze::new(&mut store(), "s", &lattice, 2, Boundary::Periodic, 1, 1);
    assert!(matches!(squeeze, Err(Error::Parameter { .. })));
}

#[test]
fn squeezing_acts_within_cells_of_two_sites() {
    let lattice = Lattice::new(&[4, 6]).unwrap();
    for (direction, other) in [(0, 6), (1, 1)] {
        let mut store = store();
        let layer = Squeeze::new(&mut store, "s", &lattice, direction, Boundary::Antiperiodic, 1, 2).unwrap();
        let w = store.snapshot().unwrap()["s/weight"].to_vec2::<f64>().unwrap();
        let x = noise(4, &[1, 24, 1], 1.0);
        let y = layer.forward(&x).unwrap().to_vec3::<f64>().unwrap().remove(0);
        let x = x.to_vec3::<f64>().unwrap().remove(0);
        for site in (0..24).filter(|&s| lattice.coordinates(s)[direction].is_multiple_of(2)) {
            for (q, at) in [(0, site), (1, site + other)] {
                for o in 0..2 {
                    let expected = w[0][2 * q + o] * x[site][0] + w[1][2 * q + o] * x[site + other][0];
                    assert!((y[at][o] - expected).abs() < 1e-14);
                }
            }
        }
    }
}
