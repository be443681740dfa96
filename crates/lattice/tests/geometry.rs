//! Geometry: neighbours, translations, masks, errors.

use candle_core::{DType, Device};
use latflow_lattice::check::max_difference;
use latflow_lattice::{Boundary, Error, Lattice, Parity, Streams, checkerboard, normal_tensor};
use proptest::prelude::*;

fn lattices() -> impl Strategy<Value = Lattice> {
    prop::collection::vec(1usize..4, 1..4)
        .prop_map(|half| Lattice::new(&half.iter().map(|h| 2 * h).collect::<Vec<_>>()).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn sites_and_coordinates_are_inverse(lattice in lattices()) {
        for site in 0..lattice.volume() {
            prop_assert_eq!(lattice.site(&lattice.coordinates(site)), site);
        }
    }

    #[test]
    fn a_step_forth_and_back_is_nothing(lattice in lattices()) {
        for boundary in [Boundary::Periodic, Boundary::Antiperiodic] {
            for mu in 0..lattice.ndim() {
                for site in 0..lattice.volume() {
                    let (there, s1) = lattice.neighbour(site, mu, 1, boundary);
                    let (back, s2) = lattice.neighbour(there, mu, -1, boundary);
                    prop_assert_eq!((back, s1 * s2), (site, 1.0));
                    prop_assert!(lattice.parity(there) != lattice.parity(site));
                }
            }
        }
    }

    #[test]
    fn translations_compose(lattice in lattices(), a in -5isize..5, b in -5isize..5, seed in 0u64..100) {
        let mut rng = Streams::new(seed).stream("test", 0);
        let x = normal_tensor(&mut rng, 1.0, &[2, lattice.volume()], DType::F64, &Device::Cpu).unwrap();
        let along_time = |d: isize| {
            let mut v = vec![0; lattice.ndim()];
            v[lattice.ndim() - 1] = d;
            v
        };
        for boundary in [Boundary::Periodic, Boundary::Antiperiodic] {
            let two = lattice.translate(&lattice.translate(&x, &along_time(a), boundary).unwrap(), &along_time(b), boundary);
            let one = lattice.translate(&x, &along_time(a + b), boundary);
            prop_assert_eq!(max_difference(&two.unwrap(), &one.unwrap()).unwrap(), 0.0);
        }
    }
}

#[test]
fn once_around_in_time_is_minus_one() {
    let lattice = Lattice::new(&[4, 6]).unwrap();
    let mut rng = Streams::new(3).stream("test", 0);
    let x = normal_tensor(&mut rng, 1.0, &[1, 24], DType::F64, &Device::Cpu).unwrap();
    let around = |boundary| lattice.translate(&x, &[0, 6], boundary).unwrap();
    assert_eq!(max_difference(&around(Boundary::Periodic), &x).unwrap(), 0.0);
    assert_eq!(max_difference(&around(Boundary::Antiperiodic), &x.neg().unwrap()).unwrap(), 0.0);
    let in_space = lattice.translate(&x, &[4, 0], Boundary::Antiperiodic).unwrap();
    assert_eq!(max_difference(&in_space, &x).unwrap(), 0.0);
}

#[test]
fn the_checkerboard_has_two_halves() {
    let lattice = Lattice::new(&[4, 6]).unwrap();
    let mask = |p| checkerboard(&lattice, p, DType::F64, &Device::Cpu).unwrap();
    let sum = (mask(Parity::Even) + mask(Parity::Odd)).unwrap().to_vec1::<f64>().unwrap();
    assert!(sum.iter().all(|s| *s == 1.0));
    assert_eq!(mask(Parity::Even).sum_all().unwrap().to_scalar::<f64>().unwrap(), 12.0);
    assert_eq!(mask(Parity::Even).to_vec1::<f64>().unwrap()[0], 1.0);
}

#[test]
fn bad_extents_are_named() {
    let error = Lattice::new(&[4, 7]).unwrap_err();
    assert!(matches!(error, Error::Extent { direction: 1, extent: 7, .. }), "{error}");
    assert!(Lattice::new(&[]).is_err());
    assert!(Lattice::new(&[0, 4]).is_err());
    assert!(Lattice::new(&[4, 4]).unwrap().stencil(&[3, 5], Boundary::Periodic).is_err());
}
