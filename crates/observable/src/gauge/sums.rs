//! Sums over a lattice that the observables are made of, by kernels where there are some and composed elsewhere.
//!
//! ```text
//! s_{μν} = Σ_x Re tr P_{μν}(x)
//! C_{μν}(x) = the four plaquettes of the plane that start and end at x, each running from μ to ν
//! F_{μν}(x) = ⅛ [C − C†]_{μν} − trace                anti-hermitian and traceless
//! c_{pq} = −Σ_x tr F_p(x)F_q(x)                      for planes p ≤ q
//! ```

use candle_core::{D, Device, Tensor};
use latflow_lattice::gauge::fused::{self, Plaquettes};
use latflow_lattice::gauge::{matrix, path, plaquettes};
use latflow_lattice::{Configuration, Lattice, Links};

use super::planes;
use crate::{Error, Result};

/// The sums of a lattice of at least two directions.
#[derive(Debug, Clone)]
pub(super) struct Sums {
    lattice: Lattice,
    kernels: Plaquettes,
}

impl Sums {
    pub(super) fn new(lattice: &Lattice) -> Result<Self> {
        if lattice.ndim() < 2 {
            let what = "directions of a lattice with plaquettes";
            return Err(Error::TooShort { what, needed: 2, got: lattice.ndim() });
        }
        Ok(Self { lattice: lattice.clone(), kernels: fused::plaquettes(lattice)? })
    }

    pub(super) fn lattice(&self) -> &Lattice {
        &self.lattice
    }

    /// The kernels, if these links have some.
    pub(super) fn kernels(&self, links: &Links) -> Result<Option<&Plaquettes>> {
        links.check(&self.lattice)?;
        Ok(fused::applies(links).then_some(&self.kernels))
    }

    /// s_{μν}, `[B, planes]`, planes (μ, ν), μ < ν, in lexicographic order. Detached.
    pub(super) fn plaquettes(&self, links: &Links) -> Result<Tensor> {
        let links = links.detach();
        if let Some(kernels) = self.kernels(&links)? {
            return Ok(kernels.sums(links.tensor())?);
        }
        let sum = |(mu, nu)| -> Result<Tensor> {
            Ok(matrix::re_trace(&plaquettes(&links, &self.lattice, mu, nu)?)?.sum(1)?)
        };
        let all = planes(self.lattice.ndim()).map(sum).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::stack(&all, 1)?)
    }

    /// c_{pq}, `[B, pairs]` at the indices of [`pair`]. Detached.
    pub(super) fn clovers(&self, links: &Links) -> Result<Tensor> {
        let links = links.detach();
        if let Some(kernels) = self.kernels(&links)? {
            // In components of the hermitian field strength: tr T^aT^b = ½ δ^{ab}.
            let blocks = kernels.blocks(links.tensor())?;
            let sums: Vec<f64> = blocks.iter().flat_map(|block| block.clover_sums()).collect();
            let batch = links.batch()?;
            return Ok((Tensor::from_vec(sums, (batch, ()), &Device::Cpu)? * 0.5)?);
        }
        let f = planes(self.lattice.ndim()).map(|(mu, nu)| field_strength(&links, &self.lattice, mu, nu));
        let f = f.collect::<Result<Vec<_>>>()?;
        let mut products = Vec::new();
        for (p, left) in f.iter().enumerate() {
            for right in &f[p..] {
                products.push(matrix::re_trace(&matrix::product(left, right)?)?.sum(1)?.neg()?);
            }
        }
        Ok(Tensor::stack(&products, 1)?)
    }
}

/// Position of the planes p ≤ q among all pairs of `planes` planes.
pub(super) fn pair(planes: usize, p: usize, q: usize) -> usize {
    p * planes - p * p.saturating_sub(1) / 2 + q - p
}

/// The clover field strength of one plane, `[B, V, N, N, 2]`: traceless and anti-hermitian, in lattice units.
///
/// # Errors
/// When the links do not fit the lattice.
pub fn field_strength(links: &Links, lattice: &Lattice, mu: usize, nu: usize) -> Result<Tensor> {
    let (f, b) = (1, -1);
    let leaves = [
        [(mu, f), (nu, f), (mu, b), (nu, b)],
        [(nu, f), (mu, b), (nu, b), (mu, f)],
        [(mu, b), (nu, b), (mu, f), (nu, f)],
        [(nu, b), (mu, f), (nu, f), (mu, b)],
    ];
    let mut sum = path(links, lattice, &leaves[0])?;
    for leaf in &leaves[1..] {
        sum = (sum + path(links, lattice, leaf)?)?;
    }
    let f = ((&sum - matrix::adjoint(&sum)?)? / 8.0)?;
    // tr F/N on the diagonal, real and imaginary part alike.
    let n = links.colours();
    let mean = (matrix::trace(&f)? / n as f64)?.unsqueeze(2)?.unsqueeze(2)?;
    let diagonal = matrix::identity(&[1, 1], n, f.device())?.narrow(D::Minus1, 0, 1)?;
    Ok(f.broadcast_sub(&mean.broadcast_mul(&diagonal)?)?)
}
