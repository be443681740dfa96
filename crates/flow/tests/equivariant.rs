//! Contract table of the layers of two fields: inverse, dense Jacobian with initial, random and trained weights, and the
//! translations each keeps and breaks. A new layer is one row of [`rows`].

mod common;

use candle_core::{DType, Device, Tensor};
use common::{noise, scramble};
use latflow_action::{Action, Phi4, Pseudofermion};
use latflow_fermion::{ConjugateGradient, EvenOddYukawa, StaggeredYukawa};
use latflow_flow::check::{Coordinates, log_det_defect, round_trip_defect, symmetry_defect};
use latflow_flow::train::Adam;
use latflow_flow::{
    Activation, ApShape, Architecture, AverageShape, Bijection, Chain, Distribution, FlowModel, Gaussian,
    Independent, LinearFlow, LinearShape, NetShape, ParamStore, PseudofermionCoupling, RestrictedFlow,
    ScalarCoupling, Sites, UpdatePseudofermion, UpdateScalar,
};
use latflow_lattice::check::max_difference;
use latflow_lattice::{Boundary, Lattice, Parity, Streams};
use std::collections::BTreeMap;

const CPU: Device = Device::Cpu;
const HALF: Sites = Sites::Of(Parity::Even);

type Pair = (Tensor, Tensor);
type Flow = Box<dyn Bijection<Pair>>;

type Build = fn(&mut ParamStore, &Lattice, Sites, &Architecture) -> Flow;

struct Row {
    name: &'static str,
    build: Build,
    architecture: Architecture,
    sites: Sites,
    /// Translations that are symmetries, and some that must not be.
    keeps: &'static [[isize; 2]],
    breaks: &'static [[isize; 2]],
}

impl Row {
    fn flow(&self, store: &mut ParamStore, lattice: &Lattice) -> Flow {
        (self.build)(store, lattice, self.sites, &self.architecture)
    }
}

fn net(final_activation: Activation) -> NetShape {
    NetShape { hidden: vec![4], kernel: 3, activation: Activation::LeakyRelu(0.01), final_activation }
}

fn convolutions(squeeze: Option<usize>) -> Architecture {
    let (hidden, final_activation) = (vec![3, 2], Activation::Tanh);
    Architecture::Convolutions(ApShape { squeeze, hidden, kernel: 3, slope: 0.01, final_activation })
}

fn average(step: usize, squeeze: Option<usize>) -> Architecture {
    Architecture::GroupAverage(AverageShape { squeeze, net: net(Activation::Tanh), step })
}

fn scalar(s: &mut ParamStore, l: &Lattice, sites: Sites, a: &Architecture) -> Flow {
    Box::new(UpdateScalar(ScalarCoupling::new(s, "phi", l, Parity::Even, sites, a).unwrap()))
}

fn pseudofermion(s: &mut ParamStore, l: &Lattice, sites: Sites, a: &Architecture) -> Flow {
    let layer = PseudofermionCoupling::<Tensor>::new(s, "pf", l, Parity::Odd, sites, a).unwrap();
    Box::new(UpdatePseudofermion(layer))
}

fn joint(s: &mut ParamStore, l: &Lattice, sites: Sites, a: &Architecture) -> Flow {
    let mut layers: Vec<Flow> = Vec::new();
    for (k, active) in [Parity::Even, Parity::Odd].into_iter().enumerate() {
        let phi = ScalarCoupling::new(s, &format!("phi {k}"), l, active, sites, a).unwrap();
        let pf = PseudofermionCoupling::<Tensor>::new(s, &format!("pf {k}"), l, active, sites, a).unwrap();
        layers.push(Box::new(UpdateScalar(phi)));
        layers.push(Box::new(UpdatePseudofermion(pf)));
    }
    let rest = layers.split_off(1);
    Box::new(Chain::new(layers.remove(0), rest))
}

