//! Third-order integration of flows on the group, with a step size that checks itself.
//!
//! ```text
//! dV/dt = i ω^a(V)T^a V
//! W_0 = V_t,   Z_i = ε ω(W_i)
//! W_1 = exp(¼Z_0) W_0
//! W_2 = exp(8/9 Z_1 − 17/36 Z_0) W_1
//! V_{t+ε} = exp(¾Z_2 − 8/9 Z_1 + 17/36 Z_0) W_2                                      local error ∝ ε⁴
//! V̂_{t+ε} = exp(2Z_1 − Z_0) W_0                                                      local error ∝ ε³
//! Δ = max over links of ‖V_{t+ε} − V̂_{t+ε}‖ (Frobenius),       ε ← 0.9 ε (δ/Δ)^{1/3}
//! ```
//!
//! (M. Lüscher, JHEP 08 (2010) 071, App. C; the second-order companion: P. Fritzsch, A. Ramos, JHEP 10 (2013) 008.) A step with Δ above
//! the tolerance δ is repeated with a shorter one. Δ is gauge invariant, hence so are the steps. Every configuration of a batch has its
//! own step and time: no result depends on who else is in the batch.
//!
//! One register suffices for the three velocities: Z ← Z_i + a Z, W ← exp(bZ) W with the a and b of each stage below.

use candle_core::{D, Tensor};
use latflow_lattice::gauge::fused::{LinkBlock, Stage};
use latflow_lattice::{Configuration, Links, Manifold};

use super::wilson_flow::Velocity;
use crate::{Error, Result};

const STAGES: [Stage; 3] = [
    Stage { keep: 0.0, weight: 1.0 / 4.0 },
    Stage { keep: -17.0 / 32.0, weight: 8.0 / 9.0 },
    Stage { keep: -32.0 / 27.0, weight: 3.0 / 4.0 },
];

/// 2Z_1 − Z_0, at the second stage, when the register holds Z_0.
const COMPANION: [f64; 2] = [2.0, -1.0];

/// Fields that can flow.
pub(super) trait Flowing {
    /// V_{t+ε} for the ε of each configuration, and Δ.
    fn attempt(&self, epsilon: &[f64]) -> Result<(Self, Vec<f64>)>
    where
        Self: Sized;

    /// Takes the configurations of `new` that are accepted.
    fn replace(&mut self, new: Self, accept: &[bool]) -> Result<()>
    where
        Self: Sized;
}

/// Links as tensors, for any velocity.
pub(super) struct Composed<'a> {
    pub(super) links: Links,
    pub(super) velocity: &'a Velocity,
}

impl Flowing for Composed<'_> {
    fn attempt(&self, epsilon: &[f64]) -> Result<(Self, Vec<f64>)> {
        let epsilon = Tensor::new(epsilon, self.links.device())?.reshape((epsilon.len(), 1, 1, 1))?;
        let scaled = |w: &Links| -> Result<Tensor> { Ok((self.velocity)(w)?.broadcast_mul(&epsilon)?) };
        let mut z = scaled(&self.links)?;
        let mut w = self.links.exp(&(&z * STAGES[0].weight)?)?;
        let mut companion = None;
        for (i, stage) in STAGES.iter().enumerate().skip(1) {
            let kick = scaled(&w)?;
            if i == 1 {
                let k = ((&kick * COMPANION[0])? + (&z * COMPANION[1])?)?;
                companion = Some(self.links.exp(&k)?);
            }
            z = (kick + (z * stage.keep)?)?;
            w = w.exp(&(&z * stage.weight)?)?;
        }
        let difference = match &companion {
            Some(companion) => (w.tensor() - companion.tensor())?,
            None => w.tensor().zeros_like()?,
        };
        let squares = difference.sqr()?.flatten_from(3)?.sum(D::Minus1)?.flatten_from(1)?;
        let largest =
            squares.to_vec2::<f64>()?.into_iter().map(|row| row.into_iter().fold(0.0, larger).sqrt());
        Ok((Self { links: w, velocity: self.velocity }, largest.collect()))
    }

    fn replace(&mut self, new: Self, accept: &[bool]) -> Result<()> {
        let accept: Vec<u8> = accept.iter().map(|a| u8::from(*a)).collect();
        let accept = Tensor::new(accept, self.links.device())?;
        self.links = Links::select(&accept, &new.links, &self.links)?;
        Ok(())
    }
}

