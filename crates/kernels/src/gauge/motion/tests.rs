//! Stages against tensor operations, clover sums against walks from site to site, with every distribution over lanes.

use super::super::Plaquettes;
use super::Stage;
use crate::unitary::{project_to_su_n, rotate};
use candle_core::{D, Device, Tensor};
use nalgebra::{Complex, DMatrix};
use rand::{Rng, SeedableRng};

/// (extents, configurations): lanes of configurations, of nodes, of both, several blocks, idle lanes.
const CASES: [(&[usize], usize); 7] = [
    (&[4, 4], 8),
    (&[4, 4, 4], 3),
    (&[4, 4, 4, 4], 1),
    (&[8, 4], 2),
    (&[2, 6, 4], 10),
    (&[2, 2], 5),
    (&[2, 4, 2, 4], 2),
];

fn random(rng: &mut impl Rng, shape: &[usize], scale: f64) -> Tensor {
    let data: Vec<f64> = (0..shape.iter().product()).map(|_| rng.random_range(-scale..scale)).collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

/// Links of SU(N), rough, by rotations of the unit matrix.
fn links(dims: &[usize], batch: usize, n: usize, seed: u64) -> Tensor {
    let rng = &mut rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(seed);
    let count = batch * dims.len() * dims.iter().product::<usize>();
    let mut one = vec![0.0; 2 * n * n];
    (0..n).for_each(|i| one[2 * (i * n + i)] = 1.0);
    let one = Tensor::from_vec(one.repeat(count), (count, n, n, 2), &Device::Cpu).unwrap();
    let u = rotate(&random(rng, &[count, n * n - 1], 2.0), &one).unwrap();
    let shape = [batch, dims.len(), dims.iter().product(), n, n, 2];
    project_to_su_n(&u).unwrap().reshape(&shape[..]).unwrap()
}

fn numbers(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(a: &Tensor, b: &Tensor, tolerance: f64) {
    assert_eq!(a.dims(), b.dims());
    let largest = numbers(&(a - b).unwrap()).into_iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    assert!(largest <= tolerance, "{largest}");
}

#[test]
fn stages_are_forces_and_rotations() {
    for (dims, batch) in CASES {
        for n in [2, 3] {
            let plaquettes = Plaquettes::new(dims).unwrap();
            let u = links(dims, batch, n, 5);
            let epsilon: Vec<f64> = (0..batch).map(|b| 0.02 + 0.01 * b as f64).collect();
            let column =
                Tensor::new(epsilon.clone(), &Device::Cpu).unwrap().reshape((batch, 1, 1, 1)).unwrap();
            let force =
                |u: &Tensor| plaquettes.sum_and_force(u, 1.0).unwrap().1.broadcast_mul(&column).unwrap();
            // Two stages, so that what is kept matters.
            let z0 = force(&u);
            let w = rotate(&(&z0 * 0.3).unwrap(), &u).unwrap();
            let kick = force(&w);
            let z1 = (&kick - (&z0 * 0.7).unwrap()).unwrap();
            let expected = rotate(&(&z1 * 1.1).unwrap(), &w).unwrap();
            let k = ((&kick * 2.0).unwrap() - (&z0 * 0.9).unwrap()).unwrap();
            let companion = rotate(&k, &u).unwrap();
            let square = (&companion - &expected).unwrap().sqr().unwrap();
            let norms = square.sum(D::Minus1).unwrap().sum(D::Minus1).unwrap().sum(D::Minus1).unwrap();
            let distances: Vec<f64> =
                norms.flatten_from(1).unwrap().max(1).unwrap().sqrt().unwrap().to_vec1().unwrap();

            let mut first = 0;
            for mut block in plaquettes.blocks(&u).unwrap() {
                let range = first..first + block.batch();
                let part = |x: &Tensor| x.narrow(0, range.start, range.len()).unwrap();
                assert_close(&block.to_tensor().unwrap(), &part(&u), 0.0);
                let (mut z, mut companion) = (block.at_rest(), block.at_rest());
                let one = Stage { keep: 0.0, weight: 0.3 };
                let two = Stage { keep: -0.7, weight: 1.1 };
                let w = block.stage(&epsilon[range.clone()], one, &mut z, None).unwrap();
                let pair = Some((&mut companion, [2.0, -0.9]));
                let end = w.stage(&epsilon[range.clone()], two, &mut z, pair).unwrap();
                assert_close(&end.to_tensor().unwrap(), &part(&expected), 1e-13);
                for (ours, expected) in
                    block.distance(&companion, &end).unwrap().iter().zip(&distances[range.clone()])
                {
                    assert!(
                        (ours - expected).abs() < 1e-13 && *expected > 1e-3,
                        "{ours} instead of {expected}"
                    );
                }
                // Every other configuration moves.
                let accept: Vec<bool> = range.clone().map(|b| b % 2 == 1).collect();
                block.replace(end, &accept).unwrap();
                let mixed = block.to_tensor().unwrap();
                for (i, b) in range.clone().enumerate() {
                    let source = if accept[i] { &expected } else { &u };
                    assert_close(&mixed.get(i).unwrap(), &source.get(b).unwrap(), 1e-13);
                }
                first = range.end;
            }
            assert_eq!(first, batch);
        }
    }
}

#[test]
fn blocks_do_not_mix() {
    let plaquettes = |dims: &[usize]| Plaquettes::new(dims).unwrap();
    let of = |dims: &[usize], batch| plaquettes(dims).blocks(&links(dims, batch, 2, 1)).unwrap().remove(0);
    let (mut block, other) = (of(&[4, 4], 3), of(&[2, 4], 3));
    let stage = Stage { keep: 0.0, weight: 1.0 };
    assert!(block.stage(&[0.1; 3], stage, &mut other.at_rest(), None).is_err());
    assert!(block.stage(&[0.1; 2], stage, &mut block.at_rest(), None).is_err());
    let companion = Some((&mut other.at_rest(), [1.0, 1.0]));
    assert!(block.stage(&[0.1; 3], stage, &mut block.at_rest(), companion).is_err());
    assert!(block.distance(&block.at_rest(), &other).is_err());
    assert!(block.replace(other, &[true; 3]).is_err());
    assert!(block.replace(of(&[4, 4], 3), &[true]).is_err());
}

type Matrix = DMatrix<Complex<f64>>;

struct Walker<'a> {
    dims: &'a [usize],
    u: Vec<Matrix>,
    n: usize,
}

impl Walker<'_> {
    fn step(&self, x: usize, mu: usize, forwards: bool) -> usize {
        let stride: usize = self.dims[mu + 1..].iter().product();
        let (l, c) = (self.dims[mu], x / stride % self.dims[mu]);
        let to = if forwards { (c + 1) % l } else { (c + l - 1) % l };
        x + to * stride - c * stride
    }

    fn walk(&self, mut x: usize, path: [(usize, bool); 4]) -> Matrix {
        let volume: usize = self.dims.iter().product();
        let mut product = Matrix::identity(self.n, self.n);
        for (mu, forwards) in path {
            if forwards {
                product *= &self.u[mu * volume + x];
                x = self.step(x, mu, true);
            } else {
                x = self.step(x, mu, false);
                product *= self.u[mu * volume + x].adjoint();
            }
        }
        product
    }

    /// Hermitian and traceless: Σ_a G^a T^a.
    fn clover(&self, x: usize, mu: usize, nu: usize) -> Matrix {
        let (f, b) = (true, false);
        let c = self.walk(x, [(mu, f), (nu, f), (mu, b), (nu, b)])
            + self.walk(x, [(nu, f), (mu, b), (nu, b), (mu, f)])
            + self.walk(x, [(mu, b), (nu, b), (mu, f), (nu, f)])
            + self.walk(x, [(nu, b), (mu, f), (nu, f), (mu, b)]);
        let g = (&c - c.adjoint()) * Complex::new(0.0, -0.125);
        let mean = g.trace() / self.n as f64;
        g - Matrix::identity(self.n, self.n) * mean
    }
}

