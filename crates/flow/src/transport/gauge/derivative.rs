//! Derivatives of the velocity of loop features, for trajectories through the flow and for training.
//!
//! ```text
//! v^a = ∂^aF, F = Σ_i c_i F_i,   D = Σ_i c_i ΔF_i = Σ_i c̃_i F_i + constant;     of g·v + h D:
//! ∂^a in the links:     Σ_b g^b ∂^a∂^bF + h ∂^a Σ_i c̃_i F_i,       ∂^a∂^bF = ∂^b∂^aF + f^{abc} ∂^cF on one link
//! ∂/∂c_i:               dF_i along g + h ΔF_i
//! ```
//!
//! The order of two derivatives on a link matters; the kernel differentiates v along g, which is the other order.

use super::LoopBasis;
use crate::value_op::value_is_the_third_argument;
use crate::{Error, Result};
use candle_core::{CustomOp3, D, Tensor};
use latflow_lattice::gauge::{algebra_element, matrix};

/// (links, c, [v, D] `[B, d V 8 + 1]`) → [v, D] with derivatives in links and c.
pub(super) struct Derivative {
    pub(super) basis: LoopBasis,
}

impl CustomOp3 for Derivative {
    value_is_the_third_argument!("loop-velocity");

    fn bwd(
        &self,
        links: &Tensor,
        c: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let wrap = |error: Error| candle_core::Error::wrap(error);
        let (links, c, gradient) = (links.detach(), c.detach(), gradient.detach());
        let in_links = self.in_links(&links, &c, &gradient).map_err(wrap)?;
        let in_c = self.in_coefficients(&links, &gradient).map_err(wrap)?;
        Ok((Some(in_links), Some(in_c), None))
    }
}

impl Derivative {
    /// g and h.
    fn parts(links: &Tensor, gradient: &Tensor) -> Result<(Tensor, Tensor)> {
        let numbers = gradient.dims()[1] - 1;
        let mut shape = links.dims()[..3].to_vec();
        shape.push(numbers / (shape[1] * shape[2]));
        Ok((gradient.narrow(1, 0, numbers)?.contiguous()?.reshape(shape)?, gradient.narrow(1, numbers, 1)?))
    }

    fn in_links(&self, links: &Tensor, c: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let features = &self.basis.features;
        let (g, h) = Self::parts(links, gradient)?;
        let numbers = c.to_vec1::<f64>()?;
        let turned = features.gradient_derivative(links, &numbers, &g)?.1;
        let velocity = features.gradient(links, &numbers)?.1;
        let laplacian = c.unsqueeze(0)?.matmul(&self.basis.laplacian.t()?.contiguous()?)?.squeeze(0)?;
        let divergence = features.gradient(links, &laplacian.to_vec1::<f64>()?)?.1;
        let h = h.unsqueeze(2)?.unsqueeze(3)?;
        let slope = ((turned + cross(&g, &velocity)?)? + divergence.broadcast_mul(&h)?)?;
        // As a gradient in matrix elements: G with Re tr G† iω^aT^aU = ω^a slope^a.
        let n = links.dims()[3];
        Ok((matrix::product(&algebra_element(&slope, n)?, links)? * 2.0)?)
    }

    fn in_coefficients(&self, links: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let (g, h) = Self::parts(links, gradient)?;
        let along = self.basis.features.derivatives(links, &g)?;
        let laplacians = self.basis.divergences(&self.basis.features.values(links)?)?;
        Ok((along + laplacians.broadcast_mul(&h)?)?.sum(0)?)
    }
}

/// f^{abc} g^b v^c of components `[…, 8]`: [iv, ig] = i f^{abc} g^b v^c T^a for g = g^bT^b and v = v^cT^c.
fn cross(g: &Tensor, v: &Tensor) -> Result<Tensor> {
    let n = 3;
    let (x, y) = (algebra_element(g, n)?, algebra_element(v, n)?);
    let commutator = (matrix::product(&y, &x)? - matrix::product(&x, &y)?)?;
    // The component of X is 2 Re tr (iT^a)† X.
    let basis = algebra_element(&Tensor::eye(8, g.dtype(), g.device())?, n)?.flatten_from(1)?;
    let flat = commutator.flatten_from(D::Minus(3))?;
    let shape = g.shape().clone();
    let rows = flat.reshape(((), basis.dims()[1]))?.matmul(&basis.t()?.contiguous()?)?;
    Ok((rows * 2.0)?.reshape(shape)?)
}
