//! Exact determinant of the Wilson operator by dense linear algebra, for small lattices.
//!
//! ```text
//! det D = det D̂,   D̂ = 1 − κ² H_eo H_oe = [[A, B], [−B†, C]] in chirality           (γ₅-hermiticity: A = A†, C = C†)
//! ∂ log |det D| = −2κ Re Σ_{x,μ} tr [ D⁻¹(x+μ̂, x) (1 − γ_μ) ∂U_μ(x) ],    D⁻¹_oe = κ H_oe D̂⁻¹
//! ```
//!
//! As long as A and its Schur complement are positive (always for κ < 1/8, and far beyond on rough fields) two Cholesky factors of
//! a quarter of D's size do; otherwise D̂ is decomposed as a real matrix with pivots. det D is real for every field.
//!
//! For one flavour; two degenerate flavours give (det D)².

#![allow(clippy::needless_range_loop, reason = "indices of spin and colour, as in the formulas")]

use super::Wilson;
use crate::{ExactDeterminant, Result, gamma};
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Shape, Tensor};
use latflow_kernels::hermitian::{SaddleInverse, SaddleMatrix};
use latflow_kernels::with_matrix;
use latflow_lattice::{Links, Parity};
use num_complex::Complex64;
use rayon::prelude::*;
use std::sync::{Arc, Mutex};

type Colour = [[Complex64; 3]; 3];
type Spin = [[Complex64; 4]; 4];

/// Exact log |det D(U)|.
#[derive(Debug, Clone)]
pub struct DenseWilson(Arc<Dense>);

#[derive(Debug)]
struct Dense {
    dirac: Wilson,
    /// The eight terms of a hop into each even and each odd site.
    into_even: Vec<[Term; 8]>,
    into_odd: Vec<[Term; 8]>,
    /// 1 − γ_μ for the four steps forwards, then 1 + γ_μ.
    spin: [Spin; 8],
}

/// One term of a hop: its source among the sites of the other parity, its link, and the sign at the boundary.
#[derive(Debug, Clone, Copy)]
struct Term {
    source: usize,
    /// (μ V + site): which link, dagger for a step backwards.
    link: usize,
    sign: f64,
}

struct Analysis {
    log_abs_det: f64,
    /// ∂/∂U, real and imaginary parts.
    gradient: Option<Vec<f64>>,
}

/// D̂⁻¹ from either decomposition.
enum Inverse {
    Saddle(SaddleInverse),
    Dense { order: usize, columns: Vec<Complex64> },
}

impl Inverse {
    fn get(&self, i: usize, j: usize) -> Complex64 {
        match self {
            Self::Saddle(inverse) => inverse.get(i, j),
            Self::Dense { order, columns } => columns[i + j * order],
        }
    }
}

impl DenseWilson {
    /// The determinant of `dirac`.
    pub fn new(dirac: &Wilson) -> Self {
        let lattice = dirac.lattice();
        let volume = lattice.volume();
        let mut rank = vec![0; volume];
        for parity in [Parity::Even, Parity::Odd] {
            lattice.sublattice(parity).into_iter().enumerate().for_each(|(i, site)| rank[site] = i);
        }
        let term = |site: usize, t: usize| {
            let (mu, step) = (t % 4, if t < 4 { 1 } else { -1 });
            let (neighbour, sign) = lattice.neighbour(site, mu, step, dirac.boundary());
            let owner = if t < 4 { site } else { neighbour };
            Term { source: rank[neighbour], link: mu * volume + owner, sign }
        };
        let terms = |parity: Parity| -> Vec<[Term; 8]> {
            lattice
                .sublattice(parity)
                .into_iter()
                .map(|site| std::array::from_fn(|t| term(site, t)))
                .collect()
        };
        let spin = std::array::from_fn(|t| {
            let (sign, matrix) = (if t < 4 { -1.0 } else { 1.0 }, gamma::matrix(t % 4));
            std::array::from_fn(|i| {
                std::array::from_fn(|j| {
                    let [re, im] = matrix[i][j];
                    Complex64::new(sign * re + if i == j { 1.0 } else { 0.0 }, sign * im)
                })
            })
        });
        Self(Arc::new(Dense {
            dirac: dirac.clone(),
            into_even: terms(Parity::Even),
            into_odd: terms(Parity::Odd),
            spin,
        }))
    }

    /// The operator whose determinant this is.
    pub fn dirac(&self) -> &Wilson {
        &self.0.dirac
    }

