//! The published numbers this program reproduces: Tables II and III of arXiv:2106.05934, training samples from Table IV.

pub(crate) mod qcd;

use latflow_observable::ValueError;

/// One row of Table II.
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
    /// Table III at this coupling, one row a scheme.
    pub flows: [Flow; 4],
}

impl Published {
    /// The row of Table III for a sampling scheme; the pseudo-marginal one is discussed there, not measured.
    pub(crate) fn flow(&self, scheme: &str) -> Option<&Flow> {
        self.flows.iter().find(|flow| flow.scheme == scheme)
    }
}

/// One row of Table III.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Flow {
    /// As in `results.json`.
    pub scheme: &'static str,
    /// Accepted proposals.
    pub acceptance: f64,
    /// ⟨|M|⟩
    pub abs_magnetization: &'static str,
    /// ⟨|ψ̄ψ|⟩
    pub abs_condensate: &'static str,
    /// τ_int of |M|.
    pub tau_int_magnetization: &'static str,
    /// τ_int of |ψ̄ψ|.
    pub tau_int_condensate: &'static str,
    /// Gradient steps of Table IV.
    pub training_steps: f64,
    /// Batch of Table IV.
    pub training_batch: f64,
}

impl Flow {
    /// Samples seen in training.
    pub(crate) fn training_samples(&self) -> f64 {
        self.training_steps * self.training_batch
    }
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
        flows: [
            marginal(0.92, ["0.0734(1)", "0.0159(1)"], ["0.72(1)", "0.71(1)"]),
            gibbs(0.60, ["0.0735(1)", "0.0160(1)"], ["2.02(4)", "2.02(3)"]),
            autoregressive(0.53, ["0.0731(1)", "0.0159(1)"], ["2.16(3)", "2.16(3)"]),
            joint(0.37, ["0.0733(1)", "0.0159(1)"], ["4.98(11)", "4.98(11)"]),
        ],
    },
    Published {
        coupling: "0.3",
        m2: -1.55,
        lambda: 2.4,
        g: 0.3,
        abs_magnetization: "0.0791(1)",
        abs_condensate: "0.0490(1)",
        force_ratio: 0.39,
        flows: [
            marginal(0.92, ["0.0792(1)", "0.0491(1)"], ["0.67(1)", "0.67(1)"]),
            gibbs(0.44, ["0.0792(1)", "0.0490(1)"], ["2.74(4)", "2.73(4)"]),
            autoregressive(0.43, ["0.0790(1)", "0.0489(1)"], ["3.62(7)", "3.60(7)"]),
            joint(0.31, ["0.0791(1)", "0.0490(1)"], ["8.73(30)", "8.67(30)"]),
        ],
    },
];

const fn marginal(acceptance: f64, means: [&'static str; 2], tau: [&'static str; 2]) -> Flow {
    row("marginal", acceptance, means, tau, 500e3, 3072.0)
}

const fn gibbs(acceptance: f64, means: [&'static str; 2], tau: [&'static str; 2]) -> Flow {
    row("gibbs", acceptance, means, tau, 30e3, 2000.0)
}

const fn autoregressive(acceptance: f64, means: [&'static str; 2], tau: [&'static str; 2]) -> Flow {
    row("autoregressive", acceptance, means, tau, 200e3, 3072.0)
}

const fn joint(acceptance: f64, means: [&'static str; 2], tau: [&'static str; 2]) -> Flow {
    row("joint", acceptance, means, tau, 50e3, 3072.0)
}

const fn row(
    scheme: &'static str,
    acceptance: f64,
    [abs_magnetization, abs_condensate]: [&'static str; 2],
    [tau_int_magnetization, tau_int_condensate]: [&'static str; 2],
    training_steps: f64,
    training_batch: f64,
) -> Flow {
    Flow {
        scheme,
        acceptance,
        abs_magnetization,
        abs_condensate,
        tau_int_magnetization,
        tau_int_condensate,
        training_steps,
        training_batch,
    }
}

/// A published number.
///
/// # Panics
/// Never for the numbers of this file: a test reads them all.
pub(crate) fn number(text: &str) -> ValueError {
    text.parse().expect("published numbers are written as value(error)")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::{PUBLISHED, number};

    #[test]
    fn every_published_number_can_be_read() {
        for p in PUBLISHED {
            for text in [p.abs_magnetization, p.abs_condensate] {
                assert!(number(text).value > 0.0 && number(text).error > 0.0);
            }
            for f in p.flows {
                for text in
                    [f.abs_magnetization, f.abs_condensate, f.tau_int_magnetization, f.tau_int_condensate]
                {
                    assert!(number(text).value > 0.0 && number(text).error > 0.0, "{}", f.scheme);
                }
                assert_eq!(p.flow(f.scheme), Some(&f));
            }
            assert_eq!(p.coupling, p.g.to_string());
        }
    }

    /// A second reading of the paper, by somebody else.
    #[test]
    fn the_tables_agree_with_an_independent_transcription() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/published.json");
        let Ok(text) = std::fs::read_to_string(&file) else {
            eprintln!("skipped: there is no {}", file.display());
            return;
        };
        let reference: Value = serde_json::from_str(&text).unwrap();
        let yukawa = &reference["yukawa"];
        for p in PUBLISHED {
            let key = format!("g={}", p.coupling);
            let hmc = &yukawa["hmc"][&key];
            for (name, ours) in
                [("m2", p.m2), ("lambda", p.lambda), ("g", p.g), ("force_ratio", p.force_ratio)]
            {
                assert_eq!(hmc[name].as_f64(), Some(ours), "{key}: {name}");
            }
            assert_eq!(hmc["abs_magnetization"], p.abs_magnetization);
            assert_eq!(hmc["abs_condensate"], p.abs_condensate);
            for (name, scheme) in [
                ("phi_marginal", "marginal"),
                ("gibbs", "gibbs"),
                ("autoregressive", "autoregressive"),
                ("fully_joint", "joint"),
            ] {
                let (flow, ours) = (&yukawa["flows"][name][&key], p.flow(scheme).unwrap());
                assert_eq!(flow["acceptance"].as_f64(), Some(ours.acceptance), "{key}: {name}");
                assert_eq!(flow["abs_magnetization"], ours.abs_magnetization, "{key}: {name}");
                assert_eq!(flow["abs_condensate"], ours.abs_condensate, "{key}: {name}");
                assert_eq!(flow["tau_int_M"], ours.tau_int_magnetization, "{key}: {name}");
                assert_eq!(flow["tau_int_condensate"], ours.tau_int_condensate, "{key}: {name}");
                let samples = yukawa["training_samples"][name].as_f64();
                assert_eq!(samples, Some(ours.training_samples()), "{name}");
            }
        }
    }
}
