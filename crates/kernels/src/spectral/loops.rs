//! Loops of four links, and links with new factors in front: the steps of a coupling layer before and after its spectra.
//!
//! ```text
//! W = A B C† D†             A, B, C, D: links of one configuration, by their numbers
//! with R = D C, G the gradient in W:
//! ∂A = G R B†,   ∂B = A† G R,   ∂C = D† G† A B,   ∂D = G† A B C†
//! U′ = M U on some links:   ∂M = ∂U′ U†,   ∂U = M† ∂U′
//! ```
//!
//! One lane a configuration: whatever the loops, neighbours in memory are the same link of other configurations.

use super::block::{Block, Complex, LANES, NUMBERS};
use crate::conv::simd::{Level, Task, Vector, dispatch};
use crate::conv::with_slices;
use crate::host::{contiguous_slice, with_slice};
use crate::unitary::Instructions;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// Some loops of four links among `links`.
#[derive(Debug, Clone)]
pub struct LinkLoops {
    links: usize,
    /// `None` for a place that is kept empty.
    loops: Arc<Vec<Option<[u32; 4]>>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Matrix,
    Trace,
}

impl LinkLoops {
    /// W_i = A B C† D† for the link numbers of entry i; nothing for `None`.
    ///
    /// # Errors
    /// When a number is not below `links`, or a loop holds a link twice.
    pub fn new(links: usize, loops: Vec<Option<[u32; 4]>>) -> Result<Self> {
        for one in loops.iter().flatten() {
            let twice = (0..4).any(|i| one[..i].contains(&one[i]));
            if twice || one.iter().any(|link| *link as usize >= links) {
                candle_core::bail!(
                    "loop of the links {one:?}: expected four different numbers below {links}"
                );
            }
        }
        Ok(Self { links, loops: Arc::new(loops) })
    }

    /// Number of loops n, empty places included.
    pub fn count(&self) -> usize {
        self.loops.len()
    }

    /// W `[B, n, 3, 3, 2]` for links `[B, L, 3, 3, 2]`, f64 on the CPU, zero in empty places; differentiable.
    ///
    /// # Errors
    /// When the links do not fit.
    pub fn matrices(&self, links: &Tensor) -> Result<Tensor> {
        self.apply(links, Part::Matrix)
    }

    /// tr W `[B, n, 2]`, else as [`LinkLoops::matrices`].
    ///
    /// # Errors
    /// When the links do not fit.
    pub fn traces(&self, links: &Tensor) -> Result<Tensor> {
        self.apply(links, Part::Trace)
    }

    fn apply(&self, links: &Tensor, part: Part) -> Result<Tensor> {
        check(links, self.links)?;
        links.contiguous()?.apply_op1(LoopOp { loops: self.clone(), part })
    }
}

fn check(links: &Tensor, number: usize) -> Result<()> {
    if matches!(links.dims(), [_, l, 3, 3, 2] if *l == number) && links.dtype() == DType::F64 {
        return Ok(());
    }
    candle_core::bail!(
        "loops of links: got {:?} of {:?}, expected [B, {number}, 3, 3, 2] of f64",
        links.dims(),
        links.dtype()
    )
}

/// One block of configurations, link by link; missing ones repeat the last, so that all are unitary.
fn pack(links: &[f64], number: usize) -> Vec<Block> {
    let configurations: Vec<&[f64]> = links.chunks_exact(number * NUMBERS).collect();
    (0..number)
        .map(|link| {
            let mut block = Block::identity();
            for l in 0..LANES {
                let configuration = configurations[l.min(configurations.len() - 1)];
                block.load(l, &configuration[link * NUMBERS..]);
            }
            block
        })
        .collect()
}

impl Part {
    fn numbers(self) -> usize {
        match self {
            Self::Matrix => NUMBERS,
            Self::Trace => 2,
        }
    }
}

struct LoopOp {
    loops: LinkLoops,
    part: Part,
}

struct Forward<'a> {
    op: &'a LoopOp,
    links: &'a [f64],
    out: &'a mut [f64],
}

