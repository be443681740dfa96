//! Field observables against loops written from the paper, closed forms and exact symmetries.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod oracle;

use candle_core::{DType, Device, Tensor};
use latflow_fermion::{DenseYukawa, StaggeredYukawa};
use latflow_lattice::{Boundary, Lattice, Streams, normal_tensor};
use latflow_observable::{
    AbsCondensate, AbsMagnetization, Condensate, Error, FermionCorrelator, Magnetization, Observable, Phi2,
    TwoPoint,
};
use oracle::Site;

const LATTICES: [&[usize]; 5] = [&[4, 4], &[2, 6], &[6, 4], &[2, 4, 6], &[2, 2, 2, 4]];

fn random(lattice: &Lattice, batch: usize, seed: u64) -> Tensor {
    let mut rng = Streams::new(seed).stream("fields", lattice.volume() as u64);
    normal_tensor(&mut rng, 0.8, &[batch, lattice.volume()], DType::F64, &Device::Cpu).unwrap()
}

fn rows(x: &Tensor) -> Vec<Vec<f64>> {
    x.to_vec2().unwrap()
}

fn numbers(x: &Tensor) -> Vec<f64> {
    x.to_vec1().unwrap()
}

fn dirac(lattice: &Lattice, fermion_mass: f64, yukawa: f64) -> DenseYukawa {
    DenseYukawa::full(&StaggeredYukawa::new(lattice, fermion_mass, yukawa, Boundary::Antiperiodic).unwrap())
}

fn assert_all_close(ours: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(ours.len(), expected.len(), "{what}");
    for (i, (a, b)) in ours.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{what}, entry {i}: {a} instead of {b}");
    }
}

#[test]
fn scalar_observables_are_the_papers_sums() {
    for dims in LATTICES {
        let lattice = Lattice::new(dims).unwrap();
        let phi = random(&lattice, 3, 1);
        let two_point = rows(&TwoPoint::new(&lattice).measure(&phi).unwrap());
        let magnetization = numbers(&Magnetization.measure(&phi).unwrap());
        let absolute = numbers(&AbsMagnetization.measure(&phi).unwrap());
        let phi2 = numbers(&Phi2.measure(&phi).unwrap());
        for (b, phi) in rows(&phi).iter().enumerate() {
            let m = phi.iter().sum::<f64>() / phi.len() as f64;
            let square = phi.iter().map(|x| x * x).sum::<f64>() / phi.len() as f64;
            assert_all_close(
                &[magnetization[b], absolute[b], phi2[b]],
                &[m, m.abs(), square],
                1e-14,
                "M, |M|, φ²",
            );
            assert_all_close(&two_point[b], &oracle::two_point(dims, phi), 1e-13, "C_φ");
        }
    }
}

/// A plane wave of momentum k in time has C(t) = (V/2L_t) cos kt, one in space none at all.
#[test]
fn two_point_of_plane_waves() {
    let lattice = Lattice::new(&[6, 8]).unwrap();
    let wave = |direction: usize, n: f64| {
        let k = 2.0 * std::f64::consts::PI * n / lattice.dims()[direction] as f64;
        let phi: Vec<f64> = (0..lattice.volume())
            .map(|s| (k * lattice.coordinates(s)[direction] as f64 + 0.3).cos())
            .collect();
        let phi = Tensor::from_vec(phi, (1, lattice.volume()), &Device::Cpu).unwrap();
        (k, rows(&TwoPoint::new(&lattice).measure(&phi).unwrap()).remove(0))
    };
    for n in [1.0, 2.0, 3.0] {
        let (k, correlator) = wave(1, n);
        let expected: Vec<f64> = (0..8).map(|t| 3.0 * (k * t as f64).cos()).collect();
        assert_all_close(&correlator, &expected, 1e-13, "wave in time");
    }
    assert_all_close(&wave(0, 1.0).1, &[0.0; 8], 1e-13, "wave in space");
}

#[test]
fn scalar_observables_do_not_see_translations() {
    let lattice = Lattice::new(&[4, 6]).unwrap();
    let phi = random(&lattice, 2, 2);
    let moved = lattice.translate(&phi, &[1, 3], Boundary::Periodic).unwrap();
    let two_point = TwoPoint::new(&lattice);
    let (here, there) = (rows(&two_point.measure(&phi).unwrap()), rows(&two_point.measure(&moved).unwrap()));
    for (here, there) in here.iter().zip(&there) {
        assert_all_close(here, there, 1e-14, "C_φ");
        // Sum over t: V M²; reflection in time.
        let reflected: Vec<f64> = (0..6).map(|t| here[(6 - t) % 6]).collect();
        assert_all_close(here, &reflected, 1e-14, "C(t) = C(L_t − t)");
    }
    let m = numbers(&Magnetization.measure(&phi).unwrap());
    let sums: Vec<f64> = here.iter().map(|c| c.iter().sum()).collect();
    let expected: Vec<f64> = m.iter().map(|m| 24.0 * m * m).collect();
    assert_all_close(&sums, &expected, 1e-13, "Σ_t C(t) = V M²");
}