    /// log |det D(U_b)|, `[B]`, differentiable in the links. A singular D gives −∞ and a gradient of NaN, links that are not finite NaN
    /// for both, without disturbing the rest of the batch.
    ///
    /// # Errors
    /// When the links do not fit.
    pub fn log_abs_det(&self, links: &Links) -> Result<Tensor> {
        self.0.dirac.check(links)?;
        let u = links.tensor();
        let op = DeterminantOp { dense: self.0.clone(), gradient: u.track_op(), saved: Mutex::new(None) };
        Ok(u.to_device(&Device::Cpu)?.contiguous()?.apply_op1(op)?.to_device(u.device())?)
    }
}

impl ExactDeterminant for DenseWilson {
    type Field = Links;

    fn log_abs_det(&self, links: &Links) -> Result<Tensor> {
        DenseWilson::log_abs_det(self, links)
    }
}

impl Dense {
    fn analyse_all(&self, links: &[f64], gradient: bool) -> Vec<Analysis> {
        let one = 72 * self.dirac.lattice().volume();
        let batch = links.len() / one;
        if batch < rayon::current_num_threads() {
            return links.chunks_exact(one).map(|u| self.analyse(u, gradient, true)).collect();
        }
        links.par_chunks_exact(one).map(|u| self.analyse(u, gradient, false)).collect()
    }

    fn analyse(&self, u: &[f64], gradient: bool, parallel: bool) -> Analysis {
        if !u.iter().all(|u| u.is_finite()) {
            return Analysis { log_abs_det: f64::NAN, gradient: gradient.then(|| vec![f64::NAN; u.len()]) };
        }
        let hops = [self.colours(u, &self.into_even), self.colours(u, &self.into_odd)];
        let matrix = self.matrix(&hops);
        let (log_abs_det, inverse) = match matrix.clone().analyse(gradient, parallel) {
            Some((log_det, inverse)) => (log_det, inverse.map(Inverse::Saddle)),
            None => with_pivots(&matrix, gradient),
        };
        let lost = || gradient.then(|| vec![f64::NAN; u.len()]);
        let gradient = inverse.map(|inverse| self.gradient(&hops[1], &inverse, u.len())).or_else(lost);
        Analysis { log_abs_det, gradient }
    }

    /// ± U or ± U† of every term.
    fn colours(&self, u: &[f64], terms: &[[Term; 8]]) -> Vec<[Colour; 8]> {
        let colour = |t: usize, term: &Term| -> Colour {
            let at = |i: usize, j: usize| {
                let p = 18 * term.link + 2 * (3 * i + j);
                Complex64::new(u[p], u[p + 1]) * term.sign
            };
            std::array::from_fn(|i| std::array::from_fn(|j| if t < 4 { at(i, j) } else { at(j, i).conj() }))
        };
        terms.iter().map(|site| std::array::from_fn(|t| colour(t, &site[t]))).collect()
    }

    /// D̂ with the upper spin components of all even sites first.
    fn matrix(&self, [even, odd]: &[Vec<[Colour; 8]>; 2]) -> SaddleMatrix {
        let order = 3 * self.dirac.lattice().volume();
        let mut m = SaddleMatrix::zeros(order);
        (0..2 * order).for_each(|i| m.add(i, i, 1.0.into()));
        let kappa2 = self.dirac.kappa() * self.dirac.kappa();
        for (x, terms) in self.into_even.iter().enumerate() {
            for (t, term) in terms.iter().enumerate() {
                let y = term.source;
                for (s, next) in self.into_odd[y].iter().enumerate() {
                    let colour = times(&even[x][t], &odd[y][s]);
                    let spin = times(&self.spin[t], &self.spin[s]);
                    add_block(&mut m, (x, next.source), &spin, &colour, -kappa2);
                }
            }
        }
        m
    }

    /// From D⁻¹(y, x) for odd y and its even neighbours x; the links that leave odd sites follow by γ₅-hermiticity.
    fn gradient(&self, odd: &[[Colour; 8]], inverse: &Inverse, len: usize) -> Vec<f64> {
        let (kappa, order) = (self.dirac.kappa(), 3 * self.dirac.lattice().volume());
        let mut gradient = vec![0.0; len];
        for (y, terms) in self.into_odd.iter().enumerate() {
            for (t, to) in terms.iter().enumerate() {
                // K_ij = Σ D⁻¹(y, x)_{si, s'j} (1 ± γ_μ)_{s's}.
                let mut k = Colour::default();
                let projector = &self.spin[(t + 4) % 8];
                for (s, from) in terms.iter().enumerate() {
                    // tr [(1 ± γ)_s ⊗ C · X(z, x) · projector], spin first.
                    let spin = times(projector, &self.spin[s]);
                    for i in 0..3 {
                        for j in 0..3 {
                            k[i][j] += (0..3)
                                .map(|l| {
                                    let block = |a: usize, b: usize| {
                                        inverse.get(
                                            index(order, from.source, a, l),
                                            index(order, to.source, b, j),
                                        )
                                    };
                                    let sum: Complex64 = (0..4)
                                        .flat_map(|a| (0..4).map(move |b| (a, b)))
                                        .filter(|&(a, b)| spin[b][a] != Complex64::default())
                                        .map(|(a, b)| spin[b][a] * block(a, b))
                                        .sum();
                                    odd[y][s][i][l] * sum
                                })
                                .sum::<Complex64>();
                        }
                    }
                }
                let scale = -2.0 * kappa * kappa * to.sign;
                for i in 0..3 {
                    for j in 0..3 {
                        let z = k[i][j] * scale;
                        // Into y forwards: U_μ(y) itself; backwards: the link at x, which was transposed.
                        let (p, z) = if t < 4 { (3 * i + j, z) } else { (3 * j + i, z.conj()) };
                        gradient[18 * to.link + 2 * p] += z.re;
                        gradient[18 * to.link + 2 * p + 1] += z.im;
                    }
                }
            }
        }
        gradient
    }
}