impl Task<f64> for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = f64>>(self) {
        // SAFETY: the instructions exist, by the caller's promise.
        let isa = unsafe { Instructions::<X>::assume() };
        let Self { op: LoopOp { loops, part }, links, out } = self;
        let packed = pack(links, loops.links);
        let numbers = part.numbers();
        for (i, one) in loops.loops.iter().enumerate() {
            let Some(one) = one else { continue };
            let [a, b, c, d] = one.map(|link| &packed[link as usize]);
            let (there, back) = (a.times(isa, b), d.times(isa, c));
            let rows = out.chunks_exact_mut(loops.count() * numbers).enumerate();
            match part {
                Part::Matrix => {
                    let w = there.times_adjoint(isa, &back);
                    rows.for_each(|(l, row)| w.store(l, &mut row[i * numbers..]));
                }
                Part::Trace => {
                    let [re, im] = there.inner(isa, &back);
                    rows.for_each(|(l, row)| row[i * numbers..][..2].copy_from_slice(&[re[l], im[l]]));
                }
            }
        }
    }
}

struct Backward<'a> {
    op: &'a LoopOp,
    links: &'a [f64],
    grad: &'a [f64],
    to_links: &'a mut [f64],
}

impl Task<f64> for Backward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = f64>>(self) {
        // SAFETY: the instructions exist, by the caller's promise.
        let isa = unsafe { Instructions::<X>::assume() };
        let Self { op: LoopOp { loops, part }, links, grad, to_links } = self;
        let packed = pack(links, loops.links);
        let numbers = part.numbers();
        let mut sums = vec![Block::zero(); loops.links];
        let mut g = Block::zero();
        for (i, one) in loops.loops.iter().enumerate() {
            let Some(one) = one else { continue };
            for (l, row) in grad.chunks_exact(loops.count() * numbers).enumerate() {
                let row = &row[i * numbers..];
                match part {
                    Part::Matrix => g.load(l, row),
                    Part::Trace => (0..3).for_each(|k| g.set(k, k, l, Complex::new(row[0], row[1]))),
                }
            }
            let [a, b, c, d] = one.map(|link| &packed[link as usize]);
            let back = g.times(isa, &d.times(isa, c));
            let there = g.adjoint_times(isa, &a.times(isa, b));
            sums[one[0] as usize].add(&back.times_adjoint(isa, b));
            sums[one[1] as usize].add(&a.adjoint_times(isa, &back));
            sums[one[2] as usize].add(&d.adjoint_times(isa, &there));
            sums[one[3] as usize].add(&there.times_adjoint(isa, c));
        }
        for (l, row) in to_links.chunks_exact_mut(loops.links * NUMBERS).enumerate() {
            sums.iter().zip(row.chunks_exact_mut(NUMBERS)).for_each(|(sum, out)| sum.store(l, out));
        }
    }
}

impl CustomOp1 for LoopOp {
    fn name(&self) -> &'static str {
        "link-loops"
    }

    fn cpu_fwd(&self, links: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let links = contiguous_slice::<f64>(links, layout)?;
        let (batch, count, numbers) = (layout.dims()[0], self.loops.count(), self.part.numbers());
        let (level, mut out) = (Level::detect(), vec![0.0; batch * count * numbers]);
        if count > 0 {
            let blocks = links.par_chunks(LANES * self.loops.links * NUMBERS);
            out.par_chunks_mut(LANES * count * numbers)
                .zip(blocks)
                .for_each(|(out, links)| dispatch(level, Forward { op: self, links, out }));
        }
        let shape = match self.part {
            Part::Matrix => Shape::from(vec![batch, count, 3, 3, 2]),
            Part::Trace => Shape::from(vec![batch, count, 2]),
        };
        Ok((CpuStorage::F64(out), shape))
    }

    fn bwd(&self, links: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut to_links = vec![0.0; links.elem_count()];
        let (level, one) = (Level::detect(), LANES * self.loops.links * NUMBERS);
        let out = LANES * self.loops.count() * self.part.numbers();
        if out > 0 {
            with_slices::<f64, _>(&[links, grad], |s| {
                let inputs = s[0].par_chunks(one).zip(s[1].par_chunks(out));
                to_links.par_chunks_mut(one).zip(inputs).for_each(|(to_links, (links, grad))| {
                    dispatch(level, Backward { op: self, links, grad, to_links });
                });
            })?;
        }
        Ok(Some(Tensor::from_vec(to_links, links.shape(), links.device())?))
    }
}

