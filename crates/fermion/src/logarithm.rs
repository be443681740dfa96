//! Truncated logarithms of Dirac operators close to a constant one: generators of linear flows with a free determinant.
//!
//! ```text
//! D = D_0 (1 + X),   A_n = Σ_{k=1..n} (−1)^{k+1}/k X^k  →  log(1 + X)
//! W = D_0 e^{A_n},   log |det W| = log |det D_0| + tr A_n       (det e^A = e^{tr A}, exactly, whatever n)
//! ```
//!
//! W W† ≈ D D† [YUK (25), (26)]. Traces of powers of X have closed forms:
//!
//! ```text
//! full:      D_0 = m_f + hopping,  X = D_0⁻¹ g φ,           tr X = g Σ_x G_xx φ_x,  tr X² = g² φᵀ (G ∘ Gᵀ) φ,  G = D_0⁻¹
//! even/odd:  D_0 = 1,              X = M − 1 = −H_ok⁻¹ D_o H_ko⁻¹ D_k,              tr X = d_oᵀ (H_ok⁻¹ ∘ H_ok⁻¹) d_k
//! ```
//!
//! with d the diagonals m_f + gφ. One order of the even/odd form is worth two of the full one: its X is of order g².

use crate::even_odd::matrix_times;
use crate::{Dirac, Error, EvenOddYukawa, LinearOperator, Result, StaggeredYukawa};
use candle_core::{Device, Tensor};
use latflow_lattice::sum_per_configuration;
use nalgebra::DMatrix;

/// A family D(φ) = D_0 (1 + X(φ)) with its truncated logarithm.
pub trait LogarithmicExpansion: Dirac {
    /// Largest order n whose trace is known.
    fn largest_order(&self) -> usize;

    /// D_0 v, or D_0⁻¹ v, for v `[B, 2, N]`.
    ///
    /// # Errors
    /// When v does not fit.
    fn constant(&self, v: &Tensor, inverse: bool) -> Result<Tensor>;

    /// log |det D_0|.
    fn constant_log_abs_det(&self) -> f64;

    /// v ↦ X(φ) v, for v `[B, 2, N]`.
    ///
    /// # Errors
    /// When φ does not fit.
    fn perturbation<'a>(&'a self, field: &'a Self::Field) -> Result<Perturbation<'a>>;

    /// tr X^k, `[B]`, for k ≤ the largest order.
    ///
    /// # Errors
    /// When φ does not fit.
    fn trace(&self, field: &Self::Field, k: usize) -> Result<Tensor>;
}

/// X of one batch of background fields.
pub type Perturbation<'a> = Box<dyn Fn(&Tensor) -> Result<Tensor> + 'a>;

/// The full operator around its free part.
#[derive(Debug, Clone)]
pub struct FullExpansion {
    dirac: StaggeredYukawa,
    log_abs_det: f64,
    /// Gᵀ and D_0ᵀ: v ↦ v Gᵀ is multiplication by G.
    inverse_transposed: Tensor,
    constant_transposed: Tensor,
    /// g G_xx, `[V, 1]`, and g² G ∘ Gᵀ, `[V, V]`.
    trace: Tensor,
    trace_of_square: Tensor,
}

impl FullExpansion {
    /// Expands around φ = 0.
    ///
    /// # Errors
    /// [`Error::SingularHopping`] when the free operator has no inverse: massless and periodic.
    pub fn new(dirac: &StaggeredYukawa, device: &Device) -> Result<Self> {
        let v = dirac.lattice().volume();
        let dense = dirac.hop().to_dense();
        let free =
            DMatrix::from_fn(v, v, |i, j| dense[i * v + j] + if i == j { dirac.fermion_mass() } else { 0.0 });
        let lu = free.clone().lu();
        let pivots: Vec<f64> = (0..v).map(|i| lu.lu_internal()[(i, i)].abs()).collect();
        let pivot = pivots.iter().copied().fold(f64::INFINITY, f64::min);
        let singular = || Error::SingularHopping { lattice: dirac.lattice().to_string(), pivot };
        if pivot < 1e-10 {
            return Err(singular());
        }
        let g = lu.try_inverse().ok_or_else(singular)?;
        // Column-major data are the transpose in row-major order.
        let transposed = |m: &DMatrix<f64>| Tensor::from_slice(m.as_slice(), (v, v), device);
        let yukawa = dirac.yukawa();
        let diagonal: Vec<f64> = (0..v).map(|i| yukawa * g[(i, i)]).collect();
        let square = DMatrix::from_fn(v, v, |i, j| yukawa * yukawa * g[(i, j)] * g[(j, i)]);
        Ok(Self {
            dirac: dirac.clone(),
            log_abs_det: pivots.iter().map(|p| p.ln()).sum(),
            inverse_transposed: transposed(&g)?,
            constant_transposed: transposed(&free)?,
            trace: Tensor::from_vec(diagonal, (v, 1), device)?,
            trace_of_square: transposed(&square)?,
        })
    }
}

