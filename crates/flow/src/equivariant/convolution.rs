//! Networks of P- and AP-convolutions.
//!
//! ```text
//! P' = leaky(conv_P(P) + bias),   A' = odd(u + b tanh(u/4)), u = conv_AP(A)              [YUK App. D 1]
//! odd(x) = sign(x) log(1 + |x|)                                                          [YUK (D4)]
//! P'' = concat(P', |A'|),         A'' = concat(A', P' A')
//! ```
//!
//! for every hidden layer; the last one has convolutions and biases only. A kind of field that is not there takes part in no
//! product: from an AP-field alone, the first hidden layer makes P'' = |A'|, A'' = A'.

use super::layer::{Layer, Start, Stencils, multiplied};
use super::squeeze::SqueezeFields;
use super::{Channels, FieldNetwork, Fields};
use crate::{Error, ParamStore, Result};
use candle_core::{DType, Tensor};
use latflow_kernels::Activation;
use latflow_lattice::Lattice;

/// Architecture of an [`ApNet`].
#[derive(Debug, Clone, PartialEq)]
pub struct ApShape {
    /// Channels of each kind after squeezing the first direction, which comes first; none keeps odd translations.
    pub squeeze: Option<usize>,
    /// Channels of the P- and of the AP-convolution of each hidden layer; the products double them.
    pub hidden: Vec<usize>,
    /// Kernel extent, the same in every direction; odd.
    pub kernel: usize,
    /// Slope of the leaky ReLU for negative P-fields.
    pub slope: f64,
    /// Activation of the output; odd if there are AP-outputs.
    pub final_activation: Activation,
}

/// A network of P- and AP-convolutions, equivariant under translations; only under even ones along the first direction if it
/// squeezes.
#[derive(Debug, Clone)]
pub struct ApNet {
    squeeze: Option<SqueezeFields>,
    hidden: Vec<Layer>,
    last: Layer,
    inputs: Channels,
    volume: usize,
    slope: f64,
    final_activation: Activation,
    dtype: DType,
}

impl ApNet {
    /// A network whose hidden weights are N(0, 2/fan-in) and whose last layer is zero. Biases start at zero.
    ///
    /// # Errors
    /// When the kernel does not fit the lattice, an output has nothing to come from, AP-outputs have an activation that is not
    /// odd, or the name is taken.
    pub fn new(
        store: &mut ParamStore,
        name: &str,
        lattice: &Lattice,
        inputs: Channels,
        outputs: Channels,
        shape: &ApShape,
    ) -> Result<Self> {
        if shape.hidden.contains(&0) {
            return Err(Error::Parameter { name: "channels", value: 0.0, expected: "at least 1" });
        }
        if !(shape.slope.is_finite() && shape.slope >= 0.0) {
            let value = shape.slope;
            return Err(Error::Parameter { name: "slope", value, expected: "finite and not negative" });
        }
        if outputs.antiperiodic > 0 && matches!(shape.final_activation, Activation::LeakyRelu(_)) {
            let got = format!("{:?}", shape.final_activation);
            let what = "activation of AP-outputs";
            return Err(Error::Network { what, expected: "an odd function", got });
        }
        let mut now = inputs;
        let squeeze = match shape.squeeze {
            None => None,
            Some(channels) => {
                let name = format!("{name}/squeeze");
                let squeeze = SqueezeFields::new(store, &name, lattice, inputs, channels)?;
                now = squeeze.outputs();
                Some(squeeze)
            }
        };
        let stencils = Stencils::new(lattice, shape.kernel)?;
        let mut hidden = Vec::with_capacity(shape.hidden.len());
        for (i, &channels) in shape.hidden.iter().enumerate() {
            // A kind without inputs stays away until products make it.
            let some = |inputs: usize| if inputs > 0 { channels } else { 0 };
            let to = Channels { periodic: some(now.periodic), antiperiodic: some(now.antiperiodic) };
            hidden.push(Layer::new(store, &format!("{name}/{i}"), &stencils, now, to, Start::Random)?);
            now = multiplied(to);
        }
        if outputs.periodic > 0 && now.periodic == 0 || outputs.antiperiodic > 0 && now.antiperiodic == 0 {
            let got = format!("{outputs:?} from {now:?}");
            return Err(Error::Network { what: "last layer", expected: "inputs for every output", got });
        }
        Ok(Self {
            squeeze,
            hidden,
            last: Layer::new(store, &format!("{name}/last"), &stencils, now, outputs, Start::Zero)?,
            inputs,
            volume: lattice.volume(),
            slope: shape.slope,
            final_activation: shape.final_activation,
            dtype: store.dtype(),
        })
    }
}

impl FieldNetwork for ApNet {
    fn forward(&self, fields: &Fields) -> Result<Fields> {
        fields.check(self.inputs, self.volume)?;
        let mut fields = fields.to_dtype(self.dtype)?;
        if let Some(squeeze) = &self.squeeze {
            fields = squeeze.forward(&fields)?;
        }
        for layer in &self.hidden {
            fields = layer.forward_with_products(&fields, self.slope)?;
        }
        let last = self.last.forward(&fields)?;
        let finish = |x: Option<Tensor>| x.map(|x| self.final_activation.apply(&x)).transpose();
        Ok(Fields { periodic: finish(last.periodic)?, antiperiodic: finish(last.antiperiodic)? })
    }
}