/// The larger number, or NaN if there is one.
fn larger(a: f64, b: f64) -> f64 {
    if a >= b || a.is_nan() { a } else { b }
}

/// The Wilson flow of a few configurations in lanes.
impl Flowing for LinkBlock {
    fn attempt(&self, epsilon: &[f64]) -> Result<(Self, Vec<f64>)> {
        // ω is twice the gradient of Σ Re tr P.
        let epsilon: Vec<f64> = epsilon.iter().map(|e| 2.0 * e).collect();
        let (mut z, mut k) = (self.at_rest(), self.at_rest());
        let w = self.stage(&epsilon, STAGES[0], &mut z, None)?;
        let w = w.stage(&epsilon, STAGES[1], &mut z, Some((&mut k, COMPANION)))?;
        let w = w.stage(&epsilon, STAGES[2], &mut z, None)?;
        let difference = self.distance(&k, &w)?;
        Ok((w, difference))
    }

    fn replace(&mut self, new: Self, accept: &[bool]) -> Result<()> {
        Ok(LinkBlock::replace(self, new, accept)?)
    }
}

/// The first step tried; a rough field shortens it.
const FIRST_STEP: f64 = 0.02;
/// A step this small means that the field or the velocity is not smooth in t.
const SHORTEST_STEP: f64 = 1e-10;
/// Aim below the tolerance, so that few steps are repeated.
const SAFETY: f64 = 0.9;
/// Limits on the change of a step.
const LEAST: f64 = 0.2;
const MOST: f64 = 4.0;

/// Fields on their way, and the step each will try next.
pub(super) struct Progress<F> {
    pub(super) field: F,
    steps: Vec<f64>,
    /// Index of the first configuration in the batch it was taken from, for errors.
    first: usize,
}

impl<F: Flowing> Progress<F> {
    pub(super) fn new(field: F, configurations: usize, first: usize) -> Self {
        Self { field, steps: vec![FIRST_STEP; configurations], first }
    }

    /// From flow time `from` to `to`, each configuration at its own pace.
    pub(super) fn advance(&mut self, tolerance: f64, from: f64, to: f64) -> Result<()> {
        let mut times = vec![from; self.steps.len()];
        while times.iter().any(|t| *t < to) {
            // Zero for those that have arrived.
            let epsilon: Vec<f64> = times.iter().zip(&self.steps).map(|(t, step)| step.min(to - t)).collect();
            let (new, difference) = self.field.attempt(&epsilon)?;
            let mut accept = vec![false; times.len()];
            for (b, &delta) in difference.iter().enumerate().filter(|(b, _)| epsilon[*b] > 0.0) {
                let change = if delta == 0.0 { MOST } else { SAFETY * (tolerance / delta).cbrt() };
                let next = epsilon[b] * change.clamp(LEAST, MOST);
                accept[b] = delta <= tolerance;
                if delta.is_nan() || (!accept[b] && next < SHORTEST_STEP) {
                    let configuration = self.first + b;
                    return Err(Error::FlowDiverged { configuration, time: times[b], step: epsilon[b] });
                }
                // A step cut short by the end says little about the next one.
                let cut = accept[b] && epsilon[b] < self.steps[b];
                self.steps[b] = if cut { next.max(self.steps[b]) } else { next };
                if accept[b] {
                    times[b] = if to - times[b] <= epsilon[b] { to } else { times[b] + epsilon[b] };
                }
            }
            self.field.replace(new, &accept)?;
        }
        Ok(())
    }
}
