//! A chain of convolutions over a batch: one sample stays in a thread's cache through all layers.
//!
//! The backward pass recomputes the hidden activations of a sample from its input, uses them at once, and forgets them, so
//! memory does not grow with depth times batch. Buffers in between are `[rows][channels padded to registers]`, with −x behind x
//! when the stencil that reads them has signs.
//!
//! The batch is cut into tasks by its size alone. Each sums its own weight gradient and the sums are added in order: results do
//! not depend on the number of threads.

use super::layer::{Layer, Packs, Parameters, Rows, RowsMut, initialised, uninitialised};
use super::scratch::{take, whole_lines, with_scratch};
use super::simd::Level;
use super::sums::Sums;
use crate::activation::{Activation, Real};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// At most this many tasks, each with its own gradient sum.
const TASKS: usize = 64;

/// Convolutions one after the other on one set of sites; only the last may be restricted to some of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain<'a> {
    pub(crate) layers: &'a [Layer],
    pub(crate) level: Level,
}

/// What a backward pass starts from: input, output and the gradient with respect to the output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Values<'a, T> {
    pub(crate) x: &'a [T],
    pub(crate) y: &'a [T],
    pub(crate) grad: &'a [T],
}

/// Gradients with respect to the input, and to all parameters, layer after layer, weights before biases.
#[derive(Debug)]
pub(crate) struct Gradients<T> {
    pub(crate) x: Option<Vec<T>>,
    pub(crate) parameters: Option<Vec<T>>,
}

