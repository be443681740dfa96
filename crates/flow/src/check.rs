//! Checkers that return a defect as a number, so that tests choose the tolerance.

use crate::{Bijection, Result};
use candle_core::{Device, Tensor, Var};
use latflow_fermion::log_abs_det;
use latflow_lattice::check::max_difference;

/// max |f⁻¹(f(z)) − z| and max |log det f + log det f⁻¹|.
///
/// # Errors
/// When the layer fails.
pub fn round_trip_defect(layer: &dyn Bijection<Tensor>, z: &Tensor) -> Result<f64> {
    let (x, forward) = layer.forward(z, &())?;
    let (back, inverse) = layer.inverse(&x, &())?;
    Ok(max_difference(&back, z)?.max(max_difference(&forward, &inverse.neg()?)?))
}

/// max_b |log det reported − log |det ∂x/∂z|| against the dense Jacobian by automatic differentiation. `z`: `[B, V]`.
///
/// # Errors
/// When the layer fails.
pub fn log_det_defect(layer: &dyn Bijection<Tensor>, z: &Tensor) -> Result<f64> {
    let (batch, volume) = z.dims2()?;
    let var = Var::from_tensor(z)?;
    let (x, reported) = layer.forward(var.as_tensor(), &())?;
    let mut rows = Vec::with_capacity(volume);
    for site in 0..volume {
        // Configurations do not mix, so that the gradient of the batch sum is row `site` of every Jacobian.
        let gradients = x.narrow(1, site, 1)?.sum_all()?.backward()?;
        rows.push(match gradients.get(&var) {
            Some(row) => row.detach(),
            None => Tensor::zeros((batch, volume), z.dtype(), &Device::Cpu)?,
        });
    }
    let dense = log_abs_det(&Tensor::stack(&rows, 1)?).map_err(latflow_action::Error::from)?;
    Ok(max_difference(&dense, &reported)?)
}
