//! Weights of one convolution in the order its kernel reads them.
//!
//! *Panels*: output channels in blocks of whole registers, each `[taps · inputs][block]`, padded with zeros. *Dot*, for a few
//! outputs of many inputs: `[taps][outputs][inputs]` with padded inputs, so that registers run over the inputs.

use super::scratch::Aligned;
use super::simd::{Element, Level};

pub(crate) struct Packed<T> {
    pub(crate) taps: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) lanes: usize,
    pub(crate) kind: Kind,
    pub(crate) weights: Aligned<T>,
    /// Padded to whole registers.
    pub(crate) bias: Aligned<T>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Registers in each panel.
    Panels(Vec<usize>),
    Dot,
}

/// Registers of `total` in nearly equal shares of at most `most`.
pub(crate) fn shares(total: usize, most: usize) -> Vec<usize> {
    let n = total.div_ceil(most).max(1);
    (0..n).map(|i| total / n + usize::from(i < total % n)).collect()
}

/// Whether a convolution is cheaper with registers over its inputs: multiply-adds a site of either way, plus the sums across a
/// register that the second needs.
pub(crate) fn prefers_dot<T: Element>(level: Level, taps: usize, inputs: usize, outputs: usize) -> bool {
    const SUM: usize = 8;
    let (lanes, _) = level.registers::<T>();
    let panels = outputs.div_ceil(lanes) * inputs * taps;
    let dot = outputs * (inputs.div_ceil(lanes) * taps + SUM);
    outputs < lanes && dot < panels
}

impl<T: Element> Packed<T> {
    /// `weight(t, i, o)` is the weight from input channel i to output channel o under tap t.
    pub(crate) fn new(
        level: Level,
        [taps, inputs, outputs]: [usize; 3],
        weight: impl Fn(usize, usize, usize) -> T,
        bias: Option<&[T]>,
    ) -> Self {
        let (lanes, registers) = level.registers::<T>();
        let mut padded_bias = Aligned::zeros(outputs.next_multiple_of(lanes));
        if let Some(bias) = bias {
            padded_bias.as_mut_slice()[..outputs].copy_from_slice(bias);
        }
        let (kind, weights) = if prefers_dot::<T>(level, taps, inputs, outputs) {
            let padded = inputs.next_multiple_of(lanes);
            let mut packed = Aligned::zeros(taps * outputs * padded);
            for (row, w) in packed.as_mut_slice().chunks_exact_mut(padded).enumerate() {
                for (i, w) in w[..inputs].iter_mut().enumerate() {
                    *w = weight(row / outputs, i, row % outputs);
                }
            }
            (Kind::Dot, packed)
        } else {
            let most = if registers >= 32 { 4 } else { 2 };
            let panels = shares(outputs.div_ceil(lanes), most);
            let mut packed = Aligned::zeros(taps * inputs * outputs.next_multiple_of(lanes));
            let mut rest = packed.as_mut_slice();
            let mut first = 0;
            for &vectors in &panels {
                let width = vectors * lanes;
                let (panel, tail) = rest.split_at_mut(taps * inputs * width);
                let last = outputs.min(first + width);
                for (row, w) in panel.chunks_exact_mut(width).enumerate() {
                    for (w, o) in w.iter_mut().zip(first..last) {
                        *w = weight(row / inputs, row % inputs, o);
                    }
                }
                first += width;
                rest = tail;
            }
            (Kind::Panels(panels), packed)
        };
        Self { taps, inputs, outputs, lanes, kind, weights, bias: padded_bias }
    }

    /// Elements of an input row the kernel reads.
    pub(crate) fn reads(&self) -> usize {
        match self.kind {
            Kind::Panels(_) => self.inputs,
            Kind::Dot => self.inputs.next_multiple_of(self.lanes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn shares_are_even_and_complete() {
        assert_eq!(shares(1, 4), [1]);
        assert_eq!(shares(4, 4), [4]);
        assert_eq!(shares(5, 4), [3, 2]);
        assert_eq!(shares(9, 4), [3, 3, 3]);
        assert_eq!(shares(4, 3), [2, 2]);
    }
}
