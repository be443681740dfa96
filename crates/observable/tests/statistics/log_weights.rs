//! Importance weights with a Gaussian logarithm, where everything is known.
//!
//! q = N(0, 1) reweighted to p = N(s, 1) has log w = s x − s²/2, normal with variance s²: ESS = e^{−s²}, acceptance of
//! independence Metropolis erfc(s/2), Z = 1, ⟨x⟩_p = s.

use latflow_observable::{Chains, Error, LogWeights, gamma_method};
use rand::Rng as _;

use crate::series::{normal, rng};
use crate::z_of_mean;

fn gaussian(s: f64, n: usize, seed: u64) -> (Vec<f64>, Vec<f64>) {
    let mut rng = rng("log weights", seed);
    let x: Vec<f64> = (0..n).map(|_| normal(&mut rng)).collect();
    let log_weights = x.iter().map(|x| s * x - s * s / 2.0).collect();
    (x, log_weights)
}

#[test]
fn gaussian_log_weights() {
    for (i, s) in [0.25, 0.5, 1.0, 1.5].into_iter().enumerate() {
        let (x, log_weights) = gaussian(s, 100_000, i as u64);
        let weights = LogWeights::new(&log_weights).unwrap();
        for (what, estimate, exact) in [
            ("acceptance", weights.acceptance().unwrap(), libm::erfc(s / 2.0)),
            ("log Z", weights.log_z().unwrap(), 0.0),
            ("⟨x⟩", weights.mean(&x).unwrap(), s),
        ] {
            let z = (estimate.value - exact) / estimate.error;
            assert!(z.abs() < 4.0, "s = {s}: {what} {estimate} instead of {exact}, z = {z:.2}");
            assert!(estimate.error < 0.05, "s = {s}: {what} {estimate}");
        }
    }
}

#[test]
fn ess_of_gaussian_log_weights() {
    for (i, s) in [0.3f64, 0.6, 0.9].into_iter().enumerate() {
        let ess: Vec<f64> = (0..60)
            .map(|k| LogWeights::new(&gaussian(s, 20_000, 1000 * (i as u64 + 1) + k).1).unwrap().ess())
            .collect();
        let z = z_of_mean(&ess, (-s * s).exp());
        assert!(z.abs() < 4.0, "s = {s}: z = {z:.2}");
    }
}

/// The pulls of many short runs have unit width: the jackknife errors are right, not only small.
#[test]
fn errors_are_honest() {
    let s = 0.7;
    let mut pulls = [vec![], vec![], vec![]];
    for k in 0..600 {
        let (x, log_weights) = gaussian(s, 1000, 50_000 + k);
        let weights = LogWeights::new(&log_weights).unwrap();
        let (acceptance, log_z, mean) =
            (weights.acceptance().unwrap(), weights.log_z().unwrap(), weights.mean(&x).unwrap());
        pulls[0].push(((acceptance.value - libm::erfc(s / 2.0)) / acceptance.error).powi(2));
        pulls[1].push((log_z.value / log_z.error).powi(2));
        pulls[2].push(((mean.value - s) / mean.error).powi(2));
    }
    for (what, pulls) in ["acceptance", "log Z", "⟨x⟩"].iter().zip(&pulls) {
        assert!(z_of_mean(pulls, 1.0).abs() < 4.0, "{what}: z = {:.2}", z_of_mean(pulls, 1.0));
    }
}

/// The O(N log N) acceptance and its O(N) jackknife against all pairs, sample by sample.
#[test]
fn acceptance_is_the_sum_over_pairs() {
    let (_, log_weights) = gaussian(1.2, 40, 7);
    let pairs = |w: &[f64]| {
        let n = w.len();
        let mut sum = 0.0;
        for i in 0..n {
            for j in (0..n).filter(|j| *j != i) {
                sum += w[i].min(w[j]);
            }
        }
        sum / (n - 1) as f64 / w.iter().sum::<f64>()
    };
    let w: Vec<f64> = log_weights.iter().map(|w| w.exp()).collect();
    let without: Vec<f64> = (0..40).map(|k| pairs(&[&w[..k], &w[k + 1..]].concat())).collect();
    let mean = without.iter().sum::<f64>() / 40.0;
    let error = (39.0 / 40.0 * without.iter().map(|x| (x - mean).powi(2)).sum::<f64>()).sqrt();
    let ours = LogWeights::new(&log_weights).unwrap().acceptance().unwrap();
    assert!((ours.value - pairs(&w)).abs() < 1e-13, "{} instead of {}", ours.value, pairs(&w));
    assert!((ours.error - error).abs() < 1e-13, "{} instead of {error}", ours.error);
}

