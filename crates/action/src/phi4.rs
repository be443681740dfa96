//! Real scalar field with quartic self-interaction, in any dimension.
//!
//! ```text
//! S_B(φ) = Σ_x [ −2 Σ_μ φ(x) φ(x+μ̂) + (m² + 2d) φ(x)² + λ φ(x)⁴ ]            [YUK (40)]
//! ```
//!
//! There is no factor ½ in front: the free propagator is 1 / (2 (p̂² + m²)). φ is periodic in every direction.

use crate::{Action, Error, Result};
use candle_core::Tensor;
use latflow_kernels::{Hop, hop};
use latflow_lattice::{Boundary, Lattice, sum_per_configuration};

/// The action S_B of scalar fields φ `[B, V]`, f64.
#[derive(Debug, Clone)]
pub struct Phi4 {
    lattice: Lattice,
    m2: f64,
    lambda: f64,
    forward: Hop,
}

impl Phi4 {
    /// Bare mass squared m² (may be negative) and coupling λ, in lattice units.
    ///
    /// # Errors
    /// When e^{−S} cannot be normalised: λ < 0, or λ = 0 with m² ≤ 0.
    pub fn new(lattice: &Lattice, m2: f64, lambda: f64) -> Result<Self> {
        for (name, value) in [("m2", m2), ("lambda", lambda)] {
            if !value.is_finite() {
                return Err(Error::Parameter { name, value });
            }
        }
        if lambda < 0.0 || (lambda == 0.0 && m2 <= 0.0) {
            return Err(Error::Unbounded { lambda, m2 });
        }
        let neighbours: Vec<u32> = (0..lattice.ndim())
            .flat_map(|mu| (0..lattice.volume()).map(move |x| (mu, x)))
            .map(|(mu, x)| lattice.neighbour(x, mu, 1, Boundary::Periodic).0 as u32)
            .collect();
        let ones = vec![1.0; neighbours.len()];
        let forward = Hop::new(lattice.volume(), neighbours, ones)?;
        Ok(Self { lattice: lattice.clone(), m2, lambda, forward })
    }

    /// The lattice.
    pub fn lattice(&self) -> &Lattice {
        &self.lattice
    }
}

impl Action<Tensor> for Phi4 {
    fn action(&self, phi: &Tensor) -> Result<Tensor> {
        if phi.rank() != 2 || phi.dim(1)? != self.lattice.volume() {
            return Err(Error::Shape {
                what: "scalar field",
                expected: format!("[B, {}]", self.lattice.volume()),
                got: phi.dims().to_vec(),
            });
        }
        let neighbours = hop(&phi.unsqueeze(1)?, None, &self.forward, false)?.squeeze(1)?;
        let local = phi.sqr()?.affine(self.lambda, self.m2 + 2.0 * self.lattice.ndim() as f64)?;
        let density = (phi * ((local * phi)? - (neighbours * 2.0)?)?)?;
        Ok(sum_per_configuration(&density)?)
    }
}
