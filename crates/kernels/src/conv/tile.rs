//! The convolution of one sample.
//!
//! ```text
//! y[s, o] = b[o] + Σ_{t,i} x[n_t(s), i] w[t, i, o]
//! ```
//!
//! A tile of sites × output registers stays in registers while taps and input channels stream by: every weight register is
//! loaded once for all sites of the tile, and every input is broadcast once for all its registers. The tile shapes are the
//! best of a measured set; on full-width AVX-512 they come within a few per cent of the multiply-add peak.

#![allow(clippy::needless_range_loop, reason = "register tiles are indexed as in their formula")]

use super::pack::Packed;
use super::simd::{Element, Task, Vector};
use crate::stencil::Table;
use std::mem::MaybeUninit;

/// One sample: rows `x` gathered through `table` into `[V, outputs]` with row length `out_stride`.
pub(crate) struct Convolve<'a, T> {
    pub(crate) packed: &'a Packed<T>,
    pub(crate) table: Table<'a>,
    pub(crate) x: &'a [T],
    pub(crate) x_stride: usize,
    /// Every element is written: the outputs, and zeros in padding up to whole registers.
    pub(crate) out: &'a mut [MaybeUninit<T>],
    pub(crate) out_stride: usize,
}

/// Pointers of one panel (or, for dots, one group of outputs).
#[derive(Clone, Copy)]
struct Job<T> {
    x: *const T,
    x_stride: usize,
    indices: *const u32,
    taps: usize,
    volume: usize,
    inputs: usize,
    weights: *const T,
    /// Elements from one tap's weights to the next (dots only).
    tap_stride: usize,
    bias: *const T,
    out: *mut T,
    out_stride: usize,
    /// Elements of a row to write.
    width: usize,
}

