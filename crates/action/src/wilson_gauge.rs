//! The gauge action of Wilson, for SU(N) links in any dimension.
//!
//! ```text
//! S(U) = −(β/N) Σ_x Σ_{μ<ν} Re tr P_{μν}(x),   P_{μν}(x) = U_μ(x) U_ν(x+μ̂) U_μ(x+ν̂)† U_ν(x)†
//! −∂^a S at U_μ(x) = −(β/N) Im tr(T^a U_μ(x) Σ_ν S_{μν}(x)†),   S_{μν} the staples
//! ```
//!
//! No constant is added: S of unit links is −β d(d−1)/2 V. Links are periodic in every direction.

use crate::action::differentiate;
use crate::{Action, Error, Result};
use candle_core::Tensor;
use latflow_kernels::gauge::Plaquettes;
use latflow_kernels::unitary;
use latflow_lattice::gauge::{matrix, plaquettes};
use latflow_lattice::{Lattice, Links, sum_per_configuration};

/// The action of links `[B, d, V, N, N, 2]`, f64.
#[derive(Debug, Clone)]
pub struct WilsonGauge {
    lattice: Lattice,
    n: usize,
    beta: f64,
    plaquettes: Plaquettes,
}

impl WilsonGauge {
    /// Coupling β of SU(N) links.
    ///
    /// # Errors
    /// When β is not finite, N is below 2, or there is only one direction.
    pub fn new(lattice: &Lattice, n: usize, beta: f64) -> Result<Self> {
        for (name, value, fits) in [("beta", beta, beta.is_finite()), ("number of colours", n as f64, n >= 2)]
        {
            if !fits {
                return Err(Error::Parameter { name, value });
            }
        }
        let plaquettes = Plaquettes::new(lattice.dims())?;
        Ok(Self { lattice: lattice.clone(), n, beta, plaquettes })
    }

    /// The lattice.
    pub fn lattice(&self) -> &Lattice {
        &self.lattice
    }

    /// Number of colours N.
    pub fn colours(&self) -> usize {
        self.n
    }

    /// The coupling β.
    pub fn beta(&self) -> f64 {
        self.beta
    }

    fn check(&self, links: &Links) -> Result<()> {
        links.check(&self.lattice)?;
        if links.colours() == self.n {
            return Ok(());
        }
        let expected = format!("[B, {}, {}, {n}, {n}, 2]", links.ndim(), links.volume(), n = self.n);
        Err(Error::Shape { what: "links", expected, got: links.tensor().dims().to_vec() })
    }

    /// β/N.
    fn coefficient(&self) -> f64 {
        self.beta / self.n as f64
    }

    /// S from shifted links: any N, any device, and the oracle of the fused one.
    ///
    /// # Errors
    /// When the links do not fit.
    pub fn composed(&self, links: &Links) -> Result<Tensor> {
        self.check(links)?;
        let mut sum: Option<Tensor> = None;
        for mu in 0..self.lattice.ndim() {
            for nu in mu + 1..self.lattice.ndim() {
                let traces = matrix::re_trace(&plaquettes(links, &self.lattice, mu, nu)?)?;
                let plane = sum_per_configuration(&traces)?;
                sum = Some(match sum {
                    Some(sum) => (sum + plane)?,
                    None => plane,
                });
            }
        }
        // Two directions at least, or there would be no action.
        Ok((sum.ok_or(Error::NoGradient)? * -self.coefficient())?)
    }
}

impl Action<Links> for WilsonGauge {
    fn action(&self, links: &Links) -> Result<Tensor> {
        self.check(links)?;
        if !unitary::fused(links.tensor()) {
            return self.composed(links);
        }
        Ok((self.plaquettes.sums(links.tensor())?.sum(1)? * -self.coefficient())?)
    }

    fn action_and_force(&self, links: &Links) -> Result<(Tensor, Tensor)> {
        self.check(links)?;
        if !unitary::fused(links.tensor()) {
            return differentiate(self, links);
        }
        let (sum, force) = self.plaquettes.sum_and_force(links.tensor(), self.coefficient())?;
        Ok((sum.neg()?, force))
    }
}
