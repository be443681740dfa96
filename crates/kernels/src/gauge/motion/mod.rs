//! Links of a few configurations that stay in lanes while they follow their plaquettes.
//!
//! ```text
//! f^a = ∂^a Σ_{μ<ν} s_{μν},     ε a number for each configuration
//! one stage:     Z ← ε f(W) + a Z,     W ← exp(i b Z^a T^a) W
//! companion:     K = c ε f(W) + e Z, with the Z from before the stage
//! ```
//!
//! Explicit integrators on the group with two registers are made of such stages; the difference to another point, reached by the
//! companion, is their error estimate.

mod clover;
#[cfg(test)]
mod tests;

use super::links::{BlockLinks, Place};
use super::staples::{planes, staples};
use super::{Plaquettes, SITES};
use crate::conv::simd::{Level, Task, Vector, dispatch};
use crate::host::with_slice;
use crate::lanes::{FieldShape, LaneField, LaneLattice, lanes_of};
use crate::unitary::{Instructions, Matrix, Series, components, hermitian};
use candle_core::{DType, Device, Result, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// Up to eight configurations in one block of lanes, f64, without autodiff history.
pub struct LinkBlock {
    lattice: Arc<LaneLattice>,
    level: Level,
    n: usize,
    u: LaneField<f64>,
}

/// A tangent vector at a [`LinkBlock`].
pub struct LinkTangent(LaneField<f64>);

/// Coefficients of a stage, see the head of this file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stage {
    /// a
    pub keep: f64,
    /// b
    pub weight: f64,
}

impl Plaquettes {
    /// Links `[B, d, V, N, N, 2]`, f64, in blocks of up to eight configurations in their order.
    ///
    /// # Errors
    /// When the links do not fit the lattice.
    pub fn blocks(&self, links: &Tensor) -> Result<Vec<LinkBlock>> {
        let (batch, n) = self.check(links)?;
        if links.dtype() != DType::F64 {
            candle_core::bail!("blocks of links: expected f64, got {:?}", links.dtype());
        }
        let most = lanes_of::<f64>();
        let block = |first: usize| {
            let part = links.narrow(0, first, most.min(batch - first))?;
            with_slice::<f64, _>(&part, |u| {
                let (lattice, u) = self.pack(u, most.min(batch - first), n)?;
                Ok(LinkBlock { lattice, level: self.level, n, u })
            })?
        };
        (0..batch).step_by(most).map(block).collect()
    }
}

impl LinkBlock {
    /// Number of configurations.
    pub fn batch(&self) -> usize {
        self.lattice.batch()
    }

    /// Back to a tensor `[b, d, V, N, N, 2]`.
    ///
    /// # Errors
    /// When the tensor library fails.
    pub fn to_tensor(&self) -> Result<Tensor> {
        let (d, volume, n) = (self.lattice.ndim(), self.lattice.volume(), self.n);
        let shape = FieldShape::directions(d, volume, 2 * n * n);
        let mut u = vec![0.0; self.batch() * shape.configuration];
        self.u.unpack(&self.lattice, &shape, &mut u)?;
        Tensor::from_vec(u, (self.batch(), d, volume, n, n, 2), &Device::Cpu)
    }

    /// Z = 0 at these links.
    pub fn at_rest(&self) -> LinkTangent {
        LinkTangent(LaneField::zeros(&self.lattice, self.lattice.ndim() * (self.n * self.n - 1)))
    }

    /// The links after one stage with steps ε `[b]`; `z` becomes the new Z. With a companion, K is written there for its (c, e).
    ///
    /// # Errors
    /// When there is not one ε a configuration, or a tangent vector is of another block.
    pub fn stage(
        &self,
        epsilon: &[f64],
        stage: Stage,
        z: &mut LinkTangent,
        companion: Option<(&mut LinkTangent, [f64; 2])>,
    ) -> Result<Self> {
        let epsilon = self.in_lanes(epsilon)?;
        self.check(z)?;
        if let Some((k, _)) = &companion {
            self.check(k)?;
        }
        let mut out = LaneField::zeros(&self.lattice, self.u.components());
        let (links, tangents) = (self.chunk(self.u.components()), self.chunk(z.0.components()));
        let (companion, pair) = match companion {
            Some((k, pair)) => (Some(k.0.as_mut_slice()), pair),
            None => (None, [0.0; 2]),
        };
        let run = |task: usize, out: &mut [f64], z: &mut [f64], k: Option<&mut [f64]>| {
            let first = task * SITES;
            let move_ =
                Move { links: self.links(), first, epsilon: &epsilon, stage, pair, out, z, companion: k };
            match self.n {
                2 => dispatch(self.level, Of::<_, 2>(move_)),
                _ => dispatch(self.level, Of::<_, 3>(move_)),
            }
        };
        let parts = out.as_mut_slice().par_chunks_mut(links).zip(z.0.as_mut_slice().par_chunks_mut(tangents));
        match companion {
            Some(k) => parts
                .zip(k.par_chunks_mut(tangents))
                .enumerate()
                .for_each(|(task, ((out, z), k))| run(task, out, z, Some(k))),
            None => parts.enumerate().for_each(|(task, (out, z))| run(task, out, z, None)),
        }
        Ok(Self { u: out, ..self.empty() })
    }

