//! Links of a batch packed once for many hops, and the hop on packed vectors.

use super::geometry::{Geometry, Sites};
use super::gradient::Outer;
use super::kernel::{Hop, LINK, SPINOR};
use super::vector;
use crate::conv::scratch::Aligned;
use crate::conv::simd::{Element, Level, dispatch};
use crate::host::with_slice;
use crate::lanes::{FieldShape, LaneField, lanes_of};
use candle_core::{DType, Result, Tensor, bail};
use rayon::prelude::*;
use std::sync::Arc;

/// Links of a batch in lanes, f32 or f64. Clones share them.
#[derive(Clone)]
pub struct WilsonLinks(Arc<Packed>);

struct Packed {
    geometry: Geometry,
    antiperiodic: bool,
    field: Field,
}

enum Field {
    F32(LaneField<f32>),
    F64(LaneField<f64>),
}

/// A spinor field on some sites of one block of configurations, in lanes.
pub struct WilsonVector {
    sites: Sites,
    numbers: Numbers,
}

enum Numbers {
    F32(Aligned<f32>),
    F64(Aligned<f64>),
}

/// What other kernels on the same links need: the lattice in lanes, and the numbers of every block.
pub(super) struct Packing<'a, T> {
    pub(super) geometry: &'a Geometry,
    links: &'a LaneField<T>,
}

impl<'a, T: Element> Packing<'a, T> {
    /// The links of one block: `[site][μ][row, column, re/im][lane]`.
    pub(super) fn block(&self, block: usize) -> &'a [T] {
        block_of(self.geometry, self.links, block)
    }
}

/// k Hψ or k H†ψ.
#[derive(Debug, Clone, Copy)]
pub struct HopFactor {
    /// k.
    pub factor: f64,
    /// H† instead of H.
    pub adjoint: bool,
}

/// The numbers of links and vectors, which must have one element type, bound to names in one block of code for each type.
macro_rules! numbers {
    ($links:expr, [$($vector:expr => $name:ident),*], $field:ident => $body:expr) => {
        match (&$links.0.field, $($vector),*) {
            (Field::F32($field), $(Numbers::F32($name)),*) => Ok($body),
            (Field::F64($field), $(Numbers::F64($name)),*) => Ok($body),
            #[allow(unreachable_patterns)]
            _ => Err(candle_core::Error::Msg("Wilson hop: links and vectors of different element types".into())),
        }
    };
}

impl WilsonLinks {
    /// Packs links `[B, 4, V, 3, 3, 2]`, f32 or f64, of a lattice with extents `dims`, time last. `antiperiodic`: links that
    /// leave the last time slice change sign, which is what antiperiodic spinors see.
    ///
    /// # Errors
    /// When the shape does not fit the lattice.
    pub fn new(links: &Tensor, dims: &[usize], antiperiodic: bool) -> Result<Self> {
        let volume: usize = dims.iter().product();
        let batch = match *links.dims() {
            [batch, 4, v, 3, 3, 2] if v == volume => batch,
            ref got => {
                bail!("Wilson fermions on {dims:?}: expected links [B, 4, {volume}, 3, 3, 2], got {got:?}")
            }
        };
        macro_rules! packed {
            ($float:ty, $kind:ident) => {{
                let geometry = Geometry::new(dims, batch, lanes_of::<$float>())?;
                let shape = FieldShape::directions(4, volume, LINK);
                let mut field = with_slice::<$float, _>(&links.detach(), |u| {
                    LaneField::pack(&geometry.lattice, &shape, u)
                })??;
                if antiperiodic {
                    change_sign(&geometry, &mut field);
                }
                (geometry, Field::$kind(field))
            }};
        }
        let (geometry, field) = match links.dtype() {
            DType::F32 => packed!(f32, F32),
            DType::F64 => packed!(f64, F64),
            other => bail!("Wilson fermions: expected links of f32 or f64, got {other:?}"),
        };
        Ok(Self(Arc::new(Packed { geometry, antiperiodic, field })))
    }

