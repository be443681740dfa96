//! Operators that work on vectors in lanes, so that a solver packs its right-hand side once and not before each application.
//!
//! Blocks of configurations are independent of each other: each one is a problem of its own, solved on a thread of its own where
//! there are enough of them.

use crate::Result;
use candle_core::Tensor;
use latflow_kernels::wilson::{HopFactor, Sites, WilsonLinks, WilsonVector};
use rayon::prelude::*;

/// A linear map of packed vectors, the same as the [`crate::LinearOperator`] that offers it.
pub trait PackedOperator: Sync {
    /// The links, which know how to pack.
    fn links(&self) -> &WilsonLinks;

    /// The sites vectors live on.
    fn sites(&self) -> Sites;

    /// out ← A v, or A† v, for one block.
    ///
    /// # Errors
    /// When a vector is not one of this operator's.
    fn apply(
        &self,
        block: usize,
        v: &WilsonVector,
        adjoint: bool,
        out: &mut WilsonVector,
        spare: &mut Spare,
    ) -> Result<()>;
}

/// Vectors that applications need in between, kept from one to the next.
#[derive(Default)]
pub struct Spare(Vec<(Sites, WilsonVector)>);

impl Spare {
    /// Calls `f` with a vector of unspecified content.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn with<R>(
        &mut self,
        links: &WilsonLinks,
        sites: Sites,
        f: impl FnOnce(&mut WilsonVector, &mut Self) -> Result<R>,
    ) -> Result<R> {
        let found = self.0.iter().position(|(s, _)| *s == sites);
        let mut v = found.map_or_else(|| links.zeros(sites), |i| self.0.swap_remove(i).1);
        let result = f(&mut v, self);
        self.0.push((sites, v));
        result
    }
}

/// A v or A† v of a batch-first tensor.
pub(crate) fn apply_packed(a: &dyn PackedOperator, v: &Tensor, adjoint: bool) -> Result<Tensor> {
    let links = a.links();
    let blocks = links.pack(&v.to_device(&candle_core::Device::Cpu)?, a.sites())?;
    let out: Result<Vec<WilsonVector>> = blocks
        .par_iter()
        .enumerate()
        .map(|(block, v)| {
            let mut out = links.zeros(a.sites());
            a.apply(block, v, adjoint, &mut out, &mut Spare::default())?;
            Ok(out)
        })
        .collect();
    Ok(links.unpack(&out?)?.to_device(v.device())?)
}

/// A A†.
pub(crate) struct PackedNormal<'a>(pub(crate) Box<dyn PackedOperator + 'a>);

impl PackedOperator for PackedNormal<'_> {
    fn links(&self) -> &WilsonLinks {
        self.0.links()
    }

    fn sites(&self) -> Sites {
        self.0.sites()
    }

    fn apply(
        &self,
        block: usize,
        v: &WilsonVector,
        _: bool,
        out: &mut WilsonVector,
        spare: &mut Spare,
    ) -> Result<()> {
        spare.with(self.links(), self.sites(), |w, spare| {
            self.0.apply(block, v, true, w, spare)?;
            self.0.apply(block, w, false, out, spare)
        })
    }
}

/// A + μ₀.
pub(crate) struct PackedShifted<'a>(pub(crate) Box<dyn PackedOperator + 'a>, pub(crate) f64);

impl PackedOperator for PackedShifted<'_> {
    fn links(&self) -> &WilsonLinks {
        self.0.links()
    }

    fn sites(&self) -> Sites {
        self.0.sites()
    }

    fn apply(
        &self,
        block: usize,
        v: &WilsonVector,
        adjoint: bool,
        out: &mut WilsonVector,
        spare: &mut Spare,
    ) -> Result<()> {
        self.0.apply(block, v, adjoint, out, spare)?;
        let n = self.links().configurations(block).len();
        Ok(self.links().combine(block, (&vec![[self.1, 0.0]; n], v), (&vec![[1.0, 0.0]; n], out))?)
    }
}

/// 1 − κH on all sites.
pub(crate) struct PackedWilson<'a> {
    pub(crate) links: &'a WilsonLinks,
    pub(crate) kappa: f64,
}

impl PackedOperator for PackedWilson<'_> {
    fn links(&self) -> &WilsonLinks {
        self.links
    }

    fn sites(&self) -> Sites {
        Sites::All
    }

    fn apply(
        &self,
        block: usize,
        v: &WilsonVector,
        adjoint: bool,
        out: &mut WilsonVector,
        _: &mut Spare,
    ) -> Result<()> {
        let hop = HopFactor { factor: -self.kappa, adjoint };
        Ok(self.links.hop(block, v, Some((1.0, v)), hop, out)?)
    }
}

/// 1 − κ² H_eo H_oe on the even sites.
pub(crate) struct PackedEvenOdd<'a> {
    pub(crate) links: &'a WilsonLinks,
    pub(crate) kappa: f64,
}

impl PackedOperator for PackedEvenOdd<'_> {
    fn links(&self) -> &WilsonLinks {
        self.links
    }

    fn sites(&self) -> Sites {
        Sites::Even
    }

    fn apply(
        &self,
        block: usize,
        v: &WilsonVector,
        adjoint: bool,
        out: &mut WilsonVector,
        spare: &mut Spare,
    ) -> Result<()> {
        let links = self.links;
        spare.with(links, Sites::Odd, |w, _| {
            links.hop(block, v, None, HopFactor { factor: 1.0, adjoint }, w)?;
            let hop = HopFactor { factor: -self.kappa * self.kappa, adjoint };
            Ok(links.hop(block, w, Some((1.0, v)), hop, out)?)
        })
    }
}
