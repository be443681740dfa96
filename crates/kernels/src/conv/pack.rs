//! Weights of one convolution in the order its kernel reads them.
//!
//! *Panels*: output channels in blocks of whole registers, each `[taps · inputs][block]`, padded with zeros. *Dots*, for a few
//! outputs of many inputs, those that would leave most of a register empty: `[taps][outputs][inputs]` with padded inputs, so
//! that registers run over the inputs.

use super::scratch::Aligned;
use super::simd::{Element, Level};

pub(crate) struct Packed<T> {
    pub(crate) taps: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) lanes: usize,
    /// Registers in each panel.
    pub(crate) panels: Vec<usize>,
    /// How many outputs, the last ones, are dots.
    pub(crate) dots: usize,
    /// Panels, then dots.
    pub(crate) weights: Aligned<T>,
    /// Padded to whole registers.
    pub(crate) bias: Aligned<T>,
}

/// Registers of `total` in nearly equal shares of at most `most`.
pub(crate) fn shares(total: usize, most: usize) -> Vec<usize> {
    let n = if total == 0 { 0 } else { total.div_ceil(most) };
    (0..n).map(|i| total / n + usize::from(i < total % n)).collect()
}

/// The outputs beyond whole registers if they are cheaper with registers over the inputs: multiply-adds a site of either way,
/// plus the sums across a register that the second needs.
fn dots<T: Element>(level: Level, taps: usize, inputs: usize, outputs: usize) -> usize {
    const SUM: usize = 8;
    let (lanes, _) = level.registers::<T>();
    let rest = outputs % lanes;
    let (panel, dots) = (inputs * taps, rest * (inputs.div_ceil(lanes) * taps + SUM));
    if dots < panel { rest } else { 0 }
}

impl<T: Element> Packed<T> {
    /// `weight(t, i, o)` is the weight from input channel i to output channel o under tap t; no bias is a bias of zero.
    pub(crate) fn new(
        level: Level,
        [taps, inputs, outputs]: [usize; 3],
        weight: impl Fn(usize, usize, usize) -> T,
        bias: &[T],
    ) -> Self {
        let (lanes, registers) = level.registers::<T>();
        let mut padded_bias = Aligned::zeros(outputs.next_multiple_of(lanes));
        padded_bias.as_mut_slice()[..bias.len()].copy_from_slice(bias);
        let dots = dots::<T>(level, taps, inputs, outputs);
        let in_panels = outputs - dots;
        let panels = shares(in_panels.div_ceil(lanes), if registers >= 32 { 4 } else { 2 });
        let panel_len = taps * inputs * in_panels.next_multiple_of(lanes);
        let padded = inputs.next_multiple_of(lanes);
        let mut weights = Aligned::zeros(panel_len + taps * dots * padded);
        let (mut rest, dot_weights) = weights.as_mut_slice().split_at_mut(panel_len);
        let mut first = 0;
        for &vectors in &panels {
            let width = vectors * lanes;
            let (panel, tail) = rest.split_at_mut(taps * inputs * width);
            let last = in_panels.min(first + width);
            for (row, w) in panel.chunks_exact_mut(width).enumerate() {
                for (w, o) in w.iter_mut().zip(first..last) {
                    *w = weight(row / inputs, row % inputs, o);
                }
            }
            first += width;
            rest = tail;
        }
        for (row, w) in dot_weights.chunks_exact_mut(padded).enumerate() {
            for (i, w) in w[..inputs].iter_mut().enumerate() {
                *w = weight(row / dots, i, in_panels + row % dots);
            }
        }
        Self { taps, inputs, outputs, lanes, panels, dots, weights, bias: padded_bias }
    }

    /// Elements of an input row the kernel reads.
    pub(crate) fn reads(&self) -> usize {
        if self.dots == 0 { self.inputs } else { self.inputs.next_multiple_of(self.lanes) }
    }
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn shares_are_even_and_complete() {
        assert_eq!(shares(0, 4), [0; 0]);
        assert_eq!(shares(1, 4), [1]);
        assert_eq!(shares(4, 4), [4]);
        assert_eq!(shares(5, 4), [3, 2]);
        assert_eq!(shares(9, 4), [3, 3, 3]);
        assert_eq!(shares(4, 3), [2, 2]);
    }
}
