//! exp X of anti-hermitian matrices.
//!
//! ```text
//! X = iH,   ∂X = i ∂H,   ∂H the pull-back of the derivative of exp(iH)
//! ```

use super::blocks::{Buffer, Operation, apply};
use super::matrix::Matrix;
use super::register::Instructions;
use super::series::Series;
use super::{colours, unsupported};
use crate::conv::simd::{Element, Vector};
use crate::conv::with_slices;
use crate::host::contiguous_slice;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};

/// exp X for anti-hermitian X `[…, N, N, 2]`, N = 2 or 3, f64 or f32, to rounding; differentiable. That X is anti-hermitian is not
/// checked; the gradient is the one in all matrix elements.
///
/// # Errors
/// When the tensor holds no such matrices.
pub fn matrix_exponential(x: &Tensor) -> Result<Tensor> {
    let n = colours("exponential of matrices", x)?;
    x.contiguous()?.apply_op1(Exponential { n })
}

struct Exponential {
    n: usize,
}

#[derive(Clone, Copy)]
pub(super) struct Forward<const N: usize>;

impl<const N: usize> Operation<1> for Forward<N> {
    #[inline(always)]
    fn sizes(self) -> ([usize; 1], usize) {
        ([2 * N * N], 2 * N * N)
    }

    #[inline(always)]
    fn run<X: Vector>(self, isa: Instructions<X>, [x]: &[Buffer<X::Item>; 1], out: &mut Buffer<X::Item>) {
        let h = Matrix::<X, N>::load(isa, &x.0, X::LANES).over_i(isa);
        Series::new::<false>(isa, &h).exponential(isa).store(&mut out.0, X::LANES);
    }
}

/// (X, ∂ exp X) → ∂X.
#[derive(Clone, Copy)]
pub(super) struct Backward<const N: usize>;

impl<const N: usize> Operation<2> for Backward<N> {
    #[inline(always)]
    fn sizes(self) -> ([usize; 2], usize) {
        ([2 * N * N; 2], 2 * N * N)
    }

    #[inline(always)]
    fn run<X: Vector>(
        self,
        isa: Instructions<X>,
        [x, grad]: &[Buffer<X::Item>; 2],
        out: &mut Buffer<X::Item>,
    ) {
        let h = Matrix::<X, N>::load(isa, &x.0, X::LANES).over_i(isa);
        let grad = Matrix::load(isa, &grad.0, X::LANES);
        // i K = (−i K†)†, and K / i is at hand: i K = −(K / i).
        let k = Series::new::<true>(isa, &h).pull_back(isa, &grad).over_i(isa);
        k.scaled(isa.number(-1.0)).store(&mut out.0, X::LANES);
    }
}

impl Exponential {
    fn compute<T: Element>(&self, x: &[T]) -> Vec<T> {
        if self.n == 2 { apply(Forward::<2>, [x]) } else { apply(Forward::<3>, [x]) }
    }

    fn differentiate<T: Element>(&self, x: &[T], grad: &[T]) -> Vec<T> {
        if self.n == 2 { apply(Backward::<2>, [x, grad]) } else { apply(Backward::<3>, [x, grad]) }
    }
}

impl CustomOp1 for Exponential {
    fn name(&self) -> &'static str {
        "matrix-exponential"
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let shape = l.shape().clone();
        match x.dtype() {
            DType::F64 => Ok((CpuStorage::F64(self.compute::<f64>(contiguous_slice(x, l)?)), shape)),
            DType::F32 => Ok((CpuStorage::F32(self.compute::<f32>(contiguous_slice(x, l)?)), shape)),
            dtype => unsupported(dtype),
        }
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (tensors, shape, device) = ([x, grad], x.shape(), x.device());
        let gradient = match x.dtype() {
            DType::F64 => {
                let g = with_slices::<f64, _>(&tensors, |s| self.differentiate(s[0], s[1]))?;
                Tensor::from_vec(g, shape, device)?
            }
            DType::F32 => {
                let g = with_slices::<f32, _>(&tensors, |s| self.differentiate(s[0], s[1]))?;
                Tensor::from_vec(g, shape, device)?
            }
            dtype => unsupported(dtype)?,
        };
        Ok(Some(gradient))
    }
}
