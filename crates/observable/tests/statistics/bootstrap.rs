//! Bootstrap and histograms: closed forms, coverage on correlated and on weighted samples, refusals.

use latflow_observable::{
    BOOTSTRAP_ENSEMBLES, Bins, Chains, Error, Histogram, Resampling, ResidualDistribution, bootstrap,
    jackknife,
};

use crate::series::{ar1, normal, rng};
use crate::z_of_mean;

const INDEPENDENT: Resampling = Resampling { block: 1, ensembles: 200 };

/// The bootstrap variance of a mean is (1 − 1/g) of the variance of the blocks over g, up to 1/√(2R).
#[test]
fn bootstrap_of_a_mean_is_the_standard_error_of_blocks() {
    let chains = ar1(0.6, 4, 100, &mut rng("bootstrap mean", 0));
    let blocked = jackknife(&[&chains], 20, |m| m[0]).unwrap();
    let (g, r) = (20.0f64, 4000.0f64);
    let ours = bootstrap(&[&chains], 20, 4000, &mut rng("bootstrap mean", 1), |m| m[0]).unwrap();
    assert_eq!(ours.estimate.value, blocked.estimate.value);
    let expected = blocked.estimate.error * ((g - 1.0) / g).sqrt();
    let z = (ours.estimate.error / expected - 1.0) * (2.0 * r).sqrt();
    assert!(z.abs() < 4.0, "{} instead of {expected}, z = {z}", ours.estimate.error);
    // About normal: 16 % of the ensembles on either side of one standard deviation.
    for (p, k) in [(0.1587, -1.0), (0.5, 0.0), (0.8413, 1.0)] {
        let quantile = ours.quantile(p).unwrap();
        let expected = ours.estimate.value + k * ours.estimate.error;
        assert!((quantile - expected).abs() < 0.15 * ours.estimate.error, "{quantile} instead of {expected}");
    }
}

/// Pulls of a ratio of means of correlated chains have unit width.
#[test]
fn bootstrap_errors_of_ratios_cover() {
    let pulls: Vec<f64> = (0..300)
        .map(|k| {
            let rng = &mut rng("bootstrap ratio", k);
            let a = ar1(0.7, 4, 250, rng).map(|x| 2.0 + x).unwrap();
            let b = ar1(0.3, 4, 250, rng).map(|x| 4.0 + 0.5 * x).unwrap();
            let ours = bootstrap(&[&a, &b], 25, 200, rng, |m| m[0] / m[1]).unwrap().estimate;
            ((ours.value - 0.5) / ours.error).powi(2)
        })
        .collect();
    // Forty blocks of four correlation times: a few per cent of the variance is missing; without blocks it would be two thirds.
    let mean = pulls.iter().sum::<f64>() / 300.0;
    assert!(z_of_mean(&pulls, 1.1).abs() < 4.0, "mean squared pull {mean}");
}

#[test]
fn bins_are_half_open() {
    let bins = Bins::uniform(-1.0..1.0, 4).unwrap();
    assert_eq!(bins.edges(), [-1.0, -0.5, 0.0, 0.5, 1.0]);
    let found = [-1.1, -1.0, -0.5, -0.1, 0.0, 0.99, 1.0, 1.01].map(|x| bins.find(x));
    assert_eq!(found, [None, Some(0), Some(1), Some(1), Some(2), Some(3), Some(3), None]);
    assert!(matches!(Bins::uniform(1.0..1.0, 3), Err(Error::Parameter { .. })));
    assert!(matches!(Bins::uniform(0.0..1.0, 0), Err(Error::TooShort { .. })));
    assert!(matches!(Bins::new(vec![0.0, f64::NAN]), Err(Error::NotFinite { index: 1, .. })));
}