    /// max ‖exp(i K^a T^a) U − V‖ over the links of each configuration, `[b]`, for V the other block: the Frobenius norm, which no gauge
    /// transformation changes. NaN when a link is not finite.
    ///
    /// # Errors
    /// When the tangent vector or the other links are of another block.
    pub fn distance(&self, k: &LinkTangent, other: &Self) -> Result<Vec<f64>> {
        self.check(k)?;
        self.check_links(other)?;
        let lanes = self.lattice.lanes();
        let (links, tangents) = (self.chunk(self.u.components()), self.chunk(k.0.components()));
        let parts = self.u.as_slice().par_chunks(links).zip(other.u.as_slice().par_chunks(links));
        let squares = parts
            .zip(k.0.as_slice().par_chunks(tangents))
            .map(|((u, v), k)| {
                let mut largest = vec![0.0; lanes];
                let compare = Compare { u, v, k, largest: &mut largest, lanes };
                match self.n {
                    2 => dispatch(self.level, Of::<_, 2>(compare)),
                    _ => dispatch(self.level, Of::<_, 3>(compare)),
                }
                largest
            })
            .reduce(|| vec![0.0; lanes], |a, b| a.iter().zip(&b).map(|(a, b)| larger(*a, *b)).collect());
        let mut distances = vec![0.0; self.batch()];
        for (lane, square) in squares.iter().enumerate() {
            if let Some((configuration, _)) = self.lattice.lane(0, lane) {
                distances[configuration] = larger(distances[configuration], square.sqrt());
            }
        }
        Ok(distances)
    }

    /// Takes the configurations of `new` where `accept` says so, `[b]`.
    ///
    /// # Errors
    /// When there is not one answer a configuration, or the new links are of another block.
    pub fn replace(&mut self, new: Self, accept: &[bool]) -> Result<()> {
        self.check_links(&new)?;
        if accept.len() != self.batch() {
            candle_core::bail!("links in lanes: expected {} answers, got {}", self.batch(), accept.len());
        }
        if accept.iter().all(|a| *a) {
            self.u = new.u;
            return Ok(());
        }
        let lanes = self.lattice.lanes();
        let taken = |lane: &usize| accept[self.configuration(*lane)];
        let taken: Vec<usize> = (0..lanes).filter(taken).collect();
        let lines = self.u.as_mut_slice().chunks_exact_mut(lanes).zip(new.u.as_slice().chunks_exact(lanes));
        lines.for_each(|(old, new)| taken.iter().for_each(|l| old[*l] = new[*l]));
        Ok(())
    }

    fn check(&self, z: &LinkTangent) -> Result<()> {
        let expected = self.u.as_slice().len() / (2 * self.n * self.n) * (self.n * self.n - 1);
        if z.0.as_slice().len() == expected {
            return Ok(());
        }
        candle_core::bail!(
            "tangent vector at links in lanes: expected {expected} numbers, got {}",
            z.0.as_slice().len()
        )
    }

    fn check_links(&self, other: &Self) -> Result<()> {
        if (&self.lattice, self.n) == (&other.lattice, other.n) {
            return Ok(());
        }
        candle_core::bail!(
            "links in lanes: expected {} configurations on {:?}, got {} on {:?}",
            self.batch(),
            self.lattice.dims(),
            other.batch(),
            other.lattice.dims()
        )
    }

    fn links(&self) -> BlockLinks<'_, f64> {
        BlockLinks { lattice: &self.lattice, data: self.u.as_slice() }
    }

    /// Numbers of a task's sites of a field.
    fn chunk(&self, components: usize) -> usize {
        SITES * components * self.lattice.lanes()
    }

    /// The same block around no numbers.
    fn empty(&self) -> Self {
        Self {
            lattice: self.lattice.clone(),
            level: self.level,
            n: self.n,
            u: LaneField::zeros(&self.lattice, 0),
        }
    }

    /// The configuration of a lane; idle lanes repeat the last.
    fn configuration(&self, lane: usize) -> usize {
        self.lattice.lane(0, lane).map_or(self.batch() - 1, |(configuration, _)| configuration)
    }

    /// One number a configuration in its lanes.
    fn in_lanes(&self, numbers: &[f64]) -> Result<Vec<f64>> {
        if numbers.len() != self.batch() {
            candle_core::bail!("links in lanes: expected {} numbers, got {}", self.batch(), numbers.len());
        }
        Ok((0..self.lattice.lanes()).map(|lane| numbers[self.configuration(lane)]).collect())
    }
}

