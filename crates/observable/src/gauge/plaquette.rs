//! The plaquette in the normalisations in use, and the trace of the links.
//!
//! ```text
//! plaquette        = 1/(n_planes V) Σ_x Σ_{μ<ν} Re tr P_{μν}(x)/N           1 for U = 1
//! plaquette_paper  = 1/V Σ_x Σ_{μ<ν} Re tr P_{μν}(x)/N                      [QCD (2)], d(d−1)/2 for U = 1: 6 in four dimensions
//! link_trace       = 1/(d V) Σ_x Σ_μ Re tr U_μ(x)/N                         not gauge invariant: what NERSC headers carry
//! E_plaquette      = 1/V Σ_x Σ_{μ<ν} 2 Re tr (1 − P_{μν}(x))                a⁴ E
//! ```

use candle_core::{D, Tensor};
use latflow_lattice::gauge::matrix;
use latflow_lattice::{Configuration, Lattice, Links};

use super::planes;
use super::sums::Sums;
use crate::{Observable, Result};

/// ⟨Re tr P⟩/N averaged over sites and planes, `[B]`.
#[derive(Debug, Clone)]
pub struct Plaquette(PlanePlaquettes);

/// Σ_{μ<ν} Re tr P_{μν}/N averaged over sites, `[B]` [QCD (2)]: the number of planes times [`Plaquette`].
#[derive(Debug, Clone)]
pub struct PaperPlaquette(PlanePlaquettes);

/// ⟨Re tr P_{μν}⟩/N averaged over sites, `[B, d(d−1)/2]`, planes (μ, ν), μ < ν, in lexicographic order.
#[derive(Debug, Clone)]
pub struct PlanePlaquettes(Sums);

/// ⟨Re tr U⟩/N averaged over links, `[B]`.
#[derive(Debug, Clone, Copy)]
pub struct LinkTrace;

/// a⁴E = 2 Σ_{μ<ν} Re tr (1 − P_{μν}) averaged over sites, `[B]`: the energy density that the Wilson flow lowers.
#[derive(Debug, Clone)]
pub struct PlaquetteEnergy(PlanePlaquettes);

impl Plaquette {
    /// The plaquette on a lattice.
    ///
    /// # Errors
    /// When the lattice has one direction only.
    pub fn new(lattice: &Lattice) -> Result<Self> {
        Ok(Self(PlanePlaquettes::new(lattice)?))
    }
}

impl PaperPlaquette {
    /// The plaquette on a lattice.
    ///
    /// # Errors
    /// When the lattice has one direction only.
    pub fn new(lattice: &Lattice) -> Result<Self> {
        Ok(Self(PlanePlaquettes::new(lattice)?))
    }
}

impl PlaquetteEnergy {
    /// The energy density on a lattice.
    ///
    /// # Errors
    /// When the lattice has one direction only.
    pub fn new(lattice: &Lattice) -> Result<Self> {
        Ok(Self(PlanePlaquettes::new(lattice)?))
    }
}

impl PlanePlaquettes {
    /// The plaquettes of all planes of a lattice.
    ///
    /// # Errors
    /// When the lattice has one direction only.
    pub fn new(lattice: &Lattice) -> Result<Self> {
        Ok(Self(Sums::new(lattice)?))
    }

    fn count(&self) -> f64 {
        planes(self.0.lattice().ndim()).count() as f64
    }
}

impl Observable<Links> for PlanePlaquettes {
    fn name(&self) -> &'static str {
        "plane_plaquettes"
    }

    fn measure(&self, links: &Links) -> Result<Tensor> {
        let scale = 1.0 / (self.0.lattice().volume() * links.colours()) as f64;
        Ok((self.0.plaquettes(links)? * scale)?)
    }
}

impl Observable<Links> for Plaquette {
    fn name(&self) -> &'static str {
        "plaquette"
    }

    fn measure(&self, links: &Links) -> Result<Tensor> {
        Ok(self.0.measure(links)?.mean(1)?)
    }
}

impl Observable<Links> for PaperPlaquette {
    fn name(&self) -> &'static str {
        "plaquette_paper"
    }

    fn measure(&self, links: &Links) -> Result<Tensor> {
        Ok(self.0.measure(links)?.sum(1)?)
    }
}

impl Observable<Links> for LinkTrace {
    fn name(&self) -> &'static str {
        "link_trace"
    }

    fn measure(&self, links: &Links) -> Result<Tensor> {
        let links = links.detach();
        let traces = matrix::re_trace(links.tensor())?.flatten_from(1)?;
        Ok((traces.mean(D::Minus1)? / links.colours() as f64)?)
    }
}

impl Observable<Links> for PlaquetteEnergy {
    fn name(&self) -> &'static str {
        "energy_plaquette"
    }

    fn measure(&self, links: &Links) -> Result<Tensor> {
        let scale = 2.0 * links.colours() as f64;
        Ok(self.0.measure(links)?.sum(1)?.affine(-scale, scale * self.0.count())?)
    }
}
