//! Wilson's gauge action: against loops over shifted links, its force by differences and by differentiation, its symmetries.

use candle_core::{DType, Device, Tensor};
use latflow_action::check::force_defect;
use latflow_action::{Action, Error, WilsonGauge, action_and_force};
use latflow_lattice::check::max_difference;
use latflow_lattice::gauge::haar_matrices;
use latflow_lattice::{Lattice, Links, Manifold, Rng, Streams, normal_tensor, sum_per_configuration};

const CPU: Device = Device::Cpu;

fn rng(seed: u64) -> Rng {
    Streams::new(seed).stream("test", 0)
}

fn noise(shape: &[usize], rng: &mut Rng) -> Tensor {
    normal_tensor(rng, 1.0, shape, DType::F64, &CPU).unwrap()
}

/// The same action without its fused force.
struct Composed(WilsonGauge);

impl Action<Links> for Composed {
    fn action(&self, links: &Links) -> latflow_action::Result<Tensor> {
        self.0.composed(links)
    }
}

/// The fused action, differentiated instead of asked for its force.
struct Differentiated(WilsonGauge);

impl Action<Links> for Differentiated {
    fn action(&self, links: &Links) -> latflow_action::Result<Tensor> {
        self.0.action(links)
    }
}

/// (extents, N, batch): lanes of configurations and of sub-lattices; N without a kernel.
const CASES: [(&[usize], usize, usize); 7] = [
    (&[4, 4, 4, 4], 3, 3),
    (&[4, 2, 4, 8], 3, 1),
    (&[4, 4], 3, 5),
    (&[4, 6], 2, 2),
    (&[2, 4, 4], 2, 1),
    (&[2, 2], 4, 2),
    (&[2, 2], 3, 1),
];

#[test]
fn the_fused_action_and_force_are_the_composed_ones() {
    for (dims, n, batch) in CASES {
        let lattice = Lattice::new(dims).unwrap();
        let links = Links::haar(&lattice, batch, n, &mut rng(1), &CPU).unwrap();
        let action = WilsonGauge::new(&lattice, n, 1.7).unwrap();
        let (s, force) = action_and_force(&action, &links).unwrap();
        let (composed, composed_force) = action_and_force(&Composed(action.clone()), &links).unwrap();
        let (again, differentiated) = action_and_force(&Differentiated(action), &links).unwrap();
        let tolerance = 1e-13 * lattice.volume() as f64;
        assert!(max_difference(&s, &composed).unwrap() < tolerance, "{dims:?} {n}");
        assert!(max_difference(&s, &again).unwrap() < tolerance, "{dims:?} {n}");
        assert!(max_difference(&force, &composed_force).unwrap() < 1e-13, "{dims:?} {n}");
        assert!(max_difference(&force, &differentiated).unwrap() < 1e-13, "{dims:?} {n}");
    }
}

#[test]
fn the_force_is_a_difference_along_generators() {
    for (dims, n, batch) in CASES {
        let lattice = Lattice::new(dims).unwrap();
        let links = Links::haar(&lattice, batch, n, &mut rng(2), &CPU).unwrap();
        let action = WilsonGauge::new(&lattice, n, 5.7).unwrap();
        let shape = links.tangent_shape();
        let defect = force_defect(&action, &links, &noise(&shape, &mut rng(3)), 1e-3).unwrap();
        assert!(defect < 1e-8, "{dims:?} {n}: {defect:e}");
        // One generator of one link after another.
        let size: usize = shape.iter().product();
        for index in (0..size).step_by(size / 11 + 1) {
            let mut one = vec![0.0; size];
            one[index] = 1.0;
            let omega = Tensor::from_vec(one, shape.clone(), &CPU).unwrap();
            let defect = force_defect(&action, &links, &omega, 1e-3).unwrap();
            assert!(defect < 1e-8, "{dims:?} {n}, component {index}: {defect:e}");
        }
    }
}