#[test]
fn fermion_observables_are_those_of_the_papers_matrix() {
    for dims in LATTICES {
        for (mass, g) in [(0.0, 0.7), (0.3, -0.4), (0.0, 0.1)] {
            let lattice = Lattice::new(dims).unwrap();
            let phi = random(&lattice, 3, 3);
            let dense = dirac(&lattice, mass, g);
            let condensate = numbers(&Condensate::new(&dense).measure(&phi).unwrap());
            let absolute = numbers(&AbsCondensate::new(&dense).measure(&phi).unwrap());
            let correlator = rows(&FermionCorrelator::new(&dense).measure(&phi).unwrap());
            for (b, phi) in rows(&phi).iter().enumerate() {
                let inverse = oracle::inverse(oracle::staggered(dims, phi, mass, g));
                let v = inverse.len();
                let trace = (0..v).map(|x| inverse[x][x]).sum::<f64>() / v as f64;
                // Errors of a dense inverse are ε times its condition number, here at most some 10³.
                let scale = inverse.iter().flatten().fold(0.0, |a: f64, x| a.max(x.abs()));
                let tolerance = 1e-13 * scale * scale.max(1.0);
                assert_all_close(&[condensate[b], absolute[b]], &[trace, trace.abs()], tolerance, "ψ̄ψ");
                let origin = Site::origin(dims);
                let expected: Vec<f64> = (0..dims[dims.len() - 1])
                    .map(|t| inverse[origin.at_time(t).index(dims)][origin.index(dims)])
                    .collect();
                assert_all_close(&correlator[b], &expected, tolerance, "C_ψ");
            }
        }
    }
}

#[test]
fn both_decompositions_agree() {
    let lattice = Lattice::new(&[4, 6]).unwrap();
    let phi = random(&lattice, 4, 4);
    let family = StaggeredYukawa::new(&lattice, 0.0, 0.5, Boundary::Antiperiodic).unwrap();
    let even_odd = DenseYukawa::even_odd(&family).unwrap();
    let (full, reduced) = (Condensate::new(&DenseYukawa::full(&family)), Condensate::new(&even_odd));
    let ours = numbers(&reduced.measure(&phi).unwrap());
    assert_all_close(&ours, &numbers(&full.measure(&phi).unwrap()), 1e-11, "even/odd");
}

/// Free fermions, and fermions in a constant field, which only shifts their mass to m = m_f + gφ:
///
/// ```text
/// D†D = m² + Σ_μ sin² p_μ,   G(x) = (1/V) Σ_p e^{ipx}/(m² + Σ_μ sin² p_μ),   p_t = (2n + 1)π/L_t
/// D⁻¹_{x,0} = (D†G)(x):   ψ̄ψ = m G(0),   C_ψ(t) = m G(t) − ½[G(t + 1) − G(t − 1)]
/// ```
#[test]
fn constant_fields_in_momentum_space() {
    for dims in [&[4, 4][..], &[2, 6], &[6, 10], &[4, 2, 6], &[16, 16]] {
        let lattice = Lattice::new(dims).unwrap();
        for (mass, g, field) in [(0.25, 0.3, 0.0), (0.0, 0.3, 0.0), (0.0, 0.3, 0.7), (0.1, 0.3, -1.2)] {
            let phi = Tensor::full(field, (1, lattice.volume()), &Device::Cpu).unwrap();
            let dense = dirac(&lattice, mass, g);
            let m = mass + g * field;
            let propagator = |t: isize| oracle::momentum_sum(dims, m, t as f64);
            let condensate = numbers(&Condensate::new(&dense).measure(&phi).unwrap());
            assert_all_close(&condensate, &[m * propagator(0)], 1e-12, "ψ̄ψ");
            let correlator = rows(&FermionCorrelator::new(&dense).measure(&phi).unwrap());
            let expected: Vec<f64> = (0..lattice.time_extent() as isize)
                .map(|t| m * propagator(t) - 0.5 * (propagator(t + 1) - propagator(t - 1)))
                .collect();
            assert_all_close(&correlator[0], &expected, 1e-12, "C_ψ");
        }
    }
}

/// A translation by even sites commutes with the hopping term; one by odd sites changes its signs by a similarity
/// transformation, which the trace does not see either.
#[test]
fn condensate_does_not_see_translations() {
    let lattice = Lattice::new(&[4, 6]).unwrap();
    let phi = random(&lattice, 3, 5);
    let condensate = Condensate::new(&dirac(&lattice, 0.2, 0.6));
    let here = numbers(&condensate.measure(&phi).unwrap());
    for displacement in [[2, 0], [0, 2], [-2, 4], [1, 0], [0, 1], [3, 5]] {
        let moved = lattice.translate(&phi, &displacement, Boundary::Periodic).unwrap();
        assert_all_close(&numbers(&condensate.measure(&moved).unwrap()), &here, 1e-11, "ψ̄ψ");
    }
}

