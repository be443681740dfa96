//! Eigenvalues and orthonormal eigenvectors of unitary 3 × 3 matrices, a block at a time.
//!
//! ```text
//! W = X diag(λ) X†,   X = product of rotations in the planes (1,2), (1,3), (2,3), sweep by sweep
//! W = A + iB, both hermitian; the plane (p, q) of a hermitian matrix H has the Bloch vector
//!     h = (H_pp − H_qq, 2 Re H_pq, 2 Im H_pq),        diagonal when h points along the first axis
//! the rotation turns the direction of largest (u·h_A)² + (u·h_B)² to the first axis        (Jacobi, for a normal matrix)
//! ```
//!
//! Rotations need no gap between eigenvalues: equal or nearly equal ones leave X as orthonormal as any others, where roots of
//! the characteristic polynomial and null vectors lose half their digits. Sweeps go on until every matrix of the block is
//! diagonal to rounding, or to what it itself lacks to be normal.

use super::block::{Block, Complex, LANES, Lane, fused};
use crate::conv::simd::Vector;

/// Σ_{i≠j} |W_ij|² that counts as zero.
const DIAGONAL: f64 = 1e-30;

/// Matrices this far from normal are not unitary at all: an error of the caller, not of rounding.
const ACCEPTED: f64 = 1e-12;

/// Random matrices take four or five.
const SWEEPS: usize = 40;

/// A block of diagonalised matrices, in any order of the eigenvalues.
pub(super) struct Eigen {
    /// Columns are eigenvectors.
    pub(super) vectors: Block,
    pub(super) values: [[Lane; 2]; 3],
    /// What is left beside the diagonal, Σ_{i≠j} |(X†WX)_ij|².
    pub(super) rest: Lane,
}

impl Eigen {
    /// Whether a matrix came out as X diag(λ) X† with |λ| = 1 to 10⁻⁶; false for NaN.
    pub(super) fn is_unitary(&self, l: usize) -> bool {
        let on_circle = |[re, im]: &[Lane; 2]| (re[l] * re[l] + im[l] * im[l] - 1.0).abs() < 1e-6;
        self.rest[l] < ACCEPTED && self.values.iter().all(on_circle)
    }
}

/// Diagonalises the matrices of a block.
#[inline(always)]
pub(super) fn eigen<X: Vector>(matrices: &Block) -> Eigen {
    let (mut w, mut vectors) = (*matrices, Block::identity());
    let mut rest = off_diagonal(&w);
    for _ in 0..SWEEPS {
        rotate::<X, 0, 1>(&mut w, &mut vectors);
        rotate::<X, 0, 2>(&mut w, &mut vectors);
        rotate::<X, 1, 2>(&mut w, &mut vectors);
        let before = rest;
        rest = off_diagonal(&w);
        let mut done = true;
        for l in 0..LANES {
            // Not shrinking any more: rounding, or a matrix that is not quite normal. NaN will not get better either.
            let stuck = rest[l] < ACCEPTED && rest[l] > 0.25 * before[l];
            done &= rest[l] < DIAGONAL || stuck || rest[l].is_nan();
        }
        if done {
            break;
        }
    }
    Eigen { vectors, values: std::array::from_fn(|i| *w.entry(i, i)), rest }
}

#[inline(always)]
fn off_diagonal(w: &Block) -> Lane {
    let mut sum = [0.0; LANES];
    for (i, j) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        let [re, im] = w.entry(i, j);
        for (sum, (re, im)) in sum.iter_mut().zip(re.iter().zip(im)) {
            *sum += re * re + im * im;
        }
    }
    sum
}

/// One rotation in the plane (P, Q) of every matrix: W ← R† W R, X ← X R.
#[inline(always)]
fn rotate<X: Vector, const P: usize, const Q: usize>(w: &mut Block, x: &mut Block) {
    for l in 0..LANES {
        let (pp, qq, pq, qp) = (w.at(P, P, l), w.at(Q, Q, l), w.at(P, Q, l), w.at(Q, P, l));
        let a = [pp.re - qq.re, pq.re + qp.re, pq.im - qp.im];
        let b = [pp.im - qq.im, pq.im + qp.im, qp.re - pq.re];
        let (aa, bb, ab) = (dot::<X>(a, a), dot::<X>(b, b), dot::<X>(a, b));
        // The leading eigenvector of the matrix (aa, ab; ab, bb); any vector when both eigenvalues are equal.
        let half = aa - bb;
        let root = fused::<X>(half, half, 4.0 * ab * ab).sqrt();
        let large = half.abs() + root;
        let (first, second) = if half >= 0.0 { (large, 2.0 * ab) } else { (2.0 * ab, large) };
        let (first, second) = if large > 0.0 { (first, second) } else { (1.0, 0.0) };
        let u0 = fused::<X>(first, a[0], second * b[0]);
        let u1 = fused::<X>(first, a[1], second * b[1]);
        let u2 = fused::<X>(first, a[2], second * b[2]);
        // The smaller of the two rotations that diagonalise.
        let (u1, u2) = if u0 >= 0.0 { (u1, u2) } else { (-u1, -u2) };
        let side = fused::<X>(u1, u1, u2 * u2);
        let top = u0.abs() + fused::<X>(u0, u0, side).sqrt();
        let norm = fused::<X>(top, top, side);
        // Below this squares underflow: the plane is diagonal as it is.
        let (top, u1, u2, norm) = if norm > 1e-280 { (top, u1, u2, norm) } else { (1.0, 0.0, 0.0, 1.0) };
        let inverse = 1.0 / norm.sqrt();
        let (c, s) = (top * inverse, Complex::new(u1 * inverse, -u2 * inverse));
        let minus = Complex::new(-s.re, s.im);
        for i in 0..3 {
            let (p, q) = (w.at(i, P, l), w.at(i, Q, l));
            w.set(i, P, l, s.times_add::<X>(q, p.scaled(c)));
            w.set(i, Q, l, minus.times_add::<X>(p, q.scaled(c)));
            let (p, q) = (x.at(i, P, l), x.at(i, Q, l));
            x.set(i, P, l, s.times_add::<X>(q, p.scaled(c)));
            x.set(i, Q, l, minus.times_add::<X>(p, q.scaled(c)));
        }
        for j in 0..3 {
            let (p, q) = (w.at(P, j, l), w.at(Q, j, l));
            w.set(P, j, l, s.conj().times_add::<X>(q, p.scaled(c)));
            w.set(Q, j, l, minus.conj().times_add::<X>(p, q.scaled(c)));
        }
    }
}

#[inline(always)]
fn dot<X: Vector>(a: [f64; 3], b: [f64; 3]) -> f64 {
    fused::<X>(a[0], b[0], fused::<X>(a[1], b[1], a[2] * b[2]))
}
