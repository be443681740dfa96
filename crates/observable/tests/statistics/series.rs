//! First-order autoregressive chains: the Markov chain about which everything is known.
//!
//! ```text
//! x_{i+1} = a x_i + √(1 − a²) ξ_i,   x_0, ξ_i ~ N(0, 1)
//! Γ(t) = a^t,   τ_int = (1 + a)/(2(1 − a)),   σ²(mean of N) = [N + 2 Σ_t (N − t) a^t]/N²
//! ```

use latflow_lattice::{Rng, Streams};
use latflow_observable::Chains;
use rand_distr::{Distribution, StandardNormal};

pub(crate) fn rng(purpose: &str, index: u64) -> Rng {
    Streams::new(20_260_101).stream(purpose, index)
}

pub(crate) fn normal(rng: &mut Rng) -> f64 {
    StandardNormal.sample(rng)
}

pub(crate) fn ar1(a: f64, n_chains: usize, length: usize, rng: &mut Rng) -> Chains {
    let mut chain = || {
        let mut x = normal(rng);
        let mut next = || {
            let now = x;
            x = a * x + (1.0 - a * a).sqrt() * normal(rng);
            now
        };
        (0..length).map(|_| next()).collect()
    };
    Chains::new((0..n_chains).map(|_| chain()).collect()).unwrap()
}
