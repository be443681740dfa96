//! Exponential convolution: a linear map with local generator and a free determinant.
//!
//! ```text
//! x = e^{L} z,   (L z)(x) = Σ_d c_d z(x + d),   c_d depends on (|d_1|, …, |d_D|), |d_μ| ≤ R
//! log |det e^{L}| = tr L = V c_0
//! ```
//!
//! L is a symmetric circulant matrix: the Hartley basis H_{kx} = (cos k·x + sin k·x)/√V diagonalises it, with eigenvalues
//! l_k = Σ_d c_d cos k·d, so that both e^{L} and e^{−L} are two matrix products. The coefficients do not know the size of
//! the lattice: what was trained on a small one acts on a large one.

use crate::{Bijection, ParamStore, Result};
use candle_core::{DType, Tensor};
use latflow_lattice::Lattice;
use std::collections::BTreeMap;
use std::f64::consts::PI;

/// The layer on periodic fields `[B, V]`, f64.
#[derive(Debug, Clone)]
pub struct ExponentialConvolution {
    /// c_d, one a class of displacements, `[n]`; the first is c_0.
    coefficients: Tensor,
    /// Σ_{d in class} cos k·d, `[n, V]`.
    cosines: Tensor,
    /// The Hartley matrix, symmetric and orthogonal, `[V, V]`.
    hartley: Tensor,
    volume: f64,
}

impl ExponentialConvolution {
    /// Starts as the identity. `radius` is R; displacements beyond half the lattice are left out.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn new(store: &mut ParamStore, name: &str, lattice: &Lattice, radius: usize) -> Result<Self> {
        let volume = lattice.volume();
        let momenta: Vec<Vec<f64>> = (0..volume)
            .map(|k| {
                let n = lattice.coordinates(k);
                n.iter().zip(lattice.dims()).map(|(n, l)| 2.0 * PI * *n as f64 / *l as f64).collect()
            })
            .collect();
        // Every displacement is counted once; L/2 and −L/2 are the same.
        let mut classes: BTreeMap<Vec<usize>, Vec<Vec<usize>>> = BTreeMap::new();
        for site in 0..volume {
            let d = lattice.coordinates(site);
            let class: Vec<usize> = d.iter().zip(lattice.dims()).map(|(d, l)| (*d).min(l - d)).collect();
            if class.iter().all(|c| *c <= radius) {
                classes.entry(class).or_default().push(d);
            }
        }
        let dot = |k: &[f64], d: &[usize]| k.iter().zip(d).map(|(k, d)| k * *d as f64).sum::<f64>();
        let cosines: Vec<f64> = classes
            .values()
            .flat_map(|class| momenta.iter().map(move |k| class.iter().map(|d| dot(k, d).cos()).sum::<f64>()))
            .collect();
        let norm = 1.0 / (volume as f64).sqrt();
        let hartley: Vec<f64> = momenta
            .iter()
            .flat_map(|k| {
                (0..volume).map(move |x| {
                    let phase = dot(k, &lattice.coordinates(x));
                    norm * (phase.cos() + phase.sin())
                })
            })
            .collect();
        let n = classes.len();
        Ok(Self {
            coefficients: store.create(name, &[n], |_| vec![0.0; n])?,
            cosines: Tensor::from_vec(cosines, (n, volume), store.device())?,
            hartley: Tensor::from_vec(hartley, (volume, volume), store.device())?,
            volume: volume as f64,
        })
    }

    fn apply(&self, z: &Tensor, sign: f64) -> Result<(Tensor, Tensor)> {
        let c = (self.coefficients.to_dtype(DType::F64)? * sign)?;
        let factors = c.unsqueeze(0)?.matmul(&self.cosines)?.exp()?;
        let x = z.matmul(&self.hartley)?.broadcast_mul(&factors)?.matmul(&self.hartley)?;
        let log_det = (c.narrow(0, 0, 1)? * self.volume)?.broadcast_as(z.dim(0)?)?;
        Ok((x, log_det))
    }
}

impl Bijection<Tensor> for ExponentialConvolution {
    fn forward(&self, z: &Tensor, (): &()) -> Result<(Tensor, Tensor)> {
        self.apply(z, 1.0)
    }

    fn inverse(&self, x: &Tensor, (): &()) -> Result<(Tensor, Tensor)> {
        self.apply(x, -1.0)
    }
}
