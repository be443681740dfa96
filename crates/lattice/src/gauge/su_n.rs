//! The Lie algebra su(N).
//!
//! ```text
//! T^a hermitian and traceless, tr T^aT^b = ½ δ^{ab}:   λ_a/2 for N = 3, σ_a/2 for N = 2
//! X = i Σ_a ω^a T^a                                     what the exponential map takes to SU(N)
//! ```

use crate::gauge::matrix;
use crate::{Error, Result};
use candle_core::{D, Tensor};

/// Number of generators N² − 1.
pub(crate) fn dimension(n: usize) -> usize {
    n * n - 1
}

/// The generators T^a in Gell-Mann's order, `[N² − 1][row][column][re, im]`, flat.
///
/// For each k from 2 to N: the symmetric and antisymmetric generators of (1, k), …, (k − 1, k), then the diagonal one of k.
pub fn generators(n: usize) -> Vec<f64> {
    let size = 2 * n * n;
    let mut all = Vec::with_capacity(dimension(n) * size);
    let at = |i: usize, j: usize, im: usize| 2 * (i * n + j) + im;
    for k in 1..n {
        for j in 0..k {
            let (mut symmetric, mut antisymmetric) = (vec![0.0; size], vec![0.0; size]);
            symmetric[at(j, k, 0)] = 0.5;
            symmetric[at(k, j, 0)] = 0.5;
            antisymmetric[at(j, k, 1)] = -0.5;
            antisymmetric[at(k, j, 1)] = 0.5;
            all.extend(symmetric);
            all.extend(antisymmetric);
        }
        let mut diagonal = vec![0.0; size];
        let scale = 1.0 / ((2 * k * (k + 1)) as f64).sqrt();
        (0..k).for_each(|j| diagonal[at(j, j, 0)] = scale);
        diagonal[at(k, k, 0)] = -(k as f64) * scale;
        all.extend(diagonal);
    }
    all
}

/// i Σ_a ω^a T^a: `[…, N² − 1]` → `[…, N, N, 2]`, differentiable.
///
/// # Errors
/// When the last axis is not N² − 1.
pub fn algebra_element(omega: &Tensor, n: usize) -> Result<Tensor> {
    let rank = omega.rank();
    if rank == 0 || omega.dims()[rank - 1] != dimension(n) {
        return Err(Error::Shape {
            what: "element of su(N)",
            expected: format!("[…, {}]", dimension(n)),
            got: omega.dims().to_vec(),
        });
    }
    let table: Vec<f64> = generators(n).chunks_exact(2).flat_map(|z| [-z[1], z[0]]).collect();
    let table = Tensor::from_vec(table, (dimension(n), 2 * n * n), omega.device())?;
    let flat = omega.flatten_to(D::Minus2).or_else(|_| omega.unsqueeze(0))?;
    let mut shape = omega.dims()[..rank - 1].to_vec();
    shape.extend([n, n, 2]);
    let x = flat.contiguous()?.matmul(&table)?.reshape(shape)?;
    matrix::colours(&x)?;
    Ok(x)
}
