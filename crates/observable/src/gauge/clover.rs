//! Topological charge and energy density from the clover definition of the field strength.
//!
//! ```text
//! C_{μν}(x) = the four plaquettes of the plane that start and end at x, each running from μ to ν
//! F_{μν}(x) = ⅛ [C − C†]_{μν} − trace                    anti-hermitian, traceless; a²(i F^a T^a) + O(a⁴)
//! Q = −1/(32π²) Σ_x ε_{μνρσ} tr F_{μν}F_{ρσ} = −1/(4π²) Σ_x tr [F_{xy}F_{zt} − F_{xz}F_{yt} + F_{xt}F_{yz}]
//! E = −1/V Σ_x Σ_{μ<ν} tr F_{μν}F_{μν}                   a⁴ ¼ G^a_{μν}G^a_{μν}, averaged over sites
//! ```
//!
//! In terms of the hermitian field strength −iF both signs are plus: Q = 1/(32π²) Σ ε tr FF is the standard of the field, an
//! integer in the continuum. [QCD (5)] prints 1/(16π²) Σ_x ε_{μνρσ}F_{μν}F_{ρσ} without a trace. It is the same number when the
//! trace is understood and every plane (μ, ν) counts once, μ < ν (the sum over ρ and σ remains free); or, equivalently, when the
//! dual field strength ½ε_{μνρσ}F_{ρσ}, with its own ½, stands for ε F, as in Q = 1/(16π²) Σ tr F_{μν}F̃_{μν}. A free sum over all
//! four indices would give 2Q, and components F^aF^a instead of the trace 4Q. ε_{xyzt} = +1; the paper's order of directions, time
//! first, would turn the sign of Q, which no distribution of a parity-invariant theory can see.

use candle_core::Tensor;
use latflow_lattice::{Lattice, Links};
use std::f64::consts::PI;

use super::planes;
use super::sums::{Sums, pair};
use crate::{Error, Observable, Result};

/// Q, `[B]` [QCD (5)]; not an integer on a rough field. Smooth it first: [`Flowed`](super::Flowed).
#[derive(Debug, Clone)]
pub struct CloverCharge(Sums);

/// a⁴E, `[B]`. Multiply by t² for the dimensionless t²E of a flowed field.
#[derive(Debug, Clone)]
pub struct CloverEnergy(Sums);

impl CloverCharge {
    /// The charge on a four-dimensional lattice.
    ///
    /// # Errors
    /// When the lattice has another dimension.
    pub fn new(lattice: &Lattice) -> Result<Self> {
        if lattice.ndim() != 4 {
            let what = "number of directions for a topological charge";
            return Err(Error::Parameter { what, expected: "4", got: lattice.ndim() as f64 });
        }
        Ok(Self(Sums::new(lattice)?))
    }
}

impl CloverEnergy {
    /// The energy density on a lattice.
    ///
    /// # Errors
    /// When the lattice has one direction only.
    pub fn new(lattice: &Lattice) -> Result<Self> {
        Ok(Self(Sums::new(lattice)?))
    }
}

impl Observable<Links> for CloverCharge {
    fn name(&self) -> &'static str {
        "topological_charge"
    }

    fn measure(&self, links: &Links) -> Result<Tensor> {
        let clovers = self.0.clovers(links)?;
        // Planes in lexicographic order: xy, xz, xt, yz, yt, zt.
        let term = |p, q| clovers.get_on_dim(1, pair(6, p, q));
        let sum = ((term(0, 5)? - term(1, 4)?)? + term(2, 3)?)?;
        Ok((sum / (4.0 * PI * PI))?)
    }
}

impl Observable<Links> for CloverEnergy {
    fn name(&self) -> &'static str {
        "energy_clover"
    }

    fn measure(&self, links: &Links) -> Result<Tensor> {
        let clovers = self.0.clovers(links)?;
        let planes = planes(self.0.lattice().ndim()).count();
        let squares = (0..planes).map(|p| clovers.get_on_dim(1, pair(planes, p, p)));
        let squares = squares.collect::<candle_core::Result<Vec<_>>>()?;
        Ok((Tensor::stack(&squares, 1)?.sum(1)? / self.0.lattice().volume() as f64)?)
    }
}
