use super::*;
use crate::conv::simd::{Element, Level};
use crate::host::with_slice;
use candle_core::{DType, Device, Var};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

const CPU: Device = Device::Cpu;

/// (extents, configurations): lanes of configurations, of nodes, of both, and with idle ones.
const CASES: [([usize; 4], usize); 6] = [
    ([4, 4, 4, 4], 8),
    ([4, 4, 4, 4], 3),
    ([2, 4, 6, 2], 5),
    ([8, 4, 4, 8], 1),
    ([4, 8, 8, 4], 2),
    ([2, 2, 2, 2], 1),
];

/// Links need not be unitary for anything here.
fn noise(seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let data: Vec<f64> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(data, shape, &CPU).unwrap()
}

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    let d = (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    d.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

const KINDS: [Sites; 3] = [Sites::All, Sites::Even, Sites::Odd];

struct Case {
    dims: [usize; 4],
    links: Tensor,
    psi: Tensor,
    targets: Sites,
}

fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (dims, batch) in CASES {
        let volume: usize = dims.iter().product();
        for targets in KINDS {
            let links = noise(1, &[batch, 4, volume, 3, 3, 2]);
            let psi = noise(2, &[batch, 2, 12 * targets.count(volume)]);
            all.push(Case { dims, links, psi, targets });
        }
    }
    all
}

#[test]
fn the_hop_is_the_composed_one_in_all_layouts_and_both_precisions() {
    for case in cases() {
        for (adjoint, antiperiodic) in [(false, true), (true, true), (false, false)] {
            let packed = WilsonLinks::new(&case.links, &case.dims, antiperiodic).unwrap();
            let got = wilson_hop(&case.links, &case.psi, &packed, case.targets, adjoint).unwrap();
            let Case { dims, links, psi, targets } = &case;
            let expected = wilson_hop_composed(links, psi, dims, antiperiodic, *targets, adjoint).unwrap();
            assert!(difference(&got, &expected) < 1e-13, "{dims:?} {targets:?} {adjoint}");
            let (links, psi) = (links.to_dtype(DType::F32).unwrap(), psi.to_dtype(DType::F32).unwrap());
            let packed = WilsonLinks::new(&links, dims, antiperiodic).unwrap();
            let got = wilson_hop(&links, &psi, &packed, *targets, adjoint).unwrap();
            let got = got.to_dtype(DType::F64).unwrap();
            assert!(difference(&got, &expected) < 1e-4, "{dims:?} {targets:?} {adjoint} f32");
        }
    }
}

#[test]
fn gradients_are_those_of_the_composed_hop() {
    for case in cases() {
        for adjoint in [false, true] {
            let (links, psi) = (Var::from_tensor(&case.links).unwrap(), Var::from_tensor(&case.psi).unwrap());
            let weight = noise(3, psi.dims());
            let gradients = |y: Tensor| {
                let g = (y * &weight).unwrap().sum_all().unwrap().backward().unwrap();
                [g.get(&links).unwrap().clone(), g.get(&psi).unwrap().clone()]
            };
            let packed = WilsonLinks::new(&links, &case.dims, true).unwrap();
            let fused = gradients(wilson_hop(&links, &psi, &packed, case.targets, adjoint).unwrap());
            let composed = gradients(
                wilson_hop_composed(&links, &psi, &case.dims, true, case.targets, adjoint).unwrap(),
            );
            for (a, b) in fused.iter().zip(&composed) {
                assert!(difference(a, b) < 1e-12, "{:?} {:?} {adjoint}", case.dims, case.targets);
            }
        }
    }
}

/// Hop with the instructions of `level` on the first block.
fn by_level<T: Element>(level: Level, case: &Case) -> Vec<T> {
    let lanes = crate::lanes::lanes_of::<T>();
    let geometry = geometry::Geometry::new(&case.dims, case.links.dim(0).unwrap(), lanes).unwrap();
    let volume = case.dims.iter().product();
    let shape = crate::lanes::FieldShape::directions(4, volume, kernel::LINK);
    let convert = |t: &Tensor| t.to_dtype(T::DTYPE).unwrap();
    let links = with_slice::<T, _>(&convert(&case.links), |u| {
        crate::lanes::LaneField::pack(&geometry.lattice, &shape, u).unwrap()
    })
    .unwrap();
    let mut source = vector::zeros::<T>(&geometry, case.targets.neighbours());
    with_slice::<T, _>(&convert(&case.psi), |v| {
        vector::pack(&geometry, case.targets.neighbours(), 0, v, source.as_mut_slice());
    })
    .unwrap();
    let mut out = vector::zeros::<T>(&geometry, case.targets);
    let work = links::Work { geometry: &geometry, targets: case.targets, level, parallel: true };
    let block = &links.as_slice()[..geometry.lattice.node_volume() * 72 * lanes];
    work.hop((block, source.as_slice()), None, (T::from_f64(1.0), false), out.as_mut_slice());
    out.as_slice().to_vec()
}

