//! Gradients with respect to the links: outer products of projected spinors.
//!
//! ```text
//! ∂ Re⟨g, Hψ⟩ / ∂U_μ(x)_ij  =  Σ_{s<2} [ G⁻_si(x) Ψ⁻_sj(x+μ̂)*  +  Ψ⁺_si(x) G⁺_sj(x+μ̂)* ],     Ψ^∓ = (1 ∓ γ_μ)ψ,  G^∓ = (1 ∓ γ_μ)g
//! ```
//!
//! with real and imaginary parts of U as independent variables, and with the signs exchanged for H†. The first term is there if
//! g lives at x, the second if it lives at x + μ̂.

#![allow(clippy::needless_range_loop, reason = "indices of spin and colour, as in the formulas")]

use super::geometry::{Geometry, Sites};
use super::kernel::{Exchanged, LINK, SPINOR, project};
use crate::conv::simd::{Element, Task, Vector};
use crate::lanes::lanes_of;

/// The gradient of consecutive sites of the node of one block; `out`: four links a site.
pub(super) struct Outer<'a, T> {
    pub(super) geometry: &'a Geometry,
    /// Where g lives.
    pub(super) targets: Sites,
    pub(super) first: usize,
    pub(super) grad: &'a [T],
    pub(super) psi: &'a [T],
    pub(super) adjoint: bool,
    pub(super) out: &'a mut [T],
}

impl<T: Element> Task<T> for Outer<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(self) {
        let line = lanes_of::<T>();
        let (grad, psi, adjoint) = (self.grad, self.psi, self.adjoint);
        for (i, out) in self.out.chunks_exact_mut(4 * LINK * line).enumerate() {
            let mut sites =
                Pair { geometry: self.geometry, targets: self.targets, grad, psi, site: self.first + i };
            let mut links = out.chunks_exact_mut(LINK * line);
            let mut next = || links.next().unwrap_or_default();
            // SAFETY: the instructions exist, by the caller's promise.
            unsafe {
                if adjoint {
                    sites.link::<X, 0, false>(next());
                    sites.link::<X, 1, false>(next());
                    sites.link::<X, 2, false>(next());
                    sites.link::<X, 3, false>(next());
                } else {
                    sites.link::<X, 0, true>(next());
                    sites.link::<X, 1, true>(next());
                    sites.link::<X, 2, true>(next());
                    sites.link::<X, 3, true>(next());
                }
            }
        }
    }
}

struct Pair<'a, T> {
    geometry: &'a Geometry,
    targets: Sites,
    grad: &'a [T],
    psi: &'a [T],
    site: usize,
}

impl<T: Element> Pair<'_, T> {
    #[inline(always)]
    unsafe fn link<X: Vector<Item = T>, const MU: usize, const MINUS: bool>(&mut self, out: &mut [T]) {
        let line = lanes_of::<T>();
        let ahead = self.geometry.lattice.forward(self.site, MU);
        let spinor = |index: usize| index * SPINOR * line..(index + 1) * SPINOR * line;
        let (targets, sources) = (self.targets, self.targets.neighbours());
        let next = ahead.site as usize;
        let mut lanes = Exchanged::new();
        if let (Some(g), Some(psi)) =
            (self.geometry.index(targets, self.site), self.geometry.index(sources, next))
        {
            let psi = lanes.read(&self.psi[spinor(psi)], ahead.mask);
            // SAFETY: the instructions exist; spinors are whole lines.
            unsafe { add_outer::<X, MU, MINUS>(&self.grad[spinor(g)], psi, out) };
        }
        if let (Some(psi), Some(g)) =
            (self.geometry.index(sources, self.site), self.geometry.index(targets, next))
        {
            let g = lanes.read(&self.grad[spinor(g)], ahead.mask);
            // SAFETY: as above; the other projector belongs to the step backwards.
            unsafe {
                if MINUS {
                    add_outer::<X, MU, false>(&self.psi[spinor(psi)], g, out);
                } else {
                    add_outer::<X, MU, true>(&self.psi[spinor(psi)], g, out);
                }
            }
        }
    }
}

/// out_ij ← out_ij + Σ_s a_si b_sj* with a, b the projected spinors.
#[inline(always)]
unsafe fn add_outer<X: Vector, const MU: usize, const MINUS: bool>(
    left: &[X::Item],
    right: &[X::Item],
    out: &mut [X::Item],
) {
    let line = lanes_of::<X::Item>();
    for offset in (0..line).step_by(X::LANES) {
        // SAFETY: the instructions exist; all slices hold whole lines, and the offset leaves LANES elements of each.
        unsafe {
            let a = project::<X, MU, MINUS>(left.as_ptr().add(offset), line);
            let b = project::<X, MU, MINUS>(right.as_ptr().add(offset), line);
            for i in 0..3 {
                for j in 0..3 {
                    let p = out.as_mut_ptr().add(2 * (3 * i + j) * line + offset);
                    let (mut re, mut im) = (X::load(p), X::load(p.add(line)));
                    for s in 0..2 {
                        let ([ar, ai], [br, bi]) = (a[s][i], b[s][j]);
                        re = ar.mul_add(br, ai.mul_add(bi, re));
                        im = ai.mul_add(br, ar.neg_mul_add(bi, im));
                    }
                    re.store(p);
                    im.store(p.add(line));
                }
            }
        }
    }
}
