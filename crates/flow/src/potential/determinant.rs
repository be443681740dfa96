//! Determinants and inverses of a batch of dense Hessians.

use crate::{Error, Result};
use candle_core::{Device, Tensor};
use latflow_kernels::{with_matrix, with_slice};
use rayon::prelude::*;

/// log det H of symmetric matrices `[B, V, V]`; NaN where H is not finite, without disturbing the others.
pub(super) fn log_det(h: &Tensor) -> Result<Vec<f64>> {
    let n = h.dim(1)?;
    with_slice::<f64, _>(&h.to_device(&Device::Cpu)?, |h| {
        let one = |(b, h): (usize, &[f64])| {
            let determinant = with_matrix(n, |mut m| {
                // Symmetric: a row is a column.
                (0..n).for_each(|j| m.column_mut(j).copy_from_slice(&h[j * n..][..n]));
                m.decompose().determinant()
            });
            // Convex by construction, so that only rounding can take positivity away.
            if determinant.log_abs.is_nan() || determinant.log_abs == f64::INFINITY {
                Ok(f64::NAN)
            } else if determinant.sign > 0.0 {
                Ok(determinant.log_abs)
            } else {
                Err(Error::NotConvex { configuration: b })
            }
        };
        h.par_chunks_exact(n * n).enumerate().map(one).collect()
    })?
}

/// H⁻¹, `[B, V, V]`; NaN where H is singular or not finite.
pub(super) fn inverse(h: &Tensor) -> Result<Tensor> {
    let (batch, n, _) = h.dims3()?;
    let mut inverses = vec![f64::NAN; batch * n * n];
    with_slice::<f64, _>(&h.to_device(&Device::Cpu)?, |h| {
        inverses.par_chunks_exact_mut(n * n).zip(h.par_chunks_exact(n * n)).for_each(|(inverse, h)| {
            with_matrix(n, |mut m| {
                (0..n).for_each(|j| m.column_mut(j).copy_from_slice(&h[j * n..][..n]));
                if let Some(x) = m.decompose().inverse() {
                    (0..n).for_each(|j| inverse[j * n..][..n].copy_from_slice(x.column(j)));
                }
            });
        });
    })?;
    Ok(Tensor::from_vec(inverses, (batch, n, n), h.device())?)
}
