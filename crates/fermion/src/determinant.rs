//! Exact determinant and inverse of the staggered Yukawa operator by dense linear algebra.
//!
//! ```text
//! full:      det D,                       ∂ log|det D| / ∂φ_x = g (D⁻¹)_xx
//! even/odd:  |det D| = |det H_ok| |det P|,  P = D_o G ᵀ D_k + H_ok,  G = H_ok⁻¹            [YUK (B2), (B3)]
//! ```
//!
//! P has half the size of D and entries o_i G_ji k_j + H_ij, so it is filled, not multiplied, and the derivatives with
//! respect to its diagonals are elementwise products with P⁻¹. One LU decomposition a configuration serves value and
//! gradient; the composed path in the tests goes through [`crate::log_abs_det`] of an explicit matrix.
//!
//! Shapes: φ `[B, V]`, results `[B]` and `[B, V]`, f64. For one flavour; two degenerate flavours give |det D|².

use crate::{Error, EvenOddYukawa, Result, StaggeredYukawa};
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Shape, Tensor};
use latflow_kernels::with_slice;
use latflow_lattice::{Lattice, Parity};
use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut, DVector};
use rayon::prelude::*;
use std::sync::{Arc, Mutex};

/// Exact log |det D(φ)| and D⁻¹, in the full or the even/odd form.
#[derive(Debug, Clone)]
pub struct DenseYukawa(Arc<Dense>);

#[derive(Debug)]
struct Dense {
    full: StaggeredYukawa,
    hop: DMatrix<f64>,
    even_odd: Option<EvenOdd>,
}

#[derive(Debug)]
struct EvenOdd {
    kept: Vec<u32>,
    other: Vec<u32>,
    /// H_ok⁻¹, kept × other.
    inverse: DMatrix<f64>,
    /// H_ok, other × kept.
    hop: DMatrix<f64>,
    log_abs_det_hop: f64,
}

struct Analysis {
    log_abs_det: f64,
    /// (D⁻¹)_xx for all sites x.
    inverse_diagonal: Option<Vec<f64>>,
}

impl DenseYukawa {
    /// The full V × V form: works wherever D itself is regular.
    pub fn full(dirac: &StaggeredYukawa) -> Self {
        Self(Arc::new(Dense { full: dirac.clone(), hop: dense_hop(dirac), even_odd: None }))
    }

    /// The even/odd form, half the size.
    ///
    /// # Errors
    /// [`Error::SingularHopping`] when the hopping block has no inverse.
    pub fn even_odd(dirac: &StaggeredYukawa) -> Result<Self> {
        let reduced = EvenOddYukawa::new(dirac, Parity::Even, &Device::Cpu)?;
        let hop = dense_hop(dirac);
        let (kept, other) = reduced.sites();
        let block =
            DMatrix::from_fn(other.len(), kept.len(), |i, j| hop[(other[i] as usize, kept[j] as usize)]);
        let even_odd = Some(EvenOdd {
            kept: kept.to_vec(),
            other: other.to_vec(),
            inverse: reduced.hop_inverse().clone(),
            hop: block,
            log_abs_det_hop: reduced.log_abs_det_hop(),
        });
        Ok(Self(Arc::new(Dense { full: dirac.clone(), hop, even_odd })))
    }

    /// The lattice.
    pub fn lattice(&self) -> &Lattice {
        self.0.full.lattice()
    }

    /// The operator whose determinant this is.
    pub fn dirac(&self) -> &StaggeredYukawa {
        &self.0.full
    }

    /// log |det D(φ_b)|, `[B]`, differentiable in φ: ∂/∂φ_x = g (D⁻¹)_xx. A singular D gives −∞ and a gradient of NaN,
    /// a φ that is not finite NaN for both, without disturbing the rest of the batch.
    ///
    /// # Errors
    /// When φ does not fit the lattice.
    pub fn log_abs_det(&self, phi: &Tensor) -> Result<Tensor> {
        self.check(phi)?;
        let op = DeterminantOp { dense: self.0.clone(), gradient: phi.track_op(), saved: Mutex::new(None) };
        let host = phi.to_device(&Device::Cpu)?.contiguous()?;
        Ok(host.apply_op1(op)?.to_device(phi.device())?)
    }