fn restricted_flow(
    s: &mut ParamStore,
    l: &Lattice,
    sites: Sites,
    a: &Architecture,
) -> RestrictedFlow<ScalarCoupling, PseudofermionCoupling<()>> {
    let steps = [Parity::Even, Parity::Odd, Parity::Even].into_iter().enumerate().map(|(k, active)| {
        let phi = ScalarCoupling::new(s, &format!("phi {k}"), l, active, sites, a).unwrap();
        (phi, PseudofermionCoupling::new(s, &format!("pf {k}"), l, active, sites, a).unwrap())
    });
    RestrictedFlow { steps: steps.collect() }
}

fn restricted(s: &mut ParamStore, l: &Lattice, sites: Sites, a: &Architecture) -> Flow {
    Box::new(restricted_flow(s, l, sites, a))
}

fn linear_flow(s: &mut ParamStore, l: &Lattice) -> LinearFlow {
    let shape = LinearShape { operators: 6, squeeze: 2, net: net(Activation::Identity) };
    LinearFlow::new(s, "linear", l, &shape).unwrap()
}

fn linear(s: &mut ParamStore, l: &Lattice, _: Sites, _: &Architecture) -> Flow {
    Box::new(UpdatePseudofermion(linear_flow(s, l)))
}

fn rows() -> Vec<Row> {
    const EVEN: &[[isize; 2]] = &[[2, 0], [0, 2]];
    const AND_DIAGONAL: &[[isize; 2]] = &[[2, 0], [0, 2], [1, 1], [1, -1]];
    const STEPS: &[[isize; 2]] = &[[1, 0], [0, 1]];
    const ODD: &[[isize; 2]] = &[[1, 0], [0, 1], [1, 1]];
    // What maps a half lattice to itself.
    const DIAGONAL: &[[isize; 2]] = &[[1, 1]];
    let row = |name, build: Build, architecture, sites, keeps, breaks| Row {
        name,
        build,
        architecture,
        sites,
        keeps,
        breaks,
    };
    let all = Sites::All;
    vec![
        row("scalar", scalar, convolutions(None), all, AND_DIAGONAL, STEPS),
        row("scalar, squeezed", scalar, convolutions(Some(3)), all, EVEN, ODD),
        row("scalar, half", scalar, convolutions(None), HALF, AND_DIAGONAL, &[]),
        row("scalar, half, squeezed", scalar, convolutions(Some(2)), HALF, EVEN, DIAGONAL),
        row("scalar, average", scalar, average(1, None), all, AND_DIAGONAL, STEPS),
        row("scalar, half, average", scalar, average(2, Some(3)), HALF, EVEN, DIAGONAL),
        row("pseudofermion", pseudofermion, convolutions(None), all, AND_DIAGONAL, STEPS),
        row("pseudofermion, squeezed", pseudofermion, convolutions(Some(3)), all, EVEN, ODD),
        row("pseudofermion, half", pseudofermion, convolutions(None), HALF, EVEN, DIAGONAL),
        row("pseudofermion, average", pseudofermion, average(1, None), all, AND_DIAGONAL, STEPS),
        row("pseudofermion, half, average", pseudofermion, average(2, Some(2)), HALF, EVEN, DIAGONAL),
        row("joint", joint, convolutions(Some(2)), all, EVEN, ODD),
        row("joint, half", joint, convolutions(Some(2)), HALF, EVEN, DIAGONAL),
        row("joint, average of every second", joint, average(2, None), all, EVEN, ODD),
        row("restricted", restricted, convolutions(Some(2)), all, EVEN, ODD),
        row("restricted, half", restricted, convolutions(Some(2)), HALF, EVEN, DIAGONAL),
        row("linear", linear, convolutions(None), all, &[[2, 0], [0, 2], [0, 1]], &[[1, 0], [1, 1]]),
    ]
}

fn fields(seed: u64, lattice: &Lattice, sites: Sites) -> Pair {
    (noise(seed, &[2, lattice.volume()], 0.6), noise(seed + 1, &[2, 2, sites.count(lattice)], 0.8))
}

fn check<X: Coordinates, C>(name: &str, layer: &dyn Bijection<X, C>, z: &X, condition: &C) {
    let defect = round_trip_defect(layer, z, condition).unwrap();
    assert!(defect < 1e-11, "{name}: round trip {defect:e}");
    let defect = log_det_defect(layer, z, condition).unwrap();
    assert!(defect < 1e-10, "{name}: log-determinant {defect:e}");
}