impl<T: Element> Task<T> for Convolve<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(self) {
        let Self { packed, table, x, x_stride, out, out_stride } = self;
        let (volume, outputs) = (table.volume(), packed.outputs);
        assert_eq!((packed.taps, packed.lanes), (table.taps(), X::LANES));
        assert!(packed.reads() <= x_stride && x.len() >= table.rows() * x_stride);
        assert!(out_stride == outputs || out_stride == outputs.next_multiple_of(X::LANES));
        assert_eq!(out.len(), volume * out_stride);
        let job = Job {
            x: x.as_ptr(),
            x_stride,
            indices: table.indices().as_ptr(),
            taps: packed.taps,
            volume,
            inputs: packed.inputs,
            weights: packed.weights.as_slice().as_ptr(),
            tap_stride: packed.dots * packed.inputs.next_multiple_of(X::LANES),
            bias: packed.bias.as_slice().as_ptr(),
            out: out.as_mut_ptr().cast(),
            out_stride,
            width: 0,
        };
        // Outputs in panels end where the dots begin; only without dots do panels write the padding, too.
        let end = if packed.dots == 0 { out_stride } else { outputs - packed.dots };
        let (mut first, mut weights) = (0, job.weights);
        for &vectors in &packed.panels {
            let width = (vectors * X::LANES).min(end - first);
            let (bias, out) = (job.bias.wrapping_add(first), job.out.wrapping_add(first));
            // SAFETY: table indices stay below `rows`, the lengths were checked above, weights and bias are packed for
            // this register length, and `out + s·out_stride + width` stays within row s.
            unsafe { panel::<X>(vectors, Job { weights, bias, out, width, ..job }) };
            first += vectors * X::LANES;
            weights = weights.wrapping_add(packed.taps * packed.inputs * vectors * X::LANES);
        }
        if packed.dots > 0 {
            let job = Job { inputs: packed.reads(), ..job };
            for o in (0..packed.dots).step_by(2) {
                let weights = weights.wrapping_add(o * job.inputs);
                let (bias, out) = (job.bias.wrapping_add(end + o), job.out.wrapping_add(end + o));
                // SAFETY: as above; a pair is taken only when both outputs exist.
                unsafe { dots::<X>(packed.dots - o, Job { weights, bias, out, ..job }) };
            }
            if out_stride > outputs {
                for row in out.chunks_exact_mut(out_stride) {
                    row[outputs..].fill(MaybeUninit::new(T::default()));
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn panel<X: Vector>(vectors: usize, job: Job<X::Item>) {
    // SAFETY: forwarded from the caller.
    unsafe {
        match (vectors, X::REGISTERS >= 32) {
            (1, _) => panel_tiles::<X, 1, 8>(job),
            (2, true) => panel_tiles::<X, 2, 8>(job),
            (2, false) => panel_tiles::<X, 2, 6>(job),
            (3, true) => panel_tiles::<X, 3, 8>(job),
            (4, true) => panel_tiles::<X, 4, 6>(job),
            _ => unreachable!("panels are packed for the registers there are"),
        }
    }
}

#[inline(always)]
unsafe fn panel_tiles<X: Vector, const NV: usize, const SITES: usize>(job: Job<X::Item>) {
    let volume = job.volume;
    // SAFETY: forwarded from the caller; every tile lies within the volume.
    unsafe {
        if volume < SITES {
            (0..volume).for_each(|s| panel_tile::<X, NV, 1>(&job, s));
        } else {
            (0..volume / SITES).for_each(|k| panel_tile::<X, NV, SITES>(&job, k * SITES));
            // The last tile overlaps the one before it: the same numbers are written twice.
            if !volume.is_multiple_of(SITES) {
                panel_tile::<X, NV, SITES>(&job, volume - SITES);
            }
        }
    }
}

/// Sites `first..first + SITES` of one panel of `NV` registers.
#[inline(always)]
unsafe fn panel_tile<X: Vector, const NV: usize, const SITES: usize>(job: &Job<X::Item>, first: usize) {
    let width = NV * X::LANES;
    // SAFETY: the caller checked all lengths: indices name rows of x, rows hold `inputs` elements, weights hold
    // taps · inputs · width, bias width, and out has `job.width` elements in each of these sites' rows.
    unsafe {
        let mut acc = [[X::splat(X::Item::default()); NV]; SITES];
        for j in 0..NV {
            let b = X::load(job.bias.wrapping_add(j * X::LANES));
            for row in &mut acc {
                row[j] = b;
            }
        }
        let mut w = job.weights;
        for tap in 0..job.taps {
            let indices = job.indices.wrapping_add(tap * job.volume + first);
            let mut rows = [job.x; SITES];
            for i in 0..SITES {
                rows[i] = job.x.wrapping_add(*indices.wrapping_add(i) as usize * job.x_stride);
            }
            for c in 0..job.inputs {
                let mut weights = [acc[0][0]; NV];
                for j in 0..NV {
                    weights[j] = X::load(w.wrapping_add(j * X::LANES));
                }
                for i in 0..SITES {
                    let x = X::splat(*rows[i].wrapping_add(c));
                    for j in 0..NV {
                        acc[i][j] = x.mul_add(weights[j], acc[i][j]);
                    }
                }
                w = w.wrapping_add(width);
            }
        }
        for (i, row) in acc.iter().enumerate() {
            let out = job.out.wrapping_add((first + i) * job.out_stride);
            if job.width == width {
                for (j, y) in row.iter().enumerate() {
                    y.store(out.wrapping_add(j * X::LANES));
                }
            } else {
                for (j, y) in row.iter().enumerate() {
                    let left = job.width.saturating_sub(j * X::LANES).min(X::LANES);
                    y.store_first(left, out.wrapping_add(j * X::LANES));
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn dots<X: Vector>(left: usize, job: Job<X::Item>) {
    // SAFETY: forwarded from the caller.
    unsafe {
        match (left, X::REGISTERS >= 32) {
            (1, _) => dot_tiles::<X, 1, 8>(job),
            (_, true) => dot_tiles::<X, 2, 8>(job),
            (_, false) => dot_tiles::<X, 2, 4>(job),
        }
    }
}

#[inline(always)]
unsafe fn dot_tiles<X: Vector, const OUTPUTS: usize, const SITES: usize>(job: Job<X::Item>) {
    let volume = job.volume;
    // SAFETY: as in `panel_tiles`.
    unsafe {
        if volume < SITES {
            (0..volume).for_each(|s| dot_tile::<X, OUTPUTS, 1>(&job, s));
        } else {
            (0..volume / SITES).for_each(|k| dot_tile::<X, OUTPUTS, SITES>(&job, k * SITES));
            if !volume.is_multiple_of(SITES) {
                dot_tile::<X, OUTPUTS, SITES>(&job, volume - SITES);
            }
        }
    }
}

/// Sites `first..first + SITES` of `OUTPUTS` channels, with registers over the input channels.
#[inline(always)]
unsafe fn dot_tile<X: Vector, const OUTPUTS: usize, const SITES: usize>(job: &Job<X::Item>, first: usize) {
    // SAFETY: as in `panel_tile`; `inputs` is a multiple of the register length here, and rows hold that many elements.
    unsafe {
        let mut acc = [[X::splat(X::Item::default()); OUTPUTS]; SITES];
        for tap in 0..job.taps {
            let indices = job.indices.wrapping_add(tap * job.volume + first);
            let w = job.weights.wrapping_add(tap * job.tap_stride);
            let mut rows = [job.x; SITES];
            for i in 0..SITES {
                rows[i] = job.x.wrapping_add(*indices.wrapping_add(i) as usize * job.x_stride);
            }
            for c in (0..job.inputs).step_by(X::LANES) {
                let mut weights = [acc[0][0]; OUTPUTS];
                for o in 0..OUTPUTS {
                    weights[o] = X::load(w.wrapping_add(o * job.inputs + c));
                }
                for i in 0..SITES {
                    let x = X::load(rows[i].wrapping_add(c));
                    for o in 0..OUTPUTS {
                        acc[i][o] = x.mul_add(weights[o], acc[i][o]);
                    }
                }
            }
        }
        for (i, row) in acc.iter().enumerate() {
            for (o, y) in row.iter().enumerate() {
                let out = job.out.wrapping_add((first + i) * job.out_stride + o);
                *out = y.sum() + *job.bias.wrapping_add(o);
            }
        }
    }
}
