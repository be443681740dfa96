//! Affine couplings of a scalar and a pseudofermion field, each conditioned on the other.
//!
//! ```text
//! x' = x                 on frozen sites
//! x' = x e^{s} + t       on active sites,   log |det| = Σ_active s                        [YUK IV B 3]
//! φ:  s, t P-fields of (frozen φ, ϕ)
//! ϕ:  s a P-field, t an AP-field of (φ, frozen ϕ), one of each for re ϕ and for im ϕ
//! ```
//!
//! Then φ' and ϕ' transform as φ and ϕ do under every translation that keeps the mask and the network. The networks start at
//! zero, the couplings as the identity.

use super::sites::Embedding;
use super::{Architecture, Channels, FieldNetwork, Fields, Sites};
use crate::{Bijection, Error, ParamStore, Result};
use candle_core::{DType, Tensor};
use latflow_lattice::{Lattice, Parity, checkerboard, sum_per_configuration};
use std::marker::PhantomData;

/// Updates half of φ `[B, V]` given the other half and the pseudofermion `[B, 2, N]`.
#[derive(Debug)]
pub struct ScalarCoupling {
    net: Box<dyn FieldNetwork>,
    embedding: Embedding,
    active: Tensor,
    frozen: Tensor,
    dtype: DType,
}

/// x e^s + t and Σ s; with s = t = 0 on frozen sites that is x.
fn affine(x: &Tensor, s: &Tensor, t: &Tensor) -> Result<(Tensor, Tensor)> {
    Ok((((x * s.exp()?)? + t)?, sum_per_configuration(s)?))
}

/// The inverse of [`affine`].
fn affine_inverse(x: &Tensor, s: &Tensor, t: &Tensor) -> Result<(Tensor, Tensor)> {
    let minus = s.neg()?;
    Ok((((x - t)? * minus.exp()?)?, sum_per_configuration(&minus)?))
}

fn present(field: Option<Tensor>) -> Result<Tensor> {
    field.ok_or_else(|| Error::Network {
        what: "coupling network",
        expected: "the outputs it was built for",
        got: "none".into(),
    })
}

impl ScalarCoupling {
    /// Updates the sites of parity `active`. The pseudofermion lives on `sites`. Parameters are called `name/…`.
    ///
    /// # Errors
    /// When the architecture does not fit.
    pub fn new(
        store: &mut ParamStore,
        name: &str,
        lattice: &Lattice,
        active: Parity,
        sites: Sites,
        architecture: &Architecture,
    ) -> Result<Self> {
        let (inputs, outputs) =
            (Channels { periodic: 1, antiperiodic: 2 }, Channels { periodic: 2, antiperiodic: 0 });
        let net = architecture.build(store, name, lattice, inputs, outputs)?;
        let mask = |parity| checkerboard(lattice, parity, DType::F64, store.device());
        Ok(Self {
            net,
            embedding: Embedding::new(lattice, sites, store.device())?,
            active: mask(active)?,
            frozen: mask(active.flip())?,
            dtype: store.dtype(),
        })
    }

    /// s and t, zero on frozen sites.
    fn parameters(&self, phi: &Tensor, pf: &Tensor) -> Result<(Tensor, Tensor)> {
        let frozen = phi.broadcast_mul(&self.frozen)?.unsqueeze(2)?;
        let pf = self.embedding.embed(pf, self.dtype)?;
        let out = self.net.forward(&Fields { periodic: Some(frozen), antiperiodic: Some(pf) })?;
        let out = present(out.periodic)?.to_dtype(DType::F64)?;
        let part = |i: usize| -> Result<Tensor> {
            Ok(out.narrow(2, i, 1)?.squeeze(2)?.broadcast_mul(&self.active)?)
        };
        Ok((part(0)?, part(1)?))
    }
}

impl Bijection<Tensor, Tensor> for ScalarCoupling {
    fn forward(&self, z: &Tensor, pf: &Tensor) -> Result<(Tensor, Tensor)> {
        let (s, t) = self.parameters(z, pf)?;
        affine(z, &s, &t)
    }

    fn inverse(&self, x: &Tensor, pf: &Tensor) -> Result<(Tensor, Tensor)> {
        let (s, t) = self.parameters(x, pf)?;
        affine_inverse(x, &s, &t)
    }
}

/// What a pseudofermion coupling may see of the scalar field: all of it, `Tensor`, or nothing, `()`.
pub trait ScalarContext {
    /// Whether there is a scalar field.
    const PRESENT: bool;

    /// φ `[B, V]`.
    fn scalar(&self) -> Option<&Tensor>;
}

impl ScalarContext for Tensor {
    const PRESENT: bool = true;

    fn scalar(&self) -> Option<&Tensor> {
        Some(self)
    }
}

impl ScalarContext for () {
    const PRESENT: bool = false;

    fn scalar(&self) -> Option<&Tensor> {
        None
    }
}

/// Updates half of a pseudofermion `[B, 2, N]` given the other half and, with C = `Tensor`, φ `[B, V]`. With C = `()` it is a
/// layer of the marginal q(ϕ) of [YUK (36)].
#[derive(Debug)]
pub struct PseudofermionCoupling<C> {
    net: Box<dyn FieldNetwork>,
    embedding: Embedding,
    active: Tensor,
    frozen: Tensor,
    dtype: DType,
    context: PhantomData<fn(C)>,
}

impl<C: ScalarContext> PseudofermionCoupling<C> {
    /// Updates the half `active` of the `sites` (see [`Sites::mask`]). Parameters are called `name/…`.
    ///
    /// # Errors
    /// When the architecture does not fit.
    pub fn new(
        store: &mut ParamStore,
        name: &str,
        lattice: &Lattice,
        active: Parity,
        sites: Sites,
        architecture: &Architecture,
    ) -> Result<Self> {
        let inputs = Channels { periodic: usize::from(C::PRESENT), antiperiodic: 2 };
        let outputs = Channels { periodic: 2, antiperiodic: 2 };
        let net = architecture.build(store, name, lattice, inputs, outputs)?;
        Ok(Self {
            net,
            embedding: Embedding::new(lattice, sites, store.device())?,
            active: sites.mask(lattice, active, store.device())?,
            frozen: sites.mask(lattice, active.flip(), store.device())?,
            dtype: store.dtype(),
            context: PhantomData,
        })
    }

    /// s and t of re and im, zero on frozen sites.
    fn parameters(&self, pf: &Tensor, context: &C) -> Result<(Tensor, Tensor)> {
        self.embedding.check(pf)?;
        let frozen = self.embedding.embed(&pf.broadcast_mul(&self.frozen)?, self.dtype)?;
        let phi = context.scalar().map(|phi| phi.unsqueeze(2)).transpose()?;
        let out = self.net.forward(&Fields { periodic: phi, antiperiodic: Some(frozen) })?;
        let part = |field: Option<Tensor>| -> Result<Tensor> {
            Ok(self.embedding.pick(&present(field)?)?.broadcast_mul(&self.active)?)
        };
        Ok((part(out.periodic)?, part(out.antiperiodic)?))
    }
}

impl<C: ScalarContext> Bijection<Tensor, C> for PseudofermionCoupling<C> {
    fn forward(&self, z: &Tensor, context: &C) -> Result<(Tensor, Tensor)> {
        let (s, t) = self.parameters(z, context)?;
        affine(z, &s, &t)
    }

    fn inverse(&self, x: &Tensor, context: &C) -> Result<(Tensor, Tensor)> {
        let (s, t) = self.parameters(x, context)?;
        affine_inverse(x, &s, &t)
    }
}