    /// log |det D| `[B]` and the diagonal (D⁻¹)_xx `[B, V]` from the same decomposition, without autodiff.
    ///
    /// # Errors
    /// [`Error::Singular`] when a configuration has no inverse.
    pub fn log_abs_det_and_inverse_diagonal(&self, phi: &Tensor) -> Result<(Vec<f64>, Vec<f64>)> {
        self.check(phi)?;
        let all = with_slice::<f64, _>(&phi.to_device(&Device::Cpu)?, |phi| self.0.analyse_all(phi, true))?;
        let mut logs = Vec::with_capacity(all.len());
        let mut diagonals = Vec::with_capacity(phi.elem_count());
        for (configuration, analysis) in all.into_iter().enumerate() {
            logs.push(analysis.log_abs_det);
            diagonals.extend(analysis.inverse_diagonal.ok_or(Error::Singular { configuration })?);
        }
        Ok((logs, diagonals))
    }

    /// The column D⁻¹_{x, source} for every site x, `[B, V]`, row-major.
    ///
    /// # Errors
    /// [`Error::Singular`] when a configuration has no inverse.
    pub fn inverse_column(&self, phi: &Tensor, source: usize) -> Result<Vec<f64>> {
        self.check(phi)?;
        let volume = self.lattice().volume();
        let columns: Vec<Option<DVector<f64>>> =
            with_slice::<f64, _>(&phi.to_device(&Device::Cpu)?, |phi| {
                phi.par_chunks_exact(volume).map(|phi| self.0.column(phi, source)).collect()
            })?;
        let mut out = Vec::with_capacity(phi.elem_count());
        for (configuration, column) in columns.into_iter().enumerate() {
            out.extend_from_slice(column.ok_or(Error::Singular { configuration })?.as_slice());
        }
        Ok(out)
    }

    fn check(&self, phi: &Tensor) -> Result<()> {
        let volume = self.lattice().volume();
        if phi.rank() != 2 || phi.dim(1)? != volume {
            return Err(Error::Shape {
                what: "scalar field",
                expected: format!("[B, {volume}]"),
                got: phi.dims().to_vec(),
            });
        }
        Ok(())
    }
}

fn dense_hop(dirac: &StaggeredYukawa) -> DMatrix<f64> {
    let v = dirac.lattice().volume();
    DMatrix::from_row_slice(v, v, &dirac.hop().to_dense())
}

impl Dense {
    fn diagonal(&self, phi: f64) -> f64 {
        self.full.fermion_mass() + self.full.yukawa() * phi
    }

    fn analyse_all(&self, phi: &[f64], inverse: bool) -> Vec<Analysis> {
        let volume = self.full.lattice().volume();
        phi.par_chunks_exact(volume).map(|phi| self.analyse(phi, inverse)).collect()
    }

    fn analyse(&self, phi: &[f64], inverse: bool) -> Analysis {
        match &self.even_odd {
            None => {
                let (log_abs_det, inverse) = decompose(self.full_matrix(phi), inverse);
                Analysis { log_abs_det, inverse_diagonal: inverse.map(|m| m.diagonal().as_slice().to_vec()) }
            }
            Some(blocks) => {
                let d: Vec<f64> = phi.iter().map(|p| self.diagonal(*p)).collect();
                let (log_abs_det, inverse) = decompose(blocks.matrix(&d), inverse);
                let inverse_diagonal = inverse.map(|n| {
                    let mut diagonal = vec![0.0; d.len()];
                    for (i, &o) in blocks.other.iter().enumerate() {
                        for (j, &k) in blocks.kept.iter().enumerate() {
                            let w = n[(j, i)] * blocks.inverse[(j, i)];
                            diagonal[o as usize] += w * d[k as usize];
                            diagonal[k as usize] += w * d[o as usize];
                        }
                    }
                    diagonal
                });
                Analysis { log_abs_det: blocks.log_abs_det_hop + log_abs_det, inverse_diagonal }
            }
        }
    }

    fn full_matrix(&self, phi: &[f64]) -> DMatrix<f64> {
        let mut m = self.hop.clone();
        for (x, &phi) in phi.iter().enumerate() {
            m[(x, x)] += self.diagonal(phi);
        }
        m
    }

    fn column(&self, phi: &[f64], source: usize) -> Option<DVector<f64>> {
        let mut unit = DVector::zeros(phi.len());
        unit[source] = 1.0;
        self.full_matrix(phi).lu().solve(&unit)
    }
}

