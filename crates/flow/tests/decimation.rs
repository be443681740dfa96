//! The decimation flow and the exponential flow of pseudofermions: contracts, and the exact statements they are built on.

mod common;

use candle_core::{DType, Device, Tensor};
use common::{noise, scramble};
use latflow_action::{Action, Exact, Phi4, Pseudofermion};
use latflow_fermion::{
    ConjugateGradient, Dirac, EvenOddExpansion, EvenOddYukawa, FullExpansion, LinearOperator,
    LogarithmicExpansion, StaggeredYukawa, to_dense,
};
use latflow_flow::check::{log_det_defect, round_trip_defect, symmetry_defect};
use latflow_flow::decimation::{
    LocalPotential, MeanField, PseudofermionSource, SiteCoupling, SiteShape, stages,
};
use latflow_flow::train::{Clip, Estimator, Schedule, Trainer};
use latflow_flow::{
    Activation, Bijection, Chain, Distribution, Error, ExponentialPseudofermion, FlowModel, Gaussian,
    NetShape, ParamStore,
};
use latflow_lattice::check::max_difference;
use latflow_lattice::{Boundary, Lattice, Parity, Streams};

use std::sync::Arc;

const CPU: Device = Device::Cpu;
const POTENTIAL: LocalPotential = LocalPotential { quadratic: 0.3, quartic: 2.0, hopping: 2.0 };

fn shape(cells: usize) -> SiteShape {
    let net = NetShape {
        hidden: vec![4],
        kernel: 3,
        activation: Activation::Tanh,
        final_activation: Activation::Identity,
    };
    SiteShape { net: Some(net), radius: 2, powers: 6, cells }
}

fn dirac(lattice: &Lattice, g: f64) -> StaggeredYukawa {
    StaggeredYukawa::new(lattice, 0.0, g, Boundary::Antiperiodic).unwrap()
}

fn even_odd(lattice: &Lattice, g: f64) -> EvenOddYukawa {
    EvenOddYukawa::new(&dirac(lattice, g), Parity::Even, &CPU).unwrap()
}

fn layers(store: &mut ParamStore, lattice: &Lattice, source: bool, cells: usize) -> Vec<SiteCoupling> {
    stages(lattice)
        .unwrap()
        .iter()
        .map(|stage| {
            let layer =
                SiteCoupling::new(store, &stage.name, lattice, stage, &shape(cells), POTENTIAL).unwrap();
            match source && stage.level == 0 {
                true => layer.with_source(Arc::new(PseudofermionSource(even_odd(lattice, 0.8)))),
                false => layer,
            }
        })
        .collect()
}

fn chain<C>(layers: Vec<SiteCoupling>) -> Chain<Tensor, C>
where
    SiteCoupling: Bijection<Tensor, C>,
{
    let mut boxed: Vec<Box<dyn Bijection<Tensor, C>>> =
        layers.into_iter().map(|l| Box::new(l) as Box<dyn Bijection<Tensor, C>>).collect();
    let first = boxed.remove(0);
    Chain::new(first, boxed)
}

#[test]
fn inverse_and_jacobian_on_several_lattices() {
    for dims in [[2, 2], [4, 4], [4, 6]] {
        let lattice = Lattice::new(&dims).unwrap();
        let mut store = ParamStore::new(Streams::new(1), DType::F32, &CPU);
        let flow = chain::<()>(layers(&mut store, &lattice, false, 48));
        let z = noise(2, &[2, lattice.volume()], 0.8);
        for sigma in [0.0, 0.2] {
            scramble(&store, sigma);
            let defect = round_trip_defect(&flow, &z, &()).unwrap();
            assert!(defect < 1e-9, "{dims:?}, σ = {sigma}: round trip {defect:e}");
            let defect = log_det_defect(&flow, &z, &()).unwrap();
            assert!(defect < 1e-8, "{dims:?}, σ = {sigma}: log-determinant {defect:e}");
            let odd = |x: &Tensor| Ok(x.neg()?);
            let defect = symmetry_defect(&flow, &z, &(), odd, |()| Ok(())).unwrap();
            // The networks are f32 and see φ and −φ in other places of the same batch.
            assert!(defect < 1e-5, "{dims:?}, σ = {sigma}: φ → −φ {defect:e}");
        }
    }
}

