//! A whole convolutional network as one candle op.
//!
//! ```text
//! h₀ = x,   h_{l+1} = f(W_l ∗ h_l + b_l),   y = g(W_{L−1} ∗ h_{L−1} + b_{L−1})
//! ```
//!
//! The hidden activations h_l live only in a thread's scratch memory: the backward pass computes them again, one sample at a
//! time, which costs a third more arithmetic and saves all the memory traffic and the memory of keeping them.

use crate::activation::{Activation, Real};
use crate::conv::engine::{Chain, Parameters, Values};
use crate::conv::simd::Level;
use crate::conv::{convolution_composed, unsupported, with_slices};
use crate::host::contiguous_slice;
use crate::stencil::Stencil;
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};
use std::ops::Range;

/// Convolutions over one stencil with activations in between; the parameters are an argument.
#[derive(Debug, Clone)]
pub struct ConvNet {
    stencil: Stencil,
    channels: Vec<usize>,
    hidden: Activation,
    last: Activation,
    layers: Vec<LayerRange>,
}

/// Where one layer's parameters lie in theta.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRange {
    /// Weights `[T, C_i, C_o]`.
    pub weight: Range<usize>,
    /// Biases `[C_o]`.
    pub bias: Range<usize>,
    /// C_i.
    pub inputs: usize,
    /// C_o.
    pub outputs: usize,
    /// Inputs each output sums over, T · C_i: the number that scales an initialisation.
    pub fan_in: usize,
}

impl ConvNet {
    /// A network with `channels[0]` inputs and as many layers as `channels` has steps, for instance `[1, 32, 32, 2]`;
    /// `activation` follows the hidden layers, `final_activation` the last.
    ///
    /// # Errors
    /// When there is no layer, a layer has no channels, or an activation's parameter is out of range.
    pub fn new(
        stencil: Stencil,
        channels: &[usize],
        activation: Activation,
        final_activation: Activation,
    ) -> Result<Self> {
        if channels.len() < 2 || channels.contains(&0) {
            candle_core::bail!("network with channels {channels:?}, expected at least two positive numbers");
        }
        activation.validate()?;
        final_activation.validate()?;
        let mut end = 0;
        let mut layers = Vec::with_capacity(channels.len() - 1);
        for c in channels.windows(2) {
            let (inputs, outputs, fan_in) = (c[0], c[1], stencil.taps() * c[0]);
            let weight = end..end + fan_in * outputs;
            let bias = weight.end..weight.end + outputs;
            end = bias.end;
            layers.push(LayerRange { weight, bias, inputs, outputs, fan_in });
        }
        Ok(Self { stencil, channels: channels.to_vec(), hidden: activation, last: final_activation, layers })
    }

    /// Length of theta.
    pub fn parameter_count(&self) -> usize {
        self.layers.last().map_or(0, |l| l.bias.end)
    }

    /// Where each layer's parameters lie in theta: weights `[T, C_i, C_o]`, then biases `[C_o]`, layer after layer.
    pub fn layer_ranges(&self) -> &[LayerRange] {
        &self.layers
    }

    /// The stencil all layers share.
    pub fn stencil(&self) -> &Stencil {
        &self.stencil
    }

    /// Channels before, between and after the layers.
    pub fn channels(&self) -> &[usize] {
        &self.channels
    }

    /// Floating point operations of the convolutions of one forward pass, a multiply-add counted as two.
    pub fn flops_forward(&self, batch: usize) -> f64 {
        let per_site: f64 = self.layers.iter().map(|l| 2.0 * (l.fan_in * l.outputs) as f64).sum();
        per_site * (batch * self.stencil.volume()) as f64
    }

    /// The network of x `[B, V, C_0]` with parameters theta `[n]`, giving `[B, V, C_L]`; f32 or f64, differentiable in both.
    /// Results do not depend on the number of threads.
    ///
    /// # Errors
    /// When a shape does not fit, or element types differ or are neither f32 nor f64.
    pub fn forward(&self, x: &Tensor, theta: &Tensor) -> Result<Tensor> {
        self.check(x, theta)?;
        if !x.device().is_cpu() {
            return self.forward_composed(x, theta);
        }
        x.contiguous()?.apply_op2(&theta.contiguous()?, Fused(self.clone()))
    }

