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
use latflow_kernels::{Activation, Stencil, convolution};
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
        let periodic = match (&self.periodic, &fields.periodic) {
            (Some(c), Some(x)) => Some(convolution(x, &c.weight, &c.bias, &c.stencil)?),
            _ => None,
        };
        let antiperiodic = match (&self.antiperiodic, &fields.antiperiodic) {
            (Some(c), Some(x)) => {
                let nothing = c.bias.zeros_like()?.detach();
                let u = convolution(x, &c.weight, &nothing, &c.stencil)?;
                Some((&u + (&u * 0.25)?.tanh()?.broadcast_mul(&c.bias)?)?)
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

/// P'' = concat(P', |A'|), A'' = concat(A', P' A') of P' = leaky(P), A' = odd(A).
pub(super) fn activate_and_multiply(fields: &Fields, slope: f64) -> Result<Fields> {
    let p = fields.periodic.as_ref().map(|p| Activation::LeakyRelu(slope).apply(p)).transpose()?;
    let Some(a) = &fields.antiperiodic else { return Ok(Fields { periodic: p, antiperiodic: None }) };
    // Counting zero as positive, odd(x) = s log(1 + s x) has the derivative 1 there.
    let sign = a.detach().ge(0.0)?.to_dtype(a.dtype())?.affine(2.0, -1.0)?;
    let abs = ((a * &sign)? + 1.0)?.log()?;
    let a = (&abs * sign)?;
    Ok(match p {
        None => Fields { periodic: Some(abs), antiperiodic: Some(a) },
        Some(p) => Fields {
            antiperiodic: Some(Tensor::cat(&[&a, &(&p * &a)?], 2)?),
            periodic: Some(Tensor::cat(&[p, abs], 2)?),
        },
    })
}

/// Channels after [`activate_and_multiply`].
pub(super) fn multiplied(fields: Channels) -> Channels {
    let Channels { periodic, antiperiodic } = fields;
    let products = if periodic > 0 { antiperiodic } else { 0 };
    Channels { periodic: periodic + antiperiodic, antiperiodic: antiperiodic + products }
}

#[cfg(test)]
mod tests {
    use super::{Fields, activate_and_multiply};
    use candle_core::{Device, Var};

    #[test]
    fn the_odd_activation_has_slope_one_at_zero() {
        let x = [-3.0, -0.5, 0.0, 1e-9, 2.0];
        let var = Var::new(&[[x]], &Device::Cpu).unwrap().transpose(1, 2).unwrap();
        let var = Var::from_tensor(&var.contiguous().unwrap()).unwrap();
        let fields = Fields { periodic: None, antiperiodic: Some(var.as_tensor().clone()) };
        let out = activate_and_multiply(&fields, 0.1).unwrap();
        let (abs, odd) = (out.periodic.unwrap(), out.antiperiodic.unwrap());
        let slope = odd.sum_all().unwrap().backward().unwrap().get(&var).unwrap().clone();
        let list = |t: candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let (abs, odd, slope) = (list(abs), list(odd), list(slope));
        for (i, x) in x.into_iter().enumerate() {
            let expected = f64::signum(x) * x.abs().ln_1p();
            assert!((odd[i] - expected).abs() < 1e-15 && (abs[i] - expected.abs()).abs() < 1e-15);
            assert!((slope[i] - 1.0 / (1.0 + x.abs())).abs() < 1e-15, "slope {} at {x}", slope[i]);
        }
    }
}
