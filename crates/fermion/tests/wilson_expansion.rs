//! The expanded logarithm of the Wilson operator against dense traces.

use candle_core::{DType, Device, Tensor, Var};
use latflow_fermion::{Dirac, EvenOddWilson, LogarithmicExpansion, Wilson, WilsonExpansion};
use latflow_lattice::{Boundary, Lattice, Links, Manifold, Streams, normal_tensor};

fn expansion(dims: &[usize], kappa: f64, boundary: Boundary) -> WilsonExpansion {
    let full = Wilson::new(&Lattice::new(dims).unwrap(), kappa, boundary).unwrap();
    WilsonExpansion::new(&EvenOddWilson::new(&full)).unwrap()
}

/// (tr X, tr X²) of one configuration: X applied to every unit vector.
fn dense_traces(expansion: &WilsonExpansion, links: &Links) -> [f64; 2] {
    let n = expansion.components();
    let (chunk, mut traces) = (48, [0.0; 2]);
    let shape = links.tensor().dims().to_vec();
    let tiled: Vec<usize> = std::iter::once(chunk).chain(shape[1..].iter().copied()).collect();
    let tiled = Links::new(links.tensor().broadcast_as(tiled).unwrap().contiguous().unwrap()).unwrap();
    let x = expansion.perturbation(&tiled).unwrap();
    for start in (0..n).step_by(chunk) {
        let mut units = vec![0.0; chunk * 2 * n];
        (0..chunk).for_each(|i| units[i * 2 * n + start + i] = 1.0);
        let units = Tensor::from_vec(units, (chunk, 2, n), &Device::Cpu).unwrap();
        let once = x(&units).unwrap();
        let twice = x(&once).unwrap();
        for (trace, v) in traces.iter_mut().zip([once, twice]) {
            let rows = v.narrow(1, 0, 1).unwrap().squeeze(1).unwrap().to_vec2::<f64>().unwrap();
            *trace += rows.iter().enumerate().map(|(i, row)| row[start + i]).sum::<f64>();
        }
    }
    traces
}

#[test]
fn closed_traces_are_those_of_the_matrix() {
    for (dims, boundary) in [
        ([4, 4, 4, 4], Boundary::Antiperiodic),
        ([4, 4, 4, 4], Boundary::Periodic),
        ([4, 6, 4, 4], Boundary::Antiperiodic),
    ] {
        let expansion = expansion(&dims, 0.13, boundary);
        let lattice = Lattice::new(&dims).unwrap();
        let links =
            Links::haar(&lattice, 1, 3, &mut Streams::new(5).stream("test", 0), &Device::Cpu).unwrap();
        let dense = dense_traces(&expansion, &links);
        for (k, dense) in dense.iter().enumerate() {
            let closed = expansion.trace(&links, k + 1).unwrap().to_vec1::<f64>().unwrap()[0];
            assert!(
                (closed - dense).abs() < 1e-11 * (1.0 + dense.abs()),
                "{dims:?} {boundary:?}: {closed} {dense}"
            );
        }
    }
}

#[test]
fn traces_are_differentiable_in_the_links() {
    let expansion = expansion(&[4, 4, 4, 4], 0.13, Boundary::Antiperiodic);
    let lattice = Lattice::new(&[4, 4, 4, 4]).unwrap();
    let rng = &mut Streams::new(6).stream("test", 0);
    let links = Links::haar(&lattice, 2, 3, rng, &Device::Cpu).unwrap();
    let omega = normal_tensor(rng, 1.0, &links.tangent_shape(), DType::F64, &Device::Cpu).unwrap();
    let s = Var::zeros((), DType::F64, &Device::Cpu).unwrap();
    let moved = links.exp(&omega.broadcast_mul(s.as_tensor()).unwrap()).unwrap();
    let gradient = expansion.trace(&moved, 2).unwrap().sum_all().unwrap().backward().unwrap();
    let exact: f64 = gradient.get(&s).unwrap().to_scalar().unwrap();
    let at = |h: f64| -> f64 {
        let moved = links.exp(&(&omega * h).unwrap()).unwrap();
        expansion.trace(&moved, 2).unwrap().sum_all().unwrap().to_scalar().unwrap()
    };
    let numeric = (at(1e-4) - at(-1e-4)) / 2e-4;
    assert!((exact - numeric).abs() < 1e-6 * (1.0 + numeric.abs()), "{exact} {numeric}");
}

#[test]
fn short_extents_and_high_orders_are_refused() {
    let full = Wilson::new(&Lattice::new(&[2, 4, 4, 4]).unwrap(), 0.1, Boundary::Antiperiodic).unwrap();
    let message = WilsonExpansion::new(&EvenOddWilson::new(&full)).unwrap_err().to_string();
    assert!(message.contains("at least 4"), "{message}");
    let expansion = expansion(&[4, 4, 4, 4], 0.1, Boundary::Antiperiodic);
    let links = Links::unit(&Lattice::new(&[4, 4, 4, 4]).unwrap(), 1, 3, &Device::Cpu).unwrap();
    assert!(expansion.trace(&links, 3).is_err());
}
