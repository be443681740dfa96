//! The gauge-invariant numbers that steer the parallel transports.
//!
//! ```text
//! inputs:   Σ_{μ<ν} Re tr P_{μν}(x),  Σ_{μ<ν} Im tr P_{μν}(x),  x_i mod 4                  [QCD Sec. 3.1]
//! trunk:    h = convolutions with ELU, shared by all couplings
//! head:     k(x) = constant(parity of x) + tanh(W ∗ h + w)(x)         one a coupling
//! ```
//!
//! The paper sums over μ ≠ ν; over ordered pairs Im tr P would cancel, so the sum is over μ < ν. Constants depend on the parity of
//! the site so that a coupling can act on one of them alone.

use super::transport::normal;
use super::{NetSizes, PtcnShape, PtcnStart};
use crate::{Activation, ParamStore, Result};
use candle_core::{D, Tensor};
use latflow_kernels::ConvNet;
use latflow_lattice::gauge::{matrix, plaquettes};
use latflow_lattice::{Boundary, Lattice, Links, Parity, Rng};

/// Gain of the weights' Xavier normal distribution, and the deviation of the biases [QCD Sec. 3.1].
const GAIN: f64 = 0.3;
const BIAS: f64 = 0.05;

/// Inputs and shared layers.
#[derive(Debug, Clone)]
pub(super) struct Trunk {
    lattice: Lattice,
    net: ConvNet,
    theta: Tensor,
    /// x_i mod 4, `[V, d]`.
    coordinates: Tensor,
}

/// The last layer of one coupling.
#[derive(Debug, Clone)]
pub(super) struct Head {
    net: ConvNet,
    theta: Tensor,
    /// Even sites, then odd ones, `[2, n]`.
    constants: Tensor,
    /// Row of the constants for each site, `[V]`.
    parity: Tensor,
}

/// Weights Xavier normal, biases normal, as the paper says.
fn xavier(net: &ConvNet, rng: &mut Rng) -> Vec<f64> {
    let mut theta = vec![0.0; net.parameter_count()];
    for layer in net.layer_ranges() {
        let fan_out = layer.fan_in / layer.inputs * layer.outputs;
        let deviation = GAIN * (2.0 / (layer.fan_in + fan_out) as f64).sqrt();
        theta[layer.weight.clone()].iter_mut().for_each(|w| *w = deviation * normal(rng));
        theta[layer.bias.clone()].iter_mut().for_each(|b| *b = BIAS * normal(rng));
    }
    theta
}

impl Trunk {
    pub(super) fn new(
        store: &mut ParamStore,
        name: &str,
        lattice: &Lattice,
        sizes: &NetSizes,
    ) -> Result<Self> {
        let channels = [&[2 + lattice.ndim()], &sizes.hidden[..]].concat();
        let stencil = lattice.stencil(&vec![sizes.kernel; lattice.ndim()], Boundary::Periodic)?;
        let net = ConvNet::new(stencil, &channels, Activation::Elu, Activation::Elu)?;
        let theta = store.create(name, &[net.parameter_count()], |rng| xavier(&net, rng))?;
        let coordinates: Vec<f64> =
            (0..lattice.volume()).flat_map(|x| lattice.coordinates(x)).map(|x| (x % 4) as f64).collect();
        let coordinates = Tensor::from_vec(coordinates, (lattice.volume(), lattice.ndim()), store.device())?;
        let coordinates = coordinates.to_dtype(store.dtype())?;
        Ok(Self { lattice: lattice.clone(), net, theta, coordinates })
    }

    /// h `[B, V, hidden]`.
    pub(super) fn features(&self, links: &Links) -> Result<Tensor> {
        let d = self.lattice.ndim();
        let mut sum: Option<Tensor> = None;
        for mu in 0..d {
            for nu in mu + 1..d {
                let trace = matrix::trace(&plaquettes(links, &self.lattice, mu, nu)?)?;
                sum = Some(match sum {
                    None => trace,
                    Some(sum) => (sum + trace)?,
                });
            }
        }
        let (batch, v) = (links.tensor().dim(0)?, self.lattice.volume());
        let coordinates = self.coordinates.broadcast_as((batch, v, d))?;
        let inputs = match sum {
            Some(traces) => {
                Tensor::cat(&[traces.to_dtype(self.theta.dtype())?, coordinates.contiguous()?], D::Minus1)?
            }
            None => coordinates.contiguous()?,
        };
        Ok(self.net.forward(&inputs, &self.theta)?)
    }

    pub(super) fn detached(&self) -> Self {
        Self { theta: self.theta.detach(), ..self.clone() }
    }
}

impl Head {
    /// n numbers a site, of which `constants` gives the initial ones on every site.
    pub(super) fn new(
        store: &mut ParamStore,
        name: &str,
        lattice: &Lattice,
        PtcnShape { nets: sizes, start, .. }: &PtcnShape,
        n: usize,
        constants: impl FnOnce(&mut Rng) -> Vec<f64>,
    ) -> Result<Self> {
        let stencil = lattice.stencil(&vec![sizes.head_kernel; lattice.ndim()], Boundary::Periodic)?;
        let features = sizes.hidden.last().copied().unwrap_or(2 + lattice.ndim());
        let net = ConvNet::new(stencil, &[features, n], Activation::Identity, Activation::Tanh)?;
        let theta = store.create(&format!("{name}/head"), &[net.parameter_count()], |rng| match start {
            PtcnStart::Random => xavier(&net, rng),
            PtcnStart::Hopping { .. } => vec![0.0; net.parameter_count()],
        })?;
        let constants =
            store.create(&format!("{name}/constants"), &[2, n], |rng| constants(rng).repeat(2))?;
        let parity: Vec<u32> =
            (0..lattice.volume()).map(|x| u32::from(lattice.parity(x) == Parity::Odd)).collect();
        let parity = Tensor::from_vec(parity, lattice.volume(), store.device())?;
        Ok(Self { net, theta, constants, parity })
    }

    /// k `[B, V, n]`.
    pub(super) fn numbers(&self, features: &Tensor) -> Result<Tensor> {
        let constants = self.constants.index_select(&self.parity, 0)?;
        Ok(self.net.forward(features, &self.theta)?.broadcast_add(&constants)?)
    }

    pub(super) fn detached(&self) -> Self {
        Self { theta: self.theta.detach(), constants: self.constants.detach(), ..self.clone() }
    }
}
