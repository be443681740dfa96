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
    lines: Option<Vec<Line>>,
    on_device: Mutex<Vec<Indices>>,
}

/// Four sites of which each is the next one's neighbour, the first that of the last.
pub(crate) type Line = [u32; 4];

/// The sites of a lattice in disjoint lines; numbers lie below `volume`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lines<'a> {
    lines: &'a [Line],
    volume: usize,
}

impl<'a> Lines<'a> {
    pub(crate) fn lines(&self) -> &'a [Line] {
        self.lines
    }

    pub(crate) fn volume(&self) -> usize {
        self.volume
    }

    /// At most `length` lines at a time.
    pub(crate) fn chunks(self, length: usize) -> impl Iterator<Item = Self> {
        self.lines.chunks(length).map(move |lines| Self { lines, ..self })
    }
}

/// The two tables as tensors `[V · taps]`, site-major, on one device.
#[derive(Debug, Clone)]
pub(crate) struct Indices {
    pub(crate) forward: Tensor,
    pub(crate) inverse: Tensor,
}

/// Row numbers `[taps][volume]` of `volume` output sites, each below `rows`: the invariant that lets kernels gather without
/// checks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'a> {
    indices: &'a [u32],
    rows: usize,
    taps: usize,
    volume: usize,
}

/// 0, 1, 2, …
static IDENTITY: [u32; Table::LONGEST_IDENTITY] = {
    let mut numbers = [0; Table::LONGEST_IDENTITY];
    let mut i = 0;
    while i < numbers.len() {
        numbers[i] = i as u32;
        i += 1;
    }
    numbers
};

impl Table<'static> {
    /// What [`Table::identity`] can do.
    pub(crate) const LONGEST_IDENTITY: usize = 256;

    /// One tap that reads row after row.
    pub(crate) fn identity(rows: usize) -> Self {
        Table { indices: &IDENTITY[..rows], rows, taps: 1, volume: rows }
    }
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
        let lines = if signs.is_none() { lines_of_four(volume, &neighbours) } else { None };
        let on_device = Mutex::new(Vec::new());
        Ok(Self(Arc::new(Inner { volume, taps, signs, neighbours, forward, inverse, lines, on_device })))
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

    /// The sites in lines of four when the taps are backwards, here and forwards along them, without signs.
    pub(crate) fn lines(&self) -> Option<Lines<'_>> {
        self.0.lines.as_deref().map(|lines| Lines { lines, volume: self.0.volume })
    }

    /// The part of the gather table that the given output sites need.
    ///
    /// # Errors
    /// When there is no site, or one is outside the lattice.
    pub(crate) fn at(&self, sites: &[u32]) -> Result<Sites> {
        let volume = self.0.volume;
        if sites.is_empty() || sites.iter().any(|&s| s as usize >= volume) {
            candle_core::bail!("output sites {sites:?} of {volume}, expected at least one, each below");
        }
        let indices =
            self.0.forward.chunks_exact(volume).flat_map(|tap| sites.iter().map(|&s| tap[s as usize]));
        let indices = indices.collect();
        Ok(Sites(Arc::new(Selected { indices, sites: sites.to_vec(), rows: self.rows(), taps: self.taps() })))
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

/// Lines of four sites along tap 2, if tap 1 is the site itself and tap 0 the way back.
fn lines_of_four(volume: usize, neighbours: &[u32]) -> Option<Vec<Line>> {
    if neighbours.len() != 3 * volume {
        return None;
    }
    let (behind, rest) = neighbours.split_at(volume);
    let (here, ahead) = rest.split_at(volume);
    let mut seen = vec![false; volume];
    let mut lines = Vec::with_capacity(volume / 4);
    for first in 0..volume as u32 {
        if seen[first as usize] {
            continue;
        }
        let mut line = [first; 4];
        for i in 1..4 {
            line[i] = ahead[line[i - 1] as usize];
        }
        for (i, &site) in line.iter().enumerate() {
            let closes = here[site as usize] == site
                && behind[site as usize] == line[(i + 3) % 4]
                && ahead[site as usize] == line[(i + 1) % 4];
            if !closes || std::mem::replace(&mut seen[site as usize], true) {
                return None;
            }
        }
        lines.push(line);
    }
    Some(lines)
}

/// A [`Stencil`] seen from some of its output sites only.
#[derive(Debug, Clone)]
pub(crate) struct Sites(Arc<Selected>);

#[derive(Debug)]
struct Selected {
    /// `[taps][sites]`, each below `rows`.
    indices: Vec<u32>,
    sites: Vec<u32>,
    rows: usize,
    taps: usize,
}

impl Sites {
    pub(crate) fn sites(&self) -> &[u32] {
        &self.0.sites
    }

    /// The rows each site reads.
    pub(crate) fn forward(&self) -> Table<'_> {
        let Selected { indices, sites, rows, taps } = &*self.0;
        Table { indices, rows: *rows, taps: *taps, volume: sites.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::Stencil;

    fn ring(length: u32, rings: u32, taps: [u32; 3]) -> Stencil {
        let volume = length * rings;
        let read = |t: u32, s: u32| s / length * length + (s + t) % length;
        let neighbours = taps.iter().flat_map(|&t| (0..volume).map(move |s| read(t, s))).collect();
        Stencil::new(volume as usize, neighbours, None).unwrap()
    }

    #[test]
    fn lines_of_four_are_found_where_they_are() {
        let found = ring(4, 3, [3, 0, 1]);
        let lines: Vec<_> = found.lines().unwrap().lines().to_vec();
        assert_eq!(lines, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]);
        let turned = ring(4, 1, [1, 0, 3]);
        assert_eq!(turned.lines().unwrap().lines(), [[0, 3, 2, 1]]);
        for (length, rings, taps) in
            [(2, 6, [1, 0, 1]), (6, 2, [5, 0, 1]), (8, 1, [7, 0, 1]), (4, 1, [0, 0, 0])]
        {
            assert!(ring(length, rings, taps).lines().is_none(), "{length} {taps:?}");
        }
        for taps in [[3, 1, 0], [0, 3, 1], [3, 0, 3], [3, 0, 0]] {
            assert!(ring(4, 2, taps).lines().is_none(), "{taps:?}");
        }
        let signs = (0..12).map(|i| if i == 3 { -1 } else { 1 }).collect();
        let signed = Stencil::new(4, vec![3, 0, 1, 2, 0, 1, 2, 3, 1, 2, 3, 0], Some(signs)).unwrap();
        assert!(signed.lines().is_none());
    }
}
