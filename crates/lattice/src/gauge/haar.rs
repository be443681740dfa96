//! Haar-distributed matrices of SU(N).

use crate::gauge::matrix;
use crate::{Result, Rng, normal_tensor};
use candle_core::{DType, Device, Tensor};
use latflow_kernels::with_slice;
use num_complex::Complex64;

/// `count` independent matrices of SU(N), `[count, N, N, 2]`, distributed by the Haar measure: the columns of a complex Gaussian
/// matrix, orthonormalised in order, with the last one turned so that the determinant is 1.
///
/// # Errors
/// When the device refuses the upload.
pub fn haar_matrices(count: usize, n: usize, rng: &mut Rng, device: &Device) -> Result<Tensor> {
    let noise = normal_tensor(rng, 1.0, &[count, n, n, 2], DType::F64, &Device::Cpu)?;
    Ok(orthonormalised(&noise)?.to_device(device)?)
}

/// Matrices `[…, N, N, 2]` with their columns orthonormalised in order and the last one turned so that the determinant is 1.
///
/// # Errors
/// When the tensor does not hold f64 on the CPU.
pub(super) fn orthonormalised(matrices: &Tensor) -> Result<Tensor> {
    let n = matrix::colours(matrices)?;
    let data = with_slice::<f64, _>(matrices, |data| {
        let mut out = Vec::with_capacity(data.len());
        for m in data.chunks_exact(2 * n * n) {
            let columns: Vec<Vec<Complex64>> = (0..n)
                .map(|j| (0..n).map(|i| Complex64::new(m[2 * (i * n + j)], m[2 * (i * n + j) + 1])).collect())
                .collect();
            let q = special_unitary(columns);
            for i in 0..n {
                q.iter().for_each(|column| out.extend([column[i].re, column[i].im]));
            }
        }
        out
    })?;
    Ok(Tensor::from_vec(data, matrices.shape(), &Device::Cpu)?)
}

/// Gram–Schmidt, twice for rounding, with the phase of the determinant taken out of the last column.
fn special_unitary(mut columns: Vec<Vec<Complex64>>) -> Vec<Vec<Complex64>> {
    let n = columns.len();
    for j in 0..n {
        let (before, rest) = columns.split_at_mut(j);
        let v = &mut rest[0];
        for _ in 0..2 {
            for u in before.iter() {
                let overlap: Complex64 = u.iter().zip(v.iter()).map(|(u, v)| u.conj() * v).sum();
                v.iter_mut().zip(u).for_each(|(v, u)| *v -= overlap * u);
            }
            let norm = v.iter().map(Complex64::norm_sqr).sum::<f64>().sqrt();
            v.iter_mut().for_each(|v| *v /= norm);
        }
    }
    let phase = determinant(&columns).conj();
    if let Some(last) = columns.last_mut() {
        last.iter_mut().for_each(|v| *v *= phase);
    }
    columns
}

/// By elimination; the matrices are unitary, so that a pivot is never small for all rows.
fn determinant(columns: &[Vec<Complex64>]) -> Complex64 {
    let (mut m, n) = (columns.to_vec(), columns.len());
    let mut det = Complex64::new(1.0, 0.0);
    for k in 0..n {
        let pivot = (k..n).max_by(|&a, &b| m[a][k].norm().total_cmp(&m[b][k].norm())).unwrap_or(k);
        if pivot != k {
            m.swap(pivot, k);
            det = -det;
        }
        det *= m[k][k];
        let top = m[k].clone();
        for row in m.iter_mut().skip(k + 1) {
            let factor = row[k] / top[k];
            row.iter_mut().zip(&top).for_each(|(x, t)| *x -= factor * t);
        }
    }
    det
}
