//! Weight and bias gradients of one sample's convolution.
//!
//! ```text
//! G[t, c, v] += Σ_s a[n_t(s), c] b[s, v]
//! ```
//!
//! With a = x and b = ∂y this is the gradient of w[t, i, o]. With a = ∂y, b = x and the inverse table it is the same gradient as
//! `[t, o, i]`: the cheaper way round when there are few outputs, for registers run over v. A tile of taps × channels ×
//! registers stays in registers while the sites stream by.

use super::pack::shares;
use super::simd::{Element, Task, Vector};
use crate::stencil::Table;
use std::ops::Range;

/// Adds one sample's weight gradient to `sum`, `[taps · channels][stride]`.
pub(crate) struct WeightGradient<'a, T> {
    pub(crate) gathered: &'a [T],
    pub(crate) gathered_stride: usize,
    pub(crate) channels: usize,
    pub(crate) table: Table<'a>,
    /// `[V][stride]`, whole registers.
    pub(crate) vectors: &'a [T],
    pub(crate) stride: usize,
    pub(crate) sum: &'a mut [T],
}

#[derive(Clone, Copy)]
struct Job<T> {
    gathered: *const T,
    gathered_stride: usize,
    channels: usize,
    indices: *const u32,
    volume: usize,
    vectors: *const T,
    stride: usize,
    sum: *mut T,
}

impl<T: Element> Task<T> for WeightGradient<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(self) {
        let Self { gathered, gathered_stride, channels, table, vectors, stride, sum } = self;
        let (taps, volume) = (table.taps(), table.volume());
        assert!(stride.is_multiple_of(X::LANES) && channels <= gathered_stride);
        assert!(gathered.len() >= table.rows() * gathered_stride && vectors.len() >= volume * stride);
        assert_eq!(sum.len(), taps * channels * stride);
        let job = Job {
            gathered: gathered.as_ptr(),
            gathered_stride,
            channels,
            indices: table.indices().as_ptr(),
            volume,
            vectors: vectors.as_ptr(),
            stride,
            sum: sum.as_mut_ptr(),
        };
        let wide = X::REGISTERS >= 32;
        let mut first = 0;
        for nv in shares(stride / X::LANES, if wide { 3 } else { 2 }) {
            let job =
                Job { vectors: job.vectors.wrapping_add(first), sum: job.sum.wrapping_add(first), ..job };
            // SAFETY: table indices stay below `rows`, all lengths were checked above, and every tile stays within
            // taps × channels × stride.
            unsafe {
                match (nv, wide) {
                    (1, true) => columns::<X, 1, 3, 8, 9>(job, taps),
                    (2, true) => columns::<X, 2, 1, 8, 9>(job, taps),
                    (3, true) => columns::<X, 3, 1, 8, 9>(job, taps),
                    (1, false) => columns::<X, 1, 1, 8, 9>(job, taps),
                    (2, false) => columns::<X, 2, 1, 4, 3>(job, taps),
                    _ => unreachable!("shares are at most three, or two, registers"),
                }
            }
            first += nv * X::LANES;
        }
    }
}

/// `NV` registers of columns: blocks of `TAPS × BLOCK` channels, then single channels under up to `SINGLE` taps at once.
#[inline(always)]
unsafe fn columns<X: Vector, const NV: usize, const TAPS: usize, const BLOCK: usize, const SINGLE: usize>(
    job: Job<X::Item>,
    taps: usize,
) {
    let blocks = job.channels - job.channels % BLOCK;
    let rest = blocks..job.channels;
    let in_blocks = taps - taps % TAPS;
    let (nines, threes) = (taps - taps % SINGLE, taps - taps % 3);
    // SAFETY: forwarded from the caller; the ranges partition taps × channels into whole tiles.
    unsafe {
        tiles::<X, NV, TAPS, BLOCK>(job, 0..in_blocks, 0..blocks);
        tiles::<X, NV, 1, BLOCK>(job, in_blocks..taps, 0..blocks);
        tiles::<X, NV, SINGLE, 1>(job, 0..nines, rest.clone());
        tiles::<X, NV, 3, 1>(job, nines..threes.max(nines), rest.clone());
        tiles::<X, NV, 1, 1>(job, threes.max(nines)..taps, rest);
    }
}

