//! The exponential map of links: exp(i ω^a T^a) U.
//!
//! ```text
//! U′ = E U,   E = exp(iH),   H = ω^a T^a
//! ∂U = E† ∂U′,      ∂ω^a = Re tr(T^a K),   K the pull-back of ∂U′ U† to H
//! ```

use super::algebra::{components, hermitian};
use super::blocks::{Buffer, Operation, apply};
use super::matrix::Matrix;
use super::register::Instructions;
use super::series::Series;
use super::{colours, unsupported};
use crate::conv::simd::{Element, Vector};
use crate::conv::with_slices;
use crate::host::contiguous_slice;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};

/// exp(i ω^a T^a) U for ω `[…, N² − 1]` and U `[…, N, N, 2]`, N = 2 or 3, f64 or f32, to rounding; differentiable in both. The
/// generators are Gell-Mann's, tr T^aT^b = ½ δ^{ab}.
///
/// # Errors
/// When the shapes do not fit each other.
pub fn rotate(omega: &Tensor, u: &Tensor) -> Result<Tensor> {
    let n = colours("rotation of links", u)?;
    let mut expected = u.dims()[..u.rank() - 3].to_vec();
    expected.push(n * n - 1);
    if omega.dims() != expected || omega.dtype() != u.dtype() {
        candle_core::bail!(
            "rotation of links {:?} of {:?}: expected components {expected:?} of the same type, got {:?} of {:?}",
            u.dims(),
            u.dtype(),
            omega.dims(),
            omega.dtype()
        );
    }
    omega.contiguous()?.apply_op2(&u.contiguous()?, Rotation { n })
}

struct Rotation {
    n: usize,
}

#[derive(Clone, Copy)]
struct Forward<const N: usize>;

impl<const N: usize> Operation<2> for Forward<N> {
    #[inline(always)]
    fn sizes(self) -> ([usize; 2], usize) {
        ([N * N - 1, 2 * N * N], 2 * N * N)
    }

    #[inline(always)]
    fn run<X: Vector>(
        self,
        isa: Instructions<X>,
        [omega, u]: &[Buffer<X::Item>; 2],
        out: &mut Buffer<X::Item>,
    ) {
        let h = hermitian::<X, N>(isa, &omega.0, X::LANES);
        let u = Matrix::load(isa, &u.0, X::LANES);
        Series::new::<false>(isa, &h).exponential(isa).times(isa, &u).store(&mut out.0, X::LANES);
    }
}

/// (ω, ∂U′) → ∂U.
#[derive(Clone, Copy)]
struct LinkGradient<const N: usize>;

impl<const N: usize> Operation<2> for LinkGradient<N> {
    #[inline(always)]
    fn sizes(self) -> ([usize; 2], usize) {
        ([N * N - 1, 2 * N * N], 2 * N * N)
    }

    #[inline(always)]
    fn run<X: Vector>(
        self,
        isa: Instructions<X>,
        [omega, grad]: &[Buffer<X::Item>; 2],
        out: &mut Buffer<X::Item>,
    ) {
        let h = hermitian::<X, N>(isa, &omega.0, X::LANES);
        let grad = Matrix::load(isa, &grad.0, X::LANES);
        Series::new::<false>(isa, &h).exponential(isa).adjoint_times(isa, &grad).store(&mut out.0, X::LANES);
    }
}

/// (ω, U, ∂U′) → ∂ω.
#[derive(Clone, Copy)]
struct AngleGradient<const N: usize>;

impl<const N: usize> Operation<3> for AngleGradient<N> {
    #[inline(always)]
    fn sizes(self) -> ([usize; 3], usize) {
        ([N * N - 1, 2 * N * N, 2 * N * N], N * N - 1)
    }

    #[inline(always)]
    fn run<X: Vector>(
        self,
        isa: Instructions<X>,
        [omega, u, grad]: &[Buffer<X::Item>; 3],
        out: &mut Buffer<X::Item>,
    ) {
        let h = hermitian::<X, N>(isa, &omega.0, X::LANES);
        let u = Matrix::load(isa, &u.0, X::LANES);
        let grad = Matrix::load(isa, &grad.0, X::LANES).times_adjoint(isa, &u);
        let k = Series::new::<true>(isa, &h).pull_back(isa, &grad);
        components(isa, &k, 1.0, &mut out.0, X::LANES);
    }
}

impl Rotation {
    fn compute<T: Element>(&self, omega: &[T], u: &[T]) -> Vec<T> {
        if self.n == 2 { apply(Forward::<2>, [omega, u]) } else { apply(Forward::<3>, [omega, u]) }
    }

    fn link_gradient<T: Element>(&self, omega: &[T], grad: &[T]) -> Vec<T> {
        if self.n == 2 {
            apply(LinkGradient::<2>, [omega, grad])
        } else {
            apply(LinkGradient::<3>, [omega, grad])
        }
    }

    fn angle_gradient<T: Element>(&self, omega: &[T], u: &[T], grad: &[T]) -> Vec<T> {
        if self.n == 2 {
            apply(AngleGradient::<2>, [omega, u, grad])
        } else {
            apply(AngleGradient::<3>, [omega, u, grad])
        }
    }

    fn differentiate<T: crate::activation::Real>(
        &self,
        omega: &Tensor,
        u: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        with_slices::<T, _>(&[omega, u, grad], |s| {
            let d_omega = omega.track_op().then(|| self.angle_gradient(s[0], s[1], s[2]));
            let d_u = u.track_op().then(|| self.link_gradient(s[0], s[2]));
            let tensor = |data, like: &Tensor| Tensor::from_vec(data, like.shape(), like.device());
            Ok((d_omega.map(|d| tensor(d, omega)).transpose()?, d_u.map(|d| tensor(d, u)).transpose()?))
        })?
    }
}

impl CustomOp2 for Rotation {
    fn name(&self) -> &'static str {
        "rotation-of-links"
    }

    fn cpu_fwd(
        &self,
        w: &CpuStorage,
        lw: &Layout,
        u: &CpuStorage,
        lu: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = lu.shape().clone();
        match u.dtype() {
            DType::F64 => {
                let out = self.compute::<f64>(contiguous_slice(w, lw)?, contiguous_slice(u, lu)?);
                Ok((CpuStorage::F64(out), shape))
            }
            DType::F32 => {
                let out = self.compute::<f32>(contiguous_slice(w, lw)?, contiguous_slice(u, lu)?);
                Ok((CpuStorage::F32(out), shape))
            }
            dtype => unsupported(dtype),
        }
    }

    fn bwd(
        &self,
        w: &Tensor,
        u: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        match u.dtype() {
            DType::F64 => self.differentiate::<f64>(w, u, grad),
            DType::F32 => self.differentiate::<f32>(w, u, grad),
            dtype => unsupported(dtype),
        }
    }
}
