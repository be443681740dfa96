//! From batch-first tensors to lanes and back.

use super::LaneLattice;
use crate::conv::scratch::Aligned;
use crate::conv::simd::Element;
use candle_core::Result;
use rayon::prelude::*;

/// Where the components of a site lie in a batch-first tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldShape {
    /// Elements of one configuration.
    pub(crate) configuration: usize,
    /// Elements from one site to the next.
    pub(crate) stride: usize,
    /// Offset of each component of a site, in the order in which lanes hold them.
    pub(crate) offsets: Vec<usize>,
    /// Position of each lattice site along the site axis, `None` where the field has no such site; empty: all sites in order.
    pub(crate) positions: Vec<Option<u32>>,
}

impl FieldShape {
    /// Fields `[B, d, V, M]`, such as links with M = 2N²: components in the order (direction, element).
    pub(crate) fn directions(directions: usize, volume: usize, elements: usize) -> Self {
        let offsets =
            (0..directions * elements).map(|c| c / elements * volume * elements + c % elements).collect();
        let configuration = directions * volume * elements;
        Self { configuration, stride: elements, offsets, positions: Vec::new() }
    }

    #[cfg(test)]
    /// Fields `[B, 2, sites · M]` (re, im), such as Wilson vectors with M = 12: components in the order (element, re/im).
    pub(crate) fn complex(sites: usize, elements: usize) -> Self {
        let offsets = (0..2 * elements).map(|c| c % 2 * sites * elements + c / 2).collect();
        let configuration = 2 * sites * elements;
        Self { configuration, stride: elements, offsets, positions: Vec::new() }
    }

    #[cfg(test)]
    /// The same for a field on some sites only.
    #[must_use]
    pub(crate) fn on(mut self, positions: Vec<Option<u32>>) -> Self {
        self.positions = positions;
        self
    }

    fn position(&self, site: usize) -> Option<usize> {
        match self.positions.get(site) {
            None => Some(site),
            Some(position) => position.map(|p| p as usize),
        }
    }

    fn check(&self, lattice: &LaneLattice, elements: usize) -> Result<()> {
        let expected = lattice.batch() * self.configuration;
        if elements != expected || ![0, lattice.volume()].contains(&self.positions.len()) {
            candle_core::bail!(
                "lanes: expected {expected} elements for {} configurations on {:?}, got {elements}",
                lattice.batch(),
                lattice.dims()
            );
        }
        Ok(())
    }
}

/// A field in lanes: `[block][site of the node][component][lane]`, aligned to cache lines. Idle lanes repeat the last
/// configuration, so that whatever is computed with them is as well-behaved as the rest.
pub(crate) struct LaneField<T> {
    data: Aligned<T>,
    components: usize,
}

impl<T: Element> LaneField<T> {
    /// All zero.
    pub(crate) fn zeros(lattice: &LaneLattice, components: usize) -> Self {
        let len = lattice.blocks() * lattice.node_volume() * components * lattice.lanes();
        Self { data: Aligned::zeros(len), components }
    }

    /// The field of a batch-first slice.
    ///
    /// # Errors
    /// When it has another number of elements.
    pub(crate) fn pack(lattice: &LaneLattice, shape: &FieldShape, source: &[T]) -> Result<Self> {
        shape.check(lattice, source.len())?;
        let (components, lanes) = (shape.offsets.len(), lattice.lanes());
        let mut field = Self::zeros(lattice, components);
        let block_len = lattice.node_volume() * components * lanes;
        field.data.as_mut_slice().par_chunks_exact_mut(block_len).enumerate().for_each(|(block, out)| {
            let last = |lane: usize| (lattice.batch() - 1, lane % lattice.nodes());
            let owners: Vec<(usize, usize)> =
                (0..lanes).map(|lane| lattice.lane(block, lane).unwrap_or(last(lane))).collect();
            // Site by site: the lines of a site stay in the cache until all lanes have written to them.
            for (site, out) in out.chunks_exact_mut(components * lanes).enumerate() {
                for (lane, &(configuration, node)) in owners.iter().enumerate() {
                    if let Some(position) = shape.position(lattice.lattice_site(site, node)) {
                        let source = &source[configuration * shape.configuration + position * shape.stride..];
                        for (out, offset) in out[lane..].iter_mut().step_by(lanes).zip(&shape.offsets) {
                            *out = source[*offset];
                        }
                    }
                }
            }
        });
        Ok(field)
    }

    /// Back to a batch-first slice; sites that the shape does not have are left out.
    ///
    /// # Errors
    /// When the slice has another number of elements.
    pub(crate) fn unpack(&self, lattice: &LaneLattice, shape: &FieldShape, target: &mut [T]) -> Result<()> {
        shape.check(lattice, target.len())?;
        let (components, lanes) = (self.components, lattice.lanes());
        let block_len = lattice.node_volume() * components * lanes;
        target.par_chunks_exact_mut(shape.configuration).enumerate().for_each(|(configuration, target)| {
            let (block, first) = (
                configuration / lattice.configurations(),
                configuration % lattice.configurations() * lattice.nodes(),
            );
            let data = &self.data.as_slice()[block * block_len..][..block_len];
            for node in 0..lattice.nodes() {
                for (site, data) in data.chunks_exact(components * lanes).enumerate() {
                    if let Some(position) = shape.position(lattice.lattice_site(site, node)) {
                        let target = &mut target[position * shape.stride..];
                        for (value, offset) in data[first + node..].iter().step_by(lanes).zip(&shape.offsets)
                        {
                            target[*offset] = *value;
                        }
                    }
                }
            }
        });
        Ok(())
    }

    /// Components of a site.
    pub(crate) fn components(&self) -> usize {
        self.components
    }

    /// Everything.
    pub(crate) fn as_slice(&self) -> &[T] {
        self.data.as_slice()
    }

    /// Everything.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        self.data.as_mut_slice()
    }
}