#[test]
fn all_instruction_sets_agree() {
    fn largest<T: Element>(case: &Case) -> f64 {
        let all: Vec<Vec<T>> = Level::available().iter().map(|&l| by_level::<T>(l, case)).collect();
        let apart = |a: &T, b: &T| (a.to_f64() - b.to_f64()).abs();
        all.iter().flat_map(|v| v.iter().zip(&all[0]).map(|(a, b)| apart(a, b))).fold(0.0, f64::max)
    }
    for case in cases() {
        assert!(largest::<f64>(&case) < 1e-13, "{:?} {:?}", case.dims, case.targets);
        assert!(largest::<f32>(&case) < 1e-4, "{:?} {:?}", case.dims, case.targets);
    }
}

#[test]
fn vectors_come_back_and_arithmetic_is_that_of_each_configuration() {
    for (dims, batch) in CASES {
        let volume: usize = dims.iter().product();
        let links = WilsonLinks::new(&noise(1, &[batch, 4, volume, 3, 3, 2]), &dims, true).unwrap();
        let shape = [batch, 2, 6 * volume];
        let (x, y) = (noise(4, &shape), noise(5, &shape));
        let (px, mut py) = (links.pack(&x, Sites::Odd).unwrap(), links.pack(&y, Sites::Odd).unwrap());
        assert_eq!(difference(&links.unpack(&px).unwrap(), &x), 0.0);
        let rows = |t: &Tensor| t.to_vec3::<f64>().unwrap();
        let (rx, ry) = (rows(&x), rows(&y));
        let coefficient = |b: usize| ([0.5 + b as f64, -1.0], [2.0, 0.25 * b as f64]);
        for block in 0..links.blocks() {
            let range = links.configurations(block);
            let inner = links.inner(block, &px[block], &py[block]).unwrap();
            for (b, inner) in range.clone().zip(inner) {
                let mut expected = [0.0; 2];
                for i in 0..6 * volume {
                    let ([xr, xi], [yr, yi]) = ([rx[b][0][i], rx[b][1][i]], [ry[b][0][i], ry[b][1][i]]);
                    expected[0] += xr * yr + xi * yi;
                    expected[1] += xr * yi - xi * yr;
                }
                for (inner, expected) in inner.iter().zip(expected) {
                    assert!((inner - expected).abs() < 1e-11, "{dims:?}: {inner} and {expected}");
                }
            }
            let (a, c): (Vec<_>, Vec<_>) = range.map(coefficient).unzip();
            links.combine(block, (&a, &px[block]), (&c, &mut py[block])).unwrap();
        }
        let combined = rows(&links.unpack(&py).unwrap());
        for (b, row) in combined.iter().enumerate() {
            let ([ar, ai], [cr, ci]) = coefficient(b);
            for i in 0..6 * volume {
                let ([xr, xi], [yr, yi]) = ([rx[b][0][i], rx[b][1][i]], [ry[b][0][i], ry[b][1][i]]);
                assert!((row[0][i] - (ar * xr - ai * xi + cr * yr - ci * yi)).abs() < 1e-13);
                assert!((row[1][i] - (ar * xi + ai * xr + cr * yi + ci * yr)).abs() < 1e-13);
            }
        }
    }
}

#[test]
fn mismatches_are_errors() {
    let links = noise(1, &[2, 4, 16, 3, 3, 2]);
    assert!(WilsonLinks::new(&links, &[2, 2, 2, 4], true).is_err());
    assert!(WilsonLinks::new(&links, &[4, 4], true).is_err());
    let packed = WilsonLinks::new(&links, &[2, 2, 2, 2], true).unwrap();
    assert!(wilson_hop(&links, &noise(2, &[2, 2, 96]), &packed, Sites::All, false).is_err());
    assert!(wilson_hop(&links, &noise(2, &[1, 2, 192]), &packed, Sites::All, false).is_err());
    let (even, mut out) = (packed.zeros(Sites::Even), packed.zeros(Sites::Even));
    let hop = HopFactor { factor: 1.0, adjoint: false };
    assert!(packed.hop(0, &even, None, hop, &mut out).is_err());
}
