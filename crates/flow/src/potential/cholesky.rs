//! Cholesky decompositions of a batch: H = L Lᵀ, log det H = 2 Σ log L_ii, H⁻¹ = L⁻ᵀ L⁻¹.

use crate::{Error, Result};
use candle_core::{Device, Tensor};
use latflow_kernels::with_slice;
use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut};
use rayon::prelude::*;

/// The lower triangles L of a batch; none for a matrix that is not finite.
pub(super) struct Cholesky(Vec<Option<DMatrix<f64>>>);

impl Cholesky {
    /// Decomposes symmetric matrices `[B, V, V]`, the first of which belongs to configuration `start`. A matrix that is not finite
    /// does not disturb the others.
    pub(super) fn new(h: &Tensor, start: usize) -> Result<Self> {
        let n = h.dim(1)?;
        let all: Vec<Result<Option<DMatrix<f64>>>> =
            with_slice::<f64, _>(&h.to_device(&Device::Cpu)?, |h| {
                h.par_chunks_exact(n * n)
                    .enumerate()
                    .map(|(configuration, h)| {
                        if !h.iter().all(|h| h.is_finite()) {
                            return Ok(None);
                        }
                        // Symmetric: row-major is column-major.
                        let cholesky = nalgebra::Cholesky::new(DMatrix::from_column_slice(n, n, h));
                        Ok(Some(
                            cholesky
                                .ok_or(Error::NotConvex { configuration: start + configuration })?
                                .unpack(),
                        ))
                    })
                    .collect()
            })?;
        Ok(Self(all.into_iter().collect::<Result<_>>()?))
    }

    /// One batch after the other.
    pub(super) fn concatenate(parts: Vec<Self>) -> Self {
        Self(parts.into_iter().flat_map(|p| p.0).collect())
    }

    /// log det H; NaN where H is not finite.
    pub(super) fn log_det(&self) -> Vec<f64> {
        let one = |l: &DMatrix<f64>| 2.0 * l.diagonal().iter().map(|l| l.ln()).sum::<f64>();
        self.0.iter().map(|l| l.as_ref().map_or(f64::NAN, one)).collect()
    }

    /// H⁻¹ of `len` matrices from `start`, `[len, V, V]`; NaN where H is not finite.
    pub(super) fn inverse(&self, start: usize, len: usize, volume: usize) -> Result<Tensor> {
        let mut inverses = vec![f64::NAN; len * volume * volume];
        inverses.par_chunks_exact_mut(volume * volume).zip(&self.0[start..start + len]).for_each(
            |(inverse, l)| {
                if let Some(l) = l {
                    let mut x = DMatrix::zeros(volume, volume);
                    invert_lower(l.as_view(), &mut x.as_view_mut());
                    DMatrixViewMut::from_slice(inverse, volume, volume).gemm(1.0, &x.transpose(), &x, 0.0);
                }
            },
        );
        Ok(Tensor::from_vec(inverses, (len, volume, volume), &Device::Cpu)?)
    }
}

/// Below this size a triangle is inverted row by row.
const SMALL: usize = 32;

/// x ← L⁻¹ for x = 0, by halves, so that the work is matrix products.
///
/// ```text
/// (A 0; B C)⁻¹ = (A⁻¹ 0; −C⁻¹ B A⁻¹ C⁻¹)
/// ```
fn invert_lower(l: DMatrixView<'_, f64>, x: &mut DMatrixViewMut<'_, f64>) {
    let n = l.nrows();
    if n <= SMALL {
        x.fill_with_identity();
        let regular = l.solve_lower_triangular_mut(x);
        debug_assert!(regular, "the diagonal of a Cholesky factor is positive");
        return;
    }
    let half = n / 2;
    invert_lower(l.view((0, 0), (half, half)), &mut x.view_mut((0, 0), (half, half)));
    invert_lower(
        l.view((half, half), (n - half, n - half)),
        &mut x.view_mut((half, half), (n - half, n - half)),
    );
    let product = l.view((half, 0), (n - half, half)) * x.view((0, 0), (half, half));
    let corner = x.view((half, half), (n - half, n - half)) * product;
    x.view_mut((half, 0), (n - half, half)).copy_from(&-corner);
}
