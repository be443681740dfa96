//! The conditional model of parallel transports: symmetry, invertibility, density, gradients, training.

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{noise, scramble};
use latflow_action::{Action, Pseudofermion};
use latflow_fermion::{ConjugateGradient, Dirac, EvenOddWilson, LinearOperator, Wilson};
use latflow_flow::check::{round_trip_defect, symmetry_defect};
use latflow_flow::train::{Clip, Schedule, Trainer};
use latflow_flow::{
    Autoregressive, Bijection, Distribution, Error, Fixed, FlowModel, Gaussian, HaarUniform, NetSizes,
    ParamStore, PtcnFlow, PtcnMask, PtcnShape, PtcnStart, Sample, Sites,
};
use latflow_lattice::check::max_difference;
use latflow_lattice::gauge::haar_matrices;
use latflow_lattice::{Boundary, Lattice, Links, Manifold, Parity, Rng, Streams, sum_per_configuration};
use nalgebra::DMatrix;

const CPU: Device = Device::Cpu;
const EVEN: Sites = Sites::Of(Parity::Even);
const KAPPA: f64 = 0.1;

fn rng(seed: u64) -> Rng {
    Streams::new(seed).stream("test", 0)
}

fn small() -> Lattice {
    Lattice::new(&[2, 2, 2, 4]).unwrap()
}

fn large() -> Lattice {
    Lattice::new(&[4, 4, 4, 4]).unwrap()
}

fn haar(lattice: &Lattice, batch: usize, seed: u64) -> Links {
    Links::haar(lattice, batch, 3, &mut rng(seed), &CPU).unwrap()
}

/// Networks that see one site, so that they fit extents of 2.
fn local(shape: PtcnShape) -> PtcnShape {
    PtcnShape { nets: NetSizes { hidden: vec![5, 4], kernel: 1, head_kernel: 1 }, ..shape }
}

/// All kinds of masks.
fn mixed(sites: Sites, depth: usize, start: PtcnStart) -> PtcnShape {
    let mut masks = PtcnMask::rotation(sites, 12);
    masks.push(PtcnMask::Quarter { partner: 3, parity: Parity::Even });
    PtcnShape { masks, depth, copies: 2, ..local(PtcnShape::desk(sites, KAPPA)) }.with(start)
}

trait With {
    fn with(self, start: PtcnStart) -> Self;
}

impl With for PtcnShape {
    fn with(self, start: PtcnStart) -> Self {
        Self { start, ..self }
    }
}

fn flow(lattice: &Lattice, sites: Sites, shape: &PtcnShape, dtype: DType) -> (PtcnFlow, ParamStore) {
    let mut store = ParamStore::new(Streams::new(1), dtype, &CPU);
    let flow = PtcnFlow::new(&mut store, "pf", lattice, sites, Boundary::Antiperiodic, shape).unwrap();
    (flow, store)
}

/// Every number at a general position: the hopping start with noise on top.
fn general(lattice: &Lattice, sites: Sites) -> (PtcnFlow, ParamStore) {
    let (flow, store) =
        flow(lattice, sites, &mixed(sites, 2, PtcnStart::Hopping { kappa: KAPPA }), DType::F64);
    scramble(&store, 0.02);
    (flow, store)
}

fn components(lattice: &Lattice, sites: Sites) -> usize {
    12 * sites.count(lattice)
}

/// Ω(x) ϕ(x) on the sites of the field.
fn rotate(lattice: &Lattice, sites: Sites, omega: &Tensor, pf: &Tensor) -> Tensor {
    let chosen: Vec<u32> = match sites {
        Sites::All => (0..lattice.volume() as u32).collect(),
        Sites::Of(parity) => lattice.sublattice(parity).into_iter().map(|x| x as u32).collect(),
    };
    let n = chosen.len();
    let batch = pf.dim(0).unwrap();
    let omega = omega.index_select(&Tensor::from_vec(chosen, n, &CPU).unwrap(), 1).unwrap();
    let part =
        |k| omega.narrow(4, k, 1).unwrap().squeeze(4).unwrap().transpose(2, 3).unwrap().contiguous().unwrap();
    let (ur, ui) = (part(0), part(1));
    let rows = |k| pf.narrow(1, k, 1).unwrap().reshape((batch, n, 4, 3)).unwrap();
    let (re, im) = (rows(0), rows(1));
    let times = |a: &Tensor, b: &Tensor| a.matmul(b).unwrap();
    let re_out = (times(&re, &ur) - times(&im, &ui)).unwrap();
    let im_out = (times(&re, &ui) + times(&im, &ur)).unwrap();
    Tensor::stack(&[re_out, im_out], 1).unwrap().reshape(pf.shape()).unwrap()
}

