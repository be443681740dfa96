//! Gram matrices of windowed matrices, and the trace of their product with a fixed matrix.
//!
//! Per site: one product of the D × C block with its own transpose, scattered into H; or the D × D block of G, gathered, times
//! the block. For radius r in two dimensions D = (2r+1)² ≪ V, and no V × V·C matrix is ever formed.

use super::{Windows, add, check};
use crate::conv::with_slices;
use crate::host::contiguous_slice;
use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::{Arc, Mutex};

/// H = Σ_x αᵀ c α, `[B, V, V]`, symmetric; no gradient is recorded. See [`crate::window`].
///
/// # Errors
/// When shapes do not fit or the element type is not f64.
pub fn gram(c: &Tensor, a: &Tensor, l: &Tensor, windows: &Windows) -> Result<Tensor> {
    let [batch, volume, size, channels] = check_windows(c, a, l, windows)?;
    let host = [c, a, l].map(|t| t.detach().to_device(&Device::Cpu));
    let [c_host, a_host, l_host] = host;
    let h = with_slices::<f64, _>(&[&c_host?, &a_host?, &l_host?], |t| {
        let (c, a, l) = (t[0], t[1], t[2]);
        let mut h = vec![0.0; batch * volume * volume];
        h.par_chunks_mut(volume * volume)
            .zip(c.par_chunks(volume * channels).zip(a.par_chunks(volume * size * channels)))
            .for_each(|(h, (c, a))| {
                let mut alpha = vec![0.0; size * channels];
                let mut scaled = vec![0.0; size * channels];
                let mut product = vec![0.0; size * size];
                let blocks = c.chunks_exact(channels).zip(a.chunks_exact(size * channels));
                for ((c, a), sites) in blocks.zip(windows.sites().chunks_exact(size)) {
                    fill_sum(&mut alpha, a, l);
                    for (s, row) in scaled.chunks_exact_mut(channels).zip(alpha.chunks_exact(channels)) {
                        for i in 0..channels {
                            s[i] = c[i] * row[i];
                        }
                    }
                    let transposed =
                        Matrix { data: &alpha, rows: channels, columns: size, strides: (1, channels) };
                    multiply(&mut product, Matrix::rows(&scaled, channels), transposed);
                    for (&row, product) in sites.iter().zip(product.chunks_exact(size)) {
                        let h = &mut h[row as usize * volume..][..volume];
                        for (&column, p) in sites.iter().zip(product) {
                            h[column as usize] += p;
                        }
                    }
                }
            });
        h
    })?;
    Tensor::from_vec(h, (batch, volume, volume), &Device::Cpu)?.to_device(c.device())
}

/// Tr[G H] with H as in [`gram`], `[B]`, differentiable in c, a and l; G `[B, V, V]` is a constant and must be symmetric.
///
/// # Errors
/// When shapes do not fit or the element type is not f64.
pub fn gram_trace(c: &Tensor, a: &Tensor, l: &Tensor, g: &Tensor, windows: &Windows) -> Result<Tensor> {
    let [batch, volume, ..] = check_windows(c, a, l, windows)?;
    if g.dims() != [batch, volume, volume] {
        candle_core::bail!("windows: matrix {:?}, expected {:?}", g.dims(), [batch, volume, volume]);
    }
    let g = g.detach().to_device(&Device::Cpu)?.contiguous()?;
    let [c_host, a_host, l_host] = [c, a, l].map(|t| t.to_device(&Device::Cpu)?.contiguous());
    let op = GramTrace { g, windows: windows.clone(), saved: Arc::new(Mutex::new(None)) };
    c_host?.apply_op3(&a_host?, &l_host?, op)?.to_device(c.device())
}

fn check_windows(c: &Tensor, a: &Tensor, l: &Tensor, windows: &Windows) -> Result<[usize; 4]> {
    let dims = check(c, a, l)?;
    if [dims[1], dims[2]] != [windows.volume(), windows.size()] {
        candle_core::bail!(
            "windows: {} sites with {} places, expected {} with {}",
            dims[1],
            dims[2],
            windows.volume(),
            windows.size()
        );
    }
    Ok(dims)
}

struct GramTrace {
    g: Tensor,
    windows: Windows,
    /// ∂/∂c and ∂/∂a of the forward pass, which needs the same products.
    saved: Arc<Mutex<Option<[Vec<f64>; 2]>>>,
}

