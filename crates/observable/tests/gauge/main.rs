//! Observables of gauge fields against loops over sites, closed forms, exact symmetries and averages over the Haar measure.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod flow;
mod oracle;
mod pion;

use candle_core::{Device, Tensor};
use latflow_lattice::gauge::haar_matrices;
use latflow_lattice::{Lattice, Links, Rng, Streams};
use latflow_observable::gauge::{
    CloverCharge, CloverEnergy, LinkTrace, PaperPlaquette, PlanePlaquettes, Plaquette, PlaquetteEnergy,
    PolyakovLoop,
};
use latflow_observable::{Error, Observable};
use oracle::Field;
use std::f64::consts::PI;

fn rng(purpose: &str) -> Rng {
    Streams::new(41).stream(purpose, 0)
}

fn haar(lattice: &Lattice, batch: usize, n: usize, purpose: &str) -> Links {
    Links::haar(lattice, batch, n, &mut rng(purpose), &Device::Cpu).unwrap()
}

/// An observable as rows, one a configuration.
fn rows(observable: &dyn Observable<Links>, links: &Links) -> Vec<Vec<f64>> {
    let values = observable.measure(links).unwrap();
    let batch = values.dim(0).unwrap();
    values.reshape((batch, ())).unwrap().to_vec2().unwrap()
}

fn numbers(observable: &dyn Observable<Links>, links: &Links) -> Vec<f64> {
    rows(observable, links).into_iter().map(|row| row[0]).collect()
}

fn assert_close(ours: f64, expected: f64, tolerance: f64, what: &str) {
    assert!(
        (ours - expected).abs() <= tolerance * expected.abs().max(1.0),
        "{what}: {ours} instead of {expected}"
    );
}

fn invariants(lattice: &Lattice) -> Vec<Box<dyn Observable<Links>>> {
    let mut all: Vec<Box<dyn Observable<Links>>> = vec![
        Box::new(Plaquette::new(lattice).unwrap()),
        Box::new(PaperPlaquette::new(lattice).unwrap()),
        Box::new(PlanePlaquettes::new(lattice).unwrap()),
        Box::new(PlaquetteEnergy::new(lattice).unwrap()),
        Box::new(PolyakovLoop::new(lattice)),
        Box::new(CloverEnergy::new(lattice).unwrap()),
    ];
    if lattice.ndim() == 4 {
        all.push(Box::new(CloverCharge::new(lattice).unwrap()));
    }
    all
}

/// With kernels (N = 2, 3) and composed (N = 4).
#[test]
fn gauge_observables_are_the_papers_sums() {
    for (dims, n) in [
        (vec![2, 4, 2, 4], 3),
        (vec![4, 2, 2, 2], 2),
        (vec![4, 6], 3),
        (vec![2, 4, 4], 2),
        (vec![2, 2, 2, 4], 4),
    ] {
        let lattice = Lattice::new(&dims).unwrap();
        let links = haar(&lattice, 2, n, "sums");
        let d = lattice.ndim();
        let planes: Vec<(usize, usize)> = (0..d).flat_map(|m| (m + 1..d).map(move |k| (m, k))).collect();
        for b in 0..2 {
            let field = Field::new(&lattice, &links, b);
            let volume = lattice.volume() as f64;
            let of_plane = |&(mu, nu): &(usize, usize)| {
                field.sites().map(|s| field.plaquette(s, mu, nu).trace().re).sum::<f64>()
                    / (n as f64 * volume)
            };
            let by_plane: Vec<f64> = planes.iter().map(of_plane).collect();
            let sum: f64 = by_plane.iter().sum();
            let ours = rows(&PlanePlaquettes::new(&lattice).unwrap(), &links);
            for (ours, expected) in ours[b].iter().zip(&by_plane) {
                assert_close(*ours, *expected, 1e-14, "plane");
            }
            let plaquette = numbers(&Plaquette::new(&lattice).unwrap(), &links)[b];
            assert_close(plaquette, sum / planes.len() as f64, 1e-14, "plaquette");
            assert_close(
                numbers(&PaperPlaquette::new(&lattice).unwrap(), &links)[b],
                sum,
                1e-14,
                "[QCD (2)]",
            );
            let energy: f64 = planes
                .iter()
                .flat_map(|&(mu, nu)| field.sites().map(move |s| (s, mu, nu)))
                .map(|(s, mu, nu)| 2.0 * (n as f64 - field.plaquette(s, mu, nu).trace().re) / volume)
                .sum();
            assert_close(numbers(&PlaquetteEnergy::new(&lattice).unwrap(), &links)[b], energy, 1e-13, "E");
            let trace: f64 =
                field.u.iter().flatten().map(|u| u.trace().re).sum::<f64>() / (n as f64 * d as f64 * volume);
            assert_close(numbers(&LinkTrace, &links)[b], trace, 1e-14, "link trace");
            let loop_ = field.polyakov();
            let ours = &rows(&PolyakovLoop::new(&lattice), &links)[b];
            assert_close(ours[0], loop_.re, 1e-13, "Re L");
            assert_close(ours[1], loop_.im, 1e-13, "Im L");
            assert_close(
                numbers(&CloverEnergy::new(&lattice).unwrap(), &links)[b],
                field.clover_energy(),
                1e-13,
                "clover E",
            );
            if d == 4 {
                let charge = numbers(&CloverCharge::new(&lattice).unwrap(), &links)[b];
                assert!(charge.abs() > 1e-3, "a rough field has a charge");
                assert_close(charge, field.charge(), 1e-13, "Q");
            }
        }
    }
}

