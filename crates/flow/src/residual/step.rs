//! The step of active links: ω^a = ∂^a φ, M_ab = ∂^b∂^a φ, the determinant, and the inverse.
//!
//! ```text
//! ∂^b W = iT^bW, W = UA:     ∂^a Re tr W     = −Im tr T^aW                  ∂^b∂^a Re tr W = −Re tr T^aT^bW
//! W = US:                    ∂^a ½ Re tr W²  = −Im tr T^aW²      ∂^b: −Re tr T^aT^bW² − Re tr T^aWT^bW
//!                            ∂^a ½ (Re tr W)² = −Re tr W Im tr T^aW       ∂^b: Im tr T^aW Im tr T^bW − Re tr W Re tr T^aT^bW
//!                            ∂^a ½ (Im tr W)² =  Im tr W Re tr T^aW       ∂^b: Re tr T^aW Re tr T^bW − Im tr W Im tr T^aT^bW
//! ```

use super::algebra::{Algebra, exponential, frobenius, norm, phi_one, product};
use crate::{Error, Result};
use candle_core::{D, DType, Tensor};
use latflow_fermion::log_abs_det;
use latflow_lattice::gauge::matrix;
use latflow_lattice::{Links, Manifold};
use nalgebra::DMatrix;

/// What active links see of the others: A, and S with q where there is a quadratic part; matrices `[n, N, N, 2]`.
pub(super) struct Frozen {
    pub(super) a: Tensor,
    pub(super) quadratic: Option<(Tensor, [Tensor; 3])>,
}

/// Changes of a link at which Newton's steps take over from the contraction, iterations of both, and what must be left.
const CLOSE: f64 = 1e-3;
const CONTRACTIONS: usize = 500;
const NEWTON_STEPS: usize = 8;
const TOLERANCE: f64 = 1e-12;

/// exp(iω^aT^a) U for matrices `[n, N, N, 2]`.
pub(super) fn rotated(u: &Tensor, omega: &Tensor) -> Result<Tensor> {
    let links = Links::new(u.unsqueeze(0)?.unsqueeze(0)?)?;
    Ok(links.exp(&omega.unsqueeze(0)?.unsqueeze(0)?)?.tensor().squeeze(0)?.squeeze(0)?)
}

fn largest(x: &Tensor) -> Result<f64> {
    let values = x.detach().abs()?.flatten_all()?.to_vec1::<f64>()?;
    // f64::max drops NaN.
    Ok(values.into_iter().fold(0.0, |a, b| if b.is_nan() || b > a { b } else { a }))
}

fn largest_length(omega: &Tensor) -> Result<f64> {
    Ok(largest(&omega.detach().sqr()?.sum(D::Minus1)?)?.sqrt())
}

impl Frozen {
    /// Refuses links whose step might not be invertible.
    pub(super) fn check(&self, n: usize) -> Result<()> {
        let mut bound = (norm(&self.a.detach())? * 0.5)?;
        if let Some((s, q)) = &self.quadratic {
            let q = q.each_ref().map(|q| q.detach().to_scalar::<f64>());
            let [q1, q2, q3] = q;
            let s = s.detach();
            bound = (bound + (norm(&s)?.sqr()? * q1?.abs())?)?;
            let traces = 0.5 * ((n as f64).sqrt() + 1.0) * (q2?.abs() + q3?.abs());
            bound = (bound + (frobenius(&s)?.sqr()? * traces)?)?;
        }
        let bound = largest(&bound)?;
        match bound.partial_cmp(&1.0) {
            Some(std::cmp::Ordering::Less) => Ok(()),
            _ => Err(Error::Steep { bound }),
        }
    }

    /// ω at links U.
    fn gradient(&self, algebra: &Algebra, u: &Tensor) -> Result<Tensor> {
        let w = product(u, &self.a, false, false)?;
        let mut omega = algebra.im_component(&w)?.neg()?;
        if let Some((s, [q1, q2, q3])) = &self.quadratic {
            let w = product(u, s, false, false)?;
            let (re_trace, im_trace) = traces(&w)?;
            let first = algebra.im_component(&product(&w, &w, false, false)?)?.neg()?;
            let second = re_trace.broadcast_mul(&algebra.im_component(&w)?)?.neg()?;
            let third = im_trace.broadcast_mul(&algebra.re_component(&w)?)?;
            for (q, term) in [(q1, first), (q2, second), (q3, third)] {
                omega = (omega + term.broadcast_mul(q)?)?;
            }
        }
        Ok(omega)
    }