#[test]
fn inverse_and_jacobian_with_trained_weights() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let mut store = ParamStore::new(Streams::new(1), DType::F32, &CPU);
    let flow = chain::<()>(layers(&mut store, &lattice, false, 48));
    let model = FlowModel { prior: Gaussian::new(std::f64::consts::SQRT_2, 16, &CPU).unwrap(), flow };
    let target = Exact(Phi4::new(&lattice, POTENTIAL.quadratic - 4.0, POTENTIAL.quartic).unwrap());
    let schedule = Schedule::new(&[(0, 4e-3)]).unwrap();
    let trainer = Trainer::new(&store, schedule, Clip::default(), 64, Streams::new(2)).unwrap();
    let mut trainer = trainer.with_estimator(Estimator::Path);
    let mut loss = Vec::new();
    for _ in 0..80 {
        loss.push(trainer.step(&model, &target, &store).unwrap().loss);
    }
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&loss[70..]) < mean(&loss[..10]) - 0.5, "{loss:?}");
    let z = noise(3, &[2, 16], 0.8);
    assert!(round_trip_defect(&model.flow, &z, &()).unwrap() < 1e-9);
    assert!(log_det_defect(&model.flow, &z, &()).unwrap() < 1e-8);
}

#[test]
fn with_pseudofermions_too() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let mut store = ParamStore::new(Streams::new(1), DType::F32, &CPU);
    let flow = chain::<Tensor>(layers(&mut store, &lattice, true, 48));
    scramble(&store, 0.2);
    let (z, pf) = (noise(2, &[2, 16], 0.8), noise(3, &[2, 2, 8], 0.7));
    assert!(round_trip_defect(&flow, &z, &pf).unwrap() < 1e-9);
    assert!(log_det_defect(&flow, &z, &pf).unwrap() < 1e-8);
    let other = noise(4, &[2, 2, 8], 0.7);
    let moved = max_difference(&flow.forward(&z, &pf).unwrap().0, &flow.forward(&z, &other).unwrap().0);
    assert!(moved.unwrap() > 1e-3, "the pseudofermion changes nothing");
}

/// With the linear field alone, −S(φ) − log q(φ_e|φ_o) does not depend on φ_e at all: the finest stage is exact.
#[test]
fn the_finest_stage_is_the_heat_bath_of_the_action() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let action = Phi4::new(&lattice, POTENTIAL.quadratic - 4.0, POTENTIAL.quartic).unwrap();
    let mut store = ParamStore::new(Streams::new(1), DType::F64, &CPU);
    let all = stages(&lattice).unwrap();
    let finest = all.last().unwrap();
    let shape = SiteShape { net: None, ..shape(2000) };
    let layer = SiteCoupling::new(&mut store, "0", &lattice, finest, &shape, POTENTIAL).unwrap();
    // One odd half, many even halves.
    let odd = noise(5, &[1, 16], 0.5).broadcast_as((40, 16)).unwrap().contiguous().unwrap();
    let mask: Vec<f64> = (0..16).map(|s| f64::from(u8::from(lattice.parity(s) == Parity::Even))).collect();
    let even = Tensor::from_vec(mask, 16, &CPU).unwrap();
    let normals = noise(6, &[40, 16], 1.0);
    let z = ((&odd - odd.broadcast_mul(&even).unwrap()).unwrap() + normals.broadcast_mul(&even).unwrap())
        .unwrap();
    let (phi, log_det) = Bijection::<Tensor>::forward(&layer, &z, &()).unwrap();
    let prior = (normals.broadcast_mul(&even).unwrap().sqr().unwrap().sum(1).unwrap() * -0.5).unwrap();
    let log_q = (prior - log_det).unwrap();
    let weight = (action.action(&phi).unwrap() + log_q).unwrap().to_vec1::<f64>().unwrap();
    let spread =
        weight.iter().fold(f64::MIN, |m, w| m.max(*w)) - weight.iter().fold(f64::MAX, |m, w| m.min(*w));
    assert!(spread < 1e-3, "{spread:e}");
}

