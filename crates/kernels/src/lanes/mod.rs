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

/// `line[l]` ← `line[l ^ mask]`: what a step across the border of a node does. A line holds [`lanes_of`] numbers.
#[inline(always)]
pub(crate) fn exchange<T: Element>(from: &[T], to: &mut [T], mask: usize) {
    for (l, to) in to.iter_mut().enumerate() {
        *to = from[l ^ mask];
    }
}
