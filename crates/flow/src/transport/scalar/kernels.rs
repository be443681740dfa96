//! Convolutions with all symmetric kernels at once, in a basis that diagonalises them.
//!
//! ```text
//! H = ⊗_μ h^{(μ)},   h_{kx} = (cos kx + sin kx)/√L,   Hᵀ = H = H⁻¹,     H K_r H = diag( Σ_{d in r} cos k·d )
//! ```
//!
//! A kernel that depends on (|d_1|, …, |d_D|) is a sum of products of one-dimensional symmetric circulant matrices, which h
//! diagonalises: the transform is one small matrix product a direction.

use crate::Result;
use candle_core::{DType, Device, Tensor};
use latflow_kernels::{Hop, hop};
use latflow_lattice::{Boundary, Lattice};
use std::f64::consts::PI;

#[derive(Debug, Clone)]
pub(super) struct Kernels {
    dims: Vec<usize>,
    /// h of every direction.
    factors: Vec<Tensor>,
    /// Classes of displacements in lexicographic order, with |d_μ| ≤ L_μ/2 and at most the largest radius.
    classes: Vec<Vec<usize>>,
    /// Eigenvalues of the kernel of each class, `[classes, V]`.
    spectra: Tensor,
    /// Hops one step forwards and backwards, for every direction and for all of them.
    sides: Vec<Hop>,
    neighbours: Hop,
}

impl Kernels {
    pub(super) fn new(lattice: &Lattice, radius: usize, device: &Device) -> Result<Self> {
        let (dims, volume) = (lattice.dims().to_vec(), lattice.volume());
        let mut classes = vec![vec![]];
        for &extent in &dims {
            let choices = 0..=radius.min(extent / 2);
            classes = classes
                .iter()
                .flat_map(|c| choices.clone().map(move |d| [c.as_slice(), &[d]].concat()))
                .collect();
        }
        let momentum = |k: usize, extent: usize| 2.0 * PI * k as f64 / extent as f64;
        // d and −d are two displacements unless they are the same site.
        let factor = |d: usize, k: usize, extent: usize| {
            let copies = if d == 0 || 2 * d == extent { 1.0 } else { 2.0 };
            copies * (momentum(k, extent) * d as f64).cos()
        };
        let mut spectra: Vec<f64> = Vec::with_capacity(classes.len() * volume);
        for class in &classes {
            for site in 0..volume {
                let k = lattice.coordinates(site);
                let factors = class.iter().zip(&k).zip(&dims).map(|((d, k), l)| factor(*d, *k, *l));
                spectra.push(factors.product());
            }
        }
        let factors = dims.iter().map(|&extent| {
            let entries = (0..extent * extent).map(|i| {
                let angle = momentum((i / extent) * (i % extent) % extent, extent);
                (angle.cos() + angle.sin()) / (extent as f64).sqrt()
            });
            Ok(Tensor::from_vec(entries.collect::<Vec<f64>>(), (extent, extent), device)?)
        });
        let table = |directions: std::ops::Range<usize>| {
            let steps = directions.flat_map(|mu| [(mu, 1), (mu, -1)]);
            let neighbours: Vec<u32> = steps
                .flat_map(|(mu, step)| (0..volume).map(move |x| (mu, step, x)))
                .map(|(mu, step, x)| lattice.neighbour(x, mu, step, Boundary::Periodic).0 as u32)
                .collect();
            let ones = vec![1.0; neighbours.len()];
            Ok(Hop::new(volume, neighbours, ones)?)
        };
        Ok(Self {
            factors: factors.collect::<Result<_>>()?,
            spectra: Tensor::from_vec(spectra, (classes.len(), volume), device)?,
            sides: (0..dims.len()).map(|mu| table(mu..mu + 1)).collect::<Result<_>>()?,
            neighbours: table(0..dims.len())?,
            classes,
            dims,
        })
    }

    pub(super) fn volume(&self) -> usize {
        self.dims.iter().product()
    }

    /// Number of classes.
    pub(super) fn classes(&self) -> usize {
        self.classes.len()
    }

    /// The classes with |d_μ| ≤ `radius`.
    pub(super) fn within(&self, radius: usize) -> Vec<usize> {
        (0..self.classes.len()).filter(|c| self.classes[*c].iter().all(|d| *d <= radius)).collect()
    }

    /// The class of the origin and of each unit vector, as far as they are among the classes.
    pub(super) fn nearby(&self) -> impl Iterator<Item = Option<usize>> {
        let directions = self.dims.len();
        (0..=directions).map(move |place| {
            let mut class = vec![0; directions];
            if place > 0 {
                class[place - 1] = 1;
            }
            self.classes.iter().position(|c| *c == class)
        })
    }

    /// Eigenvalues of the kernels of some classes, `[n, V]`.
    pub(super) fn spectra_of(&self, classes: &[usize]) -> Result<Tensor> {
        let indices: Vec<u32> = classes.iter().map(|c| *c as u32).collect();
        Ok(self.spectra.index_select(&Tensor::from_vec(indices, classes.len(), self.spectra.device())?, 0)?)
    }

    /// Eigenvalues of sums of kernels, one row of coefficients `[n, classes]` each: `[n, V]`.
    pub(super) fn spectra(&self, coefficients: &Tensor) -> Result<Tensor> {
        Ok(coefficients.matmul(&self.spectra)?)
    }

    /// H applied to the last axis of `[…, V]`.
    pub(super) fn hartley(&self, x: &Tensor) -> Result<Tensor> {
        let (volume, total) = (self.volume(), x.elem_count());
        let mut y = x.contiguous()?;
        // Each pass transforms the last direction and brings it to the front: after all of them the order is the old one.
        for (factor, &extent) in self.factors.iter().zip(&self.dims).rev() {
            let rows = y.reshape((total / extent, extent))?.matmul(factor)?;
            y = rows.reshape((total / volume, volume / extent, extent))?.transpose(1, 2)?.contiguous()?;
        }
        Ok(y.reshape(x.shape())?)
    }

    /// Σ of all nearest neighbours, `[B, V]`.
    pub(super) fn neighbours(&self, phi: &Tensor) -> Result<Tensor> {
        Ok(hop(&phi.to_dtype(DType::F64)?.unsqueeze(1)?, None, &self.neighbours, false)?.squeeze(1)?)
    }

    /// f(x + μ̂) + f(x − μ̂), `[B, V]`.
    pub(super) fn both_sides(&self, f: &Tensor, mu: usize) -> Result<Tensor> {
        Ok(hop(&f.unsqueeze(1)?, None, &self.sides[mu], false)?.squeeze(1)?)
    }
}
