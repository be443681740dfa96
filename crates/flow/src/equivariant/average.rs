//! Networks made equivariant by an average over time translations.
//!
//! ```text
//! u(P, A) = (1/N) Σ_n T^p_{−n} f(T^p_n P, T^a_n A)                                       [YUK (D8)]
//! v(P, A) = (1/N) Σ_n T^a_{−n} f(T^p_n P, T^a_n A)                                       [YUK (D9)]
//! n = 0, k, 2k, … < 2 L_t,   N = 2 L_t / k
//! ```
//!
//! T^p_n moves a field by n steps in time, T^a_n with a change of sign across the end, so that T^a_{L_t} = −1 and the group
//! has 2 L_t elements. f is any network with periodic convolutions: it has activations and biases of every kind, knows all
//! space translations [YUK (D5)] and need not know those of time. The first outputs of f are averaged to P-fields, the others
//! to AP-fields. With k = 1 the average is equivariant under all time translations [YUK (D6), (D7)], with k = 2 under even
//! ones, for half the cost. All translations are one batch.

use super::squeeze::SqueezeFields;
use super::{Channels, FieldNetwork, Fields};
use crate::{ContextNet, Error, NetShape, ParamStore, Result};
use candle_core::{DType, Tensor};
use candle_nn::Module;
use latflow_lattice::Lattice;

/// Architecture of a [`GroupAverage`].
#[derive(Debug, Clone, PartialEq)]
pub struct AverageShape {
    /// Channels after squeezing the first direction, which comes first; none keeps odd translations in space.
    pub squeeze: Option<usize>,
    /// The network f.
    pub net: NetShape,
    /// k: time translations by its multiples are averaged over; a divisor of 2 L_t.
    pub step: usize,
}

/// The average of a network that does not know antiperiodic fields.
#[derive(Debug, Clone)]
pub struct GroupAverage {
    squeeze: Option<SqueezeFields>,
    net: ContextNet,
    inputs: Channels,
    outputs: Channels,
    volume: usize,
    time: usize,
    translations: usize,
    /// Times of T_n x in the field (x, ±x) of length 2 L_t, `[N·L_t]`.
    moved: Tensor,
    /// Rows (n, time) of T_{−n} y, `[N·L_t]`.
    back: Tensor,
    /// Signs of T^a_{−n}, `[N, L_t, 1]`.
    signs: Tensor,
    dtype: DType,
}

impl GroupAverage {
    /// A network whose outputs start at zero.
    ///
    /// # Errors
    /// When the step does not divide 2 L_t, the kernel does not fit the lattice, there is no input or no output, or the name is
    /// taken.
    pub fn new(
        store: &mut ParamStore,
        name: &str,
        lattice: &Lattice,
        inputs: Channels,
        outputs: Channels,
        shape: &AverageShape,
    ) -> Result<Self> {
        let (time, step) = (lattice.time_extent(), shape.step);
        if step == 0 || !(2 * time).is_multiple_of(step) {
            let value = step as f64;
            return Err(Error::Parameter { name: "step", value, expected: "a divisor of 2 L_t" });
        }
        let (from, to) = (inputs.periodic + inputs.antiperiodic, outputs.periodic + outputs.antiperiodic);
        if from == 0 || to == 0 {
            let got = format!("{from} inputs, {to} outputs");
            return Err(Error::Network { what: "network to average", expected: "at least one of each", got });
        }
        // To f all fields are alike: their channels are squeezed as P-fields.
        let squeeze = match shape.squeeze {
            None => None,
            Some(channels) => {
                let all = Channels { periodic: from, antiperiodic: 0 };
                Some(SqueezeFields::new(store, &format!("{name}/squeeze"), lattice, all, channels)?)
            }
        };
        let from = squeeze.as_ref().map_or(from, |s| s.outputs().periodic);
        let net = ContextNet::new(store, &format!("{name}/net"), lattice, from, to, &shape.net)?;
        let translations = 2 * time / step;
        let all = || (0..translations).flat_map(|n| (0..time).map(move |t| (n, t)));
        let moved: Vec<u32> = all().map(|(n, t)| ((t + 2 * time - n * step) % (2 * time)) as u32).collect();
        let back: Vec<u32> = all().map(|(n, t)| (n * time + (t + n * step) % time) as u32).collect();
        let sign = |(n, t)| if (t + n * step) / time % 2 == 0 { 1.0 } else { -1.0 };
        let signs: Vec<f64> = all().map(sign).collect();
        let device = store.device();
        Ok(Self {
            squeeze,
            net,
            inputs,
            outputs,
            volume: lattice.volume(),
            time,
            translations,
            moved: Tensor::from_vec(moved, translations * time, device)?,
            back: Tensor::from_vec(back, translations * time, device)?,
            signs: Tensor::from_vec(signs, (translations, time, 1), device)?.to_dtype(store.dtype())?,
            dtype: store.dtype(),
        })
    }

    /// T_n of `[B, V, C]` for all n, `[B·N, V, C]`; `sign` is −1 for AP-fields.
    fn translate_all(&self, x: &Tensor, sign: f64) -> Result<Tensor> {
        let (batch, volume, channels) = x.dims3()?;
        let (rows, n) = (volume / self.time, self.translations);
        let x = x.reshape((batch, rows, self.time, channels))?;
        // Twice around is once around the circle of length 2 L_t, whatever the boundary condition.
        let twice = Tensor::cat(&[&x, &(&x * sign)?], 2)?.contiguous()?;
        let moved = twice.index_select(&self.moved, 2)?;
        let moved = moved.reshape((batch, rows, n, self.time, channels))?.transpose(1, 2)?;
        Ok(moved.reshape((batch * n, volume, channels))?)
    }
}

impl FieldNetwork for GroupAverage {
    fn forward(&self, fields: &Fields) -> Result<Fields> {
        fields.check(self.inputs, self.volume)?;
        let fields = fields.to_dtype(self.dtype)?;
        let mut channels = Vec::with_capacity(2);
        for (field, sign) in [(&fields.periodic, 1.0), (&fields.antiperiodic, -1.0)] {
            if let Some(x) = field {
                channels.push(self.translate_all(x, sign)?);
            }
        }
        let mut x = Tensor::cat(&channels, 2)?;
        if let Some(squeeze) = &self.squeeze {
            let squeezed = squeeze.forward(&Fields { periodic: Some(x.clone()), antiperiodic: None })?;
            x = squeezed.periodic.unwrap_or(x);
        }
        let y = self.net.forward(&x)?;
        let (all, _, outputs) = y.dims3()?;
        let (batch, rows, n) = (all / self.translations, self.volume / self.time, self.translations);
        let y = y.reshape((batch, n, rows, self.time, outputs))?.transpose(1, 2)?;
        let y = y.reshape((batch, rows, n * self.time, outputs))?.index_select(&self.back, 2)?;
        let y = y.reshape((batch, rows, n, self.time, outputs))?;
        let average = |y: Tensor, channels: usize| -> Result<Tensor> {
            Ok((y.sum(2)? / n as f64)?.reshape((batch, self.volume, channels))?)
        };
        let Channels { periodic: p, antiperiodic: a } = self.outputs;
        let periodic = if p > 0 { Some(average(y.narrow(4, 0, p)?, p)?) } else { None };
        let antiperiodic =
            if a > 0 { Some(average(y.narrow(4, p, a)?.broadcast_mul(&self.signs)?, a)?) } else { None };
        Ok(Fields { periodic, antiperiodic })
    }
}
