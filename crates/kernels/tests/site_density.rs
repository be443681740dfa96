//! The one-dimensional densities: normalised, invertible, and with the derivatives of finite differences.

use candle_core::{Device, Tensor, Var};
use latflow_kernels::SiteDensity;

const POWERS: [u32; 4] = [1, 2, 3, 4];

fn density() -> SiteDensity {
    SiteDensity::new(1.9, 96, &POWERS).unwrap()
}

/// θ around a quartic well, tilted.
fn theta(n: usize) -> Tensor {
    let rows: Vec<f64> = (0..n)
        .flat_map(|i| {
            let f = i as f64;
            [
                3.0 * (1.3 * f).sin(),
                -1.0 + (0.7 * f).cos(),
                0.4 * (2.1 * f).sin(),
                -6.0 + 2.0 * (0.3 * f).sin(),
            ]
        })
        .collect();
    Tensor::from_vec(rows, (n, 4), &Device::Cpu).unwrap()
}

fn normals(n: usize) -> Vec<f64> {
    (0..n).map(|i| -5.5 + 11.0 * i as f64 / (n - 1) as f64).collect()
}

fn vector(values: &[f64]) -> Tensor {
    Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap()
}

#[test]
fn there_and_back() {
    let z = vector(&normals(101));
    let (x, log_q) = density().sample(&z, &theta(101)).unwrap();
    let (back, again) = density().normalize(&x, &theta(101)).unwrap();
    let worst =
        |a: &Tensor, b: &Tensor| (a - b).unwrap().abs().unwrap().max(0).unwrap().to_scalar::<f64>().unwrap();
    assert!(worst(&back, &z) < 1e-9, "{:e}", worst(&back, &z));
    assert!(worst(&again, &log_q) < 1e-9, "{:e}", worst(&again, &log_q));
    let z = z.to_vec1::<f64>().unwrap();
    let central: Vec<usize> = (0..101).filter(|&i| z[i].abs() < 3.0).collect();
    let back = back.to_vec1::<f64>().unwrap();
    assert!(central.iter().all(|&i| (back[i] - z[i]).abs() < 1e-12));
}

#[test]
fn log_q_is_the_jacobian_of_the_map() {
    let (n, h) = (60, 1e-5);
    let z: Vec<f64> = (0..n).map(|i| -3.0 + 0.1 * i as f64 + 0.013).collect();
    let at = |shift: f64| {
        let z: Vec<f64> = z.iter().map(|z| z + shift).collect();
        density().sample(&vector(&z), &theta(n)).unwrap()
    };
    let (_, log_q) = at(0.0);
    let (up, down) = (at(h).0.to_vec1::<f64>().unwrap(), at(-h).0.to_vec1::<f64>().unwrap());
    for (i, log_q) in log_q.to_vec1::<f64>().unwrap().into_iter().enumerate() {
        // q(x) dx = N(z) dz
        let slope = (up[i] - down[i]) / (2.0 * h);
        let expected = -0.5 * z[i] * z[i] - 0.918_938_533_204_672_8 - slope.ln();
        assert!((log_q - expected).abs() < 1e-4, "z = {}: {log_q} against {expected}", z[i]);
    }
}

#[test]
fn the_density_is_the_boltzmann_density_on_a_fine_grid() {
    let theta = Tensor::from_slice(&[1.5, -1.0, 0.2, -6.0], (1, 4), &Device::Cpu).unwrap();
    let action = |x: f64| 1.5 * x - x * x + 0.2 * x.powi(3) - 6.0 * x.powi(4);
    // Simpson's rule on an unrelated grid.
    let (m, c) = (4000, 1.9);
    let z: f64 = (0..=m)
        .map(|i| {
            let weight = if i == 0 || i == m { 1.0 } else { [2.0, 4.0][i % 2] };
            weight * action(-c + 2.0 * c * i as f64 / m as f64).exp()
        })
        .sum::<f64>()
        * (2.0 * c / m as f64)
        / 3.0;
    let fine = SiteDensity::new(c, 3000, &POWERS).unwrap();
    for x in [-0.9, -0.2, 0.11, 0.6, 1.0] {
        let (_, log_q) = fine.normalize(&vector(&[x]), &theta).unwrap();
        let log_q = log_q.to_vec1::<f64>().unwrap()[0];
        assert!((log_q - (action(x) - z.ln())).abs() < 1e-4, "x = {x}: {log_q}");
    }
}

