//! Sparse hops with constant coefficients plus a diagonal that depends on the configuration.
//!
//! ```text
//! y_{b,c,s} = d_{b,s} v_{b,c,s} + Σ_t k_t(s) v_{b,c,n_t(s)}
//! ```
//!
//! The table is compiled into *runs*: consecutive sites whose neighbours are consecutive and whose coefficient is the same.
//! On a lattice whose last direction is stored fastest almost every run spans a whole line, so the inner loop is
//! contiguous although the table is arbitrary.

use crate::host::{contiguous_slice, with_slice};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// Hops n_t(s) with coefficients k_t(s) between `volume` sites.
#[derive(Debug, Clone)]
pub struct Hop(Arc<Table>);

#[derive(Debug)]
struct Table {
    volume: usize,
    neighbours: Vec<u32>,
    coefficients: Vec<f64>,
    runs: Vec<Run>,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    output: usize,
    input: usize,
    length: usize,
    coefficient: f64,
}

impl Hop {
    /// `neighbours[t * volume + s]` is n_t(s), `coefficients` likewise k_t(s). Zero coefficients cost nothing.
    ///
    /// # Errors
    /// When the tables differ in length, are no multiple of `volume`, or name a site outside it.
    pub fn new(volume: usize, neighbours: Vec<u32>, coefficients: Vec<f64>) -> Result<Self> {
        if volume == 0 || !neighbours.len().is_multiple_of(volume) || neighbours.len() != coefficients.len() {
            candle_core::bail!(
                "hop: {} neighbours and {} coefficients for {volume} sites",
                neighbours.len(),
                coefficients.len()
            );
        }
        if let Some(&n) = neighbours.iter().find(|&&n| n as usize >= volume) {
            candle_core::bail!("hop: neighbour {n} of {volume} sites");
        }
        let mut runs: Vec<Run> = Vec::new();
        for (i, (&n, &k)) in neighbours.iter().zip(&coefficients).enumerate() {
            let (output, input) = (i % volume, n as usize);
            match runs.last_mut() {
                Some(r)
                    if r.coefficient == k
                        && r.output + r.length == output
                        && r.input + r.length == input
                        && output != 0 =>
                {
                    r.length += 1;
                }
                _ => runs.push(Run { output, input, length: 1, coefficient: k }),
            }
        }
        runs.retain(|r| r.coefficient != 0.0);
        Ok(Self(Arc::new(Table { volume, neighbours, coefficients, runs })))
    }

    /// Number of sites.
    pub fn volume(&self) -> usize {
        self.0.volume
    }

    /// Number of hops a site.
    pub fn taps(&self) -> usize {
        self.0.neighbours.len() / self.0.volume
    }

    /// Floating point operations of one application to one real vector: a multiply-add a hop.
    pub fn flops(&self) -> f64 {
        2.0 * self.0.runs.iter().map(|r| r.length as f64).sum::<f64>()
    }

    /// The matrix H_{s, n_t(s)} = Σ_t k_t(s), row-major, `volume × volume`.
    pub fn to_dense(&self) -> Vec<f64> {
        let v = self.0.volume;
        let mut dense = vec![0.0; v * v];
        for (i, (&n, &k)) in self.0.neighbours.iter().zip(&self.0.coefficients).enumerate() {
            dense[(i % v) * v + n as usize] += k;
        }
        dense
    }
}

/// y = d ∘ v + H v (or Hᵀ v) for v `[B, C, V]` and d `[B, V]`; differentiable in v and d. f64.
///
/// # Errors
/// When a shape does not fit the table or the element type is not f64.
pub fn hop(v: &Tensor, diagonal: Option<&Tensor>, hop: &Hop, transposed: bool) -> Result<Tensor> {
    let (batch, _, volume) = v.dims3()?;
    if volume != hop.volume() || diagonal.is_some_and(|d| d.dims() != [batch, volume]) {
        candle_core::bail!(
            "hop over {} sites: vector {:?}, diagonal {:?}",
            hop.volume(),
            v.dims(),
            diagonal.map(Tensor::dims)
        );
    }
    if !v.device().is_cpu() {
        return hop_composed(v, diagonal, hop, transposed);
    }
    let op = HopOp { hop: hop.clone(), transposed };
    match diagonal {
        Some(d) => v.contiguous()?.apply_op2(&d.contiguous()?, op),
        None => v.contiguous()?.apply_op1(op),
    }
}

