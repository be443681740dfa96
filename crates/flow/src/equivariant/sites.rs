//! Where a pseudofermion lives: on all sites, or, after even/odd preconditioning, on those of one parity [YUK App. B].
//!
//! ```text
//! all sites:   x_1 + … + x_d even | odd      are the two halves of a checkerboard
//! one parity:  x_1 even | odd                are the two halves of the half lattice
//! ```
//!
//! Convolutions always run on the whole lattice: a half lattice is embedded into it, with zeros on the other half.

use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use latflow_lattice::{Lattice, Parity};

/// The sites of a field `[B, 2, N]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sites {
    /// N = V.
    All,
    /// N = V/2, in the order of [`Lattice::sublattice`].
    Of(Parity),
}

impl Sites {
    /// N.
    pub fn count(self, lattice: &Lattice) -> usize {
        match self {
            Self::All => lattice.volume(),
            Self::Of(_) => lattice.volume() / 2,
        }
    }

    fn list(self, lattice: &Lattice) -> Vec<usize> {
        match self {
            Self::All => (0..lattice.volume()).collect(),
            Self::Of(parity) => lattice.sublattice(parity),
        }
    }

    /// 1 on the half of these sites that `half` names, 0 on the other: `[N]`, f64.
    ///
    /// # Errors
    /// When the device refuses the upload.
    pub fn mask(self, lattice: &Lattice, half: Parity, device: &Device) -> Result<Tensor> {
        let parity = |site: usize| match self {
            Self::All => lattice.parity(site),
            Self::Of(_) if lattice.coordinates(site)[0].is_multiple_of(2) => Parity::Even,
            Self::Of(_) => Parity::Odd,
        };
        let mask: Vec<f64> =
            self.list(lattice).into_iter().map(|s| f64::from(u8::from(parity(s) == half))).collect();
        Ok(Tensor::from_vec(mask, self.count(lattice), device)?)
    }
}

/// Moves fields between their sites and the whole lattice.
#[derive(Debug, Clone)]
pub(super) struct Embedding {
    volume: usize,
    count: usize,
    half: Option<Half>,
}

#[derive(Debug, Clone)]
struct Half {
    /// Row of each lattice site, N where there is none, `[V]`.
    rows: Tensor,
    /// Lattice site of each row, `[N]`.
    sites: Tensor,
}

impl Embedding {
    pub(super) fn new(lattice: &Lattice, sites: Sites, device: &Device) -> Result<Self> {
        let (volume, count) = (lattice.volume(), sites.count(lattice));
        let half = match sites {
            Sites::All => None,
            Sites::Of(_) => {
                let list = sites.list(lattice);
                let mut rows = vec![count as u32; volume];
                for (row, &site) in list.iter().enumerate() {
                    rows[site] = row as u32;
                }
                let list: Vec<u32> = list.into_iter().map(|s| s as u32).collect();
                Some(Half {
                    rows: Tensor::from_vec(rows, volume, device)?,
                    sites: Tensor::from_vec(list, count, device)?,
                })
            }
        };
        Ok(Self { volume, count, half })
    }

    /// `[B, 2, N]` → `[B, V, 2]`, zero elsewhere, in the given element type.
    pub(super) fn embed(&self, field: &Tensor, dtype: DType) -> Result<Tensor> {
        self.check(field)?;
        let x = field.to_dtype(dtype)?.transpose(1, 2)?.contiguous()?;
        let Some(half) = &self.half else { return Ok(x) };
        let nothing = x.narrow(1, 0, 1)?.zeros_like()?;
        Ok(Tensor::cat(&[&x, &nothing], 1)?.contiguous()?.index_select(&half.rows, 1)?)
    }

    /// `[B, V, C]` → `[B, C, N]`, in f64.
    pub(super) fn pick(&self, field: &Tensor) -> Result<Tensor> {
        let x = match &self.half {
            None => field.clone(),
            Some(half) => field.contiguous()?.index_select(&half.sites, 1)?,
        };
        Ok(x.to_dtype(DType::F64)?.transpose(1, 2)?.contiguous()?)
    }

    pub(super) fn check(&self, field: &Tensor) -> Result<()> {
        if matches!(field.dims(), [_, 2, n] if *n == self.count) {
            return Ok(());
        }
        let expected = format!("[B, 2, {}] on a lattice of {} sites", self.count, self.volume);
        Err(Error::Shape { what: "pseudofermion", expected, got: field.dims().to_vec() })
    }
}
