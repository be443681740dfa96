//! The even/odd preconditioned Wilson operator.
//!
//! ```text
//! D = [[1, −κH_eo], [−κH_oe, 1]],    D̂ = 1 − κ² H_eo H_oe    on the even sites,    det D = det D̂
//! D x = b:   D̂ x_e = b_e + κ H_eo b_o,   x_o = b_o + κ H_oe x_e
//! ```

use super::{Hop, Wilson};
use crate::packed::{PackedEvenOdd, PackedOperator, apply_packed};
use crate::{BiCgStab, Dirac, LinearOperator, Result, Solution};
use candle_core::Tensor;
use latflow_kernels::wilson::Sites;
use latflow_lattice::{Lattice, Links, Parity};

/// The family D̂(U) on the even sites, in their lexicographic order.
#[derive(Debug, Clone)]
pub struct EvenOddWilson {
    full: Wilson,
}

/// D̂ of one batch of links.
#[derive(Debug, Clone)]
pub struct EvenOddWilsonOperator {
    hop: Hop,
    kappa: f64,
    lattice: Lattice,
}

impl EvenOddWilson {
    /// The preconditioned form of `full`.
    pub fn new(full: &Wilson) -> Self {
        Self { full: full.clone() }
    }

    /// The operator without preconditioning.
    pub fn full(&self) -> &Wilson {
        &self.full
    }
}

impl Dirac for EvenOddWilson {
    type Field = Links;
    type Operator = EvenOddWilsonOperator;

    fn bind(&self, links: &Links) -> Result<EvenOddWilsonOperator> {
        let (kappa, lattice) = (self.full.kappa, self.full.lattice.clone());
        Ok(EvenOddWilsonOperator { hop: self.full.hop(links)?, kappa, lattice })
    }

    fn components(&self) -> usize {
        6 * self.full.lattice.volume()
    }

    fn log_abs_det_constant(&self) -> f64 {
        0.0
    }
}

impl EvenOddWilsonOperator {
    fn either(&self, v: &Tensor, adjoint: bool) -> Result<Tensor> {
        if !self.hop.tracked(v) && v.device().is_cpu() {
            return apply_packed(&self.in_lanes(), v, adjoint);
        }
        let w = self.hop.apply(v, Sites::Odd, adjoint)?;
        Ok((v - (self.hop.apply(&w, Sites::Even, adjoint)? * (self.kappa * self.kappa))?)?)
    }

    fn in_lanes(&self) -> PackedEvenOdd<'_> {
        PackedEvenOdd { links: &self.hop.packed, kappa: self.kappa }
    }

    /// The parts of a vector on all sites `[B, 2, 12 V]` on the even and on the odd ones, `[B, 2, 6 V]` each.
    ///
    /// # Errors
    /// When the vector has another shape.
    pub fn split(&self, v: &Tensor) -> Result<(Tensor, Tensor)> {
        let (batch, volume) = (v.dim(0)?, self.lattice.volume());
        let sites = v.reshape((batch, 2, volume, 12))?;
        let part = |parity: Parity| -> Result<Tensor> {
            let chosen: Vec<u32> = self.lattice.sublattice(parity).iter().map(|&s| s as u32).collect();
            let chosen = Tensor::from_vec(chosen, volume / 2, v.device())?;
            Ok(sites.index_select(&chosen, 2)?.reshape((batch, 2, 6 * volume))?)
        };
        Ok((part(Parity::Even)?, part(Parity::Odd)?))
    }

    /// The vector on all sites with these parts.
    ///
    /// # Errors
    /// When the parts have another shape.
    pub fn join(&self, even: &Tensor, odd: &Tensor) -> Result<Tensor> {
        let (batch, volume) = (even.dim(0)?, self.lattice.volume());
        let half = |v: &Tensor| v.reshape((batch, 2, volume / 2, 12));
        let both = Tensor::cat(&[half(even)?, half(odd)?], 2)?;
        let mut place = vec![0u32; volume];
        let order =
            self.lattice.sublattice(Parity::Even).into_iter().chain(self.lattice.sublattice(Parity::Odd));
        order.enumerate().for_each(|(i, site)| place[site] = i as u32);
        let place = Tensor::from_vec(place, volume, even.device())?;
        Ok(both.index_select(&place, 2)?.reshape((batch, 2, 12 * volume))?)
    }

    /// x with D x = b on all sites, `[B, 2, 12 V]`, by one solve with D̂: propagators. No gradients. The residuals are those of the
    /// preconditioned system, where b_o has dropped out.
    ///
    /// # Errors
    /// When the solver does not converge.
    pub fn solve_full(&self, b: &Tensor, solver: &BiCgStab) -> Result<Solution> {
        let (even, odd) = self.split(&b.detach())?;
        let detached = Hop { links: self.hop.links.detach(), packed: self.hop.packed.clone() };
        let source = (&even + (detached.apply(&odd, Sites::Even, false)? * self.kappa)?)?;
        let solution = solver.solve(self, &source)?;
        let odd = (odd + (detached.apply(&solution.x, Sites::Odd, false)? * self.kappa)?)?;
        Ok(Solution { x: self.join(&solution.x, &odd)?, ..solution })
    }
}

impl LinearOperator for EvenOddWilsonOperator {
    fn apply(&self, v: &Tensor) -> Result<Tensor> {
        self.either(v, false)
    }

    fn apply_adjoint(&self, v: &Tensor) -> Result<Tensor> {
        self.either(v, true)
    }

    fn packed(&self) -> Option<Box<dyn PackedOperator + '_>> {
        self.hop.links.device().is_cpu().then(|| Box::new(self.in_lanes()) as _)
    }
}
