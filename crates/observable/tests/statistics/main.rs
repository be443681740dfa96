//! Statistics against series whose exact answers are known. Seeds are fixed; a z-score limit of 4 on a computed error
//! would raise a false alarm in 6·10⁻⁵ of all seeds.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod autocorrelation;
mod bootstrap;
mod errors;
mod hotelling;
mod log_weights;
mod notation;
mod series;

/// Distance of a set of independent numbers from their expected mean, in units of the standard error they show.
fn z_of_mean(numbers: &[f64], expected: f64) -> f64 {
    let n = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / n;
    let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean - expected) / (variance / n).sqrt()
}
