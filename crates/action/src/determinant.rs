//! Two degenerate flavours, integrated out.
//!
//! ```text
//! S_F(φ) = −log det D(φ)D†(φ) = −2 log |det D(φ)|                               [YUK (8), (11)]
//! ```

use crate::{Action, Result, TrainingTarget};
use candle_core::Tensor;
use latflow_fermion::{
    ConjugateGradient, DenseYukawa, Dirac, ExactDeterminant, regulated_log_det, stochastic_log_det,
};
use latflow_lattice::Rng;

/// S_F with the exact determinant, of staggered fermions in a scalar field or of Wilson fermions on links.
#[derive(Debug, Clone)]
pub struct DeterminantAction<T = DenseYukawa>(pub T);

impl<T: ExactDeterminant> Action<T::Field> for DeterminantAction<T> {
    fn action(&self, phi: &T::Field) -> Result<Tensor> {
        Ok((self.0.log_abs_det(phi)? * -2.0)?)
    }
}

/// S_B plus a surrogate of S_F whose gradient is the unbiased estimator [YUK (C2)–(C4)]: one solve a draw, no determinant.
///
/// The value of the surrogate is S_B − ‖χ‖², not S: log it, but do not compare it between theories.
#[derive(Debug, Clone)]
pub struct StochasticDeterminant<A, D> {
    /// The bosonic part.
    pub bosonic: A,
    /// The Dirac operator, full or even/odd: both have the same φ-dependent determinant.
    pub dirac: D,
    /// The solver for (D†)⁻¹χ.
    pub solver: ConjugateGradient,
    /// Noise vectors a configuration.
    pub draws: usize,
    /// μ₀ of the regulated DD† + μ₀ [QCD Sec. 3.1]; 0 for the theory's own.
    pub shift: f64,
}

impl<A: Action<D::Field>, D: Dirac> TrainingTarget<D::Field> for StochasticDeterminant<A, D> {
    fn surrogate_action(&self, phi: &D::Field, rng: &mut Rng) -> Result<Tensor> {
        let log_det = if self.shift == 0.0 {
            stochastic_log_det(&self.dirac, phi, &self.solver, self.draws, rng)?
        } else {
            regulated_log_det(&self.dirac, phi, self.shift, &self.solver, self.draws, rng)?
        };
        Ok((self.bosonic.action(phi)? - log_det)?)
    }
}