/// The prediction against a real independence Metropolis chain, whose accepted steps are correlated.
#[test]
fn acceptance_is_that_of_a_chain() {
    let s = 1.0;
    let (_, log_weights) = gaussian(s, 200_000, 8);
    let mut rng = rng("independence", 0);
    let mut current = f64::NEG_INFINITY;
    let mut accepted = Vec::new();
    for log_weight in &log_weights {
        let accept = rng.random::<f64>().ln() < log_weight - current;
        if accept {
            current = *log_weight;
        }
        accepted.push(f64::from(u8::from(accept)));
    }
    let chain = Chains::new(vec![accepted[1000..].to_vec()]).unwrap();
    let rate = gamma_method(&chain, 2.0).unwrap().mean;
    let predicted = LogWeights::new(&log_weights).unwrap().acceptance().unwrap();
    assert!(rate.z_score(predicted).abs() < 4.0, "chain {rate}, predicted {predicted}");
}

#[test]
fn nothing_depends_on_the_normalisation() {
    let (x, log_weights) = gaussian(0.8, 500, 9);
    let reference = LogWeights::new(&log_weights).unwrap();
    for shift in [-1e6, 1e4] {
        let shifted: Vec<f64> = log_weights.iter().map(|w| w + shift).collect();
        let ours = LogWeights::new(&shifted).unwrap();
        assert!((ours.ess() / reference.ess() - 1.0).abs() < 1e-8);
        assert!(
            (ours.log_z().unwrap().value - shift - reference.log_z().unwrap().value).abs()
                < 1e-9 * shift.abs()
        );
        assert!((ours.mean(&x).unwrap().value - reference.mean(&x).unwrap().value).abs() < 1e-8);
        assert!((ours.acceptance().unwrap().value - reference.acceptance().unwrap().value).abs() < 1e-8);
    }
}

/// Weights of several chains have one scale in common, and none overflows.
#[test]
fn relative_weights_give_the_reweighted_mean() {
    let (x, log_weights) = gaussian(0.8, 500, 9);
    let reference = LogWeights::new(&log_weights).unwrap().mean(&x).unwrap().value;
    let chains = |x: &[f64]| Chains::new(x.chunks_exact(100).map(<[f64]>::to_vec).collect()).unwrap();
    for shift in [-1e6, 1e4] {
        let weights = chains(&log_weights).map(|w| w + shift).unwrap().relative_weights().unwrap();
        assert_eq!(weights.iter().flatten().copied().fold(0.0, f64::max), 1.0);
        let mean = weights.times(&chains(&x)).unwrap().mean() / weights.mean();
        assert!((mean - reference).abs() < 1e-8, "{mean} instead of {reference}");
    }
}

#[test]
fn limits() {
    let equal = LogWeights::new(&[3.0; 10]).unwrap();
    assert_eq!((equal.ess(), equal.largest_share()), (1.0, 0.1));
    assert_eq!(equal.acceptance().unwrap().value, 1.0);
    assert_eq!(equal.log_z().unwrap().value, 3.0);
    // Four of ten samples outside the support of the target.
    let mut log_weights = [0.0; 10];
    log_weights[..4].fill(f64::NEG_INFINITY);
    let some = LogWeights::new(&log_weights).unwrap();
    assert!((some.ess() - 0.6).abs() < 1e-15);
    assert!((some.log_z().unwrap().value - 0.6f64.ln()).abs() < 1e-15);
    // A chain in the support proposes one of the other nine, five of which are in it.
    assert!((some.acceptance().unwrap().value - 5.0 / 9.0).abs() < 1e-15);
    let one = LogWeights::new(&[0.0, -1e4, -1e4, -1e4]).unwrap();
    assert_eq!((one.ess(), one.largest_share()), (0.25, 1.0));
}

#[test]
fn unusable_weights_are_refused() {
    assert!(matches!(LogWeights::new(&[]), Err(Error::Empty { .. })));
    assert!(matches!(LogWeights::new(&[0.0, f64::NAN]), Err(Error::NotFinite { index: 1, .. })));
    assert!(matches!(LogWeights::new(&[f64::INFINITY, 0.0]), Err(Error::NotFinite { index: 0, .. })));
    assert!(matches!(LogWeights::new(&[f64::NEG_INFINITY; 2]), Err(Error::NotFinite { .. })));
    // All weight on one sample: without it nothing is left, so there is no error.
    let one = LogWeights::new(&[0.0, f64::NEG_INFINITY, f64::NEG_INFINITY]).unwrap();
    assert!(matches!(one.log_z(), Err(Error::NotFinite { .. })));
    assert!(matches!(one.mean(&[1.0, 2.0, 3.0]), Err(Error::NotFinite { .. })));
    let single = LogWeights::new(&[0.0]).unwrap();
    assert!(matches!(single.log_z(), Err(Error::TooShort { needed: 2, got: 1, .. })));
    assert!(matches!(single.acceptance(), Err(Error::TooShort { needed: 3, got: 1, .. })));
    let three = LogWeights::new(&[0.0, 0.1, 0.2]).unwrap();
    assert!(matches!(three.mean(&[1.0]), Err(Error::UnequalLength { expected: 3, got: 1, .. })));
    assert!(matches!(three.mean(&[1.0, f64::NAN, 0.0]), Err(Error::NotFinite { index: 1, .. })));
}