/// The grid of a stage ends where the density has fallen off, in deep double wells and for free fields, too: a grid that ended
/// inside would leave out configurations that nobody would miss.
#[test]
fn the_grid_reaches_wherever_the_action_is_small() {
    let lattice = Lattice::new(&[2, 2]).unwrap();
    // (m², λ) and a field that must have a density: for all sites at the same height the action is V (m² φ² + λ φ⁴).
    for (m2, quartic, field) in [
        (-4.0, 6.0, 1.2),
        (-1.55, 2.4, 1.2),
        (-4.0, 0.3, 2.6),
        (-9.0, 0.5, 3.0),
        (1.0, 0.0, 3.0),
        (0.2, 0.0, 6.0),
    ] {
        let potential = LocalPotential { quadratic: m2 + 4.0, quartic, hopping: 2.0 };
        let mut store = ParamStore::new(Streams::new(1), DType::F64, &CPU);
        let layers = stages(&lattice).unwrap().into_iter().map(|stage| {
            let shape = SiteShape { net: None, ..shape(2000) };
            SiteCoupling::new(&mut store, &stage.name, &lattice, &stage, &shape, potential).unwrap()
        });
        let flow = chain::<()>(layers.collect());
        let model = FlowModel { prior: Gaussian::new(2.0f64.sqrt(), 4, &CPU).unwrap(), flow };
        let phi = Tensor::full(field, (1, 4), &CPU).unwrap();
        let log_q = model.log_prob(&phi, &()).unwrap().to_vec1::<f64>().unwrap()[0];
        assert!(log_q.is_finite(), "m² = {m2}, λ = {quartic}: log q({field}) = {log_q}");
    }
    for (quadratic, quartic) in [(4.0, 0.0), (1.0, -0.1), (f64::NAN, 1.0)] {
        let potential = LocalPotential { quadratic, quartic, hopping: 2.0 };
        let mut store = ParamStore::new(Streams::new(1), DType::F64, &CPU);
        let stage = &stages(&lattice).unwrap()[0];
        let layer = SiteCoupling::new(&mut store, "0", &lattice, stage, &shape(48), potential);
        assert!(matches!(layer, Err(Error::Parameter { .. })), "{quadratic}, {quartic}");
    }
}

#[test]
fn the_source_is_the_derivative_of_the_pseudofermion_action() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let operator = even_odd(&lattice, 0.8);
    let mask: Vec<f64> = (0..16).map(|s| f64::from(u8::from(lattice.parity(s) == Parity::Odd))).collect();
    let odd = noise(7, &[1, 16], 0.5).broadcast_mul(&Tensor::from_vec(mask, 16, &CPU).unwrap()).unwrap();
    let pf = noise(8, &[1, 2, 8], 0.7);
    let field = operator.first_order_field(&odd, &pf).unwrap().to_vec2::<f64>().unwrap().remove(0);
    let value = |phi: &Tensor| {
        let m = operator.bind(phi).unwrap();
        let v = to_dense(&m, 1, 8, &odd).unwrap();
        let dense = nalgebra::DMatrix::from_row_slice(
            8,
            8,
            &v.flatten_all().unwrap().to_vec1::<f64>().unwrap()[..64],
        );
        let inverse = dense.try_inverse().unwrap();
        let pf = pf.to_vec3::<f64>().unwrap();
        pf[0].iter().map(|c| (&inverse * nalgebra::DVector::from_column_slice(c)).norm_squared()).sum::<f64>()
    };
    for site in 0..16 {
        let shifted = |h: f64| {
            let mut x = odd.to_vec2::<f64>().unwrap().remove(0);
            x[site] += h;
            value(&Tensor::from_vec(x, (1, 16), &CPU).unwrap())
        };
        let force = -(shifted(1e-5) - shifted(-1e-5)) / 2e-5;
        let expected = if lattice.parity(site) == Parity::Even { force } else { 0.0 };
        assert!((field[site] - expected).abs() < 1e-7, "site {site}: {} against {expected}", field[site]);
    }
}

