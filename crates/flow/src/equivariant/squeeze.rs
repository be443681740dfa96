//! Squeezing: a layer that knows even from odd coordinates and so breaks translations by one site.
//!
//! ```text
//! sites 2j and 2j + 1 of one direction are a cell with 2C channels:
//! y(2j + q)_o = bias_{qo} + Σ_{q', i} w_{q'i, qo} x(2j + q')_i,     q, q' ∈ {0, 1}        [YUK App. D 1]
//! ```
//!
//! It is equivariant under translations by two sites in its direction and by any number in the others. An AP-field has no
//! bias. Folding never crosses the end of the lattice, so that the layer is the same for both boundary conditions.
//!
//! The staggered operator with η_μ = (−1)^{x_1 + … + x_{μ−1}} has its phases in every direction but the last; in two
//! dimensions squeezing the first breaks just what the action breaks.

use super::{Channels, Fields};
use crate::{Error, ParamStore, Result};
use candle_core::Tensor;
use latflow_kernels::{Stencil, convolution};
use latflow_lattice::{Boundary, Lattice};
use rand_distr::{Distribution as _, StandardNormal};

/// The layer on `[B, V, C]`.
#[derive(Debug, Clone)]
pub struct Squeeze {
    weight: Tensor,
    bias: Tensor,
    /// One tap on V/2 cells.
    cells: Stencil,
    /// Sites before, in and after the direction: the site axis is `[before, L, after]`.
    fold: [usize; 3],
}

impl Squeeze {
    /// Squeezes along `direction`, from `inputs` to `outputs` channels. Weights start as N(0, 1/2C) with C inputs, which keeps
    /// the variance of a field, biases at zero; the two kinds of sites are mixed from the beginning.
    ///
    /// # Errors
    /// When there is no such direction, no channel, or the name is taken.
    pub fn new(
        store: &mut ParamStore,
        name: &str,
        lattice: &Lattice,
        direction: usize,
        boundary: Boundary,
        inputs: usize,
        outputs: usize,
    ) -> Result<Self> {
        if direction >= lattice.ndim() {
            let value = direction as f64;
            return Err(Error::Parameter {
                name: "squeezed direction",
                value,
                expected: "one of the lattice's",
            });
        }
        if inputs == 0 || outputs == 0 {
            return Err(Error::Parameter { name: "squeezed channels", value: 0.0, expected: "at least 1" });
        }
        let deviation = 1.0 / (2.0 * inputs as f64).sqrt();
        let weight = store.create(&format!("{name}/weight"), &[2 * inputs, 2 * outputs], |rng| {
            let normal = |rng: &mut _| -> f64 { StandardNormal.sample(rng) };
            (0..4 * inputs * outputs).map(|_| deviation * normal(rng)).collect()
        })?;
        let bias = match boundary {
            Boundary::Periodic => {
                store.create(&format!("{name}/bias"), &[2 * outputs], |_| vec![0.0; 2 * outputs])?
            }
            Boundary::Antiperiodic => Tensor::zeros(2 * outputs, store.dtype(), store.device())?,
        };
        let cells = lattice.volume() / 2;
        let dims = lattice.dims();
        Ok(Self {
            weight,
            bias,
            cells: Stencil::new(cells, (0..cells as u32).collect(), None)?,
            fold: [
                dims[..direction].iter().product(),
                dims[direction],
                dims[direction + 1..].iter().product(),
            ],
        })
    }

    /// `[B, V, C]` → `[B, V, C']`.
    ///
    /// # Errors
    /// When the shape does not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, volume, channels) = x.dims3()?;
        let [before, extent, after] = self.fold;
        let cells = x.reshape(&[batch, before, extent / 2, 2, after, channels][..])?;
        let cells = cells.permute([0, 1, 2, 4, 3, 5])?.reshape((batch, volume / 2, 2 * channels))?;
        let mixed = convolution(&cells, &self.weight, &self.bias, &self.cells)?;
        let outputs = mixed.dim(2)? / 2;
        let mixed = mixed.reshape(&[batch, before, extent / 2, after, 2, outputs][..])?;
        Ok(mixed.permute([0, 1, 2, 4, 3, 5])?.reshape((batch, volume, outputs))?)
    }
}

/// A squeezing layer for each kind of field there is.
#[derive(Debug, Clone)]
pub(super) struct SqueezeFields {
    periodic: Option<Squeeze>,
    antiperiodic: Option<Squeeze>,
    outputs: Channels,
}

impl SqueezeFields {
    /// Squeezes the first direction, to `channels` of each kind that `inputs` has.
    pub(super) fn new(
        store: &mut ParamStore,
        name: &str,
        lattice: &Lattice,
        inputs: Channels,
        channels: usize,
    ) -> Result<Self> {
        let mut outputs = Channels { periodic: 0, antiperiodic: 0 };
        let (mut periodic, mut antiperiodic) = (None, None);
        if inputs.periodic > 0 {
            let name = format!("{name}/periodic");
            let (boundary, from) = (Boundary::Periodic, inputs.periodic);
            periodic = Some(Squeeze::new(store, &name, lattice, 0, boundary, from, channels)?);
            outputs.periodic = channels;
        }
        if inputs.antiperiodic > 0 {
            let name = format!("{name}/antiperiodic");
            let (boundary, from) = (Boundary::Antiperiodic, inputs.antiperiodic);
            antiperiodic = Some(Squeeze::new(store, &name, lattice, 0, boundary, from, channels)?);
            outputs.antiperiodic = channels;
        }
        Ok(Self { periodic, antiperiodic, outputs })
    }

    pub(super) fn outputs(&self) -> Channels {
        self.outputs
    }

    pub(super) fn forward(&self, fields: &Fields) -> Result<Fields> {
        let run = |layer: &Option<Squeeze>, x: &Option<Tensor>| {
            layer.as_ref().zip(x.as_ref()).map(|(layer, x)| layer.forward(x)).transpose()
        };
        Ok(Fields {
            periodic: run(&self.periodic, &fields.periodic)?,
            antiperiodic: run(&self.antiperiodic, &fields.antiperiodic)?,
        })
    }
}
