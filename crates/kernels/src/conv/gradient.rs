//! Weight and bias gradients of one sample's convolution.
//!
//! ```text
//! G[t, c, v] += Σ_s a[n_t(s), c] b[s, v]
//! ```
//!
//! With a = x and b = ∂y this is the gradient of w[t, i, o]. With a = ∂y, b = x and the inverse table it is the same gradient as
//! `[t, o, i]`: the cheaper way round for the few outputs beyond whole registers, for registers run over v. A tile of taps ×
//! channels × registers stays in registers while the sites of a block, small enough for the first-level cache, stream by. When v
//! is a single register the sum is taken over the sites of a's side, Σ_s a[s, c] b[n_t⁻¹(s), v]: then one broadcast of a serves
//! several taps. With outputs at some sites only there is no inverse table, and every sum runs over b's side.

#![allow(clippy::needless_range_loop, reason = "register tiles are indexed as in their formula")]

use super::pack::shares;
use super::simd::{Element, Task, Vector};
use crate::stencil::Table;
use std::mem::size_of;
use std::ops::Range;

/// Adds one sample's weight gradient to `sum`, `[taps · channels][columns]`.
pub(crate) struct WeightGradient<'a, T> {
    /// a, rows of `gathered_stride`.
    pub(crate) gathered: &'a [T],
    pub(crate) gathered_stride: usize,
    pub(crate) channels: usize,
    /// n_t(s): the rows of a for each row of b.
    pub(crate) table: Table<'a>,
    /// n_t⁻¹(s): the rows of b for each row of a.
    pub(crate) inverse: Option<Table<'a>>,
    /// b, rows of `stride`.
    pub(crate) vectors: &'a [T],
    pub(crate) stride: usize,
    /// Elements of a row of b to use, whole registers.
    pub(crate) columns: usize,
    pub(crate) sum: &'a mut [T],
}

#[derive(Clone, Copy)]
struct Job<T> {
    gathered: *const T,
    gathered_stride: usize,
    channels: usize,
    indices: *const u32,
    inverse: *const u32,
    taps: usize,
    volume: usize,
    vectors: *const T,
    stride: usize,
    columns: usize,
    sum: *mut T,
}

/// Bytes of a and b that a block of sites may touch, neighbours aside: half of a usual first-level cache.
const BLOCK_BYTES: usize = 24 * 1024;

impl<T: Element> Task<T> for WeightGradient<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(self) {
        let Self { gathered, gathered_stride, channels, table, inverse, vectors, stride, columns, sum } =
            self;
        let (taps, volume) = (table.taps(), table.volume());
        assert!(columns.is_multiple_of(X::LANES) && columns <= stride && channels <= gathered_stride);
        let has_rows = |data: &[T], rows: usize, stride: usize, used: usize| {
            rows == 0 || data.len() >= (rows - 1) * stride + used
        };
        assert!(has_rows(gathered, table.rows(), gathered_stride, channels));
        assert!(has_rows(vectors, volume, stride, columns));
        if let Some(inverse) = inverse {
            assert_eq!((taps, volume), (inverse.taps(), inverse.volume()));
            assert!(has_rows(gathered, volume, gathered_stride, channels));
            assert!(has_rows(vectors, inverse.rows(), stride, columns));
        }
        assert_eq!(sum.len(), taps * channels * columns);
        let job = Job {
            gathered: gathered.as_ptr(),
            gathered_stride,
            channels,
            indices: table.indices().as_ptr(),
            inverse: inverse.map_or(std::ptr::null(), |inverse| inverse.indices().as_ptr()),
            taps,
            volume,
            vectors: vectors.as_ptr(),
            stride,
            columns,
            sum: sum.as_mut_ptr(),
        };
        let wide = X::REGISTERS >= 32;
        let mut first = 0;
        for nv in shares(columns / X::LANES, if wide { 3 } else { 2 }) {
            let job =
                Job { vectors: job.vectors.wrapping_add(first), sum: job.sum.wrapping_add(first), ..job };
            let row_bytes = (gathered_stride + nv * X::LANES) * size_of::<T>();
            let block = (BLOCK_BYTES / row_bytes).max(32);
            for sites in (0..volume).step_by(block).map(|s| s..volume.min(s + block)) {
                // SAFETY: table indices stay below `rows`, all lengths were checked above, the inverse table is used only if
                // there is one, and every tile stays within taps × channels × columns.
                unsafe {
                    match (nv, wide) {
                        (1, true) if inverse.is_some() => single_column::<X>(job, &sites),
                        (1, _) => columns_of::<X, 1, 8, 9>(job, &sites),
                        (2, true) => columns_of::<X, 2, 8, 9>(job, &sites),
                        (3, true) => columns_of::<X, 3, 8, 9>(job, &sites),
                        (2, false) => columns_of::<X, 2, 4, 3>(job, &sites),
                        _ => unreachable!("shares are at most three, or two, registers"),
                    }
                }
            }
            first += nv * X::LANES;
        }
    }
}

