//! Wilson fermions in four dimensions with three colours, r = 1, no clover term.
//!
//! ```text
//! D = 1 − κ H,    (Hψ)(x) = Σ_μ [ (1 − γ_μ) U_μ(x) ψ(x+μ̂) + (1 + γ_μ) U_μ(x−μ̂)† ψ(x−μ̂) ]
//! D† = γ₅ D γ₅
//! ```
//!
//! κ = 1/(2m₀ + 8). ψ is periodic in space and antiperiodic in time, the last direction, unless asked otherwise.
//!
//! Shapes: links `[B, 4, V, 3, 3, 2]`, ψ `[B, 2, 12 V]` (re, im) in the order (site, spin, colour), f64. Even/odd vectors live on the
//! even sites.

mod determinant;
mod even_odd;
mod expansion;

pub use determinant::DenseWilson;
pub use even_odd::{EvenOddWilson, EvenOddWilsonOperator};
pub use expansion::WilsonExpansion;

use crate::packed::{PackedOperator, PackedWilson, apply_packed};
use crate::{Dirac, Error, LinearOperator, Result};
use candle_core::{Device, Tensor};
use latflow_kernels::wilson::{Sites, WilsonLinks, wilson_hop, wilson_hop_composed};
use latflow_lattice::{Boundary, Lattice, Links};

/// The family D(U); bind it to links to get an operator.
#[derive(Debug, Clone)]
pub struct Wilson {
    lattice: Lattice,
    kappa: f64,
    boundary: Boundary,
}

impl Wilson {
    /// The operator with hopping parameter κ; `boundary` is that of the time direction.
    ///
    /// # Errors
    /// When κ is not finite or the lattice has not four dimensions.
    pub fn new(lattice: &Lattice, kappa: f64, boundary: Boundary) -> Result<Self> {
        if !kappa.is_finite() {
            return Err(Error::Parameter { name: "kappa", value: kappa });
        }
        if lattice.ndim() != 4 {
            let expected = "four extents".into();
            return Err(Error::Shape { what: "lattice", expected, got: lattice.dims().to_vec() });
        }
        Ok(Self { lattice: lattice.clone(), kappa, boundary })
    }

    /// The lattice.
    pub fn lattice(&self) -> &Lattice {
        &self.lattice
    }

    /// Hopping parameter κ.
    pub fn kappa(&self) -> f64 {
        self.kappa
    }

    /// Boundary condition in time.
    pub fn boundary(&self) -> Boundary {
        self.boundary
    }

    /// The same operator with another hopping parameter.
    ///
    /// # Errors
    /// When κ is not finite.
    pub fn with_kappa(&self, kappa: f64) -> Result<Self> {
        Self::new(&self.lattice, kappa, self.boundary)
    }

    fn check(&self, links: &Links) -> Result<()> {
        links.check(&self.lattice)?;
        if links.colours() != 3 {
            let (expected, got) = ("[B, 4, V, 3, 3, 2]".into(), links.tensor().dims().to_vec());
            return Err(Error::Shape { what: "links of Wilson fermions", expected, got });
        }
        Ok(())
    }

    fn hop(&self, links: &Links) -> Result<Hop> {
        self.check(links)?;
        let antiperiodic = self.boundary == Boundary::Antiperiodic;
        let links = links.tensor().clone();
        let host = links.detach().to_device(&Device::Cpu)?;
        let packed = WilsonLinks::new(&host, self.lattice.dims(), antiperiodic)?;
        Ok(Hop { links, packed })
    }
}

/// The hopping term of one batch of links.
#[derive(Clone)]
struct Hop {
    links: Tensor,
    packed: WilsonLinks,
}

impl Hop {
    /// Hψ or H†ψ on `targets`, with gradients.
    fn apply(&self, psi: &Tensor, targets: Sites, adjoint: bool) -> Result<Tensor> {
        let packed = &self.packed;
        if !psi.device().is_cpu() {
            let (dims, antiperiodic) = (packed.dims(), packed.antiperiodic());
            return Ok(wilson_hop_composed(&self.links, psi, dims, antiperiodic, targets, adjoint)?);
        }
        Ok(wilson_hop(&self.links, psi, packed, targets, adjoint)?)
    }

    /// Whether a gradient must be recorded.
    fn tracked(&self, psi: &Tensor) -> bool {
        self.links.track_op() || psi.track_op()
    }
}

impl std::fmt::Debug for Hop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hop").field("links", &self.links.dims()).finish_non_exhaustive()
    }
}

/// D of one batch of links.
#[derive(Debug, Clone)]
pub struct WilsonOperator {
    hop: Hop,
    kappa: f64,
}

impl Dirac for Wilson {
    type Field = Links;
    type Operator = WilsonOperator;

    fn bind(&self, links: &Links) -> Result<WilsonOperator> {
        Ok(WilsonOperator { hop: self.hop(links)?, kappa: self.kappa })
    }

    fn components(&self) -> usize {
        12 * self.lattice.volume()
    }

    fn log_abs_det_constant(&self) -> f64 {
        0.0
    }
}

impl WilsonOperator {
    fn either(&self, v: &Tensor, adjoint: bool) -> Result<Tensor> {
        if !self.hop.tracked(v) && v.device().is_cpu() {
            return apply_packed(&PackedWilson { links: &self.hop.packed, kappa: self.kappa }, v, adjoint);
        }
        Ok((v - (self.hop.apply(v, Sites::All, adjoint)? * self.kappa)?)?)
    }
}

impl LinearOperator for WilsonOperator {
    fn apply(&self, v: &Tensor) -> Result<Tensor> {
        self.either(v, false)
    }

    fn apply_adjoint(&self, v: &Tensor) -> Result<Tensor> {
        self.either(v, true)
    }

    fn packed(&self) -> Option<Box<dyn PackedOperator + '_>> {
        let links = &self.hop.packed;
        self.hop.links.device().is_cpu().then(|| Box::new(PackedWilson { links, kappa: self.kappa }) as _)
    }
}
