//! Observables of one staggered flavour in a given scalar field, from the exact inverse of its Dirac operator.
//!
//! ```text
//! ψ̄ψ     = (1/V) Tr D⁻¹                          [YUK (48)]
//! C_ψ(t) = D⁻¹_{(0⃗,t), 0}                         [YUK (49)], t odd
//! ```
//!
//! D is real for a real φ, and so are both. Every configuration costs one dense LU decomposition, O(V³); the batch is
//! distributed over the cores. φ is `[B, V]`, f64.

use candle_core::{Device, Tensor};
use latflow_fermion::DenseYukawa;

use crate::{Error, Observable, Result};

/// ψ̄ψ, `[B]` [YUK (48)].
#[derive(Debug, Clone)]
pub struct Condensate {
    dense: DenseYukawa,
}

/// |ψ̄ψ|, `[B]`: the absolute value on each configuration, as in [YUK Tab. II]. Where both are wanted, measure
/// [`Condensate`] and take the absolute value of its chain ([`Chains::map`](crate::Chains::map)).
#[derive(Debug, Clone)]
pub struct AbsCondensate(Condensate);

/// D⁻¹ from the origin to (0⃗, t) for t = 0 … L_t − 1, `[B, L_t]` [YUK (49)].
///
/// At m_f = 0 the reflection φ → −φ leaves the odd t alone and flips the sign of the even ones, so that only odd t
/// have a non-zero average.
#[derive(Debug, Clone)]
pub struct FermionCorrelator {
    dense: DenseYukawa,
}

impl Condensate {
    /// The condensate of a Dirac operator, by its full or even/odd decomposition.
    pub fn new(dense: &DenseYukawa) -> Self {
        Self { dense: dense.clone() }
    }
}

impl AbsCondensate {
    /// The absolute condensate of a Dirac operator, by its full or even/odd decomposition.
    pub fn new(dense: &DenseYukawa) -> Self {
        Self(Condensate::new(dense))
    }
}

impl FermionCorrelator {
    /// The correlator of a Dirac operator.
    pub fn new(dense: &DenseYukawa) -> Self {
        Self { dense: dense.clone() }
    }
}

impl Observable<Tensor> for Condensate {
    fn name(&self) -> &'static str {
        "condensate"
    }

    fn measure(&self, phi: &Tensor) -> Result<Tensor> {
        let host = phi.detach().to_device(&Device::Cpu)?;
        let (_, diagonal) = self.dense.log_abs_det_and_inverse_diagonal(&host)?;
        let volume = self.dense.lattice().volume();
        let mut condensate = Vec::with_capacity(diagonal.len() / volume);
        for (configuration, row) in diagonal.chunks_exact(volume).enumerate() {
            check_inverse(self.name(), configuration, row)?;
            condensate.push(row.iter().sum::<f64>() / volume as f64);
        }
        Ok(Tensor::new(condensate, phi.device())?)
    }
}

impl Observable<Tensor> for AbsCondensate {
    fn name(&self) -> &'static str {
        "abs_condensate"
    }

    fn measure(&self, phi: &Tensor) -> Result<Tensor> {
        Ok(self.0.measure(phi)?.abs()?)
    }
}

impl Observable<Tensor> for FermionCorrelator {
    fn name(&self) -> &'static str {
        "fermion_correlator"
    }

    fn measure(&self, phi: &Tensor) -> Result<Tensor> {
        let host = phi.detach().to_device(&Device::Cpu)?;
        let column = self.dense.inverse_column(&host, 0)?;
        let (volume, times) = (self.dense.lattice().volume(), self.dense.lattice().time_extent());
        let mut correlator = Vec::with_capacity(column.len() / volume * times);
        for (configuration, row) in column.chunks_exact(volume).enumerate() {
            check_inverse(self.name(), configuration, row)?;
            // Time is the fastest index: (0⃗, t) is site t.
            correlator.extend_from_slice(&row[..times]);
        }
        Ok(Tensor::from_vec(correlator, (column.len() / volume, times), phi.device())?)
    }
}

/// D has elements of order one, so that D⁻¹ of this size has lost all but about three digits.
const LARGEST_INVERSE: f64 = 1e13;

fn check_inverse(what: &'static str, configuration: usize, inverse: &[f64]) -> Result<()> {
    // f64::max would pass over NaN.
    let largest =
        inverse.iter().map(|x| x.abs()).fold(0.0, |a: f64, x| if x > a || x.is_nan() { x } else { a });
    if largest <= LARGEST_INVERSE {
        Ok(())
    } else {
        Err(Error::NearlySingular { what, configuration, largest })
    }
}
