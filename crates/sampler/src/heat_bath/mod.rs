//! Heat bath and overrelaxation of pure gauge theory, subgroup by subgroup.
//!
//! ```text
//! p(U) ∝ e^{(β/N) Σ Re tr P}:   every link in turn is drawn given all others, in each SU(2) of SU(N)
//! ```
//!
//! Cabibbo and Marinari (1982) for the subgroups, Kennedy and Pendleton (1985) and Creutz (1980) in them, overrelaxation by
//! reflection in them (Brown and Woch 1987). Each configuration has its own stream in each step: results do not depend on the
//! number of threads.

mod quaternion;
mod sweep;

use crate::{Error, MarkovKernel, Result, StepInfo};
use candle_core::Tensor;
use latflow_action::WilsonGauge;
use latflow_kernels::with_slice;
use latflow_lattice::{Configuration, Links, Manifold, Rng, Streams};
use num_complex::Complex64;
use rand::RngCore;
use rayon::prelude::*;
use sweep::{Matrix, Order, Update};

/// A sweep of heat bath followed by some of overrelaxation over every link of links of SU(2) or SU(3), f64. No step is rejected.
#[derive(Debug, Clone)]
pub struct GaugeHeatBath {
    action: WilsonGauge,
    overrelaxation: usize,
    order: Order,
}

impl GaugeHeatBath {
    /// The kernel of an action, with `overrelaxation` sweeps of reflections after each heat bath.
    ///
    /// # Errors
    /// When N is neither 2 nor 3.
    pub fn new(action: WilsonGauge, overrelaxation: usize) -> Result<Self> {
        if !matches!(action.colours(), 2 | 3) {
            let value = action.colours() as f64;
            return Err(Error::Parameter { name: "number of colours", value, expected: "2 or 3" });
        }
        let order = Order::new(action.lattice());
        Ok(Self { action, overrelaxation, order })
    }

    /// The action.
    pub fn action(&self) -> &WilsonGauge {
        &self.action
    }

    fn update<const N: usize>(&self, links: &Links, rng: &mut Rng) -> Result<Tensor> {
        let streams = Streams::new(rng.next_u64());
        let coefficient = self.action.beta() / N as f64;
        let u = links.tensor();
        let size = u.elem_count() / links.batch()?;
        let data = with_slice::<f64, _>(u, |data| {
            let mut data = data.to_vec();
            data.par_chunks_mut(size).enumerate().for_each(|(b, data)| {
                let mut rng = streams.stream("heat-bath", b as u64);
                let mut links = matrices::<N>(data);
                self.order.sweep(&mut links, coefficient, Update::HeatBath, &mut rng);
                for _ in 0..self.overrelaxation {
                    self.order.sweep(&mut links, coefficient, Update::Overrelaxation, &mut rng);
                }
                for (z, pair) in links.iter().flatten().flatten().zip(data.chunks_exact_mut(2)) {
                    pair.copy_from_slice(&[z.re, z.im]);
                }
            });
            data
        })?;
        Ok(Tensor::from_vec(data, u.shape(), u.device())?)
    }
}

fn matrices<const N: usize>(data: &[f64]) -> Vec<Matrix<N>> {
    let mut numbers = data.chunks_exact(2).map(|z| Complex64::new(z[0], z[1]));
    let mut links = vec![[[Complex64::ZERO; N]; N]; data.len() / (2 * N * N)];
    for z in links.iter_mut().flatten().flatten() {
        *z = numbers.next().unwrap_or_default();
    }
    links
}

impl MarkovKernel for GaugeHeatBath {
    type State = Links;
    type Position = Links;

    fn init(&self, x: Links, _: &mut Rng) -> Result<Links> {
        Ok(x)
    }

    fn step(&self, x: Links, rng: &mut Rng) -> Result<(Links, StepInfo)> {
        x.check(self.action.lattice())?;
        let n = self.action.colours();
        if x.colours() != n {
            let expected = format!("[B, d, V, {n}, {n}, 2]");
            let got = x.tensor().dims().to_vec();
            return Err(latflow_lattice::Error::Shape { what: "links", expected, got }.into());
        }
        let u = if n == 2 { self.update::<2>(&x, rng)? } else { self.update::<3>(&x, rng)? };
        let batch = x.batch()?;
        let info = StepInfo { accepted: vec![true; batch], log_ratio: vec![0.0; batch], nonfinite: 0 };
        Ok((Links::new(u)?.restored()?, info))
    }

    fn position<'a>(&self, state: &'a Links) -> &'a Links {
        state
    }
}
