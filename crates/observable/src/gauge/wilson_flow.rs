//! The Wilson flow of gauge fields, integrated with a step size that checks itself.
//!
//! ```text
//! dV/dt = −g₀² [∂S_w(V)] V,   g₀² S_w = 2 Σ_x Σ_{μ<ν} Re tr (1 − P_{μν})            independent of β
//!       = i ω^aT^a V,         ω^a_μ(x) = −2 Im tr T^a Ω_μ(x),   Ω_μ(x) = the 2(d−1) plaquettes that start with U_μ(x)
//! ```
//!
//! (M. Lüscher, JHEP 08 (2010) 071). t is in units of a²; the smoothing radius is √(2dt). Links of SU(2) and SU(3) in double
//! precision on the CPU stay in lanes from beginning to end.

use candle_core::{Device, Tensor};
use latflow_lattice::gauge::{fused, generators, path};
use latflow_lattice::{Configuration, Lattice, Links};
use rayon::prelude::*;
use std::fmt;
use std::sync::Arc;

use super::runge_kutta::{Composed, Flowing, Progress};
use super::sums::Sums;
use crate::{Error, Result};

/// ω of dV/dt = i ω^aT^a V at a batch of links: `[B, d, V, N² − 1]`.
pub(super) type Velocity = dyn Fn(&Links) -> Result<Tensor> + Send + Sync;

/// The Wilson flow; or, with [`WilsonFlow::with_velocity`], the gradient flow of another action.
#[derive(Clone)]
pub struct WilsonFlow {
    velocity: Arc<Velocity>,
    /// The kernels that compute the same velocity, if it is Wilson's.
    kernels: Option<Sums>,
    tolerance: f64,
}

impl fmt::Debug for WilsonFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WilsonFlow").field("tolerance", &self.tolerance).finish_non_exhaustive()
    }
}

/// Largest Δ that is accepted unless another is asked for.
const TOLERANCE: f64 = 1e-5;

/// ω^a_μ(x) = −2 Im tr T^a Ω_μ(x) of the Wilson flow, `[B, d, V, N² − 1]`: minus the gradient of g₀²S_w. Detached, composed.
///
/// # Errors
/// When the links do not fit the lattice.
pub fn wilson_velocity(links: &Links, lattice: &Lattice) -> Result<Tensor> {
    let links = links.detach();
    let (ndim, n) = (lattice.ndim(), links.colours());
    let mut omega = Vec::with_capacity(ndim);
    for mu in 0..ndim {
        let mut loops = links.direction(mu)?.zeros_like()?;
        for nu in (0..ndim).filter(|nu| *nu != mu) {
            for step in [1, -1] {
                loops = (loops + path(&links, lattice, &[(mu, 1), (nu, step), (mu, -1), (nu, -step)])?)?;
            }
        }
        omega.push(minus_twice_im_trace(&loops, n)?);
    }
    Ok(Tensor::stack(&omega, 1)?)
}

/// −2 Im tr T^a M for M `[B, V, N, N, 2]`: `[B, V, N² − 1]`.
fn minus_twice_im_trace(m: &Tensor, n: usize) -> Result<Tensor> {
    // Im tr T M = Σ_ij (Im T_ji Re M_ij + Re T_ji Im M_ij), and T_ji = T_ij*.
    let table: Vec<f64> = generators(n).chunks_exact(2).flat_map(|t| [2.0 * t[1], -2.0 * t[0]]).collect();
    let components = table.len() / (2 * n * n);
    let table = Tensor::from_vec(table, (components, 2 * n * n), &Device::Cpu)?.to_device(m.device())?;
    let (batch, sites) = (m.dim(0)?, m.dim(1)?);
    let omega = m.reshape((batch * sites, 2 * n * n))?.matmul(&table.t()?)?;
    Ok(omega.reshape((batch, sites, components))?)
}

/// One step: the field after it, and Δ of each configuration.
#[derive(Debug, Clone)]
pub struct FlowStep {
    /// V_{t+ε}
    pub links: Links,
    /// max ‖V_{t+ε} − V̂_{t+ε}‖ over the links of each configuration, in the Frobenius norm.
    pub difference: Vec<f64>,
}

impl WilsonFlow {
    /// The Wilson flow on a lattice, with a tolerance of 1e-5 a step.
    ///
    /// # Errors
    /// When the lattice has one direction only.
    pub fn new(lattice: &Lattice) -> Result<Self> {
        let kernels = Some(Sums::new(lattice)?);
        let lattice = lattice.clone();
        Ok(Self { kernels, ..Self::with_velocity(move |links| wilson_velocity(links, &lattice)) })
    }

