//! Every feature against its definition and against automatic differentiation.

use super::{CPU, noise, tune};
use candle_core::{DType, Tensor, Var};
use latflow_flow::transport::{Basis, Factor, Feature, Local, ScalarBasis, Wave};
use latflow_lattice::check::{equivariance_defect, max_difference};
use latflow_lattice::{Boundary, Lattice, sum_per_configuration};

/// The standard table and rows that use every branch: gates with neighbour sums, waves times monomials.
fn features() -> Vec<Feature> {
    let mut rows = Feature::standard(0.7, 2, 2);
    let factor = |power, wave| Factor { power, wave };
    let powers = |p, q| Local::product(Factor::power(p), Factor::power(q));
    rows.push(Feature::new("gated sum", powers(1, 1), powers(1, 2), 1));
    let gate = Local::product(factor(0, Wave::Cos(1.3)), factor(2, Wave::Sin(0.4)));
    rows.push(Feature::new(
        "product",
        gate,
        Local::product(factor(2, Wave::Cos(0.9)), factor(1, Wave::None)),
        2,
    ));
    rows.push(Feature::new(
        "product",
        Local::ONE,
        Local::product(factor(1, Wave::Sin(0.9)), Factor::power(3)),
        0,
    ));
    rows.push(Feature::new("constant", Local::field(Factor::sin(1.0)), Local::ONE, 1));
    rows
}

fn one_hot(n: usize, i: usize) -> Tensor {
    Tensor::from_vec((0..n).map(|j| f64::from(u8::from(i == j))).collect(), n, &CPU).unwrap()
}

#[test]
fn divergences_are_traces_of_the_jacobian() {
    tune();
    // An extent of 2 makes both neighbours the same site.
    for dims in [&[4, 6][..], &[2, 4], &[4, 2, 2]] {
        let lattice = Lattice::new(dims).unwrap();
        let basis = ScalarBasis::new(&lattice, &features(), &CPU).unwrap();
        let volume = lattice.volume();
        let phi = Var::from_tensor(&noise(1, &[2, volume], 0.8)).unwrap();
        for i in 0..basis.count() {
            let (v, divergence) = basis.combine(phi.as_tensor(), &one_hot(basis.count(), i)).unwrap();
            let mut trace = Tensor::zeros(2, DType::F64, &CPU).unwrap();
            for x in 0..volume {
                let gradients = v.narrow(1, x, 1).unwrap().sum_all().unwrap().backward().unwrap();
                if let Some(g) = gradients.get(&phi) {
                    trace = (trace + g.narrow(1, x, 1).unwrap().squeeze(1).unwrap()).unwrap();
                }
            }
            let scale = 1.0 + trace.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
            let defect = max_difference(&trace, &divergence).unwrap();
            assert!(defect < 1e-11 * scale, "{dims:?}, field {i}: {defect:e}");
        }
    }
}

#[test]
fn fields_are_the_sums_they_claim_to_be() {
    tune();
    let lattice = Lattice::new(&[4, 6]).unwrap();
    let table = features();
    let basis = ScalarBasis::new(&lattice, &table, &CPU).unwrap();
    let phi = noise(2, &[1, 24], 0.8);
    let values = phi.to_vec2::<f64>().unwrap().remove(0);
    let neighbours = |x: usize| -> f64 {
        let steps = [(0, 1), (0, -1), (1, 1), (1, -1)];
        steps.iter().map(|(mu, s)| values[lattice.neighbour(x, *mu, *s, Boundary::Periodic).0]).sum()
    };
    let factor = |f: &Factor, s: f64| {
        let wave = match f.wave {
            Wave::None => 1.0,
            Wave::Sin(w) => (w * s).sin(),
            Wave::Cos(w) => (w * s).cos(),
        };
        s.powi(f.power as i32) * wave
    };
    let value = |f: &Local, x: usize| factor(&f.field, values[x]) * factor(&f.sum, neighbours(x));
    let mut i = 0;
    for feature in &table {
        for a in 0..=feature.radius.min(2) {
            for b in 0..=feature.radius.min(3) {
                let (v, _) = basis.combine(&phi, &one_hot(basis.count(), i)).unwrap();
                let v = v.to_vec2::<f64>().unwrap().remove(0);
                for (x, got) in v.iter().enumerate() {
                    let p = lattice.coordinates(x);
                    let apart = |y: usize| {
                        let q = lattice.coordinates(y);
                        let d = |mu: usize| p[mu].abs_diff(q[mu]);
                        [d(0).min(4 - d(0)), d(1).min(6 - d(1))]
                    };
                    let smeared: f64 =
                        (0..24).filter(|y| apart(*y) == [a, b]).map(|y| value(&feature.source, y)).sum();
                    let expected = value(&feature.gate, x) * smeared;
                    assert!(
                        (got - expected).abs() < 1e-12 * (1.0 + expected.abs()),
                        "{feature:?} ({a}, {b}) at {x}"
                    );
                }
                i += 1;
            }
        }
    }
    assert_eq!(i, basis.count());
}

