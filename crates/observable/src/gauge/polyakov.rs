//! The Polyakov loop [QCD (3)].
//!
//! ```text
//! L = 1/V_3 Σ_x⃗ tr Π_t U_t(x⃗, t)           V_3 sites at one time; the trace is not divided by N: L = N for U = 1
//! ```

use candle_core::Tensor;
use latflow_lattice::gauge::matrix;
use latflow_lattice::{Configuration, Lattice, Links};

use crate::{Observable, Result};

/// L as `[B, 2]` (re, im) [QCD (3)]. A transformation by the centre of SU(N) multiplies it by an N-th root of 1.
#[derive(Debug, Clone)]
pub struct PolyakovLoop {
    lattice: Lattice,
}

impl PolyakovLoop {
    /// The loop around the time direction of a lattice.
    pub fn new(lattice: &Lattice) -> Self {
        Self { lattice: lattice.clone() }
    }
}

impl Observable<Links> for PolyakovLoop {
    fn name(&self) -> &'static str {
        "polyakov_loop"
    }

    fn measure(&self, links: &Links) -> Result<Tensor> {
        links.check(&self.lattice)?;
        let links = links.detach();
        let (n, times) = (links.colours(), self.lattice.time_extent());
        // Time is the fastest site index.
        let u = links.direction(self.lattice.ndim() - 1)?;
        let u = u.reshape((u.dim(0)?, self.lattice.volume() / times, times, 2 * n * n))?;
        let slice = |t| -> Result<Tensor> {
            let (batch, sites, _, _) = u.dims4()?;
            Ok(u.narrow(2, t, 1)?.reshape((batch, sites, n, n, 2))?)
        };
        let mut product = slice(0)?;
        for t in 1..times {
            product = matrix::product(&product, &slice(t)?)?;
        }
        Ok(matrix::trace(&product)?.mean(1)?)
    }
}