#[test]
fn the_unit_field() {
    let lattice = Lattice::new(&[2, 2, 2, 4]).unwrap();
    let links = Links::unit(&lattice, 1, 3, &Device::Cpu).unwrap();
    let expected: [&[f64]; 7] = [&[1.0], &[6.0], &[1.0; 6], &[0.0], &[3.0, 0.0], &[0.0], &[0.0]];
    for (observable, expected) in invariants(&lattice).iter().zip(expected) {
        for (ours, expected) in rows(observable.as_ref(), &links)[0].iter().zip(expected) {
            assert_close(*ours, *expected, 1e-15, observable.name());
        }
    }
    assert_close(numbers(&LinkTrace, &links)[0], 1.0, 1e-15, "link trace");
}

#[test]
fn gauge_invariance() {
    for (dims, n) in [(vec![2, 2, 2, 4], 3), (vec![4, 2], 2)] {
        let lattice = Lattice::new(&dims).unwrap();
        let links = haar(&lattice, 2, n, "invariance");
        let omega = haar_matrices(2 * lattice.volume(), n, &mut rng("transformation"), &Device::Cpu).unwrap();
        let omega = omega.reshape((2, lattice.volume(), n, n, 2)).unwrap();
        let moved = links.gauge_transform(&lattice, &omega).unwrap();
        for observable in invariants(&lattice) {
            let (before, after) = (rows(observable.as_ref(), &links), rows(observable.as_ref(), &moved));
            for (a, b) in before.iter().flatten().zip(after.iter().flatten()) {
                assert_close(*a, *b, 1e-13, observable.name());
            }
        }
        let shift = numbers(&LinkTrace, &links)[0] - numbers(&LinkTrace, &moved)[0];
        assert!(shift.abs() > 1e-3, "the link trace is not invariant");
    }
}

/// Multiplying the time-like links of one time by exp(2πi/3) turns the Polyakov loop and leaves everything local alone.
#[test]
fn the_centre_turns_the_polyakov_loop() {
    let lattice = Lattice::new(&[2, 2, 2, 4]).unwrap();
    let links = haar(&lattice, 1, 3, "centre");
    let mut u = links.tensor().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let (cos, sin) = ((2.0 * PI / 3.0).cos(), (2.0 * PI / 3.0).sin());
    let per_direction = lattice.volume() * 18;
    for (k, z) in u[3 * per_direction..].chunks_exact_mut(2).enumerate() {
        if k / 9 % 4 == 1 {
            (z[0], z[1]) = (cos * z[0] - sin * z[1], sin * z[0] + cos * z[1]);
        }
    }
    let turned = Links::new(Tensor::from_vec(u, links.tensor().shape(), &Device::Cpu).unwrap()).unwrap();
    let (before, after) = (
        rows(&PolyakovLoop::new(&lattice), &links).remove(0),
        rows(&PolyakovLoop::new(&lattice), &turned).remove(0),
    );
    assert_close(after[0], cos * before[0] - sin * before[1], 1e-13, "Re L");
    assert_close(after[1], sin * before[0] + cos * before[1], 1e-13, "Im L");
    for observable in invariants(&lattice).iter().filter(|o| o.name() != "polyakov_loop") {
        let (a, b) = (rows(observable.as_ref(), &links), rows(observable.as_ref(), &turned));
        for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
            assert_close(*a, *b, 1e-13, observable.name());
        }
    }
}

