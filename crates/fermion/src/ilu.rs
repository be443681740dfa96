//! Even/odd operator with incomplete LU preconditioning [YUK App. B].
//!
//! The even/odd matrix M is close to one, so its triangles are close to the factors of its LU decomposition:
//!
//! ```text
//! M = 1 + Δ − L − U            L, U strictly lower and upper, Δ diagonal, all of order g²φ²
//! M′ = (1 − L)⁻¹ M (1 − U)⁻¹ = 1 + (1 − L)⁻¹ (Δ − L U) (1 − U)⁻¹
//!    = (1 − U)⁻¹ + (1 − L)⁻¹ [1 + (Δ − 1)(1 − U)⁻¹]
//! det M′ = det M exactly
//! ```
//!
//! Off the diagonal M′ differs from one only in the fourth order of gφ, so pseudofermions of M′ fluctuate less than those
//! of M. The last line needs no product with M: one application is two triangular solutions. Both factors depend on φ,
//! and gradients flow through them.
//!
//! L and U are defined by the order of the sites: unlike M, M′ is **not** covariant under translations of φ, not even by
//! an even number of sites, and a translation-equivariant model of its pseudofermions would be wrong. The determinant is
//! invariant as before.
//!
//! The matrix M is made explicitly, `[B, V/2, V/2]`: binding costs 2 (V/2)³ operations a configuration, an application
//! 2 (V/2)² a real vector. Shapes: φ `[B, V]`, vectors `[B, 2, V/2]`, f64.

use crate::{Dirac, EvenOddYukawa, LinearOperator, Result};
use candle_core::Tensor;
use latflow_kernels::{Triangle, unit_triangular_solve};

/// The family M′(φ).
#[derive(Debug, Clone)]
pub struct IluYukawa(EvenOddYukawa);

/// M′ of one batch of scalar fields.
#[derive(Debug, Clone)]
pub struct IluOperator {
    /// M − 1: its strict triangles are −L and −U.
    excess: Tensor,
    /// Δ − 1, `[B, 1, V/2]`.
    diagonal: Tensor,
}

impl IluYukawa {
    /// The preconditioned form of `even_odd`, on the same sites in the same order.
    pub fn new(even_odd: EvenOddYukawa) -> Self {
        Self(even_odd)
    }

    /// The operator before this preconditioning; its determinant is that of M′.
    pub fn even_odd(&self) -> &EvenOddYukawa {
        &self.0
    }
}

impl Dirac for IluYukawa {
    type Field = Tensor;
    type Operator = IluOperator;

    fn bind(&self, phi: &Tensor) -> Result<IluOperator> {
        let (excess, diagonal) = self.0.bind(phi)?.excess()?;
        Ok(IluOperator { excess, diagonal: (diagonal - 1.0)?.unsqueeze(1)? })
    }

    fn components(&self) -> usize {
        self.0.components()
    }

    fn log_abs_det_constant(&self) -> f64 {
        self.0.log_abs_det_constant()
    }
}

impl IluOperator {
    /// y + T₂⁻¹ [v + (Δ − 1) y], y = T₁⁻¹ v, with the two triangles T₁, T₂ or their transposes.
    fn between(&self, v: &Tensor, first: Triangle, second: Triangle, transposed: bool) -> Result<Tensor> {
        let y = unit_triangular_solve(v, &self.excess, first, transposed)?;
        let rest = (v + y.broadcast_mul(&self.diagonal)?)?;
        Ok((y + unit_triangular_solve(&rest, &self.excess, second, transposed)?)?)
    }
}

impl LinearOperator for IluOperator {
    fn apply(&self, v: &Tensor) -> Result<Tensor> {
        self.between(v, Triangle::Upper, Triangle::Lower, false)
    }

    fn apply_adjoint(&self, v: &Tensor) -> Result<Tensor> {
        self.between(v, Triangle::Lower, Triangle::Upper, true)
    }
}
