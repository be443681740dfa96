//! The product as one op: one configuration after the other, all factors at once.
//!
//! ```text
//! forward  y = W x:    x̄ = Wᵀ ȳ,    ā_h =  Σ_c ȳ_h x_h,   b̄_h =  Σ_c ȳ_h x_{h+1}
//! inverse  x = W⁻¹ y:  ȳ = W⁻ᵀ x̄,   ā_h = −Σ_c ȳ_h x_h,   b̄_h = −Σ_c ȳ_h x_{h+1}
//! ```
//!
//! with a bar for the gradient of the loss, factor by factor.

use super::line::Line;
use super::{BidiagonalProduct, Cycles, Direction};
use crate::conv::with_slices;
use crate::host::contiguous_slice;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::f64::consts::LN_2;

/// (x, coefficients) → `[B, C·V + 1]`: the vector and the log-determinant.
pub(super) struct Fused {
    pub(super) product: BidiagonalProduct,
    pub(super) direction: Direction,
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// One configuration: coefficients of all factors in the order of their lines, `[n, V]`.
struct Factors<'a> {
    product: &'a BidiagonalProduct,
    direction: Direction,
    a: Vec<f64>,
    b: Vec<f64>,
}

impl<'a> Factors<'a> {
    fn new(op: &'a Fused, raw: &[f64]) -> Self {
        let (product, volume, n) = (&op.product, op.product.volume(), op.product.operators);
        let (mut a, mut b) = (vec![0.0; n * volume], vec![0.0; n * volume]);
        for k in 0..n {
            for (j, &site) in product.cycles(k).0.sites.iter().enumerate() {
                let at = site as usize * 2 * n + 2 * k;
                a[k * volume + j] = softplus(raw[at]) / LN_2;
                b[k * volume + j] = raw[at + 1];
            }
        }
        Self { product, direction: op.direction, a, b }
    }

    /// Factor numbers in the order in which they are applied.
    fn order(&self) -> Vec<usize> {
        let n = self.product.operators;
        match self.direction {
            Direction::Forward => (0..n).collect(),
            Direction::Inverse => (0..n).rev().collect(),
        }
    }

    /// Factor k: first site number and coefficients of each line.
    fn lines(&self, k: usize) -> impl Iterator<Item = (usize, Line<'_>)> {
        let volume = self.product.volume();
        let Cycles(inner) = self.product.cycles(k);
        let lines = self.a[k * volume..][..volume].chunks_exact(inner.length);
        let lines = lines.zip(self.b[k * volume..][..volume].chunks_exact(inner.length));
        lines.enumerate().map(|(i, (a, b))| (i * inner.length, Line { a, b, closing: inner.closing }))
    }

    /// Applies factor k, or its transpose, to every component of x.
    fn step(&self, k: usize, transposed: bool, x: &[f64], y: &mut [f64]) {
        let volume = self.product.volume();
        let Cycles(inner) = self.product.cycles(k);
        let (mut input, mut output) = (vec![0.0; inner.length], vec![0.0; inner.length]);
        for (start, line) in self.lines(k) {
            let sites = &inner.sites[start..start + inner.length];
            for (x, y) in x.chunks_exact(volume).zip(y.chunks_exact_mut(volume)) {
                for (to, &site) in input.iter_mut().zip(sites) {
                    *to = x[site as usize];
                }
                match (self.direction, transposed) {
                    (Direction::Forward, false) => line.apply(&input, &mut output),
                    (Direction::Forward, true) => line.apply_transposed(&input, &mut output),
                    (Direction::Inverse, false) => line.solve(&input, &mut output),
                    (Direction::Inverse, true) => line.solve_transposed(&input, &mut output),
                }
                for (from, &site) in output.iter().zip(sites) {
                    y[site as usize] = *from;
                }
            }
        }
    }

    fn log_abs_det(&self) -> f64 {
        (0..self.product.operators).flat_map(|k| self.lines(k)).map(|(_, line)| line.log_abs_det()).sum()
    }

    /// ∂/∂a and ∂/∂b of factor k, in the order of its lines: from `output` (the bar of the factor's output, or of its input
    /// in the inverse) and the vector x that W multiplies.
    fn add_gradient(&self, k: usize, bar: &[f64], x: &[f64], da: &mut [f64], db: &mut [f64]) {
        let volume = self.product.volume();
        let Cycles(inner) = self.product.cycles(k);
        let sign = if self.direction == Direction::Forward { 1.0 } else { -1.0 };
        for (start, _) in self.lines(k) {
            let sites = &inner.sites[start..start + inner.length];
            for (bar, x) in bar.chunks_exact(volume).zip(x.chunks_exact(volume)) {
                for h in 0..inner.length {
                    let (next, closing) =
                        if h + 1 < inner.length { (sites[h + 1], 1.0) } else { (sites[0], inner.closing) };
                    let bar = sign * bar[sites[h] as usize];
                    da[start + h] += bar * x[sites[h] as usize];
                    db[start + h] += bar * closing * x[next as usize];
                }
            }
        }
    }
}