impl Dirac for FullExpansion {
    type Field = Tensor;
    type Operator = <StaggeredYukawa as Dirac>::Operator;

    fn bind(&self, phi: &Tensor) -> Result<Self::Operator> {
        self.dirac.bind(phi)
    }

    fn components(&self) -> usize {
        self.dirac.components()
    }

    fn log_abs_det_constant(&self) -> f64 {
        self.dirac.log_abs_det_constant()
    }
}

impl LogarithmicExpansion for FullExpansion {
    fn largest_order(&self) -> usize {
        2
    }

    fn constant(&self, v: &Tensor, inverse: bool) -> Result<Tensor> {
        matrix_times(if inverse { &self.inverse_transposed } else { &self.constant_transposed }, v)
    }

    fn constant_log_abs_det(&self) -> f64 {
        self.log_abs_det
    }

    fn perturbation<'a>(&'a self, phi: &'a Tensor) -> Result<Perturbation<'a>> {
        let coupling = (phi * self.dirac.yukawa())?.unsqueeze(1)?;
        Ok(Box::new(move |v| matrix_times(&self.inverse_transposed, &v.broadcast_mul(&coupling)?)))
    }

    fn trace(&self, phi: &Tensor, k: usize) -> Result<Tensor> {
        match k {
            1 => Ok(phi.matmul(&self.trace)?.squeeze(1)?),
            2 => Ok(sum_per_configuration(&(phi.matmul(&self.trace_of_square)? * phi)?)?),
            _ => Err(Error::Order { order: k, largest: 2 }),
        }
    }
}

/// The even/odd form around one.
#[derive(Debug, Clone)]
pub struct EvenOddExpansion {
    dirac: EvenOddYukawa,
    /// (H_ok⁻¹ ∘ H_ok⁻¹)ᵀ: from the other sites to the kept ones.
    squares: Tensor,
}

impl EvenOddExpansion {
    /// Expands M around 1.
    ///
    /// # Errors
    /// When the device fails.
    pub fn new(dirac: &EvenOddYukawa, device: &Device) -> Result<Self> {
        let inverse = dirac.hop_inverse();
        let n = inverse.nrows();
        // H_ok⁻¹ maps other → kept: entry (kept, other); row-major [other, kept] is its column-major storage.
        let squares: Vec<f64> = inverse.as_slice().iter().map(|x| x * x).collect();
        Ok(Self { dirac: dirac.clone(), squares: Tensor::from_vec(squares, (n, n), device)? })
    }
}

impl Dirac for EvenOddExpansion {
    type Field = Tensor;
    type Operator = <EvenOddYukawa as Dirac>::Operator;

    fn bind(&self, phi: &Tensor) -> Result<Self::Operator> {
        self.dirac.bind(phi)
    }

    fn components(&self) -> usize {
        self.dirac.components()
    }

    fn log_abs_det_constant(&self) -> f64 {
        self.dirac.log_abs_det_constant()
    }
}

impl LogarithmicExpansion for EvenOddExpansion {
    fn largest_order(&self) -> usize {
        1
    }

    fn constant(&self, v: &Tensor, _: bool) -> Result<Tensor> {
        Ok(v.clone())
    }

    fn constant_log_abs_det(&self) -> f64 {
        0.0
    }

    fn perturbation<'a>(&'a self, phi: &'a Tensor) -> Result<Perturbation<'a>> {
        let operator = self.dirac.bind(phi)?;
        Ok(Box::new(move |v| Ok((operator.apply(v)? - v)?)))
    }

    fn trace(&self, phi: &Tensor, k: usize) -> Result<Tensor> {
        if k != 1 {
            return Err(Error::Order { order: k, largest: 1 });
        }
        let (kept, other) = self.dirac.diagonals(phi)?;
        // X = +H_ok⁻¹ D_o (H_ok⁻¹)ᵀ D_k, as H_ko = −H_okᵀ.
        Ok(sum_per_configuration(&(other.matmul(&self.squares)? * kept)?)?)
    }
}
