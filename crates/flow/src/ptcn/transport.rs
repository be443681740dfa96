//! The initial numbers of a network of parallel transports that is a hop, two hops, or nothing.
//!
//! ```text
//! one hop:    f ↦ −κ H f                                      the last layer, behind layers that pass f on
//! two hops:   f ↦ −κ² w H H f                                 the last two layers
//! nothing:    f ↦ 0                                           a last layer of zeros, so that all before it learn at once
//! ```

use latflow_kernels::wilson::TransportNet;
use latflow_lattice::Rng;
use rand_distr::{Distribution as _, StandardNormal};

/// Deviation of the numbers of copies beyond the first two.
const SPREAD: f64 = 0.3;

/// What the network is at the start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Path {
    /// factor · H.
    One(f64),
    /// factor · H H.
    Two(f64),
    /// 0.
    Nothing,
}

/// The numbers of a site.
pub(super) fn numbers(net: &TransportNet, path: Path, rng: &mut Rng) -> Vec<f64> {
    let mut k = vec![0.0; net.coefficients()];
    let last = net.layers().len() - 1;
    for (l, layer) in net.layers().iter().enumerate() {
        // Copy 0 carries the path; the others hop with the other projector, or at random, to have something to learn from.
        for i in 0..layer.outputs {
            if l == last && i > 0 {
                break;
            }
            let hop = match (path, last - l) {
                (Path::One(factor) | Path::Two(factor), 0) => Some(factor),
                (Path::Two(_), 1) => Some(1.0),
                (Path::Nothing, 0) => Some(0.0),
                (Path::Nothing, 1) => Some(1.0),
                _ if i > 0 => Some(1.0),
                _ => None,
            };
            let Some(factor) = hop else {
                k[layer.own(i, 0)] = 1.0;
                continue;
            };
            for mu in 0..4 {
                for (forwards, sign) in [(true, -1.0), (false, 1.0)] {
                    let [b, c] = layer.hop(i, 0, mu, forwards);
                    (k[b], k[c]) = match i {
                        0 => (factor, sign * factor),
                        1 => (factor, -sign * factor),
                        _ => (SPREAD * normal(rng), SPREAD * normal(rng)),
                    };
                }
            }
        }
    }
    k
}

/// A normal number.
pub(super) fn normal(rng: &mut Rng) -> f64 {
    StandardNormal.sample(rng)
}