impl Chain<'_> {
    fn last(&self) -> &Layer {
        &self.layers[self.layers.len() - 1]
    }

    fn volume(&self) -> usize {
        self.layers[0].stencil.volume()
    }

    /// Elements of one sample's input and output.
    fn sizes(&self) -> (usize, usize) {
        (self.volume() * self.layers[0].inputs, self.last().sites() * self.last().outputs)
    }

    /// Samples a task: a function of the problem only, never of the number of threads. Few samples make many gradient sums to
    /// clear and to add, so up to about a thousand sites go together as long as that leaves sixteen tasks.
    fn samples_per_task(&self, batch: usize) -> usize {
        const SITES: usize = 1024;
        const FEWEST: usize = 16;
        let together = SITES.div_ceil(self.volume()).min(batch.div_ceil(FEWEST));
        batch.div_ceil(TASKS).max(together).max(1)
    }

    fn pack<T: Real>(&self, parameters: &[Parameters<'_, T>]) -> Vec<Packs<T>> {
        self.layers.iter().zip(parameters).map(|(layer, p)| layer.pack(self.level, p)).collect()
    }

    /// Output `[batch, sites, C]` for inputs `[batch, V, C₀]`.
    pub(crate) fn forward<T: Real>(&self, x: &[T], parameters: &[Parameters<'_, T>], batch: usize) -> Vec<T> {
        let (inputs, outputs) = self.sizes();
        assert_eq!(x.len(), batch * inputs);
        let packs = self.pack(parameters);
        let staged = self.staged::<T>(self.layers[0].reads(self.level, &packs[0]));
        let (hidden, space) = (self.widest_hidden::<T>(), self.space::<T>());
        let last = self.layers.len() - 1;
        let len = batch * outputs;
        let mut y = Vec::with_capacity(len);
        let per_task = self.samples_per_task(batch);
        let run_task = |task: usize, y: &mut [MaybeUninit<T>], mut scratch: &mut [T]| {
            let stage = take(&mut scratch, staged);
            let (one, other) = (take(&mut scratch, hidden), take(&mut scratch, hidden));
            let space = scratch;
            for (i, y) in y.chunks_exact_mut(outputs).enumerate() {
                let x = self.stage_input(&x[(task * per_task + i) * inputs..][..inputs], stage);
                for (l, packs) in packs.iter().enumerate() {
                    let (read, write) = if l % 2 == 0 { (&*other, &mut *one) } else { (&*one, &mut *other) };
                    let input = if l == 0 { x } else { self.hidden_rows(l, read) };
                    if l < last {
                        self.hidden_layer(l, packs, input, write, space);
                    } else {
                        let out = RowsMut { data: &mut *y, stride: self.last().outputs };
                        self.last().forward(self.level, packs, input, out, space);
                    }
                }
                // SAFETY: the convolution has just written every element.
                self.last().activation.apply_in_place(self.level, unsafe { initialised(y) });
            }
        };
        y.spare_capacity_mut()[..len]
            .par_chunks_mut(per_task * outputs)
            .enumerate()
            .for_each(|(task, y)| with_scratch(staged + 2 * hidden + space, |s| run_task(task, y, s)));
        // SAFETY: the tasks cover all `len` elements and write each.
        unsafe { y.set_len(len) };
        y
    }

    /// Gradients of a scalar whose gradient with respect to the output is `values.grad`.
    pub(crate) fn backward<T: Real>(
        &self,
        values: Values<'_, T>,
        parameters: &[Parameters<'_, T>],
        batch: usize,
        want_x: bool,
        want_parameters: bool,
    ) -> Gradients<T> {
        let (inputs, outputs) = self.sizes();
        assert_eq!(values.x.len(), batch * inputs);
        assert_eq!((values.y.len(), values.grad.len()), (batch * outputs, batch * outputs));
        let packs = self.pack(parameters);
        let reversed: Vec<_> =
            self.layers.iter().zip(parameters).map(|(layer, p)| layer.pack_backward(self.level, p)).collect();
        let layouts = self.sum_layouts::<T>();
        let sum_len =
            if want_parameters { whole_lines::<T>(layouts.last().map_or(0, |s| s.bias.end)) } else { 0 };
        let first = &self.layers[0];
        let pads_inputs = want_parameters && layouts[0].pads_inputs();
        let padded = if pads_inputs { self.level.pad::<T>(first.inputs) } else { 0 };
        let staged = self.staged::<T>(first.reads(self.level, &packs[0]).max(padded));
        let kept: Vec<usize> = (1..self.layers.len()).map(|l| self.hidden_len::<T>(l)).collect();
        let widest = self.widest_gradient::<T>();
        let buffers = staged + kept.iter().sum::<usize>() + 2 * widest + self.space::<T>();

        let last = self.layers.len() - 1;
        let stages_gradient = self.last().activation != Activation::Identity
            || self.last().doubles_gradient()
            || self.level.pad::<T>(self.last().outputs) != self.last().outputs;
        let per_task = self.samples_per_task(batch);
        let tasks = batch.div_ceil(per_task);
        let dx_len = if want_x { batch * inputs } else { 0 };
        let mut dx: Vec<T> = Vec::with_capacity(dx_len);
        let run_task = |task: usize, sum: &mut [T], dx: &mut [MaybeUninit<T>], mut scratch: &mut [T]| {
            let stage = take(&mut scratch, staged);
            let mut hidden: Vec<&mut [T]> = kept.iter().map(|&len| take(&mut scratch, len)).collect();
            let (mut d, mut next) = (take(&mut scratch, widest), take(&mut scratch, widest));
            let space = scratch;
            sum.fill(T::default());
            for sample in task * per_task..batch.min((task + 1) * per_task) {
                let x = self.stage_input(&values.x[sample * inputs..][..inputs], stage);
                for (l, packs) in packs[..last].iter().enumerate() {
                    let (before, rest) = hidden.split_at_mut(l);
                    let input = before.last().map_or(x, |before| self.hidden_rows(l, before));
                    self.hidden_layer(l, packs, input, rest[0], space);
                }
                let out = sample * outputs..(sample + 1) * outputs;
                let (grad, y) = (&values.grad[out.clone()], &values.y[out]);
                if stages_gradient {
                    self.stage_gradient(grad, y, d, next);
                }
                for l in (0..=last).rev() {
                    let layer = &self.layers[l];
                    let input = if l == 0 { x } else { self.hidden_rows(l, hidden[l - 1]) };
                    let grad = if l == last && !stages_gradient {
                        Rows { data: grad, stride: layer.outputs }
                    } else {
                        let stride = self.level.pad::<T>(layer.outputs);
                        Rows { data: &d[..layer.gradient_rows() * stride], stride }
                    };
                    let sums = want_parameters.then(|| Sums { layout: &layouts[l], all: &mut *sum });
                    if l > 0 {
                        let stride = self.level.pad::<T>(layer.inputs);
                        let n = self.volume() * stride;
                        let out = RowsMut { data: uninitialised(&mut next[..n]), stride };
                        layer.backward(self.level, &reversed[l], [input, grad], sums, Some(out), space);
                        let before = &self.layers[l - 1];
                        before.activation.backward_in_place(self.level, &mut next[..n], &input.data[..n]);
                        if before.doubles_gradient() {
                            append_negative(next, n);
                        }
                        std::mem::swap(&mut d, &mut next);
                    } else {
                        let dx = want_x.then(|| {
                            let dx = &mut dx[(sample - task * per_task) * inputs..][..inputs];
                            RowsMut { data: dx, stride: layer.inputs }
                        });
                        layer.backward(self.level, &reversed[0], [input, grad], sums, dx, space);
                    }
                }
            }
        };
        let run_task = |task: usize, sum: &mut [T], dx: &mut [MaybeUninit<T>]| {
            with_scratch(buffers, |scratch| run_task(task, sum, dx, scratch));
        };
        let parameters = with_scratch(tasks * sum_len, |all: &mut [T]| {
            let dx_chunk = per_task * inputs;
            let dx = &mut dx.spare_capacity_mut()[..dx_len];
            match (want_x, want_parameters) {
                (true, true) => all
                    .par_chunks_mut(sum_len)
                    .zip(dx.par_chunks_mut(dx_chunk))
                    .enumerate()
                    .for_each(|(task, (sum, dx))| run_task(task, sum, dx)),
                (true, false) => {
                    dx.par_chunks_mut(dx_chunk).enumerate().for_each(|(task, dx)| run_task(task, &mut [], dx))
                }
                (false, true) => all
                    .par_chunks_mut(sum_len)
                    .enumerate()
                    .for_each(|(task, sum)| run_task(task, sum, &mut [])),
                (false, false) => {}
            }
            want_parameters.then(|| self.collect(&layouts, all, sum_len))
        });
        // SAFETY: with `want_x` the tasks cover all samples and write each input gradient; otherwise the length is zero.
        unsafe { dx.set_len(dx_len) };
        Gradients { x: want_x.then_some(dx), parameters }
    }

    /// Length of the buffer samples are copied to before use, to be doubled or to be padded up to `reads`; zero if they need not.
    fn staged<T: Real>(&self, reads: usize) -> usize {
        let Layer { stencil, inputs, .. } = &self.layers[0];
        let needed = stencil.is_signed() || reads > *inputs;
        if needed { whole_lines::<T>(stencil.rows() * self.level.pad::<T>(*inputs)) } else { 0 }
    }

    /// Length of the buffer that layer l, not the first, reads.
    fn hidden_len<T: Real>(&self, l: usize) -> usize {
        let layer = &self.layers[l];
        whole_lines::<T>(layer.stencil.rows() * self.level.pad::<T>(layer.inputs))
    }

    fn widest_hidden<T: Real>(&self) -> usize {
        (1..self.layers.len()).map(|l| self.hidden_len::<T>(l)).max().unwrap_or(0)
    }

    fn widest_gradient<T: Real>(&self) -> usize {
        let len =
            |layer: &Layer| whole_lines::<T>(layer.gradient_rows() * self.level.pad::<T>(layer.outputs));
        self.layers.iter().map(len).max().unwrap_or(0)
    }

    fn space<T: Real>(&self) -> usize {
        self.layers.iter().map(|layer| layer.space::<T>(self.level)).max().unwrap_or(0)
    }

    fn hidden_rows<'s, T: Real>(&self, l: usize, buffer: &'s [T]) -> Rows<'s, T> {
        let layer = &self.layers[l];
        let stride = self.level.pad::<T>(layer.inputs);
        Rows { data: &buffer[..layer.stencil.rows() * stride], stride }
    }

    /// The sample itself, or its padded and doubled copy in `stage` when there is one.
    fn stage_input<'s, T: Real>(&self, x: &'s [T], stage: &'s mut [T]) -> Rows<'s, T> {
        let Layer { stencil, inputs, .. } = &self.layers[0];
        if stage.is_empty() {
            return Rows { data: x, stride: *inputs };
        }
        let stride = pad_rows(self.level, *inputs, x, stage);
        if stencil.is_signed() {
            append_negative(stage, stencil.volume() * stride);
        }
        Rows { data: stage, stride }
    }

    /// The gradient before the last activation, padded and doubled, in `d`; `y` is padded into `space`.
    fn stage_gradient<T: Real>(&self, grad: &[T], y: &[T], d: &mut [T], space: &mut [T]) {
        let layer = self.last();
        let n = layer.sites() * pad_rows(self.level, layer.outputs, grad, d);
        if layer.activation != Activation::Identity {
            pad_rows(self.level, layer.outputs, y, space);
            layer.activation.backward_in_place(self.level, &mut d[..n], &space[..n]);
        }
        if layer.doubles_gradient() {
            append_negative(d, n);
        }
    }

    /// Layer l, not the last, into the buffer that layer l + 1 reads.
    fn hidden_layer<T: Real>(
        &self,
        l: usize,
        packs: &Packs<T>,
        input: Rows<'_, T>,
        out: &mut [T],
        space: &mut [T],
    ) {
        let layer = &self.layers[l];
        let stride = self.level.pad::<T>(layer.outputs);
        let n = self.volume() * stride;
        let rows = RowsMut { data: uninitialised(&mut out[..n]), stride };
        layer.forward(self.level, packs, input, rows, space);
        layer.activation.apply_in_place(self.level, &mut out[..n]);
        if self.layers[l + 1].stencil.is_signed() {
            append_negative(out, n);
        }
    }
}

