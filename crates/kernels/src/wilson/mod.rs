//! The hopping term of Wilson fermions in four dimensions, with three colours.
//!
//! ```text
//! (Hψ)(x) = Σ_μ [ (1 − γ_μ) U_μ(x) ψ(x+μ̂) + (1 + γ_μ) U_μ(x−μ̂)† ψ(x−μ̂) ]
//! ```
//!
//! Vectors are `[B, 2, 12 · sites]` (re, im), components in the order (site, spin, colour), on all sites or on those of one parity.
//! [`wilson_hop`] is differentiable; solvers work on [`WilsonVector`]s, which stay in lanes from one hop to the next.

mod composed;
pub mod gamma;
mod geometry;
mod gradient;
mod kernel;
mod links;
mod ptcn;
#[cfg(test)]
mod tests;
mod vector;

pub use composed::wilson_hop_composed;
pub use geometry::Sites;
pub use links::{HopFactor, WilsonLinks, WilsonVector};
pub use ptcn::{TransportLayer, TransportNet};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

/// Floating point operations of Hψ for each site of the result.
pub const FLOPS_PER_SITE: f64 = 1320.0;

/// Hψ, or H†ψ, on the sites `targets` for ψ on their neighbours `[B, 2, 12 · sites]`; differentiable in ψ and in the links
/// `[B, 4, V, 3, 3, 2]`, of which `packed` holds the values. f32 or f64.
///
/// # Errors
/// When shapes or element types do not fit.
pub fn wilson_hop(
    links: &Tensor,
    psi: &Tensor,
    packed: &WilsonLinks,
    targets: Sites,
    adjoint: bool,
) -> Result<Tensor> {
    if !psi.device().is_cpu() {
        return wilson_hop_composed(links, psi, packed.dims(), packed.antiperiodic(), targets, adjoint);
    }
    if links.dims()[0] != packed.batch() || links.dtype() != packed.dtype() {
        candle_core::bail!("Wilson hop: links {links:?} are not those that were packed");
    }
    let op = HopOp { packed: packed.clone(), targets, adjoint };
    links.contiguous()?.apply_op2(&psi.contiguous()?, op)
}

struct HopOp {
    packed: WilsonLinks,
    targets: Sites,
    adjoint: bool,
}

impl HopOp {
    fn apply(&self, psi: &Tensor, targets: Sites, adjoint: bool) -> Result<Tensor> {
        use rayon::prelude::*;
        let links = &self.packed;
        let psi = links.pack(psi, targets.neighbours())?;
        let hop = HopFactor { factor: 1.0, adjoint };
        let out: Result<Vec<WilsonVector>> = psi
            .par_iter()
            .enumerate()
            .map(|(block, psi)| {
                let mut out = links.zeros(targets);
                links.hop(block, psi, None, hop, &mut out)?;
                Ok(out)
            })
            .collect();
        links.unpack(&out?)
    }
}

impl CustomOp2 for HopOp {
    fn name(&self) -> &'static str {
        "wilson-hop"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        psi: &CpuStorage,
        layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let device = candle_core::Device::Cpu;
        let tensor = |storage: &CpuStorage| -> Result<Tensor> {
            match storage {
                CpuStorage::F32(_) => Tensor::from_slice(
                    crate::host::contiguous_slice::<f32>(storage, layout)?,
                    layout.shape(),
                    &device,
                ),
                CpuStorage::F64(_) => Tensor::from_slice(
                    crate::host::contiguous_slice::<f64>(storage, layout)?,
                    layout.shape(),
                    &device,
                ),
                _ => candle_core::bail!("Wilson hop: expected f32 or f64"),
            }
        };
        let out = self.apply(&tensor(psi)?, self.targets, self.adjoint)?;
        let (storage, _) = out.storage_and_layout();
        match &*storage {
            candle_core::Storage::Cpu(cpu) => Ok((cpu.clone(), out.shape().clone())),
            _ => candle_core::bail!("Wilson hop: expected a tensor on the CPU"),
        }
    }

    fn bwd(
        &self,
        links: &Tensor,
        psi: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let d_psi = if psi.track_op() {
            Some(self.apply(grad, self.targets.neighbours(), !self.adjoint)?)
        } else {
            None
        };
        let d_links = if links.track_op() {
            Some(self.packed.gradient(grad, psi, self.targets, self.adjoint)?)
        } else {
            None
        };
        Ok((d_links, d_psi))
    }
}
