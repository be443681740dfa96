//! Do two ensembles sample the same density? Hotelling's test in several observables together.

use anyhow::Result;
use latflow_observable::{Chains, Error, Hotelling, hotelling};

use super::finished::{Ensemble, Finished};
use crate::session::note;

/// T² and p for each group of observables; `None` where there are too few measurements to say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Agreement {
    /// (|M|, |ψ̄ψ|, φ²)
    pub means: Option<Hotelling>,
    /// C_φ(t) for t = 0 … L_t/2: on every configuration the others are their mirror images [YUK Fig. 4].
    pub two_point: Option<Hotelling>,
    /// C_ψ(t) for odd t, the ones whose mean is not zero [YUK Fig. 5].
    pub fermion_correlator: Option<Hotelling>,
}

/// Compares two runs.
///
/// # Errors
/// When the measurements of a run cannot be read.
pub(super) fn agreement(a: &Finished, b: &Finished) -> Result<Agreement> {
    let means = ["abs_magnetization", "abs_condensate", "phi2"];
    let slices = |run: &Finished, name: &str, wanted: fn(usize, usize) -> bool| -> Result<Option<Ensemble>> {
        Ok(run.correlator(name)?.map(|(slices, bin)| {
            let times = slices.len();
            let kept = slices.into_iter().enumerate().filter(|(t, _)| wanted(*t, times));
            (kept.map(|(_, slice)| slice).collect(), bin)
        }))
    };
    let half = |t, times| t <= times / 2;
    let odd = |t: usize, _| !t.is_multiple_of(2);
    Ok(Agreement {
        means: test(a.ensemble(&means)?, b.ensemble(&means)?),
        two_point: test(slices(a, "two_point", half)?, slices(b, "two_point", half)?),
        fermion_correlator: test(
            slices(a, "fermion_correlator", odd)?,
            slices(b, "fermion_correlator", odd)?,
        ),
    })
}