#[test]
fn couplings_commute_with_gauge_transformations() {
    let lattice = large();
    for sites in [Sites::All, EVEN] {
        let shape = PtcnShape {
            nets: NetSizes { hidden: vec![4], kernel: 3, head_kernel: 3 },
            ..mixed(sites, 3, PtcnStart::Random)
        };
        let (flow, store) = flow(&lattice, sites, &shape, DType::F64);
        scramble(&store, 0.01);
        let links = haar(&lattice, 2, 2);
        let omega = haar_matrices(2 * 256, 3, &mut rng(3), &CPU).unwrap().reshape((2, 256, 3, 3, 2)).unwrap();
        let chi = noise(4, &[2, 2, components(&lattice, sites)], 0.7);
        let defect = symmetry_defect(
            &flow,
            &chi,
            &links,
            |pf| Ok(rotate(&lattice, sites, &omega, pf)),
            |u: &Links| Ok(u.gauge_transform(&lattice, &omega)?),
        );
        let (phi, _) = flow.forward(&chi, &links).unwrap();
        let size = phi.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
        let defect = defect.unwrap();
        assert!(defect < 1e-11 * size.max(10.0), "{sites:?}: {defect} of {size}");
        // It does something to the field, and the links matter.
        let (other, _) = flow.forward(&chi, &haar(&lattice, 2, 5)).unwrap();
        assert!(max_difference(&phi, &chi).unwrap() > 1e-2);
        assert!(max_difference(&phi, &other).unwrap() > 1e-2);
    }
}

/// L(U) as a real matrix on (re, im), from its action on unit vectors.
fn dense(flow: &PtcnFlow, links: &Links, n: usize) -> (DMatrix<f64>, f64) {
    let size = 2 * n;
    let mut unit = vec![0.0; size * size];
    (0..size).for_each(|i| unit[i * size + i] = 1.0);
    let unit = Tensor::from_vec(unit, (size, 2, n), &CPU).unwrap();
    let mut shape = links.tensor().dims().to_vec();
    shape[0] = size;
    let many = Links::new(links.tensor().broadcast_as(shape).unwrap().contiguous().unwrap()).unwrap();
    let (columns, log_det) = flow.detached().forward(&unit, &many).unwrap();
    let columns = columns.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    (DMatrix::from_column_slice(size, size, &columns), log_det.to_vec1::<f64>().unwrap()[0])
}

#[test]
fn the_density_is_that_of_the_dense_matrix() {
    let lattice = small();
    for sites in [Sites::All, EVEN] {
        let n = components(&lattice, sites);
        let (flow, _) = general(&lattice, sites);
        let links = haar(&lattice, 2, 6);
        let chi = noise(7, &[2, 2, n], 0.7);
        assert!(round_trip_defect(&flow, &chi, &links).unwrap() < 1e-10);
        let model = FlowModel { prior: Gaussian::pseudofermion(1.0, n, &CPU).unwrap(), flow };
        let phi = noise(8, &[2, 2, n], 0.7);
        let log_q = model.log_prob(&phi, &links).unwrap().to_vec1::<f64>().unwrap();
        for (b, log_q) in log_q.iter().enumerate() {
            let one = Links::new(links.tensor().narrow(0, b, 1).unwrap()).unwrap();
            let (l, reported) = dense(&model.flow, &one, n);
            let lu = l.lu();
            let log_det: f64 = lu.u().diagonal().iter().map(|u| u.abs().ln()).sum();
            assert!((log_det - reported).abs() < 1e-9, "{sites:?}: {log_det} {reported}");
            assert!(log_det.abs() > 0.1, "the couplings scale nothing: {log_det}");
            let field = phi.narrow(0, b, 1).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
            let chi = lu.solve(&nalgebra::DVector::from_vec(field)).unwrap();
            let expected = -chi.norm_squared() - log_det - n as f64 * std::f64::consts::PI.ln();
            assert!((log_q - expected).abs() < 1e-11 * expected.abs(), "{sites:?}: {} {expected}", log_q);
        }
    }
}

