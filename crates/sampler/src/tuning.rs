//! The number of integration steps that reaches a target acceptance, found while thermalising.
//!
//! ```text
//! ln n ← ln n + γ_k (target − acceptance probability),   γ_k = 2 / (k + 4)^0.6        (Robbins and Monro 1951)
//! ```
//!
//! Adapting breaks detailed balance: freeze the result before the first measurement.

/// State of the search; all of it must go into a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepTuner {
    /// The acceptance probability to reach.
    pub target: f64,
    /// ln n, a real number; the kernel uses ⌈n⌉.
    pub log_steps: f64,
    /// Trajectories seen.
    pub updates: u64,
}

impl StepTuner {
    /// Starts from `steps` steps.
    pub fn new(target: f64, steps: usize) -> Self {
        Self { target, log_steps: (steps.max(1) as f64).ln(), updates: 0 }
    }

    /// Takes one trajectory's mean acceptance probability into account.
    pub fn observe(&mut self, acceptance_probability: f64) {
        let gain = 2.0 / (self.updates as f64 + 4.0).powf(0.6);
        self.updates += 1;
        self.log_steps = (self.log_steps + gain * (self.target - acceptance_probability)).clamp(0.0, 8.0);
    }

    /// Steps to use now.
    pub fn steps(&self) -> usize {
        // A hair below the integer, so that n = 1 exactly stays one step.
        (self.log_steps.exp() - 1e-9).ceil().max(1.0) as usize
    }
}
