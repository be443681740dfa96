//! Checkers that return a defect as a number, so that tests choose the tolerance.

use crate::{Boundary, Lattice, Result};
use candle_core::Tensor;

/// max |a − b| over all elements.
///
/// # Errors
/// When the shapes differ.
pub fn max_difference(a: &Tensor, b: &Tensor) -> Result<f64> {
    Ok((a - b)?.abs()?.flatten_all()?.max(0)?.to_dtype(candle_core::DType::F64)?.to_scalar::<f64>()?)
}

/// max |f(T x) − T f(x)| for a translation T: zero for an equivariant map of a scalar field.
///
/// # Errors
/// When the map fails.
pub fn equivariance_defect(
    lattice: &Lattice,
    map: impl Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
    displacement: &[isize],
    boundary: Boundary,
) -> Result<f64> {
    let moved_first = map(&lattice.translate(x, displacement, boundary)?)?;
    let moved_last = lattice.translate(&map(x)?, displacement, boundary)?;
    max_difference(&moved_first, &moved_last)
}
