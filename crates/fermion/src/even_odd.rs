//! Even/odd preconditioned staggered Yukawa operator, regular at m_f = 0.
//!
//! With the sites sorted by parity, k the *kept* half and o the other,
//!
//! ```text
//! D = ( D_o   H_ok )      D_o, D_k = m_f + g φ on the two halves,   H_ko = −H_okᵀ constant        [YUK (B1)]
//!     ( H_ko  D_k  )
//! |det D| = |det H_ok|² |det M|,    M = 1 − H_ok⁻¹ D_o H_ko⁻¹ D_k                                    [YUK (B2), (B3)]
//! ```
//!
//! M is the paper's second form, D_o H_ko⁻¹ D_k − H_ok, multiplied by the constant −H_ok⁻¹: (B2) keeps the even sites, (B3)
//! the odd ones. No inverse of D_o or D_k occurs, so m_f = 0 is harmless, and M is 1 + O(g²φ²): a handful of conjugate
//! gradient iterations. H_ok⁻¹ is a dense constant matrix of V/2 × V/2.
//!
//! Shapes: φ `[B, V]`, vectors `[B, 2, V/2]`, f64.

use crate::{Dirac, Error, LinearOperator, Result, StaggeredYukawa};
use candle_core::{Device, Tensor};
use latflow_kernels::{Hop, hop};
use latflow_lattice::Parity;
use nalgebra::DMatrix;

/// The family M(φ).
#[derive(Debug, Clone)]
pub struct EvenOddYukawa {
    full: StaggeredYukawa,
    kept_sites: Vec<u32>,
    other_sites: Vec<u32>,
    hop_inverse: DMatrix<f64>,
    log_abs_det_hop: f64,
    /// H_ok⁻¹ and its transpose on the device of the fields.
    inverse: Tensor,
    inverse_transposed: Tensor,
    /// No hops at all: multiplies by a diagonal in one pass over memory.
    scale: Hop,
}

/// M of one batch of scalar fields.
#[derive(Debug, Clone)]
pub struct EvenOddOperator {
    kept: Tensor,
    other: Tensor,
    inverse: Tensor,
    inverse_transposed: Tensor,
    scale: Hop,
}

impl EvenOddYukawa {
    /// The preconditioned form of `full` that keeps the sites of the given parity.
    ///
    /// # Errors
    /// [`Error::SingularHopping`] when H_ok has no inverse, as with periodic time.
    pub fn new(full: &StaggeredYukawa, kept: Parity, device: &Device) -> Result<Self> {
        let lattice = full.lattice();
        let volume = lattice.volume();
        let (kept_sites, other_sites) = (lattice.sublattice(kept), lattice.sublattice(kept.flip()));
        let dense = full.hop().to_dense();
        let half = volume / 2;
        let hop_ok = DMatrix::from_fn(half, half, |i, j| dense[other_sites[i] * volume + kept_sites[j]]);
        let lu = hop_ok.lu();
        let pivots: Vec<f64> = (0..half).map(|i| lu.lu_internal()[(i, i)].abs()).collect();
        let pivot = pivots.iter().copied().fold(f64::INFINITY, f64::min);
        let singular = || Error::SingularHopping { lattice: lattice.to_string(), pivot };
        // The pivots are of order one unless a free mode has p̂ = 0, where rounding leaves about 1e-16.
        if pivot < 1e-10 {
            return Err(singular());
        }
        let hop_inverse = lu.try_inverse().ok_or_else(singular)?;
        let log_abs_det_hop = pivots.iter().map(|p| p.ln()).sum();
        // nalgebra stores columns: the raw data are the transpose in row-major order.
        let inverse_transposed = Tensor::from_slice(hop_inverse.as_slice(), (half, half), device)?;
        let inverse = inverse_transposed.t()?.contiguous()?;
        let sites = |s: &[usize]| s.iter().map(|&s| s as u32).collect();
        Ok(Self {
            full: full.clone(),
            kept_sites: sites(&kept_sites),
            other_sites: sites(&other_sites),
            hop_inverse,
            log_abs_det_hop,
            inverse,
            inverse_transposed,
            scale: Hop::new(half, Vec::new(), Vec::new())?,
        })
    }

    /// The operator without preconditioning.
    pub fn full(&self) -> &StaggeredYukawa {
        &self.full
    }

    /// log |det H_ok|; log |det D| = 2 log |det H_ok| + log |det M|.
    pub fn log_abs_det_hop(&self) -> f64 {
        self.log_abs_det_hop
    }

    /// m_f + gφ on the kept sites and on the others, `[B, V/2]` each.
    ///
    /// # Errors
    /// When φ does not fit.
    pub fn diagonals(&self, phi: &Tensor) -> Result<(Tensor, Tensor)> {
        let diagonal = self.full.diagonal(phi)?;
        let half = self.kept_sites.len();
        let pick = |sites: &[u32]| -> Result<Tensor> {
            let sites = Tensor::from_slice(sites, half, phi.device())?;
            Ok(diagonal.index_select(&sites, 1)?)
        };
        Ok((pick(&self.kept_sites)?, pick(&self.other_sites)?))
    }

