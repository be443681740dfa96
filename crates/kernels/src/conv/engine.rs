//! A chain of convolutions over a batch: one sample stays in a thread's cache through all layers.
//!
//! The backward pass recomputes the hidden activations of a sample from its input, uses them at once, and forgets them, so
//! memory does not grow with depth times batch. Buffers in between are `[rows][channels padded to registers]`, with −x behind x
//! when the stencil has signs.
//!
//! The batch is cut into tasks by its size alone. Each sums its own weight gradient and the sums are added in order: results do
//! not depend on the number of threads.

use super::pack::Packed;
use super::scratch::{take, whole_lines, with_scratch};
use super::simd::{Level, dispatch};
use super::tile::Convolve;
use crate::activation::{Activation, Real};
use crate::stencil::Stencil;
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// At most this many tasks, each with its own gradient sum.
const TASKS: usize = 64;

/// Convolutions from `channels[l]` to `channels[l + 1]`, each followed by an activation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain<'a> {
    pub(crate) stencil: &'a Stencil,
    pub(crate) channels: &'a [usize],
    pub(crate) hidden: Activation,
    pub(crate) last: Activation,
    pub(crate) level: Level,
}

/// Weights `[taps · inputs][outputs]` and biases `[outputs]` of one layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameters<'a, T> {
    pub(crate) weight: &'a [T],
    pub(crate) bias: &'a [T],
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

/// Rows to convolve or to correlate with.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, T> {
    pub(super) data: &'a [T],
    pub(super) stride: usize,
}