#[test]
fn fixed_flows_are_the_same_and_share_contexts() {
    let lattice = small();
    let (flow, _) = general(&lattice, EVEN);
    let n = components(&lattice, EVEN);
    // More than one part, with repeated configurations inside and across the parts.
    let four = haar(&lattice, 4, 9);
    let rows: Vec<u32> = (0..150u32).map(|b| b / 40).collect();
    let rows = Tensor::from_vec(rows, 150, &CPU).unwrap();
    let links = Links::new(four.tensor().index_select(&rows, 0).unwrap()).unwrap();
    let chi = noise(10, &[150, 2, n], 0.7);
    let (phi, log_det) = flow.forward(&chi, &links).unwrap();
    let fixed = flow.detached();
    let (phi_fixed, log_det_fixed) = fixed.forward(&chi, &links).unwrap();
    assert!(max_difference(&phi, &phi_fixed).unwrap() < 1e-13);
    assert!(max_difference(&log_det, &log_det_fixed).unwrap() < 1e-12);
    assert!(phi.track_op() && !phi_fixed.track_op());
    // In single precision the map is still exactly invertible: its networks return what they return.
    let (single, store) = common_single(&lattice);
    scramble(&store, 0.05);
    assert!(round_trip_defect(&single, &chi, &links).unwrap() < 1e-5);
}

fn common_single(lattice: &Lattice) -> (PtcnFlow, ParamStore) {
    flow(lattice, EVEN, &mixed(EVEN, 2, PtcnStart::Hopping { kappa: KAPPA }), DType::F32)
}

#[test]
fn the_hopping_start_has_the_closed_form() {
    // L = [[1, −κH_eo], [0, 1]] [[1, 0], [−κH_oe, 1]]: the paper's masks, any depth.
    let lattice = small();
    let n = components(&lattice, Sites::All);
    let wilson = Wilson::new(&lattice, KAPPA, Boundary::Antiperiodic).unwrap();
    let links = haar(&lattice, 3, 11);
    let phi = noise(12, &[3, 2, n], 0.7);
    let d = wilson.bind(&links).unwrap();
    let split = EvenOddWilson::new(&wilson).bind(&links).unwrap();
    let hop = |v: &Tensor| (v - d.apply(v).unwrap()).unwrap();
    let nothing = Tensor::zeros((3, 2, n / 2), DType::F64, &CPU).unwrap();
    let (even, odd) = split.split(&phi).unwrap();
    let even = (even + split.split(&hop(&split.join(&nothing, &odd).unwrap())).unwrap().0).unwrap();
    let odd = (&odd + split.split(&hop(&split.join(&even, &nothing).unwrap())).unwrap().1).unwrap();
    let norm = |v: &Tensor| sum_per_configuration(&v.sqr().unwrap()).unwrap();
    let norm = (norm(&even) + norm(&odd)).unwrap().to_vec1::<f64>().unwrap();
    for depth in [1, 2, 6] {
        let shape = PtcnShape {
            masks: PtcnMask::rotation(Sites::All, 12),
            ..mixed(Sites::All, depth, PtcnStart::Hopping { kappa: KAPPA })
        };
        let (flow, _) = flow(&lattice, Sites::All, &shape, DType::F64);
        let model = FlowModel { prior: Gaussian::pseudofermion(1.0, n, &CPU).unwrap(), flow };
        let log_q = model.log_prob(&phi, &links).unwrap().to_vec1::<f64>().unwrap();
        for (log_q, norm) in log_q.iter().zip(&norm) {
            let expected = -norm - n as f64 * std::f64::consts::PI.ln();
            assert!((log_q - expected).abs() < 1e-12 * expected.abs(), "depth {depth}: {log_q} {expected}");
        }
        // Time is antiperiodic because the flow was told so.
        let mut store = ParamStore::new(Streams::new(1), DType::F64, &CPU);
        let periodic =
            PtcnFlow::new(&mut store, "pf", &lattice, Sites::All, Boundary::Periodic, &shape).unwrap();
        let other = model.prior.log_prob(&periodic.inverse(&phi, &links).unwrap().0, &()).unwrap();
        assert!((other.to_vec1::<f64>().unwrap()[0] - log_q[0]).abs() > 1e-2);
    }
}