#[test]
fn a_histogram_counts() {
    let bins = Bins::new(vec![0.0, 1.0, 3.0]).unwrap();
    let values = Chains::new(vec![vec![0.5, 2.0, 2.5, 7.0], vec![0.1, -1.0, 2.0, 3.0]]).unwrap();
    let plain = Histogram::new(&bins, &values, None, INDEPENDENT, &mut rng("counts", 0)).unwrap();
    assert_eq!(plain.density.iter().map(|d| d.value).collect::<Vec<_>>(), [2.0 / 8.0, 4.0 / 8.0 / 2.0]);
    assert_eq!(plain.outside, 2.0 / 8.0);
    // Multinomial: σ² = p(1 − p)/N; Efron's resampling knows nothing else.
    let expected = [(0.25f64 * 0.75 / 8.0).sqrt(), (0.25f64 / 8.0).sqrt() / 2.0];
    for (d, expected) in plain.density.iter().zip(expected) {
        assert!((d.error / expected - 1.0).abs() < 4.0 / 400f64.sqrt(), "{d} instead of {expected}");
    }
    // A weight is a repetition, on any scale.
    let weights = Chains::new(vec![vec![4.0, 2.0, 2.0, 2.0], vec![0.0, 2.0, 2.0, 2.0]]).unwrap();
    let weighted =
        Histogram::new(&bins, &values, Some(&weights), INDEPENDENT, &mut rng("counts", 1)).unwrap();
    for (ours, expected) in weighted.density.iter().zip(&plain.density) {
        assert!((ours.value - expected.value).abs() < 1e-15);
    }
    let relative = plain.relative_to(&plain).unwrap();
    for (r, d) in relative.iter().zip(&plain.density) {
        let r = r.unwrap();
        assert!((r.value, r.error) == (1.0, d.error / d.value));
    }
}

/// Exponential weights of a shifted Gaussian: reweighted and directly sampled histograms agree within errors that are right.
#[test]
fn reweighted_histograms_have_honest_errors() {
    let bins = Bins::uniform(-2.0..3.0, 10).unwrap();
    let cumulative = |x: f64| libm::erfc(-x / f64::sqrt(2.0)) / 2.0;
    let s = 0.7;
    let mut pulls = Vec::new();
    for k in 0..100 {
        let rng = &mut rng("reweighted", k);
        let x: Vec<f64> = (0..2000).map(|_| normal(rng)).collect();
        let weights = Chains::new(vec![x.iter().map(|x| (s * x).exp()).collect()]).unwrap();
        let values = Chains::new(vec![x]).unwrap();
        let histogram = Histogram::new(&bins, &values, Some(&weights), INDEPENDENT, rng).unwrap();
        for (edges, density) in bins.edges().windows(2).zip(&histogram.density) {
            let exact = (cumulative(edges[1] - s) - cumulative(edges[0] - s)) / 0.5;
            pulls.push(((density.value - exact) / density.error).powi(2));
        }
        assert!((histogram.outside - (1.0 - cumulative(2.3) + cumulative(-2.7))).abs() < 0.05);
    }
    assert!(z_of_mean(&pulls, 1.0).abs() < 4.0, "z = {}", z_of_mean(&pulls, 1.0));
}

/// Correlated chains: blocks of many correlation times give residuals of unit width, single measurements far too large ones.
#[test]
fn blocks_make_the_errors_of_chains_right() {
    let bins = Bins::uniform(-2.0..2.0, 8).unwrap();
    let residuals = |block: usize| {
        let mut all = Vec::new();
        for k in 0..60 {
            let rng = &mut rng("chains", k);
            let of = |rng: &mut latflow_lattice::Rng| {
                let chains = ar1(0.8, 4, 2000, rng);
                Histogram::new(&bins, &chains, None, Resampling { block, ensembles: 200 }, rng).unwrap()
            };
            let (a, b) = (of(rng), of(rng));
            all.extend(a.residuals(&b, 10.0).unwrap());
        }
        all
    };
    let right = ResidualDistribution::new(&residuals(80), 12, 3.5).unwrap();
    assert!(right.p_value > 1e-3, "{right:?}");
    let wrong = ResidualDistribution::new(&residuals(1), 12, 3.5).unwrap();
    assert!(wrong.p_value < 1e-6 && wrong.chi_squared > 1.5 * wrong.n as f64, "{wrong:?}");
}

/// p-values of normal residuals are uniform; those of residuals a fifth too wide are not.
#[test]
fn kolmogorov_p_values_are_uniform_under_the_null() {
    let p_values = |scale: f64| -> Vec<f64> {
        let of = |k: u64| {
            let rng = &mut rng("residuals", k);
            let r: Vec<f64> = (0..80).map(|_| scale * normal(rng)).collect();
            ResidualDistribution::new(&r, 10, 3.0).unwrap().p_value
        };
        (0..2000).map(of).collect()
    };
    let mut p = p_values(1.0);
    p.sort_by(f64::total_cmp);
    let distance =
        p.iter().enumerate().map(|(i, p)| (p - (i as f64 + 0.5) / 2000.0).abs()).fold(0.0, f64::max);
    // 1.95/√n is exceeded by a thousandth of all seeds.
    assert!(distance < 1.95 / 2000f64.sqrt(), "{distance}");
    let small = |p: &[f64]| p.iter().filter(|p| **p < 0.05).count() as f64 / 2000.0;
    assert!((small(&p) - 0.05).abs() < 4.0 * (0.05f64 * 0.95 / 2000.0).sqrt());
    assert!(small(&p_values(1.3)) > 0.4, "{}", small(&p_values(1.3)));
}