fn check_expansion(name: &str, expansion: &impl LogarithmicExpansion<Field = Tensor>, phi: &Tensor) {
    let (batch, n) = (phi.dim(0).unwrap(), expansion.components());
    // Columns of X and D from unit vectors.
    for b in 0..batch {
        let phi = phi.narrow(0, b, 1).unwrap();
        let rows: Vec<Tensor> = (0..n).map(|_| phi.clone()).collect();
        let phi_n = Tensor::cat(&rows, 0).unwrap();
        let mut unit = vec![0.0; n * 2 * n];
        (0..n).for_each(|i| unit[i * 2 * n + i] = 1.0);
        let unit = Tensor::from_vec(unit, (n, 2, n), &CPU).unwrap();
        let matrix = |t: &Tensor| {
            let t = t.narrow(1, 0, 1).unwrap().squeeze(1).unwrap().to_vec2::<f64>().unwrap();
            nalgebra::DMatrix::from_fn(n, n, |i, j| t[j][i])
        };
        let x = matrix(&expansion.perturbation(&phi_n).unwrap()(&unit).unwrap());
        let d0 = matrix(&expansion.constant(&unit, false).unwrap());
        let d = matrix(&expansion.bind(&phi_n).unwrap().apply(&unit).unwrap());
        let one = nalgebra::DMatrix::identity(n, n);
        assert!((&d0 * (&one + &x) - d).amax() < 1e-12, "{name}: D is not D_0 (1 + X)");
        assert!((d0.determinant().abs().ln() - expansion.constant_log_abs_det()).abs() < 1e-10);
        let mut power = one;
        for k in 1..=expansion.largest_order() {
            power = &power * &x;
            let trace = expansion.trace(&phi, k).unwrap().to_vec1::<f64>().unwrap()[0];
            assert!((trace - power.trace()).abs() < 1e-11, "{name}: tr X^{k} = {trace}, {}", power.trace());
        }
        let round = expansion.constant(&expansion.constant(&unit, false).unwrap(), true).unwrap();
        assert!(max_difference(&round, &unit).unwrap() < 1e-12);
    }
}

#[test]
fn traces_of_the_expansions_are_those_of_the_dense_matrices() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let phi = noise(9, &[3, 16], 0.6);
    for mass in [0.0, 0.3] {
        let dirac = StaggeredYukawa::new(&lattice, mass, 0.7, Boundary::Antiperiodic).unwrap();
        check_expansion("full", &FullExpansion::new(&dirac, &CPU).unwrap(), &phi);
        let even_odd = EvenOddYukawa::new(&dirac, Parity::Even, &CPU).unwrap();
        check_expansion("even/odd", &EvenOddExpansion::new(&even_odd, &CPU).unwrap(), &phi);
    }
}

