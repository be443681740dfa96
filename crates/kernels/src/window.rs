//! Matrices with one row block a site and entries only in a window around it: the Jacobians of convolutional networks.
//!
//! ```text
//! widen:       y[b, x, place(d), i] = s[b, x, i] (a[b, x, d, i] + l[d, i]),    0 in the rest of the wider window
//! gram:        H[b]_{n(x,d), n(x,e)} = Σ_{x,i} c[b, x, i] α[b, x, d, i] α[b, x, e, i],    α = a + l
//! gram_trace:  Tr[G[b] H[b]]                                                               for a symmetric G
//! ```
//!
//! n(x, d) is the site at place d of the window of x. s and c are `[B, V, C]`, a is `[B, V·D, C]` with the place d running
//! faster than the site, l is `[D, C]`, H and G are `[B, V, V]`; f64. A translation-invariant part of the matrix is not stored
//! once a site: that is l.

mod gram;

pub use gram::{gram, gram_trace};

use crate::conv::with_slices;
use crate::host::contiguous_slice;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// The sites around every site, and where each place lies in a wider window; cheap to clone.
#[derive(Debug, Clone)]
pub struct Windows(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    volume: usize,
    size: usize,
    sites: Vec<u32>,
}

impl Windows {
    /// `sites[x * size + d]` is n(x, d).
    ///
    /// # Errors
    /// When the table is empty or has the wrong length, or names a site twice in one window or one that does not exist.
    pub fn new(volume: usize, sites: Vec<u32>) -> Result<Self> {
        if volume == 0 || sites.is_empty() || !sites.len().is_multiple_of(volume) {
            candle_core::bail!("windows: {} entries for {volume} sites", sites.len());
        }
        let size = sites.len() / volume;
        let mut seen_in = vec![usize::MAX; volume];
        for (i, &n) in sites.iter().enumerate() {
            match seen_in.get_mut(n as usize) {
                Some(last) if *last != i / size => *last = i / size,
                Some(_) => candle_core::bail!("windows: site {n} twice in the window of site {}", i / size),
                None => candle_core::bail!("windows: site {n} of {volume} sites"),
            }
        }
        Ok(Self(Arc::new(Inner { volume, size, sites })))
    }

    /// Number of sites V.
    pub fn volume(&self) -> usize {
        self.0.volume
    }

    /// Number of places D of a window.
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// n(x, d) at `x * size + d`.
    pub fn sites(&self) -> &[u32] {
        &self.0.sites
    }
}

/// B, V, D and C of s `[B, V, C]`, a `[B, V·D, C]` and l `[D, C]`.
fn check(s: &Tensor, a: &Tensor, l: &Tensor) -> Result<[usize; 4]> {
    let (batch, volume, channels) = s.dims3()?;
    let (size, _) = l.dims2()?;
    if l.dims() != [size, channels] || a.dims() != [batch, volume * size, channels] || channels == 0 {
        candle_core::bail!(
            "windows: scale {:?}, matrix {:?}, constant {:?}; expected [B, V, C], [B, V·D, C], [D, C]",
            s.dims(),
            a.dims(),
            l.dims()
        );
    }
    Ok([batch, volume, size, channels])
}

/// y[b, x, place(d), i] = s[b, x, i] (a[b, x, d, i] + l[d, i]) in windows of `wide` places, zero in the others; `[B, V·wide, C]`.
/// Differentiable in s, a and l. Results do not depend on the number of threads.
///
/// # Errors
/// When shapes do not fit, two places coincide, or the element type is not f64.
pub fn widen(s: &Tensor, a: &Tensor, l: &Tensor, place: &[u32], wide: usize) -> Result<Tensor> {
    let [_, _, size, _] = check(s, a, l)?;
    let mut taken = vec![false; wide];
    if place.len() != size
        || place.iter().any(|&p| taken.get_mut(p as usize).is_none_or(|t| std::mem::replace(t, true)))
    {
        candle_core::bail!("windows: {place:?} are not {size} different places of {wide}");
    }
    if !s.device().is_cpu() {
        return widen_composed(s, a, l, place, wide);
    }
    let op = Widen { place: place.to_vec(), wide };
    s.contiguous()?.apply_op3(&a.contiguous()?, &l.contiguous()?, op)
}

