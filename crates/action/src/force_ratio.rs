//! How strong the fermions are: the ratio of fermionic to bosonic force.
//!
//! ```text
//! R = ⟨‖F_F‖₂⟩ / ⟨‖F_B‖₂⟩,   ‖F‖₂² = Σ_x F(x)²                                    [YUK Tab. II]
//! ```
//!
//! The fermionic force depends on how the determinant is represented; the paper does not say how it was. Three
//! definitions: the exact determinant, one pseudofermion of the full operator, one of the even/odd operator, the last
//! two with ϕ from the exact heat bath.

use crate::{Action, DeterminantAction, Phi4, Pseudofermion, Result, action_and_force};
use candle_core::Tensor;
use latflow_fermion::{EvenOddYukawa, StaggeredYukawa};
use latflow_lattice::{Rng, sum_per_configuration};

/// ‖F_F‖₂ for each definition and ‖F_B‖₂, of each configuration.
#[derive(Debug, Clone, Default)]
pub struct ForceRatios {
    /// ‖F_B‖₂ of the bosonic action.
    pub bosonic: Vec<f64>,
    /// ‖F_F‖₂ of −2 log |det D|.
    pub determinant: Vec<f64>,
    /// ‖F_F‖₂ of one pseudofermion of the full operator.
    pub pseudofermion: Vec<f64>,
    /// ‖F_F‖₂ of one pseudofermion of the even/odd operator.
    pub even_odd_pseudofermion: Vec<f64>,
}

fn norms(action: &impl Action<Tensor>, phi: &Tensor) -> Result<Vec<f64>> {
    let (_, force) = action_and_force(action, phi)?;
    Ok(sum_per_configuration(&force.sqr()?)?.sqrt()?.to_vec1::<f64>()?)
}

/// Force norms of each configuration of φ `[B, V]`.
///
/// # Errors
/// When a solver fails.
pub fn force_ratios(
    phi: &Tensor,
    bosonic: &Phi4,
    determinant: &DeterminantAction,
    full: &Pseudofermion<Phi4, StaggeredYukawa>,
    even_odd: &Pseudofermion<Phi4, EvenOddYukawa>,
    rng: &mut Rng,
) -> Result<ForceRatios> {
    Ok(ForceRatios {
        bosonic: norms(bosonic, phi)?,
        determinant: norms(determinant, phi)?,
        pseudofermion: norms(&full.heatbath(phi, rng)?, phi)?,
        even_odd_pseudofermion: norms(&even_odd.heatbath(phi, rng)?, phi)?,
    })
}