/// Copies rows of `channels` into `to`, padded with zeros to whole registers, and returns the padded length.
fn pad_rows<T: Real>(level: Level, channels: usize, from: &[T], to: &mut [T]) -> usize {
    let stride = level.pad::<T>(channels);
    for (to, from) in to.chunks_exact_mut(stride).zip(from.chunks_exact(channels)) {
        to[..channels].copy_from_slice(from);
        to[channels..].fill(T::default());
    }
    stride
}

/// Puts −x behind the `n` elements of x.
fn append_negative<T: Real>(buffer: &mut [T], n: usize) {
    let (x, negative) = buffer.split_at_mut(n);
    for (negative, x) in negative[..n].iter_mut().zip(x) {
        *negative = -*x;
    }
}

#[cfg(test)]
mod tests {
    use super::{Chain, Values};
    use crate::activation::{Activation, Real};
    use crate::conv::layer::{Layer, Parameters};
    use crate::conv::simd::Level;
    use crate::stencil::Stencil;

    /// Three taps on two rings, with signs or without.
    fn rings(length: u32, signed: bool) -> Stencil {
        let volume = 2 * length;
        let read = |d: u32, s: u32| s / length * length + (s + d) % length;
        let neighbours = [length - 1, 0, 1].into_iter().flat_map(|d| (0..volume).map(move |s| read(d, s)));
        let signs = signed.then(|| (0..3 * volume).map(|i| if i % 5 == 0 { -1 } else { 1 }).collect());
        Stencil::new(volume as usize, neighbours.collect(), signs).unwrap()
    }

