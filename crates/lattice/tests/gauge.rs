//! Links: the algebra, the Haar measure, paths and gauge transformations.

use candle_core::{DType, Device, Tensor};
use latflow_lattice::gauge::{algebra_element, generators, haar_matrices, matrix, path, plaquettes};
use latflow_lattice::{Configuration, Lattice, Links, Manifold, Rng, Streams, normal_tensor};

fn rng(purpose: &str) -> Rng {
    Streams::new(11).stream(purpose, 0)
}

fn largest(x: &Tensor) -> f64 {
    x.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    largest(&(a - b).unwrap())
}

#[test]
fn generators_are_hermitian_traceless_and_normalised() {
    for n in [2, 3, 4] {
        let dimension = n * n - 1;
        let t = Tensor::from_vec(generators(n), (dimension, n, n, 2), &Device::Cpu).unwrap();
        assert!(difference(&t, &matrix::adjoint(&t).unwrap()) == 0.0);
        assert!(largest(&matrix::trace(&t).unwrap()) < 1e-15);
        for a in 0..dimension {
            for b in 0..dimension {
                let product = matrix::product(&t.get(a).unwrap(), &t.get(b).unwrap()).unwrap();
                let trace: f64 = matrix::re_trace(&product).unwrap().to_scalar().unwrap();
                assert!((trace - if a == b { 0.5 } else { 0.0 }).abs() < 1e-15, "{n} {a} {b} {trace}");
            }
        }
    }
}

#[test]
fn the_exponential_map_stays_in_the_group_and_starts_with_the_generator() {
    let lattice = Lattice::new(&[2, 4]).unwrap();
    for n in [2, 3] {
        let rng = &mut rng("exp");
        let u = Links::haar(&lattice, 3, n, rng, &Device::Cpu).unwrap();
        let omega = normal_tensor(rng, 1.0, &u.tangent_shape(), DType::F64, &Device::Cpu).unwrap();
        let moved = u.exp(&omega).unwrap();
        assert!(u.unitarity_deviation().unwrap() < 1e-14);
        assert!(moved.unitarity_deviation().unwrap() < 1e-13);
        // Two half steps of the same algebra element are one step, and the reverse comes back.
        let half = (&omega * 0.5).unwrap();
        let twice = u.exp(&half).unwrap().exp(&half).unwrap();
        assert!(difference(moved.tensor(), twice.tensor()) < 1e-13);
        let back = moved.exp(&omega.neg().unwrap()).unwrap();
        assert!(difference(u.tensor(), back.tensor()) < 1e-13);
        let h = 1e-5;
        let forward = u.exp(&(&omega * h).unwrap()).unwrap();
        let backward = u.exp(&(&omega * -h).unwrap()).unwrap();
        let slope = ((forward.tensor() - backward.tensor()).unwrap() / (2.0 * h)).unwrap();
        let expected = matrix::product(&algebra_element(&omega, n).unwrap(), u.tensor()).unwrap();
        assert!(difference(&slope, &expected) < 1e-8);
    }
}

#[test]
fn kernels_and_composed_formulas_agree() {
    let lattice = Lattice::new(&[2, 4]).unwrap();
    for n in [2, 3] {
        let rng = &mut rng("kernels");
        let u = Links::haar(&lattice, 3, n, rng, &Device::Cpu).unwrap();
        let v = Links::haar(&lattice, 3, n, rng, &Device::Cpu).unwrap();
        let product = matrix::product(u.tensor(), v.tensor()).unwrap();
        let composed = matrix::product_composed(u.tensor(), v.tensor()).unwrap();
        assert!(difference(&product, &composed) < 1e-15);
        let omega = normal_tensor(rng, 1.0, &u.tangent_shape(), DType::F64, &Device::Cpu).unwrap();
        let x = algebra_element(&omega, n).unwrap();
        let step = matrix::exponential_composed(&x).unwrap();
        assert!(difference(&matrix::exponential(&x).unwrap(), &step) < 1e-13);
        let moved = matrix::product_composed(&step, u.tensor()).unwrap();
        assert!(difference(u.exp(&omega).unwrap().tensor(), &moved) < 1e-13);
    }
}