#[test]
fn a_quarter_at_the_start_is_its_part_of_the_even_odd_operator() {
    // ϕ' = ϕ + Π (D̂ − 1) Π̄ϕ, Π the even sites with x_1 + x_2 odd.
    let lattice = small();
    let half = EvenOddWilson::new(&Wilson::new(&lattice, KAPPA, Boundary::Antiperiodic).unwrap());
    let (links, phi) = (haar(&lattice, 3, 11), noise(12, &[3, 2, components(&lattice, EVEN)], 0.7));
    let odd = |x: usize| (lattice.coordinates(x)[0] + lattice.coordinates(x)[1]) % 2 == 1;
    let mask = lattice.sublattice(Parity::Even).into_iter().flat_map(|x| [f64::from(u8::from(odd(x))); 12]);
    let mask = Tensor::from_iter(mask, &CPU).unwrap();
    let part = |v: &Tensor| v.broadcast_mul(&mask).unwrap();
    let rest = (&phi - part(&phi)).unwrap();
    let hops = (half.bind(&links).unwrap().apply(&rest).unwrap() - &rest).unwrap();
    let expected = (&phi + part(&hops)).unwrap();
    assert!(max_difference(&expected, &phi).unwrap() > 1e-2);
    for depth in [2, 6] {
        let masks = vec![PtcnMask::Quarter { partner: 1, parity: Parity::Odd }];
        let shape = PtcnShape { masks, ..mixed(EVEN, depth, PtcnStart::Hopping { kappa: KAPPA }) };
        let (got, log_det) = flow(&lattice, EVEN, &shape, DType::F64).0.forward(&phi, &links).unwrap();
        assert!(max_difference(&got, &expected).unwrap() < 1e-13, "depth {depth}");
        assert_eq!(log_det.to_vec1::<f64>().unwrap(), [0.0; 3]);
    }
}

/// No gauge action: all there is are pseudofermions.
#[derive(Debug, Clone)]
struct Free;

impl Action<Links> for Free {
    fn action(&self, links: &Links) -> latflow_action::Result<Tensor> {
        Ok(Tensor::zeros(links.tensor().dim(0)?, DType::F64, &CPU)?)
    }
}

/// Sample variance of the log-weight of one draw over Haar links.
fn one_draw_variance<D: Dirac<Field = Links> + Clone>(
    dirac: D,
    second: &impl Distribution<Tensor, Links>,
    lattice: &Lattice,
    n: usize,
) -> f64 {
    let theory = Pseudofermion::new(Free, dirac, ConjugateGradient::default());
    let mut rng = rng(13);
    let prior = HaarUniform::new(lattice, 3, &CPU);
    let mut log_w = Vec::new();
    while log_w.len() < n {
        let links: Links = prior.sample(32, &(), &mut rng).unwrap();
        let (pf, log_q) = second.sample_with_log_prob(32, &links, &mut rng).unwrap();
        let action = theory.pseudofermion_action(&links, &pf.detach()).unwrap();
        log_w.extend((action + log_q.detach()).unwrap().neg().unwrap().to_vec1::<f64>().unwrap());
    }
    let mean = log_w.iter().sum::<f64>() / log_w.len() as f64;
    log_w.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / (log_w.len() - 1) as f64
}

