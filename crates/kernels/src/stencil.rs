//! Gather tables of lattice stencils: which input site each tap of a convolution reads, and with which sign.
//!
//! ```text
//! (tap t of x)(s) = sign_t(s) · x(n_t(s))
//! ```
//!
//! A table knows nothing of dimensions or boundary conditions, so the same kernels serve 3×3 filters in two dimensions, chains
//! of one-dimensional filters in four, and antiperiodic fields. Signs never reach the inner loops: kernels read from the doubled
//! rows `[x, −x]`, and a negative sign is the same row one volume further on.

use candle_core::{DType, Device, Result, Tensor};
use std::sync::{Arc, Mutex};

/// Gather table of a lattice stencil; cheap to clone.
#[derive(Debug, Clone)]
pub struct Stencil(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    volume: usize,
    taps: usize,
    signs: Option<Vec<i8>>,
    neighbours: Vec<u32>,
    forward: Vec<u32>,
    inverse: Vec<u32>,
    on_device: Mutex<Vec<Indices>>,
}

/// The two tables as tensors `[V · taps]`, site-major, on one device.
#[derive(Debug, Clone)]
pub(crate) struct Indices {
    pub(crate) forward: Tensor,
    pub(crate) inverse: Tensor,
}

/// Row numbers `[taps][volume]`, each below `rows`: the invariant that lets kernels gather without checks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'a> {
    indices: &'a [u32],
    rows: usize,
    taps: usize,
    volume: usize,
}

impl<'a> Table<'a> {
    pub(crate) fn indices(&self) -> &'a [u32] {
        self.indices
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn taps(&self) -> usize {
        self.taps
    }

    pub(crate) fn volume(&self) -> usize {
        self.volume
    }
}

impl Stencil {
    /// `neighbours[t * volume + s]` is the site n_t(s) that tap t reads for output site s; `signs`, indexed likewise, holds ±1.
    /// Every tap must be a permutation of the sites, which makes the input gradient a gather, too.
    ///
    /// # Errors
    /// When a table has the wrong length, a tap is no permutation, or a sign is neither 1 nor −1.
    pub fn new(volume: usize, neighbours: Vec<u32>, signs: Option<Vec<i8>>) -> Result<Self> {
        if volume == 0 || neighbours.is_empty() || !neighbours.len().is_multiple_of(volume) {
            candle_core::bail!("stencil: {} neighbours for {volume} sites", neighbours.len());
        }
        // Row numbers reach 2 · volume in the doubled rows.
        if volume > (u32::MAX / 2) as usize {
            candle_core::bail!("stencil: {volume} sites, at most {} fit 32-bit row numbers", u32::MAX / 2);
        }
        if let Some(s) = &signs {
            if s.len() != neighbours.len() {
                candle_core::bail!("stencil: {} signs for {} neighbours", s.len(), neighbours.len());
            }
            if let Some(i) = s.iter().position(|&s| s != 1 && s != -1) {
                candle_core::bail!(
                    "stencil: sign {} of tap {} at site {}, expected ±1",
                    s[i],
                    i / volume,
                    i % volume
                );
            }
        }
        const UNSEEN: u32 = u32::MAX;
        let mut forward = neighbours.clone();
        let mut inverse = vec![UNSEEN; neighbours.len()];
        for (i, &input) in neighbours.iter().enumerate() {
            let (tap, site) = (i / volume, i % volume);
            let negative = signs.as_ref().is_some_and(|s| s[i] < 0);
            let shift = if negative { volume as u32 } else { 0 };
            match inverse[tap * volume..][..volume].get_mut(input as usize) {
                Some(row) if *row == UNSEEN => *row = site as u32 + shift,
                Some(_) => {
                    candle_core::bail!("stencil: tap {tap} reads site {input} twice, expected a permutation")
                }
                None => candle_core::bail!("stencil: tap {tap} reads site {input} of {volume}"),
            }
            forward[i] = input + shift;
        }
        // All signs positive: the plain tables do.
        let signs = signs.filter(|s| s.iter().any(|&s| s < 0));
        let taps = neighbours.len() / volume;
        let on_device = Mutex::new(Vec::new());
        Ok(Self(Arc::new(Inner { volume, taps, signs, neighbours, forward, inverse, on_device })))
    }

    /// Number of taps.
    pub fn taps(&self) -> usize {
        self.0.taps
    }

    /// Number of sites.
    pub fn volume(&self) -> usize {
        self.0.volume
    }

    /// The site each tap reads, `[taps · volume]`.
    pub fn neighbours(&self) -> &[u32] {
        &self.0.neighbours
    }

    /// The signs, indexed as [`Self::neighbours`]; none when all are positive.
    pub fn signs(&self) -> Option<&[i8]> {
        self.0.signs.as_deref()
    }

    pub(crate) fn is_signed(&self) -> bool {
        self.0.signs.is_some()
    }

    /// Rows a gathered sample has: V, or 2V when `−x` follows `x`.
    pub(crate) fn rows(&self) -> usize {
        if self.is_signed() { 2 * self.0.volume } else { self.0.volume }
    }

    pub(crate) fn forward(&self) -> Table<'_> {
        self.table(&self.0.forward)
    }

    /// For each input site the output site that reads it: the gather of the input gradient.
    pub(crate) fn inverse(&self) -> Table<'_> {
        self.table(&self.0.inverse)
    }

    fn table<'a>(&'a self, indices: &'a [u32]) -> Table<'a> {
        Table { indices, rows: self.rows(), taps: self.0.taps, volume: self.0.volume }
    }

    /// Index tensors for the composed path, made once a device.
    pub(crate) fn indices(&self, device: &Device) -> Result<Indices> {
        let mut cache = match self.0.on_device.lock() {
            Ok(cache) => cache,
            // Entries are pushed whole, so a panic elsewhere leaves the cache valid.
            Err(poisoned) => poisoned.into_inner(),
        };
        if let Some(found) = cache.iter().find(|i| i.forward.device().same_device(device)) {
            return Ok(found.clone());
        }
        let site_major = |table: &[u32]| {
            let (taps, volume) = (self.0.taps, self.0.volume);
            let indices = (0..volume).flat_map(|s| (0..taps).map(move |t| table[t * volume + s])).collect();
            Tensor::from_vec::<_, u32>(indices, taps * volume, device)?.to_dtype(DType::U32)
        };
        let made = Indices { forward: site_major(&self.0.forward)?, inverse: site_major(&self.0.inverse)? };
        cache.push(made.clone());
        Ok(made)
    }
}