impl EvenOdd {
    /// P_ij = o_i G_ji k_j + H_ij, rows on the other sublattice, columns on the kept one.
    fn matrix(&self, d: &[f64]) -> DMatrix<f64> {
        let mut m = self.hop.clone();
        for (j, &k) in self.kept.iter().enumerate() {
            let k = d[k as usize];
            for (i, &o) in self.other.iter().enumerate() {
                m[(i, j)] += d[o as usize] * self.inverse[(j, i)] * k;
            }
        }
        m
    }
}

fn decompose(m: DMatrix<f64>, inverse: bool) -> (f64, Option<DMatrix<f64>>) {
    let n = m.nrows();
    let lu = m.lu();
    let packed = lu.lu_internal();
    let log_abs_det = (0..n).map(|i| packed[(i, i)].abs().ln()).sum();
    if !inverse || (0..n).any(|i| packed[(i, i)] == 0.0) {
        return (log_abs_det, None);
    }
    let mut x = DMatrix::identity(n, n);
    lu.p().permute_rows(&mut x);
    solve_lower(packed.as_view(), &mut x.as_view_mut());
    solve_upper(packed.as_view(), &mut x.as_view_mut());
    (log_abs_det, Some(x))
}

/// Below this size a triangular solve is done row by row.
const SMALL: usize = 16;

/// b ← L⁻¹ b with the unit lower triangle of `l`, by halves, so that the work is matrix products.
fn solve_lower(l: DMatrixView<'_, f64>, b: &mut DMatrixViewMut<'_, f64>) {
    let n = l.nrows();
    if n <= SMALL {
        l.solve_lower_triangular_with_diag_mut(b, 1.0);
        return;
    }
    let half = n / 2;
    let (mut top, mut bottom) = b.rows_range_pair_mut(..half, half..);
    solve_lower(l.view((0, 0), (half, half)), &mut top.as_view_mut());
    bottom.gemm(-1.0, &l.view((half, 0), (n - half, half)), &top, 1.0);
    solve_lower(l.view((half, half), (n - half, n - half)), &mut bottom.as_view_mut());
}

/// b ← U⁻¹ b with the upper triangle of `u`, which has no zero on its diagonal.
fn solve_upper(u: DMatrixView<'_, f64>, b: &mut DMatrixViewMut<'_, f64>) {
    let n = u.nrows();
    if n <= SMALL {
        let regular = u.solve_upper_triangular_mut(b);
        debug_assert!(regular, "the pivots were tested");
        return;
    }
    let half = n / 2;
    let (mut top, mut bottom) = b.rows_range_pair_mut(..half, half..);
    solve_upper(u.view((half, half), (n - half, n - half)), &mut bottom.as_view_mut());
    top.gemm(-1.0, &u.view((0, half), (half, n - half)), &bottom, 1.0);
    solve_upper(u.view((0, 0), (half, half)), &mut top.as_view_mut());
}

struct DeterminantOp {
    dense: Arc<Dense>,
    gradient: bool,
    /// g (D⁻¹)_xx of the forward pass, so that the backward pass needs no second decomposition.
    saved: Mutex<Option<Vec<f64>>>,
}

impl CustomOp1 for DeterminantOp {
    fn name(&self) -> &'static str {
        "staggered-yukawa-log-abs-det"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (batch, volume) = l.shape().dims2()?;
        let phi = &s.as_slice::<f64>()?[l.start_offset()..][..batch * volume];
        let all = self.dense.analyse_all(phi, self.gradient);
        if self.gradient {
            let g = self.dense.full.yukawa();
            let mut flat = Vec::with_capacity(phi.len());
            for analysis in &all {
                match &analysis.inverse_diagonal {
                    Some(row) => flat.extend(row.iter().map(|x| g * x)),
                    None => flat.resize(flat.len() + volume, f64::NAN),
                }
            }
            *self.saved.lock().expect("no thread panics while holding the lock") = Some(flat);
        }
        Ok((CpuStorage::F64(all.iter().map(|a| a.log_abs_det).collect()), batch.into()))
    }

    fn bwd(&self, phi: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let saved = self.saved.lock().expect("no thread panics while holding the lock").clone();
        let Some(gradient) = saved else {
            candle_core::bail!("log |det D|: the field was not tracked when the determinant was evaluated");
        };
        let gradient = Tensor::from_vec(gradient, phi.shape(), phi.device())?;
        Ok(Some(gradient.broadcast_mul(&grad.reshape(((), 1))?)?))
    }
}