impl CustomOp3 for GramTrace {
    fn name(&self) -> &'static str {
        "gram-trace"
    }

    fn cpu_fwd(
        &self,
        c: &CpuStorage,
        lc: &Layout,
        a: &CpuStorage,
        la: &Layout,
        l: &CpuStorage,
        ll: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, volume, channels) = lc.shape().dims3()?;
        let size = self.windows.size();
        let (c, a, l): (&[f64], &[f64], &[f64]) =
            (contiguous_slice(c, lc)?, contiguous_slice(a, la)?, contiguous_slice(l, ll)?);
        let (mut dc, mut da) = (vec![0.0; c.len()], vec![0.0; a.len()]);
        let mut traces = vec![0.0; batch];
        with_slices::<f64, _>(&[&self.g], |g| {
            dc.par_chunks_mut(volume * channels)
                .zip(da.par_chunks_mut(volume * size * channels))
                .zip(c.par_chunks(volume * channels).zip(a.par_chunks(volume * size * channels)))
                .zip(g[0].par_chunks(volume * volume).zip(&mut traces))
                .for_each(|(((dc, da), (c, a)), (g, trace))| {
                    let mut alpha = vec![0.0; size * channels];
                    let mut block = vec![0.0; size * size];
                    let derivatives = dc.chunks_exact_mut(channels).zip(da.chunks_exact_mut(size * channels));
                    let values = c.chunks_exact(channels).zip(a.chunks_exact(size * channels));
                    let sites = self.windows.sites().chunks_exact(size);
                    for (((dc, da), (c, a)), sites) in derivatives.zip(values).zip(sites) {
                        fill_sum(&mut alpha, a, l);
                        for (&row, block) in sites.iter().zip(block.chunks_exact_mut(size)) {
                            let g = &g[row as usize * volume..][..volume];
                            for (&column, b) in sites.iter().zip(block) {
                                *b = g[column as usize];
                            }
                        }
                        multiply(da, Matrix::rows(&block, size), Matrix::rows(&alpha, channels));
                        for (da, alpha) in da.chunks_exact_mut(channels).zip(alpha.chunks_exact(channels)) {
                            for i in 0..channels {
                                dc[i] += alpha[i] * da[i];
                                da[i] *= 2.0 * c[i];
                            }
                        }
                        *trace += dc.iter().zip(c).map(|(q, c)| q * c).sum::<f64>();
                    }
                });
        })?;
        *self.saved.lock().expect("no thread panics while holding the lock") = Some([dc, da]);
        Ok((CpuStorage::F64(traces), batch.into()))
    }

    fn bwd(
        &self,
        c: &Tensor,
        a: &Tensor,
        l: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [_, volume, size, channels] = check(c, a, l)?;
        let saved = self.saved.lock().expect("no thread panics while holding the lock").take();
        let Some([mut dc, mut da]) = saved else {
            candle_core::bail!("gram_trace: its gradient can be asked for once");
        };
        let per_matrix = volume * size * channels;
        let sums = with_slices::<f64, _>(&[grad], |grad| {
            dc.par_chunks_mut(volume * channels).zip(grad[0]).for_each(|(dc, g)| {
                dc.iter_mut().for_each(|d| *d *= g);
            });
            da.par_chunks_mut(per_matrix)
                .zip(grad[0])
                .map(|(da, g)| {
                    let mut dl = vec![0.0; size * channels];
                    for da in da.chunks_exact_mut(size * channels) {
                        for (da, dl) in da.iter_mut().zip(&mut dl) {
                            *da *= g;
                            *dl += *da;
                        }
                    }
                    dl
                })
                .collect::<Vec<_>>()
        })?;
        let like = |data, t: &Tensor| Tensor::from_vec(data, t.shape(), t.device()).map(Some);
        Ok((like(dc, c)?, like(da, a)?, like(add(sums, size * channels), l)?))
    }
}

fn fill_sum(sum: &mut [f64], a: &[f64], l: &[f64]) {
    for ((s, a), l) in sum.iter_mut().zip(a).zip(l) {
        *s = a + l;
    }
}

/// A view with strides (row, column).
struct Matrix<'a> {
    data: &'a [f64],
    rows: usize,
    columns: usize,
    strides: (usize, usize),
}

impl<'a> Matrix<'a> {
    /// Row-major with the given number of columns.
    fn rows(data: &'a [f64], columns: usize) -> Self {
        Self { data, rows: data.len() / columns, columns, strides: (columns, 1) }
    }
}

/// y = l r, y row-major.
fn multiply(y: &mut [f64], l: Matrix<'_>, r: Matrix<'_>) {
    let last = |m: &Matrix<'_>| (m.rows - 1) * m.strides.0 + (m.columns - 1) * m.strides.1;
    assert!(l.columns == r.rows && y.len() == l.rows * r.columns && l.rows * l.columns * r.columns > 0);
    assert!(last(&l) < l.data.len() && last(&r) < r.data.len());
    // SAFETY: the largest offsets, which all strides being positive are those of the last elements, have just been checked, and
    // y is borrowed exclusively.
    unsafe {
        gemm::gemm(
            l.rows,
            r.columns,
            l.columns,
            y.as_mut_ptr(),
            1,
            r.columns as isize,
            false,
            l.data.as_ptr(),
            l.strides.1 as isize,
            l.strides.0 as isize,
            r.data.as_ptr(),
            r.strides.1 as isize,
            r.strides.0 as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