    /// [`Self::forward`] layer by layer from candle's own operations: the oracle of the tests and the path on a GPU.
    ///
    /// # Errors
    /// As [`Self::forward`], but any floating element type will do.
    pub fn forward_composed(&self, x: &Tensor, theta: &Tensor) -> Result<Tensor> {
        self.check(x, theta)?;
        let mut h = x.clone();
        for (l, layer) in self.layers.iter().enumerate() {
            let weight = theta.narrow(0, layer.weight.start, layer.weight.len())?;
            let weight = weight.reshape((layer.fan_in, layer.outputs))?;
            let bias = theta.narrow(0, layer.bias.start, layer.outputs)?;
            let activation = if l + 1 == self.layers.len() { self.last } else { self.hidden };
            h = activation.apply(&convolution_composed(&h, &weight, &bias, &self.stencil)?)?;
        }
        Ok(h)
    }

    fn check(&self, x: &Tensor, theta: &Tensor) -> Result<()> {
        let (_, volume, inputs) = x.dims3()?;
        if volume != self.stencil.volume()
            || inputs != self.channels[0]
            || theta.dims() != [self.parameter_count()]
        {
            candle_core::bail!(
                "network {:?} on {} sites with {} parameters: x {:?}, theta {:?}",
                self.channels,
                self.stencil.volume(),
                self.parameter_count(),
                x.dims(),
                theta.dims()
            );
        }
        if x.dtype() != theta.dtype() {
            candle_core::bail!(
                "network: x is {:?}, theta {:?}; expected one element type",
                x.dtype(),
                theta.dtype()
            );
        }
        Ok(())
    }
}

struct Fused(ConvNet);

impl Fused {
    fn chain(&self) -> Chain<'_> {
        let net = &self.0;
        Chain {
            stencil: &net.stencil,
            channels: &net.channels,
            hidden: net.hidden,
            last: net.last,
            level: Level::detect(),
        }
    }

    fn parameters<'a, T>(&self, theta: &'a [T]) -> Vec<Parameters<'a, T>> {
        let ranges = self.0.layers.iter();
        ranges
            .map(|l| Parameters { weight: &theta[l.weight.clone()], bias: &theta[l.bias.clone()] })
            .collect()
    }

    fn forward<T: Real>(&self, x: &[T], theta: &[T], shape: &Shape) -> Result<(CpuStorage, Shape)> {
        let (batch, volume, _) = shape.dims3()?;
        let y = self.chain().forward(x, &self.parameters(theta), batch);
        Ok((T::to_cpu_storage_owned(y), (batch, volume, self.0.channels[self.0.layers.len()]).into()))
    }

    fn backward<T: Real>(
        &self,
        [x, theta, y, grad]: [&Tensor; 4],
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let batch = x.dim(0)?;
        let gradients = with_slices(&[x, y, grad, theta], |s| {
            let values = Values { x: s[0], y: s[1], grad: s[2] };
            self.chain().backward::<T>(values, &self.parameters(s[3]), batch, x.track_op(), theta.track_op())
        })?;
        let dx = gradients.x.map(|dx| Tensor::from_vec(dx, x.shape(), x.device())).transpose()?;
        let dtheta =
            gradients.parameters.map(|d| Tensor::from_vec(d, theta.shape(), x.device())).transpose()?;
        Ok((dx, dtheta))
    }
}

impl CustomOp2 for Fused {
    fn name(&self) -> &'static str {
        "convolutional-network"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        theta: &CpuStorage,
        lt: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle_core::backend::BackendStorage;
        match x.dtype() {
            DType::F32 => {
                self.forward::<f32>(contiguous_slice(x, lx)?, contiguous_slice(theta, lt)?, lx.shape())
            }
            DType::F64 => {
                self.forward::<f64>(contiguous_slice(x, lx)?, contiguous_slice(theta, lt)?, lx.shape())
            }
            dtype => unsupported(dtype),
        }
    }

    fn bwd(
        &self,
        x: &Tensor,
        theta: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        match x.dtype() {
            DType::F32 => self.backward::<f32>([x, theta, y, grad]),
            DType::F64 => self.backward::<f64>([x, theta, y, grad]),
            dtype => unsupported(dtype),
        }
    }
}