#[test]
fn links_are_restored_to_the_group_and_only_from_nearby() {
    let lattice = Lattice::new(&[2, 4]).unwrap();
    for n in [2, 3, 4] {
        let rng = &mut rng("restored");
        let u = Links::haar(&lattice, 3, n, rng, &Device::Cpu).unwrap();
        let shape = u.tensor().dims();
        let noise = normal_tensor(rng, 1e-6, shape, DType::F64, &Device::Cpu).unwrap();
        let bent = Links::new((u.tensor() + noise).unwrap()).unwrap();
        let restored = bent.restored().unwrap();
        assert!(bent.unitarity_deviation().unwrap() > 1e-6);
        assert!(restored.unitarity_deviation().unwrap() < 2e-15);
        assert!(difference(u.tensor(), restored.tensor()) < 3e-5);
        let far = Links::new((u.tensor() * 1.2).unwrap()).unwrap();
        assert!(far.restored().unwrap_err().to_string().contains("0.1"));
    }
}

#[test]
fn haar_moments() {
    // ⟨|tr U|²⟩ = 1, ⟨(tr U)³⟩ = 1 and ⟨|tr U|⁴⟩ = 2 for SU(3); ⟨tr U⟩ = 0, and every matrix element has mean square 1/3.
    let count = 20_000;
    let u = haar_matrices(count, 3, &mut rng("moments"), &Device::Cpu).unwrap();
    let trace = matrix::trace(&u).unwrap().to_vec2::<f64>().unwrap();
    let corner = u.narrow(1, 2, 1).unwrap().narrow(2, 1, 1).unwrap().flatten_from(1).unwrap();
    let corner = corner.sqr().unwrap().sum(1).unwrap().to_vec1::<f64>().unwrap();
    let z = |values: Vec<f64>, exact: f64| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean - exact) / (variance / n).sqrt()
    };
    type Moment = fn(f64, f64) -> f64;
    let moments: [(&str, Moment, f64); 4] = [
        ("Re tr", |re, _| re, 0.0),
        ("|tr|²", |re, im| re * re + im * im, 1.0),
        ("Re tr³", |re, im| re * re * re - 3.0 * re * im * im, 1.0),
        ("|tr|⁴", |re, im| (re * re + im * im).powi(2), 2.0),
    ];
    for (name, f, exact) in moments {
        let z = z(trace.iter().map(|t| f(t[0], t[1])).collect(), exact);
        assert!(z.abs() < 3.5, "{name}: z = {z}");
    }
    let z = z(corner, 1.0 / 3.0);
    assert!(z.abs() < 3.5, "|U_32|²: z = {z}");
}

#[test]
fn traces_of_closed_paths_are_gauge_invariant_and_paths_compose() {
    let lattice = Lattice::new(&[4, 2, 4]).unwrap();
    let rng = &mut rng("paths");
    let u = Links::haar(&lattice, 2, 3, rng, &Device::Cpu).unwrap();
    let omega = haar_matrices(2 * lattice.volume(), 3, rng, &Device::Cpu).unwrap();
    let omega = omega.reshape((2, lattice.volume(), 3, 3, 2)).unwrap();
    let moved = u.gauge_transform(&lattice, &omega).unwrap();
    assert!(difference(u.tensor(), moved.tensor()) > 0.1);
    let plane = |u: &Links| matrix::trace(&plaquettes(u, &lattice, 0, 2).unwrap()).unwrap();
    assert!(difference(&plane(&u), &plane(&moved)) < 1e-13);
    let polyakov = |u: &Links| matrix::trace(&path(u, &lattice, &[(2, 1); 4]).unwrap()).unwrap();
    assert!(difference(&polyakov(&u), &polyakov(&moved)) < 1e-13);
    // A path and its reverse multiply to one.
    let there_and_back = path(&u, &lattice, &[(0, 1), (1, -1), (2, 1), (2, -1), (1, 1), (0, -1)]).unwrap();
    let one = matrix::identity(&[2, lattice.volume()], 3, &Device::Cpu).unwrap();
    assert!(difference(&there_and_back, &one) < 1e-13);
    // P_{νμ} = P_{μν}†.
    let reversed = matrix::adjoint(&plaquettes(&u, &lattice, 2, 0).unwrap()).unwrap();
    assert!(difference(&reversed, &plaquettes(&u, &lattice, 0, 2).unwrap()) < 1e-13);
}

#[test]
fn bad_shapes_say_what_is_expected() {
    let lattice = Lattice::new(&[2, 2]).unwrap();
    let message = Links::new(Tensor::zeros((1, 2, 4, 3, 2, 2), DType::F64, &Device::Cpu).unwrap());
    assert!(message.unwrap_err().to_string().contains("[B, d, V, N, N, 2]"));
    let u = Links::unit(&Lattice::new(&[2, 4]).unwrap(), 1, 3, &Device::Cpu).unwrap();
    assert!(u.check(&lattice).unwrap_err().to_string().contains("[B, 2, 4, N, N, 2]"));
    assert_eq!(u.batch().unwrap(), 1);
}
