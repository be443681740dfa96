//! SU(2) as unit quaternions, and the heat bath of its matrices.
//!
//! ```text
//! g = g_0 + i g·σ,   p(g) dg ∝ e^{α g_0} dg ∝ e^{α g_0} √(1 − g_0²) dg_0 dΩ
//! ```
//!
//! Kennedy and Pendleton (1985) draw 1 − g_0 from √δ e^{−αδ} and correct for the rest; at small α that rest is most of it, and g_0
//! is drawn from e^{α g_0} and corrected for the root (Creutz 1980). Both are exact; acceptances cross near α = 1.7, at 0.7.

use latflow_lattice::{Rng, uniform};
use std::f64::consts::TAU;

/// g_0 + i g·σ.
pub(super) type Quaternion = [f64; 4];

/// Where Creutz's algorithm becomes the less efficient one.
const CROSSOVER: f64 = 1.7;

/// g h.
#[inline(always)]
pub(super) fn product(g: Quaternion, h: Quaternion) -> Quaternion {
    let [a, b, c, d] = g;
    let [e, f, p, q] = h;
    // (i g·σ)(i h·σ) = −g·h − i (g × h)·σ
    [
        a * e - b * f - c * p - d * q,
        a * f + b * e - (c * q - d * p),
        a * p + c * e - (d * f - b * q),
        a * q + d * e - (b * p - c * f),
    ]
}

/// g†.
#[inline(always)]
pub(super) fn inverse([a, b, c, d]: Quaternion) -> Quaternion {
    [a, -b, -c, -d]
}

/// One exact draw from e^{α g_0} dg, α ≥ 0.
pub(super) fn draw(alpha: f64, rng: &mut Rng) -> Quaternion {
    let g = if alpha > CROSSOVER { kennedy_pendleton(alpha, rng) } else { creutz(alpha, rng) };
    let radius = (1.0 - g * g).max(0.0).sqrt();
    let cosine = 2.0 * uniform(rng) - 1.0;
    let sine = (1.0 - cosine * cosine).max(0.0).sqrt();
    let (y, x) = (TAU * uniform(rng)).sin_cos();
    [g, radius * sine * x, radius * sine * y, radius * cosine]
}

/// A uniform number in (0, 1].
fn positive(rng: &mut Rng) -> f64 {
    1.0 - uniform(rng)
}

pub(super) fn kennedy_pendleton(alpha: f64, rng: &mut Rng) -> f64 {
    loop {
        let cosine = (TAU * uniform(rng)).cos();
        // −ln r_1 − cos²(2πr) ln r_2 has the density of √δ e^{−δ}.
        let delta = -(positive(rng).ln() + cosine * cosine * positive(rng).ln()) / alpha;
        let u = uniform(rng);
        if u * u <= 1.0 - 0.5 * delta {
            return 1.0 - delta;
        }
    }
}

pub(super) fn creutz(alpha: f64, rng: &mut Rng) -> f64 {
    loop {
        let u = uniform(rng);
        // −1 + ln(1 + u (e^{2α} − 1))/α, which is 2u − 1 at α = 0.
        let above = if alpha < 1e-12 { 2.0 * u } else { (u * (2.0 * alpha).exp_m1()).ln_1p() / alpha };
        let g = (above - 1.0).min(1.0);
        let v = uniform(rng);
        if v * v <= 1.0 - g * g {
            return g;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latflow_lattice::Streams;

    /// ⟨g_0⟩ and ⟨g_0²⟩ of e^{α g_0} √(1 − g_0²) by the midpoint rule in the angle.
    fn moments(alpha: f64) -> [f64; 2] {
        let n = 20_000;
        let (mut norm, mut sums) = (0.0, [0.0; 2]);
        for i in 0..n {
            let angle = std::f64::consts::PI * (f64::from(i) + 0.5) / f64::from(n);
            let (sine, g) = angle.sin_cos();
            let w = (alpha * (g - 1.0)).exp() * sine * sine;
            norm += w;
            sums[0] += w * g;
            sums[1] += w * g * g;
        }
        sums.map(|s| s / norm)
    }

    #[test]
    fn draws_have_the_moments_of_their_density() {
        // 2 moments at 8 couplings for each of the algorithms that serve them: a false alarm at |z| > 4.5 has probability 2e-4.
        let n = 100_000;
        type Draw = fn(f64, &mut Rng) -> f64;
        let algorithms: [(&str, Draw, [f64; 5]); 3] = [
            ("Creutz", creutz, [0.0, 1e-13, 0.3, 1.0, 3.0]),
            ("Kennedy and Pendleton", kennedy_pendleton, [1.0, 1.7, 4.0, 20.0, 500.0]),
            ("both", |alpha, rng| draw(alpha, rng)[0], [0.0, 0.5, 1.69, 1.71, 8.0]),
        ];
        for (name, algorithm, couplings) in algorithms {
            for alpha in couplings {
                let mut rng = Streams::new(1).stream(name, (alpha * 100.0) as u64);
                let draws: Vec<f64> = (0..n).map(|_| algorithm(alpha, &mut rng)).collect();
                for (power, exact) in (1..=2).zip(moments(alpha)) {
                    let values: Vec<f64> = draws.iter().map(|g| g.powi(power)).collect();
                    let mean = values.iter().sum::<f64>() / f64::from(n);
                    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / f64::from(n - 1);
                    let z = (mean - exact) / (variance / f64::from(n)).sqrt();
                    assert!(z.abs() < 4.5, "{name}, α = {alpha}, power {power}: {mean} for {exact}, z = {z}");
                }
            }
        }
    }

    #[test]
    fn directions_are_isotropic_and_draws_of_unit_norm() {
        let mut rng = Streams::new(2).stream("test", 0);
        let n = 50_000;
        let mut sums = [[0.0; 4]; 2];
        for _ in 0..n {
            let g = draw(1.0, &mut rng);
            assert!((g.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-14);
            for k in 0..4 {
                sums[0][k] += g[k];
                sums[1][k] += g[k] * g[k];
            }
        }
        let square = (1.0 - moments(1.0)[1]) / 3.0;
        for (sum, sum_of_squares) in sums[0].iter().zip(sums[1]).skip(1) {
            let mean = sum / f64::from(n);
            assert!(mean.abs() < 4.5 * (square / f64::from(n)).sqrt(), "{mean}");
            // Var g_k² < ⟨g_k²⟩ since |g_k| ≤ 1.
            let mean = sum_of_squares / f64::from(n);
            assert!((mean - square).abs() < 4.5 * (square / f64::from(n)).sqrt(), "{mean} for {square}");
        }
    }

    #[test]
    fn products_are_those_of_matrices() {
        // σ_1 σ_2 = i σ_3: (iσ_1)(iσ_2) = −iσ_3.
        assert_eq!(product([0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]), [0.0, 0.0, 0.0, -1.0]);
        assert_eq!(product([0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]), [0.0, -1.0, 0.0, 0.0]);
        assert_eq!(product([0.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]), [0.0, 0.0, -1.0, 0.0]);
        let g = [0.5, 0.5, -0.5, 0.5];
        assert_eq!(product(g, inverse(g)), [1.0, 0.0, 0.0, 0.0]);
    }
}
