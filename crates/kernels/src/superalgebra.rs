//! Activations and products of fields that change sign under some symmetry, *odd* ones, with fields that do not.
//!
//! ```text
//! p = leaky(e),   v = o + c tanh(o/4),   l = log(1 + |v|),   a = sign(v) l
//! even part: concat(p, l)         odd part: concat(a, p a)
//! ```
//!
//! e even, o odd, one c a channel: it stands for the bias that an odd field cannot have. a is odd and smooth, with slope 1 at
//! v = 0, where the sign counts as positive. Each part is one pass over memory, and one backwards.

mod logarithm;

use crate::activation::Activation;
use crate::conv::simd::{Level, Task, Vector, dispatch};
use crate::conv::{unsupported, with_slices};
use crate::host::contiguous_slice;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor};
use logarithm::Logarithm;
use rayon::prelude::*;

/// A part of the superalgebra of even and odd fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    /// concat(p, |a|).
    Even,
    /// concat(a, p a).
    Odd,
}

/// One part of the products of `even` and `odd` `[B, V, C]` with `tilt` c `[C]`, giving `[B, V, 2C]`; f32 or f64, differentiable
/// in all three. `slope` is that of the leaky ReLU for negative numbers.
///
/// # Errors
/// When shapes or element types differ or are neither f32 nor f64, or the slope is negative or not finite.
pub fn graded_products(
    even: &Tensor,
    odd: &Tensor,
    tilt: &Tensor,
    slope: f64,
    grade: Grade,
) -> Result<Tensor> {
    check(even, odd, tilt, slope)?;
    if !even.device().is_cpu() {
        return graded_products_composed(even, odd, tilt, slope, grade);
    }
    even.contiguous()?.apply_op3(&odd.contiguous()?, &tilt.contiguous()?, Products { slope, grade })
}

/// [`graded_products`] from candle's own operations: the oracle of the tests and the path on a GPU.
///
/// # Errors
/// As [`graded_products`].
pub fn graded_products_composed(
    even: &Tensor,
    odd: &Tensor,
    tilt: &Tensor,
    slope: f64,
    grade: Grade,
) -> Result<Tensor> {
    check(even, odd, tilt, slope)?;
    let p = Activation::LeakyRelu(slope).apply(even)?;
    let (abs, a) = odd_logarithm(odd, tilt)?;
    match grade {
        Grade::Even => Tensor::cat(&[p, abs], 2),
        Grade::Odd => Tensor::cat(&[&a, &(&p * &a)?], 2),
    }
}

/// (|a|, a) of an odd field `[B, V, C]` that has no even one beside it, from candle's own operations.
///
/// # Errors
/// When the shapes do not fit.
pub fn odd_logarithm(odd: &Tensor, tilt: &Tensor) -> Result<(Tensor, Tensor)> {
    let v = tilted(odd, tilt)?;
    // With s constant to the derivative, s log(1 + s v) has the slope 1 at zero.
    let sign = v.detach().ge(0.0)?.to_dtype(v.dtype())?.affine(2.0, -1.0)?;
    let abs = ((v * &sign)? + 1.0)?.log()?;
    let a = (&abs * sign)?;
    Ok((abs, a))
}

/// o + c tanh(o/4), from candle's own operations.
///
/// # Errors
/// When the shapes do not fit.
pub fn tilted(odd: &Tensor, tilt: &Tensor) -> Result<Tensor> {
    odd + (odd * 0.25)?.tanh()?.broadcast_mul(tilt)?
}

fn check(even: &Tensor, odd: &Tensor, tilt: &Tensor, slope: f64) -> Result<()> {
    Activation::LeakyRelu(slope).validate()?;
    let (_, _, channels) = even.dims3()?;
    if odd.dims() != even.dims() || tilt.dims() != [channels] {
        candle_core::bail!(
            "products of even {:?} and odd {:?} fields, tilt {:?}; expected [B, V, C] twice and [C]",
            even.dims(),
            odd.dims(),
            tilt.dims()
        );
    }
    if odd.dtype() != even.dtype() || tilt.dtype() != even.dtype() {
        let (even, odd, tilt) = (even.dtype(), odd.dtype(), tilt.dtype());
        candle_core::bail!("products of {even:?} and {odd:?} with tilt {tilt:?}; expected one element type");
    }
    Ok(())
}

