//! Solutions of unit triangular systems, one matrix a configuration.
//!
//! ```text
//! y = T⁻¹ v  or  T⁻ᵀ v,    T = 1 + the part of A strictly below, or strictly above, the diagonal
//! ∂v = T⁻ᵀ ∂y,   ∂A_ij = −Σ_c ∂v_{c,i} y_{c,j} within the triangle      (rows and columns exchanged for T⁻ᵀ)
//! ```
//!
//! Such a T always has an inverse and its determinant is one, whatever A is.

use crate::conv::simd::{Level, Task, Vector, dispatch};
use crate::host::contiguous_slice;
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Which strict triangle of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Triangle {
    /// Below the diagonal.
    Lower,
    /// Above the diagonal.
    Upper,
}

/// y_{b,c} = T_b⁻¹ v_{b,c}, or T_b⁻ᵀ v_{b,c}, for v `[B, C, N]` and T_b = 1 + the strict `triangle` of A_b, A `[B, N, N]`; f64,
/// differentiable in v and in the triangle of A.
///
/// # Errors
/// When the shapes do not fit each other or the element type is not f64.
pub fn unit_triangular_solve(v: &Tensor, a: &Tensor, triangle: Triangle, transposed: bool) -> Result<Tensor> {
    check(v, a)?;
    if !v.device().is_cpu() {
        return unit_triangular_solve_composed(v, a, triangle, transposed);
    }
    v.contiguous()?.apply_op2(&a.contiguous()?, Solve { triangle, transposed })
}

/// [`unit_triangular_solve`] from candle's own operations: the oracle of the tests and the path on a GPU.
///
/// With the nilpotent part S of T = 1 − S, T⁻¹ = (1 + S)(1 + S²)(1 + S⁴)… ends after log₂ N factors.
///
/// # Errors
/// As [`unit_triangular_solve`].
pub fn unit_triangular_solve_composed(
    v: &Tensor,
    a: &Tensor,
    triangle: Triangle,
    transposed: bool,
) -> Result<Tensor> {
    check(v, a)?;
    let n = v.dim(2)?;
    let mut power = a.broadcast_mul(&strict(triangle, n, a)?)?.neg()?;
    // Row vectors: y = v (T⁻¹)ᵀ.
    if !transposed {
        power = power.transpose(1, 2)?.contiguous()?;
    }
    let mut y = v.contiguous()?;
    let mut exponent = 1;
    while exponent < n {
        y = (&y + y.matmul(&power)?)?;
        power = power.matmul(&power)?;
        exponent *= 2;
    }
    Ok(y)
}

/// One within the triangle, zero elsewhere.
fn strict(triangle: Triangle, n: usize, like: &Tensor) -> Result<Tensor> {
    let inside = |i: usize, j: usize| match triangle {
        Triangle::Lower => j < i,
        Triangle::Upper => j > i,
    };
    let mask: Vec<f64> = (0..n * n).map(|k| f64::from(u8::from(inside(k / n, k % n)))).collect();
    Tensor::from_vec(mask, (1, n, n), like.device())
}

fn check(v: &Tensor, a: &Tensor) -> Result<()> {
    let (batch, _, n) = v.dims3()?;
    if a.dims() != [batch, n, n] || v.dtype() != DType::F64 || a.dtype() != DType::F64 {
        candle_core::bail!(
            "unit triangular solve: v {:?} {:?}, matrices {:?} {:?}; expected [B, C, N] and [B, N, N] in f64",
            v.dims(),
            v.dtype(),
            a.dims(),
            a.dtype()
        );
    }
    Ok(())
}

struct Solve {
    triangle: Triangle,
    transposed: bool,
}

/// All vectors of one configuration in place; `a` by rows.
struct Substitute<'a> {
    triangle: Triangle,
    transposed: bool,
    a: &'a [f64],
    n: usize,
    y: &'a mut [f64],
}

