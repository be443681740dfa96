//! One layer of one block.

use super::lines::{Stride, exchanged, mix, rotate, spinor, transport};
use super::{TERMS, TransportLayer};
use crate::conv::simd::{Element, Task, Vector};
use crate::lanes::lanes_of;
use crate::wilson::geometry::{Geometry, Sites};
use crate::wilson::kernel::LINK;

/// The numbers of a block in the batch-first tensor, and the lattice.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) geometry: &'a Geometry,
    /// (configuration, node) of each lane; idle lanes repeat the last configuration.
    pub(super) owners: &'a [(usize, usize)],
    /// Numbers a site of the whole network.
    pub(super) total: usize,
    pub(super) layer: TransportLayer,
}

impl Place<'_> {
    /// Where the layer's numbers of a site of the node begin, for one lane.
    fn row(&self, site: usize, (configuration, node): (usize, usize)) -> usize {
        let lattice = &self.geometry.lattice;
        (configuration * lattice.volume() + lattice.lattice_site(site, node)) * self.total + self.layer.start
    }

    /// The layer's numbers of a site, in lines.
    #[inline(always)]
    pub(super) fn read<T: Element>(&self, site: usize, numbers: &[T], lines: &mut [T]) {
        let (line, count) = (lanes_of::<T>(), self.layer.count());
        for (lane, &owner) in self.owners.iter().enumerate() {
            let row = &numbers[self.row(site, owner)..][..count];
            for (to, from) in lines[lane..].iter_mut().step_by(line).zip(row) {
                *to = *from;
            }
        }
    }

    /// The opposite, for the first `lanes` lanes; `first` is the block's first configuration, where `numbers` begin.
    #[inline(always)]
    pub(super) fn write<T: Element>(
        &self,
        site: usize,
        lines: &[T],
        (first, lanes): (usize, usize),
        numbers: &mut [T],
    ) {
        let (line, count) = (lanes_of::<T>(), self.layer.count());
        for (lane, &(configuration, node)) in self.owners.iter().enumerate().take(lanes) {
            let row = &mut numbers[self.row(site, (configuration - first, node))..][..count];
            for (to, from) in row.iter_mut().zip(lines[lane..].iter().step_by(line)) {
                *to = *from;
            }
        }
    }

    /// Working memory of [`Forward`].
    pub(super) fn forward_room<T: Element>(&self) -> usize {
        (self.layer.count() + LINK) * lanes_of::<T>() + 3 * self.layer.inputs * spinor::<T>()
    }

    /// Rows are outputs, columns inputs.
    pub(super) fn stride(&self) -> Stride {
        Stride { row: TERMS * self.layer.inputs, column: 1 }
    }
}

/// out ← the layer of `source`, on all sites of a block.
pub(super) struct Forward<'a, T> {
    pub(super) place: Place<'a>,
    pub(super) links: &'a [T],
    /// Of the whole batch, `[B, V, n]`.
    pub(super) numbers: &'a [T],
    pub(super) source: &'a [T],
    pub(super) out: &'a mut [T],
    /// [`Place::forward_room`] elements of working memory.
    pub(super) room: &'a mut [T],
}

impl<T: Element> Task<T> for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(self) {
        let (line, spinor, place) = (lanes_of::<T>(), spinor::<T>(), self.place);
        let TransportLayer { inputs, outputs, .. } = place.layer;
        let (from, to) = (inputs * spinor, outputs * spinor);
        let table = place.geometry.table(Sites::All);
        // Not in a closure: those are compiled for other instruction sets than the function they are in.
        let (numbers, room) = self.room.split_at_mut(place.layer.count() * line);
        let (terms, room) = room.split_at_mut(2 * from);
        let (moved, link_room) = room.split_at_mut(from);
        let sites = table.taps.iter().zip(&table.sites).zip(self.out.chunks_exact_mut(to));
        for (at, ((taps, &site), out)) in sites.enumerate() {
            place.read(site as usize, self.numbers, numbers);
            out.fill(T::default());
            // One call of `mix` for the site itself and its neighbours: calls are compiled in place.
            for step in 0..=taps.len() {
                let terms = match step.checked_sub(1) {
                    None => &self.source[at * from..][..from],
                    Some(tap) => {
                        let t = &taps[tap];
                        let source = &self.source[t.source as usize * from..][..from];
                        let source = exchanged(source, t.mask, moved);
                        let link = &self.links[t.link as usize * LINK * line..][..LINK * line];
                        let backwards = tap >= 4;
                        let link = exchanged(link, if backwards { t.mask } else { 0 }, link_room);
                        let (plain, rotated) = terms.split_at_mut(from);
                        // SAFETY: the instructions exist, by the caller's promise.
                        unsafe { transport::<X>(link, backwards, source, plain) };
                        rotate(tap % 4, plain, rotated);
                        &*terms
                    }
                };
                let numbers = &numbers[place.layer.term(step) * line..];
                // SAFETY: as above.
                unsafe { mix::<X>(numbers, place.stride(), terms, out) };
            }
        }
    }
}