#[test]
fn the_distribution_of_residuals_counts() {
    let d = ResidualDistribution::new(&[0.1, -0.6, 1.2, -5.0], 4, 2.0).unwrap();
    assert_eq!(d.bins.edges(), [0.0, 0.25, 1.0, 2.25, 4.0]);
    assert_eq!((d.counts.as_slice(), d.n), ([1, 1, 1, 0].as_slice(), 4));
    assert!((d.chi_squared - (0.01 + 0.36 + 1.44 + 25.0)).abs() < 1e-13);
    // P(|r| < ½), P(½ < |r| < 1), …
    let expected =
        [0.382_924_922_548_026, 0.299_764_569_589_060, 0.183_696_105_325_198, 0.088_114_138_641_358];
    for (ours, expected) in d.expected.iter().zip(expected) {
        assert!((ours - 4.0 * expected).abs() < 1e-12, "{ours} instead of {}", 4.0 * expected);
    }
    let (measured, theory) = d.densities().nth(2).unwrap();
    assert!((measured - 0.25 / 1.25).abs() < 1e-15 && (theory - d.expected[2] / 5.0).abs() < 1e-15);
    assert!(matches!(ResidualDistribution::new(&[], 4, 2.0), Err(Error::Empty { .. })));
    assert!(matches!(ResidualDistribution::new(&[f64::NAN], 4, 2.0), Err(Error::NotFinite { .. })));
}

/// Both series of Kolmogorov's distribution, and values of its table.
#[test]
fn the_distribution_of_kolmogorov() {
    use latflow_observable::kolmogorov_survival as q;
    for (lambda, expected) in [(1.358_099, 0.05), (1.627_624, 0.01), (1.223_848, 0.1), (0.827_574, 0.5)] {
        assert!((q(lambda) - expected).abs() < 2e-6, "Q({lambda}) = {}", q(lambda));
    }
    assert!((q(1.0 - 1e-12) - q(1.0)).abs() < 1e-10);
    assert_eq!((q(0.0), q(0.1)), (1.0, 1.0));
}

#[test]
fn histograms_refuse_what_they_cannot_count() {
    let bins = Bins::uniform(0.0..1.0, 2).unwrap();
    let values = ar1(0.0, 1, 10, &mut rng("refusals", 0));
    let rng = &mut rng("refusals", 1);
    let new = |weights: Option<&Chains>, resampling, rng: &mut _| {
        Histogram::new(&bins, &values, weights, resampling, rng)
    };
    let negative = values.map(|x| x - 5.0).unwrap();
    assert!(matches!(new(Some(&negative), INDEPENDENT, rng), Err(Error::NotFinite { index: 0, .. })));
    let nothing = values.map(|_| 0.0).unwrap();
    assert!(matches!(new(Some(&nothing), INDEPENDENT, rng), Err(Error::Parameter { got: 0.0, .. })));
    let other = ar1(0.0, 1, 9, rng);
    assert!(matches!(new(Some(&other), INDEPENDENT, rng), Err(Error::UnequalLength { .. })));
    let few = |block, ensembles| Resampling { block, ensembles };
    assert!(matches!(new(None, few(10, 100), rng), Err(Error::TooShort { needed: 2, got: 1, .. })));
    assert!(matches!(new(None, few(11, 100), rng), Err(Error::TooShort { needed: 11, got: 10, .. })));
    assert!(matches!(new(None, few(0, 100), rng), Err(Error::Parameter { .. })));
    assert!(matches!(new(None, few(1, 1), rng), Err(Error::TooShort { needed: 2, got: 1, .. })));
    let histogram = new(None, few(1, BOOTSTRAP_ENSEMBLES), rng).unwrap();
    let finer = Bins::uniform(0.0..1.0, 4).unwrap();
    let finer = Histogram::new(&finer, &values, None, INDEPENDENT, rng).unwrap();
    assert!(matches!(histogram.relative_to(&finer), Err(Error::UnequalLength { .. })));
    assert!(histogram.residuals(&finer, 1.0).is_err());
}
