//! Observables of one gauge field, site by site with complex matrices: as the formulas are printed.

use latflow_lattice::{Boundary, Lattice, Links};
use nalgebra::{Complex, DMatrix};
use std::f64::consts::PI;

pub(crate) type Matrix = DMatrix<Complex<f64>>;

/// One configuration.
pub(crate) struct Field {
    pub(crate) lattice: Lattice,
    pub(crate) n: usize,
    /// `[direction][site]`
    pub(crate) u: Vec<Vec<Matrix>>,
}

impl Field {
    pub(crate) fn new(lattice: &Lattice, links: &Links, configuration: usize) -> Self {
        let n = links.colours();
        let numbers =
            links.tensor().get(configuration).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let matrix = |m: &[f64]| {
            Matrix::from_fn(n, n, |i, j| Complex::new(m[2 * (i * n + j)], m[2 * (i * n + j) + 1]))
        };
        let mut all = numbers.chunks_exact(2 * n * n).map(matrix);
        let u = (0..lattice.ndim()).map(|_| all.by_ref().take(lattice.volume()).collect()).collect();
        Self { lattice: lattice.clone(), n, u }
    }

    fn at(&self, site: usize, mu: usize, step: isize) -> usize {
        self.lattice.neighbour(site, mu, step, Boundary::Periodic).0
    }

    /// The product of links along a path from a site.
    pub(crate) fn walk(&self, mut site: usize, steps: &[(usize, isize)]) -> Matrix {
        let mut product = Matrix::identity(self.n, self.n);
        for &(mu, step) in steps {
            if step > 0 {
                product *= &self.u[mu][site];
                site = self.at(site, mu, 1);
            } else {
                site = self.at(site, mu, -1);
                product *= self.u[mu][site].adjoint();
            }
        }
        product
    }

    pub(crate) fn plaquette(&self, site: usize, mu: usize, nu: usize) -> Matrix {
        &self.u[mu][site]
            * &self.u[nu][self.at(site, mu, 1)]
            * self.u[mu][self.at(site, nu, 1)].adjoint()
            * self.u[nu][site].adjoint()
    }

    pub(crate) fn sites(&self) -> std::ops::Range<usize> {
        0..self.lattice.volume()
    }

    pub(crate) fn polyakov(&self) -> Complex<f64> {
        let (time, times) = (self.lattice.ndim() - 1, self.lattice.time_extent());
        let space = self.sites().filter(|s| self.lattice.coordinates(*s)[time] == 0);
        let steps = vec![(time, 1); times];
        space.map(|s| self.walk(s, &steps).trace()).sum::<Complex<f64>>()
            * (times as f64 / self.lattice.volume() as f64)
    }

    /// The hermitian, traceless clover field strength, (C − C†)/8i.
    pub(crate) fn clover(&self, site: usize, mu: usize, nu: usize) -> Matrix {
        let c = self.walk(site, &[(mu, 1), (nu, 1), (mu, -1), (nu, -1)])
            + self.walk(site, &[(nu, 1), (mu, -1), (nu, -1), (mu, 1)])
            + self.walk(site, &[(mu, -1), (nu, -1), (mu, 1), (nu, 1)])
            + self.walk(site, &[(nu, -1), (mu, 1), (nu, 1), (mu, -1)]);
        let f = (&c - c.adjoint()) * (Complex::new(0.0, -0.125));
        let mean = f.trace() / self.n as f64;
        f - Matrix::identity(self.n, self.n) * mean
    }

    /// 1/(32π²) Σ over all 24 orders of four directions.
    pub(crate) fn charge(&self) -> f64 {
        let mut sum = 0.0;
        for s in self.sites() {
            for [a, b, c, d] in orders() {
                let sign = f64::from(signature([a, b, c, d]));
                sum += sign * (self.clover(s, a, b) * self.clover(s, c, d)).trace().re;
            }
        }
        sum / (32.0 * PI * PI)
    }

    /// ½ Σ_{μν} tr FF averaged over sites.
    pub(crate) fn clover_energy(&self) -> f64 {
        let d = self.lattice.ndim();
        let pairs = (0..d).flat_map(|mu| (0..d).filter(move |nu| *nu != mu).map(move |nu| (mu, nu)));
        let pairs: Vec<_> = pairs.collect();
        let at = |s| {
            pairs
                .iter()
                .map(|&(mu, nu)| self.clover(s, mu, nu))
                .map(|f| (&f * &f).trace().re / 2.0)
                .sum::<f64>()
        };
        self.sites().map(at).sum::<f64>() / self.lattice.volume() as f64
    }
}

fn orders() -> impl Iterator<Item = [usize; 4]> {
    let all = (0..256).map(|k| [k / 64, k / 16 % 4, k / 4 % 4, k % 4]);
    all.filter(|p| (0..4).all(|i| p.contains(&i)))
}

fn signature(p: [usize; 4]) -> i32 {
    let inversions = (0..4).flat_map(|i| (0..i).map(move |j| (j, i))).filter(|&(j, i)| p[j] > p[i]).count();
    if inversions % 2 == 0 { 1 } else { -1 }
}
