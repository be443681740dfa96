//! The dense Hessian from Jacobians that are stored only where they do not vanish.
//!
//! ```text
//! H_u = w2 + Σ_k A_kᵀ c_k A_k,     A_k = ∂a_k/∂φ
//! A_{k+1}[x, d] = Σ_t Ŵ_k[t] σ(a_k)(x+t) A_k[x+t, d−t] + L̂_{k+1}[d]                 d = displacement from x
//! ```
//!
//! a_k at x depends on φ only within the radius k·(kernel−1)/2, so A_k is `[V, D_k, C]` with D_k the number of sites of that box,
//! not `[V, V, C]`. Its recursion is a convolution over the V·D_{k+1} pairs (x, d): the fused kernel does it, forwards and
//! backwards. Along a direction in which the box would be longer than the lattice, d runs over the whole lattice, periodically.

use super::pass::Pass;
use crate::Result;
use candle_core::{DType, Device, Tensor};
use latflow_kernels::window::{Windows, gram, gram_trace, widen};
use latflow_kernels::{Stencil, convolution};
use latflow_lattice::{Boundary, Lattice};

/// Boxes around every site and how they grow.
#[derive(Debug)]
pub(super) struct Geometry {
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    windows: Windows,
    /// 1 where a place of the box is a tap of the kernel, `[D, T]`.
    taps: Tensor,
    /// Where each place lies in the next box, and the convolution over (x, d) that leads there.
    next: Option<(Vec<u32>, Stencil)>,
}

/// Displacements with components −r … r, or all of the lattice where that is less.
struct Extent {
    radius: isize,
    extents: Vec<usize>,
}

impl Extent {
    fn new(lattice: &Lattice, radius: usize) -> Self {
        let extents = lattice.dims().iter().map(|&l| (2 * radius + 1).min(l)).collect();
        Self { radius: radius as isize, extents }
    }

    fn size(&self) -> usize {
        self.extents.iter().product()
    }

    fn displacement(&self, mut place: usize) -> Vec<isize> {
        let mut d = vec![0; self.extents.len()];
        for (d, &e) in d.iter_mut().zip(&self.extents).rev() {
            *d = (place % e) as isize - self.radius;
            place /= e;
        }
        d
    }

    /// The place of a displacement, periodic in the box.
    fn place(&self, displacement: &[isize]) -> usize {
        displacement
            .iter()
            .zip(&self.extents)
            .fold(0, |place, (d, &e)| place * e + (d + self.radius).rem_euclid(e as isize) as usize)
    }
}

impl Geometry {
    pub(super) fn new(lattice: &Lattice, kernel: usize, depth: usize, device: &Device) -> Result<Self> {
        let half = kernel / 2;
        let kernel_box = Extent::new(lattice, half);
        let taps: Vec<Vec<isize>> = (0..kernel_box.size()).map(|t| kernel_box.displacement(t)).collect();
        let volume = lattice.volume();
        let mut levels = Vec::with_capacity(depth);
        for k in 1..=depth {
            let extent = Extent::new(lattice, k * half);
            let size = extent.size();
            let displacements: Vec<Vec<isize>> = (0..size).map(|d| extent.displacement(d)).collect();
            let sites = (0..volume).flat_map(|x| {
                displacements.iter().map(move |d| lattice.displaced(x, d, Boundary::Periodic).0 as u32)
            });
            let windows = Windows::new(volume, sites.collect())?;
            let mut embedding = vec![0.0; size * taps.len()];
            for (t, tap) in taps.iter().enumerate() {
                embedding[extent.place(tap) * taps.len() + t] = 1.0;
            }
            let next = (k < depth).then(|| -> Result<_> {
                let wide = Extent::new(lattice, (k + 1) * half);
                let place = displacements.iter().map(|d| wide.place(d) as u32).collect();
                let mut neighbours = Vec::with_capacity(taps.len() * volume * wide.size());
                for tap in &taps {
                    for x in 0..volume {
                        let (x, _) = lattice.displaced(x, tap, Boundary::Periodic);
                        for d in 0..wide.size() {
                            let d: Vec<isize> =
                                wide.displacement(d).iter().zip(tap).map(|(d, t)| d - t).collect();
                            neighbours.push((x * wide.size() + wide.place(&d)) as u32);
                        }
                    }
                }
                Ok((place, Stencil::new(volume * wide.size(), neighbours, None)?))
            });
            levels.push(Level {
                windows,
                taps: Tensor::from_vec(embedding, (size, taps.len()), device)?,
                next: next.transpose()?,
            });
        }
        Ok(Self { levels })
    }

    /// Elements of the largest Jacobian of a configuration, a channel.
    pub(super) fn largest(&self) -> usize {
        self.levels.iter().map(|l| l.windows.volume() * l.windows.size()).max().unwrap_or(1)
    }

    /// H_u, `[B, V, V]`, without gradients: those of `pass` should not be recorded.
    pub(super) fn dense(&self, pass: &Pass) -> Result<Tensor> {
        let (batch, volume, _) = pass.curvature[0].dims3()?;
        let mut h = Tensor::eye(volume, DType::F64, pass.curvature[0].device())?
            .broadcast_mul(&pass.weights.quadratic.detach())?
            .broadcast_as((batch, volume, volume))?
            .contiguous()?;
        for (k, (a, l)) in self.jacobians(pass)?.iter().enumerate() {
            h = (h + gram(&pass.curvature[k], a, l, &self.levels[k].windows)?)?;
        }
        Ok(h)
    }

    /// Tr[G H_u], `[B]`, for constant symmetric matrices G `[B, V, V]`; differentiable in whatever `pass` is.
    pub(super) fn trace(&self, pass: &Pass, g: &Tensor) -> Result<Tensor> {
        let volume = g.dim(1)?;
        let eye = Tensor::eye(volume, DType::F64, g.device())?;
        let diagonal = g.broadcast_mul(&eye)?.sum((1, 2))?;
        let mut trace = diagonal.broadcast_mul(&pass.weights.quadratic)?;
        for (k, (a, l)) in self.jacobians(pass)?.iter().enumerate() {
            trace = (trace + gram_trace(&pass.curvature[k], a, l, g, &self.levels[k].windows)?)?;
        }
        Ok(trace)
    }

    /// A_k in two parts: one that varies over the lattice, `[B, V·D_k, C]`, and L̂_k in the box, `[D_k, C]`.
    fn jacobians(&self, pass: &Pass) -> Result<Vec<(Tensor, Tensor)>> {
        let weights = &pass.weights;
        let (batch, volume, channels) = pass.curvature[0].dims3()?;
        let first = volume * self.levels[0].windows.size();
        let mut a = Tensor::zeros((batch, first, channels), DType::F64, weights.zero.device())?;
        let mut all = Vec::with_capacity(self.levels.len());
        for (k, level) in self.levels.iter().enumerate() {
            let skip = weights.skip.narrow(1, k * channels, channels)?.contiguous()?;
            let l = level.taps.matmul(&skip)?;
            let next = level.next.as_ref().map(|(place, stencil)| {
                let wide = stencil.volume() / volume;
                let scaled = widen(&pass.slope[k], &a, &l, place, wide)?;
                convolution(&scaled, &weights.positive[k], &weights.zero, stencil)
            });
            let next = next.transpose()?;
            all.push((a, l));
            match next {
                Some(next) => a = next,
                None => break,
            }
        }
        Ok(all)
    }
}