/// `None` where blocks are too few for the covariance, and, with a warning, where it is singular.
fn test(a: Option<Ensemble>, b: Option<Ensemble>) -> Option<Hotelling> {
    let (a, b) = (a?, b?);
    let (series_a, series_b): (Vec<&Chains>, Vec<&Chains>) = (a.0.iter().collect(), b.0.iter().collect());
    match hotelling(&series_a, a.1, &series_b, b.1) {
        Ok(test) => Some(test),
        Err(Error::TooShort { .. }) => None,
        Err(error) => {
            note(&format!("warning: ensembles were not compared: {error}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use latflow_observable::Hotelling;
    use serde_json::Map;

    use super::{Agreement, agreement};
    use crate::config::{Needs, from_text};
    use crate::io::{NpyArray, create_folder, write_npy};
    use crate::report::Finished;
    use crate::results::{Analysis, Autocorrelation, CHAINS, Measured, Results, RunResult, chain_file};
    use crate::run::RunDirectory;
    use crate::scheme::Scheme;

    /// Means of eight blocks: each of mean zero and squares that add up to eight, no two of them correlated. As components
    /// their means have the covariance 8/(8·7) = 1/7.
    const PATTERNS: [[f64; 8]; 3] = [
        [1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0],
        [1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0],
        [1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0],
    ];
    /// How the ensembles differ in each component.
    const SHIFT: [f64; 3] = [1.0, -1.0, 0.5];

    /// Two chains of four blocks of two measurements, which differ from their block's mean by ∓10.
    fn component(index: usize, shift: f64) -> Vec<f64> {
        let block = |mean: &f64| [mean + shift - 10.0, mean + shift + 10.0];
        PATTERNS[index].iter().flat_map(block).collect()
    }

    /// Invertible combinations: T² and p do not change, every z does.
    fn mixed(shift: f64) -> [Vec<f64>; 3] {
        let c = [0, 1, 2].map(|i| component(i, shift * SHIFT[i]));
        let mix = |f: fn(f64, f64, f64) -> f64| (0..16).map(|k| f(c[0][k], c[1][k], c[2][k])).collect();
        [mix(|a, _, _| 7.0 + a), mix(|a, b, _| 3.0 + 2.0 * a + 0.1 * b), mix(|a, b, c| a - b + 5.0 * c)]
    }

    /// A finished run whose components are those above, displaced by `shift` times [`SHIFT`]. `bin` covers the
    /// autocorrelation of one observable, half of it that of the others; τ_int is known where it is `trusted`.
    fn run(root: &Path, shift: f64, bin: usize, trusted: bool) -> Finished {
        let text = "seed = 1\n[lattice]\ndims = [4, 4]\n[action.yukawa]\nm2 = 1.0\nlambda = 1.0\ng = 0.1\nfermion_mass = 0.0";
        let config = from_text("test", text, &[], Needs::Sampling).unwrap();
        let run = RunDirectory::create(root, Scheme::Hmc.command(), config, false, &[]).unwrap();
        create_folder(&run.path(CHAINS)).unwrap();
        let mut analysis = Analysis::default();
        let known = |x: f64| trusted.then_some(x);
        let names = ["abs_magnetization", "abs_condensate", "phi2"];
        let components = mixed(shift);
        let observables = names.iter().zip(&components).enumerate().map(|(i, (name, data))| {
            let array = NpyArray { shape: vec![2, 8], data: data.clone() };
            write_npy(&chain_file(root, name), &array).unwrap();
            let bin = if i == 1 { bin } else { (bin / 2).max(1) };
            let found = Autocorrelation { madras_sokal: None, gamma_method: None, bin: Some(bin) };
            analysis.autocorrelation.insert((*name).to_owned(), found);
            let mean = data.iter().sum::<f64>() / 16.0;
            ((*name).to_owned(), Measured { mean, error: known(1.0), tau_int: known(0.5), n: 16 })
        });
        let observables = observables.collect();
        // C_φ(3) is C_φ(1) on every configuration; C_ψ vanishes at even t.
        let odd = [component(0, shift), component(2, shift)];
        let slices = [("two_point", [0, 1, 2, 1].map(|t| &components[t]))];
        let zero = vec![0.0; 16];
        let slices = slices.into_iter().chain([("fermion_correlator", [&zero, &odd[0], &zero, &odd[1]])]);
        for (name, slices) in slices {
            let data = (0..16).flat_map(|k| slices.map(|slice| slice[k])).collect();
            write_npy(&chain_file(root, name), &NpyArray { shape: vec![2, 8, 4], data }).unwrap();
            analysis.correlators.insert(name.to_owned(), vec![(0.0, Some(1.0)); 4]);
            analysis.correlator_bins.insert(name.to_owned(), bin);
        }
        let result = RunResult {
            scheme: "hmc".into(),
            theory: "yukawa".into(),
            model: None,
            parameters: Map::new(),
            acceptance: None,
            ess: None,
            draws: None,
            seconds: 1.0,
            training_samples: 0,
            observables,
        };
        run.finish(&Results { runs: vec![result] }, &analysis).unwrap();
        Finished::read(&run).unwrap()
    }

    fn compared(a: (f64, usize, bool), b: (f64, usize, bool)) -> Agreement {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = [("a", a), ("b", b)]
            .map(|(name, (shift, bin, trusted))| run(&folder.path().join(name), shift, bin, trusted));
        agreement(&a, &b).unwrap()
    }

    /// ```text
    /// Σ = 2/7,  Δ² = 1 + 1 + ¼:  T² = 7.875, ν = 14, F = 12 T²/(14·3) = 2.25 of (3, 12) degrees of freedom
    /// C_ψ, Δ² = 1 + 1:           T² = 7,     ν = 14, F = 13 T²/(14·2) = 3.25 of (2, 13): p = (1 + 2 F/13)^{−13/2}
    /// ```
    #[test]
    fn two_ensembles_that_differ_by_a_known_distance() {
        let found = compared((0.0, 2, true), (1.0, 2, true));
        let of_three = (3, 7.875, 0.134_923_873_484_800);
        for (what, test, (components, t2, p)) in [
            ("means", found.means, of_three),
            ("C_φ", found.two_point, of_three),
            ("C_ψ", found.fermion_correlator, (2, 7.0, 1.5f64.powf(-6.5))),
        ] {
            let Hotelling { t2: found, components: n, degrees, p_value } = test.expect(what);
            assert_eq!(n, components, "{what}");
            for (found, expected) in [(found, t2), (degrees, 14.0), (p_value, p)] {
                assert!((found / expected - 1.0).abs() < 1e-9, "{what}: {found} instead of {expected}");
            }
        }
        let same = compared((1.0, 2, true), (1.0, 2, true));
        for test in [same.means, same.two_point, same.fermion_correlator] {
            let test = test.expect("as many blocks");
            assert!(test.t2.abs() < 1e-20 && (test.p_value - 1.0).abs() < 1e-9, "{test:?}");
        }
    }

    /// Chains that do not know their τ_int, and as many blocks as components.
    #[test]
    fn nothing_is_said_about_ensembles_that_are_too_short() {
        for other in [(0.0, 2, false), (0.0, 8, true)] {
            let found = compared((0.0, 2, true), other);
            assert_eq!((found.means, found.two_point), (None, None), "{other:?}");
            assert_eq!(found.fermion_correlator, None, "{other:?}");
        }
    }
}
