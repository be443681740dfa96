//! Affine coupling on a checkerboard.
//!
//! ```text
//! x' = x                  on frozen sites
//! x' = x e^{s} + t        on active sites,  (s, t) = network(frozen sites)                [YUK IV B 3]
//! log |det| = Σ_active s
//! ```
//!
//! The field is f64 and the network may be f32: s and t are whatever numbers the network returns for the frozen sites, and
//! the map is affine in the active ones with exactly those numbers.

use crate::{Bijection, ContextNet, NetShape, ParamStore, Result};
use candle_core::{DType, Tensor};
use candle_nn::Module;
use latflow_lattice::{Lattice, Parity, checkerboard, sum_per_configuration};

/// One coupling layer on fields `[B, V]`.
#[derive(Debug, Clone)]
pub struct AffineCoupling {
    net: ContextNet,
    active: Tensor,
    frozen: Tensor,
}

impl AffineCoupling {
    /// Updates the sites of parity `active`; the parameters are called `name`.
    ///
    /// # Errors
    /// When the network does not fit the lattice.
    pub fn new(
        store: &mut ParamStore,
        name: &str,
        lattice: &Lattice,
        active: Parity,
        shape: &NetShape,
    ) -> Result<Self> {
        let net = ContextNet::new(store, name, lattice, 1, 2, shape)?;
        let mask = |parity| checkerboard(lattice, parity, DType::F64, store.device());
        Ok(Self { net, active: mask(active)?, frozen: mask(active.flip())? })
    }

    /// s and t on the active sites, zero elsewhere.
    fn parameters(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let frozen = x.broadcast_mul(&self.frozen)?;
        let out = self.net.forward(&frozen.unsqueeze(2)?)?.to_dtype(DType::F64)?;
        let part = |i: usize| -> Result<Tensor> {
            Ok(out.narrow(2, i, 1)?.squeeze(2)?.broadcast_mul(&self.active)?)
        };
        Ok((part(0)?, part(1)?))
    }
}

impl Bijection<Tensor> for AffineCoupling {
    fn forward(&self, z: &Tensor, (): &()) -> Result<(Tensor, Tensor)> {
        // s = 0 on frozen sites, where e^s z + t is z.
        let (s, t) = self.parameters(z)?;
        Ok((((z * s.exp()?)? + t)?, sum_per_configuration(&s)?))
    }

    fn inverse(&self, x: &Tensor, (): &()) -> Result<(Tensor, Tensor)> {
        let (s, t) = self.parameters(x)?;
        let minus = s.neg()?;
        Ok((((x - t)? * minus.exp()?)?, sum_per_configuration(&minus)?))
    }
}
