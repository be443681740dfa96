//! Convolutions on lattice fields, channels last, as one candle op with its own backward pass.
//!
//! ```text
//! y[b, s, o] = bias[o] + Σ_{t,i} sign_t(s) x[b, n_t(s), i] w[t·C_i + i, o]
//! ∂x[b, s, i] = Σ_{t,o} sign_t(m) ∂y[b, m, o] w[t·C_i + i, o],    m = n_t⁻¹(s)
//! ∂w[t·C_i + i, o] = Σ_{b,s} sign_t(s) x[b, n_t(s), i] ∂y[b, s, o]
//! ```
//!
//! On the CPU a register-tiled gather kernel; elsewhere gathers and matrix products of candle, in both directions.

pub(crate) mod engine;
mod gradient;
pub(crate) mod layer;
mod lines;
mod pack;
pub(crate) mod scratch;
pub(crate) mod simd;
mod sums;
mod tile;

use crate::activation::{Activation, Real};
use crate::host::contiguous_slice;
use crate::stencil::Stencil;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor};
use engine::{Chain, Values};
use layer::{Layer, Parameters};
use simd::Level;

/// Convolution of x `[B, V, C_i]` with weight `[T·C_i, C_o]` and bias `[C_o]`, giving `[B, V, C_o]`; f32 or f64, differentiable
/// in all three. Results do not depend on the number of threads.
///
/// # Errors
/// When shapes do not fit each other or the stencil, or element types differ or are neither f32 nor f64.
pub fn convolution(x: &Tensor, weight: &Tensor, bias: &Tensor, stencil: &Stencil) -> Result<Tensor> {
    check(x, weight, bias, stencil)?;
    if !x.device().is_cpu() {
        return convolution_composed(x, weight, bias, stencil);
    }
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Convolution::new(stencil.clone()))
}

/// [`convolution`] from candle's own operations: the oracle of the tests and the path on a GPU.
///
/// # Errors
/// As [`convolution`], but any floating element type will do.
pub fn convolution_composed(x: &Tensor, weight: &Tensor, bias: &Tensor, stencil: &Stencil) -> Result<Tensor> {
    check(x, weight, bias, stencil)?;
    let (batch, volume, _) = x.dims3()?;
    let columns = gather(&x.detach(), stencil, Direction::Forward)?;
    let y = columns.matmul(&weight.detach())?.reshape((batch, volume, bias.elem_count()))?;
    // The gather is differentiated by hand: candle's own derivative of `index_select` scatters.
    let y = x.apply_op3(weight, &y, Composed { stencil: stencil.clone() })?;
    y.broadcast_add(bias)
}

fn check(x: &Tensor, weight: &Tensor, bias: &Tensor, stencil: &Stencil) -> Result<()> {
    let (_, volume, inputs) = x.dims3()?;
    let outputs = bias.dims1()?;
    let rows = stencil.taps() * inputs;
    if volume != stencil.volume() || weight.dims() != [rows, outputs] || inputs == 0 || outputs == 0 {
        candle_core::bail!(
            "convolution with {} taps on {} sites: x {:?}, weight {:?}, bias {:?}; expected [B, V, C_i], [T·C_i, C_o], [C_o]",
            stencil.taps(),
            stencil.volume(),
            x.dims(),
            weight.dims(),
            bias.dims()
        );
    }
    if x.dtype() != weight.dtype() || x.dtype() != bias.dtype() {
        candle_core::bail!(
            "convolution: x is {:?}, weight {:?}, bias {:?}; expected one element type",
            x.dtype(),
            weight.dtype(),
            bias.dtype()
        );
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Direction {
    Forward,
    Inverse,
}

/// `[B, V, C]` to `[B·V, T·C]`: what each tap reads, side by side.
fn gather(x: &Tensor, stencil: &Stencil, direction: Direction) -> Result<Tensor> {
    let (batch, volume, channels) = x.dims3()?;
    let indices = stencil.indices(x.device())?;
    let indices = match direction {
        Direction::Forward => indices.forward,
        Direction::Inverse => indices.inverse,
    };
    let x = if stencil.is_signed() { Tensor::cat(&[x, &x.neg()?], 1)? } else { x.contiguous()? };
    x.index_select(&indices, 1)?.reshape((batch * volume, stencil.taps() * channels))
}

/// The op behind [`convolution`]; public so that its backward pass can be called, and timed, alone.
#[derive(Debug, Clone)]
pub struct Convolution {
    stencil: Stencil,
}

impl Convolution {
    /// The convolution over `stencil`.
    pub fn new(stencil: Stencil) -> Self {
        Self { stencil }
    }

    fn forward<T: Real>(
        &self,
        x: &[T],
        weight: &[T],
        bias: &[T],
        shape: &Shape,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, volume, inputs) = shape.dims3()?;
        let layer = self.layer(inputs, bias.len());
        let y = chain(&layer).forward(x, &[Parameters { weight, bias }], batch);
        Ok((T::to_cpu_storage_owned(y), (batch, volume, bias.len()).into()))
    }

    fn backward<T: Real>(&self, [x, weight, bias, y, grad]: [&Tensor; 5]) -> Result<[Option<Tensor>; 3]> {
        let (batch, _, inputs) = x.dims3()?;
        let layer = self.layer(inputs, bias.elem_count());
        let want_parameters = weight.track_op() || bias.track_op();
        let gradients = with_slices(&[x, y, grad, weight, bias], |s| {
            let values = Values { x: s[0], y: s[1], grad: s[2] };
            let parameters = [Parameters { weight: s[3], bias: s[4] }];
            chain(&layer).backward::<T>(values, &parameters, batch, x.track_op(), want_parameters)
        })?;
        let dx = gradients.x.map(|dx| Tensor::from_vec(dx, x.shape(), x.device())).transpose()?;
        let Some(mut dw) = gradients.parameters else { return Ok([dx, None, None]) };
        let db = dw.split_off(weight.elem_count());
        let dw = Tensor::from_vec(dw, weight.shape(), x.device())?;
        Ok([dx, Some(dw), Some(Tensor::from_vec(db, bias.shape(), x.device())?)])
    }

    fn layer(&self, inputs: usize, outputs: usize) -> [Layer; 1] {
        let stencil = self.stencil.clone();
        [Layer { stencil, sites: None, inputs, outputs, biased: true, activation: Activation::Identity }]
    }
}

fn chain(layers: &[Layer]) -> Chain<'_> {
    Chain { layers, level: Level::detect() }
}

