//! Operators as matrices, for exact determinants on small lattices and for tests.

use crate::{LinearOperator, Result};
use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use nalgebra::DMatrix;
use rayon::prelude::*;

/// The matrices of a batch of operators, acting on the real components as on the imaginary ones: `[B, N, N]`.
///
/// # Errors
/// When the operator fails.
pub fn to_dense(operator: &dyn LinearOperator, batch: usize, n: usize, like: &Tensor) -> Result<Tensor> {
    let mut columns = Vec::with_capacity(n);
    for j in 0..n {
        let mut unit = vec![0.0; n];
        unit[j] = 1.0;
        let unit =
            Tensor::from_vec(unit, (1, 1, n), like.device())?.broadcast_as((batch, 1, n))?.contiguous()?;
        columns.push(operator.apply(&unit)?.reshape((batch, n))?);
    }
    Ok(Tensor::stack(&columns, 2)?)
}

/// log |det M_b| of matrices `[B, N, N]` → `[B]`, f64, with gradient ∂ log|det M| / ∂M = M⁻ᵀ.
///
/// A singular matrix gives −∞, as it should.
///
/// # Errors
/// When the matrices are not square or not f64.
pub fn log_abs_det(matrices: &Tensor) -> Result<Tensor> {
    Ok(matrices.contiguous()?.to_device(&candle_core::Device::Cpu)?.apply_op1(LogAbsDet)?)
}

struct LogAbsDet;

fn matrices_of(data: &[f64], n: usize) -> impl IndexedParallelIterator<Item = DMatrix<f64>> + '_ {
    data.par_chunks_exact(n * n).map(move |m| DMatrix::from_row_slice(n, n, m))
}

impl CustomOp1 for LogAbsDet {
    fn name(&self) -> &'static str {
        "log-abs-det"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (batch, n, m) = l.shape().dims3()?;
        if n != m {
            candle_core::bail!("log_abs_det: expected square matrices, got {n} × {m}");
        }
        let all = s.as_slice::<f64>()?;
        let data = &all[l.start_offset()..][..batch * n * n];
        let logs: Vec<f64> =
            matrices_of(data, n).map(|m| m.lu().u().diagonal().iter().map(|u| u.abs().ln()).sum()).collect();
        Ok((CpuStorage::F64(logs), batch.into()))
    }

    fn bwd(&self, matrices: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let (_, n, _) = matrices.dims3()?;
        let inverses: Vec<Option<DMatrix<f64>>> = latflow_kernels::with_slice::<f64, _>(matrices, |data| {
            matrices_of(data, n).map(DMatrix::try_inverse).collect()
        })?;
        let mut gradient = Vec::with_capacity(matrices.elem_count());
        for (b, inverse) in inverses.into_iter().enumerate() {
            match inverse {
                // Column-major data of M⁻¹ are M⁻ᵀ in row-major order.
                Some(inverse) => gradient.extend_from_slice(inverse.as_slice()),
                None => candle_core::bail!("log_abs_det: matrix {b} of the batch is singular"),
            }
        }
        let gradient = Tensor::from_vec(gradient, matrices.shape(), matrices.device())?;
        Ok(Some(gradient.broadcast_mul(&grad.reshape(((), 1, 1))?)?))
    }
}