/// Both directions, both outputs, derivative in field and parameters against central differences.
#[test]
fn gradients_are_those_of_finite_differences() {
    let n = 40;
    let z: Vec<f64> = (0..n).map(|i| -2.6 + 0.13 * i as f64).collect();
    let x = density().sample(&vector(&z), &theta(n)).unwrap().0.to_vec1::<f64>().unwrap();
    type Run = fn(&Tensor, &Tensor) -> candle_core::Result<(Tensor, Tensor)>;
    let cases: [(&str, &[f64], Run); 2] =
        [("sample", &z, |f, t| density().sample(f, t)), ("normalize", &x, |f, t| density().normalize(f, t))];
    for (name, field, run) in cases {
        // A loss in which both outputs of every site count differently.
        let loss = |field: &Tensor, theta: &Tensor| {
            let (out, log_q) = run(field, theta).unwrap();
            let weights: Vec<f64> = (0..n).map(|i| 0.5 + (i as f64).sin()).collect();
            let weights = vector(&weights);
            ((out * &weights).unwrap() + (log_q * weights.sqr().unwrap()).unwrap())
                .unwrap()
                .sum_all()
                .unwrap()
        };
        let (f, t) = (Var::from_tensor(&vector(field)).unwrap(), Var::from_tensor(&theta(n)).unwrap());
        let gradients = loss(f.as_tensor(), t.as_tensor()).backward().unwrap();
        let by_field = gradients.get(&f).unwrap().to_vec1::<f64>().unwrap();
        let by_theta = gradients.get(&t).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let h = 1e-7;
        let mut theta_values = theta(n).flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let mut field = field.to_vec();
        let value = |field: &[f64], theta: &[f64]| {
            loss(&vector(field), &Tensor::from_slice(theta, (n, 4), &Device::Cpu).unwrap())
                .to_scalar::<f64>()
                .unwrap()
        };
        for i in 0..n {
            let mut at = |shift: f64| {
                field[i] += shift;
                let v = value(&field, &theta_values);
                field[i] -= shift;
                v
            };
            let difference = (at(h) - at(-h)) / (2.0 * h);
            assert!(
                (difference - by_field[i]).abs() < 1e-5 * (1.0 + difference.abs()),
                "{name}: field {i}: {} against {difference}",
                by_field[i]
            );
        }
        for i in 0..4 * n {
            let mut at = |shift: f64| {
                theta_values[i] += shift;
                let v = value(&field, &theta_values);
                theta_values[i] -= shift;
                v
            };
            let difference = (at(h) - at(-h)) / (2.0 * h);
            assert!(
                (difference - by_theta[i]).abs() < 1e-5 * (1.0 + difference.abs()),
                "{name}: parameter {i}: {} against {difference}",
                by_theta[i]
            );
        }
    }
}