/// The translation of both fields; a half lattice is moved as part of a whole one.
fn translate(lattice: &Lattice, sites: Sites, by: &[isize], boundary: Boundary, (phi, pf): &Pair) -> Pair {
    let phi = lattice.translate(phi, by, Boundary::Periodic).unwrap();
    if sites == Sites::All {
        return (phi, lattice.translate(pf, by, boundary).unwrap());
    }
    let half = lattice.sublattice(Parity::Even);
    let rows: Vec<Vec<Vec<f64>>> = pf.to_vec3().unwrap();
    let whole = rows.iter().flatten().flat_map(|row| {
        let mut whole = vec![0.0; lattice.volume()];
        half.iter().zip(row).for_each(|(&site, x)| whole[site] = *x);
        whole
    });
    let whole = Tensor::from_vec(whole.collect(), (rows.len(), 2, lattice.volume()), &CPU).unwrap();
    let moved = lattice.translate(&whole, by, boundary).unwrap();
    let half: Vec<u32> = half.into_iter().map(|s| s as u32).collect();
    let half = Tensor::from_vec(half, lattice.volume() / 2, &CPU).unwrap();
    (phi, moved.index_select(&half, 2).unwrap())
}

#[test]
fn every_layer_is_invertible_with_the_determinant_it_reports() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    for row in rows() {
        let mut store = ParamStore::new(Streams::new(2), DType::F64, &CPU);
        let layer = row.flow(&mut store, &lattice);
        let z = fields(1, &lattice, row.sites);
        let (x, _) = layer.forward(&z, &()).unwrap();
        let moved = max_difference(&x.to_rows().unwrap(), &z.to_rows().unwrap()).unwrap();
        assert!(moved < 1e-14, "{}: starts {moved:e} away from the identity", row.name);
        check(row.name, layer.as_ref(), &z, &());
        scramble(&store, 0.2);
        check(row.name, layer.as_ref(), &z, &());
    }
}

#[test]
fn every_layer_keeps_its_translations_and_no_others() {
    let lattice = Lattice::new(&[4, 6]).unwrap();
    for row in rows() {
        let mut store = ParamStore::new(Streams::new(3), DType::F64, &CPU);
        let layer = row.flow(&mut store, &lattice);
        scramble(&store, 0.3);
        let z = fields(5, &lattice, row.sites);
        let defect = |by: &[isize], boundary| {
            let moved = |x: &Pair| Ok(translate(&lattice, row.sites, by, boundary, x));
            symmetry_defect(layer.as_ref(), &z, &(), moved, |()| Ok(())).unwrap()
        };
        for by in row.keeps {
            let defect = defect(by, Boundary::Antiperiodic);
            assert!(defect < 1e-12, "{}: translation by {by:?} {defect:e}", row.name);
        }
        for by in row.breaks {
            let defect = defect(by, Boundary::Antiperiodic);
            assert!(defect > 1e-4, "{}: translation by {by:?} is a symmetry, {defect:e}", row.name);
        }
        // The test can tell the boundary conditions apart.
        let periodic = defect(&[0, 2], Boundary::Periodic);
        assert!(periodic > 1e-4, "{}: pseudofermions are taken to be periodic, {periodic:e}", row.name);
    }
}

#[test]
fn every_layer_is_exact_with_a_single_precision_network() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    for row in rows() {
        let mut store = ParamStore::new(Streams::new(4), DType::F32, &CPU);
        let layer = row.flow(&mut store, &lattice);
        scramble(&store, 0.2);
        let defect = round_trip_defect(layer.as_ref(), &fields(7, &lattice, row.sites), &()).unwrap();
        assert!(defect < 1e-11, "{}: {defect:e}", row.name);
    }
}

