//! The published numbers this program reproduces: Tables II and III of arXiv:2106.05934.

use latflow_observable::ValueError;

/// One row of Table II with the φ-marginal row of Table III.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Published {
    /// Yukawa coupling, as on the command line.
    pub coupling: &'static str,
    /// Bare mass squared.
    pub m2: f64,
    /// Quartic coupling.
    pub lambda: f64,
    /// Yukawa coupling.
    pub g: f64,
    /// ⟨|M|⟩ by HMC.
    pub abs_magnetization: &'static str,
    /// ⟨|ψ̄ψ|⟩ by HMC.
    pub abs_condensate: &'static str,
    /// ‖F_F‖/‖F_B‖; the paper does not say for which form of the fermionic force.
    pub force_ratio: f64,
    /// The φ-marginal flow.
    pub marginal: Flow,
}

/// A flow's row of Table III.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Flow {
    /// Acceptance of independence Metropolis.
    pub acceptance: f64,
    /// ⟨|M|⟩
    pub abs_magnetization: &'static str,
    /// ⟨|ψ̄ψ|⟩
    pub abs_condensate: &'static str,
    /// τ_int of |M|.
    pub tau_int_magnetization: &'static str,
    /// τ_int of |ψ̄ψ|.
    pub tau_int_condensate: &'static str,
    /// Samples seen in training, from Table IV: steps × batch.
    pub training_samples: f64,
}

/// Lattice of every published number.
pub(crate) const DIMS: [usize; 2] = [16, 16];

/// Both parameter sets, at m_f = 0 [YUK Tab. II, III, IV].
pub(crate) const PUBLISHED: [Published; 2] = [
    Published {
        coupling: "0.1",
        m2: -4.0,
        lambda: 6.0,
        g: 0.1,
        abs_magnetization: "0.0733(1)",
        abs_condensate: "0.0159(1)",
        force_ratio: 0.03,
        marginal: Flow {
            acceptance: 0.92,
            abs_magnetization: "0.0734(1)",
            abs_condensate: "0.0159(1)",
            tau_int_magnetization: "0.72(1)",
            tau_int_condensate: "0.71(1)",
            training_samples: 1.536e9,
        },
    },
    Published {
        coupling: "0.3",
        m2: -1.55,
        lambda: 2.4,
        g: 0.3,
        abs_magnetization: "0.0791(1)",
        abs_condensate: "0.0490(1)",
        force_ratio: 0.39,
        marginal: Flow {
            acceptance: 0.92,
            abs_magnetization: "0.0792(1)",
            abs_condensate: "0.0491(1)",
            tau_int_magnetization: "0.67(1)",
            tau_int_condensate: "0.67(1)",
            training_samples: 1.536e9,
        },
    },
];

/// A published number.
///
/// # Panics
/// Never for the numbers of this file: a test reads them all.
pub(crate) fn number(text: &str) -> ValueError {
    text.parse().expect("published numbers are written as value(error)")
}

#[cfg(test)]
mod tests {
    use super::{PUBLISHED, number};

    #[test]
    fn every_published_number_can_be_read() {
        for p in PUBLISHED {
            let f = p.marginal;
            for text in [
                p.abs_magnetization,
                p.abs_condensate,
                f.abs_magnetization,
                f.abs_condensate,
                f.tau_int_magnetization,
                f.tau_int_condensate,
            ] {
                assert!(number(text).value > 0.0 && number(text).error > 0.0);
            }
            assert_eq!(p.coupling, p.g.to_string());
        }
    }
}
