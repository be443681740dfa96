//! The pion correlator from a point source [QCD (4)].
//!
//! ```text
//! C_π(t) = −Σ_x⃗ ⟨[ūγ₅d](x⃗, t) [d̄γ₅u](0)⟩_ψ                          [QCD (4)]
//!        = Σ_x⃗ tr S(x, 0) S(x, 0)† = Σ_x⃗ Σ_{spin, colour} |S(x⃗, t; 0⃗, 0)|²,    S = D⁻¹
//! ```
//!
//! on one gauge field. The contraction of u with ū and d with d̄ closes one fermion loop, whose sign cancels the one in front:
//! −⟨…⟩ = tr γ₅S(x, 0)γ₅S(0, x), and γ₅S(0, x)γ₅ = S(x, 0)† makes every term positive. D = 1 − κH; the
//! propagator of fields with a canonical kinetic term, as other codes print it, is 2κ S and their correlator 4κ² C_π.

use candle_core::Tensor;
use latflow_fermion::{BiCgStab, Dirac, EvenOddWilson, Wilson};
use latflow_lattice::{Configuration, Links};

use crate::{Observable, Result};

/// Spins times colours: components of a site, and solves of one source.
const COMPONENTS: usize = 12;

/// Far below any statistical error, and about what the residuals of a solver in double precision reach.
const TOLERANCE: f64 = 1e-13;

/// C_π(t) for t = 0 … L_t − 1 from a source at the origin, `[B, L_t]` [QCD (4)]; one solve for each spin and colour.
///
/// C_π(t) = C_π(L_t − t) holds on average over gauge fields, not on each of them.
#[derive(Debug, Clone)]
pub struct PionCorrelator {
    dirac: EvenOddWilson,
    solver: BiCgStab,
}

impl PionCorrelator {
    /// The correlator of two flavours of this operator, solved to relative residuals of 1e-13.
    pub fn new(dirac: &Wilson) -> Self {
        let solver = BiCgStab { tolerance: TOLERANCE, ..BiCgStab::default() };
        Self { dirac: EvenOddWilson::new(dirac), solver }
    }

    /// The same with another solver.
    #[must_use]
    pub fn with_solver(self, solver: BiCgStab) -> Self {
        Self { solver, ..self }
    }
}

impl Observable<Links> for PionCorrelator {
    fn name(&self) -> &'static str {
        "pion_correlator"
    }

    fn measure(&self, links: &Links) -> Result<Tensor> {
        let links = links.detach();
        let (batch, device) = (links.batch()?, links.device());
        let lattice = self.dirac.full().lattice();
        let (volume, times) = (lattice.volume(), lattice.time_extent());
        let operator = self.dirac.bind(&links)?;
        let mut correlator = Tensor::zeros((batch, times), candle_core::DType::F64, device)?;
        for source in 0..COMPONENTS {
            // The origin is site 0: its real parts are the first elements of a configuration.
            let mut unit = vec![0.0; 2 * COMPONENTS * volume];
            unit[source] = 1.0;
            let unit = Tensor::from_vec(unit, (1, 2, COMPONENTS * volume), device)?;
            let unit = unit.broadcast_as((batch, 2, COMPONENTS * volume))?.contiguous()?;
            let column = operator.solve_full(&unit, &self.solver)?.x;
            // Time is the fastest site index.
            let norms = column.sqr()?.sum(1)?.reshape((batch, volume / times, times, COMPONENTS))?;
            correlator = (correlator + norms.sum(3)?.sum(1)?)?;
        }
        Ok(correlator)
    }
}
