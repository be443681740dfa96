//! The F distribution against closed forms and published values; Hotelling's test under the null and away from it.

use latflow_observable::{Chains, Error, f_survival, hotelling, regularized_incomplete_beta};

use crate::series::{ar1, rng};
use crate::z_of_mean;

fn assert_close(ours: f64, expected: f64, relative: f64, what: &str) {
    assert!((ours - expected).abs() <= relative * expected.abs(), "{what}: {ours:e} instead of {expected:e}");
}

#[test]
fn incomplete_beta_closed_forms() {
    for x in [0.0, 1e-8, 0.03, 0.3, 0.5, 0.77, 0.999, 1.0] {
        for n in [0.2, 1.0, 3.5, 40.0] {
            let beta = |a, b| regularized_incomplete_beta(a, b, x).unwrap();
            assert_close(beta(n, 1.0), f64::powf(x, n), 1e-13, "I_x(a, 1) = x^a");
            assert_close(beta(1.0, n), -(n * f64::ln_1p(-x)).exp_m1(), 1e-13, "I_x(1, b) = 1 − (1 − x)^b");
            let half = 2.0 / std::f64::consts::PI * f64::sqrt(x).asin();
            assert_close(beta(0.5, 0.5), half, 1e-13, "I_x(½, ½) = 2/π arcsin √x");
            assert_close(beta(2.0, 3.0), x * x * (6.0 - 8.0 * x + 3.0 * x * x), 1e-13, "I_x(2, 3)");
        }
    }
}

/// Reference values by SciPy's `betainc`.
#[test]
fn incomplete_beta_known_values() {
    for (a, b, x, expected) in [
        (50.0, 60.0, 0.5, 0.8309072939016693),
        (500.0, 700.0, 0.4, 0.1205162890894316),
        (1e-2, 5.0, 0.01, 0.9746446808823579),
        (30.0, 0.2, 0.999, 0.46389281018654993),
    ] {
        assert_close(regularized_incomplete_beta(a, b, x).unwrap(), expected, 3e-12, "known");
    }
    for (a, b, x) in
        [(0.0, 1.0, 0.5), (1.0, -1.0, 0.5), (1.0, 1.0, 1.1), (1.0, 1.0, -0.1), (1.0, 1.0, f64::NAN)]
    {
        assert!(matches!(regularized_incomplete_beta(a, b, x), Err(Error::Parameter { .. })));
    }
}

/// Two closed forms, tabulated critical values, and values by SciPy's `f.sf`.
#[test]
fn f_distribution_known_values() {
    for f in [0.0, 0.1, 1.0, 7.3, 400.0] {
        assert_close(f_survival(f, 2.0, 9.0).unwrap(), (1.0 + 2.0 * f / 9.0).powf(-4.5), 1e-13, "d1 = 2");
        let cauchy = 1.0 - 2.0 / std::f64::consts::PI * f64::sqrt(f).atan();
        assert_close(f_survival(f, 1.0, 1.0).unwrap(), cauchy, 1e-12, "d1 = d2 = 1");
    }
    assert_close(f_survival(3.708265, 3.0, 10.0).unwrap(), 0.05, 1e-6, "5 % point of F(3, 10)");
    assert_close(f_survival(4.102685, 5.0, 20.0).unwrap(), 0.01, 1e-6, "1 % point of F(5, 20)");
    for (f, d1, d2, expected) in [
        (0.3, 7.0, 4.0, 0.9211177424221799),
        (1.2, 9.0, 180.5, 0.2975122406435551),
        (12.5, 4.0, 61.0, 1.7324848094832963e-07),
        (1e-3, 2.5, 3.0, 0.9997734949770221),
        (1.01, 16.0, 99984.0, 0.44186287871),
        (40.0, 1.0, 8.0, 0.00022671674524800362),
    ] {
        assert_close(f_survival(f, d1, d2).unwrap(), expected, 1e-9, "known");
    }
    assert_eq!(f_survival(f64::INFINITY, 3.0, 4.0).unwrap(), 0.0);
    assert!(f_survival(f64::NAN, 3.0, 4.0).is_err());
    assert!(f_survival(1.0, 0.0, 4.0).is_err());
}