/// Parameters so large that the density vanishes in most cells: normalised on the rest, inverted, with finite log q for every
/// normal number that is ever drawn.
#[test]
fn steep_densities_that_vanish_in_most_cells() {
    let rows = [
        [4000.0, -1.0, 0.0, -6.0],
        [-4000.0, 0.0, 300.0, -900.0],
        [0.0, 9000.0, 0.0, -4000.0],
        [0.0, -9000.0, 0.0, -9000.0],
        [1.0, 900.0, 2000.0, 400.0],
    ];
    let (cutoff, cells) = (1.9, 96);
    for row in rows {
        let n = 161;
        let theta = |n| {
            Tensor::new(&[row], &Device::Cpu).unwrap().broadcast_as((n, 4)).unwrap().contiguous().unwrap()
        };
        let z = vector(&(0..n).map(|i| -8.0 + 0.1 * i as f64).collect::<Vec<_>>());
        let (x, log_q) = density().sample(&z, &theta(n)).unwrap();
        assert!(log_q.to_vec1::<f64>().unwrap().iter().all(|q| q.is_finite()), "{row:?}");
        let (back, again) = density().normalize(&x, &theta(n)).unwrap();
        let (back, again) = (back.to_vec1::<f64>().unwrap(), again.to_vec1::<f64>().unwrap());
        let (z, x) = (z.to_vec1::<f64>().unwrap(), x.to_vec1::<f64>().unwrap());
        for (i, log_q) in log_q.to_vec1::<f64>().unwrap().into_iter().enumerate() {
            let (dz, dq) = ((back[i] - z[i]).abs(), (again[i] - log_q).abs());
            // Where all the mass is on one side of x, z is known as well as that mass: log q as well as x.
            let known = dq < 1e-6 && (dz < 1e-6 || z[i].abs() > 5.0);
            assert!(known, "{row:?}, z = {}: x = {}, {dz:e}, {dq:e}", z[i], x[i]);
        }
        // Linear between the nodes, so that the trapezoidal rule on them is exact.
        let spacing = 2.0 * cutoff / cells as f64;
        let nodes: Vec<f64> = (0..=cells).map(|i| (spacing * i as f64 - cutoff).min(cutoff)).collect();
        let (_, log_q) = density().normalize(&vector(&nodes), &theta(cells + 1)).unwrap();
        let q: Vec<f64> = log_q.to_vec1::<f64>().unwrap().into_iter().map(f64::exp).collect();
        assert!(q.contains(&0.0), "{row:?} does not underflow");
        let integral = spacing * (q.iter().sum::<f64>() - 0.5 * (q[0] + q[cells]));
        assert!((integral - 1.0).abs() < 1e-9, "{row:?}: {integral}");
    }
}

/// A trajectory that ran away is a rejection, not the end of the run, and does not disturb its neighbours.
#[test]
fn numbers_that_are_none_stay_with_their_site() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for (field, parameter) in [(0.3, Some(bad)), (f64::NAN, None)] {
            let mut values = theta(3).flatten_all().unwrap().to_vec1::<f64>().unwrap();
            if let Some(parameter) = parameter {
                values[5] = parameter;
            }
            let field = Var::from_tensor(&vector(&[0.3, field, 0.3])).unwrap();
            let theta_bad =
                Var::from_tensor(&Tensor::from_vec(values, (3, 4), &Device::Cpu).unwrap()).unwrap();
            type Run = fn(&Tensor, &Tensor) -> candle_core::Result<(Tensor, Tensor)>;
            for run in [(|f, t| density().sample(f, t)) as Run, |f, t| density().normalize(f, t)] {
                let (out, log_q) = run(&field, &theta_bad).unwrap();
                let clean = run(&vector(&[0.3; 3]), &theta(3)).unwrap();
                for (got, clean) in [(&out, &clean.0), (&log_q, &clean.1)] {
                    let (got, clean) = (got.to_vec1::<f64>().unwrap(), clean.to_vec1::<f64>().unwrap());
                    assert!(got[1].is_nan() && (got[0], got[2]) == (clean[0], clean[2]), "{got:?}");
                }
                let gradients = (out + log_q).unwrap().sum_all().unwrap().backward().unwrap();
                let by_field = gradients.get(&field).unwrap().to_vec1::<f64>().unwrap();
                assert!(by_field[1].is_nan() && by_field[0].is_finite() && by_field[2].is_finite());
            }
        }
    }
}

#[test]
fn outside_the_cutoff_there_is_nothing() {
    let (_, log_q) = density().normalize(&vector(&[2.0, -2.0]), &theta(2)).unwrap();
    assert_eq!(log_q.to_vec1::<f64>().unwrap(), [f64::NEG_INFINITY; 2]);
}

#[test]
fn wrong_shapes_are_refused() {
    assert!(density().sample(&vector(&[0.0; 3]), &theta(2)).is_err());
    assert!(SiteDensity::new(0.0, 96, &POWERS).is_err());
}