/// ⟨P⟩ = 0 and ⟨(Re tr P)²⟩ = ½ for SU(3), different plaquettes uncorrelated; ⟨L⟩ = 0 and ⟨|L|²⟩ = 1/V_3; ⟨Q⟩ = 0.
#[test]
fn haar_averages() {
    let lattice = Lattice::new(&[4, 4, 4, 4]).unwrap();
    let batch = 60;
    let links = haar(&lattice, batch, 3, "averages");
    let z = |values: &[f64], exact: f64| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean - exact) / (variance / n).sqrt()
    };
    let planes: Vec<f64> = rows(&PlanePlaquettes::new(&lattice).unwrap(), &links).concat();
    let squares: Vec<f64> = planes.iter().map(|p| p * p * 18.0 * 256.0).collect();
    let polyakov = rows(&PolyakovLoop::new(&lattice), &links);
    let modulus: Vec<f64> = polyakov.iter().map(|l| (l[0] * l[0] + l[1] * l[1]) * 64.0).collect();
    let part = |k: usize| polyakov.iter().map(|l| l[k]).collect::<Vec<_>>();
    let charge = numbers(&CloverCharge::new(&lattice).unwrap(), &links);
    for (what, values, exact) in [
        ("⟨P⟩", &planes, 0.0),
        ("⟨P²⟩", &squares, 1.0),
        ("⟨Re L⟩", &part(0), 0.0),
        ("⟨Im L⟩", &part(1), 0.0),
        ("⟨|L|²⟩", &modulus, 1.0),
        ("⟨Q⟩", &charge, 0.0),
    ] {
        let z = z(values, exact);
        assert!(z.abs() < 3.5, "{what}: z = {z}");
    }
}

/// exp(i φ_i) on the diagonal.
fn diagonal(phases: &[f64]) -> Vec<f64> {
    let n = phases.len();
    let mut m = vec![0.0; 2 * n * n];
    for (i, phase) in phases.iter().enumerate() {
        (m[2 * (i * n + i)], m[2 * (i * n + i) + 1]) = (phase.cos(), phase.sin());
    }
    m
}

/// A field of constant flux: k quanta of T = diag(charges) through the (x, y) and l through the (z, t) plane of the torus. All
/// plaquettes of these planes are exp(iφT), φ = 2πk/(L_x L_y), and those of the other planes 1.
pub(crate) fn constant_flux(lattice: &Lattice, charges: &[f64], k: f64, l: f64) -> Links {
    let dims = lattice.dims();
    let mut u = Vec::new();
    for mu in 0..4 {
        for site in 0..lattice.volume() {
            let x = lattice.coordinates(site);
            let (first, quanta) = if mu < 2 { (0, k) } else { (2, l) };
            let (extent, width) = (dims[first], dims[first + 1]);
            let flux = 2.0 * PI * quanta / (extent * width) as f64;
            let angle = match (mu - first, x[first] + 1 == extent) {
                (1, _) => flux * x[first] as f64,
                (_, true) => -flux * (extent * x[first + 1]) as f64,
                _ => 0.0,
            };
            u.extend(diagonal(&charges.iter().map(|c| c * angle).collect::<Vec<_>>()));
        }
    }
    let n = charges.len();
    let u = Tensor::from_vec(u, (1, 4, lattice.volume(), n, n, 2), &Device::Cpu).unwrap();
    Links::new(u).unwrap()
}