/// `NV` registers of columns: blocks of channels under one tap, then single channels under up to `SINGLE` taps at once.
#[inline(always)]
unsafe fn columns_of<X: Vector, const NV: usize, const BLOCK: usize, const SINGLE: usize>(
    job: Job<X::Item>,
    sites: &Range<usize>,
) {
    let blocks = job.channels - job.channels % BLOCK;
    // SAFETY: forwarded from the caller; the ranges partition taps × channels into whole tiles.
    unsafe {
        tiles::<X, NV, 1, BLOCK, false>(job, sites, 0..job.taps, 0..blocks);
        single_channels::<X, NV, SINGLE>(job, sites, blocks..job.channels);
    }
}

/// One register of columns: blocks of channels under three taps, summed over the sites of a's side.
#[inline(always)]
unsafe fn single_column<X: Vector>(job: Job<X::Item>, sites: &Range<usize>) {
    let blocks = job.channels - job.channels % 8;
    let threes = job.taps - job.taps % 3;
    // SAFETY: as in `columns_of`.
    unsafe {
        tiles::<X, 1, 3, 8, true>(job, sites, 0..threes, 0..blocks);
        tiles::<X, 1, 1, 8, true>(job, sites, threes..job.taps, 0..blocks);
        single_channels::<X, 1, 9>(job, sites, blocks..job.channels);
    }
}

#[inline(always)]
unsafe fn single_channels<X: Vector, const NV: usize, const TAPS: usize>(
    job: Job<X::Item>,
    sites: &Range<usize>,
    channels: Range<usize>,
) {
    let most = job.taps - job.taps % TAPS;
    let threes = job.taps - (job.taps - most) % 3;
    // SAFETY: as in `columns_of`.
    unsafe {
        tiles::<X, NV, TAPS, 1, false>(job, sites, 0..most, channels.clone());
        tiles::<X, NV, 3, 1, false>(job, sites, most..threes, channels.clone());
        tiles::<X, NV, 1, 1, false>(job, sites, threes..job.taps, channels);
    }
}

#[inline(always)]
unsafe fn tiles<X: Vector, const NV: usize, const TAPS: usize, const BLOCK: usize, const GATHER_B: bool>(
    job: Job<X::Item>,
    sites: &Range<usize>,
    taps: Range<usize>,
    channels: Range<usize>,
) {
    for tap in taps.step_by(TAPS) {
        for channel in channels.clone().step_by(BLOCK) {
            // SAFETY: forwarded from the caller.
            unsafe {
                let mut acc = [[[X::splat(X::Item::default()); NV]; BLOCK]; TAPS];
                if GATHER_B {
                    sum_gathering_b(&job, sites, tap, channel, &mut acc);
                } else {
                    sum_gathering_a(&job, sites, tap, channel, &mut acc);
                }
                for (t, acc) in acc.iter().enumerate() {
                    for (c, acc) in acc.iter().enumerate() {
                        let sum =
                            job.sum.wrapping_add(((tap + t) * job.channels + channel + c) * job.columns);
                        for (j, acc) in acc.iter().enumerate() {
                            let p = sum.wrapping_add(j * X::LANES);
                            acc.add(X::load(p)).store(p);
                        }
                    }
                }
            }
        }
    }
}

/// acc[t][c] += Σ_s a[n_t(s), c] b[s].
#[inline(always)]
unsafe fn sum_gathering_a<X: Vector, const NV: usize, const TAPS: usize, const BLOCK: usize>(
    job: &Job<X::Item>,
    sites: &Range<usize>,
    tap: usize,
    channel: usize,
    acc: &mut [[[X; NV]; BLOCK]; TAPS],
) {
    // SAFETY: the caller checked all lengths and keeps tap + TAPS and channel + BLOCK within them.
    unsafe {
        let gathered = job.gathered.wrapping_add(channel);
        let indices = job.indices.wrapping_add(tap * job.volume);
        for s in sites.clone() {
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
    }
}

/// acc[t][c] += Σ_s a[s, c] b[n_t⁻¹(s)].
#[inline(always)]
unsafe fn sum_gathering_b<X: Vector, const NV: usize, const TAPS: usize, const BLOCK: usize>(
    job: &Job<X::Item>,
    sites: &Range<usize>,
    tap: usize,
    channel: usize,
    acc: &mut [[[X; NV]; BLOCK]; TAPS],
) {
    // SAFETY: as in `sum_gathering_a`.
    unsafe {
        let gathered = job.gathered.wrapping_add(channel);
        let indices = job.inverse.wrapping_add(tap * job.volume);
        for s in sites.clone() {
            let a = gathered.wrapping_add(s * job.gathered_stride);
            let mut b = [[acc[0][0][0]; NV]; TAPS];
            for t in 0..TAPS {
                let index = *indices.wrapping_add(t * job.volume + s) as usize;
                for j in 0..NV {
                    b[t][j] = X::load(job.vectors.wrapping_add(index * job.stride + j * X::LANES));
                }
            }
            for c in 0..BLOCK {
                let a = X::splat(*a.wrapping_add(c));
                for t in 0..TAPS {
                    for j in 0..NV {
                        acc[t][c][j] = a.mul_add(b[t][j], acc[t][c][j]);
                    }
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
