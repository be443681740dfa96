//! The bijection of a fitted velocity: an ordinary differential equation with a measured error.
//!
//! ```text
//! dx/dt = Σ_i c_i(t) v_i(x),     log |det ∂x/∂z| = ∫₀¹ Σ_i c_i ∇·v_i dt,     inverse: from t = 1 to 0
//! ```
//!
//! The log-determinant is that of the exact flow, so that it belongs to the map applied only as well as the equation is
//! solved. Every batch is therefore solved twice, with steps h and h/2. The second solution is returned if the two differ by
//! less than a tolerance in log |det| and in position; otherwise h is halved, a few times, and then the flow refuses.

use super::checkpoint::{Segment, checkpointed};
use super::integrator::step;
use super::{Basis, TimeGrid};
use crate::{Bijection, Error, ParamStore, Result};
use candle_core::{DType, Tensor};
use latflow_lattice::{Manifold, sum_per_configuration};
use std::sync::Arc;

/// Largest difference between h and h/2 unless told otherwise.
const TOLERANCE: f64 = 1e-3;
/// Times that h is halved before a batch is refused.
const REFINEMENTS: u32 = 3;

/// The flow on configurations of a manifold; f64, whatever the type of its parameters.
#[derive(Debug, Clone)]
pub struct ContinuousFlow<B> {
    basis: Arc<B>,
    grid: TimeGrid,
    /// c_i(t_k), `[K + 1, n]`.
    coefficients: Tensor,
    steps: usize,
    tolerance: f64,
}

impl<B> ContinuousFlow<B> {
    /// The identity: coefficients c(t_k) = 0 in one parameter `name` of shape `[K + 1, n]`. Each interval of the grid is
    /// crossed in `steps` steps h, and in twice as many.
    ///
    /// # Errors
    /// When the name is taken or there is no step.
    pub fn new<X>(
        store: &mut ParamStore,
        name: &str,
        basis: Arc<B>,
        grid: TimeGrid,
        steps: usize,
    ) -> Result<Self>
    where
        B: Basis<X>,
    {
        if steps == 0 {
            return Err(Error::Parameter { name: "steps", value: 0.0, expected: "at least 1" });
        }
        let (nodes, n) = (grid.nodes().len(), basis.count());
        let coefficients = store.create(name, &[nodes, n], |_| vec![0.0; nodes * n])?;
        Ok(Self { basis, grid, coefficients, steps, tolerance: TOLERANCE })
    }

    /// Refuses batches whose solutions with h and h/2 differ by more than this.
    ///
    /// # Errors
    /// When it is not positive.
    pub fn with_tolerance(mut self, tolerance: f64) -> Result<Self> {
        if tolerance.is_nan() || tolerance <= 0.0 {
            return Err(Error::Parameter {
                name: "tolerance",
                value: tolerance,
                expected: "a positive number",
            });
        }
        self.tolerance = tolerance;
        Ok(self)
    }

    /// The vector fields.
    pub fn basis(&self) -> &Arc<B> {
        &self.basis
    }

    /// The times of the coefficients.
    pub fn grid(&self) -> &TimeGrid {
        &self.grid
    }

    /// The velocity Σ_i c_i(t) v_i(x) and its divergence `[B]` at time t, without the history of the coefficients.
    ///
    /// # Errors
    /// When the field does not fit.
    pub fn velocity<X>(&self, x: &X, t: f64) -> Result<(Tensor, Tensor)>
    where
        B: Basis<X>,
    {
        let after = self.grid.nodes().partition_point(|node| *node <= t);
        let interval = after.saturating_sub(1).min(self.grid.intervals() - 1);
        let c = self.coefficients.detach().to_dtype(DType::F64)?;
        self.basis.combine(x, &interpolated(&c, &self.grid.weights(interval, t))?)
    }

