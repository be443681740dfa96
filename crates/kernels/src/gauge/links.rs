//! Links of a block of configurations, and the matrices next to a site.

use crate::conv::simd::Vector;
use crate::lanes::{LaneLattice, exchange};
use crate::unitary::{Instructions, Matrix};

/// Numbers of the matrices of a site in one direction, in lanes: two lines of 16 f32 or 8 f64 a complex number, N ≤ 3.
const LINES: usize = 18 * 16;

/// The links of one block: `[site of the node][direction][component][lane]`.
#[derive(Clone, Copy)]
pub(super) struct BlockLinks<'a, T> {
    pub(super) lattice: &'a LaneLattice,
    pub(super) data: &'a [T],
}

/// A site reached from another one by steps along the lattice.
#[derive(Clone, Copy)]
pub(super) struct Place {
    site: usize,
    /// The exchanges of lanes on the way, zero where a step stayed on the node.
    masks: [usize; 2],
}

impl Place {
    #[inline(always)]
    pub(super) fn at(site: usize) -> Self {
        Self { site, masks: [0; 2] }
    }

    /// x + μ̂.
    #[inline(always)]
    pub(super) fn forward(self, lattice: &LaneLattice, mu: usize) -> Self {
        let next = lattice.forward(self.site, mu);
        Self { site: next.site as usize, masks: [self.masks[0], next.mask as usize] }
    }

    /// x − μ̂, as a first step.
    #[inline(always)]
    pub(super) fn backward(self, lattice: &LaneLattice, mu: usize) -> Self {
        let next = lattice.backward(self.site, mu);
        Self { site: next.site as usize, masks: [next.mask as usize, 0] }
    }

    /// x − μ̂, as a second step.
    #[inline(always)]
    pub(super) fn then_backward(self, lattice: &LaneLattice, mu: usize) -> Self {
        let next = lattice.backward(self.site, mu);
        Self { site: next.site as usize, masks: [self.masks[0], next.mask as usize] }
    }
}

impl<T: crate::conv::simd::Element> BlockLinks<'_, T> {
    /// U_μ at a place, for the lanes of a register that start at `first`.
    #[inline(always)]
    pub(super) fn link<X: Vector<Item = T>, const N: usize>(
        &self,
        isa: Instructions<X>,
        place: Place,
        mu: usize,
        first: usize,
    ) -> Matrix<X, N> {
        let (lanes, d) = (self.lattice.lanes(), self.lattice.ndim());
        let size = 2 * N * N * lanes;
        let here = &self.data[(place.site * d + mu) * size..][..size];
        if place.masks == [0; 2] {
            return Matrix::load(isa, &here[first..], lanes);
        }
        let mut moved = [[T::default(); LINES]; 2];
        let [once, twice] = &mut moved;
        // A mask of zero copies.
        exchange(here, &mut once[..size], place.masks[0]);
        exchange(&once[..size], &mut twice[..size], place.masks[1]);
        Matrix::load(isa, &twice[first..size], lanes)
    }
}