    /// M at links U.
    fn hessian(&self, algebra: &Algebra, u: &Tensor) -> Result<Tensor> {
        let mut m = algebra.re_pairs(&product(u, &self.a, false, false)?)?.neg()?;
        if let Some((s, [q1, q2, q3])) = &self.quadratic {
            let w = product(u, s, false, false)?;
            let (re_trace, im_trace) = traces(&w)?;
            let outer = |v: Tensor| -> Result<Tensor> { Ok(v.unsqueeze(2)?.matmul(&v.unsqueeze(1)?)?) };
            let square = algebra.re_pairs(&product(&w, &w, false, false)?)?;
            let first = (square + algebra.re_sandwiches(&w)?)?.neg()?;
            let second = algebra.re_pairs(&w)?.broadcast_mul(&re_trace.unsqueeze(2)?)?;
            let second = (outer(algebra.im_component(&w)?)? - second)?;
            let third = algebra.im_pairs(&w)?.broadcast_mul(&im_trace.unsqueeze(2)?)?;
            let third = (outer(algebra.re_component(&w)?)? - third)?;
            for (q, term) in [(q1, first), (q2, second), (q3, third)] {
                m = (m + term.broadcast_mul(q)?)?;
            }
        }
        Ok(m)
    }

    /// 1 + φ_1(−ad_Z) M = Ad(e^{−Z}) J at a step ω, with ad_Z.
    fn turned_jacobian(&self, algebra: &Algebra, u: &Tensor, omega: &Tensor) -> Result<(Tensor, Tensor)> {
        let ad = algebra.adjoint(omega)?;
        let change = phi_one(&ad, &self.hessian(algebra, u)?, largest_length(omega)?)?;
        let one = Tensor::eye(algebra.dimension, DType::F64, u.device())?;
        Ok((change.broadcast_add(&one)?, ad))
    }

    /// U′ and log |det| of every link, `[n]`.
    pub(super) fn forward(&self, algebra: &Algebra, u: &Tensor) -> Result<(Tensor, Tensor)> {
        let omega = self.gradient(algebra, u)?;
        let (jacobian, _) = self.turned_jacobian(algebra, u, &omega)?;
        let log_det = log_abs_det(&jacobian).map_err(latflow_action::Error::from)?;
        Ok((rotated(u, &omega)?, log_det))
    }

    /// U of U′, differentiable: the last Newton step carries the derivatives of the implicit function.
    pub(super) fn inverse(&self, algebra: &Algebra, moved: &Tensor) -> Result<Tensor> {
        let fixed = self.detached();
        let target = moved.detach();
        let mut u = target.clone();
        for _ in 0..CONTRACTIONS {
            let omega = fixed.gradient(algebra, &u)?;
            let next = rotated(&target, &omega.neg()?)?;
            let change = largest(&(&next - &u)?)?;
            u = next;
            if change < CLOSE {
                break;
            }
        }
        let mut residual = f64::INFINITY;
        for _ in 0..NEWTON_STEPS {
            u = fixed.newton(algebra, &u, &target, &fixed)?;
            let omega = fixed.gradient(algebra, &u)?;
            residual = largest(&(rotated(&u, &omega)? - &target)?)?;
            if residual < TOLERANCE {
                return self.newton(algebra, &u, moved, &fixed);
            }
        }
        Err(Error::LinkInversion { residual, tolerance: TOLERANCE })
    }

    fn detached(&self) -> Self {
        let quadratic = self.quadratic.as_ref().map(|(s, q)| (s.detach(), q.each_ref().map(Tensor::detach)));
        Self { a: self.a.detach(), quadratic }
    }

    /// exp(−i (J⁻¹r)^aT^a) U with f(U) = exp(i r^aT^a) U′ to first order; J without history, r with that of `self` and U′.
    fn newton(&self, algebra: &Algebra, u: &Tensor, moved: &Tensor, fixed: &Self) -> Result<Tensor> {
        let omega = self.gradient(algebra, u)?;
        let r = (algebra.im_component(&product(&rotated(u, &omega)?, moved, false, true)?)? * 2.0)?;
        let omega = omega.detach();
        let (jacobian, ad) = fixed.turned_jacobian(algebra, u, &omega)?;
        let jacobian = exponential(&ad, &jacobian, largest_length(&omega)?)?;
        let step = inverses(&jacobian)?.matmul(&r.unsqueeze(2)?)?.squeeze(2)?;
        rotated(u, &step.neg()?)
    }
}

/// Re tr W and Im tr W, `[n, 1]`.
fn traces(w: &Tensor) -> Result<(Tensor, Tensor)> {
    let trace = matrix::trace(w)?;
    Ok((trace.narrow(1, 0, 1)?, trace.narrow(1, 1, 1)?))
}

/// Matrix by matrix, without history.
fn inverses(j: &Tensor) -> Result<Tensor> {
    let d = j.dims()[1];
    let mut all = Vec::with_capacity(j.elem_count());
    for m in j.detach().flatten_all()?.to_vec1::<f64>()?.chunks_exact(d * d) {
        let inverse = DMatrix::from_column_slice(d, d, m).try_inverse();
        // Where the bound on |M| holds, J has an inverse; NaN has none.
        let inverse = inverse.ok_or(Error::LinkInversion { residual: f64::NAN, tolerance: TOLERANCE })?;
        all.extend_from_slice(inverse.as_slice());
    }
    Ok(Tensor::from_vec(all, j.shape(), j.device())?)
}
