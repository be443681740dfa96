//! Frames and conjugacy classes of a block of SU(3) matrices: what every operation on spectra starts from.

use super::alcove;
use super::block::{Block, LANES, Lane, NUMBERS};
use super::eigen::eigen;
use crate::conv::simd::{Task, Vector};
use std::f64::consts::TAU;

/// A block of diagonalised matrices W = X diag(λ) X†, eigenvalues in the order of the triangle of classes.
#[derive(Clone)]
pub(super) struct Class {
    /// X.
    pub(super) frame: Block,
    /// λ, real and imaginary parts.
    pub(super) values: [[Lane; 2]; 3],
    /// θ_2 − θ_1 and θ_3 − θ_2.
    pub(super) gaps: [Lane; 2],
}

impl Class {
    pub(super) fn identity() -> Self {
        Self { frame: Block::identity(), values: [[[1.0; LANES], [0.0; LANES]]; 3], gaps: [[0.0; LANES]; 2] }
    }

    #[inline(always)]
    pub(super) fn gap(&self, l: usize) -> [f64; 2] {
        [self.gaps[0][l], self.gaps[1][l]]
    }

    /// i x_k λ_k, the derivative of λ when the angles grow at the rates x.
    #[inline(always)]
    pub(super) fn turning(&self, rates: &[Lane; 3]) -> [[Lane; 2]; 3] {
        let mut out = self.values;
        for ([re, im], rates) in out.iter_mut().zip(rates) {
            for ((re, im), rate) in re.iter_mut().zip(im).zip(rates) {
                (*re, *im) = (-rate * *im, rate * *re);
            }
        }
        out
    }
}

/// Diagonalises the matrices of a slice; the result is the index of one that is not in SU(3), if any.
pub(super) struct Classify<'a> {
    pub(super) matrices: &'a [f64],
    pub(super) classes: &'a mut [Class],
}

impl Task<f64> for Classify<'_> {
    type Output = Option<usize>;

    #[inline(always)]
    unsafe fn run<X: Vector<Item = f64>>(self) -> Option<usize> {
        let mut bad = None;
        let blocks = self.matrices.chunks(LANES * NUMBERS).zip(self.classes).enumerate();
        for (index, (matrices, class)) in blocks {
            let result = eigen::<X>(&Block::pack(matrices));
            for (l, matrix) in matrices.chunks_exact(NUMBERS).enumerate() {
                let angle: [f64; 3] = result.values.map(|[re, im]| im[l].atan2(re[l]));
                let turns = angle.iter().sum::<f64>() / TAU;
                let special = result.is_unitary(l) && (turns - turns.round()).abs() < 1e-6;
                // NaN is not an error here: a chain rejects it, and training stops by itself.
                if !special && matrix.iter().all(|x| x.is_finite()) {
                    bad = bad.or(Some(index * LANES + l));
                }
                let (order, gaps) = alcove::order(angle);
                (class.gaps[0][l], class.gaps[1][l]) = (gaps[0], gaps[1]);
                for (k, &from) in order.iter().enumerate() {
                    (0..2).for_each(|part| class.values[k][part][l] = result.values[from][part][l]);
                    (0..3).for_each(|i| class.frame.set(i, k, l, result.vectors.at(i, from, l)));
                }
            }
        }
        bad
    }
}
