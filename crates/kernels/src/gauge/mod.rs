//! Plaquettes of SU(2) and SU(3) links in any dimension: sums over the lattice, their gradient and their force.
//!
//! ```text
//! P_{μν}(x) = U_μ(x) U_ν(x+μ̂) U_μ(x+ν̂)† U_ν(x)†
//! s_{μν} = Σ_x Re tr P_{μν}(x)
//! S_{μν}(x) = U_ν(x) U_μ(x+ν̂) U_ν(x+μ̂)† + U_ν(x−ν̂)† U_μ(x−ν̂) U_ν(x−ν̂+μ̂)
//! ∂s_{μν}/∂U_μ(x) = S_{μν}(x),      ∂^a s_{μν} = −Im tr(T^a U_μ(x) S_{μν}(x)†)
//! ```
//!
//! S_{μν} transforms like the link it belongs to; the gradient is the one in all matrix elements, G of ds = Re tr(G† dU), and ∂^a
//! that along U → e^{i s T^a} U. Links are `[B, d, V, N, N, 2]`, periodic.

mod links;
mod motion;
mod staples;
#[cfg(test)]
mod tests;

use crate::conv::simd::{Element, Level, dispatch};
use crate::host::{contiguous_slice, with_slice};
use crate::lanes::{FieldShape, LaneField, LaneLattice, lanes_of};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};
use links::BlockLinks;
pub use motion::{LinkBlock, LinkTangent, Stage};
use rayon::prelude::*;
use staples::{Gradient, Output, Sums, planes};
use std::sync::{Arc, Mutex, PoisonError};

/// Sites a task. Sums are added up task by task, in order: the number of threads changes nothing.
const SITES: usize = 16;

/// Distributions of a lattice over lanes that are kept for the next call.
const KEPT: usize = 8;

/// The plaquettes of a periodic lattice with even extents.
#[derive(Debug, Clone)]
pub struct Plaquettes {
    dims: Vec<usize>,
    distributions: Arc<Mutex<Vec<Arc<LaneLattice>>>>,
    level: Level,
}

impl Plaquettes {
    /// Those of a lattice with extents `dims`, time last.
    ///
    /// # Errors
    /// When there are fewer than two directions or an extent is odd.
    pub fn new(dims: &[usize]) -> Result<Self> {
        if dims.len() < 2 {
            candle_core::bail!("plaquettes: expected at least two directions, got extents {dims:?}");
        }
        let first = Arc::new(LaneLattice::new(dims, 1, lanes_of::<f64>())?);
        Ok(Self {
            dims: dims.to_vec(),
            distributions: Arc::new(Mutex::new(vec![first])),
            level: Level::detect(),
        })
    }

    /// Number of planes d(d−1)/2: (0, 1), (0, 2), …, (d − 2, d − 1).
    pub fn planes(&self) -> usize {
        planes(self.dims.len())
    }

    /// Σ_x Re tr P_{μν}(x) of each plane, `[B, planes]`, for links `[B, d, V, N, N, 2]`, N = 2 or 3, f64 or f32; differentiable.
    ///
    /// # Errors
    /// When the links do not fit the lattice.
    pub fn sums(&self, links: &Tensor) -> Result<Tensor> {
        self.check(links)?;
        links.contiguous()?.apply_op1(SumsOp(self.clone()))
    }

    /// Σ_{ν≠μ} S_{μν}(x) of every link, of the links' shape, without autodiff history.
    ///
    /// # Errors
    /// When the links do not fit the lattice.
    pub fn staples(&self, links: &Tensor) -> Result<Tensor> {
        let (batch, _) = self.check(links)?;
        Ok(self.gradient(links, &vec![1.0; batch * self.planes()], Output::Staples)?.1)
    }

    /// `scale` · Σ_{μ<ν} s_{μν} `[B]` and `scale` · ∂^a Σ_{μ<ν} s_{μν} `[B, d, V, N² − 1]` in one pass, without autodiff history: −S
    /// and the force −∂^a S of the action S = −scale Σ Re tr P.
    ///
    /// # Errors
    /// When the links do not fit the lattice.
    pub fn sum_and_force(&self, links: &Tensor, scale: f64) -> Result<(Tensor, Tensor)> {
        let (batch, _) = self.check(links)?;
        self.gradient(links, &vec![scale; batch * self.planes()], Output::Force)
    }

