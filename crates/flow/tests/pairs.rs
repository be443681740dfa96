//! Densities of two fields at once, and priors of pseudofermions: normalisation, consistency, reversibility.

use candle_core::{DType, Device, Tensor};
use latflow_flow::{
    Autoregressive, Bijection, CubicRoot, Distribution, Error, FlowModel, Gaussian, Independent, ParamStore,
    PartialRefresh, Result, Sample,
};
use latflow_lattice::check::max_difference;
use latflow_lattice::{Streams, normal_tensor, sum_per_configuration};

const CPU: Device = Device::Cpu;
const SITES: usize = 2;

/// y = e^{s(x)} χ + t(x) on vectors `[B, 2, 2]`: s and t nonlinear in x `[B, 2]`.
struct Stretch;

impl Stretch {
    fn scale_and_shift(x: &Tensor) -> Result<(Tensor, Tensor)> {
        let both = |t: Tensor| -> Result<Tensor> { Ok(Tensor::stack(&[&t, &(&t * -0.5)?], 1)?) };
        Ok((both((x.tanh()? * 0.4)?)?, both((x.sqr()? * 0.3)?)?))
    }
}

impl Bijection<Tensor, Tensor> for Stretch {
    fn forward(&self, z: &Tensor, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (s, t) = Self::scale_and_shift(x)?;
        Ok((((z * s.exp()?)? + t)?, sum_per_configuration(&s)?))
    }

    fn inverse(&self, y: &Tensor, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (s, t) = Self::scale_and_shift(x)?;
        Ok((((y - t)? * s.neg()?.exp()?)?, sum_per_configuration(&s)?.neg()?))
    }
}

fn layers() -> (CubicRoot, Stretch) {
    let mut store = ParamStore::new(Streams::new(1), DType::F64, &CPU);
    (CubicRoot::new(&mut store, "cubic", 0.5).unwrap(), Stretch)
}

fn priors() -> Independent<Gaussian, Gaussian> {
    let first = Gaussian::new(0.7, SITES, &CPU).unwrap();
    Independent { first, second: Gaussian::pseudofermion(1.1, SITES, &CPU).unwrap() }
}

fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n * (n - 1.0));
    (mean, variance.sqrt())
}

#[test]
fn the_pseudofermion_prior_has_the_complex_normalisation() {
    // One complex component: ∫ d re d im e^{−|χ|²/σ²}/(πσ²) = 1 by the trapezoidal rule.
    let sigma = 0.8;
    let grid: Vec<f64> = (-200..=200).map(|i| f64::from(i) * 0.025).collect();
    let points: Vec<f64> = grid.iter().flat_map(|&a| grid.iter().flat_map(move |&b| [a, b])).collect();
    let points = Tensor::from_vec(points, (grid.len() * grid.len(), 2, 1), &CPU).unwrap();
    let one = Gaussian::pseudofermion(sigma, 1, &CPU).unwrap();
    let density = one.log_prob(&points, &()).unwrap().exp().unwrap();
    let integral = density.sum_all().unwrap().to_scalar::<f64>().unwrap() * 0.025 * 0.025;
    assert!((integral - 1.0).abs() < 1e-12, "{integral}");
    // ⟨|χ|²⟩ = σ² for each of 3 complex components, log r = −χ†χ/σ² − N log πσ².
    let prior = Gaussian::pseudofermion(sigma, 3, &CPU).unwrap();
    let (chi, log_r) =
        prior.sample_with_log_prob(20_000, &(), &mut Streams::new(2).stream("test", 0)).unwrap();
    assert_eq!(chi.dims(), [20_000, 2, 3]);
    let norms = sum_per_configuration(&chi.sqr().unwrap()).unwrap().to_vec1::<f64>().unwrap();
    let (mean, error) = mean_and_error(&norms);
    assert!(((mean - 3.0 * sigma * sigma) / error).abs() < 4.0, "⟨χ†χ⟩ = {mean} ± {error}");
    for (norm, log_r) in norms.iter().zip(log_r.to_vec1::<f64>().unwrap()) {
        let expected = -norm / sigma.powi(2) - 3.0 * (std::f64::consts::PI * sigma * sigma).ln();
        assert!((log_r - expected).abs() < 1e-11);
    }
    // A real field in place of a complex one would have another normalisation.
    assert!(matches!(prior.log_prob(&real_field(3), &()), Err(Error::Shape { .. })));
}