struct Products {
    slope: f64,
    grade: Grade,
}

/// Inputs of the op, some configurations of them.
#[derive(Clone, Copy)]
struct Inputs<'a, T> {
    even: &'a [T],
    odd: &'a [T],
    tilt: &'a [T],
    slope: T,
    grade: Grade,
}

struct Forward<'a, T> {
    inputs: Inputs<'a, T>,
    out: &'a mut [T],
}

struct Backward<'a, T> {
    inputs: Inputs<'a, T>,
    grad: &'a [T],
    even: &'a mut [T],
    odd: &'a mut [T],
    tilt: &'a mut [T],
}

/// p, its slope, t = tanh(o/4), |v| and sign(v).
#[inline(always)]
fn parts<T: Logarithm>(even: T, odd: T, tilt: T, slope: T) -> [T; 5] {
    let (zero, one) = (T::from_f64(0.0), T::from_f64(1.0));
    let factor = if even > zero { one } else { slope };
    let t = (odd * T::from_f64(0.25)).tanh();
    let v = odd + tilt * t;
    let sign = if v >= zero { one } else { -one };
    [even * factor, factor, t, v * sign, sign]
}

impl<T: Logarithm> Task<T> for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(self) {
        let Inputs { even, odd, tilt, slope, grade } = self.inputs;
        let n = tilt.len();
        let rows = even.chunks_exact(n).zip(odd.chunks_exact(n)).zip(self.out.chunks_exact_mut(2 * n));
        for ((even, odd), out) in rows {
            let (left, right) = out.split_at_mut(n);
            let sites = even.iter().zip(odd).zip(tilt).zip(left.iter_mut().zip(right));
            for (((even, odd), tilt), (left, right)) in sites {
                let [p, _, _, abs, sign] = parts(*even, *odd, *tilt, slope);
                let l = abs.ln_1p();
                (*left, *right) = match grade {
                    Grade::Even => (p, l),
                    Grade::Odd => (sign * l, p * sign * l),
                };
            }
        }
    }
}

impl<T: Logarithm> Task<T> for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(self) {
        let Inputs { even, odd, tilt, slope, grade } = self.inputs;
        let n = tilt.len();
        let one = T::from_f64(1.0);
        let rows = even.chunks_exact(n).zip(odd.chunks_exact(n)).zip(self.grad.chunks_exact(2 * n));
        let rows = rows.zip(self.even.chunks_exact_mut(n).zip(self.odd.chunks_exact_mut(n)));
        for (((even, odd), grad), (d_even, d_odd)) in rows {
            let (left, right) = grad.split_at(n);
            let inputs = even.iter().zip(odd).zip(tilt).zip(left.iter().zip(right));
            let outputs = d_even.iter_mut().zip(d_odd).zip(self.tilt.iter_mut());
            for ((((even, odd), tilt), (left, right)), ((d_even, d_odd), d_tilt)) in inputs.zip(outputs) {
                let [p, factor, t, abs, sign] = parts(*even, *odd, *tilt, slope);
                let slope = one / (one + abs);
                let dv = match grade {
                    Grade::Even => {
                        *d_even = *left * factor;
                        *right * sign * slope
                    }
                    Grade::Odd => {
                        *d_even = *right * sign * abs.ln_1p() * factor;
                        (*left + *right * p) * slope
                    }
                };
                *d_odd = dv * (one + *tilt * (one - t * t) * T::from_f64(0.25));
                *d_tilt += dv * t;
            }
        }
    }
}