    /// The field that a pseudofermion exerts on the kept sites, to first order in their diagonal:
    ///
    /// ```text
    /// J_x = −∂/∂φ_x [ϕ† (M M†)⁻¹ ϕ]  at D_k = 0    = 2 g Re [ϕ_x* (H_ok⁻¹ D_o H_ok⁻ᵀ ϕ)_x]     on kept sites, 0 elsewhere
    /// ```
    ///
    /// It depends on φ at the other sites alone. φ `[B, V]`, ϕ `[B, 2, V/2]`; J `[B, V]`.
    ///
    /// # Errors
    /// When a field does not fit.
    pub fn first_order_field(&self, phi: &Tensor, pf: &Tensor) -> Result<Tensor> {
        let (_, other) = self.diagonals(phi)?;
        let w = matrix_times(&self.inverse, pf)?.broadcast_mul(&other.unsqueeze(1)?)?;
        let w = matrix_times(&self.inverse_transposed, &w)?;
        let kept = ((pf * w)?.sum(1)? * (2.0 * self.full.yukawa()))?;
        let half = self.kept_sites.len();
        let mut place = vec![half as u32; 2 * half];
        for (i, &site) in self.kept_sites.iter().enumerate() {
            place[site as usize] = i as u32;
        }
        let zero = Tensor::zeros((phi.dim(0)?, 1), kept.dtype(), phi.device())?;
        let place = Tensor::from_vec(place, 2 * half, phi.device())?;
        Ok(Tensor::cat(&[&kept, &zero], 1)?.index_select(&place, 1)?)
    }

    /// H_ok⁻¹.
    pub(crate) fn hop_inverse(&self) -> &DMatrix<f64> {
        &self.hop_inverse
    }

    /// The sites M acts on, and the others.
    pub(crate) fn sites(&self) -> (&[u32], &[u32]) {
        (&self.kept_sites, &self.other_sites)
    }
}

impl Dirac for EvenOddYukawa {
    type Field = Tensor;
    type Operator = EvenOddOperator;

    fn bind(&self, phi: &Tensor) -> Result<EvenOddOperator> {
        let (kept, other) = self.diagonals(phi)?;
        Ok(EvenOddOperator {
            kept,
            other,
            inverse: self.inverse.clone(),
            inverse_transposed: self.inverse_transposed.clone(),
            scale: self.scale.clone(),
        })
    }

    fn components(&self) -> usize {
        self.kept_sites.len()
    }

    fn log_abs_det_constant(&self) -> f64 {
        2.0 * self.log_abs_det_hop
    }
}

/// Multiplies the last axis by a constant matrix whose transpose is `transposed`.
pub(crate) fn matrix_times(transposed: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (batch, components, n) = v.dims3()?;
    Ok(v.reshape((batch * components, n))?.matmul(transposed)?.reshape((batch, components, n))?)
}

impl EvenOddOperator {
    /// The matrices M − 1 = H_ok⁻¹ D_o (H_ok⁻¹)ᵀ D_k, `[B, V/2, V/2]`, and their diagonals `[B, V/2]`.
    pub(crate) fn excess(&self) -> Result<(Tensor, Tensor)> {
        let (batch, n) = self.kept.dims2()?;
        let rows = self.inverse.broadcast_mul(&self.other.unsqueeze(1)?)?;
        let product = rows.reshape((batch * n, n))?.matmul(&self.inverse_transposed)?;
        let matrices = product.reshape((batch, n, n))?.broadcast_mul(&self.kept.unsqueeze(1)?)?;
        let diagonals = (self.other.matmul(&self.inverse_transposed.sqr()?)? * &self.kept)?;
        Ok((matrices, diagonals))
    }

    fn times(&self, diagonal: &Tensor, v: &Tensor) -> Result<Tensor> {
        Ok(hop(v, Some(diagonal), &self.scale, false)?)
    }
}

impl LinearOperator for EvenOddOperator {
    // H_ko⁻¹ = −(H_ok⁻¹)ᵀ turns both minus signs into plus.
    fn apply(&self, v: &Tensor) -> Result<Tensor> {
        let w = matrix_times(&self.inverse, &self.times(&self.kept, v)?)?;
        let w = matrix_times(&self.inverse_transposed, &self.times(&self.other, &w)?)?;
        Ok((v + w)?)
    }

    fn apply_adjoint(&self, v: &Tensor) -> Result<Tensor> {
        let w = self.times(&self.other, &matrix_times(&self.inverse, v)?)?;
        let w = self.times(&self.kept, &matrix_times(&self.inverse_transposed, &w)?)?;
        Ok((v + w)?)
    }
}
