//! Where the active links of a layer and their staples are, and the weights of the staples.
//!
//! ```text
//! A_ν(x) = U_ν(x+μ̂) U_μ(x+ν̂)† U_ν(x)† + U_ν(x+μ̂−ν̂)† U_μ(x−ν̂)† U_ν(x−ν̂)        U A_ν: plaquettes through U = U_μ(x)
//! F = Re tr A_{ν+}A_{ν−}†/N,  its mean over ν (planar),  the mean over all other pairs of staples (bent):  frozen, in [−1, 1]
//! ```
//!
//! The links of direction μ in the staples of a site are on sites of the other parity.

use super::algebra::product;
use crate::Result;
use candle_core::{Device, Tensor};
use latflow_lattice::gauge::matrix;
use latflow_lattice::{Boundary, Lattice, Parity};

/// Frozen features that weights may depend on.
pub(super) const FEATURES: usize = 3;

/// Positions in flat links `[B, d V, N, N, 2]`.
#[derive(Debug, Clone)]
pub(super) struct ActiveLinks {
    active: Tensor,
    /// Of each plane: the three links of the staple ahead, and of the one behind.
    staples: Vec<[[Tensor; 3]; 2]>,
    /// Where each link is found when the new active ones stand behind all old links.
    merged: Tensor,
    count: usize,
}

/// A_{ν+} and A_{ν−} of a plane at the active links, `[B n, N, N, 2]`.
pub(super) type Plane = [Tensor; 2];

impl ActiveLinks {
    pub(super) fn new(lattice: &Lattice, mu: usize, parity: Parity, device: &Device) -> Result<Self> {
        let (d, v) = (lattice.ndim(), lattice.volume());
        let sites = lattice.sublattice(parity);
        let tensor = |positions: Vec<u32>| -> Result<Tensor> {
            let count = positions.len();
            Ok(Tensor::from_vec(positions, count, device)?)
        };
        let at = |direction: usize, steps: &[(usize, isize)]| {
            let moved = |site: usize| {
                let ahead =
                    |x, &(nu, step): &(usize, isize)| lattice.neighbour(x, nu, step, Boundary::Periodic).0;
                (direction * v + steps.iter().fold(site, ahead)) as u32
            };
            tensor(sites.iter().copied().map(moved).collect())
        };
        let plane = |nu: usize| -> Result<[[Tensor; 3]; 2]> {
            Ok([
                [at(nu, &[(mu, 1)])?, at(mu, &[(nu, 1)])?, at(nu, &[])?],
                [at(nu, &[(mu, 1), (nu, -1)])?, at(mu, &[(nu, -1)])?, at(nu, &[(nu, -1)])?],
            ])
        };
        let staples = (0..d).filter(|nu| *nu != mu).map(plane).collect::<Result<_>>()?;
        let mut merged: Vec<u32> = (0..(d * v) as u32).collect();
        for (i, site) in sites.iter().enumerate() {
            merged[mu * v + site] = (d * v + i) as u32;
        }
        Ok(Self { active: at(mu, &[])?, staples, merged: tensor(merged)?, count: sites.len() })
    }

    /// Active links of a configuration.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// `[B, d V, N, N, 2]` → `[B n, N, N, 2]`.
    fn gather(links: &Tensor, at: &Tensor) -> Result<Tensor> {
        Ok(links.contiguous()?.index_select(at, 1)?.flatten(0, 1)?)
    }

    /// The active links.
    pub(super) fn active(&self, links: &Tensor) -> Result<Tensor> {
        Self::gather(links, &self.active)
    }

    /// The staples of all planes.
    pub(super) fn staples(&self, links: &Tensor) -> Result<Vec<Plane>> {
        let staple = |at: &[Tensor; 3], behind: bool| -> Result<Tensor> {
            let [a, b, c] = at.each_ref().map(|at| Self::gather(links, at));
            product(&product(&a?, &b?, behind, true)?, &c?, false, !behind)
        };
        self.staples
            .iter()
            .map(|[ahead, behind]| Ok([staple(ahead, false)?, staple(behind, true)?]))
            .collect()
    }

    /// The links with new active ones.
    pub(super) fn merge(&self, links: &Tensor, active: &Tensor) -> Result<Tensor> {
        let mut shape = links.dims().to_vec();
        shape[1] = self.count;
        Ok(Tensor::cat(&[links.contiguous()?, active.reshape(shape)?], 1)?.index_select(&self.merged, 1)?)
    }
}

/// The sum of all staples.
pub(super) fn total(planes: &[Plane]) -> Result<Tensor> {
    let mut sum = planes[0][0].zeros_like()?;
    for staple in planes.iter().flatten() {
        sum = (sum + staple)?;
    }
    Ok(sum)
}

/// The features of each plane, `[B n, FEATURES]`.
pub(super) fn frozen_features(planes: &[Plane]) -> Result<Vec<Tensor>> {
    let colours = matrix::colours(&planes[0][0])? as f64;
    let inner = |a: &Tensor, b: &Tensor| -> Result<Tensor> {
        Ok((matrix::re_trace(&product(a, b, false, true)?)? / colours)?)
    };
    let own = planes.iter().map(|[a, b]| inner(a, b)).collect::<Result<Vec<_>>>()?;
    let planar = (Tensor::stack(&own, 0)?.mean(0))?;
    let s = total(planes)?;
    // All ordered pairs are the diagonal ones, the planar ones and the bent ones.
    let (p, n) = (planes.len() as f64, 2.0 * planes.len() as f64);
    let bent = ((inner(&s, &s)? - n)? - (&planar * (2.0 * p))?)?;
    let pairs = n * (n - 2.0);
    let bent = (bent * if pairs > 0.0 { 1.0 / pairs } else { 0.0 })?;
    own.iter().map(|own| Ok(Tensor::stack(&[own, &planar, &bent], 1)?)).collect()
}
