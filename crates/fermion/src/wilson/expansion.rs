//! The truncated logarithm of the even/odd Wilson operator, a power series in hops.
//!
//! ```text
//! D̂ = 1 + X,   X = −κ² K,   K = H_eo H_oe
//! tr X  = 0                     a hop and its return kill each other, (1 − γ)(1 + γ) = 0, and nothing else closes
//! tr X² = κ⁴ tr K²,   tr K² = ½ tr H⁴ = −32 Σ_P Re tr P + 32 Σ_{μ: L_μ = 4} s_μ Σ_x Re tr L_μ(x)
//! ```
//!
//! Plaquettes come from tr (1−γ_μ)(1−γ_ν)(1+γ_μ)(1+γ_ν) = −8 with four starts and two orientations, loops that wind around an
//! extent of four from tr (1 ± γ_μ)⁴ = 32 with a start at each of their sites; s_μ = −1 where the boundary is antiperiodic.

use super::EvenOddWilson;
use crate::{Dirac, Error, LinearOperator, LogarithmicExpansion, Perturbation, Result};
use candle_core::Tensor;
use latflow_kernels::gauge::Plaquettes;
use latflow_lattice::gauge::{matrix, path};
use latflow_lattice::{Boundary, Links};

/// The shortest extent around which no loop of two hops closes.
const SHORTEST: usize = 4;

/// D̂ around 1, in powers of κ².
#[derive(Debug, Clone)]
pub struct WilsonExpansion {
    dirac: EvenOddWilson,
    plaquettes: Plaquettes,
}

impl WilsonExpansion {
    /// Expands D̂ around 1.
    ///
    /// # Errors
    /// When an extent is 2: loops of two hops would wind around it.
    pub fn new(dirac: &EvenOddWilson) -> Result<Self> {
        let dims = dirac.full().lattice().dims();
        if dims.iter().any(|l| *l < SHORTEST) {
            let expected = format!("extents of at least {SHORTEST} for the traces of the expanded operator");
            return Err(Error::Shape { what: "lattice", expected, got: dims.to_vec() });
        }
        Ok(Self { dirac: dirac.clone(), plaquettes: Plaquettes::new(dims)? })
    }
}

impl Dirac for WilsonExpansion {
    type Field = Links;
    type Operator = <EvenOddWilson as Dirac>::Operator;

    fn bind(&self, links: &Links) -> Result<Self::Operator> {
        self.dirac.bind(links)
    }

    fn components(&self) -> usize {
        self.dirac.components()
    }

    fn log_abs_det_constant(&self) -> f64 {
        self.dirac.log_abs_det_constant()
    }
}

impl LogarithmicExpansion for WilsonExpansion {
    fn largest_order(&self) -> usize {
        2
    }

    fn constant(&self, v: &Tensor, _: bool) -> Result<Tensor> {
        Ok(v.clone())
    }

    fn constant_log_abs_det(&self) -> f64 {
        0.0
    }

    fn perturbation<'a>(&'a self, links: &'a Links) -> Result<Perturbation<'a>> {
        let operator = self.dirac.bind(links)?;
        Ok(Box::new(move |v| Ok((operator.apply(v)? - v)?)))
    }

    fn trace(&self, links: &Links, k: usize) -> Result<Tensor> {
        let full = self.dirac.full();
        full.check(links)?;
        let u = links.tensor();
        match k {
            1 => Ok(Tensor::zeros(u.dim(0)?, u.dtype(), u.device())?),
            2 => {
                let mut sum = (self.plaquettes.sums(u)?.sum(1)? * -32.0)?;
                let lattice = full.lattice();
                for (mu, _) in lattice.dims().iter().enumerate().filter(|(_, l)| **l == SHORTEST) {
                    let antiperiodic = mu + 1 == lattice.ndim() && full.boundary() == Boundary::Antiperiodic;
                    let loops = path(links, lattice, &[(mu, 1); SHORTEST])?;
                    let traces = matrix::re_trace(&loops)?.sum(1)?;
                    sum = (sum + (traces * if antiperiodic { -32.0 } else { 32.0 })?)?;
                }
                Ok((sum * full.kappa().powi(4))?)
            }
            _ => Err(Error::Order { order: k, largest: 2 }),
        }
    }
}
