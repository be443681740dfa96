//! Sums of parameter gradients: one a task while samples go by, then one of all tasks, then the parameters' own layout.
//!
//! ```text
//! head: outputs in whole registers,   [matrices · inputs][head]
//! tail: the few outputs beyond them,  [matrices · tail][inputs padded to whole registers]
//! ```
//!
//! The matrices are those of the taps, or of the modes along lines of four. The tail joins the head, padded, when that is cheaper
//! or there is no inverse table for its own sums.

use super::engine::Chain;
use super::gradient::{ColumnSums, WeightGradient};
use super::layer::{Layer, Rows, Way};
use super::lines::taps_of_modes;
use super::simd::{Level, dispatch};
use crate::activation::Real;
use crate::stencil::Table;
use rayon::prelude::*;
use std::ops::Range;

/// Where one layer's gradient is summed.
#[derive(Debug, Clone)]
pub(super) struct SumLayout {
    inputs: usize,
    padded_inputs: usize,
    /// Columns of the head.
    head: usize,
    tail: usize,
    head_sums: Range<usize>,
    tail_sums: Range<usize>,
    pub(super) bias: Range<usize>,
}

/// A task's sums of one layer.
pub(super) struct Sums<'a, T> {
    pub(super) layout: &'a SumLayout,
    pub(super) all: &'a mut [T],
}

impl SumLayout {
    /// The sums of a layer, which may have an inverse table or not, from `start` on.
    pub(super) fn new<T: Real>(
        level: Level,
        [matrices, inputs, outputs]: [usize; 3],
        has_inverse: bool,
        start: usize,
    ) -> Self {
        let (padded_inputs, padded_outputs) = (level.pad::<T>(inputs), level.pad::<T>(outputs));
        let lanes = level.registers::<T>().0;
        let rest = outputs % lanes;
        let tail = if has_inverse && rest * padded_inputs < inputs * lanes { rest } else { 0 };
        let head = if tail > 0 { outputs - tail } else { padded_outputs };
        let head_sums = start..start + matrices * inputs * head;
        let tail_sums = head_sums.end..head_sums.end + matrices * tail * padded_inputs;
        let bias = tail_sums.end..tail_sums.end + padded_outputs;
        Self { inputs, padded_inputs, head, tail, head_sums, tail_sums, bias }
    }

    /// The sum for input i and output o of one matrix.
    fn get<T: Real>(&self, sums: &[T], matrix: usize, i: usize, o: usize) -> T {
        match o.checked_sub(self.head) {
            None => sums[self.head_sums.start + (matrix * self.inputs + i) * self.head + o],
            Some(o) => sums[self.tail_sums.start + (matrix * self.tail + o) * self.padded_inputs + i],
        }
    }

    /// Whether the input must be padded to whole registers.
    pub(super) fn pads_inputs(&self) -> bool {
        self.tail > 0
    }
}

impl<T: Real> Sums<'_, T> {
    /// Adds the gradient of as many matrices as the table has taps, from the given one on. The table holds the input row for
    /// each row of the gradient; the inverse, unless the output is at some sites only, the gradient's for each of the input's.
    pub(super) fn add(
        &mut self,
        level: Level,
        matrix: usize,
        [input, grad]: [Rows<'_, T>; 2],
        table: Table<'_>,
        inverse: Option<Table<'_>>,
    ) {
        let layout = self.layout;
        if layout.head > 0 {
            let size = layout.inputs * layout.head;
            let sum = &mut self.all[layout.head_sums.clone()][matrix * size..][..table.taps() * size];
            let head = WeightGradient {
                gathered: input.data,
                gathered_stride: input.stride,
                channels: layout.inputs,
                table,
                inverse,
                vectors: grad.data,
                stride: grad.stride,
                columns: layout.head,
                sum,
            };
            dispatch(level, head);
        }
        if let Some(inverse) = inverse.filter(|_| layout.tail > 0) {
            let size = layout.tail * layout.padded_inputs;
            let sum = &mut self.all[layout.tail_sums.clone()][matrix * size..][..table.taps() * size];
            let tail = WeightGradient {
                gathered: &grad.data[layout.head..],
                gathered_stride: grad.stride,
                channels: layout.tail,
                table: inverse,
                inverse: Some(table),
                vectors: input.data,
                stride: input.stride,
                columns: layout.padded_inputs,
                sum,
            };
            dispatch(level, tail);
        }
    }

    /// Adds the sum of whole rows of the gradient.
    pub(super) fn add_bias(&mut self, level: Level, rows: &[T]) {
        let sum = &mut self.all[self.layout.bias.clone()];
        dispatch(level, ColumnSums { vectors: rows, stride: sum.len(), sum });
    }
}

impl Chain<'_> {
    pub(super) fn sum_layouts<T: Real>(&self) -> Vec<SumLayout> {
        let mut start = 0;
        let layout = |layer: &Layer| {
            let layout = layer.sum_layout::<T>(self.level, start);
            start = layout.bias.end;
            layout
        };
        self.layers.iter().map(layout).collect()
    }

    /// Adds the tasks' sums in order and brings the total into the parameters' own layout.
    pub(super) fn collect<T: Real>(&self, layouts: &[SumLayout], sums: &mut [T], sum_len: usize) -> Vec<T> {
        const BLOCK: usize = 1024;
        let (total, others) = sums.split_at_mut(sum_len.min(sums.len()));
        total.par_chunks_mut(BLOCK).enumerate().for_each(|(k, total)| {
            for other in others.chunks_exact(sum_len) {
                for (total, other) in total.iter_mut().zip(&other[k * BLOCK..]) {
                    *total += *other;
                }
            }
        });
        let mut flat = Vec::new();
        for (layout, layer) in layouts.iter().zip(self.layers) {
            let [taps, inputs, outputs] = layer.shape();
            let biases = if layer.biased { outputs } else { 0 };
            if total.is_empty() {
                // An empty batch has no tasks.
                flat.resize(flat.len() + taps * inputs * outputs + biases, T::default());
                continue;
            }
            let entry = |t: usize, i: usize, o: usize| match layer.way() {
                Way::Lines(_) => taps_of_modes(std::array::from_fn(|k| layout.get(total, k, i, o)))[t],
                Way::Everywhere | Way::At(_) => layout.get(total, t, i, o),
            };
            for (t, i) in (0..taps).flat_map(|t| (0..inputs).map(move |i| (t, i))) {
                flat.extend((0..outputs).map(|o| entry(t, i, o)));
            }
            flat.extend_from_slice(&total[layout.bias.clone()][..biases]);
        }
        flat
    }
}
