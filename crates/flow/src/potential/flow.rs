//! The bijection x = ∇u(z) and its log-determinant.
//!
//! ```text
//! x = ∇u(z),   log |det ∂x/∂z| = log det H_u(z)                                    [YUK (30), (31)]
//! log |det| of a chain = Σ_i log det H_{u_i}                                        [YUK (33)]
//! ```

use super::determinant;
use super::lanczos::{LogDetEstimate, lanczos_log_det};
use super::network::ConvexPotential;
use super::newton::NewtonCg;
use super::noise::Noise;
use super::surrogate::{Source, inverse, log_det};
use crate::{Bijection, Error, ParamStore, Result};
use candle_core::Tensor;
use latflow_fermion::ConjugateGradient;
use latflow_lattice::Streams;

/// How the value of log det H_u is found.
#[derive(Debug, Clone)]
pub enum LogDetValue {
    /// Dense Hessian and Cholesky: exact, O(V³).
    Dense,
    /// Mean of stochastic Lanczos quadrature, O(V): for losses and monitoring. **Not exact**: a sampler that accepts or reweights
    /// with it is biased, since ⟨e^x⟩ ≠ e^{⟨x⟩}, and because the noise belongs to the configuration it is not a
    /// pseudo-marginal scheme either. Check [`LogDetValue::is_exact`].
    Lanczos {
        /// Noise vectors, at least 2.
        probes: usize,
        /// Products with each.
        steps: usize,
        /// Stream `convex/value/<name>`, index = hash of the configuration.
        streams: Streams,
    },
}

/// How the gradient of log det H_u is found.
#[derive(Debug, Clone)]
pub enum LogDetGradient {
    /// Tr[H_u⁻¹ ∂H_u] with the inverse matrix: exact, O(V³).
    Dense,
    /// Unbiased, O(V) [YUK (32)].
    Stochastic {
        /// Noise vectors, at least 1.
        probes: usize,
        /// For H_u⁻¹χ. Its residual is a bias, so keep the tolerance well below the spread of the noise.
        solver: ConjugateGradient,
        /// Stream `convex/gradient/<name>`, index = hash of the configuration.
        streams: Streams,
    },
}

/// Value and gradient, chosen independently.
#[derive(Debug, Clone)]
pub struct LogDet {
    /// Of the value.
    pub value: LogDetValue,
    /// Of the gradient.
    pub gradient: LogDetGradient,
}

impl LogDetValue {
    /// Whether the density of a flow with this value is the density it samples.
    pub fn is_exact(&self) -> bool {
        matches!(self, Self::Dense)
    }
}

impl LogDet {
    /// Exact value, exact gradient.
    pub fn exact() -> Self {
        Self { value: LogDetValue::Dense, gradient: LogDetGradient::Dense }
    }

    fn validate(&self) -> Result<()> {
        let at_least = |name, value: usize, least: usize, expected| {
            let error = Error::Parameter { name, value: value as f64, expected };
            if value < least { Err(error) } else { Ok(()) }
        };
        if let LogDetValue::Lanczos { probes, steps, .. } = self.value {
            at_least("probes", probes, 2, "at least 2")?;
            at_least("steps", steps, 1, "at least 1")?;
        }
        match self.gradient {
            LogDetGradient::Stochastic { probes, .. } => at_least("probes", probes, 1, "at least 1"),
            LogDetGradient::Dense => Ok(()),
        }
    }
}

/// One layer x = ∇u(z) on fields `[B, V]`, equivariant under all lattice translations.
#[derive(Debug, Clone)]
pub struct ConvexFlow {
    potential: ConvexPotential,
    log_det: LogDet,
    newton: NewtonCg,
}

impl ConvexFlow {
    /// The gradient of a potential.
    ///
    /// # Errors
    /// When there are too few probes or steps.
    pub fn new(potential: ConvexPotential, log_det: LogDet, newton: NewtonCg) -> Result<Self> {
        log_det.validate()?;
        Ok(Self { potential, log_det, newton })
    }

    /// The same layer, with the same parameters, and another way to its log-determinant: stochastic to train, exact to sample.
    ///
    /// # Errors
    /// When there are too few probes or steps.
    pub fn with_log_det(&self, log_det: LogDet) -> Result<Self> {
        Self::new(self.potential.clone(), log_det, self.newton)
    }

    /// How the log-determinant is found.
    pub fn log_det(&self) -> &LogDet {
        &self.log_det
    }

    /// The potential.
    pub fn potential(&self) -> &ConvexPotential {
        &self.potential
    }

    /// Initialises the potential with a batch of inputs [`ConvexPotential::initialize`] and returns the outputs, which initialise
    /// the next layer of a chain.
    ///
    /// # Errors
    /// When the batch does not fit, or does not vary.
    pub fn initialize(&self, store: &ParamStore, z: &Tensor) -> Result<Tensor> {
        self.potential.initialize(store, z)?;
        Ok(self.potential.gradient(&z.detach())?.detach())
    }

    /// log det H_u(z) by Lanczos quadrature with its statistical error; noise from the stream `convex/value/<name>`.
    ///
    /// # Errors
    /// With fewer than two probes or no step.
    pub fn estimate_log_det(
        &self,
        z: &Tensor,
        probes: usize,
        steps: usize,
        streams: Streams,
    ) -> Result<LogDetEstimate> {
        let z = z.detach();
        let noise = Noise::new(streams, format!("convex/value/{}", self.potential.name()));
        let pass = self.potential.pass_with(&self.potential.theta().detach(), &z)?;
        lanczos_log_det(&super::Hessian(pass), &noise.draw(&z, probes)?, steps)
    }

    /// log det H_u(z), `[B]`.
    fn log_det_jacobian(&self, z: &Tensor) -> Result<Tensor> {
        let dense = match (&self.log_det.value, &self.log_det.gradient) {
            (LogDetValue::Lanczos { .. }, LogDetGradient::Stochastic { .. }) => None,
            _ => Some(self.potential.dense_hessian(z)?),
        };
        let value = match (&self.log_det.value, &dense) {
            (LogDetValue::Lanczos { probes, steps, streams }, _) => {
                self.estimate_log_det(z, *probes, *steps, *streams)?.mean
            }
            (LogDetValue::Dense, dense) => {
                determinant::log_det(dense.as_ref().expect("a dense value has its matrix"))?
            }
        };
        let value = Tensor::from_vec(value, z.dim(0)?, z.device())?;
        let source = match &self.log_det.gradient {
            LogDetGradient::Dense => Source::Hessian(dense.expect("a dense gradient has its matrix")),
            LogDetGradient::Stochastic { probes, solver, streams } => {
                let purpose = format!("convex/gradient/{}", self.potential.name());
                Source::Noise { noise: Noise::new(*streams, purpose), probes: *probes, solver: *solver }
            }
        };
        log_det(&self.potential, z, &value, source)
    }
}

impl Bijection<Tensor> for ConvexFlow {
    fn forward(&self, z: &Tensor, (): &()) -> Result<(Tensor, Tensor)> {
        Ok((self.potential.gradient(z)?, self.log_det_jacobian(z)?))
    }

    fn inverse(&self, x: &Tensor, (): &()) -> Result<(Tensor, Tensor)> {
        let solver = ConjugateGradient { tolerance: self.newton.tolerance, ..self.newton.linear };
        let z = inverse(&self.potential, x, &self.newton.solve(&self.potential, x)?, solver)?;
        let log_det_jacobian = self.log_det_jacobian(&z)?.neg()?;
        Ok((z, log_det_jacobian))
    }
}