#[test]
fn clover_sums_are_those_of_walks() {
    for (dims, batch) in CASES {
        for n in [2, 3] {
            let (d, volume) = (dims.len(), dims.iter().product::<usize>());
            let plaquettes = Plaquettes::new(dims).unwrap();
            let u = links(dims, batch, n, 9);
            let blocks = plaquettes.blocks(&u).unwrap();
            let ours: Vec<f64> = blocks.iter().flat_map(|b| b.clover_sums()).collect();
            let mut planes = Vec::new();
            (0..d).for_each(|mu| (mu + 1..d).for_each(|nu| planes.push((mu, nu))));
            let mut expected = Vec::new();
            for b in 0..batch {
                let matrix = |m: &[f64]| {
                    Matrix::from_fn(n, n, |i, j| Complex::new(m[2 * (i * n + j)], m[2 * (i * n + j) + 1]))
                };
                let u = numbers(&u.get(b).unwrap()).chunks_exact(2 * n * n).map(matrix).collect();
                let walker = Walker { dims, u, n };
                let g: Vec<Vec<Matrix>> = planes
                    .iter()
                    .map(|&(mu, nu)| (0..volume).map(|x| walker.clover(x, mu, nu)).collect())
                    .collect();
                for p in 0..planes.len() {
                    for q in p..planes.len() {
                        // tr T^aT^b = ½δ^{ab}.
                        let product = |x: usize| 2.0 * (&g[p][x] * &g[q][x]).trace().re;
                        expected.push((0..volume).map(product).sum::<f64>());
                    }
                }
            }
            assert_eq!(ours.len(), expected.len());
            for (ours, expected) in ours.iter().zip(&expected) {
                assert!(
                    (ours - expected).abs() < 1e-12 * (1.0 + expected.abs()),
                    "{ours} instead of {expected}"
                );
            }
        }
    }
}
