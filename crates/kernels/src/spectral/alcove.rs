//! Conjugacy classes of SU(3): one ordered triple of angles a class, and a unit box over the triples.
//!
//! ```text
//! θ_1 ≤ θ_2 ≤ θ_3 ≤ θ_1 + 2π,  Σ θ = 0                a triangle; its corners are the three central elements
//! gaps  a = θ_2 − θ_1,  b = θ_3 − θ_2,  c = 2π − a − b   none negative; zero on a wall: two equal eigenvalues
//! box   w = (a + b)/2π,  r = a/(a + b)                   a = 2πwr,  b = 2πw(1−r),  c = 2π(1−w)
//! Haar measure:  sin²(a/2) sin²(b/2) sin²(c/2) dθ_1 dθ_2  ∝  sin²(πwr) sin²(πw(1−r)) sin²(πw) w  dw dr
//! ```
//!
//! The edge w = 0 of the box is one corner of the triangle. Charge conjugation θ → −θ is r → 1 − r.

use std::f64::consts::{PI, TAU};

/// Gaps are kept above this: on a wall (a set of measure zero, but the unit configuration lies there) coordinates, densities
/// and derivatives are those of a point this close to it.
const SMALLEST_GAP: f64 = 1e-12;

/// The order in which eigenvalues with these angles in (−π, π] make an ascending triple of sum zero, and its gaps a and b.
pub(super) fn order(angle: [f64; 3]) -> ([usize; 3], [f64; 2]) {
    let mut index = [0, 1, 2];
    let mut sort = |i: usize, j: usize| {
        if angle[index[j]] < angle[index[i]] {
            index.swap(i, j);
        }
    };
    sort(0, 1);
    sort(1, 2);
    sort(0, 1);
    let [s, m, l] = index.map(|i| angle[i]);
    // The sum is a multiple of 2π up to rounding: an outer angle goes once around.
    let turns = s + m + l;
    let (index, [x, y, z]) = if turns > PI {
        ([index[2], index[0], index[1]], [l - TAU, s, m])
    } else if turns < -PI {
        ([index[1], index[2], index[0]], [m, l, s + TAU])
    } else {
        (index, [s, m, l])
    };
    (index, inside([y - x, z - y]))
}

/// Gaps moved off the walls.
fn inside([a, b]: [f64; 2]) -> [f64; 2] {
    // NaN stays NaN.
    let above = |gap: f64| if gap < SMALLEST_GAP { SMALLEST_GAP } else { gap };
    let (a, b) = (above(a), above(b));
    let scale = ((TAU - SMALLEST_GAP) / (a + b)).min(1.0);
    [a * scale, b * scale]
}

/// The triple of angles with the given gaps.
#[inline(always)]
pub(super) fn angles([a, b]: [f64; 2]) -> [f64; 3] {
    [-(2.0 * a + b) / 3.0, (a - b) / 3.0, (a + 2.0 * b) / 3.0]
}

/// (w, r) of gaps.
#[inline(always)]
pub(super) fn position([a, b]: [f64; 2]) -> [f64; 2] {
    [(a + b) / TAU, a / (a + b)]
}

/// Gaps of (w, r).
#[inline(always)]
pub(super) fn gaps([w, r]: [f64; 2]) -> [f64; 2] {
    [TAU * w * r, TAU * w * (1.0 - r)]
}

/// The gradient in the angles, of sum zero, from that in (w, r).
#[inline(always)]
pub(super) fn position_gradient([a, b]: [f64; 2], [w, r]: [f64; 2]) -> [f64; 3] {
    let (w, r) = (w / TAU, r / (a + b));
    let right = a / (a + b);
    [-w - r * (1.0 - right), r, w - r * right]
}

/// The gradient in (w, r) from that in the angles of [`gaps`].
#[inline(always)]
pub(super) fn angles_gradient([w, r]: [f64; 2], [x, y, z]: [f64; 3]) -> [f64; 2] {
    let (a, b) = ((y + z - 2.0 * x) / 3.0, (2.0 * z - x - y) / 3.0);
    [TAU * (r * a + (1.0 - r) * b), TAU * w * (a - b)]
}

/// log of the Haar measure's density in (w, r), up to a constant.
pub(super) fn log_density(w: f64, r: f64) -> f64 {
    let (left, right) = ((PI * w * r).sin(), (PI * w * (1.0 - r)).sin());
    // sin(πw) near w = 1 from the distance to it.
    let around = (PI * w.min(1.0 - w)).sin();
    2.0 * (left * right * around).ln() + w.ln()
}

/// Derivatives of [`log_density`] in w and r.
pub(super) fn log_density_gradient(w: f64, r: f64) -> [f64; 2] {
    let cot = |x: f64| x.tan().recip();
    let (left, right) = (cot(PI * w * r), cot(PI * w * (1.0 - r)));
    let around = if w < 0.5 { cot(PI * w) } else { -cot(PI * (1.0 - w)) };
    [TAU * (r * left + (1.0 - r) * right + around) + 1.0 / w, TAU * w * (left - right)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_is_the_triangle() {
        for i in 1..40 {
            for j in 1..40 {
                let p = [f64::from(i) / 40.0, f64::from(j) / 40.0];
                let theta = angles(gaps(p));
                assert!(
                    theta.iter().sum::<f64>().abs() < 1e-15 && theta[0] <= theta[1] && theta[1] <= theta[2]
                );
                assert!(theta[2] - theta[0] <= TAU);
                // What the eigenvalues show are the angles modulo 2π, in any order.
                let seen = [theta[1], theta[2], theta[0]].map(|t| t.sin().atan2(t.cos()));
                let (index, found) = order(seen);
                let back = position(found);
                assert!((back[0] - p[0]).abs() < 1e-14 && (back[1] - p[1]).abs() < 1e-13, "{p:?} {back:?}");
                // Gaps at least 0.1: an order is right when it finds the angle of sum zero, up to full turns.
                for (t, k) in angles(found).iter().zip(index) {
                    let turns = (t - seen[k]) / TAU;
                    assert!((turns - turns.round()).abs() < 1e-14);
                }
            }
        }
    }

    #[test]
    fn derivatives_are_those_of_differences() {
        let h = 1e-6;
        for [w, r] in [[0.3, 0.7], [0.9, 0.2], [0.999, 0.5], [0.02, 0.01], [0.6, 0.999]] {
            let g = log_density_gradient(w, r);
            let dw = (log_density(w + h, r) - log_density(w - h, r)) / (2.0 * h);
            let dr = (log_density(w, r + h) - log_density(w, r - h)) / (2.0 * h);
            assert!((g[0] - dw).abs() < 1e-4 * (1.0 + dw.abs()), "{w} {r}: {g:?} {dw}");
            assert!((g[1] - dr).abs() < 1e-4 * (1.0 + dr.abs()), "{w} {r}: {g:?} {dr}");
            let gap = gaps([w, r]);
            let gradient = |k: usize| {
                let mut unit = [0.0; 2];
                unit[k] = 1.0;
                position_gradient(gap, unit)
            };
            // The two gradients are inverse to each other: ∂(w, r)/∂θ · ∂θ/∂(w, r) = 1.
            for (k, g) in [gradient(0), gradient(1)].into_iter().enumerate() {
                let row = angles_gradient([w, r], g);
                assert!((row[k] - 1.0).abs() < 1e-12 && row[1 - k].abs() < 1e-9, "{row:?}");
            }
        }
    }
}
