//! The two forms of the training gradient, sample by sample: total = path + score.
//!
//! ```text
//! d/dθ [log q_θ(x) + S(x)] = ∂_x [log q_θ(x) + S(x)] · ∂f_θ/∂θ + ∂_θ log q_θ(x),      x = f_θ(z)
//! ```
//!
//! An identity for the same z and the same noise of the target, not a statement about averages: it finds whatever the inverse
//! pass of a flow, or the other field of a pair, loses.

use candle_core::{DType, Device, Tensor};
use latflow_action::{Exact, Phi4, Pseudofermion, StochasticDeterminant, TrainingTarget};
use latflow_fermion::{ConjugateGradient, Dirac, EvenOddExpansion, EvenOddYukawa, StaggeredYukawa};
use latflow_flow::decimation::{
    LocalPotential, MeanField, PseudofermionSource, SiteCoupling, SiteShape, stages,
};
use latflow_flow::potential::{ConvexFlow, ConvexPotential, LogDet, NewtonCg, PotentialShape};
use latflow_flow::train::{Clip, Estimator, Schedule, Trainer};
use latflow_flow::{
    Activation, Bijection, Chain, Distribution, ExponentialPseudofermion, FlowModel, Gaussian, Independent,
    NetShape, ParamStore, UpdatePseudofermion, UpdateScalar,
};
use latflow_lattice::{Boundary, Configuration, Lattice, Parity, Streams, normal_tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

const CPU: Device = Device::Cpu;
const BATCH: usize = 8;
const SOLVER: ConjugateGradient = ConjugateGradient { tolerance: 1e-13, max_iterations: 1000 };

type Pair = (Tensor, Tensor);

fn lattice() -> Lattice {
    Lattice::new(&[4, 4]).unwrap()
}

fn operator() -> EvenOddYukawa {
    let full = StaggeredYukawa::new(&lattice(), 0.0, 0.8, Boundary::Antiperiodic).unwrap();
    EvenOddYukawa::new(&full, Parity::Even, &CPU).unwrap()
}

fn bosonic() -> Phi4 {
    Phi4::new(&lattice(), -3.7, 2.0).unwrap()
}

const POTENTIAL: LocalPotential = LocalPotential { quadratic: 0.3, quartic: 2.0, hopping: 2.0 };

/// All stages; the finest, the last, feels the pseudofermion where there is one.
fn decimation(store: &mut ParamStore) -> Vec<SiteCoupling> {
    let net = NetShape {
        hidden: vec![3],
        kernel: 3,
        activation: Activation::Tanh,
        final_activation: Activation::Identity,
    };
    let shape = SiteShape { net: Some(net), radius: 2, powers: 6, cells: 64 };
    let mut layers: Vec<SiteCoupling> = stages(&lattice())
        .unwrap()
        .iter()
        .map(|stage| SiteCoupling::new(store, &stage.name, &lattice(), stage, &shape, POTENTIAL).unwrap())
        .collect();
    let finest = layers.pop().unwrap();
    layers.push(finest.with_source(Arc::new(PseudofermionSource(operator()))));
    layers
}

fn chain<X>(mut layers: Vec<Box<dyn Bijection<X>>>) -> Chain<X> {
    let first = layers.remove(0);
    Chain::new(first, layers)
}

fn unit() -> Gaussian {
    Gaussian::new(2.0f64.sqrt(), 16, &CPU).unwrap()
}

fn store() -> ParamStore {
    ParamStore::new(Streams::new(1), DType::F64, &CPU)
}

/// Away from the start, where the networks say nothing.
fn scramble(store: &ParamStore) {
    let mut rng = Streams::new(2).stream("scramble", 0);
    let moved = store.snapshot().unwrap().into_iter().map(|(name, value)| {
        let shift = normal_tensor(&mut rng, 0.1, value.dims(), DType::F64, &CPU).unwrap();
        (name, (value + shift).unwrap())
    });
    store.restore(&moved.collect()).unwrap();
}

fn check<X: Configuration>(
    what: &str,
    store: &ParamStore,
    model: &impl Distribution<X>,
    target: &impl TrainingTarget<X>,
) {
    scramble(store);
    let streams = Streams::new(3);
    let gradients = |estimator| {
        // A rate of next to nothing; Adam's first moment is (1 − β₁) times the first gradient.
        let schedule = Schedule::new(&[(0, 1e-300)]).unwrap();
        let trainer = Trainer::new(store, schedule, Clip::default(), BATCH, streams).unwrap();
        let mut trainer = trainer.with_estimator(estimator);
        let loss = trainer.step(model, target, store).unwrap().loss;
        let (_, tensors) = trainer.checkpoint(store).unwrap();
        let all: BTreeMap<String, Vec<f64>> = tensors
            .into_iter()
            .filter_map(|(name, t)| {
                let first = (t * 10.0).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
                Some((name.strip_prefix("adam/first/")?.to_owned(), first))
            })
            .collect();
        (loss, all)
    };
    let (total_loss, total) = gradients(Estimator::Total);
    let (path_loss, path) = gradients(Estimator::Path);
    assert!((total_loss - path_loss).abs() < 1e-7, "{what}: loss {total_loss} and {path_loss}");
    let (x, _) = model.sample_with_log_prob(BATCH, &(), &mut streams.stream("train/prior", 0)).unwrap();
    let score = model.log_prob(&x.detach(), &()).unwrap().mean_all().unwrap().backward().unwrap();
    let mut largest = (0.0f64, 0.0f64);
    for (name, var) in store.iter() {
        let score = match score.get(var) {
            Some(score) => score.flatten_all().unwrap().to_vec1::<f64>().unwrap(),
            None => vec![0.0; var.elem_count()],
        };
        for (i, score) in score.into_iter().enumerate() {
            let (total, path) = (total[name][i], path[name][i]);
            let defect = (total - path - score).abs();
            assert!(
                defect < 1e-6 * (1.0 + total.abs() + score.abs()),
                "{what}: {name}[{i}]: {total}, {path}, {score}"
            );
            largest = (largest.0.max(path.abs()), largest.1.max(score.abs()));
        }
    }
    // Neither side is empty.
    assert!(largest.0 > 1e-2 && largest.1 > 1e-2, "{what}: {largest:?}");
}

#[test]
fn of_a_decimation_with_exact_and_stochastic_targets() {
    let mut store = store();
    let layers = decimation(&mut store).into_iter().map(|l| Box::new(l) as Box<dyn Bijection<Tensor>>);
    let model = FlowModel { prior: unit(), flow: chain(layers.collect()) };
    check("boson", &store, &model, &Exact(bosonic()));
    let dirac = operator();
    let stochastic =
        StochasticDeterminant { bosonic: bosonic(), dirac, solver: SOLVER, draws: 2, shift: 0.0 };
    check("stochastic determinant", &store, &model, &stochastic);
}

#[test]
fn of_a_joint_model_of_both_fields() {
    let mut store = store();
    let mut layers = decimation(&mut store);
    let finest = layers.pop().unwrap();
    let mut pairs: Vec<Box<dyn Bijection<Pair>>> =
        layers.into_iter().map(|l| Box::new(UpdateScalar(l)) as Box<dyn Bijection<Pair>>).collect();
    let flow = ExponentialPseudofermion::new(EvenOddExpansion::new(&operator(), &CPU).unwrap(), 1).unwrap();
    let all = stages(&lattice()).unwrap();
    let blind = MeanField::new(&mut store, "mean", &lattice(), all.last().unwrap(), POTENTIAL, flow).unwrap();
    pairs.push(Box::new(UpdatePseudofermion(blind)));
    pairs.push(Box::new(UpdateScalar(finest)));
    let pf = Gaussian::pseudofermion(1.0, operator().components(), &CPU).unwrap();
    let model = FlowModel { prior: Independent { first: unit(), second: pf }, flow: chain(pairs) };
    check("joint", &store, &model, &Pseudofermion::new(bosonic(), operator(), SOLVER));
}

/// The inverse is a Newton iteration, differentiated by the implicit function theorem.
#[test]
fn of_a_convex_potential() {
    let mut store = store();
    let shape = PotentialShape { channels: 3, nonlinear: 0.3, ..PotentialShape::default() };
    let layers = ["u1", "u2"].map(|name| {
        let potential = ConvexPotential::new(&mut store, name, &lattice(), &shape).unwrap();
        Box::new(ConvexFlow::new(potential, LogDet::exact(), NewtonCg::default()).unwrap())
            as Box<dyn Bijection<Tensor>>
    });
    let prior = Gaussian::new(0.6, 16, &CPU).unwrap();
    check("convex", &store, &FlowModel { prior, flow: chain(layers.into()) }, &Exact(bosonic()));
}