#[test]
fn the_action_is_invariant_under_its_symmetries() {
    for (dims, n, batch) in CASES {
        let lattice = Lattice::new(dims).unwrap();
        let links = Links::haar(&lattice, batch, n, &mut rng(4), &CPU).unwrap();
        let action = WilsonGauge::new(&lattice, n, 2.0).unwrap();
        let s = action.action(&links).unwrap();
        let tolerance = 1e-13 * lattice.volume() as f64;
        let changed = |u: &Links| max_difference(&action.action(u).unwrap(), &s).unwrap();
        let omega = haar_matrices(batch * lattice.volume(), n, &mut rng(5), &CPU).unwrap();
        let omega = omega.reshape((batch, lattice.volume(), n, n, 2)).unwrap();
        let turned = links.gauge_transform(&lattice, &omega).unwrap();
        assert!(max_difference(turned.tensor(), links.tensor()).unwrap() > 0.1);
        assert!(changed(&turned) < tolerance, "{dims:?} {n}");
        // ‖F‖ is invariant too: F transforms in the adjoint representation.
        let norm = |u: &Links| {
            sum_per_configuration(&action_and_force(&action, u).unwrap().1.sqr().unwrap()).unwrap()
        };
        assert!(max_difference(&norm(&turned), &norm(&links)).unwrap() < 10.0 * tolerance);
        for mu in 0..lattice.ndim() {
            let sites: Vec<u32> = (0..lattice.volume())
                .map(|x| lattice.neighbour(x, mu, 1, latflow_lattice::Boundary::Periodic).0 as u32)
                .collect();
            let sites = Tensor::from_vec(sites, lattice.volume(), &CPU).unwrap();
            let moved = Links::new(links.tensor().index_select(&sites, 2).unwrap()).unwrap();
            assert!(changed(&moved) < tolerance, "{dims:?} {n} direction {mu}");
            // One element of the centre on all links of one time slice.
            if n == 2 {
                let minus: Vec<f64> = (0..lattice.volume())
                    .map(|x| if lattice.coordinates(x)[mu] == 0 { -1.0 } else { 1.0 })
                    .collect();
                let minus = Tensor::from_vec(minus, (1, 1, lattice.volume(), 1, 1, 1), &CPU).unwrap();
                let slices: Vec<Tensor> = (0..lattice.ndim())
                    .map(|nu| {
                        let u = links.tensor().narrow(1, nu, 1).unwrap();
                        if nu == mu { u.broadcast_mul(&minus).unwrap() } else { u }
                    })
                    .collect();
                let twisted = Links::new(Tensor::cat(&slices, 1).unwrap()).unwrap();
                assert!(changed(&twisted) < tolerance, "{dims:?} centre, direction {mu}");
            }
        }
    }
}

#[test]
fn unit_links_have_the_lowest_action_and_no_force() {
    let lattice = Lattice::new(&[4, 4, 2]).unwrap();
    let action = WilsonGauge::new(&lattice, 3, 1.5).unwrap();
    let (s, force) = action_and_force(&action, &Links::unit(&lattice, 2, 3, &CPU).unwrap()).unwrap();
    // −β · 3 planes · 32 sites.
    assert!(s.to_vec1::<f64>().unwrap().iter().all(|s| (s + 1.5 * 96.0).abs() < 1e-12));
    assert!(force.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f64>().unwrap() < 1e-14);
}

#[test]
fn what_does_not_fit_is_refused() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let action = WilsonGauge::new(&lattice, 3, 1.0).unwrap();
    let other = Links::unit(&lattice, 1, 2, &CPU).unwrap();
    assert!(matches!(action.action(&other), Err(Error::Shape { .. })));
    let small = Links::unit(&Lattice::new(&[2, 4]).unwrap(), 1, 3, &CPU).unwrap();
    assert!(action.action(&small).is_err() && action_and_force(&action, &small).is_err());
    assert!(matches!(WilsonGauge::new(&lattice, 3, f64::NAN), Err(Error::Parameter { name: "beta", .. })));
    assert!(WilsonGauge::new(&lattice, 1, 1.0).is_err());
    assert!(WilsonGauge::new(&Lattice::new(&[4]).unwrap(), 3, 1.0).is_err());
}
