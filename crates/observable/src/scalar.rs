//! Observables of the scalar field.
//!
//! ```text
//! M      = (1/V) Σ_x φ(x)                                          [YUK (45)]
//! φ²     = (1/V) Σ_x φ(x)²
//! C_φ(t) = (1/V) Σ_x Σ_y⃗ φ(x) φ(x + (y⃗, t))                        [YUK (46), (47)], ⟨φ⟩ = 0
//!        = (1/V) Σ_s S(s) S(s + t),   S(t) = Σ_x⃗ φ(x⃗, t)
//! ```
//!
//! Time is the last direction, periodic for φ. Fields are `[B, V]` of any floating type; results are f64.

use candle_core::{D, DType, Tensor};
use latflow_lattice::Lattice;

use crate::{Error, Observable, Result};

/// M, `[B]` [YUK (45)].
#[derive(Debug, Clone, Copy)]
pub struct Magnetization;

/// |M|, `[B]`, the order parameter of [YUK Tab. II].
#[derive(Debug, Clone, Copy)]
pub struct AbsMagnetization;

/// (1/V) Σ φ², `[B]`.
#[derive(Debug, Clone, Copy)]
pub struct Phi2;

/// C_φ(t) at zero momentum, averaged over all sources, `[B, L_t]` [YUK (47)].
///
/// ⟨φ⟩ = 0 is used, as the paper does: nothing is subtracted. On every configuration C_φ(t) = C_φ(L_t − t), so only
/// t = 0 … L_t/2 are independent.
#[derive(Debug, Clone)]
pub struct TwoPoint {
    lattice: Lattice,
}

impl TwoPoint {
    /// The correlator on a lattice.
    pub fn new(lattice: &Lattice) -> Self {
        Self { lattice: lattice.clone() }
    }
}

impl Observable<Tensor> for Magnetization {
    fn name(&self) -> &'static str {
        "magnetization"
    }

    fn measure(&self, phi: &Tensor) -> Result<Tensor> {
        Ok(scalar_field(self.name(), phi, None)?.mean(D::Minus1)?)
    }
}

impl Observable<Tensor> for AbsMagnetization {
    fn name(&self) -> &'static str {
        "abs_magnetization"
    }

    fn measure(&self, phi: &Tensor) -> Result<Tensor> {
        Ok(scalar_field(self.name(), phi, None)?.mean(D::Minus1)?.abs()?)
    }
}

impl Observable<Tensor> for Phi2 {
    fn name(&self) -> &'static str {
        "phi2"
    }

    fn measure(&self, phi: &Tensor) -> Result<Tensor> {
        Ok(scalar_field(self.name(), phi, None)?.sqr()?.mean(D::Minus1)?)
    }
}

impl Observable<Tensor> for TwoPoint {
    fn name(&self) -> &'static str {
        "two_point"
    }

    fn measure(&self, phi: &Tensor) -> Result<Tensor> {
        let (volume, times) = (self.lattice.volume(), self.lattice.time_extent());
        let phi = scalar_field(self.name(), phi, Some(volume))?;
        let slices = phi.reshape((phi.dim(0)?, volume / times, times))?.sum(1)?;
        let twice = Tensor::cat(&[&slices, &slices], 1)?;
        let at = |t| (&slices * twice.narrow(1, t, times)?)?.sum(1);
        let correlator: Vec<Tensor> = (0..times).map(at).collect::<candle_core::Result<_>>()?;
        Ok((Tensor::stack(&correlator, 1)? / volume as f64)?)
    }
}

/// A detached f64 field `[B, V]`, not empty.
fn scalar_field(what: &'static str, phi: &Tensor, volume: Option<usize>) -> Result<Tensor> {
    let fits = phi.rank() == 2 && phi.elem_count() > 0 && volume.is_none_or(|v| phi.dims()[1] == v);
    if !fits {
        let expected = volume.map_or("[B, V]".to_owned(), |v| format!("[B, {v}]"));
        return Err(Error::Shape { what, expected, got: phi.dims().to_vec() });
    }
    Ok(phi.detach().to_dtype(DType::F64)?)
}
