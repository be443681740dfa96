//! τ_int by both methods against the exact value of autoregressive chains, and against loops written from the formulas.

use latflow_observable::{
    Chains, Error, GAMMA_METHOD_S, MADRAS_SOKAL_C, ValueError, autocovariance, gamma_method, madras_sokal,
    summarize,
};

use crate::series::{ar1, normal, rng};
use crate::z_of_mean;

fn exact_tau(a: f64) -> f64 {
    (1.0 + a) / (2.0 * (1.0 - a))
}

/// Γ(0 … max_lag) of [YUK (51)], literally.
fn naive_gamma(x: &[f64], max_lag: usize) -> Vec<f64> {
    let n = x.len();
    let mean = x.iter().sum::<f64>() / n as f64;
    (0..=max_lag)
        .map(|t| (0..n - t).map(|i| x[i] * x[i + t]).sum::<f64>() / (n - t) as f64 - mean * mean)
        .collect()
}

#[test]
fn autocovariance_is_the_papers_for_a_centred_chain() {
    let chain = ar1(0.7, 1, 103, &mut rng("autocovariance", 0));
    let mean = chain.mean();
    let centred: Vec<f64> = chain.iter().next().unwrap().iter().map(|x| x - mean).collect();
    let shifted: Vec<f64> = centred.iter().map(|x| x + 1000.0).collect();
    let expected = naive_gamma(&centred, 102);
    for (t, expected) in expected.iter().enumerate() {
        assert!((autocovariance(&centred, 102).unwrap()[t] - expected).abs() < 1e-13, "lag {t}");
        assert!((autocovariance(&shifted, 102).unwrap()[t] - expected).abs() < 1e-9, "lag {t} after a shift");
    }
}

#[test]
fn madras_sokal_takes_the_first_window() {
    let chains = ar1(0.6, 3, 997, &mut rng("first window", 0));
    let mut taus = Vec::new();
    let mut widest = 0;
    for chain in chains.iter() {
        let mean = chain.iter().sum::<f64>() / chain.len() as f64;
        let centred: Vec<f64> = chain.iter().map(|x| x - mean).collect();
        let gamma = naive_gamma(&centred, 500);
        let tau = |w: usize| 0.5 + gamma[1..=w].iter().sum::<f64>() / gamma[0];
        let window = (1..=500).find(|w| 10.0 * tau(*w) <= *w as f64).unwrap();
        taus.push(tau(window));
        widest = widest.max(window);
    }
    let ours = madras_sokal(&chains, MADRAS_SOKAL_C).unwrap();
    let mean = taus.iter().sum::<f64>() / 3.0;
    let jackknife: f64 = (0..3)
        .map(|k| (0..3).filter(|j| *j != k).map(|j| taus[j]).sum::<f64>() / 2.0 - mean)
        .map(|d| d * d)
        .sum();
    assert!((ours.tau_int.value - mean).abs() < 1e-12);
    assert!((ours.tau_int.error - (2.0 / 3.0 * jackknife).sqrt()).abs() < 1e-12);
    assert_eq!(ours.window, widest);
}