/// `p` components that share noise: x_i + ½ x_{i+1}, scaled apart, each combination an AR(1) chain.
fn ensemble(p: usize, a: f64, length: usize, shift: f64, seed: u64) -> Vec<Chains> {
    let mut rng = rng("hotelling", seed);
    let parts: Vec<Vec<f64>> =
        (0..=p).map(|_| ar1(a, 1, length, &mut rng).iter().next().unwrap().to_vec()).collect();
    let component = |i: usize| {
        let scale = 10f64.powi(i as i32 - 2);
        let series = parts[i].iter().zip(&parts[i + 1]).map(|(x, y)| scale * (x + 0.5 * y + shift)).collect();
        Chains::new(vec![series]).unwrap()
    };
    (0..p).map(component).collect()
}

fn test(a: &[Chains], bin_a: usize, b: &[Chains], bin_b: usize) -> latflow_observable::Hotelling {
    hotelling(&a.iter().collect::<Vec<_>>(), bin_a, &b.iter().collect::<Vec<_>>(), bin_b).unwrap()
}

/// Two copies of one ensemble, one of them shifted, have equal covariances and sizes: the classical test, with two
/// components written out.
#[test]
fn equal_covariances_give_the_classical_test() {
    let (n, shift) = (20, 0.7);
    let a = ensemble(2, 0.0, n, 0.0, 0);
    let b: Vec<Chains> = a.iter().map(|c| c.map(|x| x + shift).unwrap()).collect();
    let ours = test(&a, 1, &b, 1);

    let column = |i: usize| a[i].iter().next().unwrap().to_vec();
    let (x, y) = (column(0), column(1));
    let (mx, my) = (a[0].mean(), a[1].mean());
    let covariance = |u: &[f64], mu: f64, v: &[f64], mv: f64| {
        u.iter().zip(v).map(|(u, v)| (u - mu) * (v - mv)).sum::<f64>() / (n as f64 - 1.0)
    };
    let (sxx, sxy, syy) =
        (covariance(&x, mx, &x, mx), covariance(&x, mx, &y, my), covariance(&y, my, &y, my));
    let quadratic = shift * shift * (sxx + syy - 2.0 * sxy) / (sxx * syy - sxy * sxy);
    let t2 = n as f64 / 2.0 * quadratic;
    let degrees = 2.0 * n as f64 - 2.0;
    assert_close(ours.t2, t2, 1e-11, "T²");
    assert_close(ours.degrees, degrees, 1e-12, "ν");
    let p_value = f_survival(t2 * (degrees - 1.0) / (2.0 * degrees), 2.0, degrees - 1.0).unwrap();
    assert_close(ours.p_value, p_value, 1e-9, "p");
}

/// One component: Welch's t test, written out.
#[test]
fn one_component_is_welchs_test() {
    let (a, b) = (ensemble(1, 0.0, 12, 0.0, 1), ensemble(1, 0.0, 30, 0.4, 2));
    let ours = test(&a, 1, &b, 1);
    let moments = |c: &Chains| {
        let (n, mean) = (c.n() as f64, c.mean());
        (n, mean, c.iter().flatten().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0))
    };
    let ((na, ma, va), (nb, mb, vb)) = (moments(&a[0]), moments(&b[0]));
    let variance = va / na + vb / nb;
    let t2 = (ma - mb).powi(2) / variance;
    let degrees = variance * variance / ((va / na).powi(2) / (na - 1.0) + (vb / nb).powi(2) / (nb - 1.0));
    assert_close(ours.t2, t2, 1e-12, "T²");
    assert_close(ours.degrees, degrees, 1e-12, "ν");
    assert_close(ours.p_value, f_survival(t2, 1.0, degrees).unwrap(), 1e-12, "p");
}