/// Row of D̂: upper spin components of all sites, then lower ones.
fn index(order: usize, site: usize, spin: usize, colour: usize) -> usize {
    spin / 2 * order + 6 * site + 3 * (spin % 2) + colour
}

fn add_block(m: &mut SaddleMatrix, (x, z): (usize, usize), spin: &Spin, colour: &Colour, factor: f64) {
    let order = m.order();
    for a in 0..4 {
        for b in 0..4 {
            let s = spin[a][b] * factor;
            if s == Complex64::default() || (a >= 2 && b < 2) {
                continue;
            }
            for i in 0..3 {
                for j in 0..3 {
                    m.add(index(order, x, a, i), index(order, z, b, j), s * colour[i][j]);
                }
            }
        }
    }
}

fn times<const N: usize>(a: &[[Complex64; N]; N], b: &[[Complex64; N]; N]) -> [[Complex64; N]; N] {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..N).map(|k| a[i][k] * b[k][j]).sum()))
}

/// log |det| and the inverse of D̂ as the real matrix [[Re, −Im], [Im, Re]], whose determinant is |det D̂|².
fn with_pivots(m: &SaddleMatrix, inverse: bool) -> (f64, Option<Inverse>) {
    let n = 2 * m.order();
    with_matrix(2 * n, |mut real| {
        for j in 0..2 * n {
            for (i, x) in real.column_mut(j).iter_mut().enumerate() {
                let z = m.get(i % n, j % n);
                *x = match (i < n, j < n) {
                    (true, true) | (false, false) => z.re,
                    (true, false) => -z.im,
                    (false, true) => z.im,
                };
            }
        }
        let lu = real.decompose();
        let log_abs_det = lu.determinant().log_abs / 2.0;
        let inverse = if inverse { lu.inverse() } else { None };
        let inverse = inverse.map(|inverse| {
            let mut columns = Vec::with_capacity(n * n);
            for j in 0..n {
                let (re, im) = inverse.column(j).split_at(n);
                columns.extend(re.iter().zip(im).map(|(re, im)| Complex64::new(*re, *im)));
            }
            Inverse::Dense { order: n, columns }
        });
        (log_abs_det, inverse)
    })
}

struct DeterminantOp {
    dense: Arc<Dense>,
    gradient: bool,
    /// The gradient found in the forward pass, so that the backward pass needs no second decomposition.
    saved: Mutex<Option<Vec<f64>>>,
}

impl CustomOp1 for DeterminantOp {
    fn name(&self) -> &'static str {
        "wilson-log-abs-det"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let links = &s.as_slice::<f64>()?[l.start_offset()..][..l.shape().elem_count()];
        let all = self.dense.analyse_all(links, self.gradient);
        let logs: Vec<f64> = all.iter().map(|a| a.log_abs_det).collect();
        if self.gradient {
            let flat = all.into_iter().flat_map(|a| a.gradient.unwrap_or_default()).collect();
            *self.saved.lock().expect("no thread panics while holding the lock") = Some(flat);
        }
        let batch = logs.len();
        Ok((CpuStorage::F64(logs), batch.into()))
    }

    fn bwd(&self, links: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let saved = self.saved.lock().expect("no thread panics while holding the lock").clone();
        let Some(gradient) = saved else {
            candle_core::bail!("log |det D|: the links were not tracked when the determinant was evaluated");
        };
        let gradient = Tensor::from_vec(gradient, links.shape(), links.device())?;
        Ok(Some(gradient.broadcast_mul(&grad.reshape(&[grad.dim(0)?, 1, 1, 1, 1, 1])?)?))
    }
}
