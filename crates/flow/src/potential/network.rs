//! The convex network: its shape, its parameters and how they start.
//!
//! ```text
//! h_1 = L_1(φ),   h_{k+1} = L⁺_k(s_k) + L_{k+1}(φ),   s_k = SoftPlus(a_k),   a_k = (h_k − μ_k)/σ_k
//! u(φ) = w1 Sum(h_K) + w2 ‖φ‖²/2                                                            [YUK (34)]
//! ```
//!
//! Why u is convex for *every* value of the parameters: h_1 is linear in φ. A positive scale σ keeps convexity, SoftPlus of a
//! convex function is convex because SoftPlus is convex and increasing, sums with positive weights L⁺ of convex functions are
//! convex, and so are they after adding something linear in φ. So each component of h_K is convex, w1 > 0 keeps that, and
//! w2 > 0 makes u strongly convex: H_u ≥ w2. The positivity is in the parametrisation: L⁺ = softplus(·)/fan-in, σ = e^{·},
//! w1 = e^{·}, w2 = e^{·}.
//!
//! The last convolution is followed by the sum over the lattice, which sees only the sums of its weights: one positive number
//! a channel, and one number for L_K(φ). Those are the parameters here. The μ_k serve as biases.

use super::hessian::Geometry;
use super::pass::{Hessian, Pass};
use super::weights::{Layout, Weights};
use crate::{Error, ParamStore, Result};
use candle_core::{DType, Tensor};
use latflow_kernels::Stencil;
use latflow_lattice::{Boundary, Lattice};
use rand_distr::{Distribution as _, StandardNormal};
use std::sync::Arc;

/// Architecture of a potential, and where its two scales start.
#[derive(Debug, Clone, PartialEq)]
pub struct PotentialShape {
    /// K, the number of convolutions; at least 2.
    pub convolutions: usize,
    /// Channels C of h_1 … h_{K−1}.
    pub channels: usize,
    /// Kernel extent, the same in every direction; odd.
    pub kernel: usize,
    /// w1 at the start: how far the flow is from a multiple of the identity.
    pub nonlinear: f64,
    /// w2 at the start.
    pub quadratic: f64,
}

impl Default for PotentialShape {
    /// The numbers of [YUK Tab. IV] and [YUK App. A].
    fn default() -> Self {
        Self { convolutions: 4, channels: 16, kernel: 3, nonlinear: 5e-3, quadratic: 1.0 }
    }
}

/// A strongly convex u(φ) on periodic fields `[B, V]`, invariant under all lattice translations. Everything is f64.
#[derive(Debug, Clone)]
pub struct ConvexPotential {
    name: String,
    theta: Tensor,
    layout: Layout,
    stencil: Stencil,
    volume: usize,
    geometry: Arc<Geometry>,
}