#[inline(always)]
unsafe fn tiles<X: Vector, const NV: usize, const TAPS: usize, const BLOCK: usize>(
    job: Job<X::Item>,
    taps: Range<usize>,
    channels: Range<usize>,
) {
    for tap in taps.step_by(TAPS) {
        for channel in channels.clone().step_by(BLOCK) {
            // SAFETY: forwarded from the caller.
            unsafe { tile::<X, NV, TAPS, BLOCK>(&job, tap, channel) };
        }
    }
}

#[inline(always)]
unsafe fn tile<X: Vector, const NV: usize, const TAPS: usize, const BLOCK: usize>(
    job: &Job<X::Item>,
    tap: usize,
    channel: usize,
) {
    // SAFETY: the caller checked all lengths and keeps tap + TAPS and channel + BLOCK within them.
    unsafe {
        let mut acc = [[[X::splat(X::Item::default()); NV]; BLOCK]; TAPS];
        let gathered = job.gathered.wrapping_add(channel);
        let indices = job.indices.wrapping_add(tap * job.volume);
        for s in 0..job.volume {
            let row = job.vectors.wrapping_add(s * job.stride);
            let mut b = [acc[0][0][0]; NV];
            for j in 0..NV {
                b[j] = X::load(row.wrapping_add(j * X::LANES));
            }
            for t in 0..TAPS {
                let index = *indices.wrapping_add(t * job.volume + s) as usize;
                let a = gathered.wrapping_add(index * job.gathered_stride);
                for c in 0..BLOCK {
                    let a = X::splat(*a.wrapping_add(c));
                    for j in 0..NV {
                        acc[t][c][j] = a.mul_add(b[j], acc[t][c][j]);
                    }
                }
            }
        }
        for (t, acc) in acc.iter().enumerate() {
            for (c, acc) in acc.iter().enumerate() {
                let sum = job.sum.wrapping_add(((tap + t) * job.channels + channel + c) * job.stride);
                for (j, acc) in acc.iter().enumerate() {
                    let p = sum.wrapping_add(j * X::LANES);
                    acc.add(X::load(p)).store(p);
                }
            }
        }
    }
}

/// Adds Σ_s b[s, v] to `sum`, `[stride]`: the bias gradient.
pub(crate) struct ColumnSums<'a, T> {
    pub(crate) vectors: &'a [T],
    pub(crate) stride: usize,
    pub(crate) sum: &'a mut [T],
}

impl<T: Element> Task<T> for ColumnSums<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(self) {
        let Self { vectors, stride, sum } = self;
        assert!(
            stride.is_multiple_of(X::LANES) && sum.len() == stride && vectors.len().is_multiple_of(stride)
        );
        let rows = vectors.len() / stride;
        for first in (0..stride).step_by(X::LANES) {
            // SAFETY: whole registers within rows of `stride` elements, as just checked.
            unsafe {
                // Four partial sums hide the latency of the addition.
                let mut acc = [X::splat(T::default()); 4];
                let column = vectors.as_ptr().wrapping_add(first);
                for s in (0..rows - rows % 4).step_by(4) {
                    for (k, acc) in acc.iter_mut().enumerate() {
                        *acc = acc.add(X::load(column.wrapping_add((s + k) * stride)));
                    }
                }
                for s in rows - rows % 4..rows {
                    acc[0] = acc[0].add(X::load(column.wrapping_add(s * stride)));
                }
                let total = acc[0].add(acc[1]).add(acc[2].add(acc[3]));
                let p = sum.as_mut_ptr().wrapping_add(first);
                total.add(X::load(p)).store(p);
            }
        }
    }
}