    /// max over the batch of |Δ log |det|| and of the Euclidean distance of the end points between solutions with steps h and
    /// h/2 of the flow from prior to field: what `forward` keeps below its tolerance.
    ///
    /// # Errors
    /// When the field does not fit.
    pub fn integration_error<X: Manifold + Send + Sync + 'static>(&self, z: &X) -> Result<f64>
    where
        B: Basis<X> + 'static,
    {
        let (z, order) = (z.detach(), self.order(0, self.grid.intervals()));
        Ok(disagreement(&self.solve(&z, self.steps, &order)?, &self.solve(&z, 2 * self.steps, &order)?)?.1)
    }

    /// The part of the flow from node `from` of the grid to node `to`, backwards when `from` is the later one, with its
    /// log |det|. Its share of the tolerance is that of its intervals: all parts together keep what the whole flow promises.
    ///
    /// # Errors
    /// When the grid has no such nodes, the field does not fit, or the tolerance is not met.
    pub fn between<X: Manifold + Send + Sync + 'static>(
        &self,
        x: &X,
        from: usize,
        to: usize,
    ) -> Result<(X, Tensor)>
    where
        B: Basis<X> + 'static,
    {
        let last = self.grid.intervals();
        if from.max(to) > last {
            let value = from.max(to) as f64;
            return Err(Error::Parameter {
                name: "node of the time grid",
                value,
                expected: "one of the grid's",
            });
        }
        let share = from.abs_diff(to) as f64 / last as f64;
        self.flow(x, &self.order(from, to), self.tolerance * share)
    }

    /// (interval, start, end) in the order in which they are crossed between two nodes.
    fn order(&self, from: usize, to: usize) -> Vec<(usize, f64, f64)> {
        let nodes = self.grid.nodes();
        match from <= to {
            true => (from..to).map(|k| (k, nodes[k], nodes[k + 1])).collect(),
            false => (to..from).rev().map(|k| (k, nodes[k + 1], nodes[k])).collect(),
        }
    }

    fn crossing<X: Manifold>(
        &self,
        template: &X,
        steps: usize,
        (interval, from, to): (usize, f64, f64),
    ) -> Crossing<X, B> {
        let (basis, grid, template) = (self.basis.clone(), self.grid.clone(), template.detach());
        Crossing { basis, grid, template, interval, from, to, steps }
    }

    /// The packed states at the end of every interval, without history.
    fn solve<X: Manifold + Send + Sync + 'static>(
        &self,
        x: &X,
        steps: usize,
        order: &[(usize, f64, f64)],
    ) -> Result<Vec<Tensor>>
    where
        B: Basis<X> + 'static,
    {
        let c = self.coefficients.detach();
        let mut state = start(x)?;
        let mut states = Vec::with_capacity(order.len());
        for interval in order {
            state = self.crossing(x, steps, *interval).run(&state, &c)?;
            states.push(state.clone());
        }
        Ok(states)
    }

    fn flow<X: Manifold + Send + Sync + 'static>(
        &self,
        x: &X,
        order: &[(usize, f64, f64)],
        tolerance: f64,
    ) -> Result<(X, Tensor)>
    where
        B: Basis<X> + 'static,
    {
        let fixed = x.detach();
        let (mut steps, mut halvings) = (self.steps, 0);
        let mut coarse = self.solve(&fixed, steps, order)?;
        loop {
            let fine = self.solve(&fixed, 2 * steps, order)?;
            let (configuration, error) = disagreement(&coarse, &fine)?;
            if error <= tolerance {
                return self.with_history(x, order, 2 * steps, &fine);
            }
            if halvings == REFINEMENTS {
                return Err(Error::Integration { configuration, error, tolerance, steps: 2 * steps });
            }
            (steps, halvings, coarse) = (2 * steps, halvings + 1, fine);
        }
    }

    /// The solution `states`, differentiable in x and the coefficients as far as they are tracked.
    fn with_history<X: Manifold + Send + Sync + 'static>(
        &self,
        x: &X,
        order: &[(usize, f64, f64)],
        steps: usize,
        states: &[Tensor],
    ) -> Result<(X, Tensor)>
    where
        B: Basis<X> + 'static,
    {
        let mut state = start(x)?;
        for (interval, value) in order.iter().zip(states) {
            let segment = self.crossing(x, steps, *interval);
            state = checkpointed(segment, &state, &self.coefficients, value)?;
        }
        unpack(x, &state)
    }
}