impl Products {
    fn inputs<'a, T: Logarithm>(&self, even: &'a [T], odd: &'a [T], tilt: &'a [T]) -> Inputs<'a, T> {
        Inputs { even, odd, tilt, slope: T::from_f64(self.slope), grade: self.grade }
    }

    fn forward<T: Logarithm>(&self, even: &[T], odd: &[T], tilt: &[T], volume: usize) -> Vec<T> {
        let (level, one) = (Level::detect(), volume * tilt.len());
        let mut out = vec![T::default(); 2 * even.len()];
        out.par_chunks_mut(2 * one).zip(even.par_chunks(one)).zip(odd.par_chunks(one)).for_each(
            |((out, even), odd)| dispatch(level, Forward { inputs: self.inputs(even, odd, tilt), out }),
        );
        out
    }

    fn backward<T: Logarithm>(&self, tensors: [&Tensor; 4]) -> Result<[Tensor; 3]> {
        let (batch, volume, channels) = tensors[0].dims3()?;
        let (level, one) = (Level::detect(), volume * channels);
        let (even, odd, tilt) = with_slices::<T, _>(&tensors, |s| {
            let mut d_even = vec![T::default(); s[0].len()];
            let mut d_odd = d_even.clone();
            // One sum a configuration, added up in order: the number of threads changes nothing.
            let mut sums = vec![T::default(); batch * channels];
            let outputs = d_even.par_chunks_mut(one).zip(d_odd.par_chunks_mut(one));
            let outputs = outputs.zip(sums.par_chunks_mut(channels)).enumerate();
            outputs.for_each(|(b, ((d_even, d_odd), d_tilt))| {
                let range = b * one..(b + 1) * one;
                let inputs = self.inputs(&s[0][range.clone()], &s[1][range], s[2]);
                let grad = &s[3][2 * b * one..2 * (b + 1) * one];
                dispatch(level, Backward { inputs, grad, even: d_even, odd: d_odd, tilt: d_tilt });
            });
            let mut d_tilt = vec![T::default(); channels];
            for sum in sums.chunks_exact(channels) {
                d_tilt.iter_mut().zip(sum).for_each(|(d, s)| *d += *s);
            }
            (d_even, d_odd, d_tilt)
        })?;
        let (shape, device) = (tensors[0].shape(), tensors[0].device());
        Ok([
            Tensor::from_vec(even, shape, device)?,
            Tensor::from_vec(odd, shape, device)?,
            Tensor::from_vec(tilt, channels, device)?,
        ])
    }
}

impl CustomOp3 for Products {
    fn name(&self) -> &'static str {
        "graded-products"
    }

    fn cpu_fwd(
        &self,
        even: &CpuStorage,
        le: &Layout,
        odd: &CpuStorage,
        lo: &Layout,
        tilt: &CpuStorage,
        lt: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, volume, channels) = le.shape().dims3()?;
        let shape = (batch, volume, 2 * channels).into();
        macro_rules! run {
            ($float:ty, $kind:ident) => {{
                let (even, odd) = (contiguous_slice::<$float>(even, le)?, contiguous_slice(odd, lo)?);
                CpuStorage::$kind(self.forward(even, odd, contiguous_slice(tilt, lt)?, volume))
            }};
        }
        match even.dtype() {
            DType::F32 => Ok((run!(f32, F32), shape)),
            DType::F64 => Ok((run!(f64, F64), shape)),
            dtype => unsupported(dtype),
        }
    }

    fn bwd(
        &self,
        even: &Tensor,
        odd: &Tensor,
        tilt: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let tensors = [even, odd, tilt, grad];
        let [d_even, d_odd, d_tilt] = match even.dtype() {
            DType::F32 => self.backward::<f32>(tensors)?,
            DType::F64 => self.backward::<f64>(tensors)?,
            dtype => unsupported(dtype)?,
        };
        Ok((Some(d_even), Some(d_odd), Some(d_tilt)))
    }
}