    /// The numbers, if they are of this type.
    pub(super) fn packing<T: Element>(&self) -> Result<Packing<'_, T>> {
        let field: &dyn std::any::Any = match &self.0.field {
            Field::F32(field) => field,
            Field::F64(field) => field,
        };
        match field.downcast_ref::<LaneField<T>>() {
            Some(links) if links.components() == 4 * LINK => {
                Ok(Packing { geometry: &self.0.geometry, links })
            }
            Some(_) => bail!("Wilson links in hop order, expected those of each site"),
            None => bail!("Wilson links of {:?}, expected {:?}", self.dtype(), T::DTYPE),
        }
    }

    /// Extents of the lattice.
    pub fn dims(&self) -> &[usize] {
        self.0.geometry.lattice.dims()
    }

    /// Whether spinors are antiperiodic in time.
    pub fn antiperiodic(&self) -> bool {
        self.0.antiperiodic
    }

    /// Configurations.
    pub fn batch(&self) -> usize {
        self.0.geometry.lattice.batch()
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        match self.0.field {
            Field::F32(_) => DType::F32,
            Field::F64(_) => DType::F64,
        }
    }

    /// Blocks of configurations that are treated together.
    pub fn blocks(&self) -> usize {
        self.0.geometry.lattice.blocks()
    }

    /// The configurations of a block.
    pub fn configurations(&self, block: usize) -> std::ops::Range<usize> {
        let size = self.0.geometry.lattice.configurations();
        block * size..((block + 1) * size).min(self.batch())
    }

    /// Whether work on one block is to be shared by threads, because there are fewer blocks than threads.
    fn parallel(&self) -> bool {
        self.blocks() < rayon::current_num_threads()
    }

    /// A vector of zeros.
    pub fn zeros(&self, sites: Sites) -> WilsonVector {
        let geometry = &self.0.geometry;
        let numbers = match self.0.field {
            Field::F32(_) => Numbers::F32(vector::zeros(geometry, sites)),
            Field::F64(_) => Numbers::F64(vector::zeros(geometry, sites)),
        };
        WilsonVector { sites, numbers }
    }

    /// The vectors of all blocks of a batch-first tensor `[B, 2, 12 · sites]`.
    ///
    /// # Errors
    /// When shape or element type do not fit.
    pub fn pack(&self, v: &Tensor, sites: Sites) -> Result<Vec<WilsonVector>> {
        let geometry = &self.0.geometry;
        let shape = self.shape(sites);
        if v.dims() != shape || v.dtype() != self.dtype() {
            bail!("Wilson vector: expected {shape:?} of {:?}, got {v:?}", self.dtype());
        }
        let mut blocks: Vec<WilsonVector> = (0..self.blocks()).map(|_| self.zeros(sites)).collect();
        macro_rules! fill {
            ($float:ty, $kind:ident) => {
                with_slice::<$float, _>(&v.detach(), |v| {
                    blocks.par_iter_mut().enumerate().for_each(|(block, out)| {
                        if let Numbers::$kind(out) = &mut out.numbers {
                            vector::pack(geometry, sites, block, v, out.as_mut_slice());
                        }
                    });
                })?
            };
        }
        match self.0.field {
            Field::F32(_) => fill!(f32, F32),
            Field::F64(_) => fill!(f64, F64),
        }
        Ok(blocks)
    }

    /// `[B, 2, 12 · sites]`.
    fn shape(&self, sites: Sites) -> [usize; 3] {
        [self.batch(), 2, 12 * sites.count(self.0.geometry.lattice.volume())]
    }

    /// Back to a tensor on the CPU.
    ///
    /// # Errors
    /// When the vectors are not those of all blocks.
    pub fn unpack(&self, blocks: &[WilsonVector]) -> Result<Tensor> {
        let geometry = &self.0.geometry;
        let Some(sites) = blocks.first().map(|v| v.sites) else { bail!("Wilson vector: no blocks") };
        if blocks.len() != self.blocks() || blocks.iter().any(|v| v.sites != sites) {
            bail!("Wilson vector: expected {} blocks of one kind, got {}", self.blocks(), blocks.len());
        }
        let shape = self.shape(sites);
        let block_len = geometry.lattice.configurations() * shape[1] * shape[2];
        macro_rules! back {
            ($float:ty, $kind:ident) => {{
                let mut out = vec![<$float>::default(); shape.iter().product()];
                out.par_chunks_mut(block_len).enumerate().for_each(|(block, out)| {
                    if let Numbers::$kind(v) = &blocks[block].numbers {
                        vector::unpack(geometry, sites, block, v.as_slice(), out);
                    }
                });
                Tensor::from_vec(out, &shape, &candle_core::Device::Cpu)
            }};
        }
        match self.0.field {
            Field::F32(_) => back!(f32, F32),
            Field::F64(_) => back!(f64, F64),
        }
    }

    /// out ← c w + k Hψ (or H†), on the sites next to those of ψ; w on the sites of `out`, `None` for none.
    ///
    /// # Errors
    /// When sites or element types do not fit.
    pub fn hop(
        &self,
        block: usize,
        psi: &WilsonVector,
        own: Option<(f64, &WilsonVector)>,
        hop: HopFactor,
        out: &mut WilsonVector,
    ) -> Result<()> {
        let fits = out.sites == psi.sites.neighbours() && own.is_none_or(|(_, w)| w.sites == out.sites);
        if !fits || block >= self.blocks() {
            bail!("Wilson hop of block {block}: vectors on {:?} and {:?}", psi.sites, out.sites);
        }
        let (geometry, parallel, targets) = (&self.0.geometry, self.parallel(), out.sites);
        let own_numbers = own.map_or(&psi.numbers, |(_, w)| &w.numbers);
        let c = own.map(|(c, _)| c);
        numbers!(self, [&psi.numbers => psi, own_numbers => w, &mut out.numbers => out], links => {
            let own = c.map(|c| (float(links, c), w.as_slice()));
            let fields = (block_of(geometry, links, block), psi.as_slice());
            let factor = (float(links, hop.factor), hop.adjoint);
            let work = Work { geometry, targets, level: Level::detect(), parallel };
            work.hop(fields, own, factor, out.as_mut_slice());
        })
    }

    /// ⟨x, y⟩ = Σ x* y as (re, im), for each configuration of a block.
    ///
    /// # Errors
    /// When sites or element types differ.
    pub fn inner(&self, block: usize, x: &WilsonVector, y: &WilsonVector) -> Result<Vec<[f64; 2]>> {
        if x.sites != y.sites {
            bail!("Wilson vectors on {:?} and {:?}", x.sites, y.sites);
        }
        let (geometry, parallel) = (&self.0.geometry, self.parallel());
        let mut sums = numbers!(self, [&x.numbers => x, &y.numbers => y], _links => {
            vector::inner(geometry, x.as_slice(), y.as_slice(), parallel)
        })?;
        sums.truncate(self.configurations(block).len());
        Ok(sums)
    }

    /// y ← a x + b y with complex a and b for each configuration of a block.
    ///
    /// # Errors
    /// When sites, element types or numbers of configurations differ.
    pub fn combine(
        &self,
        block: usize,
        (a, x): (&[[f64; 2]], &WilsonVector),
        (b, y): (&[[f64; 2]], &mut WilsonVector),
    ) -> Result<()> {
        let configurations = self.configurations(block).len();
        if x.sites != y.sites || a.len() != configurations || b.len() != configurations {
            bail!("Wilson vectors on {:?} and {:?}, {} and {} scalars", x.sites, y.sites, a.len(), b.len());
        }
        let (geometry, parallel) = (&self.0.geometry, self.parallel());
        // Idle lanes repeat the last configuration.
        let fill = |z: &[[f64; 2]]| {
            let mut z = z.to_vec();
            z.resize(geometry.lattice.configurations(), z[configurations - 1]);
            z
        };
        let (a, b) = (fill(a), fill(b));
        numbers!(self, [&x.numbers => x, &mut y.numbers => y], _links => {
            vector::combine(geometry, (&a, x.as_slice()), (&b, y.as_mut_slice()), parallel);
        })
    }

    /// ∂ Re⟨g, Hψ⟩/∂U (or with H†) as a tensor `[B, 4, V, 3, 3, 2]`; g lives on `targets`.
    pub(super) fn gradient(
        &self,
        grad: &Tensor,
        psi: &Tensor,
        targets: Sites,
        adjoint: bool,
    ) -> Result<Tensor> {
        let (geometry, lattice) = (&self.0.geometry, &self.0.geometry.lattice);
        let (grad, psi) = (self.pack(grad, targets)?, self.pack(psi, targets.neighbours())?);
        let shape = FieldShape::directions(4, lattice.volume(), LINK);
        macro_rules! gradient {
            ($float:ty, $kind:ident) => {{
                let mut field = LaneField::<$float>::zeros(lattice, 4 * LINK);
                let site = 4 * LINK * lattice.lanes();
                let (block_len, level) = (site * lattice.node_volume(), Level::detect());
                let blocks = field.as_mut_slice().par_chunks_mut(block_len).zip(&grad).zip(&psi);
                blocks.for_each(|((out, grad), psi)| {
                    let (Numbers::$kind(grad), Numbers::$kind(psi)) = (&grad.numbers, &psi.numbers) else {
                        return;
                    };
                    let (grad, psi) = (grad.as_slice(), psi.as_slice());
                    out.par_chunks_mut(SITES * site).enumerate().for_each(|(part, out)| {
                        let first = part * SITES;
                        dispatch(level, Outer { geometry, targets, first, grad, psi, adjoint, out });
                    });
                });
                if self.0.antiperiodic {
                    change_sign(geometry, &mut field);
                }
                let mut out = vec![<$float>::default(); lattice.batch() * shape.configuration];
                field.unpack(lattice, &shape, &mut out)?;
                Tensor::from_vec(
                    out,
                    (lattice.batch(), 4, lattice.volume(), 3, 3, 2),
                    &candle_core::Device::Cpu,
                )
            }};
        }
        match self.0.field {
            Field::F32(_) => gradient!(f32, F32),
            Field::F64(_) => gradient!(f64, F64),
        }
    }
}

