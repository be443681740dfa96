//! Checkers that return a defect as a number, so that tests choose the tolerance.

use crate::{Bijection, Result};
use candle_core::{Device, Tensor, Var};
use latflow_fermion::log_abs_det;
use latflow_lattice::check::max_difference;

/// A field whose numbers can be listed in rows, one row a configuration.
pub trait Coordinates: Sized {
    /// All numbers of each configuration, `[B, n]`.
    ///
    /// # Errors
    /// When the field has no batch axis.
    fn to_rows(&self) -> Result<Tensor>;

    /// A field of the shape of `self` with the given numbers.
    ///
    /// # Errors
    /// When their number does not fit.
    fn with_rows(&self, rows: &Tensor) -> Result<Self>;
}

impl Coordinates for Tensor {
    fn to_rows(&self) -> Result<Tensor> {
        Ok(self.flatten_from(1)?)
    }

    fn with_rows(&self, rows: &Tensor) -> Result<Self> {
        Ok(rows.reshape(self.shape())?)
    }
}

impl<A: Coordinates, B: Coordinates> Coordinates for (A, B) {
    fn to_rows(&self) -> Result<Tensor> {
        Ok(Tensor::cat(&[self.0.to_rows()?, self.1.to_rows()?], 1)?)
    }

    fn with_rows(&self, rows: &Tensor) -> Result<Self> {
        let (first, all) = (self.0.to_rows()?.dim(1)?, rows.dim(1)?);
        let second = rows.narrow(1, first, all - first)?;
        Ok((self.0.with_rows(&rows.narrow(1, 0, first)?)?, self.1.with_rows(&second)?))
    }
}

/// max |f⁻¹(f(z)) − z| and max |log det f + log det f⁻¹|.
///
/// # Errors
/// When the layer fails.
pub fn round_trip_defect<X: Coordinates, C>(
    layer: &dyn Bijection<X, C>,
    z: &X,
    condition: &C,
) -> Result<f64> {
    let (x, forward) = layer.forward(z, condition)?;
    let (back, inverse) = layer.inverse(&x, condition)?;
    let moved = max_difference(&back.to_rows()?, &z.to_rows()?)?;
    Ok(moved.max(max_difference(&forward, &inverse.neg()?)?))
}

/// max_b |log det reported − log |det ∂x/∂z|| against the dense Jacobian by automatic differentiation, of `forward` and of
/// `inverse`.
///
/// # Errors
/// When the layer fails.
pub fn log_det_defect<X: Coordinates, C>(layer: &dyn Bijection<X, C>, z: &X, condition: &C) -> Result<f64> {
    let (x, _) = layer.forward(z, condition)?;
    let forward = dense_defect(z, |z| layer.forward(z, condition))?;
    let inverse = dense_defect(&x.with_rows(&x.to_rows()?.detach())?, |x| layer.inverse(x, condition))?;
    Ok(forward.max(inverse))
}

fn dense_defect<X: Coordinates>(z: &X, map: impl Fn(&X) -> Result<(X, Tensor)>) -> Result<f64> {
    let rows = z.to_rows()?;
    let (batch, volume) = rows.dims2()?;
    let var = Var::from_tensor(&rows)?;
    let (x, reported) = map(&z.with_rows(var.as_tensor())?)?;
    let x = x.to_rows()?;
    let mut rows = Vec::with_capacity(volume);
    for coordinate in 0..volume {
        // Configurations do not mix, so that the gradient of the batch sum is one row of every Jacobian.
        let gradients = x.narrow(1, coordinate, 1)?.sum_all()?.backward()?;
        rows.push(match gradients.get(&var) {
            Some(row) => row.detach(),
            None => Tensor::zeros((batch, volume), x.dtype(), &Device::Cpu)?,
        });
    }
    let dense = log_abs_det(&Tensor::stack(&rows, 1)?).map_err(latflow_action::Error::from)?;
    Ok(max_difference(&dense, &reported)?)
}

/// max |f(T z | T c) − T f(z | c)| and the change of the log-determinant, for a symmetry T of field and condition.
///
/// # Errors
/// When the layer fails.
pub fn symmetry_defect<X: Coordinates, C>(
    layer: &dyn Bijection<X, C>,
    z: &X,
    condition: &C,
    transform: impl Fn(&X) -> Result<X>,
    transform_condition: impl Fn(&C) -> Result<C>,
) -> Result<f64> {
    let (x, log_det) = layer.forward(z, condition)?;
    let (moved, log_det_moved) = layer.forward(&transform(z)?, &transform_condition(condition)?)?;
    let defect = max_difference(&moved.to_rows()?, &transform(&x)?.to_rows()?)?;
    Ok(defect.max(max_difference(&log_det, &log_det_moved)?))
}
