//! Lattice fields with numbers side by side: what kernels for links and spinors work on.
//!
//! ```text
//! tensor, batch first:   [configuration][site][component]
//! lanes:                 [block][site of a node][component][lane]        lane = (configuration of the block, node)
//! ```
//!
//! A lane is a configuration, or one *node* of a configuration: one of the 2ᵏ sub-lattices that halving k directions makes.
//! Small lattices in batches use one lane a configuration, a single large lattice fills all lanes itself, and whatever lies
//! between is a mixture. In both cases neighbours of one site of the node are neighbours in every lane at once; only where a
//! step leaves a node, the lanes of a configuration change places in pairs: lane l reads lane l ^ m, m one bit a direction.
//! Halved extents stay even, so that a site has the same parity in every lane.

mod geometry;
mod pack;
#[cfg(test)]
mod tests;

pub(crate) use geometry::LaneLattice;
pub(crate) use pack::{FieldShape, LaneField};

use crate::conv::simd::Element;

/// Bytes of the numbers that lie side by side.
const LINE: usize = 64;

/// Lanes of a block: 8 in double, 16 in single precision.
pub(crate) fn lanes_of<T>() -> usize {
    LINE / size_of::<T>()
}

/// `to[l]` ← `from[l ^ mask]` in every line: what a step across the border of a node does. Slices of whole lines of
/// [`lanes_of`] numbers each, mask zero or a power of two.
#[inline(always)]
pub(crate) fn exchange<T: Element>(from: &[T], to: &mut [T], mask: usize) {
    // A constant mask is one shuffle of registers.
    match mask {
        0 => to.copy_from_slice(from),
        1 => exchange_in::<T, 8>(from, to, 1),
        2 => exchange_in::<T, 8>(from, to, 2),
        4 => exchange_in::<T, 8>(from, to, 4),
        _ => exchange_in::<T, 16>(from, to, 8),
    }
}

#[inline(always)]
fn exchange_in<T: Element, const N: usize>(from: &[T], to: &mut [T], mask: usize) {
    let (from, to) = (from.as_chunks::<N>().0, to.as_chunks_mut::<N>().0);
    for (from, to) in from.iter().zip(to) {
        *to = std::array::from_fn(|l| from[l ^ mask]);
    }
}