    /// Every result of one network, in numbers that are exact in binary so that no order of summation rounds.
    fn results<T: Real>(
        level: Level,
        stencil: &Stencil,
        channels: &[usize],
        sites: Option<&[u32]>,
    ) -> Vec<T> {
        let number = |i: usize| T::from_f64(((i * 7 + 3) % 5) as f64 - 2.0);
        let last = channels.len() - 2;
        let layers: Vec<_> = (0..=last)
            .map(|l| Layer {
                stencil: stencil.clone(),
                sites: sites.filter(|_| l == last).map(|s| stencil.at(s).unwrap()),
                inputs: channels[l],
                outputs: channels[l + 1],
                biased: true,
                activation: if l == last { Activation::Identity } else { Activation::LeakyRelu(0.5) },
            })
            .collect();
        let weights: Vec<Vec<T>> =
            channels.windows(2).map(|c| (0..3 * c[0] * c[1]).map(|i| number(i * i + 1)).collect()).collect();
        let biases: Vec<Vec<T>> = channels[1..].iter().map(|&c| (0..c).map(number).collect()).collect();
        let parameters: Vec<_> =
            weights.iter().zip(&biases).map(|(weight, bias)| Parameters { weight, bias }).collect();
        let batch = 3;
        let x: Vec<T> = (0..batch * stencil.volume() * channels[0]).map(number).collect();
        let chain = Chain { layers: &layers, level };
        let y = chain.forward(&x, &parameters, batch);
        let grad: Vec<T> = (0..y.len()).map(|i| number(3 * i)).collect();
        let values = Values { x: &x, y: &y, grad: &grad };
        let gradients = chain.backward(values, &parameters, batch, true, true);
        [y, gradients.x.unwrap(), gradients.parameters.unwrap()].concat()
    }

    #[test]
    fn every_instruction_set_gives_the_same_network() {
        for channels in [&[1, 16, 2][..], &[3, 33, 1], &[20, 5], &[2, 49, 9, 1]] {
            for stencil in [rings(7, true), rings(5, false), rings(4, false), rings(4, true)] {
                for sites in [None, Some(&[3, 1, 6][..])] {
                    let all: Vec<_> = Level::available()
                        .iter()
                        .map(|&level| results::<f64>(level, &stencil, channels, sites))
                        .collect();
                    assert!(all.iter().all(|r| *r == all[0]), "{channels:?} in f64");
                    let all: Vec<_> = Level::available()
                        .iter()
                        .map(|&level| results::<f32>(level, &stencil, channels, sites))
                        .collect();
                    assert!(all.iter().all(|r| *r == all[0]), "{channels:?} in f32");
                }
            }
        }
    }
}