/// The elements of several contiguous or copied CPU tensors of one element type.
pub(crate) fn with_slices<T: Real, R>(tensors: &[&Tensor], f: impl FnOnce(&[&[T]]) -> R) -> Result<R> {
    let tensors = tensors.iter().map(|t| t.contiguous()).collect::<Result<Vec<_>>>()?;
    let storages: Vec<_> = tensors.iter().map(Tensor::storage_and_layout).collect();
    let slices = storages
        .iter()
        .map(|(storage, layout)| match &**storage {
            Storage::Cpu(cpu) => contiguous_slice(cpu, layout),
            _ => candle_core::bail!("expected tensors on the CPU"),
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(f(&slices))
}

/// The error for element types without a kernel.
pub(crate) fn unsupported<R>(dtype: DType) -> Result<R> {
    candle_core::bail!("convolution of {dtype:?}, expected f32 or f64")
}

impl CustomOp3 for Convolution {
    fn name(&self) -> &'static str {
        "convolution"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        weight: &CpuStorage,
        lw: &Layout,
        bias: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        match x.dtype() {
            DType::F32 => self.forward::<f32>(
                contiguous_slice(x, lx)?,
                contiguous_slice(weight, lw)?,
                contiguous_slice(bias, lb)?,
                lx.shape(),
            ),
            DType::F64 => self.forward::<f64>(
                contiguous_slice(x, lx)?,
                contiguous_slice(weight, lw)?,
                contiguous_slice(bias, lb)?,
                lx.shape(),
            ),
            dtype => unsupported(dtype),
        }
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let tensors = [x, weight, bias, y, grad];
        let [dx, dw, db] = match x.dtype() {
            DType::F32 => self.backward::<f32>(tensors)?,
            DType::F64 => self.backward::<f64>(tensors)?,
            dtype => unsupported(dtype)?,
        };
        Ok((dx, dw, db))
    }
}

/// Carries the value y, computed beforehand, and differentiates it with respect to x and the weight.
struct Composed {
    stencil: Stencil,
}

impl CustomOp3 for Composed {
    fn name(&self) -> &'static str {
        "convolution-composed"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        y: &CpuStorage,
        layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((y.try_clone(layout)?, layout.shape().clone()))
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        y: &CudaStorage,
        layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        Ok((y.try_clone(layout)?, layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.detach();
        let (_, outputs) = weight.dims2()?;
        let (taps, inputs) = (self.stencil.taps(), x.dim(2)?);
        let dx = if x.track_op() {
            let columns = gather(&grad, &self.stencil, Direction::Inverse)?;
            let exchanged = weight.detach().reshape((taps, inputs, outputs))?.transpose(1, 2)?;
            let exchanged = exchanged.reshape((taps * outputs, inputs))?;
            Some(columns.matmul(&exchanged)?.reshape(x.shape())?)
        } else {
            None
        };
        let dw = if weight.track_op() {
            let columns = gather(&x.detach(), &self.stencil, Direction::Forward)?;
            let rows = grad.reshape(((), outputs))?;
            Some(columns.t()?.matmul(&rows)?)
        } else {
            None
        };
        Ok((dx, dw, None))
    }
}
