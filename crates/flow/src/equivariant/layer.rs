//! One layer of P- and AP-convolutions, and the products between their outputs.
//!
//! ```text
//! P' = conv_P(P) + bias,   A' = u + b tanh(u/4), u = conv_AP(A)                          [YUK App. D 1]
//! odd(x) = sign(x) log(1 + |x|)                                                          [YUK (D4)]
//! ```
//!
//! conv_P continues fields periodically, conv_AP with a change of sign across the end of time. An AP-field cannot have a bias;
//! b tanh(u/4) stands for it.

use super::{Channels, Fields};
use crate::{ParamStore, Result};
use candle_core::Tensor;
use latflow_kernels::{Activation, Grade, Stencil, convolution, graded_products, odd_logarithm, tilted};
use latflow_lattice::{Boundary, Lattice};
use rand_distr::{Distribution as _, StandardNormal};

/// The kernels of both kinds of fields.
#[derive(Debug, Clone)]
pub(super) struct Stencils {
    periodic: Stencil,
    antiperiodic: Stencil,
}

impl Stencils {
    pub(super) fn new(lattice: &Lattice, kernel: usize) -> Result<Self> {
        let kernel = vec![kernel; lattice.ndim()];
        Ok(Self {
            periodic: lattice.stencil(&kernel, Boundary::Periodic)?,
            antiperiodic: lattice.stencil(&kernel, Boundary::Antiperiodic)?,
        })
    }
}

/// How weights start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// N(0, 2/fan-in).
    Random,
    /// Zero: what follows starts as the identity.
    Zero,
}

/// Convolutions of both kinds; a kind without inputs or outputs has none.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    periodic: Option<Convolution>,
    antiperiodic: Option<Convolution>,
}

/// Weight `[T·C_i, C_o]` and bias `[C_o]`, which of an AP-field is b.
#[derive(Debug, Clone)]
struct Convolution {
    weight: Tensor,
    bias: Tensor,
    stencil: Stencil,
}

impl Layer {
    pub(super) fn new(
        store: &mut ParamStore,
        name: &str,
        stencils: &Stencils,
        from: Channels,
        to: Channels,
        start: Start,
    ) -> Result<Self> {
        let mut make = |kind: &str, stencil: &Stencil, inputs: usize, outputs: usize| {
            if inputs == 0 || outputs == 0 {
                return Ok(None);
            }
            Convolution::new(store, &format!("{name}/{kind}"), stencil, [inputs, outputs], start).map(Some)
        };
        Ok(Self {
            periodic: make("periodic", &stencils.periodic, from.periodic, to.periodic)?,
            antiperiodic: make("antiperiodic", &stencils.antiperiodic, from.antiperiodic, to.antiperiodic)?,
        })
    }

    /// Convolutions and biases.
    pub(super) fn forward(&self, fields: &Fields) -> Result<Fields> {
        let Fields { periodic, antiperiodic } = self.convolve(fields)?;
        let antiperiodic = match (&self.antiperiodic, antiperiodic) {
            (Some(c), Some(u)) => Some(tilted(&u, &c.bias)?),
            _ => None,
        };
        Ok(Fields { periodic, antiperiodic })
    }

    /// Convolutions, biases, activations and products: P'' = concat(P', |A'|), A'' = concat(A', P' A').
    pub(super) fn forward_with_products(&self, fields: &Fields, slope: f64) -> Result<Fields> {
        let Fields { periodic, antiperiodic } = self.convolve(fields)?;
        let (periodic, antiperiodic) = match (periodic, antiperiodic, &self.antiperiodic) {
            (Some(p), Some(u), Some(c)) => {
                let products = |grade| graded_products(&p, &u, &c.bias, slope, grade);
                (Some(products(Grade::Even)?), Some(products(Grade::Odd)?))
            }
            (None, Some(u), Some(c)) => {
                let (abs, a) = odd_logarithm(&u, &c.bias)?;
                (Some(abs), Some(a))
            }
            (p, _, _) => (p.map(|p| Activation::LeakyRelu(slope).apply(&p)).transpose()?, None),
        };
        Ok(Fields { periodic, antiperiodic })
    }

    /// Convolutions, and the bias of P.
    fn convolve(&self, fields: &Fields) -> Result<Fields> {
        let periodic = match (&self.periodic, &fields.periodic) {
            (Some(c), Some(x)) => Some(convolution(x, &c.weight, &c.bias, &c.stencil)?),
            _ => None,
        };
        let antiperiodic = match (&self.antiperiodic, &fields.antiperiodic) {
            (Some(c), Some(x)) => {
                let nothing = c.bias.zeros_like()?.detach();
                Some(convolution(x, &c.weight, &nothing, &c.stencil)?)
            }
            _ => None,
        };
        Ok(Fields { periodic, antiperiodic })
    }
}

impl Convolution {
    fn new(
        store: &mut ParamStore,
        name: &str,
        stencil: &Stencil,
        [inputs, outputs]: [usize; 2],
        start: Start,
    ) -> Result<Self> {
        let fan_in = stencil.taps() * inputs;
        let deviation = if start == Start::Zero { 0.0 } else { (2.0 / fan_in as f64).sqrt() };
        let weight = store.create(&format!("{name}/weight"), &[fan_in, outputs], |rng| {
            let normal = |rng: &mut _| -> f64 { StandardNormal.sample(rng) };
            (0..fan_in * outputs).map(|_| deviation * normal(rng)).collect()
        })?;
        let bias = store.create(&format!("{name}/bias"), &[outputs], |_| vec![0.0; outputs])?;
        Ok(Self { weight, bias, stencil: stencil.clone() })
    }
}

/// Channels after the products of a layer's outputs.
pub(super) fn multiplied(fields: Channels) -> Channels {
    let Channels { periodic, antiperiodic } = fields;
    let products = if periodic > 0 { antiperiodic } else { 0 };
    Channels { periodic: periodic + antiperiodic, antiperiodic: antiperiodic + products }
}