#[test]
fn trained_layers_still_report_their_dense_jacobian() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let phi4 = Phi4::new(&lattice, -4.0, 6.0).unwrap();
    let dirac = StaggeredYukawa::new(&lattice, 0.0, 0.3, Boundary::Antiperiodic).unwrap();
    let solver = ConjugateGradient { tolerance: 1e-10, max_iterations: 500 };
    let whole = Pseudofermion::new(phi4.clone(), dirac.clone(), solver);
    let half = EvenOddYukawa::new(&dirac, Parity::Even, &CPU).unwrap();
    let half = Pseudofermion::new(phi4, half, solver);
    for row in rows() {
        let mut store = ParamStore::new(Streams::new(5), DType::F64, &CPU);
        let layer = row.flow(&mut store, &lattice);
        let action: &dyn Action<Pair> = if row.sites == Sites::All { &whole } else { &half };
        let first = Gaussian::new(0.5, 16, &CPU).unwrap();
        let second = Gaussian::pseudofermion(1.0, row.sites.count(&lattice), &CPU).unwrap();
        let model = FlowModel { prior: Independent { first, second }, flow: layer.as_ref() };
        let mut adam = Adam::new(&store).unwrap();
        let mut rng = Streams::new(6).stream("test", 0);
        let losses: Vec<f64> = (0..12)
            .map(|_| {
                let (x, log_q) = model.sample_with_log_prob(128, &(), &mut rng).unwrap();
                let loss = (log_q + action.action(&x).unwrap()).unwrap().mean_all().unwrap();
                let mut gradients = loss.backward().unwrap();
                let gradients: BTreeMap<String, Tensor> = store
                    .iter()
                    .filter_map(|(name, var)| Some((name.clone(), gradients.remove(var)?.detach())))
                    .collect();
                adam.step(&store, &gradients, 2e-2).unwrap();
                loss.to_scalar::<f64>().unwrap()
            })
            .collect();
        let mean = |l: &[f64]| l.iter().sum::<f64>() / l.len() as f64;
        let (before, after) = (mean(&losses[..3]), mean(&losses[9..]));
        assert!(after < before, "{}: training did not help, {before} to {after}", row.name);
        check(row.name, layer.as_ref(), &fields(8, &lattice, row.sites), &());
    }
}

#[test]
fn the_restricted_flow_is_a_marginal_and_a_conditional() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let mut store = ParamStore::new(Streams::new(7), DType::F64, &CPU);
    let flow = restricted_flow(&mut store, &lattice, HALF, &convolutions(Some(2)));
    scramble(&store, 0.2);
    let (zeta, chi) = fields(9, &lattice, HALF);
    let ((phi, pf), both) = flow.forward(&(zeta.clone(), chi.clone()), &()).unwrap();
    let (pf_alone, marginal) = flow.forward(&chi, &()).unwrap();
    let (phi_given, conditional) = flow.forward(&zeta, &pf).unwrap();
    assert!(max_difference(&pf_alone, &pf).unwrap() < 1e-13);
    assert!(max_difference(&phi_given, &phi).unwrap() < 1e-11);
    assert!(max_difference(&(marginal + conditional).unwrap(), &both).unwrap() < 1e-11);
    check("marginal", &flow as &dyn Bijection<Tensor>, &chi, &());
    check("conditional", &flow as &dyn Bijection<Tensor, Tensor>, &zeta, &pf);
}

#[test]
fn a_linear_flow_is_its_matrix() {
    // W is linear, real and the same for both components; 2 log |det W| is the log-determinant of complex fields.
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let mut store = ParamStore::new(Streams::new(8), DType::F64, &CPU);
    let flow = linear_flow(&mut store, &lattice);
    scramble(&store, 0.5);
    let (phi, chi) = fields(11, &lattice, Sites::All);
    check("linear", &flow, &chi, &phi);
    let (pf, log_det) = flow.forward(&chi, &phi).unwrap();
    let exchange = |x: &Tensor| x.index_select(&Tensor::new(&[1_u32, 0], &CPU).unwrap(), 1).unwrap();
    let (exchanged, same) = flow.forward(&exchange(&chi), &phi).unwrap();
    assert_eq!(max_difference(&exchange(&exchanged), &pf).unwrap(), 0.0);
    assert_eq!(max_difference(&same, &log_det).unwrap(), 0.0);
    let twice = flow.forward(&(&chi * 2.0).unwrap(), &phi).unwrap().0;
    assert!(max_difference(&twice, &(pf * 2.0).unwrap()).unwrap() < 1e-13);
}
