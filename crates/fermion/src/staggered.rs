//! Staggered Dirac operator with a Yukawa coupling, in any dimension.
//!
//! ```text
//! (D ψ)(x) = ½ Σ_μ η_μ(x) [ψ(x+μ̂) − ψ(x−μ̂)] + (m_f + g φ(x)) ψ(x)          [YUK (41)]
//! η_1(x) = 1,  η_μ(x) = (−1)^{x_1 + … + x_{μ−1}}                               [YUK (42)]
//! ```
//!
//! The hopping part is real and antisymmetric, the diagonal is real: D† is D with the hopping transposed. ψ is periodic in
//! space and antiperiodic in time, the last direction [YUK (44)], unless asked otherwise.
//!
//! Shapes: φ `[B, V]`, ψ `[B, 2, V]` (re, im), f64.

use crate::{Dirac, Error, LinearOperator, Result};
use candle_core::Tensor;
use latflow_kernels::{Hop, hop};
use latflow_lattice::{Boundary, Lattice};

/// The family D(φ); bind it to a scalar field to get an operator.
#[derive(Debug, Clone)]
pub struct StaggeredYukawa {
    lattice: Lattice,
    fermion_mass: f64,
    yukawa: f64,
    boundary: Boundary,
    hop: Hop,
}

/// D of one batch of scalar fields.
#[derive(Debug, Clone)]
pub struct StaggeredOperator {
    hop: Hop,
    diagonal: Tensor,
}

impl StaggeredYukawa {
    /// The operator with fermion mass m_f and Yukawa coupling g, in lattice units; `boundary` is that of the time direction.
    ///
    /// # Errors
    /// When a parameter is not finite.
    pub fn new(lattice: &Lattice, fermion_mass: f64, yukawa: f64, boundary: Boundary) -> Result<Self> {
        for (name, value) in [("fermion_mass", fermion_mass), ("g", yukawa)] {
            if !value.is_finite() {
                return Err(Error::Parameter { name, value });
            }
        }
        let (mut neighbours, mut coefficients) = (Vec::new(), Vec::new());
        for mu in 0..lattice.ndim() {
            for step in [1, -1] {
                for site in 0..lattice.volume() {
                    let before: usize = lattice.coordinates(site)[..mu].iter().sum();
                    let eta = if before.is_multiple_of(2) { 1.0 } else { -1.0 };
                    let (n, sign) = lattice.neighbour(site, mu, step, boundary);
                    neighbours.push(n as u32);
                    coefficients.push(0.5 * eta * sign * step as f64);
                }
            }
        }
        let hop = Hop::new(lattice.volume(), neighbours, coefficients)?;
        Ok(Self { lattice: lattice.clone(), fermion_mass, yukawa, boundary, hop })
    }

    /// The lattice.
    pub fn lattice(&self) -> &Lattice {
        &self.lattice
    }

    /// Bare fermion mass m_f.
    pub fn fermion_mass(&self) -> f64 {
        self.fermion_mass
    }

    /// Yukawa coupling g.
    pub fn yukawa(&self) -> f64 {
        self.yukawa
    }

    /// Boundary condition in time.
    pub fn boundary(&self) -> Boundary {
        self.boundary
    }

    /// The constant hopping part.
    pub fn hop(&self) -> &Hop {
        &self.hop
    }

    /// m_f + g φ, `[B, V]`.
    ///
    /// # Errors
    /// When φ has another number of sites.
    pub fn diagonal(&self, phi: &Tensor) -> Result<Tensor> {
        if phi.rank() != 2 || phi.dim(1)? != self.lattice.volume() {
            return Err(Error::Shape {
                what: "scalar field",
                expected: format!("[B, {}]", self.lattice.volume()),
                got: phi.dims().to_vec(),
            });
        }
        Ok(phi.affine(self.yukawa, self.fermion_mass)?)
    }
}

impl Dirac for StaggeredYukawa {
    type Field = Tensor;
    type Operator = StaggeredOperator;

    fn bind(&self, phi: &Tensor) -> Result<StaggeredOperator> {
        Ok(StaggeredOperator { hop: self.hop.clone(), diagonal: self.diagonal(phi)? })
    }

    fn components(&self) -> usize {
        self.lattice.volume()
    }

    fn log_abs_det_constant(&self) -> f64 {
        0.0
    }
}

impl LinearOperator for StaggeredOperator {
    fn apply(&self, v: &Tensor) -> Result<Tensor> {
        Ok(hop(v, Some(&self.diagonal), &self.hop, false)?)
    }

    fn apply_adjoint(&self, v: &Tensor) -> Result<Tensor> {
        Ok(hop(v, Some(&self.diagonal), &self.hop, true)?)
    }
}
