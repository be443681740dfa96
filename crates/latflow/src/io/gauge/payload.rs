//! The numbers of a gauge configuration as they stand in files.
//!
//! ```text
//! slowest → fastest:  t, z, y, x, μ = (x, y, z, t), row, column, re/im          ILDG and NERSC alike
//! ```
//!
//! x is the fastest coordinate in a file and t in memory. Two-row files leave out the last row of SU(3):
//! row₂ = (row₀ × row₁)*.

use num_complex::Complex64;
use rayon::prelude::*;

use super::field::{Extents, coordinates, extents};

/// How many bits a number has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// IEEE binary32.
    Single,
    /// IEEE binary64.
    Double,
}

impl Precision {
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Single => 4,
            Self::Double => 8,
        }
    }

    /// 32 or 64.
    pub fn bits(self) -> usize {
        8 * self.bytes()
    }
}

impl std::str::FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "32" => Ok(Self::Single),
            "64" => Ok(Self::Double),
            _ => Err("allowed: 32, 64".into()),
        }
    }
}

/// Which byte of a number comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endian {
    Big,
    Little,
}

/// The arrangement of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) dims: Extents,
    pub(super) n_colours: usize,
    /// Rows that are stored: N, or two of three.
    pub(super) rows: usize,
    pub(super) precision: Precision,
    pub(super) endian: Endian,
}

impl Layout {
    /// The size of the payload, unless it is beyond all files.
    pub(super) fn bytes(&self) -> Option<usize> {
        let factors = [4, self.n_colours, self.rows, 2, self.precision.bytes()];
        self.dims.into_iter().chain(factors).try_fold(1usize, usize::checked_mul)
    }

    /// The same with the bytes of each number in the other order.
    pub(super) fn swapped(&self) -> Self {
        let endian = if self.endian == Endian::Big { Endian::Little } else { Endian::Big };
        Self { endian, ..*self }
    }

    pub(super) fn link_bytes(&self) -> usize {
        self.rows * self.n_colours * 2 * self.precision.bytes()
    }

    pub(super) fn site_bytes(&self) -> usize {
        4 * self.link_bytes()
    }

    /// Where a site stands in the file: x is fastest.
    fn rank(&self, site: usize) -> usize {
        let [x, y, z, t] = coordinates(self.dims, site);
        let [lx, ly, lz, _] = self.dims;
        ((t * lz + z) * ly + y) * lx + x
    }

    /// Where link μ of all links in memory stands in the file.
    fn offset(&self, link: usize) -> usize {
        let volume: usize = self.dims.iter().product();
        self.link_bytes() * (4 * self.rank(link % volume) + link / volume)
    }

    fn number(&self, bytes: &[u8]) -> f64 {
        let mut word = [0; 8];
        let width = self.precision.bytes();
        word[..width].copy_from_slice(bytes);
        if self.endian == Endian::Big {
            word[..width].reverse();
        }
        match self.precision {
            Precision::Single => f64::from(f32::from_bits(u64::from_le_bytes(word) as u32)),
            Precision::Double => f64::from_le_bytes(word),
        }
    }

    /// The links in memory order; the payload has the size of this layout.
    pub(super) fn decode(&self, payload: &[u8]) -> Vec<Complex64> {
        let (n, width) = (self.n_colours, self.precision.bytes());
        let volume: usize = self.dims.iter().product();
        let mut links = vec![Complex64::ZERO; 4 * volume * n * n];
        links.par_chunks_mut(n * n).enumerate().for_each(|(index, link)| {
            let stored = payload[self.offset(index)..][..self.link_bytes()].chunks_exact(2 * width);
            for (entry, bytes) in link.iter_mut().zip(stored) {
                *entry = Complex64::new(self.number(&bytes[..width]), self.number(&bytes[width..]));
            }
            if self.rows < n {
                complete(link);
            }
        });
        links
    }

    /// The bytes of links that come in memory order; all rows are stored.
    pub(super) fn encode(&self, links: &[Complex64]) -> Vec<u8> {
        let size = self.n_colours * self.n_colours;
        let volume: usize = self.dims.iter().product();
        let mut payload = vec![0; 4 * volume * self.link_bytes()];
        payload.par_chunks_mut(self.site_bytes()).enumerate().for_each(|(rank, bytes)| {
            let site = self.site(rank);
            for (mu, bytes) in bytes.chunks_exact_mut(self.link_bytes()).enumerate() {
                let link = &links[(mu * volume + site) * size..][..size];
                let numbers = link.iter().flat_map(|z| [z.re, z.im]);
                for (bytes, number) in bytes.chunks_exact_mut(self.precision.bytes()).zip(numbers) {
                    match self.precision {
                        Precision::Single => bytes.copy_from_slice(&(number as f32).to_le_bytes()),
                        Precision::Double => bytes.copy_from_slice(&number.to_le_bytes()),
                    }
                    if self.endian == Endian::Big {
                        bytes.reverse();
                    }
                }
            }
        });
        payload
    }

    /// The site with this place in the file.
    fn site(&self, rank: usize) -> usize {
        let [lx, ly, lz, lt] = self.dims;
        let (x, y, z, t) = (rank % lx, rank / lx % ly, rank / (lx * ly) % lz, rank / (lx * ly * lz));
        ((x * ly + y) * lz + z) * lt + t
    }
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SU({}) on {}, {} bit", self.n_colours, extents(self.dims), self.precision.bits())?;
        if self.rows < self.n_colours { write!(f, ", {} rows", self.rows) } else { Ok(()) }
    }
}

/// The last row of an SU(3) matrix from the other two.
fn complete(link: &mut [Complex64]) {
    for j in 0..3 {
        let (k, l) = ((j + 1) % 3, (j + 2) % 3);
        link[6 + j] = (link[k] * link[3 + l] - link[l] * link[3 + k]).conj();
    }
}

/// The colours and precision of a payload of full matrices, given its size. N² numbers of 16 bytes are never M² numbers of 8,
/// because √2 is irrational.
pub(super) fn infer(payload: usize, dims: Extents) -> Option<(usize, Precision)> {
    let links = dims.into_iter().try_fold(4usize, usize::checked_mul)?;
    let link_bytes = payload.checked_div(links).filter(|bytes| bytes * links == payload)?;
    [Precision::Double, Precision::Single].into_iter().find_map(|precision| {
        let n = (link_bytes / (2 * precision.bytes())).isqrt();
        (n > 0 && n * n * 2 * precision.bytes() == link_bytes).then_some((n, precision))
    })
}
