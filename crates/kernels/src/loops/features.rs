//! The features of one link: polynomials of its plaquettes and of pairs of its staples, and their derivatives.
//!
//! ```text
//! A_k staples (k = plane ν and side ±),  W_k = U A_k,  X_k = tr W_k;  pairs k ≠ l are planar (one plane) or bent
//! F_0 = Σ_k Re X_k            F_8 = Σ_k |X_k|²            F_6 = Σ_k Re(X_k² − X_k*)
//! R = Σ_{k≠l} Re tr A_kA_l†   XY = Σ_{k≠l} Re X_kX_l      WW = Σ_{k≠l} Re tr W_kW_l      XY* = Σ_{k≠l} Re X_kX_l*
//! ```
//!
//! Sums over pairs are differences of squares of sums, so that no loop over pairs is needed.

use super::number::{Number, Square};
use crate::unitary::Instructions;

/// Features: three of single plaquettes, and four of pairs, planar and bent.
pub(super) const COUNT: usize = 11;

/// Most staples of a link: those of four dimensions.
pub(super) const STAPLES: usize = 6;

/// Number of each feature; those of pairs are followed by their bent twins.
pub(super) mod index {
    pub(crate) const F0: usize = 0;
    pub(crate) const F8: usize = 1;
    pub(crate) const F6: usize = 2;
    pub(crate) const R: usize = 3;
    pub(crate) const XY: usize = 5;
    pub(crate) const WW: usize = 7;
    pub(crate) const XY_STAR: usize = 9;
}

/// A link with its staples: numbers 2p and 2p + 1 are the two sides of plane p.
pub(super) struct Link<Z> {
    u: Square<Z>,
    staples: usize,
    a: [Square<Z>; STAPLES],
    w: [Square<Z>; STAPLES],
    x: [Z; STAPLES],
}

/// What d Σ_i c_iF_i is: Re tr(iY · own) for dU = iY U, and Re tr(dA_k · of_staple[k]).
pub(super) struct PullBack<Z> {
    pub(super) own: Square<Z>,
    pub(super) of_staple: [Square<Z>; STAPLES],
}

impl<Z: Number> Link<Z> {
    #[inline(always)]
    pub(super) fn new(
        isa: Instructions<Z::Vector>,
        u: Square<Z>,
        staples: usize,
        a: [Square<Z>; STAPLES],
    ) -> Self {
        let (mut w, mut x) = ([Square::zero(isa); STAPLES], [Z::constant(isa, 0.0, 0.0); STAPLES]);
        for k in 0..staples {
            w[k] = u.times(isa, &a[k]);
            x[k] = w[k].trace();
        }
        Self { u, staples, a, w, x }
    }

    /// Complex numbers whose real parts are the features.
    #[inline(always)]
    pub(super) fn features(&self, isa: Instructions<Z::Vector>) -> [Z; COUNT] {
        use index::{F0, F6, F8, R, WW, XY, XY_STAR};
        let zero = Z::constant(isa, 0.0, 0.0);
        let mut f = [zero; COUNT];
        let (mut a, mut w, mut x) = (Square::zero(isa), Square::zero(isa), zero);
        // Sums over k of the square of each: what the squares of sums hold beyond the pairs.
        let mut squares = [zero; 4];
        for k in 0..self.staples {
            (a, w, x) = (a.plus(&self.a[k]), w.plus(&self.w[k]), x.plus(self.x[k]));
            let (square, modulus) =
                (self.x[k].mul_add(self.x[k], zero), self.x[k].conj_mul_add(self.x[k], zero));
            f[F0] = f[F0].plus(self.x[k]);
            f[F8] = f[F8].plus(modulus);
            f[F6] = f[F6].plus(square).plus(self.x[k].conj(isa).scaled(isa.number(-1.0)));
            squares[0] = squares[0].plus(self.a[k].trace_adjoint_times(isa, &self.a[k]));
            squares[1] = squares[1].plus(square);
            squares[2] = squares[2].plus(self.w[k].trace_times(isa, &self.w[k]));
            squares[3] = squares[3].plus(modulus);
        }
        for p in (0..self.staples).step_by(2) {
            let (k, l) = (p, p + 1);
            f[R] = f[R].plus(self.a[k].trace_adjoint_times(isa, &self.a[l]));
            f[XY] = self.x[k].mul_add(self.x[l], f[XY]);
            f[WW] = f[WW].plus(self.w[k].trace_times(isa, &self.w[l]));
            f[XY_STAR] = self.x[k].conj_mul_add(self.x[l], f[XY_STAR]);
        }
        let all = [
            a.trace_adjoint_times(isa, &a),
            x.mul_add(x, zero),
            w.trace_times(isa, &w),
            x.conj_mul_add(x, zero),
        ];
        for i in 0..4 {
            let pair = [R, XY, WW, XY_STAR][i];
            f[pair] = f[pair].scaled(isa.number(2.0));
            f[pair + 1] = all[i].plus(squares[i].plus(f[pair]).scaled(isa.number(-1.0)));
        }
        f
    }

    /// The derivative of Σ_i c_i F_i.
    #[inline(always)]
    pub(super) fn pull_back(&self, isa: Instructions<Z::Vector>, c: &[f64; COUNT]) -> PullBack<Z> {
        use index::{F0, F6, F8, R, WW, XY, XY_STAR};
        let (mut a, mut x) = (Square::zero(isa), Z::constant(isa, 0.0, 0.0));
        for k in 0..self.staples {
            (a, x) = (a.plus(&self.a[k]), x.plus(self.x[k]));
        }
        let mut back = PullBack { own: Square::zero(isa), of_staple: [Square::zero(isa); STAPLES] };
        for k in 0..self.staples {
            let partner = k ^ 1;
            // planar · partner + bent · (all − self − partner)
            let (own_x, other_x) = (self.x[k], self.x[partner]);
            let rest_x = x.plus(own_x.plus(other_x).scaled(isa.number(-1.0)));
            let rest_a = a.plus(&self.a[k].plus(&self.a[partner]).scaled(isa.number(-1.0)));
            let mut g = Z::constant(isa, c[F0] - c[F6], 0.0);
            g = g
                .plus(own_x.conj(isa).scaled(isa.number(2.0 * c[F8])))
                .plus(own_x.scaled(isa.number(2.0 * c[F6])));
            g = g
                .plus(other_x.scaled(isa.number(2.0 * c[XY])))
                .plus(rest_x.scaled(isa.number(2.0 * c[XY + 1])));
            g = g.plus(other_x.conj(isa).scaled(isa.number(2.0 * c[XY_STAR])));
            g = g.plus(rest_x.conj(isa).scaled(isa.number(2.0 * c[XY_STAR + 1])));
            let q = self.u.times(isa, &self.pairs(isa, c, WW, partner, &rest_a)).plus_diagonal(g);
            back.own = self.w[k].times_plus(&q, &back.own);
            back.of_staple[k] = q.times_plus(&self.u, &self.pairs(isa, c, R, partner, &rest_a).adjoint(isa));
        }
        back
    }

    /// 2 c_planar A_partner + 2 c_bent A_rest
    #[inline(always)]
    fn pairs(
        &self,
        isa: Instructions<Z::Vector>,
        c: &[f64; COUNT],
        pair: usize,
        partner: usize,
        rest: &Square<Z>,
    ) -> Square<Z> {
        let planar = self.a[partner].scaled(isa.number(2.0 * c[pair]));
        planar.plus(&rest.scaled(isa.number(2.0 * c[pair + 1])))
    }
}
