//! The pion correlator against dense inverses, momentum space and exact symmetries.

use candle_core::{Device, Tensor};
use latflow_fermion::{Dirac, LinearOperator, Wilson};
use latflow_lattice::gauge::haar_matrices;
use latflow_lattice::{Boundary, Lattice, Links};
use latflow_observable::gauge::PionCorrelator;
use nalgebra::{Complex, DMatrix};
use std::f64::consts::PI;

use crate::{assert_close, haar, rng, rows};

fn pion(lattice: &Lattice, kappa: f64) -> PionCorrelator {
    PionCorrelator::new(&Wilson::new(lattice, kappa, Boundary::Antiperiodic).unwrap())
}

/// Σ over the twelve columns of the origin of |D⁻¹|², from the dense matrix of the operator on all sites.
#[test]
fn the_correlator_is_that_of_the_dense_inverse() {
    let lattice = Lattice::new(&[2, 2, 2, 4]).unwrap();
    let kappa = 0.11;
    let links = haar(&lattice, 2, 3, "dense");
    let ours = rows(&pion(&lattice, kappa), &links);
    let dirac = Wilson::new(&lattice, kappa, Boundary::Antiperiodic).unwrap();
    let n = dirac.components();
    let operator = dirac.bind(&links).unwrap();
    // Column by column: the real parts of the unit vectors, the operator being complex linear.
    let columns: Vec<Vec<Vec<f64>>> = (0..n)
        .map(|j| {
            let mut unit = vec![0.0; 2 * 2 * n];
            (unit[j], unit[2 * n + j]) = (1.0, 1.0);
            let unit = Tensor::from_vec(unit, (2, 2, n), &Device::Cpu).unwrap();
            operator.apply(&unit).unwrap().reshape((2, 2 * n)).unwrap().to_vec2().unwrap()
        })
        .collect();
    for (b, ours) in ours.iter().enumerate() {
        let dense = DMatrix::from_fn(n, n, |i, j| Complex::new(columns[j][b][i], columns[j][b][n + i]));
        let inverse = dense.try_inverse().unwrap();
        let mut expected = [0.0; 4];
        for row in 0..n {
            expected[row / 12 % 4] += (0..12).map(|c| inverse[(row, c)].norm_sqr()).sum::<f64>();
        }
        for (ours, expected) in ours.iter().zip(&expected) {
            assert!(*ours > 0.0);
            assert!((ours / expected - 1.0).abs() < 1e-11, "{ours} instead of {expected}");
        }
    }
}

/// U = 1 in momentum space, with the antiperiodic momenta of time:
///
/// ```text
/// D(p) = 1 − 2κ Σ_μ cos p_μ + 2iκ Σ_μ γ_μ sin p_μ = a + i γ·b,    S = (a − iγ·b)/(a² + b²)
/// C(t) = 12 V_3⁻¹ Σ_p⃗ [|A(p⃗, t)|² + Σ_μ |B_μ(p⃗, t)|²],   A, B_μ = 1/L_t Σ_p4 e^{ip_4 t} (a, b_μ)/(a² + b²)
/// ```
#[test]
fn the_free_correlator_is_that_of_momentum_space() {
    let lattice = Lattice::new(&[4, 2, 4, 6]).unwrap();
    let kappa = 0.12;
    let links = Links::unit(&lattice, 1, 3, &Device::Cpu).unwrap();
    let ours = rows(&pion(&lattice, kappa), &links).remove(0);
    let dims = [4usize, 2, 4, 6];
    let momenta = |mu: usize| {
        let shift = if mu == 3 { 0.5 } else { 0.0 };
        (0..dims[mu]).map(move |n| 2.0 * PI * (n as f64 + shift) / dims[mu] as f64)
    };
    for (t, ours) in ours.iter().enumerate() {
        let mut sum = 0.0;
        for p in momenta(0).flat_map(|x| momenta(1).flat_map(move |y| momenta(2).map(move |z| [x, y, z]))) {
            let mut parts = [Complex::new(0.0, 0.0); 5];
            for p4 in momenta(3) {
                let p = [p[0], p[1], p[2], p4];
                let a = 1.0 - 2.0 * kappa * p.iter().map(|p| p.cos()).sum::<f64>();
                let b = p.map(|p| 2.0 * kappa * p.sin());
                let norm = a * a + b.iter().map(|b| b * b).sum::<f64>();
                let wave = Complex::from_polar(1.0 / (norm * dims[3] as f64), p4 * t as f64);
                parts[0] += wave * a;
                (0..4).for_each(|mu| parts[mu + 1] += wave * b[mu]);
            }
            sum += parts.iter().map(|z| z.norm_sqr()).sum::<f64>();
        }
        assert_close(*ours / (12.0 * sum / 32.0), 1.0, 1e-11, "free pion");
    }
}

/// Gauge invariant on each field, symmetric in time only on average.
#[test]
fn symmetries_of_the_correlator() {
    let lattice = Lattice::new(&[2, 2, 2, 4]).unwrap();
    let links = haar(&lattice, 40, 3, "symmetries");
    let correlators = rows(&pion(&lattice, 0.1), &links);
    let omega = haar_matrices(40 * lattice.volume(), 3, &mut rng("pion gauge"), &Device::Cpu).unwrap();
    let omega = omega.reshape((40, lattice.volume(), 3, 3, 2)).unwrap();
    let moved = rows(&pion(&lattice, 0.1), &links.gauge_transform(&lattice, &omega).unwrap());
    for (a, b) in correlators.iter().flatten().zip(moved.iter().flatten()) {
        assert!((a / b - 1.0).abs() < 1e-11, "{a} {b}");
    }
    // C(1) and C(3) differ on each field and agree on average.
    let asymmetry: Vec<f64> = correlators.iter().map(|c| (c[1] - c[3]) / (c[1] + c[3])).collect();
    assert!(asymmetry.iter().all(|a| a.abs() > 1e-6));
    let n = asymmetry.len() as f64;
    let mean = asymmetry.iter().sum::<f64>() / n;
    let variance = asymmetry.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let z = mean / (variance / n).sqrt();
    assert!(z.abs() < 3.5, "C(1) − C(3): z = {z}");
}

/// To second order in κ on any field: the source itself and one hop to each neighbour, whatever the links are.
#[test]
fn the_hopping_expansion() {
    let lattice = Lattice::new(&[4, 4, 4, 4]).unwrap();
    let links = haar(&lattice, 1, 3, "hopping");
    let kappa = 1e-3;
    let c = rows(&pion(&lattice, kappa), &links).remove(0);
    // |κ (1 ∓ γ_t) U|² = κ² tr (1 ∓ γ_t)² · 3 = κ² · 8 · 3, forwards and backwards alike.
    assert_close(c[1] / (24.0 * kappa * kappa), 1.0, 1e-4, "C(1)");
    assert_close(c[3] / (24.0 * kappa * kappa), 1.0, 1e-4, "C(3)");
    // Six spatial neighbours with the same weight.
    assert_close((c[0] - 12.0) / (6.0 * 24.0 * kappa * kappa), 1.0, 1e-4, "C(0)");
}
