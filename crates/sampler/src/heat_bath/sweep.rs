//! One sweep over the links of one configuration.
//!
//! ```text
//! p(U_μ(x)) ∝ exp((β/N) Re tr U_μ(x) S_μ(x)†),     S_μ(x) the sum of the staples, see [`latflow_kernels::gauge`]
//! subgroup (i, j):  U → g U, g ∈ SU(2) on rows i and j;   Re tr g W = 2k g·v + const,   W = U S†,   k v its quaternion part
//! heat bath:        h = g v from e^{(2βk/N) h_0} dh      overrelaxation: h = v†, so that Re tr g W stays what it was
//! ```

use super::quaternion::{self, Quaternion};
use latflow_lattice::{Boundary, Lattice, Parity, Rng};
use num_complex::Complex64;

/// How a subgroup is updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Update {
    /// An exact draw given all other links.
    HeatBath,
    /// The reflection that keeps the action.
    Overrelaxation,
}

/// Neighbours and the order of the links.
#[derive(Debug, Clone)]
pub(super) struct Order {
    directions: usize,
    volume: usize,
    /// `[μ][site]`
    forward: Vec<u32>,
    backward: Vec<u32>,
    /// Even sites, then odd ones.
    sites: [Vec<usize>; 2],
}

impl Order {
    pub(super) fn new(lattice: &Lattice) -> Self {
        let neighbours = |step| -> Vec<u32> {
            (0..lattice.ndim())
                .flat_map(|mu| (0..lattice.volume()).map(move |x| (mu, x)))
                .map(|(mu, x)| lattice.neighbour(x, mu, step, Boundary::Periodic).0 as u32)
                .collect()
        };
        Self {
            directions: lattice.ndim(),
            volume: lattice.volume(),
            forward: neighbours(1),
            backward: neighbours(-1),
            sites: [Parity::Even, Parity::Odd].map(|p| lattice.sublattice(p)),
        }
    }

    fn forward(&self, x: usize, mu: usize) -> usize {
        self.forward[mu * self.volume + x] as usize
    }

    fn backward(&self, x: usize, mu: usize) -> usize {
        self.backward[mu * self.volume + x] as usize
    }

    /// Updates every link of a configuration `[d, V, N, N, 2]` once: direction by direction, even sites before odd ones, within
    /// which links do not see each other.
    pub(super) fn sweep<const N: usize>(
        &self,
        links: &mut [Matrix<N>],
        coefficient: f64,
        update: Update,
        rng: &mut Rng,
    ) {
        for mu in 0..self.directions {
            for sites in &self.sites {
                for &x in sites {
                    let staple = self.staples(links, x, mu);
                    let u = &mut links[mu * self.volume + x];
                    let mut w = times_adjoint(u, &staple);
                    for i in 0..N {
                        for j in i + 1..N {
                            update_subgroup(u, &mut w, (i, j), coefficient, update, rng);
                        }
                    }
                }
            }
        }
    }

    fn staples<const N: usize>(&self, links: &[Matrix<N>], x: usize, mu: usize) -> Matrix<N> {
        let at = |nu: usize, y: usize| &links[nu * self.volume + y];
        let mut sum = [[Complex64::ZERO; N]; N];
        for nu in (0..self.directions).filter(|nu| *nu != mu) {
            let (ahead, up, down) = (self.forward(x, mu), self.forward(x, nu), self.backward(x, nu));
            add(&mut sum, &times_adjoint(&times(at(nu, x), at(mu, up)), at(nu, ahead)));
            let below = adjoint_times(at(nu, down), at(mu, down));
            add(&mut sum, &times(&below, at(nu, self.forward(down, mu))));
        }
        sum
    }
}

/// One link.
pub(super) type Matrix<const N: usize> = [[Complex64; N]; N];

fn times<const N: usize>(a: &Matrix<N>, b: &Matrix<N>) -> Matrix<N> {
    let mut c = [[Complex64::ZERO; N]; N];
    for i in 0..N {
        for k in 0..N {
            for j in 0..N {
                c[i][j] += a[i][k] * b[k][j];
            }
        }
    }
    c
}

fn times_adjoint<const N: usize>(a: &Matrix<N>, b: &Matrix<N>) -> Matrix<N> {
    let mut c = [[Complex64::ZERO; N]; N];
    for i in 0..N {
        for j in 0..N {
            for k in 0..N {
                c[i][j] += a[i][k] * b[j][k].conj();
            }
        }
    }
    c
}

fn adjoint_times<const N: usize>(a: &Matrix<N>, b: &Matrix<N>) -> Matrix<N> {
    let mut c = [[Complex64::ZERO; N]; N];
    for k in 0..N {
        for i in 0..N {
            for j in 0..N {
                c[i][j] += a[k][i].conj() * b[k][j];
            }
        }
    }
    c
}

fn add<const N: usize>(sum: &mut Matrix<N>, a: &Matrix<N>) {
    for i in 0..N {
        for j in 0..N {
            sum[i][j] += a[i][j];
        }
    }
}

/// U ← g U and W ← g W for a new g in the SU(2) of rows i and j.
fn update_subgroup<const N: usize>(
    u: &mut Matrix<N>,
    w: &mut Matrix<N>,
    (i, j): (usize, usize),
    coefficient: f64,
    update: Update,
    rng: &mut Rng,
) {
    let kv: Quaternion = [
        0.5 * (w[i][i].re + w[j][j].re),
        0.5 * (w[i][j].im + w[j][i].im),
        0.5 * (w[i][j].re - w[j][i].re),
        0.5 * (w[i][i].im - w[j][j].im),
    ];
    let k = kv.iter().map(|x| x * x).sum::<f64>().sqrt();
    // Without a direction every g is as good as any other, and a reflection has none to be at.
    let v = if k > 0.0 { kv.map(|x| x / k) } else { [1.0, 0.0, 0.0, 0.0] };
    let h = match update {
        Update::HeatBath => {
            quaternion::draw(2.0 * coefficient.abs() * k, rng).map(|x| x * coefficient.signum())
        }
        Update::Overrelaxation => quaternion::inverse(v),
    };
    let [a, b, c, d] = quaternion::product(h, quaternion::inverse(v));
    let g = [[Complex64::new(a, d), Complex64::new(c, b)], [Complex64::new(-c, b), Complex64::new(a, -d)]];
    for m in [u, w] {
        let (upper, lower) = m.split_at_mut(j);
        for (top, bottom) in upper[i].iter_mut().zip(&mut lower[0]) {
            (*top, *bottom) = (g[0][0] * *top + g[0][1] * *bottom, g[1][0] * *top + g[1][1] * *bottom);
        }
    }
}