fn real_field(volume: usize) -> Tensor {
    normal_tensor(&mut Streams::new(3).stream("test", 0), 1.0, &[2, volume], DType::F64, &CPU).unwrap()
}

#[test]
fn densities_of_pairs_integrate_to_one() {
    let ((cubic, stretch), Independent { first, second }) = (layers(), priors());
    let model = Autoregressive {
        first: FlowModel { prior: first, flow: cubic },
        second: FlowModel { prior: second, flow: stretch },
    };
    let n = 40_000;
    let mut rng = Streams::new(4).stream("test", 0);
    let (pair, log_q) = model.sample_with_log_prob(n, &(), &mut rng).unwrap();
    assert!(max_difference(&model.log_prob(&pair, &()).unwrap(), &log_q).unwrap() < 1e-12);
    // E_q[r′/q] = 1 for any normalised r′; narrow, so that the ratio has a finite variance.
    let narrow = Independent {
        first: Gaussian::new(0.4, SITES, &CPU).unwrap(),
        second: Gaussian::pseudofermion(0.8, SITES, &CPU).unwrap(),
    };
    let ratio = (narrow.log_prob(&pair, &()).unwrap() - log_q).unwrap().exp().unwrap();
    let (mean, error) = mean_and_error(&ratio.to_vec1::<f64>().unwrap());
    assert!(((mean - 1.0) / error).abs() < 4.0 && error < 0.03, "{mean} ± {error}");
}

#[test]
fn the_triangular_map_has_the_autoregressive_density() {
    let ((cubic, stretch), priors) = (layers(), priors());
    let density = Autoregressive {
        first: FlowModel { prior: &priors.first, flow: &cubic },
        second: FlowModel { prior: &priors.second, flow: &stretch },
    };
    let flow = FlowModel { prior: &priors, flow: Autoregressive { first: &cubic, second: &stretch } };
    let (pair, log_q) = flow.sample_with_log_prob(64, &(), &mut Streams::new(5).stream("test", 0)).unwrap();
    assert!(max_difference(&density.log_prob(&pair, &()).unwrap(), &log_q).unwrap() < 1e-12);
    let (z, inverse) = flow.flow.inverse(&pair, &()).unwrap();
    let (back, forward) = flow.flow.forward(&z, &()).unwrap();
    assert!(max_difference(&back.0, &pair.0).unwrap() < 1e-12);
    assert!(max_difference(&back.1, &pair.1).unwrap() < 1e-12);
    assert!(max_difference(&forward, &inverse.neg().unwrap()).unwrap() < 1e-12);
}

#[test]
fn partial_refreshment_keeps_the_prior_and_correlates_by_the_cosine() {
    let (priors, theta) = (priors(), 0.6_f64);
    let mut rng = Streams::new(6).stream("test", 0);
    let old = priors.sample(40_000, &(), &mut rng).unwrap();
    let new = priors.partially_refresh(&old, theta, &mut rng).unwrap();
    for (old, new, sigma) in [(&old.0, &new.0, 0.7), (&old.1, &new.1, 1.1)] {
        let flat = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for (what, product, expected) in
            [("variance", new * new, 1.0), ("covariance", old * new, theta.cos())]
        {
            let (mean, error) = mean_and_error(&flat(product.unwrap()));
            let expected = expected * sigma * sigma / 2.0;
            assert!(((mean - expected) / error).abs() < 4.0, "{what} {mean} ± {error}, expected {expected}");
        }
    }
}
