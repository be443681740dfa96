//! The times at which coefficients are known, and their interpolation in between.

use crate::{Error, Result};

/// Times 0 = t_0 < t_1 < … < t_K = 1. Between two of them a function is the cubic polynomial through its values at the four
/// nearest: continuous, and smooth but at the nodes, which are therefore ends of integration steps.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeGrid {
    nodes: Vec<f64>,
}

/// Values of the polynomial through four nodes.
const STENCIL: usize = 4;

impl TimeGrid {
    /// The given times.
    ///
    /// # Errors
    /// When they do not rise strictly from 0 to 1.
    pub fn new(nodes: &[f64]) -> Result<Self> {
        let ends = nodes.first() == Some(&0.0) && nodes.last() == Some(&1.0);
        if !ends || nodes.windows(2).any(|w| w[0].partial_cmp(&w[1]) != Some(std::cmp::Ordering::Less)) {
            return Err(Error::Parameter {
                name: "number of time nodes",
                value: nodes.len() as f64,
                expected: "times that rise strictly from 0 to 1",
            });
        }
        Ok(Self { nodes: nodes.to_vec() })
    }

    /// t_k = 1 − (1 − k/K)^p with K = `intervals`: equal steps for p = 1, denser near t = 1, where residuals are largest,
    /// for p > 1.
    ///
    /// # Errors
    /// When there is no interval or p is not at least 1.
    pub fn clustered(intervals: usize, power: f64) -> Result<Self> {
        if intervals == 0 {
            return Err(Error::Parameter { name: "intervals", value: 0.0, expected: "at least 1" });
        }
        if !(power >= 1.0 && power.is_finite()) {
            return Err(Error::Parameter { name: "power", value: power, expected: "a number of at least 1" });
        }
        let node = |k: usize| 1.0 - (1.0 - k as f64 / intervals as f64).powf(power);
        Self::new(&(0..=intervals).map(node).collect::<Vec<_>>())
    }

    /// The times.
    pub fn nodes(&self) -> &[f64] {
        &self.nodes
    }

    /// Number of intervals K.
    pub fn intervals(&self) -> usize {
        self.nodes.len() - 1
    }

    /// Weights of all nodes in the value at t of the polynomial of interval k, [t_k, t_{k+1}].
    pub fn weights(&self, interval: usize, t: f64) -> Vec<f64> {
        let points = STENCIL.min(self.nodes.len());
        let first = interval.saturating_sub(1).min(self.nodes.len() - points);
        self.lagrange(first..first + points, t)
    }

    /// The same with the values at t_0 … t_{k+1} alone: what is known when a march reaches t_{k+1}.
    pub(super) fn causal_weights(&self, interval: usize, t: f64) -> Vec<f64> {
        self.lagrange((interval + 2).saturating_sub(STENCIL)..interval + 2, t)
    }

    /// Continues the values at t_0 … t_k into interval k, along a straight line.
    pub(super) fn extrapolating_weights(&self, interval: usize, t: f64) -> Vec<f64> {
        self.lagrange(interval.saturating_sub(1)..interval + 1, t)
    }

    fn lagrange(&self, stencil: std::ops::Range<usize>, t: f64) -> Vec<f64> {
        let mut weights = vec![0.0; self.nodes.len()];
        for i in stencil.clone() {
            let factors = stencil.clone().filter(|j| *j != i);
            weights[i] = factors.map(|j| (t - self.nodes[j]) / (self.nodes[i] - self.nodes[j])).product();
        }
        weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cubics_are_interpolated_exactly() {
        let cubic = |t: f64| 1.0 - 2.0 * t + 3.0 * t * t - 4.0 * t.powi(3);
        let grid = TimeGrid::clustered(7, 2.0).unwrap();
        let values: Vec<f64> = grid.nodes().iter().map(|t| cubic(*t)).collect();
        for k in 0..grid.intervals() {
            for s in [0.0, 0.3, 1.0] {
                let t = grid.nodes()[k] + s * (grid.nodes()[k + 1] - grid.nodes()[k]);
                let value: f64 = grid.weights(k, t).iter().zip(&values).map(|(w, v)| w * v).sum();
                assert!((value - cubic(t)).abs() < 1e-12, "interval {k}, t = {t}");
            }
        }
    }

    #[test]
    fn only_what_a_march_knows_enters() {
        let grid = TimeGrid::clustered(6, 1.5).unwrap();
        for k in 0..grid.intervals() {
            let known = |weights: Vec<f64>, nodes: usize| {
                assert!(weights[nodes..].iter().all(|w| *w == 0.0), "interval {k}");
                assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            };
            known(grid.causal_weights(k, 0.37), k + 2);
            known(grid.extrapolating_weights(k, 0.37), k + 1);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [&[][..], &[0.0], &[0.0, 0.5], &[0.0, 0.7, 0.7, 1.0], &[0.0, f64::NAN, 1.0]] {
            assert!(TimeGrid::new(bad).is_err(), "{bad:?}");
        }
        assert!(TimeGrid::clustered(0, 1.0).is_err() && TimeGrid::clustered(4, 0.5).is_err());
    }
}
