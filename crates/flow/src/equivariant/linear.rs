//! Deep linear flow: a pseudofermion times a product of local operators that depend on φ.
//!
//! ```text
//! ϕ = W(φ) χ,  W = W_n ∘ … ∘ W_1:     q(ϕ|φ) = e^{−ϕ†(WW†)⁻¹ϕ} / (π^V det WW†)             [YUK (25), (38)]
//! (W χ)(x) = a(x) χ(x) + b(x) χ(x + s μ̂),   s = ±1                                        [YUK (27), (28)]
//! ```
//!
//! χ(x + s μ̂) is periodic in space and antiperiodic in time. On each line along μ, W is bidiagonal but for one corner
//! [YUK (29)]:
//!
//! ```text
//! det = Π_h a − (−1)^L σ Π_h b,     σ = 1 in space, −1 in time
//! log |det ∂ϕ/∂χ| = 2 Σ_k log |det W_k|          (real and imaginary parts, each by the real matrix W)
//! ```
//!
//! The corner belongs to a cyclic permutation of L columns, of sign (−1)^{L−1}. Extents are even: minus in space, plus in time.
//! W_k takes turns through (−1̂, +1̂, −2̂, +2̂, …). a = softplus(ã)/ln 2 > 0 and b are P-fields from one network: squeezing,
//! then convolutions. The last layer is zero, so that a = 1, b = 0, W = 1 at the start.

use super::Squeeze;
use crate::{Bijection, ContextNet, Error, NetShape, ParamStore, Result};
use candle_core::{DType, Tensor};
use candle_nn::Module;
use latflow_kernels::{BidiagonalProduct, Cycles};
use latflow_lattice::{Boundary, Lattice};

/// Hyperparameters of a [`LinearFlow`].
#[derive(Debug, Clone, PartialEq)]
pub struct LinearShape {
    /// n: number of operators; the paper has 128 [YUK App. A].
    pub operators: usize,
    /// Channels after squeezing φ along the first direction.
    pub squeeze: usize,
    /// The network after it; its output must not be bounded by an activation unless that is wanted.
    pub net: NetShape,
}

/// The flow of a pseudofermion `[B, 2, V]` given φ `[B, V]`, f64.
#[derive(Debug, Clone)]
pub struct LinearFlow {
    squeeze: Squeeze,
    net: ContextNet,
    product: BidiagonalProduct,
    dtype: DType,
}

impl LinearFlow {
    /// Starts as the identity; the parameters are called `name/…`.
    ///
    /// # Errors
    /// When there is no operator, the network does not fit the lattice, or the name is taken.
    pub fn new(store: &mut ParamStore, name: &str, lattice: &Lattice, shape: &LinearShape) -> Result<Self> {
        if shape.operators == 0 {
            return Err(Error::Parameter { name: "operators", value: 0.0, expected: "at least 1" });
        }
        let (from, to) = (shape.squeeze, 2 * shape.operators);
        let mut cycles = Vec::with_capacity(2 * lattice.ndim());
        for mu in 0..lattice.ndim() {
            for step in [-1, 1] {
                cycles.push(lines(lattice, mu, step)?);
            }
        }
        Ok(Self {
            squeeze: Squeeze::new(
                store,
                &format!("{name}/squeeze"),
                lattice,
                0,
                Boundary::Periodic,
                1,
                from,
            )?,
            net: ContextNet::new(store, &format!("{name}/net"), lattice, from, to, &shape.net)?,
            product: BidiagonalProduct::new(cycles, shape.operators)?,
            dtype: store.dtype(),
        })
    }

    /// ã and b of all operators, `[B, V, 2n]`, f64: channels 2k and 2k + 1 belong to W_{k+1}. Zero where W is the identity, so
    /// that their mean square is a penalty that keeps W close to it [YUK App. A].
    ///
    /// # Errors
    /// When φ does not fit.
    pub fn coefficients(&self, phi: &Tensor) -> Result<Tensor> {
        let squeezed = self.squeeze.forward(&phi.to_dtype(self.dtype)?.unsqueeze(2)?)?;
        Ok(self.net.forward(&squeezed)?.to_dtype(DType::F64)?)
    }
}

/// The lines along ±μ, each in the order of the hops.
fn lines(lattice: &Lattice, mu: usize, step: isize) -> Result<Cycles> {
    let length = lattice.dims()[mu];
    let mut sites = Vec::with_capacity(lattice.volume());
    for start in (0..lattice.volume()).filter(|&s| lattice.coordinates(s)[mu] == 0) {
        // Backwards from x_μ = L − 1: the last hop is the one that leaves the lattice.
        let mut site = if step > 0 { start } else { lattice.neighbour(start, mu, -1, Boundary::Periodic).0 };
        for _ in 0..length {
            sites.push(site as u32);
            site = lattice.neighbour(site, mu, step, Boundary::Periodic).0;
        }
    }
    Ok(Cycles::new(sites, length, mu + 1 == lattice.ndim())?)
}

impl Bijection<Tensor, Tensor> for LinearFlow {
    fn forward(&self, chi: &Tensor, phi: &Tensor) -> Result<(Tensor, Tensor)> {
        let (pf, log_det) = self.product.forward(chi, &self.coefficients(phi)?)?;
        Ok((pf, (log_det * chi.dim(1)? as f64)?))
    }

    fn inverse(&self, pf: &Tensor, phi: &Tensor) -> Result<(Tensor, Tensor)> {
        let (chi, log_det) = self.product.inverse(pf, &self.coefficients(phi)?)?;
        Ok((chi, (log_det * pf.dim(1)? as f64)?))
    }
}
