//! The published numbers of QCD: Section 3 of arXiv:2208.03832.

/// The theory and its hybrid Monte Carlo.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Published {
    /// x, y, z, t.
    pub dims: [usize; 4],
    /// Inverse coupling.
    pub beta: f64,
    /// Hopping parameter.
    pub kappa: f64,
    /// Flavours.
    pub n_f: f64,
    /// Molecular dynamics time of a trajectory.
    pub trajectory_length: f64,
    /// Leapfrog steps of a trajectory.
    pub steps: usize,
    /// Accepted trajectories.
    pub hmc_acceptance: f64,
    /// Effective size of the paper's model …
    pub ess: f64,
    /// … with this many pseudofermions, and …
    pub draws: u64,
    /// … a bound on that of the Haar measure.
    pub ess_haar: f64,
}

/// [QCD Sec. 3.2]
pub(crate) const PUBLISHED: Published = Published {
    dims: [4, 4, 4, 4],
    beta: 1.0,
    kappa: 0.1,
    n_f: 2.0,
    trajectory_length: 0.5,
    steps: 5,
    hmc_acceptance: 0.95,
    ess: 0.1,
    draws: 512,
    ess_haar: 1e-4,
};

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::PUBLISHED;

    /// A second reading of the paper, by somebody else.
    #[test]
    fn the_numbers_agree_with_an_independent_transcription() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/published.json");
        let Ok(text) = std::fs::read_to_string(&file) else {
            eprintln!("skipped: there is no {}", file.display());
            return;
        };
        let reference: Value = serde_json::from_str(&text).unwrap();
        let qcd = &reference["qcd"];
        assert_eq!(qcd["lattice"], json!(PUBLISHED.dims));
        for (name, ours) in [("beta", PUBLISHED.beta), ("kappa", PUBLISHED.kappa), ("n_f", PUBLISHED.n_f)] {
            assert_eq!(qcd[name].as_f64(), Some(ours), "{name}");
        }
        let hmc = &qcd["hmc"];
        assert_eq!(hmc["trajectory_length"].as_f64(), Some(PUBLISHED.trajectory_length));
        assert_eq!(hmc["leapfrog_steps"].as_u64(), Some(PUBLISHED.steps as u64));
        assert_eq!(hmc["acceptance"].as_f64(), Some(PUBLISHED.hmc_acceptance));
    }
}
