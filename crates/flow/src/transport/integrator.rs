//! A fourth-order step on any manifold: classical Runge–Kutta where the manifold is flat.
//!
//! ```text
//! k_1 = v(x),  k_2 = v(e^{h k_1/2} x),  k_3 = v(e^{h k_2/2} x),  k_4 = v(e^{h k_3 − h k_1/2} e^{h k_1/2} x)
//! x′ = exp(h (−k_1 + 2k_2 + 2k_3 + 3k_4)/12) exp(h (3k_1 + 2k_2 + 2k_3 − k_4)/12) x
//! log |det ∂x′/∂x| = h (d_1 + 2d_2 + 2d_3 + d_4)/6,   d_i = ∇·v at the same points
//! ```
//!
//! Two exponentials in the last line take the place of commutators. The log-determinant is a quadrature: it belongs to the
//! map x → x′ up to the order of the method, not to rounding.

use crate::Result;
use candle_core::Tensor;
use latflow_lattice::Manifold;

/// One step of size h (negative: backwards) from time t along `velocity(x, t)` = (v, ∇·v): the new x and log |det ∂x′/∂x|.
///
/// # Errors
/// When the velocity fails.
pub fn step<X: Manifold>(
    velocity: &mut impl FnMut(&X, f64) -> Result<(Tensor, Tensor)>,
    x: &X,
    t: f64,
    h: f64,
) -> Result<(X, Tensor)> {
    let (k1, d1) = velocity(x, t)?;
    let half = x.exp(&(&k1 * (0.5 * h))?)?;
    let (k2, d2) = velocity(&half, t + 0.5 * h)?;
    let (k3, d3) = velocity(&x.exp(&(&k2 * (0.5 * h))?)?, t + 0.5 * h)?;
    let (k4, d4) = velocity(&half.exp(&((&k3 - (&k1 * 0.5)?)? * h)?)?, t + h)?;
    let middle = ((k2 + k3)? * 2.0)?;
    let first = (((&k1 * 3.0)? + &middle)? - &k4)?;
    let second = ((middle + (k4 * 3.0)?)? - k1)?;
    let moved = x.exp(&(first * (h / 12.0))?)?.exp(&(second * (h / 12.0))?)?;
    let divergence = ((d1 + d4)? + ((d2 + d3)? * 2.0)?)?;
    Ok((moved, (divergence * (h / 6.0))?))
}
