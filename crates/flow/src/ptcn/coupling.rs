//! One coupling: half of a spinor field, given the other half and the links.
//!
//! ```text
//! ϕ' = Π̄ϕ + Π [ e^{s(x)} ϕ + PTCN(Π̄ϕ; U) ],     Π̄ = 1 − Π
//! log |det| = 2 n_Π Σ_x s(x)           n_Π complex components a site where Π acts
//! ```
//!
//! The network is linear in ϕ, so q(ϕ|U) is Gaussian. It may run in f32: it returns whatever it returns for Π̄ϕ, and the map is
//! affine in Πϕ with exactly those numbers.

use super::context::Head;
use super::mask::Projector;
use super::transport::{Path, numbers};
use super::{PtcnMask, PtcnShape, PtcnStart};
use crate::{ParamStore, Result, Sites};
use candle_core::{DType, Tensor};
use latflow_kernels::wilson::{TransportNet, WilsonLinks};
use latflow_lattice::{Lattice, Rng};

/// A layer of the flow.
#[derive(Debug, Clone)]
pub(super) struct Coupling {
    projector: Projector,
    net: TransportNet,
    head: Head,
}

/// Links in the element type of the networks, as the kernel wants them.
#[derive(Clone)]
pub(super) struct Bound {
    pub(super) links: Tensor,
    pub(super) packed: WilsonLinks,
    /// Features of the shared layers, `[B, V, hidden]`.
    pub(super) features: Tensor,
    /// Row of the features for each configuration, where some share one.
    pub(super) rows: Option<Tensor>,
}

impl Coupling {
    pub(super) fn new(
        store: &mut ParamStore,
        name: &str,
        lattice: &Lattice,
        sites: Sites,
        (index, mask): (usize, PtcnMask),
        shape: &PtcnShape,
    ) -> Result<Self> {
        let like = Tensor::zeros(1, DType::F64, store.device())?;
        let projector = Projector::new(mask, lattice, sites, &like)?;
        let net = TransportNet::new(&vec![shape.copies; shape.depth - 1])?;
        let n = net.coefficients();
        let start = |rng: &mut Rng| match shape.start {
            PtcnStart::Random => vec![0.0; n + 1],
            PtcnStart::Hopping { kappa } => {
                let mut constants = numbers(&net, path(shape, index, mask, kappa), rng);
                constants.push(0.0);
                constants
            }
        };
        let head = Head::new(store, name, lattice, shape, n + 1, start)?;
        Ok(Self { projector, net, head })
    }

    /// s `[B, V]` and the network's numbers.
    fn context(&self, bound: &Bound) -> Result<(Tensor, Tensor)> {
        let mut k = self.head.numbers(&bound.features)?;
        if let Some(rows) = &bound.rows {
            k = k.index_select(rows, 0)?;
        }
        let n = self.net.coefficients();
        let s = k.narrow(2, n, 1)?.squeeze(2)?.to_dtype(DType::F64)?;
        Ok((s, k.narrow(2, 0, n)?))
    }

    /// Π PTCN(Π̄ϕ).
    fn shift(&self, rest: &Tensor, numbers: &Tensor, bound: &Bound) -> Result<Tensor> {
        let (batch, _, v, ..) = rest.dims5()?;
        let flat = rest.reshape((batch, 2, 12 * v))?.to_dtype(bound.links.dtype())?;
        let out = self.net.forward(&bound.links, &flat, numbers, &bound.packed)?;
        self.projector.apply(&out.to_dtype(DType::F64)?.reshape(rest.shape())?)
    }

    /// (ϕ', log |det|) for ϕ `[B, 2, V, 4, 3]`.
    pub(super) fn forward(&self, phi: &Tensor, bound: &Bound) -> Result<(Tensor, Tensor)> {
        let (s, numbers) = self.context(bound)?;
        let active = self.projector.apply(phi)?;
        let rest = (phi - &active)?;
        let shift = self.shift(&rest, &numbers, bound)?;
        let scaled = active.broadcast_mul(&scale(&s.exp()?)?)?;
        Ok((((rest + scaled)? + shift)?, self.projector.log_det(&s)?))
    }

    /// The inverse.
    pub(super) fn inverse(&self, phi: &Tensor, bound: &Bound) -> Result<(Tensor, Tensor)> {
        let (s, numbers) = self.context(bound)?;
        let active = self.projector.apply(phi)?;
        let rest = (phi - &active)?;
        let shift = self.shift(&rest, &numbers, bound)?;
        let minus = s.neg()?;
        let scaled = (active - shift)?.broadcast_mul(&scale(&minus.exp()?)?)?;
        Ok(((rest + scaled)?, self.projector.log_det(&minus)?))
    }

    pub(super) fn detached(&self) -> Self {
        Self { head: self.head.detached(), ..self.clone() }
    }
}

/// `[B, V]` → `[B, 1, V, 1, 1]`.
fn scale(s: &Tensor) -> Result<Tensor> {
    Ok(s.unsqueeze(1)?.unsqueeze(3)?.unsqueeze(4)?)
}

/// What the network of one coupling of the chain is at the start: the triangular factors of D at its two ends if they are even/odd
/// couplings, parts of −κ² H H in quarters, and nothing elsewhere.
fn path(shape: &PtcnShape, index: usize, mask: PtcnMask, kappa: f64) -> Path {
    match mask {
        PtcnMask::Sites(_) if index == 0 || index + 1 == shape.masks.len() => Path::One(-kappa),
        PtcnMask::Quarter { .. } if shape.depth > 1 => {
            // How often the masks separate a pair of directions, at most: each of them has its share. Both halves of a pair of
            // quarters count once.
            let separated = |mu: usize, nu: usize| shape.masks.iter().filter(|m| m.separates(mu, nu)).count();
            let pairs = (0..4).flat_map(|mu| (0..mu).map(move |nu| (mu, nu)));
            let most = pairs.map(|(mu, nu)| separated(mu, nu).div_ceil(2)).max().unwrap_or(1).max(1);
            Path::Two(-kappa * kappa / most as f64)
        }
        _ => Path::Nothing,
    }
}
