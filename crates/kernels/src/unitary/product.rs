//! Products of matrices, with either factor adjoint.
//!
//! ```text
//! C = A B:    ∂A = ∂C B†,   ∂B = A† ∂C,   and the adjoint of each where the factor was
//! ```

use super::blocks::{Buffer, Operation, apply};
use super::matrix::Matrix;
use super::register::Instructions;
use super::{colours, unsupported};
use crate::conv::simd::{Element, Vector};
use crate::host::contiguous_slice;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};

/// A B, matrix by matrix, for tensors `[…, N, N, 2]` of one shape, N = 2 or 3, f64 or f32; A† for A and B† for B where the flags
/// say so. Differentiable in both.
///
/// # Errors
/// When shapes or element types differ, or are not of those.
pub fn matrix_product(a: &Tensor, b: &Tensor, adjoint_a: bool, adjoint_b: bool) -> Result<Tensor> {
    let n = colours("product of matrices", a)?;
    if b.dims() != a.dims() || b.dtype() != a.dtype() {
        candle_core::bail!(
            "product of matrices {:?} of {:?} and {:?} of {:?}: expected one shape and type",
            a.dims(),
            a.dtype(),
            b.dims(),
            b.dtype()
        );
    }
    a.contiguous()?.apply_op2(&b.contiguous()?, Product { n, adjoint_a, adjoint_b })
}

#[derive(Debug, Clone, Copy)]
struct Product {
    n: usize,
    adjoint_a: bool,
    adjoint_b: bool,
}

/// The op for one N.
#[derive(Clone, Copy)]
struct Sized<const N: usize>(Product);

impl<const N: usize> Operation<2> for Sized<N> {
    #[inline(always)]
    fn sizes(self) -> ([usize; 2], usize) {
        ([2 * N * N; 2], 2 * N * N)
    }

    #[inline(always)]
    fn run<X: Vector>(self, isa: Instructions<X>, [a, b]: &[Buffer<X::Item>; 2], out: &mut Buffer<X::Item>) {
        let a = Matrix::<X, N>::load(isa, &a.0, X::LANES);
        let b = Matrix::load(isa, &b.0, X::LANES);
        let c = match (self.0.adjoint_a, self.0.adjoint_b) {
            (false, false) => a.times(isa, &b),
            (false, true) => a.times_adjoint(isa, &b),
            (true, false) => a.adjoint_times(isa, &b),
            (true, true) => b.times(isa, &a).adjoint(isa),
        };
        c.store(&mut out.0, X::LANES);
    }
}

impl Product {
    fn compute<T: Element>(self, a: &[T], b: &[T]) -> Vec<T> {
        if self.n == 2 { apply(Sized::<2>(self), [a, b]) } else { apply(Sized::<3>(self), [a, b]) }
    }
}

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "matrix-product"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        la: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = la.shape().clone();
        match a.dtype() {
            DType::F64 => {
                let c = self.compute::<f64>(contiguous_slice(a, la)?, contiguous_slice(b, lb)?);
                Ok((CpuStorage::F64(c), shape))
            }
            DType::F32 => {
                let c = self.compute::<f32>(contiguous_slice(a, la)?, contiguous_slice(b, lb)?);
                Ok((CpuStorage::F32(c), shape))
            }
            dtype => unsupported(dtype),
        }
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Self { adjoint_a, adjoint_b, .. } = *self;
        let da = match (a.track_op(), adjoint_a) {
            (false, _) => None,
            (true, false) => Some(matrix_product(grad, b, false, !adjoint_b)?),
            (true, true) => Some(matrix_product(b, grad, adjoint_b, true)?),
        };
        let db = match (b.track_op(), adjoint_b) {
            (false, _) => None,
            (true, false) => Some(matrix_product(a, grad, !adjoint_a, false)?),
            (true, true) => Some(matrix_product(grad, a, true, adjoint_a)?),
        };
        Ok((da, db))
    }
}
