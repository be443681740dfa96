//! Plaquettes and staples by loops over sites, on lattices with and without exchanges of lanes, with every instruction set.

use super::Plaquettes;
use crate::conv::simd::Level;
use candle_core::{DType, Device, Tensor, Var};
use nalgebra::{Complex, DMatrix};
use rand::{Rng, SeedableRng};

type Matrix = DMatrix<Complex<f64>>;

/// Links and their matrices: arbitrary ones, because the formulas hold for any.
fn links(dims: &[usize], batch: usize, n: usize) -> (Tensor, Vec<Matrix>) {
    let (d, volume) = (dims.len(), dims.iter().product::<usize>());
    let mut rng = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(3);
    let size = batch * d * volume * n * n * 2;
    let data: Vec<f64> = (0..size).map(|_| rng.random_range(-0.5..0.5)).collect();
    let matrices = data
        .chunks_exact(2 * n * n)
        .map(|m| Matrix::from_fn(n, n, |i, j| Complex::new(m[2 * (i * n + j)], m[2 * (i * n + j) + 1])))
        .collect();
    (Tensor::from_vec(data, (batch, d, volume, n, n, 2), &Device::Cpu).unwrap(), matrices)
}

struct Sites<'a> {
    dims: &'a [usize],
}

impl Sites<'_> {
    fn step(&self, x: usize, mu: usize, forwards: bool) -> usize {
        let stride: usize = self.dims[mu + 1..].iter().product();
        let (l, c) = (self.dims[mu], x / stride % self.dims[mu]);
        let to = if forwards { (c + 1) % l } else { (c + l - 1) % l };
        x + to * stride - c * stride
    }
}

/// (extents, configurations): lanes of configurations, of nodes, of both, and with idle ones.
const CASES: [(&[usize], usize); 6] =
    [(&[4, 4], 8), (&[4, 4, 4], 3), (&[4, 4, 4, 4], 1), (&[8, 4], 2), (&[2, 6, 4], 2), (&[2, 2], 5)];

#[test]
fn sums_gradients_and_forces_are_those_of_site_loops() {
    for (dims, batch) in CASES {
        for n in [2, 3] {
            let (u, m) = links(dims, batch, n);
            let (d, volume) = (dims.len(), dims.iter().product::<usize>());
            let sites = Sites { dims };
            let at = |b: usize, mu: usize, x: usize| &m[(b * d + mu) * volume + x];
            let weight = |b: usize, p: usize| 1.0 + 0.5 * b as f64 - 0.3 * p as f64;
            let mut planes = Vec::new();
            for mu in 0..d {
                (mu + 1..d).for_each(|nu| planes.push((mu, nu)));
            }
            let (mut sums, mut staples) = (vec![0.0; batch * planes.len()], Vec::new());
            for b in 0..batch {
                for (p, &(mu, nu)) in planes.iter().enumerate() {
                    for x in 0..volume {
                        let (a, c) = (sites.step(x, mu, true), sites.step(x, nu, true));
                        let loop_ =
                            at(b, mu, x) * at(b, nu, a) * at(b, mu, c).adjoint() * at(b, nu, x).adjoint();
                        sums[b * planes.len() + p] += loop_.trace().re;
                    }
                }
                for mu in 0..d {
                    for x in 0..volume {
                        let mut staple = Matrix::zeros(n, n);
                        for nu in (0..d).filter(|nu| *nu != mu) {
                            let p = planes.iter().position(|p| *p == (mu.min(nu), mu.max(nu))).unwrap();
                            let (a, c) = (sites.step(x, mu, true), sites.step(x, nu, true));
                            let y = sites.step(x, nu, false);
                            let up = at(b, nu, x) * at(b, mu, c) * at(b, nu, a).adjoint();
                            let down =
                                at(b, nu, y).adjoint() * at(b, mu, y) * at(b, nu, sites.step(y, mu, true));
                            staple += (up + down) * Complex::from(weight(b, p));
                        }
                        staples.push(staple);
                    }
                }
            }
            let weights: Vec<f64> =
                (0..batch).flat_map(|b| (0..planes.len()).map(move |p| weight(b, p))).collect();
            let weights = Tensor::from_vec(weights, (batch, planes.len()), &Device::Cpu).unwrap();
            for level in Level::available() {
                let mut kernel = Plaquettes::new(dims).unwrap();
                kernel.level = *level;
                let var = Var::from_tensor(&u).unwrap();
                let s = kernel.sums(var.as_tensor()).unwrap();
                let found = s.flatten_all().unwrap().to_vec1::<f64>().unwrap();
                for (a, b) in found.iter().zip(&sums) {
                    assert!((a - b).abs() < 1e-12 * volume as f64, "{dims:?} {n} {level:?}: {a} {b}");
                }
                let g = (s * &weights).unwrap().sum_all().unwrap().backward().unwrap();
                let g = g.get(&var).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
                for (g, staple) in g.chunks_exact(2 * n * n).zip(&staples) {
                    for i in 0..n * n {
                        let expected = staple[(i / n, i % n)];
                        let defect = (g[2 * i] - expected.re).abs() + (g[2 * i + 1] - expected.im).abs();
                        assert!(defect < 1e-13, "{dims:?} {n} {level:?}: {defect:e}");
                    }
                }
                check_force(&kernel, &u, &m, n);
            }
        }
    }
}