impl Task<f64> for Substitute<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = f64>>(self) {
        let n = self.n;
        // Rows are used from the end of the triangle that is one number wide.
        let forward = (self.triangle == Triangle::Lower) != self.transposed;
        for step in 0..n {
            let i = if forward { step } else { n - 1 - step };
            let inside = match self.triangle {
                Triangle::Lower => 0..i,
                Triangle::Upper => i + 1..n,
            };
            let row = &self.a[i * n..][inside.clone()];
            for y in self.y.chunks_exact_mut(n) {
                let x = y[i];
                // SAFETY: the processor has the instructions of X, by the caller's promise.
                unsafe {
                    if self.transposed {
                        subtract_scaled::<X>(&mut y[inside.clone()], x, row);
                    } else {
                        y[i] = x - product::<X>(row, &y[inside.clone()]);
                    }
                }
            }
        }
    }
}

/// Σ a_i b_i
///
/// # Safety
/// The processor supports the instruction set of `X`.
#[inline(always)]
unsafe fn product<X: Vector<Item = f64>>(a: &[f64], b: &[f64]) -> f64 {
    let (wide_a, wide_b) = (a.chunks_exact(X::LANES), b.chunks_exact(X::LANES));
    let tail: f64 = wide_a.remainder().iter().zip(wide_b.remainder()).map(|(a, b)| a * b).sum();
    // SAFETY: every chunk has as many elements as a register; instructions by the caller's promise.
    unsafe {
        let mut sums = X::splat(0.0);
        for (a, b) in wide_a.zip(wide_b) {
            sums = X::load(a.as_ptr()).mul_add(X::load(b.as_ptr()), sums);
        }
        tail + sums.sum()
    }
}

/// y ← y − x a
///
/// # Safety
/// As for [`product`].
#[inline(always)]
unsafe fn subtract_scaled<X: Vector<Item = f64>>(y: &mut [f64], x: f64, a: &[f64]) {
    let (mut wide_y, wide_a) = (y.chunks_exact_mut(X::LANES), a.chunks_exact(X::LANES));
    let tail = wide_a.remainder();
    for (y, a) in wide_y.by_ref().zip(wide_a) {
        // SAFETY: as in `product`.
        unsafe { X::splat(x).neg_mul_add(X::load(a.as_ptr()), X::load(y.as_ptr())).store(y.as_mut_ptr()) };
    }
    wide_y.into_remainder().iter_mut().zip(tail).for_each(|(y, a)| *y -= x * a);
}

impl CustomOp2 for Solve {
    fn name(&self) -> &'static str {
        "unit-triangular-solve"
    }

    fn cpu_fwd(
        &self,
        sv: &CpuStorage,
        lv: &Layout,
        sa: &CpuStorage,
        la: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (v, a) = (contiguous_slice::<f64>(sv, lv)?, contiguous_slice::<f64>(sa, la)?);
        let (_, components, n) = lv.shape().dims3()?;
        let (level, mut y) = (Level::detect(), v.to_vec());
        if !y.is_empty() {
            y.par_chunks_mut(components * n).zip(a.par_chunks(n * n)).for_each(|(y, a)| {
                let Self { triangle, transposed } = *self;
                dispatch(level, Substitute { triangle, transposed, a, n, y });
            });
        }
        Ok((CpuStorage::F64(y), lv.shape().clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        a: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dv = unit_triangular_solve(grad, &a.detach(), self.triangle, !self.transposed)?;
        if !a.track_op() {
            return Ok((Some(dv), None));
        }
        let y = y.detach();
        let (rows, columns) = if self.transposed { (&y, &dv) } else { (&dv, &y) };
        let outer = rows.transpose(1, 2)?.contiguous()?.matmul(columns)?.neg()?;
        let da = outer.broadcast_mul(&strict(self.triangle, a.dim(1)?, a)?)?;
        Ok((Some(dv), Some(da)))
    }
}