/// Every formula of hep-lat/0306017 as a loop, on replicas short enough that the corrections matter.
#[test]
fn gamma_method_is_the_papers() {
    for (i, a) in [0.0, 0.5, 0.8].into_iter().enumerate() {
        let chains = ar1(a, 3, 150, &mut rng("gamma formulas", i as u64)).map(|x| x + 7.0).unwrap();
        let (n, mean) = (450.0, chains.iter().flatten().sum::<f64>() / 450.0);
        let gamma = |t: usize| {
            let pairs = chains.iter().flat_map(|x| (t..x.len()).map(|i| (x[i] - mean) * (x[i - t] - mean)));
            pairs.sum::<f64>() / (n - 3.0 * t as f64)
        };
        let c = |w: usize| gamma(0) + 2.0 * (1..=w).map(gamma).sum::<f64>();
        let stops = |w: &usize| {
            let tau = c(*w) / (2.0 * gamma(0));
            let tau_w = 2.0 / ((2.0 * tau + 1.0) / (2.0 * tau - 1.0)).ln();
            (-(*w as f64) / tau_w).exp() - tau_w / (*w as f64 * n).sqrt() < 0.0
        };
        let window = (1..75).find(stops).unwrap();
        let w = window as f64;
        let corrected = c(window) * (1.0 + (2.0 * w + 1.0) / n);
        let tau = corrected / (2.0 * (gamma(0) + c(window) / n));
        let error = (corrected / n).sqrt();

        let ours = gamma_method(&chains, GAMMA_METHOD_S).unwrap();
        assert_eq!(ours.window, window, "a = {a}");
        for (what, ours, expected) in [
            ("mean", ours.mean.value, mean),
            ("error", ours.mean.error, error),
            ("error of the error", ours.error_of_error, error * ((w + 0.5) / n).sqrt()),
            ("τ_int", ours.tau_int.value, tau),
            ("error of τ_int", ours.tau_int.error, 2.0 * tau * ((w + 0.5 - tau) / n).sqrt()),
        ] {
            assert!((ours - expected).abs() < 1e-11, "a = {a}: {what} {ours} instead of {expected}");
        }
    }
}

#[test]
fn madras_sokal_finds_the_exact_tau() {
    for (i, a) in [0.0, 0.3, 0.6, 0.8].into_iter().enumerate() {
        let chains = ar1(a, 60, 9000, &mut rng("madras-sokal", i as u64));
        let ours = madras_sokal(&chains, MADRAS_SOKAL_C).unwrap();
        let z = ours.tau_int.z_score(ValueError::new(exact_tau(a), 0.0));
        assert!(z.abs() < 4.0, "a = {a}: {} instead of {}, z = {z:.2}", ours.tau_int, exact_tau(a));
        assert!(ours.tau_int.error < 0.03 * exact_tau(a), "a = {a}: error {}", ours.tau_int);
    }
}

#[test]
fn gamma_method_finds_the_exact_tau_and_error() {
    for (i, a) in [-0.3, 0.0, 0.3, 0.6, 0.8, 0.95].into_iter().enumerate() {
        let (n_chains, length) = (10, 20_000);
        let chains = ar1(a, n_chains, length, &mut rng("gamma method", i as u64));
        let ours = gamma_method(&chains, GAMMA_METHOD_S).unwrap();
        let exact_error = (2.0 * exact_tau(a) / chains.n() as f64).sqrt();
        let z_tau = ours.tau_int.z_score(ValueError::new(exact_tau(a), 0.0));
        let z_error = (ours.mean.error - exact_error) / ours.error_of_error;
        let z_mean = ours.mean.value / exact_error;
        assert!(z_tau.abs() < 4.0, "a = {a}: τ {} instead of {}, z = {z_tau:.2}", ours.tau_int, exact_tau(a));
        assert!(z_error.abs() < 4.0, "a = {a}: error {:e} instead of {exact_error:e}", ours.mean.error);
        assert!(z_mean.abs() < 4.0, "a = {a}: mean {}", ours.mean);
        assert!(ours.tau_int.error < 0.08 * exact_tau(a), "a = {a}: {}", ours.tau_int);
    }
}

