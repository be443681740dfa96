//! Networks from P- and AP-fields to P- and AP-fields: what couplings ask of them, whatever their architecture.

use super::{ApNet, ApShape, AverageShape, GroupAverage};
use crate::{ParamStore, Result};
use candle_core::Tensor;
use latflow_lattice::Lattice;

/// Channels of fields of both kinds, each `[B, V, C]`; none where C is 0.
#[derive(Debug, Clone)]
pub struct Fields {
    /// P-fields: periodic in time.
    pub periodic: Option<Tensor>,
    /// AP-fields: antiperiodic in time.
    pub antiperiodic: Option<Tensor>,
}

/// Numbers of channels of both kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    /// P-fields.
    pub periodic: usize,
    /// AP-fields.
    pub antiperiodic: usize,
}

/// A network with f(T·P, T·AP) = T·f(P, AP) for translations T that the architecture keeps.
pub trait FieldNetwork: std::fmt::Debug {
    /// The outputs, in the element type of the parameters; inputs may have any float type.
    ///
    /// # Errors
    /// When the channels are not the ones the network was built for.
    fn forward(&self, fields: &Fields) -> Result<Fields>;
}

/// How a network becomes equivariant.
#[derive(Debug, Clone, PartialEq)]
pub enum Architecture {
    /// By convolutions that know the boundary conditions [YUK App. D 1].
    Convolutions(ApShape),
    /// By averaging a network that does not over time translations [YUK App. D 2].
    GroupAverage(AverageShape),
}

impl Architecture {
    /// A network of this architecture whose outputs start at zero; its parameters are called `name/…`.
    ///
    /// # Errors
    /// When the architecture does not fit the lattice or the channels.
    pub fn build(
        &self,
        store: &mut ParamStore,
        name: &str,
        lattice: &Lattice,
        inputs: Channels,
        outputs: Channels,
    ) -> Result<Box<dyn FieldNetwork>> {
        Ok(match self {
            Self::Convolutions(shape) => Box::new(ApNet::new(store, name, lattice, inputs, outputs, shape)?),
            Self::GroupAverage(shape) => {
                Box::new(GroupAverage::new(store, name, lattice, inputs, outputs, shape)?)
            }
        })
    }
}

impl Fields {
    /// The same fields in the element type of the parameters.
    pub(super) fn to_dtype(&self, dtype: candle_core::DType) -> Result<Self> {
        let convert = |x: &Option<Tensor>| x.as_ref().map(|x| x.to_dtype(dtype)).transpose();
        Ok(Self { periodic: convert(&self.periodic)?, antiperiodic: convert(&self.antiperiodic)? })
    }

    /// Errors unless there are as many channels as `expected`.
    pub(super) fn check(&self, expected: Channels, volume: usize) -> Result<()> {
        let kinds = [
            ("P-channels of a network", &self.periodic, expected.periodic),
            ("AP-channels of a network", &self.antiperiodic, expected.antiperiodic),
        ];
        for (what, field, channels) in kinds {
            let got = field.as_ref().map_or(&[][..], Tensor::dims);
            if !(matches!(got, [_, v, c] if *v == volume && *c == channels)
                || got.is_empty() && channels == 0)
            {
                let expected = format!("[B, {volume}, {channels}], or nothing for no channels");
                return Err(crate::Error::Shape { what, expected, got: got.to_vec() });
            }
        }
        Ok(())
    }
}
