//! Blocking and jackknife: closed forms, coverage, block rule, refusals.

use latflow_observable::{Chains, Error, default_bin, jackknife};

use crate::series::{ar1, rng};
use crate::z_of_mean;

#[test]
fn chains_are_checked() {
    assert!(matches!(Chains::new(vec![]), Err(Error::Empty { .. })));
    assert!(matches!(Chains::new(vec![vec![], vec![]]), Err(Error::Empty { .. })));
    assert!(matches!(
        Chains::new(vec![vec![1.0, 2.0], vec![1.0]]),
        Err(Error::UnequalLength { series: 1, expected: 2, got: 1, .. })
    ));
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let refused = Chains::new(vec![vec![1.0, 2.0], vec![1.0, bad]]);
        assert!(matches!(refused, Err(Error::NotFinite { series: 1, index: 1, .. })));
    }
    let steps = [[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]];
    let chains = Chains::from_steps(&steps).unwrap();
    assert_eq!(chains, Chains::new(vec![vec![1.0, 2.0, 3.0], vec![10.0, 20.0, 30.0]]).unwrap());
    assert_eq!((chains.n_chains(), chains.length(), chains.n(), chains.mean()), (2, 3, 6, 11.0));
    assert_eq!(chains.discard(2).unwrap(), Chains::new(vec![vec![3.0], vec![30.0]]).unwrap());
    assert!(matches!(chains.discard(3), Err(Error::TooShort { needed: 4, got: 3, .. })));
    assert!(matches!(chains.map(|x| (x - 5.0).ln()), Err(Error::NotFinite { .. })));
    assert_eq!(chains.times(&chains).unwrap(), chains.map(|x| x * x).unwrap());
    assert!(chains.times(&chains.discard(1).unwrap()).is_err());
    let ragged: [&[f64]; 2] = [&[1.0, 2.0], &[1.0]];
    assert!(matches!(Chains::from_steps(&ragged), Err(Error::UnequalLength { .. })));
    assert!(matches!(Chains::from_steps::<[f64; 2]>(&[]), Err(Error::Empty { .. })));
}

/// For equal blocks and the mean, the jackknife is the standard error of the block means.
#[test]
fn jackknife_of_the_mean_is_the_standard_error_of_blocks() {
    let chains = ar1(0.5, 3, 60, &mut rng("standard error", 0));
    let blocks: Vec<f64> =
        chains.iter().flat_map(|c| c.chunks(12).map(|b| b.iter().sum::<f64>() / 12.0)).collect();
    let n = blocks.len() as f64;
    let mean = blocks.iter().sum::<f64>() / n;
    let error = (blocks.iter().map(|b| (b - mean).powi(2)).sum::<f64>() / (n * (n - 1.0))).sqrt();
    let ours = jackknife(&[&chains], 12, |m| m[0]).unwrap();
    assert!((ours.estimate.value - mean).abs() < 1e-14);
    assert!((ours.estimate.error - error).abs() < 1e-14);
    assert!(ours.bias.abs() < 1e-13);
    assert_eq!(ours.n_bins, 15);
}

/// ⟨x⟩² of n independent numbers has the bias σ²/n, which the jackknife finds exactly (with the sample variance).
#[test]
fn jackknife_finds_the_bias_of_a_square() {
    let chains = ar1(0.0, 1, 25, &mut rng("bias", 0));
    let mean = chains.mean();
    let variance = chains.iter().flatten().map(|x| (x - mean).powi(2)).sum::<f64>() / 24.0;
    let ours = jackknife(&[&chains], 1, |m| m[0] * m[0]).unwrap();
    assert!((ours.bias - variance / 25.0).abs() < 1e-13, "{} instead of {}", ours.bias, variance / 25.0);
}

/// No measurement is lost when the block does not divide the chain, and every block holds at least `bin` of them.
#[test]
fn ragged_chains_use_every_measurement() {
    let chains = ar1(0.3, 2, 23, &mut rng("ragged", 0));
    let ours = jackknife(&[&chains], 5, |m| m[0]).unwrap();
    assert!((ours.estimate.value - chains.mean()).abs() < 1e-14);
    assert_eq!(ours.n_bins, 8);
    // Blocks of 5, 6, 6, 6 by hand: leave one out, unequal weights.
    let (n, mean) = (46.0, chains.mean());
    let mut spread = 0.0;
    for chain in chains.iter() {
        for range in [0..5, 5..11, 11..17, 17..23] {
            let m = range.len() as f64;
            let block = chain[range].iter().sum::<f64>() / m;
            spread += (block - mean).powi(2) * m / (n - m);
        }
    }
    let error = (spread / 8.0).sqrt();
    assert!((ours.estimate.error - error).abs() < 1e-14, "{} instead of {error}", ours.estimate.error);
}