/// Sites of a task.
const SITES: usize = 32;

fn float<T: Element>(_: &LaneField<T>, x: f64) -> T {
    T::from_f64(x)
}

fn block_of<'a, T: Element>(geometry: &Geometry, links: &'a LaneField<T>, block: usize) -> &'a [T] {
    let len = geometry.lattice.node_volume() * links.components() * geometry.lattice.lanes();
    &links.as_slice()[block * len..][..len]
}

/// How a hop on one block is done.
pub(super) struct Work<'a> {
    pub(super) geometry: &'a Geometry,
    pub(super) targets: Sites,
    pub(super) level: Level,
    pub(super) parallel: bool,
}

impl Work<'_> {
    pub(super) fn hop<T: Element>(
        &self,
        fields: (&[T], &[T]),
        own: Option<(T, &[T])>,
        factor: (T, bool),
        out: &mut [T],
    ) {
        let table = self.geometry.table(self.targets);
        let spinor = SPINOR * lanes_of::<T>();
        let sites = if self.parallel { SITES } else { table.sites.len() };
        let one = |part: usize, out: &mut [T]| {
            let first = part * sites;
            let range = first..first + out.len() / spinor;
            dispatch(self.level, Hop::part(table, range, fields, own, factor, out));
        };
        if self.parallel {
            out.par_chunks_mut(sites * spinor).enumerate().for_each(|(part, out)| one(part, out));
        } else {
            one(0, out);
        }
    }
}

/// U_t → −U_t on the last time slice.
pub(super) fn change_sign<T: Element>(geometry: &Geometry, field: &mut LaneField<T>) {
    let lattice = &geometry.lattice;
    let (lanes, extent) = (lattice.lanes(), lattice.dims()[3]);
    let site = 4 * LINK * lanes;
    for (i, out) in field.as_mut_slice().chunks_exact_mut(site).enumerate() {
        for lane in 0..lanes {
            let x = lattice.lattice_site(i % lattice.node_volume(), lane % lattice.nodes());
            if x % extent == extent - 1 {
                out[3 * LINK * lanes + lane..].iter_mut().step_by(lanes).for_each(|u| *u = -*u);
            }
        }
    }
}