    /// The flow dV/dt = i ω^aT^a V of any velocity ω, a tangent vector at the links `[B, d, V, N² − 1]`.
    pub fn with_velocity(velocity: impl Fn(&Links) -> Result<Tensor> + Send + Sync + 'static) -> Self {
        Self { velocity: Arc::new(velocity), kernels: None, tolerance: TOLERANCE }
    }

    /// The same flow with another tolerance on Δ in one step. The error of the flowed links is about as large, and proportional.
    ///
    /// # Errors
    /// When it is not positive.
    pub fn with_tolerance(mut self, tolerance: f64) -> Result<Self> {
        if !(tolerance.is_finite() && tolerance > 0.0) {
            let what = "tolerance of the Wilson flow";
            return Err(Error::Parameter { what, expected: "positive", got: tolerance });
        }
        self.tolerance = tolerance;
        Ok(self)
    }

    /// One step of the third-order scheme, ε of each configuration, whatever its error.
    ///
    /// # Errors
    /// When the links do not fit the lattice or there is not one ε for each.
    pub fn step(&self, links: &Links, epsilon: &[f64]) -> Result<FlowStep> {
        let batch = links.batch()?;
        if epsilon.len() != batch {
            let what = "steps of the Wilson flow";
            return Err(Error::UnequalLength { what, series: 0, expected: batch, got: epsilon.len() });
        }
        let links = links.detach();
        let Some(blocks) = self.blocks(&links)? else {
            let (end, difference) = Composed { links, velocity: &*self.velocity }.attempt(epsilon)?;
            return Ok(FlowStep { links: end.links, difference });
        };
        let ends = blocks.into_par_iter().map(|(first, block)| {
            let (end, difference) = block.attempt(&epsilon[first..first + block.batch()])?;
            Ok((end.to_tensor()?, difference))
        });
        let (tensors, difference): (Vec<_>, Vec<_>) = ends.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        Ok(FlowStep { links: Links::new(Tensor::cat(&tensors, 0)?)?, difference: difference.concat() })
    }

    /// The field at flow time t ≥ 0, from the field at 0.
    ///
    /// # Errors
    /// When t is negative, a field is not finite, or a step would have to be absurdly small.
    pub fn flow(&self, links: &Links, time: f64) -> Result<Links> {
        let mut fields = self.along(links, &[time])?;
        fields.pop().ok_or(Error::Empty { what: "flow times" })
    }

    /// The fields at several flow times, in ascending order.
    ///
    /// # Errors
    /// When the times are negative or descend, a field is not finite, or a step would have to be absurdly small.
    pub fn along(&self, links: &Links, times: &[f64]) -> Result<Vec<Links>> {
        let mut now = 0.0;
        for &time in times {
            if !(time.is_finite() && time >= now) {
                let what = "flow time";
                return Err(Error::Parameter { what, expected: "finite, ascending, at least 0", got: time });
            }
            now = time;
        }
        let links = links.detach();
        let Some(blocks) = self.blocks(&links)? else {
            let batch = links.batch()?;
            let composed = Composed { links, velocity: &*self.velocity };
            return self.fields(Progress::new(composed, batch, 0), times, |c| Ok(c.links.clone()));
        };
        let parts = blocks.into_par_iter().map(|(first, block)| {
            let batch = block.batch();
            self.fields(Progress::new(block, batch, first), times, |block| Ok(block.to_tensor()?))
        });
        let parts: Vec<Vec<Tensor>> = parts.collect::<Result<_>>()?;
        let at = |i: usize| -> Result<Links> {
            let blocks: Vec<&Tensor> = parts.iter().map(|part| &part[i]).collect();
            Ok(Links::new(Tensor::cat(&blocks, 0)?)?)
        };
        (0..times.len()).map(at).collect()
    }

    /// What `read` makes of the field at each of the times.
    fn fields<F: Flowing, T>(
        &self,
        mut progress: Progress<F>,
        times: &[f64],
        read: impl Fn(&F) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut now = 0.0;
        let mut fields = Vec::with_capacity(times.len());
        for &time in times {
            progress.advance(self.tolerance, now, time)?;
            now = time;
            fields.push(read(&progress.field)?);
        }
        Ok(fields)
    }

    /// The links in lanes, each block with the index of its first configuration, if these links have kernels.
    fn blocks(&self, links: &Links) -> Result<Option<Vec<(usize, fused::LinkBlock)>>> {
        let Some(sums) = &self.kernels else { return Ok(None) };
        let Some(kernels) = sums.kernels(links)? else { return Ok(None) };
        let mut first = 0;
        let blocks = kernels.blocks(links.tensor())?.into_iter().map(|block| {
            let here = first;
            first += block.batch();
            (here, block)
        });
        Ok(Some(blocks.collect()))
    }
}