/// [`hop`] from candle's own operations: the oracle of the tests and the path on a GPU.
///
/// # Errors
/// As [`hop`].
pub fn hop_composed(v: &Tensor, diagonal: Option<&Tensor>, hop: &Hop, transposed: bool) -> Result<Tensor> {
    let table = &hop.0;
    let mut y = match diagonal {
        Some(d) => v.broadcast_mul(&d.unsqueeze(1)?)?,
        None => v.zeros_like()?,
    };
    for (n, k) in
        table.neighbours.chunks_exact(table.volume).zip(table.coefficients.chunks_exact(table.volume))
    {
        let n = Tensor::from_slice(n, table.volume, v.device())?;
        let k = Tensor::from_slice(k, table.volume, v.device())?.to_dtype(v.dtype())?;
        let term = if transposed {
            v.zeros_like()?.index_add(&n, &v.broadcast_mul(&k)?, 2)?
        } else {
            v.contiguous()?.index_select(&n, 2)?.broadcast_mul(&k)?
        };
        y = (y + term)?;
    }
    Ok(y)
}

struct HopOp {
    hop: Hop,
    transposed: bool,
}

impl HopOp {
    fn compute(&self, v: &[f64], diagonal: Option<&[f64]>, shape: &Shape) -> Result<CpuStorage> {
        let (_, components, volume) = shape.dims3()?;
        let mut y = vec![0.0; v.len()];
        let row = |row: usize, y: &mut [f64]| {
            let v = &v[row * volume..][..volume];
            let d = diagonal.map(|d| &d[row / components * volume..][..volume]);
            row_kernel(&self.hop.0.runs, self.transposed, v, d, y);
        };
        // Waking another thread costs about as much as this many numbers.
        const TASK: usize = 1 << 16;
        if y.len() <= TASK {
            y.chunks_exact_mut(volume).enumerate().for_each(|(i, y)| row(i, y));
        } else {
            let rows = (TASK / 2 / volume).max(1);
            y.par_chunks_mut(rows * volume).enumerate().for_each(|(task, y)| {
                y.chunks_exact_mut(volume).enumerate().for_each(|(i, y)| row(task * rows + i, y));
            });
        }
        Ok(CpuStorage::F64(y))
    }

    fn backward_vector(&self, grad: &Tensor, diagonal: Option<&Tensor>) -> Result<Tensor> {
        hop(grad, diagonal, &self.hop, !self.transposed)
    }
}

#[inline(always)]
fn row_generic(runs: &[Run], transposed: bool, v: &[f64], d: Option<&[f64]>, y: &mut [f64]) {
    if let Some(d) = d {
        for ((y, v), d) in y.iter_mut().zip(v).zip(d) {
            *y = d * v;
        }
    }
    for r in runs {
        let (to, from) = if transposed { (r.input, r.output) } else { (r.output, r.input) };
        for (y, v) in y[to..to + r.length].iter_mut().zip(&v[from..from + r.length]) {
            *y += r.coefficient * v;
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn row_avx2(runs: &[Run], transposed: bool, v: &[f64], d: Option<&[f64]>, y: &mut [f64]) {
    row_generic(runs, transposed, v, d, y);
}

fn row_kernel(runs: &[Run], transposed: bool, v: &[f64], d: Option<&[f64]>, y: &mut [f64]) {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
        // SAFETY: the processor has just reported the features the function is compiled for.
        return unsafe { row_avx2(runs, transposed, v, d, y) };
    }
    row_generic(runs, transposed, v, d, y);
}

impl CustomOp1 for HopOp {
    fn name(&self) -> &'static str {
        "hop"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((self.compute(contiguous_slice(s, l)?, None, l.shape())?, l.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.backward_vector(grad, None)?))
    }
}

impl CustomOp2 for HopOp {
    fn name(&self) -> &'static str {
        "hop-with-diagonal"
    }

    fn cpu_fwd(
        &self,
        s: &CpuStorage,
        l: &Layout,
        sd: &CpuStorage,
        ld: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (v, d) = (contiguous_slice(s, l)?, contiguous_slice(sd, ld)?);
        Ok((self.compute(v, Some(d), l.shape())?, l.shape().clone()))
    }

    fn bwd(
        &self,
        v: &Tensor,
        d: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dv = if v.track_op() { Some(self.backward_vector(grad, Some(d))?) } else { None };
        let dd = if d.track_op() { Some(diagonal_gradient(v, grad)?) } else { None };
        Ok((dv, dd))
    }
}

/// ∂/∂d_{b,s} = Σ_c g_{b,c,s} v_{b,c,s}.
fn diagonal_gradient(v: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (batch, components, volume) = v.dims3()?;
    let sum = with_slice::<f64, _>(v, |v| {
        with_slice::<f64, _>(grad, |g| {
            let mut sum = vec![0.0; batch * volume];
            let n = components * volume;
            for (b, sum) in sum.chunks_exact_mut(volume).enumerate() {
                for (v, g) in v[b * n..][..n].chunks_exact(volume).zip(g[b * n..][..n].chunks_exact(volume)) {
                    for ((s, v), g) in sum.iter_mut().zip(v).zip(g) {
                        *s += v * g;
                    }
                }
            }
            sum
        })
    })??;
    Tensor::from_vec(sum, (batch, volume), v.device())
}