#[test]
fn the_hopping_start_takes_out_the_leading_noise() {
    // 4⁴, κ = 0.1, Haar links. Variances of single draws by the trace formula on dense matrices: 1,892 and 103 on all sites, 88 on
    // half of them. The sample variance of n draws has a relative error of about √(2/n); n = 128.
    let lattice = large();
    let wilson = Wilson::new(&lattice, KAPPA, Boundary::Antiperiodic).unwrap();
    let half = EvenOddWilson::new(&wilson);
    let close = |got: f64, expected: f64| {
        assert!((got / expected - 1.0).abs() < 4.0 * (2.0f64 / 128.0).sqrt(), "{got}, expected {expected}");
    };
    let prior = |sites| Gaussian::pseudofermion(1.0, components(&lattice, sites), &CPU).unwrap();
    close(one_draw_variance(wilson.clone(), &prior(Sites::All), &lattice, 128), 1892.0);
    close(one_draw_variance(half.clone(), &prior(EVEN), &lattice, 128), 88.0);
    let model = |sites, masks| {
        let shape = PtcnShape { masks, ..local(PtcnShape::desk(sites, KAPPA)) };
        FlowModel { prior: prior(sites), flow: flow(&lattice, sites, &shape, DType::F64).0.detached() }
    };
    let ends = vec![PtcnMask::Sites(Parity::Odd), PtcnMask::Sites(Parity::Even)];
    close(one_draw_variance(wilson.clone(), &model(Sites::All, ends), &lattice, 128), 103.0);
    // Quarters take out the two-hop terms that turn a corner, three quarters of the noise to leading order.
    let quarters = one_draw_variance(half, &model(EVEN, PtcnMask::quarters()), &lattice, 128);
    let desk = one_draw_variance(
        wilson,
        &model(Sites::All, PtcnShape::desk(Sites::All, KAPPA).masks),
        &lattice,
        128,
    );
    assert!(quarters < 40.0 && desk < 50.0, "{quarters} {desk}");
}

#[test]
fn gradients_are_finite_differences() {
    let lattice = small();
    let sites = EVEN;
    let n = components(&lattice, sites);
    let (flow, store) = general(&lattice, sites);
    let links = haar(&lattice, 2, 14);
    let phi = noise(15, &[2, 2, n], 0.7);
    let model = FlowModel { prior: Gaussian::pseudofermion(1.0, n, &CPU).unwrap(), flow };
    let value = |phi: &Tensor, links: &Links| model.log_prob(phi, links).unwrap().sum_all().unwrap();
    let scalar = |t: Tensor| t.to_scalar::<f64>().unwrap();
    let phi_var = Var::from_tensor(&phi).unwrap();
    let links_var = Var::from_tensor(links.tensor()).unwrap();
    let tracked = Links::new(links_var.as_tensor().clone()).unwrap();
    let gradients = value(&phi_var, &tracked).backward().unwrap();
    let compare = |what: &str, along: f64, at: &dyn Fn(f64) -> f64| {
        let h = 1e-5;
        let difference = (at(h) - at(-h)) / (2.0 * h);
        assert!((along - difference).abs() < 1e-6 * (1.0 + along.abs()), "{what}: {along} and {difference}");
        assert!(along.abs() > 1e-6, "{what}: nothing to compare");
    };
    let dot = |a: &Tensor, b: &Tensor| scalar((a * b).unwrap().sum_all().unwrap());
    let direction = noise(16, phi.dims(), 0.3);
    compare("field", dot(gradients.get(&phi_var).unwrap(), &direction), &|h| {
        scalar(value(&(&phi + (&direction * h).unwrap()).unwrap(), &links))
    });
    // Along the group: U → e^{ih ω} U.
    let omega = noise(17, &links.tangent_shape(), 0.3);
    let moved = |h: f64| links.exp(&(&omega * h).unwrap()).unwrap();
    let tangent = ((moved(1e-6).tensor() - moved(-1e-6).tensor()).unwrap() * 5e5).unwrap();
    compare("links", dot(gradients.get(&links_var).unwrap(), &tangent), &|h| scalar(value(&phi, &moved(h))));
    for (name, var) in store.iter() {
        let gradient = gradients.get(var).unwrap().detach();
        let start = var.as_tensor().detach().copy().unwrap();
        let direction = (gradient.sign().unwrap() + 0.5).unwrap();
        compare(name, dot(&gradient, &direction), &|h| {
            var.set(&(&start + (&direction * h).unwrap()).unwrap()).unwrap();
            let value = scalar(value(&phi, &links));
            var.set(&start).unwrap();
            value
        });
    }
}

