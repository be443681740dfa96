//! Gradients of one layer of one block.
//!
//! ```text
//! M_j(x) = Σ_i (b_ij(x) + c_ij(x) γ_μ) g_i(x)                for each of the eight steps
//! ∂a_ij = Re⟨g_i, f_j⟩,   ∂b_ij = Re⟨g_i, T f_j⟩,   ∂c_ij = Re⟨g_i, γ_μ T f_j⟩
//! ∂f_j = Σ_i a_ij g_i + Σ_steps T† M_j
//! ∂U_μ(x) = Σ_j [ M⁺_j(x) f_j(x+μ̂)† + f_j(x) M⁻_j(x+μ̂)† ]       summed over spins
//! ```

use super::TransportLayer;
use super::forward::Place;
use super::lines::{Stride, exchanged, inner, mix, outer, rotate, spinor, transport};
use crate::conv::simd::{Element, Task, Vector};
use crate::lanes::{exchange, lanes_of};
use crate::wilson::geometry::Sites;
use crate::wilson::kernel::LINK;

/// Gradients in the numbers, in the layer's input and, if wanted, in the links.
pub(super) struct Backward<'a, T> {
    pub(super) place: Place<'a>,
    pub(super) links: &'a [T],
    /// Of the whole batch, `[B, V, n]`.
    pub(super) numbers: &'a [T],
    pub(super) source: &'a [T],
    /// ∂/∂output.
    pub(super) grad: &'a [T],
    /// The block's first configuration and its lanes that are not idle.
    pub(super) own: (usize, usize),
    /// ∂/∂numbers of the block's configurations.
    pub(super) d_numbers: &'a mut [T],
    /// ∂/∂input; overwritten.
    pub(super) d_source: &'a mut [T],
    /// ∂/∂links; added to.
    pub(super) d_links: Option<&'a mut [T]>,
    /// [`Place::backward_room`] elements of working memory.
    pub(super) room: &'a mut [T],
}

impl Place<'_> {
    /// Working memory of [`Backward`].
    pub(super) fn backward_room<T: Element>(&self) -> usize {
        let TransportLayer { inputs, outputs, .. } = self.layer;
        2 * (self.layer.count() + LINK) * lanes_of::<T>() + (5 * inputs + outputs) * spinor::<T>()
    }
}

impl<T: Element> Task<T> for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(mut self) {
        let (line, spinor, place) = (lanes_of::<T>(), spinor::<T>(), self.place);
        let TransportLayer { inputs, outputs, .. } = place.layer;
        let (from, to, count) = (inputs * spinor, outputs * spinor, place.layer.count() * line);
        let (stride, transposed) =
            (place.stride(), Stride { row: place.stride().column, column: place.stride().row });
        let table = place.geometry.table(Sites::All);
        self.d_source.fill(T::default());
        // Not in a closure: those are compiled for other instruction sets than the function they are in.
        let (numbers, room) = self.room.split_at_mut(count);
        let (d_numbers, room) = room.split_at_mut(count);
        let (terms, room) = room.split_at_mut(2 * from);
        let (moved, room) = room.split_at_mut(from);
        let (m, room) = room.split_at_mut(from);
        let (back, room) = room.split_at_mut(from);
        let (rotated_grad, room) = room.split_at_mut(to);
        let (link_room, room) = room.split_at_mut(LINK * line);
        let d_link = &mut room[..LINK * line];
        for (at, (taps, &site)) in table.taps.iter().zip(&table.sites).enumerate() {
            let site = site as usize;
            place.read(site, self.numbers, numbers);
            let grad = &self.grad[at * to..][..to];
            // One call each of `inner` and `mix` for the site itself and its neighbours: calls are compiled in place.
            for step in 0..=taps.len() {
                let first = place.layer.term(step) * line;
                let backwards = step > 4;
                let hop = match step.checked_sub(1) {
                    None => None,
                    Some(tap) => {
                        let t = &taps[tap];
                        let source = &self.source[t.source as usize * from..][..from];
                        let link = &self.links[t.link as usize * LINK * line..][..LINK * line];
                        let mask = if backwards { t.mask } else { 0 };
                        Some((t, exchanged(source, t.mask, moved), exchanged(link, mask, link_room), mask))
                    }
                };
                let multiplied = match hop {
                    None => &self.source[at * from..][..from],
                    Some((_, source, link, _)) => {
                        let mu = (step - 1) % 4;
                        let (plain, rotated) = terms.split_at_mut(from);
                        // SAFETY: the instructions exist, by the caller's promise.
                        unsafe { transport::<X>(link, backwards, source, plain) };
                        rotate(mu, plain, rotated);
                        rotate(mu, grad, rotated_grad);
                        &*terms
                    }
                };
                // SAFETY: as above.
                unsafe { inner::<X>(grad, multiplied, &mut d_numbers[first..], stride) };
                m.fill(T::default());
                let structures = multiplied.len() / from;
                for (k, grad) in [grad, &*rotated_grad].into_iter().enumerate().take(structures) {
                    // SAFETY: as above.
                    unsafe { mix::<X>(&numbers[first + k * inputs * line..], transposed, grad, m) };
                }
                let Some((t, source, link, mask)) = hop else {
                    add(m, 0, &mut self.d_source[at * from..][..from], terms);
                    continue;
                };
                // SAFETY: as above.
                unsafe { transport::<X>(link, !backwards, m, back) };
                add(back, t.mask, &mut self.d_source[t.source as usize * from..][..from], terms);
                if let Some(d_links) = &mut self.d_links {
                    d_link.fill(T::default());
                    let (left, right) = if backwards { (source, &*m) } else { (&*m, source) };
                    // SAFETY: as above.
                    unsafe { outer::<X>(left, right, d_link) };
                    add(d_link, mask, &mut d_links[t.link as usize * LINK * line..][..LINK * line], terms);
                }
            }
            place.write(site, d_numbers, self.own, self.d_numbers);
        }
    }
}

/// to ← to + `lines` with lanes exchanged: back to the lanes of a neighbour. The exchange is its own inverse.
#[inline(always)]
fn add<T: Element>(lines: &[T], mask: u32, to: &mut [T], room: &mut [T]) {
    let lines = if mask == 0 {
        lines
    } else {
        let room = &mut room[..lines.len()];
        exchange(lines, room, mask as usize);
        room
    };
    for (to, x) in to.iter_mut().zip(lines) {
        *to += *x;
    }
}
