//! Linear operators on fermion vectors, and the promise that one is positive.

use crate::packed::{PackedNormal, PackedOperator, PackedShifted};
use crate::{Error, Result};
use candle_core::Tensor;
use latflow_lattice::Configuration;

/// A linear map on fermion vectors `[B, 2, N]` (re, im), differentiable in the background field it was bound to.
pub trait LinearOperator {
    /// D v.
    ///
    /// # Errors
    /// When the vector does not fit.
    fn apply(&self, v: &Tensor) -> Result<Tensor>;

    /// D† v.
    ///
    /// # Errors
    /// When the vector does not fit.
    fn apply_adjoint(&self, v: &Tensor) -> Result<Tensor>;

    /// The same operator on vectors in lanes, if there is one: solvers prefer it. It records no gradients.
    fn packed(&self) -> Option<Box<dyn PackedOperator + '_>> {
        None
    }
}

/// Promise: A = A†, and ⟨v, A v⟩ > 0 for every v ≠ 0.
pub trait HermitianPositive: LinearOperator {}

/// A family of Dirac operators D(φ), one for each background field φ: a scalar field `[B, V]` or links.
pub trait Dirac {
    /// The kind of background field.
    type Field: Configuration;
    /// The operator of one batch of background fields.
    type Operator: LinearOperator + Clone;

    /// D(φ). Gradients in the field are recorded when it is tracked.
    ///
    /// # Errors
    /// When the field does not fit the lattice.
    fn bind(&self, field: &Self::Field) -> Result<Self::Operator>;

    /// Number of complex components of the vectors D acts on.
    fn components(&self) -> usize;

    /// c = log |det D_theory| − log |det D(φ)|: the field-independent factor that preconditioning has taken out of the operator;
    /// 0 for the operator of the theory itself. Without it log Z would depend on the preconditioning.
    fn log_abs_det_constant(&self) -> f64;

    /// Shape of a batch of vectors: `[B, 2, N]`.
    fn vector_shape(&self, batch: usize) -> [usize; 3] {
        [batch, 2, self.components()]
    }
}

/// An exactly computed determinant of a family of Dirac operators.
pub trait ExactDeterminant {
    /// The kind of background field.
    type Field: Configuration;

    /// log |det D(φ_b)|, `[B]`, differentiable in the field.
    ///
    /// # Errors
    /// When the field does not fit.
    fn log_abs_det(&self, field: &Self::Field) -> Result<Tensor>;
}

/// D D†, hermitian by construction and positive where D is regular.
#[derive(Debug, Clone)]
pub struct NormalOperator<D>(pub D);

impl<D: LinearOperator> LinearOperator for NormalOperator<D> {
    fn apply(&self, v: &Tensor) -> Result<Tensor> {
        self.0.apply(&self.0.apply_adjoint(v)?)
    }

    fn apply_adjoint(&self, v: &Tensor) -> Result<Tensor> {
        self.apply(v)
    }

    fn packed(&self) -> Option<Box<dyn PackedOperator + '_>> {
        Some(Box::new(PackedNormal(self.0.packed()?)))
    }
}

impl<D: LinearOperator> HermitianPositive for NormalOperator<D> {}

/// A + μ₀ with μ₀ ≥ 0: the regulated operator of training, D D† + μ₀ [QCD Sec. 3.1].
#[derive(Debug, Clone)]
pub struct Shifted<A> {
    operator: A,
    shift: f64,
}

impl<A> Shifted<A> {
    /// A + μ₀.
    ///
    /// # Errors
    /// When μ₀ is negative or not finite.
    pub fn new(operator: A, shift: f64) -> Result<Self> {
        if !(shift.is_finite() && shift >= 0.0) {
            return Err(Error::Shift { shift });
        }
        Ok(Self { operator, shift })
    }
}

impl<A: LinearOperator> LinearOperator for Shifted<A> {
    fn apply(&self, v: &Tensor) -> Result<Tensor> {
        Ok((self.operator.apply(v)? + (v * self.shift)?)?)
    }

    fn apply_adjoint(&self, v: &Tensor) -> Result<Tensor> {
        Ok((self.operator.apply_adjoint(v)? + (v * self.shift)?)?)
    }

    fn packed(&self) -> Option<Box<dyn PackedOperator + '_>> {
        Some(Box::new(PackedShifted(self.operator.packed()?, self.shift)))
    }
}

impl<A: HermitianPositive> HermitianPositive for Shifted<A> {}