/// Coverage of one standard deviation: 68.27 %, counted over independent runs.
fn coverage(runs: u64, run: impl Fn(u64) -> f64) -> f64 {
    let inside = (0..runs).filter(|i| run(*i).abs() < 1.0).count() as f64;
    let (n, p) = (runs as f64, 0.6827);
    (inside / n - p) / (p * (1.0 - p) / n).sqrt()
}

#[test]
fn errors_of_correlated_means_cover() {
    // Blocks of 50 = 33 τ, 2 × 41 of them of unequal length; the deviations from 68.27 % by the finite block (1.5 % of
    // the error) and by Student's distribution are below one standard deviation of the count.
    let z = coverage(1500, |i| {
        let estimate = ar1(0.5, 2, 2079, &mut rng("coverage", i)).estimate(50).unwrap();
        estimate.value / estimate.error
    });
    assert!(z.abs() < 4.0, "coverage z = {z:.2}");
}

#[test]
fn errors_without_blocking_do_not_cover() {
    // The test above can fail: bins of one measurement ignore τ = 1.5 and are too small by √3.
    let z = coverage(500, |i| {
        let estimate = ar1(0.5, 2, 500, &mut rng("coverage", i)).estimate(1).unwrap();
        estimate.value / estimate.error
    });
    assert!(z < -8.0, "coverage z = {z:.2}");
}

/// The ratio Σ wO/Σ w with w and O correlated, each along a Markov chain.
#[test]
fn errors_of_ratios_cover() {
    let z = coverage(1000, |i| {
        let mut rng = rng("ratio", i);
        let x = ar1(0.4, 1, 2000, &mut rng);
        // w = exp(x/2) reweights N(0, 1) to N(1/2, 1).
        let w = x.map(|x| (x / 2.0).exp()).unwrap();
        let ratio = jackknife(&[&x.times(&w).unwrap(), &w], 40, |m| m[0] / m[1]).unwrap().estimate;
        (ratio.value - 0.5) / ratio.error
    });
    assert!(z.abs() < 4.0, "coverage z = {z:.2}");
}

/// ⟨error²⟩ of the jackknife on independent numbers is the exact variance of the mean.
#[test]
fn jackknife_variance_is_unbiased() {
    let squares: Vec<f64> = (0..800)
        .map(|i| ar1(0.0, 1, 40, &mut rng("unbiased", i)).estimate(2).unwrap().error.powi(2) * 40.0)
        .collect();
    assert!(z_of_mean(&squares, 1.0).abs() < 4.0, "z = {:.2}", z_of_mean(&squares, 1.0));
}

#[test]
fn default_blocks() {
    let bin = |a: f64, n_chains, length| {
        let chains = ar1(a, n_chains, length, &mut rng("default", length as u64));
        default_bin(&[&chains])
    };
    // Long chains: the paper's 100.
    assert_eq!(bin(0.0, 1, 5000).unwrap(), 100);
    assert_eq!(bin(0.8, 100, 900).unwrap(), 100);
    // τ = 49.5 makes 100 too short for 5τ.
    let slow = bin(0.98, 20, 20_000).unwrap();
    assert!((200..300).contains(&slow), "bin {slow}");
    // Short chains: 5τ for τ = 4.5, and of the slowest of two observables.
    let short = bin(0.8, 4, 400).unwrap();
    assert!((15..32).contains(&short), "bin {short}");
    let (fast, slow) = (ar1(0.0, 4, 400, &mut rng("fast", 0)), ar1(0.8, 4, 400, &mut rng("slow", 0)));
    let of_both = default_bin(&[&fast, &slow]).unwrap();
    assert_eq!(of_both, default_bin(&[&slow]).unwrap());
    assert!(of_both > default_bin(&[&fast]).unwrap());
    // Many chains too short to know τ: whole chains are independent blocks.
    assert_eq!(bin(0.99, 64, 30).unwrap(), 30);
    // Few of them: nothing can be said.
    assert!(matches!(bin(0.99, 3, 30), Err(Error::TooShort { .. })));
}

#[test]
fn impossible_blocks_are_refused() {
    let chains = ar1(0.0, 1, 10, &mut rng("blocks", 0));
    assert!(matches!(chains.estimate(0), Err(Error::Parameter { .. })));
    assert!(matches!(chains.estimate(11), Err(Error::TooShort { needed: 11, got: 10, .. })));
    assert!(matches!(chains.estimate(6), Err(Error::TooShort { needed: 2, got: 1, .. })));
    assert!(matches!(jackknife(&[], 1, |_| 0.0), Err(Error::Empty { .. })));
    let longer = ar1(0.0, 1, 11, &mut rng("blocks", 1));
    assert!(matches!(jackknife(&[&chains, &longer], 1, |m| m[0]), Err(Error::UnequalLength { .. })));
    let not_finite = jackknife(&[&chains], 1, |m| (m[0] - 100.0).sqrt());
    assert!(matches!(not_finite, Err(Error::NotFinite { .. })));
}