    /// Batch and N.
    fn check(&self, links: &Tensor) -> Result<(usize, usize)> {
        let (d, volume) = (self.dims.len(), self.dims.iter().product::<usize>());
        match *links.dims() {
            [batch, e, v, n, m, 2]
                if (e, v, n) == (d, volume, m) && crate::unitary::fused(links) && batch > 0 =>
            {
                Ok((batch, n))
            }
            _ => candle_core::bail!(
                "plaquettes on {:?}: expected links [B, {d}, {volume}, N, N, 2], N = 2 or 3, f64 or f32 on the CPU, got {:?} of {:?}",
                self.dims,
                links.dims(),
                links.dtype()
            ),
        }
    }

    fn distribution(&self, batch: usize, lanes: usize) -> Result<Arc<LaneLattice>> {
        // Whoever panicked while holding the lock left a list of complete entries.
        let mut kept = self.distributions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.iter().find(|l| (l.batch(), l.lanes()) == (batch, lanes)) {
            return Ok(found.clone());
        }
        let made = Arc::new(LaneLattice::new(&self.dims, batch, lanes)?);
        kept.truncate(KEPT - 1);
        kept.insert(0, made.clone());
        Ok(made)
    }

    fn pack<T: Element>(
        &self,
        links: &[T],
        batch: usize,
        n: usize,
    ) -> Result<(Arc<LaneLattice>, LaneField<T>)> {
        let lattice = self.distribution(batch, lanes_of::<T>())?;
        let shape = FieldShape::directions(lattice.ndim(), lattice.volume(), 2 * n * n);
        let field = LaneField::pack(&lattice, &shape, links)?;
        Ok((lattice, field))
    }

    /// s_{μν} of a batch, `[B, planes]`.
    fn plane_sums<T: Element>(&self, links: &[T], batch: usize, n: usize) -> Result<Vec<T>> {
        let (lattice, field) = self.pack(links, batch, n)?;
        let (lanes, volume, planes) = (lattice.lanes(), lattice.node_volume(), self.planes());
        let tasks = volume.div_ceil(SITES);
        let block_len = field.as_slice().len() / lattice.blocks();
        let level = self.level;
        let mut parts = vec![T::default(); lattice.blocks() * tasks * planes * lanes];
        parts.par_chunks_mut(planes * lanes).enumerate().for_each(|(i, out)| {
            let (block, first) = (i / tasks, i % tasks * SITES);
            let data = &field.as_slice()[block * block_len..][..block_len];
            let links = BlockLinks { lattice: &lattice, data };
            let sites = first..(first + SITES).min(volume);
            match n {
                2 => dispatch(level, Sums::<T, 2> { links, sites, out }),
                _ => dispatch(level, Sums::<T, 3> { links, sites, out }),
            }
        });
        let sums = add_up(&lattice, parts.chunks_exact(planes * lanes), planes);
        Ok(sums.into_iter().map(T::from_f64).collect())
    }

    /// The gradient of Σ w s with weights `[B, planes]`, as matrices or as components; with the latter Σ w s itself, else zero.
    fn gradient(&self, links: &Tensor, weights: &[f64], output: Output) -> Result<(Tensor, Tensor)> {
        let (batch, n) = self.check(links)?;
        let mut shape = links.dims()[..3].to_vec();
        match output {
            Output::Staples => shape.extend([n, n, 2]),
            Output::Force => shape.push(n * n - 1),
        }
        let (links, device) = (links.detach(), links.device());
        macro_rules! run {
            ($float:ty) => {{
                let (sums, g) =
                    with_slice::<$float, _>(&links, |u| self.gradient_of(u, [batch, n], weights, output))??;
                Ok((Tensor::from_vec(sums, batch, device)?, Tensor::from_vec(g, shape, device)?))
            }};
        }
        match links.dtype() {
            DType::F64 => run!(f64),
            DType::F32 => run!(f32),
            dtype => crate::unitary::unsupported(dtype),
        }
    }