impl BidiagonalProduct {
    fn cycles(&self, k: usize) -> &Cycles {
        &self.cycles[k % self.cycles.len()]
    }
}

impl Fused {
    fn sign(&self) -> f64 {
        if self.direction == Direction::Forward { 1.0 } else { -1.0 }
    }

    fn forward_one(&self, x: &[f64], raw: &[f64], out: &mut [f64]) {
        let factors = Factors::new(self, raw);
        let (mut x, mut y) = (x.to_vec(), vec![0.0; x.len()]);
        for k in factors.order() {
            factors.step(k, false, &x, &mut y);
            std::mem::swap(&mut x, &mut y);
        }
        out[..x.len()].copy_from_slice(&x);
        out[x.len()] = self.sign() * factors.log_abs_det();
    }

    fn backward_one(&self, x: &[f64], raw: &[f64], grad: &[f64], dx: &mut [f64], draw: &mut [f64]) {
        let (n, volume, size) = (self.product.operators, self.product.volume(), x.len());
        let factors = Factors::new(self, raw);
        let order = factors.order();
        // What goes into every factor, and comes out of the last.
        let mut states = vec![0.0; (n + 1) * size];
        states[..size].copy_from_slice(x);
        for (i, &k) in order.iter().enumerate() {
            let (before, after) = states.split_at_mut((i + 1) * size);
            factors.step(k, false, &before[i * size..], &mut after[..size]);
        }
        dx.copy_from_slice(&grad[..size]);
        let mut previous = vec![0.0; size];
        for (i, &k) in order.iter().enumerate().rev() {
            let (mut da, mut db) = (vec![0.0; volume], vec![0.0; volume]);
            factors.step(k, true, dx, &mut previous);
            match self.direction {
                Direction::Forward => {
                    factors.add_gradient(k, dx, &states[i * size..][..size], &mut da, &mut db);
                }
                Direction::Inverse => {
                    factors.add_gradient(k, &previous, &states[(i + 1) * size..][..size], &mut da, &mut db);
                }
            }
            dx.copy_from_slice(&previous);
            for (start, line) in factors.lines(k) {
                let range = start..start + line.a.len();
                let scale = self.sign() * grad[size];
                line.add_log_abs_det_gradient(scale, &mut da[range.clone()], &mut db[range]);
            }
            for (j, &site) in self.product.cycles(k).0.sites.iter().enumerate() {
                let at = site as usize * 2 * n + 2 * k;
                draw[at] = da[j] * sigmoid(raw[at]) / LN_2;
                draw[at + 1] = db[j];
            }
        }
    }
}

impl CustomOp2 for Fused {
    fn name(&self) -> &'static str {
        "bidiagonal-product"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        raw: &CpuStorage,
        lr: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, components, volume) = lx.shape().dims3()?;
        let (x, raw) = (contiguous_slice::<f64>(x, lx)?, contiguous_slice::<f64>(raw, lr)?);
        let (size, numbers) = (components * volume, 2 * self.product.operators * volume);
        let mut out = vec![0.0; batch * (size + 1)];
        out.par_chunks_mut(size + 1).enumerate().for_each(|(i, out)| {
            self.forward_one(&x[i * size..][..size], &raw[i * numbers..][..numbers], out);
        });
        Ok((CpuStorage::F64(out), (batch, size + 1).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        raw: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (batch, components, volume) = x.dims3()?;
        let (size, numbers) = (components * volume, 2 * self.product.operators * volume);
        let (dx, draw) = with_slices::<f64, _>(&[x, raw, grad], |s| {
            let (mut dx, mut draw) = (vec![0.0; batch * size], vec![0.0; batch * numbers]);
            let rows = dx.par_chunks_mut(size).zip(draw.par_chunks_mut(numbers)).enumerate();
            rows.for_each(|(i, (dx, draw))| {
                let (x, raw) = (&s[0][i * size..][..size], &s[1][i * numbers..][..numbers]);
                self.backward_one(x, raw, &s[2][i * (size + 1)..][..size + 1], dx, draw);
            });
            (dx, draw)
        })?;
        let dx = Tensor::from_vec(dx, x.shape(), x.device())?;
        Ok((Some(dx), Some(Tensor::from_vec(draw, raw.shape(), x.device())?)))
    }
}