/// The larger number, or NaN if there is one.
fn larger(a: f64, b: f64) -> f64 {
    if a >= b || a.is_nan() { a } else { b }
}

/// A task for N × N matrices.
pub(super) struct Of<K, const N: usize>(pub(super) K);

/// W, Z and K of some sites after a stage.
struct Move<'a> {
    links: BlockLinks<'a, f64>,
    first: usize,
    epsilon: &'a [f64],
    stage: Stage,
    pair: [f64; 2],
    out: &'a mut [f64],
    z: &'a mut [f64],
    companion: Option<&'a mut [f64]>,
}

impl<const N: usize> Task<f64> for Of<Move<'_>, N> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = f64>>(self) {
        // SAFETY: the instructions exist, by the caller's promise.
        let isa = unsafe { Instructions::<X>::assume() };
        let Move { links, first, epsilon, stage, pair, out, z, mut companion } = self.0;
        let (lanes, d) = (links.lattice.lanes(), links.lattice.ndim());
        let (matrix, tangent) = (2 * N * N * lanes, (N * N - 1) * lanes);
        let ones = vec![1.0; planes(d) * lanes];
        let mut force = [0.0; MOST_COMPONENTS * MOST_LANES];
        let mut angle = [0.0; MOST_COMPONENTS * MOST_LANES];
        for link in 0..out.len() / matrix {
            let (site, mu) = (first + link / d, link % d);
            for lane in (0..lanes).step_by(X::LANES) {
                let here = Place::at(site);
                let u = links.link::<X, N>(isa, here, mu, lane);
                let sum = staples::<X, N>(isa, &links, &ones, site, mu, lane);
                // −Im tr(T M) = −Re tr(T M/i) with M = U S†.
                components(isa, &u.times_adjoint(isa, &sum).over_i(isa), -1.0, &mut force[..], X::LANES);
                let epsilon = isa.load(&epsilon[lane..]);
                for a in 0..N * N - 1 {
                    let line = link * tangent + a * lanes + lane;
                    let old = isa.load(&z[line..]);
                    let kick = isa.load(&force[a * X::LANES..]) * epsilon;
                    if let Some(k) = &mut companion {
                        let part = old * isa.number(pair[1]);
                        kick.mul_add(isa.number(pair[0]), part).store(&mut k[line..]);
                    }
                    let new = old.mul_add(isa.number(stage.keep), kick);
                    new.store(&mut z[line..]);
                    (new * isa.number(stage.weight)).store(&mut angle[a * X::LANES..]);
                }
                let h = hermitian::<X, N>(isa, &angle, X::LANES);
                let moved = Series::new::<false>(isa, &h).exponential(isa).times(isa, &u);
                moved.store(&mut out[link * matrix + lane..], lanes);
            }
        }
    }
}

/// Components of the largest algebra and lanes of the widest register, f64.
const MOST_COMPONENTS: usize = 8;
const MOST_LANES: usize = 8;

/// max ‖exp(iK) U − V‖² of some sites, `[lane]`.
struct Compare<'a> {
    u: &'a [f64],
    v: &'a [f64],
    k: &'a [f64],
    largest: &'a mut [f64],
    lanes: usize,
}

impl<const N: usize> Task<f64> for Of<Compare<'_>, N> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = f64>>(self) {
        // SAFETY: the instructions exist, by the caller's promise.
        let isa = unsafe { Instructions::<X>::assume() };
        let Compare { u, v, k, largest, lanes } = self.0;
        let (matrix, tangent) = (2 * N * N * lanes, (N * N - 1) * lanes);
        let links = u.chunks_exact(matrix).zip(v.chunks_exact(matrix)).zip(k.chunks_exact(tangent));
        for ((u, v), k) in links {
            for lane in (0..lanes).step_by(X::LANES) {
                let h = hermitian::<X, N>(isa, &k[lane..], lanes);
                let u = Matrix::load(isa, &u[lane..], lanes);
                let v = Matrix::<X, N>::load(isa, &v[lane..], lanes);
                let there = Series::new::<false>(isa, &h).exponential(isa).times(isa, &u);
                let difference = there.plus(&v.scaled(isa.number(-1.0)));
                let squares = difference.inner(isa, &difference).to_array();
                for (largest, square) in largest[lane..].iter_mut().zip(&squares[..X::LANES]) {
                    *largest = larger(*largest, *square);
                }
            }
        }
    }
}