/// −Im tr(T^a U S†), generators written out, against the staples, which are right by now.
fn check_force(kernel: &Plaquettes, u: &Tensor, m: &[Matrix], n: usize) {
    let staples = kernel.staples(u).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let (sum, force) = kernel.sum_and_force(u, 0.7).unwrap();
    let expected = (kernel.sums(u).unwrap().sum(1).unwrap() * 0.7).unwrap();
    let difference = (sum - expected).unwrap().abs().unwrap().max(0).unwrap().to_scalar::<f64>().unwrap();
    assert!(difference < 1e-12 * m.len() as f64, "{difference:e}");
    let force = force.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let c = Complex::new;
    let entries: Vec<Vec<(usize, usize, Complex<f64>)>> = match n {
        2 => vec![
            vec![(0, 1, c(0.5, 0.0)), (1, 0, c(0.5, 0.0))],
            vec![(0, 1, c(0.0, -0.5)), (1, 0, c(0.0, 0.5))],
            vec![(0, 0, c(0.5, 0.0)), (1, 1, c(-0.5, 0.0))],
        ],
        _ => {
            let mut all = Vec::new();
            for (j, k) in [(0, 1), (0, 2), (1, 2)] {
                all.push(vec![(j, k, c(0.5, 0.0)), (k, j, c(0.5, 0.0))]);
                all.push(vec![(j, k, c(0.0, -0.5)), (k, j, c(0.0, 0.5))]);
            }
            all.insert(2, vec![(0, 0, c(0.5, 0.0)), (1, 1, c(-0.5, 0.0))]);
            let s = 0.5 / 3f64.sqrt();
            all.push(vec![(0, 0, c(s, 0.0)), (1, 1, c(s, 0.0)), (2, 2, c(-2.0 * s, 0.0))]);
            all
        }
    };
    let generators = entries.len();
    for (link, u) in m.iter().enumerate() {
        let s = &staples[link * 2 * n * n..];
        let s = Matrix::from_fn(n, n, |i, j| c(s[2 * (i * n + j)], s[2 * (i * n + j) + 1]));
        let product = u * s.adjoint();
        for (a, entries) in entries.iter().enumerate() {
            let trace: Complex<f64> = entries.iter().map(|(i, j, t)| t * product[(*j, *i)]).sum();
            let defect = (force[link * generators + a] + 0.7 * trace.im).abs();
            assert!(defect < 1e-13, "{n}, generator {a}: {defect:e}");
        }
    }
}

#[test]
fn single_precision_is_the_same_up_to_rounding() {
    let (u, _) = links(&[4, 4, 4, 4], 2, 3);
    let kernel = Plaquettes::new(&[4, 4, 4, 4]).unwrap();
    let single = u.to_dtype(DType::F32).unwrap();
    for (a, b, tolerance) in [
        (kernel.sums(&u).unwrap(), kernel.sums(&single).unwrap(), 1e-3),
        (kernel.staples(&u).unwrap(), kernel.staples(&single).unwrap(), 1e-5),
        (kernel.sum_and_force(&u, 1.0).unwrap().0, kernel.sum_and_force(&single, 1.0).unwrap().0, 1e-3),
        (kernel.sum_and_force(&u, 1.0).unwrap().1, kernel.sum_and_force(&single, 1.0).unwrap().1, 1e-5),
    ] {
        let difference = (a - b.to_dtype(DType::F64).unwrap()).unwrap().abs().unwrap();
        let largest: f64 = difference.flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap();
        assert!(largest < tolerance && largest > 0.0, "{largest:e}");
    }
}

#[test]
fn links_of_another_lattice_are_refused() {
    let (u, _) = links(&[4, 4], 1, 2);
    assert!(
        Plaquettes::new(&[4, 2]).unwrap().sums(&u).unwrap_err().to_string().contains("[B, 2, 8, N, N, 2]")
    );
    assert!(Plaquettes::new(&[4]).is_err() && Plaquettes::new(&[4, 3]).is_err());
}