/// U′ = M U on the links numbered `at`, in order, and U on all others: links `[B, L, 3, 3, 2]` and M `[B, n, 3, 3, 2]`, f64 on
/// the CPU; differentiable in both.
///
/// # Errors
/// When the shapes or types do not fit, or a number is not below L or occurs twice.
pub fn multiply_links(links: &Tensor, at: &[u32], multipliers: &Tensor) -> Result<Tensor> {
    let number = links.dims().get(1).copied().unwrap_or(0);
    check(links, number)?;
    let mut seen = vec![false; number];
    let fits =
        at.iter().all(|i| seen.get_mut(*i as usize).is_some_and(|seen| !std::mem::replace(seen, true)));
    if multipliers.dims() != [links.dims()[0], at.len(), 3, 3, 2]
        || multipliers.dtype() != DType::F64
        || !fits
    {
        candle_core::bail!(
            "multipliers {:?} of {:?} for {} of the links {:?}, expected [B, n, 3, 3, 2] of f64 and different links",
            multipliers.dims(),
            multipliers.dtype(),
            at.len(),
            links.dims()
        );
    }
    links.contiguous()?.apply_op2(&multipliers.contiguous()?, Multiply(at.to_vec()))
}

struct Multiply(Vec<u32>);

struct MultiplyForward<'a> {
    at: &'a [u32],
    links: &'a mut [f64],
    multipliers: &'a [f64],
}

impl Task<f64> for MultiplyForward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = f64>>(self) {
        // SAFETY: the instructions exist, by the caller's promise.
        let isa = unsafe { Instructions::<X>::assume() };
        for (at, m) in self.at.chunks(LANES).zip(self.multipliers.chunks(LANES * NUMBERS)) {
            let u = Block::gather(self.links, at);
            Block::pack(m).times(isa, &u).scatter(self.links, at);
        }
    }
}

struct MultiplyBackward<'a> {
    at: &'a [u32],
    links: &'a [f64],
    multipliers: &'a [f64],
    /// ∂U′, which becomes ∂U.
    grad: &'a mut [f64],
    to_multipliers: &'a mut [f64],
}

impl Task<f64> for MultiplyBackward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = f64>>(self) {
        // SAFETY: the instructions exist, by the caller's promise.
        let isa = unsafe { Instructions::<X>::assume() };
        let pieces =
            self.multipliers.chunks(LANES * NUMBERS).zip(self.to_multipliers.chunks_mut(LANES * NUMBERS));
        for (at, (m, to_m)) in self.at.chunks(LANES).zip(pieces) {
            let (u, g) = (Block::gather(self.links, at), Block::gather(self.grad, at));
            g.times_adjoint(isa, &u).unpack(to_m);
            Block::pack(m).adjoint_times(isa, &g).scatter(self.grad, at);
        }
    }
}

impl CustomOp2 for Multiply {
    fn name(&self) -> &'static str {
        "multiply-links"
    }

    fn cpu_fwd(
        &self,
        links: &CpuStorage,
        links_layout: &Layout,
        multipliers: &CpuStorage,
        multipliers_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let mut out = contiguous_slice::<f64>(links, links_layout)?.to_vec();
        let multipliers = contiguous_slice::<f64>(multipliers, multipliers_layout)?;
        let (level, one) = (Level::detect(), links_layout.dims()[1] * NUMBERS);
        if !self.0.is_empty() {
            let pieces = multipliers.par_chunks(self.0.len() * NUMBERS);
            out.par_chunks_mut(one).zip(pieces).for_each(|(links, multipliers)| {
                dispatch(level, MultiplyForward { at: &self.0, links, multipliers });
            });
        }
        Ok((CpuStorage::F64(out), links_layout.shape().clone()))
    }

    fn bwd(
        &self,
        links: &Tensor,
        multipliers: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut to_links = with_slice::<f64, _>(grad, <[f64]>::to_vec)?;
        let mut to_multipliers = vec![0.0; multipliers.elem_count()];
        let (level, one) = (Level::detect(), links.dims()[1] * NUMBERS);
        let some = self.0.len() * NUMBERS;
        if some > 0 {
            with_slices::<f64, _>(&[links, multipliers], |s| {
                let inputs = s[0].par_chunks(one).zip(s[1].par_chunks(some));
                let outputs = to_links.par_chunks_mut(one).zip(to_multipliers.par_chunks_mut(some));
                inputs.zip(outputs).for_each(|((links, multipliers), (grad, to_multipliers))| {
                    let at = &self.0[..];
                    dispatch(level, MultiplyBackward { at, links, multipliers, grad, to_multipliers });
                });
            })?;
        }
        Ok((
            Some(Tensor::from_vec(to_links, links.shape(), links.device())?),
            Some(Tensor::from_vec(to_multipliers, multipliers.shape(), multipliers.device())?),
        ))
    }
}