    fn gradient_of<T: Element>(
        &self,
        links: &[T],
        [batch, n]: [usize; 2],
        weights: &[f64],
        output: Output,
    ) -> Result<(Vec<T>, Vec<T>)> {
        let (lattice, field) = self.pack(links, batch, n)?;
        let (lanes, volume, d, planes) =
            (lattice.lanes(), lattice.node_volume(), lattice.ndim(), self.planes());
        let numbers = match output {
            Output::Staples => 2 * n * n,
            Output::Force => n * n - 1,
        };
        let mut out = LaneField::<T>::zeros(&lattice, d * numbers);
        let block_len = field.as_slice().len() / lattice.blocks();
        let site_len = d * numbers * lanes;
        let tasks = volume.div_ceil(SITES);
        let mut parts = vec![T::default(); lattice.blocks() * tasks * lanes];
        let level = self.level;
        let blocks =
            out.as_mut_slice().par_chunks_mut(volume * site_len).zip(parts.par_chunks_mut(tasks * lanes));
        blocks.enumerate().for_each(|(block, (out, parts))| {
            let mut lane_weights = vec![T::default(); planes * lanes];
            for lane in 0..lanes {
                let Some((configuration, _)) = lattice.lane(block, lane) else { continue };
                for p in 0..planes {
                    lane_weights[p * lanes + lane] = T::from_f64(weights[configuration * planes + p]);
                }
            }
            let data = &field.as_slice()[block * block_len..][..block_len];
            let links = BlockLinks { lattice: &lattice, data };
            let tasks = out.par_chunks_mut(SITES * site_len).zip(parts.par_chunks_mut(lanes));
            tasks.enumerate().for_each(|(task, (out, sums))| {
                let sites = task * SITES..task * SITES + out.len() / site_len;
                let weights = &lane_weights[..];
                match n {
                    2 => dispatch(level, Gradient::<T, 2> { links, sites, weights, output, out, sums }),
                    _ => dispatch(level, Gradient::<T, 3> { links, sites, weights, output, out, sums }),
                }
            });
        });
        let shape = FieldShape::directions(d, lattice.volume(), numbers);
        let mut unpacked = vec![T::default(); batch * shape.configuration];
        out.unpack(&lattice, &shape, &mut unpacked)?;
        // Every plaquette has four links.
        let sums = add_up(&lattice, parts.chunks_exact(lanes), 1).into_iter().map(|s| T::from_f64(0.25 * s));
        Ok((sums.collect(), unpacked))
    }
}

/// Sums of tasks `[row][lane]`, block after block, as sums of configurations `[configuration][row]`.
fn add_up<'a, T: Element>(
    lattice: &LaneLattice,
    parts: impl ExactSizeIterator<Item = &'a [T]>,
    rows: usize,
) -> Vec<f64> {
    let (lanes, tasks) = (lattice.lanes(), parts.len() / lattice.blocks());
    let mut sums = vec![0.0; lattice.batch() * rows];
    for (i, part) in parts.enumerate() {
        for lane in 0..lanes {
            let Some((configuration, _)) = lattice.lane(i / tasks, lane) else { continue };
            for row in 0..rows {
                sums[configuration * rows + row] += part[row * lanes + lane].to_f64();
            }
        }
    }
    sums
}

struct SumsOp(Plaquettes);

impl CustomOp1 for SumsOp {
    fn name(&self) -> &'static str {
        "plaquette-sums"
    }

    fn cpu_fwd(&self, links: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, n) = (l.dims()[0], l.dims()[3]);
        let shape = Shape::from((batch, self.0.planes()));
        match links.dtype() {
            DType::F64 => {
                let sums = self.0.plane_sums::<f64>(contiguous_slice(links, l)?, batch, n)?;
                Ok((CpuStorage::F64(sums), shape))
            }
            DType::F32 => {
                let sums = self.0.plane_sums::<f32>(contiguous_slice(links, l)?, batch, n)?;
                Ok((CpuStorage::F32(sums), shape))
            }
            dtype => crate::unitary::unsupported(dtype),
        }
    }

    fn bwd(&self, links: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let weights = grad.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        Ok(Some(self.0.gradient(links, &weights, Output::Staples)?.1))
    }
}
