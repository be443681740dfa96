//! Integrators on several time scales: what they must have in common with those on one.

use candle_core::{DType, Device, Tensor};
use latflow_action::{Action, Exact, Phi4, Sum};
use latflow_lattice::check::max_difference;
use latflow_lattice::{Lattice, Streams, normal_tensor};
use latflow_sampler::{Error, Hmc, Integrator};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const INTEGRATORS: [Integrator; 2] = [Integrator::Leapfrog, Integrator::Omelyan];

fn noise(seed: u64, sigma: f64) -> Tensor {
    let mut rng = Streams::new(seed).stream("test", 0);
    normal_tensor(&mut rng, sigma, &[3, 16], DType::F64, &Device::Cpu).unwrap()
}

/// An action that counts how often it is evaluated.
#[derive(Clone)]
struct Counted(Phi4, Arc<AtomicUsize>);

impl Counted {
    fn new(m2: f64, lambda: f64) -> Self {
        Self(Phi4::new(&Lattice::new(&[4, 4]).unwrap(), m2, lambda).unwrap(), Arc::default())
    }

    fn evaluations(&self) -> usize {
        self.1.swap(0, Ordering::Relaxed)
    }
}

impl Action<Tensor> for Counted {
    fn action(&self, x: &Tensor) -> latflow_action::Result<Tensor> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.action(x)
    }
}

type Theory = Sum<Sum<Counted, Counted>, Counted>;

fn theory() -> Theory {
    Sum(Sum(Counted::new(1.0, 1.5), Counted::new(0.5, 0.4)), Counted::new(-0.2, 0.2))
}

fn trajectory(
    integrator: Integrator,
    steps: usize,
    substeps: &[usize],
    x: &Tensor,
    p: &Tensor,
) -> (Tensor, Tensor, Vec<f64>) {
    let kernel = Hmc::new(Exact(theory()), integrator, 1.0, steps).unwrap().with_substeps(substeps).unwrap();
    kernel.trajectory(&theory(), x, p).unwrap()
}

#[test]
fn one_substep_of_leapfrog_is_leapfrog() {
    // Kicks commute: P_slow P_fast X P_fast P_slow = P X P.
    let (x, p) = (noise(1, 0.4), noise(2, 1.0));
    let (x1, p1, h1) = trajectory(Integrator::Leapfrog, 7, &[], &x, &p);
    for substeps in [&[1][..], &[1, 1]] {
        let (x2, p2, h2) = trajectory(Integrator::Leapfrog, 7, substeps, &x, &p);
        assert!(max_difference(&x1, &x2).unwrap() < 1e-13 && max_difference(&p1, &p2).unwrap() < 1e-13);
        assert!(h1.iter().zip(&h2).all(|(a, b)| (a - b).abs() < 1e-11));
    }
}

#[test]
fn trajectories_are_reversible_and_second_order() {
    let (x, p) = (noise(3, 0.4), noise(4, 1.0));
    for integrator in INTEGRATORS {
        for substeps in [&[3][..], &[2, 2]] {
            let (there, momenta, _) = trajectory(integrator, 6, substeps, &x, &p);
            let (back, momenta, _) = trajectory(integrator, 6, substeps, &there, &momenta.neg().unwrap());
            assert!(max_difference(&there, &x).unwrap() > 0.1);
            assert!(max_difference(&back, &x).unwrap() < 1e-12, "{integrator:?} {substeps:?}");
            assert!(max_difference(&momenta.neg().unwrap(), &p).unwrap() < 1e-12);
            let change = |n| trajectory(integrator, n, substeps, &x, &p).2;
            for (coarse, fine) in change(30).into_iter().zip(change(60)) {
                assert!((coarse / fine - 4.0).abs() < 0.2, "{integrator:?} {substeps:?}: {coarse} / {fine}");
            }
        }
    }
    // The fast term decides: four small steps of it inside a large one are nearly as good as four times the steps.
    let norm = |h: Vec<f64>| h.iter().map(|h| h * h).sum::<f64>().sqrt();
    let single = norm(trajectory(Integrator::Leapfrog, 20, &[], &x, &p).2);
    let nested = norm(trajectory(Integrator::Leapfrog, 20, &[4], &x, &p).2);
    assert!(nested < 0.6 * single, "{nested} and {single}");
}

#[test]
fn slow_forces_are_evaluated_seldom() {
    for (integrator, per_step) in [(Integrator::Leapfrog, 1), (Integrator::Omelyan, 2)] {
        let action = theory();
        let kernel =
            Hmc::new(Exact(action.clone()), integrator, 1.0, 5).unwrap().with_substeps(&[3, 2]).unwrap();
        kernel.trajectory(&action, &noise(5, 0.4), &noise(6, 1.0)).unwrap();
        let Sum(Sum(fast, middle), slow) = &action;
        let slow_moves = 5 * per_step;
        let middle_moves = slow_moves * 3 * per_step;
        assert_eq!(slow.evaluations(), slow_moves + 1);
        assert_eq!(kernel.forces(), slow_moves + 1);
        assert_eq!(middle.evaluations(), middle_moves + 1);
        assert_eq!(fast.evaluations(), middle_moves * 2 * per_step + 1);
    }
}

#[test]
fn scales_without_a_term_are_refused() {
    let kernel =
        Hmc::new(Exact(theory()), Integrator::Leapfrog, 1.0, 2).unwrap().with_substeps(&[2, 2, 2]).unwrap();
    let failed = kernel.trajectory(&theory(), &noise(7, 0.4), &noise(8, 1.0));
    assert!(matches!(failed, Err(Error::OneTimeScale { substeps: 1 })));
    let zero =
        Hmc::<_, Tensor>::new(Exact(theory()), Integrator::Leapfrog, 1.0, 2).unwrap().with_substeps(&[0]);
    assert!(matches!(zero, Err(Error::Parameter { name: "substeps", .. })));
}