/// [`widen`] from candle's own operations: the oracle of the tests and the path on a GPU.
///
/// # Errors
/// When shapes do not fit.
pub fn widen_composed(s: &Tensor, a: &Tensor, l: &Tensor, place: &[u32], wide: usize) -> Result<Tensor> {
    let [batch, volume, size, channels] = check(s, a, l)?;
    let sum = a.reshape((batch, volume, size, channels))?.broadcast_add(l)?;
    let scaled = sum.broadcast_mul(&s.unsqueeze(2)?)?;
    // One more place, which is zero, is what the empty ones read.
    let padded = scaled.pad_with_zeros(2, 0, 1)?;
    let mut source = vec![size as u32; wide];
    for (d, &p) in place.iter().enumerate() {
        source[p as usize] = d as u32;
    }
    let source = Tensor::from_vec(source, wide, s.device())?;
    padded.index_select(&source, 2)?.reshape((batch, volume * wide, channels))
}

struct Widen {
    place: Vec<u32>,
    wide: usize,
}

impl CustomOp3 for Widen {
    fn name(&self) -> &'static str {
        "widen"
    }

    fn cpu_fwd(
        &self,
        s: &CpuStorage,
        ls: &Layout,
        a: &CpuStorage,
        la: &Layout,
        l: &CpuStorage,
        ll: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, volume, channels) = ls.shape().dims3()?;
        let (s, a, l): (&[f64], &[f64], &[f64]) =
            (contiguous_slice(s, ls)?, contiguous_slice(a, la)?, contiguous_slice(l, ll)?);
        let (size, wide) = (self.place.len(), self.wide);
        let mut y = vec![0.0; batch * volume * wide * channels];
        y.par_chunks_mut(volume * wide * channels)
            .zip(s.par_chunks(volume * channels).zip(a.par_chunks(volume * size * channels)))
            .for_each(|(y, (s, a))| {
                let sites = s.chunks_exact(channels).zip(a.chunks_exact(size * channels));
                for (y, (s, a)) in y.chunks_exact_mut(wide * channels).zip(sites) {
                    let places = a.chunks_exact(channels).zip(l.chunks_exact(channels));
                    for (&p, (a, l)) in self.place.iter().zip(places) {
                        let y = &mut y[p as usize * channels..][..channels];
                        for i in 0..channels {
                            y[i] = s[i] * (a[i] + l[i]);
                        }
                    }
                }
            });
        Ok((CpuStorage::F64(y), (batch, volume * wide, channels).into()))
    }

    fn bwd(
        &self,
        s: &Tensor,
        a: &Tensor,
        l: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [_, volume, size, channels] = check(s, a, l)?;
        let wide = self.wide;
        let [ds, da, dl] = with_slices::<f64, _>(&[s, a, l, grad], |t| {
            let (s, a, l, grad) = (t[0], t[1], t[2], t[3]);
            let (mut ds, mut da) = (vec![0.0; s.len()], vec![0.0; a.len()]);
            let sums: Vec<Vec<f64>> = ds
                .par_chunks_mut(volume * channels)
                .zip(da.par_chunks_mut(volume * size * channels))
                .zip(s.par_chunks(volume * channels).zip(a.par_chunks(volume * size * channels)))
                .zip(grad.par_chunks(volume * wide * channels))
                .map(|(((ds, da), (s, a)), grad)| {
                    let mut dl = vec![0.0; l.len()];
                    for x in 0..volume {
                        let (s, ds) = (&s[x * channels..][..channels], &mut ds[x * channels..][..channels]);
                        for (d, &p) in self.place.iter().enumerate() {
                            let g = &grad[(x * wide + p as usize) * channels..][..channels];
                            let at = (x * size + d) * channels;
                            let (a, da) = (&a[at..][..channels], &mut da[at..][..channels]);
                            let (l, dl) =
                                (&l[d * channels..][..channels], &mut dl[d * channels..][..channels]);
                            for i in 0..channels {
                                ds[i] += (a[i] + l[i]) * g[i];
                                da[i] = s[i] * g[i];
                                dl[i] += da[i];
                            }
                        }
                    }
                    dl
                })
                .collect();
            [ds, da, add(sums, l.len())]
        })?;
        let like = |data, t: &Tensor| Tensor::from_vec(data, t.shape(), t.device()).map(Some);
        Ok((like(ds, s)?, like(da, a)?, like(dl, l)?))
    }
}

/// The sum of vectors, in order.
fn add(parts: Vec<Vec<f64>>, len: usize) -> Vec<f64> {
    let mut sum = vec![0.0; len];
    for part in parts {
        for (s, p) in sum.iter_mut().zip(part) {
            *s += p;
        }
    }
    sum
}