/// The bias correction and the error of τ_int, over many short replicated runs. The truncation at W and the fluctuation
/// of W leave the pulls of τ_int a few per cent from a unit normal distribution, so their spread is bounded loosely; the
/// squared error of the mean is compared with its exact expectation at the few per cent the truncation allows.
#[test]
fn gamma_method_errors_are_honest() {
    let (a, n_chains, length) = (0.6, 4, 500);
    let exact_error_squared = 2.0 * exact_tau(a) / (n_chains * length) as f64;
    let (mut pulls, mut mean_pulls, mut ratios) = (vec![], vec![], vec![]);
    for i in 0..400 {
        let chains = ar1(a, n_chains, length, &mut rng("gamma pulls", i));
        let ours = gamma_method(&chains, GAMMA_METHOD_S).unwrap();
        pulls.push((ours.tau_int.value - exact_tau(a)) / ours.tau_int.error);
        mean_pulls.push((ours.mean.value / ours.mean.error).powi(2));
        ratios.push(ours.mean.error.powi(2) / exact_error_squared);
    }
    let spread = (pulls.iter().map(|z| z * z).sum::<f64>() / pulls.len() as f64).sqrt();
    assert!((0.8..1.3).contains(&spread), "pulls of τ_int have spread {spread}");
    assert!(
        z_of_mean(&mean_pulls, 1.0).abs() < 4.0,
        "⟨pull²⟩ of the mean: z = {}",
        z_of_mean(&mean_pulls, 1.0)
    );
    let ratio = ratios.iter().sum::<f64>() / ratios.len() as f64;
    assert!((ratio - 1.0).abs() < 0.03, "⟨error²⟩ is {ratio} times the exact one");
}

#[test]
fn both_methods_agree_on_replicas() {
    let chains = ar1(0.8, 40, 4000, &mut rng("agree", 0));
    let summary = summarize(&chains, None).unwrap();
    let (ms, gamma) = (summary.tau_int.unwrap(), summary.gamma_method.unwrap());
    // The two are computed from the same data: far closer than their errors if they were independent.
    assert!(ms.tau_int.z_score(gamma.tau_int).abs() < 2.0, "{} and {}", ms.tau_int, gamma.tau_int);
    assert_eq!((summary.bin, summary.n_bins, summary.n), (100, 1600, 160_000));
    let relative = (summary.mean.error - gamma.mean.error).abs() / gamma.mean.error;
    let uncertainty = 1.0 / (2.0 * summary.n_bins as f64).sqrt() + gamma.error_of_error / gamma.mean.error;
    // Blocks of 100 = 22 τ underestimate the error by τ/(2·100) of it.
    assert!(relative < 3.0 * uncertainty + 0.0225, "blocking {} against {}", summary.mean, gamma.mean);
}

#[test]
fn a_hundred_long_chains_take_no_time() {
    let chains = ar1(0.8, 100, 9000, &mut rng("speed", 0));
    let start = std::time::Instant::now();
    summarize(&chains, None).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    assert!(seconds < 10.0, "summary of 100 chains of 9000 took {seconds:.1} s");
}

#[test]
fn what_cannot_be_measured_is_an_error() {
    let mut rng = rng("refused", 0);
    let still = Chains::new(vec![vec![0.1; 100], vec![0.1; 100]]).unwrap();
    assert!(matches!(madras_sokal(&still, 10.0), Err(Error::ZeroVariance { chain: 0, .. })));
    assert!(matches!(gamma_method(&still, 2.0), Err(Error::ZeroVariance { .. })));
    // A random walk never forgets its start.
    let mut x = 0.0;
    let mut step = || {
        x += normal(&mut rng);
        x
    };
    let walk = Chains::new(vec![(0..200).map(|_| step()).collect()]).unwrap();
    assert!(matches!(madras_sokal(&walk, 10.0), Err(Error::NoWindow { .. })));
    let short = ar1(0.5, 5, 3, &mut rng);
    assert!(matches!(madras_sokal(&short, 10.0), Err(Error::TooShort { needed: 4, got: 3, .. })));
    assert!(matches!(gamma_method(&short, 2.0), Err(Error::TooShort { .. })));
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(madras_sokal(&short, bad), Err(Error::Parameter { .. })));
        assert!(matches!(gamma_method(&short, bad), Err(Error::Parameter { .. })));
    }
    assert!(matches!(autocovariance(&[], 0), Err(Error::Empty { .. })));
    assert!(matches!(autocovariance(&[1.0, 2.0], 2), Err(Error::TooShort { .. })));
    assert!(matches!(autocovariance(&[1.0, f64::NAN], 1), Err(Error::NotFinite { index: 1, .. })));
}
