//! Linear families of vector fields with their divergences.

use crate::Result;
use candle_core::Tensor;

/// Consecutive fields of a basis that belong together, for reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What a report calls them.
    pub name: String,
    /// How many there are.
    pub fields: usize,
}

/// Vector fields v_1 … v_n on configurations X. Time enters through the coefficients alone.
///
/// The divergence is the manifold's, with respect to the measure that densities refer to: Σ_x ∂v_x/∂φ_x for scalar fields,
/// Σ ∂ᵃvᵃ for links and the Haar measure.
pub trait Basis<X>: Send + Sync {
    /// The groups in the order of their fields; n is the sum of their sizes.
    fn groups(&self) -> &[Group];

    /// Σ_i c_i v_i(x), a tangent vector, and its divergence `[B]`, for coefficients c `[n]`, f64; differentiable in x and c.
    ///
    /// # Errors
    /// When the field or the coefficients do not fit.
    fn combine(&self, x: &X, coefficients: &Tensor) -> Result<(Tensor, Tensor)>;

    /// ∇·v_i(x) − v_i(x)·u of every field, `[B, n]`, for a tangent vector u; without autodiff history.
    ///
    /// # Errors
    /// When the field or the tangent vector does not fit.
    fn stein(&self, x: &X, u: &Tensor) -> Result<Tensor>;

    /// Number of fields n.
    fn count(&self) -> usize {
        self.groups().iter().map(|g| g.fields).sum()
    }
}

impl<X, B: Basis<X> + ?Sized> Basis<X> for Box<B> {
    fn groups(&self) -> &[Group] {
        (**self).groups()
    }

    fn combine(&self, x: &X, coefficients: &Tensor) -> Result<(Tensor, Tensor)> {
        (**self).combine(x, coefficients)
    }

    fn stein(&self, x: &X, u: &Tensor) -> Result<Tensor> {
        (**self).stein(x, u)
    }
}