/// At m_f = 0, φ → −φ: ψ̄ψ and C_ψ(t even) change sign, C_ψ(t odd) does not.
#[test]
fn reflection_of_the_field() {
    let lattice = Lattice::new(&[4, 6]).unwrap();
    let phi = random(&lattice, 3, 6);
    let minus = phi.neg().unwrap();
    let dense = dirac(&lattice, 0.0, 0.6);
    let condensate = Condensate::new(&dense);
    let flipped: Vec<f64> = numbers(&condensate.measure(&minus).unwrap()).iter().map(|x| -x).collect();
    assert_all_close(&flipped, &numbers(&condensate.measure(&phi).unwrap()), 1e-11, "ψ̄ψ");
    let correlator = FermionCorrelator::new(&dense);
    let pairs =
        rows(&correlator.measure(&phi).unwrap()).into_iter().zip(rows(&correlator.measure(&minus).unwrap()));
    for (plus, minus) in pairs {
        let signed: Vec<f64> =
            minus.iter().enumerate().map(|(t, x)| if t % 2 == 0 { -x } else { *x }).collect();
        assert_all_close(&signed, &plus, 1e-11, "C_ψ");
    }
}

/// An observable, its name and the shape of its result for five configurations of a 2×4 lattice.
type Row = (Box<dyn Observable<Tensor>>, &'static str, &'static [usize]);

#[test]
fn names_shapes_and_types() {
    let lattice = Lattice::new(&[2, 4]).unwrap();
    let dense = dirac(&lattice, 0.1, 0.5);
    let observables: Vec<Row> = vec![
        (Box::new(Magnetization), "magnetization", &[5]),
        (Box::new(AbsMagnetization), "abs_magnetization", &[5]),
        (Box::new(Phi2), "phi2", &[5]),
        (Box::new(TwoPoint::new(&lattice)), "two_point", &[5, 4]),
        (Box::new(Condensate::new(&dense)), "condensate", &[5]),
        (Box::new(AbsCondensate::new(&dense)), "abs_condensate", &[5]),
        (Box::new(FermionCorrelator::new(&dense)), "fermion_correlator", &[5, 4]),
    ];
    let phi = random(&lattice, 5, 7);
    let tracked = candle_core::Var::from_tensor(&phi).unwrap();
    for (observable, name, shape) in &observables {
        assert_eq!(observable.name(), *name);
        let measured = observable.measure(tracked.as_tensor()).unwrap();
        assert_eq!((measured.dims(), measured.dtype()), (*shape, DType::F64), "{name}");
        assert!(!measured.track_op(), "{name} records a gradient");
        for wrong in [
            random(&lattice, 8, 8).flatten_all().unwrap(),
            Tensor::zeros((2, 4, 2), DType::F64, &Device::Cpu).unwrap(),
        ] {
            let refused = observable.measure(&wrong);
            let named = matches!(
                refused,
                Err(Error::Shape { .. } | Error::Fermion(latflow_fermion::Error::Shape { .. }))
            );
            assert!(named, "{name}: {refused:?}");
        }
    }
    let single = phi.to_dtype(DType::F32).unwrap();
    assert_eq!(TwoPoint::new(&lattice).measure(&single).unwrap().dtype(), DType::F64);
}

/// Zero modes and fields that are not numbers do not turn into measurements.
#[test]
fn singular_operators_are_refused() {
    let lattice = Lattice::new(&[4, 4]).unwrap();
    let refused = |result: latflow_observable::Result<Tensor>, index: usize| match result {
        Err(Error::Fermion(latflow_fermion::Error::Singular { configuration })) => configuration == index,
        Err(Error::NearlySingular { configuration, .. }) => configuration == index,
        _ => false,
    };
    // Periodic in time and massless: φ = 0 is a zero mode, the random field before it is not.
    let dense = DenseYukawa::full(&StaggeredYukawa::new(&lattice, 0.0, 0.5, Boundary::Periodic).unwrap());
    let zero = Tensor::zeros((1, 16), DType::F64, &Device::Cpu).unwrap();
    let batch = Tensor::cat(&[random(&lattice, 1, 9), zero], 0).unwrap();
    assert!(refused(Condensate::new(&dense).measure(&batch), 1));
    assert!(refused(FermionCorrelator::new(&dense).measure(&batch), 1));
    let broken = (random(&lattice, 1, 9) * f64::NAN).unwrap();
    assert!(refused(Condensate::new(&dense).measure(&broken), 0));
    assert!(refused(FermionCorrelator::new(&dense).measure(&broken), 0));
}