impl<X: Manifold + Send + Sync + 'static, B: Basis<X> + 'static> Bijection<X> for ContinuousFlow<B> {
    fn forward(&self, z: &X, (): &()) -> Result<(X, Tensor)> {
        self.between(z, 0, self.grid.intervals())
    }

    fn inverse(&self, x: &X, (): &()) -> Result<(X, Tensor)> {
        self.between(x, self.grid.intervals(), 0)
    }
}

/// Σ_k w_k c_i(t_k), `[n]`.
pub(super) fn interpolated(coefficients: &Tensor, weights: &[f64]) -> Result<Tensor> {
    let weights = Tensor::from_slice(weights, (1, weights.len()), coefficients.device())?;
    Ok(weights.matmul(coefficients)?.squeeze(0)?)
}

/// One interval of the grid, crossed in equal steps.
struct Crossing<X, B> {
    basis: Arc<B>,
    grid: TimeGrid,
    /// What the packed state is unpacked into.
    template: X,
    interval: usize,
    from: f64,
    to: f64,
    steps: usize,
}

impl<X: Manifold + Send + Sync + 'static, B: Basis<X> + 'static> Segment for Crossing<X, B> {
    fn run(&self, state: &Tensor, coefficients: &Tensor) -> Result<Tensor> {
        let c = coefficients.to_dtype(DType::F64)?;
        let mut velocity =
            |x: &X, t: f64| self.basis.combine(x, &interpolated(&c, &self.grid.weights(self.interval, t))?);
        let (mut x, mut log_det) = unpack(&self.template, state)?;
        let h = (self.to - self.from) / self.steps as f64;
        for s in 0..self.steps {
            let (moved, change) = step(&mut velocity, &x, self.from + h * s as f64, h)?;
            x = moved;
            log_det = (log_det + change)?;
        }
        pack(&x, &log_det)
    }
}

fn start<X: Manifold>(x: &X) -> Result<Tensor> {
    pack(x, &Tensor::zeros(x.batch()?, DType::F64, x.device())?)
}

/// All tensors of a configuration and one number, `[B, numbers + 1]`.
fn pack<X: Manifold>(x: &X, log_det: &Tensor) -> Result<Tensor> {
    let mut parts = Vec::new();
    x.map(&mut |t| {
        parts.push(t.flatten_from(1)?);
        Ok(t.clone())
    })?;
    parts.push(log_det.unsqueeze(1)?);
    Ok(Tensor::cat(&parts, 1)?)
}

fn unpack<X: Manifold>(template: &X, state: &Tensor) -> Result<(X, Tensor)> {
    let mut used = 0;
    let x = template.map(&mut |t| {
        let numbers = t.dims()[1..].iter().product();
        let part = state.narrow(1, used, numbers)?.contiguous()?.reshape(t.shape())?;
        used += numbers;
        Ok(part)
    })?;
    Ok((x, state.narrow(1, used, 1)?.squeeze(1)?))
}

/// max(|Δ log |det||, ‖Δx‖₂) at the last of the states for the worst configuration, and which it is; NaN counts as infinite.
fn disagreement(coarse: &[Tensor], fine: &[Tensor]) -> Result<(usize, f64)> {
    let mut worst = (0, 0.0);
    if let Some((coarse, fine)) = coarse.last().zip(fine.last()) {
        let change = (fine - coarse)?;
        let numbers = change.dim(1)? - 1;
        let distance =
            sum_per_configuration(&change.narrow(1, 0, numbers)?.sqr()?)?.sqrt()?.to_vec1::<f64>()?;
        let log_det = change.narrow(1, numbers, 1)?.squeeze(1)?.to_vec1::<f64>()?;
        for (configuration, (a, b)) in distance.iter().zip(&log_det).enumerate() {
            let both = if a.is_nan() || b.is_nan() { f64::INFINITY } else { a.max(b.abs()) };
            if both > worst.1 {
                worst = (configuration, both);
            }
        }
    }
    Ok(worst)
}