/// Constant flux has the charge k l Σ_i c_i² in the continuum; the clover takes the sine of the flux instead, without its mean.
#[test]
fn constant_flux_has_the_charge_of_its_quanta() {
    let cases: [(&[usize], &[f64], f64, f64); 6] = [
        (&[4, 4, 4, 4], &[1.0, -1.0, 0.0], 1.0, 1.0),
        (&[4, 6, 2, 8], &[1.0, -1.0, 0.0], 1.0, -1.0),
        (&[6, 4, 4, 6], &[1.0, -1.0], 1.0, 2.0),
        (&[4, 4, 4, 4], &[1.0, 1.0, -2.0], 1.0, 1.0),
        (&[4, 4, 4, 4], &[0.0, 1.0, -1.0], 2.0, 0.0),
        (&[8, 8, 8, 8], &[1.0, -1.0, 0.0], 1.0, 1.0),
    ];
    for (dims, charges, k, l) in cases {
        let lattice = Lattice::new(dims).unwrap();
        let links = constant_flux(&lattice, charges, k, l);
        let (volume, n) = (lattice.volume() as f64, charges.len() as f64);
        let flux = |quanta: f64, a: usize, b: usize| 2.0 * PI * quanta / (dims[a] * dims[b]) as f64;
        let strength = |flux: f64| {
            let f: Vec<f64> = charges.iter().map(|c| (c * flux).sin()).collect();
            let mean = f.iter().sum::<f64>() / n;
            f.into_iter().map(|f| f - mean).collect::<Vec<_>>()
        };
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let (xy, zt) = (strength(flux(k, 0, 1)), strength(flux(l, 2, 3)));
        let charge = volume / (4.0 * PI * PI) * product(&xy, &zt);
        let ours = numbers(&CloverCharge::new(&lattice).unwrap(), &links)[0];
        assert_close(ours, charge, 1e-12, "Q");
        let continuum = k * l * charges.iter().map(|c| c * c).sum::<f64>();
        assert!((continuum - continuum.round()).abs() < 1e-15 && ours * continuum >= 0.0);
        // The largest sine is off by less than x²/6 in each plane.
        let largest = charges.iter().fold(0.0, |m: f64, c| m.max(c.abs()));
        let off: f64 = [flux(k, 0, 1), flux(l, 2, 3)].iter().map(|f| (largest * f).powi(2) / 6.0).sum();
        assert!(
            (ours - continuum).abs() <= 1.01 * off * continuum.abs() + 1e-12,
            "{ours} is far from {continuum}"
        );
        let energy = product(&xy, &xy) + product(&zt, &zt);
        assert_close(numbers(&CloverEnergy::new(&lattice).unwrap(), &links)[0], energy, 1e-12, "clover E");
        let cosines = |f: f64| charges.iter().map(|c| 2.0 * (1.0 - (c * f).cos())).sum::<f64>();
        let energy = cosines(flux(k, 0, 1)) + cosines(flux(l, 2, 3));
        assert_close(
            numbers(&PlaquetteEnergy::new(&lattice).unwrap(), &links)[0],
            energy,
            1e-12,
            "plaquette E",
        );
    }
}

/// x → −x takes U_x(x) to U_x(−x−1̂)† and moves the other links: the charge changes its sign and nothing else.
#[test]
fn the_charge_is_odd_under_reflections() {
    let lattice = Lattice::new(&[4, 2, 2, 4]).unwrap();
    let links = haar(&lattice, 1, 3, "parity");
    for axis in 0..4 {
        let field = Field::new(&lattice, &links, 0);
        let mut u = Vec::new();
        for mu in 0..4 {
            for site in 0..lattice.volume() {
                let mut x = lattice.coordinates(site);
                let extent = lattice.dims()[axis];
                x[axis] = (2 * extent - x[axis] - usize::from(mu == axis)) % extent;
                let from = &field.u[mu][lattice.site(&x)];
                let m = if mu == axis { from.adjoint() } else { from.clone() };
                (0..3).for_each(|i| (0..3).for_each(|j| u.extend([m[(i, j)].re, m[(i, j)].im])));
            }
        }
        let mirrored =
            Links::new(Tensor::from_vec(u, links.tensor().shape(), &Device::Cpu).unwrap()).unwrap();
        let charge = CloverCharge::new(&lattice).unwrap();
        assert_close(numbers(&charge, &mirrored)[0], -numbers(&charge, &links)[0], 1e-13, "Q");
        let energy = CloverEnergy::new(&lattice).unwrap();
        assert_close(numbers(&energy, &mirrored)[0], numbers(&energy, &links)[0], 1e-13, "E");
    }
}

#[test]
fn what_does_not_exist_is_refused() {
    let plane = Lattice::new(&[4, 4]).unwrap();
    assert!(matches!(CloverCharge::new(&plane), Err(Error::Parameter { got: 2.0, .. })));
    let line = Lattice::new(&[4]).unwrap();
    assert!(matches!(Plaquette::new(&line), Err(Error::TooShort { needed: 2, got: 1, .. })));
    let links = haar(&plane, 1, 3, "refusals");
    let other = Lattice::new(&[4, 2]).unwrap();
    for observable in invariants(&other) {
        assert!(matches!(observable.measure(&links), Err(Error::Lattice(_))), "{}", observable.name());
    }
}