#[test]
fn training_moves_the_conditional_alone_and_lowers_the_loss() {
    let lattice = small();
    let wilson = Wilson::new(&lattice, 0.12, Boundary::Antiperiodic).unwrap();
    let theory = Pseudofermion::new(Free, EvenOddWilson::new(&wilson), ConjugateGradient::default());
    let n = components(&lattice, EVEN);
    let (flow, store) = flow(&lattice, EVEN, &mixed(EVEN, 2, PtcnStart::Random), DType::F32);
    let prior = Gaussian::pseudofermion(1.0, n, &CPU).unwrap();
    let model = Autoregressive {
        first: Fixed(HaarUniform::new(&lattice, 3, &CPU)),
        second: FlowModel { prior, flow },
    };
    // The paper's optimiser, with a larger rate for a short run.
    let schedule = Schedule::new(&[(0, 1e-2)]).unwrap();
    let clip = Clip { norm: 10.0, value: 0.1 };
    let mut trainer = Trainer::new(&store, schedule, clip, 32, Streams::new(18)).unwrap();
    trainer = trainer.with_adam_epsilon(1e-2).unwrap();
    assert!(matches!(
        Trainer::new(&store, Schedule::new(&[(0, 1.0)]).unwrap(), clip, 1, Streams::new(1))
            .unwrap()
            .with_adam_epsilon(0.0),
        Err(Error::Parameter { .. })
    ));
    let before = one_draw_variance(EvenOddWilson::new(&wilson), &model.second, &lattice, 128);
    let mut losses = Vec::new();
    for _ in 0..40 {
        losses.push(trainer.step(&model, &theory, &store).unwrap().loss);
    }
    let after = one_draw_variance(EvenOddWilson::new(&wilson), &model.second, &lattice, 128);
    let mean = |l: &[f64]| l.iter().sum::<f64>() / l.len() as f64;
    // Noise of a mean of ten batches of 32: √(2 · 96 / 320) for a loss of 96 complex components.
    assert!(
        mean(&losses[30..]) < mean(&losses[..10]) - 3.0 * (2.0 * n as f64 / 320.0).sqrt() * 0.5,
        "{losses:?}"
    );
    assert!(after < 0.7 * before, "{before} {after}");
    // What is fixed has no history, and the same draws.
    let links = haar(&lattice, 2, 19);
    let draw = |model: &dyn Fn(&mut Rng) -> (Tensor, Tensor)| model(&mut rng(20));
    let (pf, log_q) = draw(&|rng| model.second.sample_with_log_prob(2, &links, rng).unwrap());
    let fixed = Fixed(&model.second);
    let (pf_fixed, log_q_fixed) = draw(&|rng| fixed.sample_with_log_prob(2, &links, rng).unwrap());
    assert!(pf.track_op() && log_q.track_op() && !pf_fixed.track_op() && !log_q_fixed.track_op());
    assert!(!fixed.sample(2, &links, &mut rng(20)).unwrap().track_op());
    assert_eq!(max_difference(&pf, &pf_fixed).unwrap() + max_difference(&log_q, &log_q_fixed).unwrap(), 0.0);
}

#[test]
fn what_does_not_fit_is_refused() {
    let lattice = small();
    let start = PtcnStart::Random;
    let make = |sites, shape: &PtcnShape| {
        let mut store = ParamStore::new(Streams::new(1), DType::F64, &CPU);
        PtcnFlow::new(&mut store, "pf", &lattice, sites, Boundary::Antiperiodic, shape)
    };
    let good = mixed(Sites::All, 2, start);
    assert!(make(Sites::All, &good).is_ok());
    for bad in [
        PtcnShape { masks: vec![], ..good.clone() },
        PtcnShape { depth: 0, ..good.clone() },
        PtcnShape { copies: 0, ..good.clone() },
        PtcnShape { nets: NetSizes { hidden: vec![4], kernel: 3, head_kernel: 1 }, ..good.clone() },
    ] {
        assert!(make(Sites::All, &bad).is_err(), "{bad:?}");
    }
    assert!(matches!(make(EVEN, &good), Err(Error::Network { .. })), "parities on half of the sites");
    assert!(make(Sites::Of(Parity::Odd), &mixed(EVEN, 2, start)).is_err());
    let flow = make(Sites::All, &good).unwrap();
    let links = haar(&lattice, 2, 21);
    assert!(flow.forward(&noise(22, &[2, 2, 12 * 16], 1.0), &links).is_err());
    assert!(flow.forward(&noise(22, &[1, 2, 12 * 32], 1.0), &links).is_err());
    let two = Links::haar(&lattice, 2, 2, &mut rng(23), &CPU).unwrap();
    assert!(flow.forward(&noise(22, &[2, 2, 12 * 32], 1.0), &two).is_err());
    let paper = PtcnShape::paper(Sites::All);
    assert_eq!((paper.masks.len(), paper.depth, paper.copies), (36, 6, 4));
}
