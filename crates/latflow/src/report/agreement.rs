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