#[test]
fn stein_rows_are_divergence_minus_projection() {
    tune();
    let lattice = Lattice::new(&[4, 6]).unwrap();
    let basis = ScalarBasis::new(&lattice, &features(), &CPU).unwrap();
    let (phi, u) = (noise(3, &[3, 24], 0.8), noise(4, &[3, 24], 1.0));
    let rows = basis.stein(&phi, &u).unwrap();
    for i in 0..basis.count() {
        let (v, divergence) = basis.combine(&phi, &one_hot(basis.count(), i)).unwrap();
        let expected = (divergence - sum_per_configuration(&(v * &u).unwrap()).unwrap()).unwrap();
        let got = rows.narrow(1, i, 1).unwrap().squeeze(1).unwrap();
        assert!(max_difference(&got, &expected).unwrap() < 1e-11, "field {i}");
    }
    // Linear in the coefficients.
    let c = noise(5, &[basis.count()], 1.0);
    let (v, divergence) = basis.combine(&phi, &c).unwrap();
    let combined = (divergence - sum_per_configuration(&(v * &u).unwrap()).unwrap()).unwrap();
    let summed = rows.matmul(&c.unsqueeze(1).unwrap()).unwrap().squeeze(1).unwrap();
    assert!(max_difference(&combined, &summed).unwrap() < 1e-10);
}

#[test]
fn fields_know_the_symmetries_of_the_lattice() {
    tune();
    let lattice = Lattice::new(&[4, 6]).unwrap();
    let table = Feature::standard(0.7, 2, 2);
    assert!(table.iter().all(Feature::is_odd));
    assert!(!Feature::new("even", Local::ONE, Local::field(Factor::power(2)), 0).is_odd());
    let basis = ScalarBasis::new(&lattice, &table, &CPU).unwrap();
    let (phi, c) = (noise(6, &[2, 24], 0.8), noise(7, &[basis.count()], 1.0));
    let velocity = |x: &Tensor| Ok(basis.combine(x, &c).unwrap().0);
    for shift in [[1, 0], [0, 1]] {
        let defect = equivariance_defect(&lattice, velocity, &phi, &shift, Boundary::Periodic).unwrap();
        assert!(defect < 1e-11, "translation by {shift:?}: {defect:e}");
    }
    for mu in 0..2 {
        let sites: Vec<u32> = (0..24)
            .map(|s| {
                let mut x = lattice.coordinates(s);
                x[mu] = (lattice.dims()[mu] - x[mu]) % lattice.dims()[mu];
                lattice.site(&x) as u32
            })
            .collect();
        let sites = Tensor::from_vec(sites, 24, &CPU).unwrap();
        let reflect = |x: &Tensor| x.index_select(&sites, 1).unwrap();
        let (first, last) = (velocity(&reflect(&phi)).unwrap(), reflect(&velocity(&phi).unwrap()));
        assert!(max_difference(&first, &last).unwrap() < 1e-11, "reflection of direction {mu}");
    }
    let (plus, minus) = (velocity(&phi).unwrap(), velocity(&phi.neg().unwrap()).unwrap());
    assert!(max_difference(&plus, &minus.neg().unwrap()).unwrap() < 1e-12);
}
