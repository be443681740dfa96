//! Networks of parallel transports: sums over neighbours with a real number for every site, copy, direction and spin structure.
//!
//! ```text
//! f'_i(x) = Σ_j [ a_ij(x) f_j(x) + Σ_{±μ} (b_ij(x) + c_ij(x) γ_μ) (T_{±μ} f_j)(x) ],      i ≤ outputs, j ≤ inputs
//! (T_{+μ} f)(x) = U_μ(x) f(x+μ̂),    (T_{−μ} f)(x) = U_μ(x−μ̂)† f(x−μ̂)
//! ```
//!
//! f_j are Wilson vectors: copies of one spinor field. A layer has 17 · outputs · inputs numbers a site, in the order
//! (i, term, j) with the terms a, then b and c of +x, +y, +z, +t, −x, −y, −z, −t. The whole network is one op: its copies stay in
//! lanes from the first layer to the last, and the backward pass computes them again.

mod backward;
mod block;
mod composed;
mod forward;
mod lines;
#[cfg(test)]
mod tests;

use super::WilsonLinks;
use crate::host::contiguous_slice;
use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor};

/// Terms of a layer for one pair of copies: the site itself, and two spin structures for each of eight neighbours.
pub(super) const TERMS: usize = 17;

/// A network 1 → hidden → … → 1 of layers of parallel transports.
#[derive(Debug, Clone)]
pub struct TransportNet {
    layers: Vec<TransportLayer>,
}

/// One layer and where its numbers lie among those of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportLayer {
    /// First number.
    pub start: usize,
    /// Copies before.
    pub inputs: usize,
    /// Copies after.
    pub outputs: usize,
}

impl TransportLayer {
    /// Numbers a site.
    pub fn count(&self) -> usize {
        TERMS * self.inputs * self.outputs
    }

    /// Where the numbers of the site itself (step 0) or of a neighbour begin in the row of an output, from the first one on.
    fn term(&self, step: usize) -> usize {
        (2 * step).saturating_sub(1) * self.inputs
    }

    /// Where a_ij is.
    pub fn own(&self, i: usize, j: usize) -> usize {
        self.start + i * TERMS * self.inputs + j
    }

    /// Where b_ij and c_ij are, of +μ or −μ.
    pub fn hop(&self, i: usize, j: usize, mu: usize, forwards: bool) -> [usize; 2] {
        let tap = if forwards { mu } else { 4 + mu };
        let b = self.start + i * TERMS * self.inputs + self.term(1 + tap) + j;
        [b, b + self.inputs]
    }
}

impl TransportNet {
    /// A network with the given numbers of copies between its layers; none is a single layer.
    ///
    /// # Errors
    /// When a number of copies is zero.
    pub fn new(hidden: &[usize]) -> Result<Self> {
        if hidden.contains(&0) {
            candle_core::bail!(
                "network of parallel transports: {hidden:?} copies, expected at least one each"
            );
        }
        let copies: Vec<usize> = [&[1], hidden, &[1]].concat();
        let mut start = 0;
        let layers = copies
            .windows(2)
            .map(|c| {
                let layer = TransportLayer { start, inputs: c[0], outputs: c[1] };
                start += layer.count();
                layer
            })
            .collect();
        Ok(Self { layers })
    }

    /// The layers in order.
    pub fn layers(&self) -> &[TransportLayer] {
        &self.layers
    }

    /// Numbers a site.
    pub fn coefficients(&self) -> usize {
        self.layers.iter().map(TransportLayer::count).sum()
    }

    /// Floating point operations of one forward pass a site: 8 matrices times four spins for every input copy, and two operations
    /// for every number and component.
    pub fn flops_per_site(&self) -> f64 {
        self.layers.iter().map(|l| (8 * 4 * 66 * l.inputs + 2 * 24 * l.count()) as f64).sum()
    }

    /// The network of ψ `[B, 2, 12 V]` with the numbers `coefficients` `[B, V, n]`, giving `[B, 2, 12 V]`. Differentiable in ψ, in
    /// the numbers, and in the links `[B, 4, V, 3, 3, 2]`, of which `packed` holds the values with the boundary condition. f32 or f64.
    ///
    /// # Errors
    /// When shapes or element types do not fit.
    pub fn forward(
        &self,
        links: &Tensor,
        psi: &Tensor,
        coefficients: &Tensor,
        packed: &WilsonLinks,
    ) -> Result<Tensor> {
        self.check(links, psi, coefficients)?;
        if !psi.device().is_cpu() {
            return self.forward_composed(links, psi, coefficients, packed.dims(), packed.antiperiodic());
        }
        if links.dims()[0] != packed.batch() || links.dtype() != packed.dtype() {
            candle_core::bail!(
                "network of parallel transports: links {links:?} are not those that were packed"
            );
        }
        let op = Fused { net: self.clone(), packed: packed.clone() };
        links.contiguous()?.apply_op3(&psi.contiguous()?, &coefficients.contiguous()?, op)
    }

    fn check(&self, links: &Tensor, psi: &Tensor, coefficients: &Tensor) -> Result<()> {
        let n = self.coefficients();
        let fits = match *links.dims() {
            [batch, 4, v, 3, 3, 2] => {
                psi.dims() == [batch, 2, 12 * v] && coefficients.dims() == [batch, v, n]
            }
            _ => false,
        };
        if !fits || links.dtype() != psi.dtype() || links.dtype() != coefficients.dtype() {
            candle_core::bail!(
                "network of parallel transports with {n} numbers a site: links {links:?}, ψ {psi:?}, numbers {coefficients:?}"
            );
        }
        Ok(())
    }
}

struct Fused {
    net: TransportNet,
    packed: WilsonLinks,
}

impl CustomOp3 for Fused {
    fn name(&self) -> &'static str {
        "parallel-transports"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        psi: &CpuStorage,
        lp: &Layout,
        k: &CpuStorage,
        lk: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle_core::backend::BackendStorage;
        let shape = lp.shape().clone();
        let (net, links) = (&self.net, &self.packed);
        match psi.dtype() {
            DType::F32 => {
                let out =
                    block::forward::<f32>(net, links, contiguous_slice(psi, lp)?, contiguous_slice(k, lk)?);
                Ok((CpuStorage::F32(out?), shape))
            }
            DType::F64 => {
                let out =
                    block::forward::<f64>(net, links, contiguous_slice(psi, lp)?, contiguous_slice(k, lk)?);
                Ok((CpuStorage::F64(out?), shape))
            }
            dtype => candle_core::bail!("parallel transports of {dtype:?}, expected f32 or f64"),
        }
    }

    fn bwd(
        &self,
        links: &Tensor,
        psi: &Tensor,
        coefficients: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (net, packed) = (&self.net, &self.packed);
        let gradients = match psi.dtype() {
            DType::F32 => block::backward::<f32>(net, packed, psi, coefficients, grad, links.track_op())?,
            DType::F64 => block::backward::<f64>(net, packed, psi, coefficients, grad, links.track_op())?,
            dtype => candle_core::bail!("parallel transports of {dtype:?}, expected f32 or f64"),
        };
        let [d_psi, d_coefficients] = gradients.fields;
        Ok((gradients.links, Some(d_psi), Some(d_coefficients)))
    }
}
