//! Exact determinant and inverse of the staggered Yukawa operator by dense linear algebra.
//!
//! ```text
//! full:      det D,                       ∂ log|det D| / ∂φ_x = g (D⁻¹)_xx
//! even/odd:  |det D| = |det H_ok| |det P|,  P = D_o G ᵀ D_k + H_ok,  G = H_ok⁻¹            [YUK (B2), (B3)]
//! ```
//!
//! P has half the size of D and entries o_i G_ji k_j + H_ij, so it is filled, not multiplied, and the derivatives with
//! respect to its diagonals are elementwise products with P⁻¹: all of P⁻¹ contributes to the diagonal of D⁻¹. One LU
//! decomposition a configuration serves value and gradient, and the inverse is made only when the gradient is wanted; the
//! composed path in the tests goes through [`crate::log_abs_det`] of an explicit matrix.
//!
//! Shapes: φ `[B, V]`, results `[B]` and `[B, V]`, f64. For one flavour; two degenerate flavours give |det D|².

use crate::{Error, EvenOddYukawa, ExactDeterminant, Result, StaggeredYukawa};
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Shape, Tensor};
use latflow_kernels::{Determinant, Lu, ScaledMatrix, with_matrix, with_slice};
use latflow_lattice::{Lattice, Parity};
use rayon::prelude::*;
use std::sync::{Arc, Mutex};

/// Exact log |det D(φ)| and D⁻¹, in the full or the even/odd form.
#[derive(Debug, Clone)]
pub struct DenseYukawa(Arc<Dense>);

#[derive(Debug)]
struct Dense {
    full: StaggeredYukawa,
    /// The hopping matrix by columns.
    hop: Vec<f64>,
    even_odd: Option<EvenOdd>,
}

#[derive(Debug)]
struct EvenOdd {
    kept: Vec<u32>,
    other: Vec<u32>,
    /// P, with rows on the other sublattice and columns on the kept one.
    family: ScaledMatrix,
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
        let (hop, volume) = (dense_hop(dirac), dirac.lattice().volume());
        let (kept, other) = reduced.sites();
        let inverse = reduced.hop_inverse();
        let family = ScaledMatrix::new(
            kept.len(),
            |i, j| hop[kept[j] as usize * volume + other[i] as usize],
            |i, j| inverse[(j, i)],
        );
        let even_odd = Some(EvenOdd {
            kept: kept.to_vec(),
            other: other.to_vec(),
            family,
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
        let columns: Vec<Option<Vec<f64>>> = with_slice::<f64, _>(&phi.to_device(&Device::Cpu)?, |phi| {
            phi.par_chunks_exact(volume).map(|phi| self.0.column(phi, source)).collect()
        })?;
        let mut out = Vec::with_capacity(phi.elem_count());
        for (configuration, column) in columns.into_iter().enumerate() {
            out.extend(column.ok_or(Error::Singular { configuration })?);
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

impl ExactDeterminant for DenseYukawa {
    type Field = Tensor;

    fn log_abs_det(&self, phi: &Tensor) -> Result<Tensor> {
        DenseYukawa::log_abs_det(self, phi)
    }
}

fn dense_hop(dirac: &StaggeredYukawa) -> Vec<f64> {
    let (v, rows) = (dirac.lattice().volume(), dirac.hop().to_dense());
    (0..v * v).map(|i| rows[i % v * v + i / v]).collect()
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
        if !phi.iter().all(|p| p.is_finite()) {
            let inverse_diagonal = inverse.then(|| vec![f64::NAN; phi.len()]);
            return Analysis { log_abs_det: f64::NAN, inverse_diagonal };
        }
        match &self.even_odd {
            None => self.with_lu(phi, |lu| {
                let log_abs_det = lu.determinant().log_abs;
                let inverse = if inverse { lu.inverse() } else { None };
                let diagonal = |x: latflow_kernels::Inverse<'_>| {
                    (0..phi.len()).map(|site| x.column(site)[site]).collect()
                };
                Analysis { log_abs_det, inverse_diagonal: inverse.map(diagonal) }
            }),
            Some(blocks) => {
                let diagonal = |sites: &[u32]| -> Vec<f64> {
                    sites.iter().map(|&s| self.diagonal(phi[s as usize])).collect()
                };
                blocks.analyse(&diagonal(&blocks.other), &diagonal(&blocks.kept), inverse)
            }
        }
    }

    /// The decomposition of the full matrix.
    fn with_lu<R>(&self, phi: &[f64], f: impl FnOnce(Lu<'_>) -> R) -> R {
        let volume = phi.len();
        with_matrix(volume, |mut m| {
            for (x, (hop, &phi)) in self.hop.chunks_exact(volume).zip(phi).enumerate() {
                let column = m.column_mut(x);
                column.copy_from_slice(hop);
                column[x] += self.diagonal(phi);
            }
            f(m.decompose())
        })
    }

    fn column(&self, phi: &[f64], source: usize) -> Option<Vec<f64>> {
        let mut column = vec![0.0; phi.len()];
        column[source] = 1.0;
        self.with_lu(phi, |lu| lu.solve(&mut column)).map(|()| column)
    }
}

impl EvenOdd {
    /// From D on the two sublattices.
    fn analyse(&self, other: &[f64], kept: &[f64], inverse: bool) -> Analysis {
        let log_abs_det = |d: Determinant| self.log_abs_det_hop + d.log_abs;
        if !inverse {
            let determinant = self.family.determinant(other, kept);
            return Analysis { log_abs_det: log_abs_det(determinant), inverse_diagonal: None };
        }
        let (mut d_other, mut d_kept) = (vec![0.0; other.len()], vec![0.0; kept.len()]);
        let determinant = self.family.determinant_and_gradients(other, kept, &mut d_other, &mut d_kept);
        let regular = determinant.log_abs != f64::NEG_INFINITY;
        let inverse_diagonal = regular.then(|| {
            let mut diagonal = vec![0.0; other.len() + kept.len()];
            let sites = self.other.iter().zip(&d_other).chain(self.kept.iter().zip(&d_kept));
            sites.for_each(|(&site, &d)| diagonal[site as usize] = d);
            diagonal
        });
        Analysis { log_abs_det: log_abs_det(determinant), inverse_diagonal }
    }
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