#[test]
fn the_exponential_flow_is_a_bijection_with_its_determinant() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let phi = noise(10, &[2, 16], 0.6);
    let dirac = dirac(&lattice, 0.7);
    for order in 0..=2 {
        let flow = ExponentialPseudofermion::new(FullExpansion::new(&dirac, &CPU).unwrap(), order).unwrap();
        let chi = noise(11, &[2, 2, 16], 0.7);
        assert!(round_trip_defect(&flow, &chi, &phi).unwrap() < 1e-11);
        assert!(log_det_defect(&flow, &chi, &phi).unwrap() < 1e-9);
    }
    let expansion = EvenOddExpansion::new(&even_odd(&lattice, 0.7), &CPU).unwrap();
    let mut store = ParamStore::new(Streams::new(1), DType::F64, &CPU);
    let all = stages(&lattice).unwrap();
    let flow = ExponentialPseudofermion::new(expansion, 1).unwrap();
    let blind = MeanField::new(&mut store, "mean", &lattice, all.last().unwrap(), POTENTIAL, flow.clone());
    let blind = blind.unwrap();
    let chi = noise(12, &[2, 2, 8], 0.7);
    for layer in [&flow as &dyn Bijection<Tensor, Tensor>, &blind] {
        assert!(round_trip_defect(layer, &chi, &phi).unwrap() < 1e-11);
        assert!(log_det_defect(layer, &chi, &phi).unwrap() < 1e-9);
    }
    // The blind one does not look at even sites.
    let mask: Vec<f64> = (0..16).map(|s| f64::from(u8::from(lattice.parity(s) == Parity::Even))).collect();
    let even = Tensor::from_vec(mask, 16, &CPU).unwrap();
    let moved = (&phi + noise(13, &[2, 16], 1.0).broadcast_mul(&even).unwrap()).unwrap();
    let difference = |layer: &dyn Bijection<Tensor, Tensor>| {
        max_difference(&layer.forward(&chi, &phi).unwrap().0, &layer.forward(&chi, &moved).unwrap().0)
            .unwrap()
    };
    assert!(difference(&blind) == 0.0 && difference(&flow) > 1e-3);
}

/// Var of log w for one draw is Tr (W†(DD†)⁻¹W − 1)² to leading order, and falls with the order of the expansion.
#[test]
fn one_draw_is_enough_and_its_variance_is_that_of_the_dense_formula() {
    let lattice = Lattice::new(&[8, 8]).unwrap();
    let operator = even_odd(&lattice, 0.3);
    let phi = noise(14, &[1, 64], 0.43);
    let n = 400;
    let many = phi.broadcast_as((n, 64)).unwrap().contiguous().unwrap();
    let joint = Pseudofermion::new(
        Phi4::new(&lattice, -1.55, 2.4).unwrap(),
        operator.clone(),
        ConjugateGradient::default(),
    );
    let mut variances = Vec::new();
    for order in 0..=1 {
        let expansion = EvenOddExpansion::new(&operator, &CPU).unwrap();
        let flow = ExponentialPseudofermion::new(expansion, order).unwrap();
        let dense = |columns: &Tensor| {
            let t = columns.narrow(1, 0, 1).unwrap().squeeze(1).unwrap().to_vec2::<f64>().unwrap();
            nalgebra::DMatrix::from_fn(32, 32, |i, j| t[j][i])
        };
        let mut unit = vec![0.0; 32 * 64];
        (0..32).for_each(|i| unit[i * 64 + i] = 1.0);
        let unit = Tensor::from_vec(unit, (32, 2, 32), &CPU).unwrap();
        let phi32 = phi.broadcast_as((32, 64)).unwrap().contiguous().unwrap();
        let w = dense(&flow.forward(&unit, &phi32).unwrap().0);
        let m = dense(&operator.bind(&phi32).unwrap().apply(&unit).unwrap());
        let q = m.try_inverse().unwrap() * w;
        let excess = q.transpose() * &q - nalgebra::DMatrix::identity(32, 32);
        let expected = (&excess * &excess).trace();
        let model = FlowModel { prior: Gaussian::pseudofermion(1.0, 32, &CPU).unwrap(), flow };
        let mut rng = Streams::new(15).stream("draws", 0);
        let (pf, log_q) = model.sample_with_log_prob(n, &many, &mut rng).unwrap();
        let log_w = (joint.action(&(many.clone(), pf)).unwrap() + log_q).unwrap().neg().unwrap();
        let log_w = log_w.to_vec1::<f64>().unwrap();
        let mean = log_w.iter().sum::<f64>() / n as f64;
        let variance = log_w.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
        // The standard error of a variance estimate is √(2/n) relative for a Gaussian; the distribution is a sum of squares.
        let z = (variance / expected - 1.0) / (2.0 / (n as f64).sqrt());
        assert!(z.abs() < 5.0, "order {order}: variance {variance:e}, dense formula {expected:e}, z = {z}");
        variances.push(variance);
    }
    assert!(variances[1] < 0.02 * variances[0], "{variances:?}");
}