/// √n times the Kolmogorov distance from the uniform distribution; above 1.95 with probability 10⁻³.
fn kolmogorov(mut p: Vec<f64>) -> f64 {
    p.sort_by(f64::total_cmp);
    let n = p.len() as f64;
    let distance = |(i, p): (usize, &f64)| (p - i as f64 / n).abs().max((p - (i as f64 + 1.0) / n).abs());
    p.iter().enumerate().map(distance).fold(0.0, f64::max) * n.sqrt()
}

#[test]
fn p_values_are_uniform_under_the_null() {
    // Independent data with unequal covariances and sizes.
    let p: Vec<f64> = (0..1000)
        .map(|i| {
            let a = ensemble(4, 0.0, 60, 0.0, 10_000 + i);
            let b: Vec<Chains> = ensemble(4, 0.0, 35, 0.0, 20_000 + i)
                .iter()
                .enumerate()
                .map(|(k, c)| c.map(|x| (1.0 + k as f64) * x).unwrap())
                .collect();
            test(&a, 1, &b, 1).p_value
        })
        .collect();
    assert!(kolmogorov(p.clone()) < 1.95, "KS {:.2}", kolmogorov(p.clone()));
    assert!(z_of_mean(&p, 0.5).abs() < 4.0, "⟨p⟩ z = {:.2}", z_of_mean(&p, 0.5));
}

#[test]
fn p_values_are_uniform_for_blocked_chains() {
    // Different autocorrelations, τ = 1.5 and 0.5, as for HMC and a flow. Without blocks the same test fails.
    let p_values = |bin: usize| -> Vec<f64> {
        (0..300)
            .map(|i| {
                let a = ensemble(4, 0.5, 4000, 0.0, 30_000 + i);
                let b = ensemble(4, 0.0, 2000, 0.0, 40_000 + i);
                test(&a, bin, &b, bin).p_value
            })
            .collect()
    };
    let blocked = p_values(40);
    assert!(kolmogorov(blocked.clone()) < 1.95, "KS {:.2}", kolmogorov(blocked.clone()));
    assert!(z_of_mean(&blocked, 0.5).abs() < 4.0, "⟨p⟩ z = {:.2}", z_of_mean(&blocked, 0.5));
    assert!(kolmogorov(p_values(1)) > 1.95, "the test does not see that autocorrelation was ignored");
}

#[test]
fn different_means_are_found() {
    let (a, b) = (ensemble(4, 0.5, 4000, 0.0, 1), ensemble(4, 0.5, 4000, 0.3, 2));
    let p_value = test(&a, 40, &b, 40).p_value;
    assert!(p_value < 1e-4, "p = {p_value}");
}

#[test]
fn unusable_ensembles_are_refused() {
    let a = ensemble(3, 0.0, 40, 0.0, 3);
    // C(t) = C(T − t): the last component repeats the first, up to rounding.
    let mirrored = [a[0].clone(), a[1].clone(), a[0].map(|x| (x + 1.0) - 1.0).unwrap()];
    let views: Vec<&Chains> = mirrored.iter().collect();
    let singular = hotelling(&views, 1, &views, 1);
    assert!(matches!(singular, Err(Error::SingularCovariance { component: 2, .. })), "{singular:?}");
    let constant = [a[0].clone(), a[1].map(|_| 1.0).unwrap()];
    let views: Vec<&Chains> = constant.iter().collect();
    assert!(matches!(hotelling(&views, 1, &views, 1), Err(Error::SingularCovariance { component: 1, .. })));
    let views: Vec<&Chains> = a.iter().collect();
    assert!(matches!(hotelling(&views, 1, &views[..2], 1), Err(Error::UnequalLength { .. })));
    assert!(matches!(hotelling(&views, 14, &views, 1), Err(Error::TooShort { .. })));
    assert!(matches!(hotelling(&[], 1, &[], 1), Err(Error::Empty { .. })));
}
