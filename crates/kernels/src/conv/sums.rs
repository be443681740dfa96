//! Sums of parameter gradients: one a task while samples go by, then one of all tasks, then the parameters' own layout.
//!
//! A layer with few outputs is summed as `[t, o, i]`, every other as `[t, i, o]`, with the last index padded to whole registers.

use super::engine::{Chain, Rows};
use super::gradient::{ColumnSums, WeightGradient};
use super::simd::dispatch;
use crate::activation::Real;
use rayon::prelude::*;
use std::ops::Range;

/// How one layer's gradient is summed: see [`WeightGradient`].
#[derive(Debug, Clone)]
pub(super) struct SumLayout {
    pub(super) transposed: bool,
    /// `[taps · channels][stride]`.
    channels: usize,
    stride: usize,
    weight: Range<usize>,
    pub(super) bias: Range<usize>,
}

impl Chain<'_> {
    /// Adds one sample's gradient of one layer to `sum`.
    pub(super) fn accumulate<T: Real>(
        &self,
        layout: &SumLayout,
        input: Rows<'_, T>,
        grad: Rows<'_, T>,
        sum: &mut [T],
    ) {
        let (forward, inverse) = (self.stencil.forward(), self.stencil.inverse());
        let (gathered, vectors, table, inverse) =
            if layout.transposed { (grad, input, inverse, forward) } else { (input, grad, forward, inverse) };
        let weight = WeightGradient {
            gathered: gathered.data,
            gathered_stride: gathered.stride,
            channels: layout.channels,
            table,
            inverse,
            vectors: vectors.data,
            stride: layout.stride,
            sum: &mut sum[layout.weight.clone()],
        };
        dispatch(self.level, weight);
        let vectors = &grad.data[..self.stencil.volume() * grad.stride];
        dispatch(self.level, ColumnSums { vectors, stride: grad.stride, sum: &mut sum[layout.bias.clone()] });
    }

    pub(super) fn sum_layouts<T: Real>(&self) -> Vec<SumLayout> {
        let taps = self.stencil.taps();
        let mut start = 0;
        let mut layouts = Vec::with_capacity(self.layers());
        for c in self.channels.windows(2) {
            let (padded_in, padded_out) = (self.level.pad::<T>(c[0]), self.level.pad::<T>(c[1]));
            let transposed = c[1] * padded_in < c[0] * padded_out;
            let (channels, stride) = if transposed { (c[1], padded_in) } else { (c[0], padded_out) };
            let weight = start..start + taps * channels * stride;
            let bias = weight.end..weight.end + padded_out;
            start = bias.end;
            layouts.push(SumLayout { transposed, channels, stride, weight, bias });
        }
        layouts
    }

    /// Adds the tasks' sums in order and brings the total into the parameters' own layout.
    pub(super) fn collect<T: Real>(&self, layouts: &[SumLayout], sums: &mut [T], sum_len: usize) -> Vec<T> {
        const BLOCK: usize = 1024;
        let taps = self.stencil.taps();
        let (total, others) = sums.split_at_mut(sum_len.min(sums.len()));
        total.par_chunks_mut(BLOCK).enumerate().for_each(|(k, total)| {
            for other in others.chunks_exact(sum_len) {
                for (total, other) in total.iter_mut().zip(&other[k * BLOCK..]) {
                    *total += *other;
                }
            }
        });
        let mut flat = Vec::new();
        for (layout, c) in layouts.iter().zip(self.channels.windows(2)) {
            if total.is_empty() {
                // An empty batch has no tasks.
                flat.resize(flat.len() + taps * c[0] * c[1] + c[1], T::default());
                continue;
            }
            let weight = &total[layout.weight.clone()];
            for row in 0..taps * c[0] {
                if layout.transposed {
                    let (t, i) = (row / c[0], row % c[0]);
                    flat.extend((0..c[1]).map(|o| weight[(t * c[1] + o) * layout.stride + i]));
                } else {
                    flat.extend_from_slice(&weight[row * layout.stride..][..c[1]]);
                }
            }
            flat.extend_from_slice(&total[layout.bias.clone()][..c[1]]);
        }
        flat
    }
}