impl Chain<'_> {
    pub(super) fn layers(&self) -> usize {
        self.channels.len() - 1
    }

    fn sizes(&self) -> (usize, usize, usize) {
        (self.stencil.volume(), self.channels[0], self.channels[self.layers()])
    }

    /// Samples a task: a function of the problem only, never of the number of threads. Few samples make many gradient sums to
    /// clear and to add, so up to about a thousand sites go together as long as that leaves sixteen tasks.
    fn samples_per_task(&self, batch: usize) -> usize {
        const SITES: usize = 1024;
        const FEWEST: usize = 16;
        let together = SITES.div_ceil(self.stencil.volume()).min(batch.div_ceil(FEWEST));
        batch.div_ceil(TASKS).max(together).max(1)
    }

    fn pack<T: Real>(&self, parameters: &[Parameters<'_, T>]) -> Vec<Packed<T>> {
        let taps = self.stencil.taps();
        self.channels
            .windows(2)
            .zip(parameters)
            .map(|(c, p)| {
                let weight = |t, i, o| p.weight[(t * c[0] + i) * c[1] + o];
                Packed::new(self.level, [taps, c[0], c[1]], weight, Some(p.bias))
            })
            .collect()
    }

    /// The convolutions of the input gradients: channels exchanged, no bias.
    fn pack_backward<T: Real>(&self, parameters: &[Parameters<'_, T>]) -> Vec<Packed<T>> {
        let taps = self.stencil.taps();
        self.channels
            .windows(2)
            .zip(parameters)
            .map(|(c, p)| {
                let weight = |t, o, i| p.weight[(t * c[0] + i) * c[1] + o];
                Packed::new(self.level, [taps, c[1], c[0]], weight, None)
            })
            .collect()
    }

    /// Output `[batch, V, C]` for inputs `[batch, V, C₀]`.
    pub(crate) fn forward<T: Real>(&self, x: &[T], parameters: &[Parameters<'_, T>], batch: usize) -> Vec<T> {
        let (volume, inputs, outputs) = self.sizes();
        assert_eq!(x.len(), batch * volume * inputs);
        let packed = self.pack(parameters);
        let staged = self.stages_input::<T>(packed[0].reads());
        let buffers = self.buffer_len::<T>(staged, false);
        let len = batch * volume * outputs;
        let mut y = Vec::with_capacity(len);
        let per_task = self.samples_per_task(batch);
        y.spare_capacity_mut()[..len].par_chunks_mut(per_task * volume * outputs).enumerate().for_each(
            |(task, y)| {
                with_scratch(buffers, |mut scratch| {
                    let (stage, mut hidden) = self.carve(staged, &mut scratch);
                    for (i, y) in y.chunks_exact_mut(volume * outputs).enumerate() {
                        let x = &x[(task * per_task + i) * volume * inputs..][..volume * inputs];
                        let x = self.stage_input(x, stage);
                        self.hidden_layers(&packed, x, &mut hidden);
                        let input = self.input_of(self.layers() - 1, x, &hidden);
                        self.convolve(&packed[self.layers() - 1], false, input, y, outputs);
                        // SAFETY: the convolution has just written every element.
                        self.last.apply_in_place(self.level, unsafe { initialised(y) });
                    }
                });
            },
        );
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
        let (volume, inputs, outputs) = self.sizes();
        assert_eq!(values.x.len(), batch * volume * inputs);
        assert_eq!((values.y.len(), values.grad.len()), (batch * volume * outputs, batch * volume * outputs));
        let packed = self.pack(parameters);
        let reversed = self.pack_backward(parameters);
        let sums = self.sum_layouts::<T>();
        let sum_len =
            if want_parameters { whole_lines::<T>(sums.last().map_or(0, |s| s.bias.end)) } else { 0 };
        let input_needs_padding = want_parameters && sums[0].transposed;
        let reads = packed[0].reads().max(if input_needs_padding { self.level.pad::<T>(inputs) } else { 0 });
        let staged = self.stages_input::<T>(reads);
        let buffers = self.buffer_len::<T>(staged, true);

        let grad_staged = self.last != Activation::Identity
            || self.stencil.is_signed()
            || self.level.pad::<T>(outputs) != outputs;
        let per_task = self.samples_per_task(batch);
        let tasks = batch.div_ceil(per_task);
        let dx_len = if want_x { batch * volume * inputs } else { 0 };
        let mut dx: Vec<T> = Vec::with_capacity(dx_len);
        let run_task = |task: usize, sum: &mut [T], dx: &mut [MaybeUninit<T>]| {
            with_scratch(buffers, |mut scratch| {
                let (stage, mut hidden) = self.carve(staged, &mut scratch);
                let (mut d, mut next) = self.carve_gradients(&mut scratch);
                sum.fill(T::default());
                for sample in task * per_task..batch.min((task + 1) * per_task) {
                    let x = self.stage_input(&values.x[sample * volume * inputs..][..volume * inputs], stage);
                    self.hidden_layers(&packed, x, &mut hidden);
                    let out = sample * volume * outputs..(sample + 1) * volume * outputs;
                    let (grad, y) = (&values.grad[out.clone()], &values.y[out]);
                    if grad_staged {
                        self.stage_gradient(grad, y, d, next);
                    }
                    for l in (0..self.layers()).rev() {
                        let input = self.input_of(l, x, &hidden);
                        let grad = if l + 1 == self.layers() && !grad_staged {
                            Rows { data: grad, stride: outputs }
                        } else {
                            self.padded_rows(self.channels[l + 1], d)
                        };
                        if want_parameters {
                            self.accumulate(&sums[l], input, grad, sum);
                        }
                        if l > 0 {
                            let stride = self.level.pad::<T>(self.channels[l]);
                            let n = volume * stride;
                            self.convolve(&reversed[l], true, grad, uninitialised(&mut next[..n]), stride);
                            self.hidden.backward_in_place(self.level, &mut next[..n], &input.data[..n]);
                            self.double(next, n);
                            std::mem::swap(&mut d, &mut next);
                        } else if want_x {
                            let dx =
                                &mut dx[(sample - task * per_task) * volume * inputs..][..volume * inputs];
                            self.convolve(&reversed[0], true, grad, dx, inputs);
                        }
                    }
                }
            });
        };
        let parameters = with_scratch(tasks * sum_len, |all: &mut [T]| {
            let dx_chunk = per_task * volume * inputs;
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
            want_parameters.then(|| self.collect(&sums, all, sum_len))
        });
        // SAFETY: with `want_x` the tasks cover all samples and write each input gradient; otherwise the length is zero.
        unsafe { dx.set_len(dx_len) };
        Gradients { x: want_x.then_some(dx), parameters }
    }

    /// Whether samples must be copied before use: to be doubled, or to be padded up to `reads`.
    fn stages_input<T: Real>(&self, reads: usize) -> bool {
        self.stencil.is_signed() || reads > self.channels[0]
    }

    fn buffer_len<T: Real>(&self, staged: bool, backward: bool) -> usize {
        let rows = self.stencil.rows();
        let len = |c: usize| whole_lines::<T>(rows * self.level.pad::<T>(c));
        let hidden: usize = self.channels[1..self.layers()].iter().map(|&c| len(c)).sum();
        let gradients = if backward { 2 * self.widest::<T>() } else { 0 };
        hidden + gradients + if staged { len(self.channels[0]) } else { 0 }
    }

    fn widest<T: Real>(&self) -> usize {
        let widest = self.channels[1..].iter().copied().max().unwrap_or(0);
        whole_lines::<T>(self.stencil.rows() * self.level.pad::<T>(widest))
    }

    /// The staging buffer (empty when not needed) and one buffer a hidden layer.
    fn carve<'s, T: Real>(&self, staged: bool, scratch: &mut &'s mut [T]) -> (&'s mut [T], Vec<&'s mut [T]>) {
        let rows = self.stencil.rows();
        let stage = take(scratch, if staged { rows * self.level.pad::<T>(self.channels[0]) } else { 0 });
        let hidden =
            self.channels[1..self.layers()].iter().map(|&c| take(scratch, rows * self.level.pad::<T>(c)));
        (stage, hidden.collect())
    }

    fn carve_gradients<'s, T: Real>(&self, scratch: &mut &'s mut [T]) -> (&'s mut [T], &'s mut [T]) {
        let widest = self.widest::<T>();
        (take(scratch, widest), take(scratch, widest))
    }

    fn padded_rows<'s, T: Real>(&self, channels: usize, buffer: &'s [T]) -> Rows<'s, T> {
        let stride = self.level.pad::<T>(channels);
        Rows { data: &buffer[..self.stencil.rows() * stride], stride }
    }

    fn input_of<'s, T: Real>(&self, layer: usize, x: Rows<'s, T>, hidden: &'s [&mut [T]]) -> Rows<'s, T> {
        if layer == 0 { x } else { self.padded_rows(self.channels[layer], hidden[layer - 1]) }
    }

    /// The sample itself, or its padded and doubled copy in `stage` when there is one.
    fn stage_input<'s, T: Real>(&self, x: &'s [T], stage: &'s mut [T]) -> Rows<'s, T> {
        let channels = self.channels[0];
        if stage.is_empty() {
            return Rows { data: x, stride: channels };
        }
        let stride = pad_rows(self.level, channels, x, stage);
        self.double(stage, self.stencil.volume() * stride);
        Rows { data: stage, stride }
    }

    /// The gradient before the last activation, padded and doubled, in `d`; `y` is padded into `space`.
    fn stage_gradient<T: Real>(&self, grad: &[T], y: &[T], d: &mut [T], space: &mut [T]) {
        let channels = self.channels[self.layers()];
        let n = self.stencil.volume() * pad_rows(self.level, channels, grad, d);
        if self.last != Activation::Identity {
            pad_rows(self.level, channels, y, space);
            self.last.backward_in_place(self.level, &mut d[..n], &space[..n]);
        }
        self.double(d, n);
    }

    /// Puts −x behind the `n` elements of x when the stencil has signs.
    fn double<T: Real>(&self, buffer: &mut [T], n: usize) {
        if self.stencil.is_signed() {
            let (x, negative) = buffer.split_at_mut(n);
            for (negative, x) in negative[..n].iter_mut().zip(x) {
                *negative = -*x;
            }
        }
    }

    fn hidden_layers<T: Real>(&self, packed: &[Packed<T>], x: Rows<'_, T>, hidden: &mut [&mut [T]]) {
        for (l, packed) in packed[..hidden.len()].iter().enumerate() {
            let (before, rest) = hidden.split_at_mut(l);
            let stride = self.level.pad::<T>(self.channels[l + 1]);
            let n = self.stencil.volume() * stride;
            let input = self.input_of(l, x, before);
            self.convolve(packed, false, input, uninitialised(&mut rest[0][..n]), stride);
            self.hidden.apply_in_place(self.level, &mut rest[0][..n]);
            self.double(rest[0], n);
        }
    }

    fn convolve<T: Real>(
        &self,
        packed: &Packed<T>,
        inverse: bool,
        input: Rows<'_, T>,
        out: &mut [MaybeUninit<T>],
        out_stride: usize,
    ) {
        let table = if inverse { self.stencil.inverse() } else { self.stencil.forward() };
        dispatch(
            self.level,
            Convolve { packed, table, x: input.data, x_stride: input.stride, out, out_stride },
        );
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

/// The view kernels write through; they only ever write initialised elements into it.
fn uninitialised<T: Real>(x: &mut [T]) -> &mut [MaybeUninit<T>] {
    // SAFETY: same layout, and the only callee, `Convolve`, writes whole elements.
    unsafe { &mut *(std::ptr::from_mut(x) as *mut [MaybeUninit<T>]) }
}

/// # Safety
/// Every element of `x` has been written.
unsafe fn initialised<T: Real>(x: &mut [MaybeUninit<T>]) -> &mut [T] {
    // SAFETY: same layout, initialised by the caller's promise.
    unsafe { &mut *(std::ptr::from_mut(x) as *mut [T]) }
}

#[cfg(test)]
mod tests {
    use super::{Chain, Parameters, Values};
    use crate::activation::{Activation, Real};
    use crate::conv::simd::Level;
    use crate::stencil::Stencil;

    /// Every result of one network, in numbers that are exact in binary so that no order of summation rounds.
    fn results<T: Real>(level: Level, channels: &[usize]) -> Vec<T> {
        let volume = 7;
        let neighbours =
            [0, 1, 6].iter().flat_map(|d| (0..volume as u32).map(move |s| (s + d) % 7)).collect();
        let signs = (0..3 * volume).map(|i| if i % 5 == 0 { -1 } else { 1 }).collect();
        let stencil = Stencil::new(volume, neighbours, Some(signs)).unwrap();
        let number = |i: usize| T::from_f64(((i * 7 + 3) % 5) as f64 - 2.0);
        let weights: Vec<Vec<T>> =
            channels.windows(2).map(|c| (0..3 * c[0] * c[1]).map(|i| number(i * i + 1)).collect()).collect();
        let biases: Vec<Vec<T>> = channels[1..].iter().map(|&c| (0..c).map(number).collect()).collect();
        let parameters: Vec<_> =
            weights.iter().zip(&biases).map(|(weight, bias)| Parameters { weight, bias }).collect();
        let batch = 3;
        let x: Vec<T> = (0..batch * volume * channels[0]).map(number).collect();
        let hidden = Activation::LeakyRelu(0.5);
        let chain = Chain { stencil: &stencil, channels, hidden, last: Activation::Identity, level };
        let y = chain.forward(&x, &parameters, batch);
        let grad: Vec<T> = (0..y.len()).map(|i| number(3 * i)).collect();
        let values = Values { x: &x, y: &y, grad: &grad };
        let gradients = chain.backward(values, &parameters, batch, true, true);
        [y, gradients.x.unwrap(), gradients.parameters.unwrap()].concat()
    }

    #[test]
    fn every_instruction_set_gives_the_same_network() {
        for channels in [&[1, 16, 2][..], &[3, 33, 1], &[20, 5], &[2, 70, 9, 1]] {
            let all: Vec<_> =
                Level::available().iter().map(|&level| results::<f64>(level, channels)).collect();
            assert!(all.iter().all(|r| *r == all[0]), "{channels:?} in f64");
            let all: Vec<_> =
                Level::available().iter().map(|&level| results::<f32>(level, channels)).collect();
            assert!(all.iter().all(|r| *r == all[0]), "{channels:?} in f32");
        }
    }
}