impl ConvexPotential {
    /// A potential whose free weights are N(0, 1/fan-in) and whose positive ones come from N(0, 1) before their softplus. The
    /// normalisation does nothing yet: see [`Self::initialize`].
    ///
    /// # Errors
    /// When the kernel does not fit the lattice, a number in `shape` makes no sense, or the name is taken.
    pub fn new(
        store: &mut ParamStore,
        name: &str,
        lattice: &Lattice,
        shape: &PotentialShape,
    ) -> Result<Self> {
        for (name, value, least) in [("convolutions", shape.convolutions, 2), ("channels", shape.channels, 1)]
        {
            if value < least {
                let expected = if least == 2 { "at least 2" } else { "at least 1" };
                return Err(Error::Parameter { name, value: value as f64, expected });
            }
        }
        for (name, value) in [("nonlinear", shape.nonlinear), ("quadratic", shape.quadratic)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::Parameter { name, value, expected: "a positive finite number" });
            }
        }
        let kernel = vec![shape.kernel; lattice.ndim()];
        let stencil = lattice.stencil(&kernel, Boundary::Periodic)?;
        let layout = Layout::new(stencil.taps(), shape.channels, shape.convolutions - 1);
        let theta = store.create(name, &[layout.len()], |rng| {
            let mut theta = vec![0.0; layout.len()];
            let mut fill = |range: std::ops::Range<usize>, deviation: f64| {
                for w in &mut theta[range] {
                    let normal: f64 = StandardNormal.sample(rng);
                    *w = deviation * normal;
                }
            };
            fill(layout.skip.clone(), 1.0 / (stencil.taps() as f64).sqrt());
            for range in layout.positive.iter().chain([&layout.last]) {
                fill(range.clone(), 1.0);
            }
            theta[layout.log_nonlinear] = shape.nonlinear.ln();
            theta[layout.log_quadratic] = shape.quadratic.ln();
            theta
        })?;
        let geometry = Arc::new(Geometry::new(lattice, shape.kernel, layout.depth, store.device())?);
        Ok(Self { name: name.to_owned(), theta, layout, stencil, volume: lattice.volume(), geometry })
    }

    /// Its name in the store.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets μ_k and σ_k to the mean and the standard deviation of h_k over `batch` `[B, V]`, layer by layer. To be called once,
    /// before training; the values are parameters, so a checkpoint carries them and training changes them.
    ///
    /// # Errors
    /// When the batch does not fit, or a channel does not vary over it.
    pub fn initialize(&self, store: &ParamStore, batch: &Tensor) -> Result<()> {
        let mut theta = self.theta.detach().to_dtype(DType::F64)?.to_vec1::<f64>()?;
        for range in [&self.layout.offset, &self.layout.log_scale] {
            theta[range.clone()].fill(0.0);
        }
        for k in 0..self.layout.depth {
            // With μ = 0 and σ = 1 still in this layer, a_k is h_k.
            let now = Tensor::from_slice(&theta, theta.len(), self.theta.device())?;
            let h = self.pass_with(&now, &batch.detach())?.normalised(k).flatten_to(1)?;
            let mean = h.mean(0)?;
            let deviation = h.broadcast_sub(&mean)?.sqr()?.mean(0)?.sqrt()?;
            let (mean, deviation) = (mean.to_vec1::<f64>()?, deviation.to_vec1::<f64>()?);
            for (i, (mean, deviation)) in mean.into_iter().zip(deviation).enumerate() {
                // Rounding alone lets a constant vary by 1e-16 of itself.
                if !(deviation > 1e-10 * mean.abs() && deviation.is_finite()) {
                    let expected =
                        "a positive finite number: initialise with several different configurations";
                    return Err(Error::Parameter { name: "standard deviation", value: deviation, expected });
                }
                theta[self.layout.offset.start + k * self.layout.channels + i] = mean;
                theta[self.layout.log_scale.start + k * self.layout.channels + i] = deviation.ln();
            }
        }
        store.set(&self.name, &Tensor::from_vec(theta, self.theta.dims(), self.theta.device())?)
    }

    /// u(φ), `[B]`.
    ///
    /// # Errors
    /// When φ does not fit the lattice.
    pub fn value(&self, phi: &Tensor) -> Result<Tensor> {
        self.pass(phi)?.value()
    }

    /// ∇u(φ), `[B, V]`, differentiable once in φ and in the parameters.
    ///
    /// # Errors
    /// When φ does not fit the lattice.
    pub fn gradient(&self, phi: &Tensor) -> Result<Tensor> {
        Ok(self.pass(phi)?.gradient()?)
    }

    /// The operator v ↦ H_u(φ) v, differentiable once like [`Self::gradient`].
    ///
    /// # Errors
    /// When φ does not fit the lattice.
    pub fn hessian(&self, phi: &Tensor) -> Result<Hessian> {
        Ok(Hessian(self.pass(phi)?))
    }

    /// H_u(φ) as matrices `[B, V, V]`, without gradients.
    ///
    /// # Errors
    /// When φ does not fit the lattice.
    pub fn dense_hessian(&self, phi: &Tensor) -> Result<Tensor> {
        let theta = self.theta.detach();
        let chunks = self.chunks(phi)?.into_iter().map(|(start, len)| {
            self.geometry.dense(&self.pass_with(&theta, &phi.narrow(0, start, len)?.detach())?)
        });
        Ok(Tensor::cat(&chunks.collect::<Result<Vec<_>>>()?, 0)?)
    }

    pub(super) fn pass(&self, phi: &Tensor) -> Result<Pass> {
        self.pass_with(&self.theta, phi)
    }

    /// The pass with other values of the parameters.
    pub(super) fn pass_with(&self, theta: &Tensor, phi: &Tensor) -> Result<Pass> {
        if phi.rank() != 2 || phi.dim(1)? != self.volume {
            return Err(Error::Shape {
                what: "field of a convex potential",
                expected: format!("[B, {}]", self.volume),
                got: phi.dims().to_vec(),
            });
        }
        Ok(Pass::new(Weights::new(theta, &self.layout, &self.stencil)?, phi)?)
    }

    pub(super) fn theta(&self) -> &Tensor {
        &self.theta
    }

    pub(super) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// (start, length) of the parts of a batch whose Jacobians are kept in memory at a time.
    pub(super) fn chunks(&self, phi: &Tensor) -> Result<Vec<(usize, usize)>> {
        const BYTES: usize = 1 << 25;
        let batch = phi.dim(0)?;
        let one = self.geometry.largest() * self.layout.channels * size_of::<f64>();
        let len = (BYTES / one).clamp(1, batch.max(1));
        Ok((0..batch).step_by(len).map(|start| (start, len.min(batch - start))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use latflow_lattice::{Streams, normal_tensor};

    #[test]
    fn every_channel_is_normalised_over_the_batch() {
        let lattice = Lattice::new(&[4, 6]).unwrap();
        let mut store = ParamStore::new(Streams::new(1), DType::F64, &Device::Cpu);
        let shape = PotentialShape { channels: 5, ..PotentialShape::default() };
        let potential = ConvexPotential::new(&mut store, "u", &lattice, &shape).unwrap();
        let mut rng = Streams::new(2).stream("test", 0);
        let batch = normal_tensor(&mut rng, 0.2, &[32, 24], DType::F64, &Device::Cpu).unwrap();
        potential.initialize(&store, &batch).unwrap();
        let pass = potential.pass(&batch).unwrap();
        for k in 0..3 {
            let a = pass.normalised(k).flatten_to(1).unwrap();
            let mean = a.mean(0).unwrap().to_vec1::<f64>().unwrap();
            let square = a.sqr().unwrap().mean(0).unwrap().to_vec1::<f64>().unwrap();
            for (mean, square) in mean.into_iter().zip(square) {
                assert!(mean.abs() < 1e-12 && (square - 1.0).abs() < 1e-12, "layer {k}: {mean:e}, {square}");
            }
        }
    }
}
