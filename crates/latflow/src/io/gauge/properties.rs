//! What identifies a gauge configuration, and how far its links are from the group.
//!
//! ```text
//! plaquette  = (1/6V) Σ_{x, μ<ν} Re tr P_{μν}(x) / N,   P_{μν}(x) = U_μ(x) U_ν(x+μ̂) U_μ(x+ν̂)† U_ν(x)†
//! link trace = (1/4V) Σ_{x, μ} Re tr U_μ(x) / N
//! ```

use num_complex::Complex64;
use rayon::prelude::*;

use super::field::{GaugeField, forward};

/// Numbers every code can compute from a configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Properties {
    /// ⟨Re tr P⟩/N, average over the 6V plaquettes.
    pub plaquette: f64,
    /// ⟨Re tr U⟩/N, average over the 4V links.
    pub link_trace: f64,
    /// The largest |(U U† − 1)_ij|, and the link it belongs to.
    pub unitarity: (f64, usize),
    /// The largest |det U − 1|, and the link it belongs to.
    pub determinant: (f64, usize),
}

impl Properties {
    /// Measures a field.
    pub fn of(field: &GaugeField) -> Self {
        Self {
            plaquette: plaquette(field),
            link_trace: link_trace(field),
            unitarity: worst(field, |link| distance_from_unitary(link, field.n_colours())),
            determinant: worst(field, |link| (determinant(link, field.n_colours()) - 1.0).norm()),
        }
    }
}

/// Sites summed by one task: fixed, so that the sum does not depend on the number of threads.
const BLOCK: usize = 256;

/// Σ of a function over sites, in an order that is always the same.
fn sum_over_sites(field: &GaugeField, f: impl Fn(usize) -> f64 + Sync) -> f64 {
    let volume = field.volume();
    let block = |b: usize| (b * BLOCK..volume.min((b + 1) * BLOCK)).map(&f).sum::<f64>();
    let blocks: Vec<f64> = (0..volume.div_ceil(BLOCK)).into_par_iter().map(block).collect();
    blocks.iter().sum()
}

fn plaquette(field: &GaugeField) -> f64 {
    let (dims, n) = (field.dims(), field.n_colours());
    let at_site = |x: usize| {
        let mut sum = 0.0;
        for mu in 0..4 {
            for nu in mu + 1..4 {
                let up = product(field.link(mu, x), field.link(nu, forward(dims, x, mu)), n);
                let over = product(field.link(nu, x), field.link(mu, forward(dims, x, nu)), n);
                // tr A B† = Σ_ij A_ij conj(B_ij)
                sum += up.iter().zip(&over).map(|(a, b)| (a * b.conj()).re).sum::<f64>();
            }
        }
        sum
    };
    sum_over_sites(field, at_site) / (6 * field.volume() * n) as f64
}

fn link_trace(field: &GaugeField) -> f64 {
    let n = field.n_colours();
    let trace = |link: &[Complex64]| link.iter().step_by(n + 1).map(|z| z.re).sum::<f64>();
    let at_site = |x: usize| (0..4).map(|mu| trace(field.link(mu, x))).sum();
    sum_over_sites(field, at_site) / (4 * field.volume() * n) as f64
}

/// The largest value over all links, and the first link that has it.
fn worst(field: &GaugeField, f: impl Fn(&[Complex64]) -> f64 + Sync) -> (f64, usize) {
    let size = field.n_colours() * field.n_colours();
    let larger = |a: (f64, usize), b: (f64, usize)| match b.0.total_cmp(&a.0) {
        std::cmp::Ordering::Greater => b,
        std::cmp::Ordering::Equal if b.1 < a.1 => b,
        _ => a,
    };
    // A link whose products overflow is as wrong as can be.
    let value = |link| Some(f(link)).filter(|value| !value.is_nan()).unwrap_or(f64::INFINITY);
    let values = field.links().par_chunks(size).enumerate().map(|(index, link)| (value(link), index));
    values.reduce(|| (0.0, usize::MAX), larger)
}

fn product(a: &[Complex64], b: &[Complex64], n: usize) -> Vec<Complex64> {
    let mut c = vec![Complex64::ZERO; n * n];
    for i in 0..n {
        for k in 0..n {
            for j in 0..n {
                c[i * n + j] += a[i * n + k] * b[k * n + j];
            }
        }
    }
    c
}

fn distance_from_unitary(link: &[Complex64], n: usize) -> f64 {
    let mut largest = 0.0_f64;
    for i in 0..n {
        for j in 0..=i {
            let rows = link[i * n..][..n].iter().zip(&link[j * n..][..n]);
            let entry: Complex64 = rows.map(|(a, b)| a * b.conj()).sum();
            let distance = (entry - f64::from(u8::from(i == j))).norm();
            if distance.is_nan() {
                return distance;
            }
            largest = largest.max(distance);
        }
    }
    largest
}

/// By elimination with the largest pivot.
fn determinant(link: &[Complex64], n: usize) -> Complex64 {
    let mut a = link.to_vec();
    let mut det = Complex64::ONE;
    for k in 0..n {
        let pivot = (k..n).max_by(|i, j| a[i * n + k].norm_sqr().total_cmp(&a[j * n + k].norm_sqr()));
        let pivot = pivot.unwrap_or(k);
        let scale = a[pivot * n + k];
        if scale == Complex64::ZERO {
            return Complex64::ZERO;
        }
        if pivot != k {
            det = -det;
            (0..n).for_each(|j| a.swap(k * n + j, pivot * n + j));
        }
        det *= scale;
        for i in k + 1..n {
            let factor = a[i * n + k] / scale;
            for j in k..n {
                let above = a[k * n + j];
                a[i * n + j] -= factor * above;
            }
        }
    }
    det
}

#[cfg(test)]
mod tests {
    use super::determinant;
    use num_complex::Complex64;

    #[test]
    fn determinants_by_the_rule_of_sarrus() {
        let a: Vec<Complex64> =
            (0..9).map(|i| Complex64::new(f64::from(i * i % 7) - 1.0, f64::from(i * 5 % 4) - 1.5)).collect();
        let at = |i: usize, j: usize| a[i * 3 + j % 3];
        let sarrus: Complex64 = (0..3)
            .map(|k| at(0, k) * at(1, k + 1) * at(2, k + 2) - at(0, k + 2) * at(1, k + 1) * at(2, k))
            .sum();
        assert!((determinant(&a, 3) - sarrus).norm() < 1e-12, "{} {sarrus}", determinant(&a, 3));
        let swap = [0.0, 1.0, 1.0, 0.0].map(Complex64::from);
        assert_eq!(determinant(&swap, 2), -Complex64::ONE);
    }
}
