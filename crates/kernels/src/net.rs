//! A whole convolutional network as one candle op.
//!
//! ```text
//! h₀ = x,   h_{l+1} = f_l(W_l ∗ h_l + b_l),   y = h_L, at all sites or at chosen ones
//! ```
//!
//! An ordinary network has one convolution between two activations; a separable one has a block of several, one a direction, of
//! which the first changes the number of channels and only the last has a bias. The hidden activations h_l live only in a thread's
//! scratch memory: the backward pass computes them again, one sample at a time, which costs a third more arithmetic and saves all
//! the memory traffic and the memory of keeping them.

use crate::activation::{Activation, Real};
use crate::conv::engine::{Chain, Values};
use crate::conv::layer::{Layer, Parameters};
use crate::conv::simd::Level;
use crate::conv::{convolution_composed, unsupported, with_slices};
use crate::host::contiguous_slice;
use crate::stencil::Stencil;
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};
use std::ops::Range;
use std::sync::Arc;

/// Convolutions with activations in between; the parameters are an argument. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ConvNet {
    layers: Arc<[Layer]>,
    ranges: Arc<[LayerRange]>,
}

/// Where one convolution's parameters lie in theta.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRange {
    /// Weights `[T, C_i, C_o]`.
    pub weight: Range<usize>,
    /// Biases `[C_o]`; empty inside a separable block.
    pub bias: Range<usize>,
    /// C_i.
    pub inputs: usize,
    /// C_o.
    pub outputs: usize,
    /// Inputs each output sums over, T · C_i: the number that scales an initialisation.
    pub fan_in: usize,
    /// Outputs each input adds to, T · C_o.
    pub fan_out: usize,
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
        Self::separable(&[stencil], channels, activation, final_activation)
    }

    /// A network of blocks, each one convolution per stencil in the given order without activation in between. Three taps
    /// backwards, here and forwards along closed lines of four sites take five products instead of twelve.
    ///
    /// # Errors
    /// As [`Self::new`], and when there is no stencil or their numbers of sites differ.
    pub fn separable(
        stencils: &[Stencil],
        channels: &[usize],
        activation: Activation,
        final_activation: Activation,
    ) -> Result<Self> {
        if channels.len() < 2 || channels.contains(&0) {
            candle_core::bail!("network with channels {channels:?}, expected at least two positive numbers");
        }
        if stencils.is_empty() || stencils.iter().any(|s| s.volume() != stencils[0].volume()) {
            let volumes: Vec<_> = stencils.iter().map(Stencil::volume).collect();
            candle_core::bail!(
                "network of stencils on {volumes:?} sites, expected at least one, all on the same"
            );
        }
        activation.validate()?;
        final_activation.validate()?;
        let (blocks, last) = (channels.len() - 1, stencils.len() - 1);
        let mut layers = Vec::with_capacity(blocks * stencils.len());
        for (block, c) in channels.windows(2).enumerate() {
            for (direction, stencil) in stencils.iter().enumerate() {
                let activation = match (direction == last, block + 1 == blocks) {
                    (false, _) => Activation::Identity,
                    (true, false) => activation,
                    (true, true) => final_activation,
                };
                let inputs = if direction == 0 { c[0] } else { c[1] };
                let (stencil, biased) = (stencil.clone(), direction == last);
                layers.push(Layer { stencil, sites: None, inputs, outputs: c[1], biased, activation });
            }
        }
        let mut end = 0;
        let range = |layer: &Layer| {
            let Layer { inputs, outputs, biased, .. } = *layer;
            let (fan_in, fan_out) = (layer.stencil.taps() * inputs, layer.stencil.taps() * outputs);
            let weight = end..end + fan_in * outputs;
            let bias = weight.end..weight.end + if biased { outputs } else { 0 };
            end = bias.end;
            LayerRange { weight, bias, inputs, outputs, fan_in, fan_out }
        };
        let ranges = layers.iter().map(range).collect();
        Ok(Self { layers: layers.into(), ranges })
    }

    /// The same network with its output at the given sites only, in their order; the last convolution is not done elsewhere.
    ///
    /// # Errors
    /// When there is no site, or one is outside the lattice.
    pub fn at(&self, sites: &[u32]) -> Result<Self> {
        let mut layers = self.layers.to_vec();
        if let Some(last) = layers.last_mut() {
            last.sites = Some(last.stencil.at(sites)?);
        }
        Ok(Self { layers: layers.into(), ranges: self.ranges.clone() })
    }

    /// Length of theta.
    pub fn parameter_count(&self) -> usize {
        self.ranges.last().map_or(0, |l| l.bias.end)
    }

    /// Where each convolution's parameters lie in theta: weights `[T, C_i, C_o]`, then biases `[C_o]` if it has any, one after
    /// the other.
    pub fn layer_ranges(&self) -> &[LayerRange] {
        &self.ranges
    }

    /// Sites of the input.
    pub fn volume(&self) -> usize {
        self.layers[0].stencil.volume()
    }

    /// Channels of the input.
    pub fn inputs(&self) -> usize {
        self.layers[0].inputs
    }

    /// Sites and channels of the output.
    pub fn output_shape(&self) -> [usize; 2] {
        let last = self.last();
        [last.sites(), last.outputs]
    }

    fn last(&self) -> &Layer {
        &self.layers[self.layers.len() - 1]
    }

    /// Floating point operations of each convolution by its definition, at the sites where it is done; a multiply-add is two.
    pub fn flops_of_layers(&self, batch: usize) -> Vec<f64> {
        let flops = |(layer, range): (&Layer, &LayerRange)| {
            2.0 * (range.fan_in * range.outputs) as f64 * (layer.sites() * batch) as f64
        };
        self.layers.iter().zip(&*self.ranges).map(flops).collect()
    }

    /// Their sum: what one forward pass costs, pointwise operations aside.
    pub fn flops_forward(&self, batch: usize) -> f64 {
        self.flops_of_layers(batch).iter().sum()
    }

    /// The network of x `[B, V, C_0]` with parameters theta `[n]`, giving `[B, V, C_L]` or `[B, sites, C_L]`; f32 or f64,
    /// differentiable in both. Results do not depend on the number of threads.
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

    /// [`Self::forward`] convolution by convolution from candle's own operations: the oracle of the tests and the path on a GPU.
    ///
    /// # Errors
    /// As [`Self::forward`], but any floating element type will do.
    pub fn forward_composed(&self, x: &Tensor, theta: &Tensor) -> Result<Tensor> {
        self.check(x, theta)?;
        let mut h = x.clone();
        for (layer, range) in self.layers.iter().zip(&*self.ranges) {
            let weight = theta.narrow(0, range.weight.start, range.weight.len())?;
            let weight = weight.reshape((range.fan_in, range.outputs))?;
            let bias = if layer.biased {
                theta.narrow(0, range.bias.start, range.outputs)?
            } else {
                Tensor::zeros(range.outputs, x.dtype(), x.device())?
            };
            h = convolution_composed(&h, &weight, &bias, &layer.stencil)?;
            if let Some(sites) = &layer.sites {
                h = h.index_select(&Tensor::new(sites.sites(), x.device())?, 1)?;
            }
            h = layer.activation.apply(&h)?;
        }
        Ok(h)
    }

    fn check(&self, x: &Tensor, theta: &Tensor) -> Result<()> {
        let (_, volume, inputs) = x.dims3()?;
        if volume != self.volume() || inputs != self.inputs() || theta.dims() != [self.parameter_count()] {
            candle_core::bail!(
                "network of {} channels on {} sites with {} parameters: x {:?}, theta {:?}",
                self.inputs(),
                self.volume(),
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
        Chain { layers: &self.0.layers, level: Level::detect() }
    }

    fn parameters<'a, T>(&self, theta: &'a [T]) -> Vec<Parameters<'a, T>> {
        let ranges = self.0.ranges.iter();
        ranges
            .map(|l| Parameters { weight: &theta[l.weight.clone()], bias: &theta[l.bias.clone()] })
            .collect()
    }

    fn forward<T: Real>(&self, x: &[T], theta: &[T], shape: &Shape) -> Result<(CpuStorage, Shape)> {
        let (batch, _, _) = shape.dims3()?;
        let y = self.chain().forward(x, &self.parameters(theta), batch);
        let [sites, outputs] = self.0.output_shape();
        Ok((T::to_cpu_storage_owned(y), (batch, sites, outputs).into()))
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
