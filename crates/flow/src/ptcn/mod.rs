//! Pseudofermions given the links, by networks of parallel transports: the paper's conditional model [QCD Sec. 3.1].
//!
//! ```text
//! ϕ = L(U) χ,   χ ~ e^{−χ†χ}/Z_N:     q(ϕ|U) = e^{−|L⁻¹ϕ|²} / (Z_N |det L|²)
//! L = product of couplings,   ϕ' = Π̄ϕ + Π [ e^{s(x)} ϕ + PTCN(Π̄ϕ; U) ],   log |det| = 2 n_Π Σ_x s(x)
//! ```
//!
//! PTCN is a network of parallel transports ([`latflow_kernels::wilson::TransportNet`]) whose numbers at a site come from a
//! gauge-invariant convolutional network; so ϕ transforms as χ does under gauge transformations. Masks Π rotate through spin and
//! site projectors ([`PtcnMask`]).
//!
//! D itself is such a product up to its Schur complement,
//!
//! ```text
//! D = [[1, −κH_eo], [0, 1]] · diag(D̂, 1) · [[1, 0], [−κH_oe, 1]]
//! ```
//!
//! and [`PtcnStart::Hopping`] starts there.

mod context;
mod coupling;
mod mask;
mod transport;

pub use mask::{Gamma, PtcnMask};

use crate::{Bijection, Error, ParamStore, Result, Sites};
use candle_core::{DType, Tensor};
use context::Trunk;
use coupling::{Bound, Coupling};
use latflow_kernels::wilson::WilsonLinks;
use latflow_lattice::{Boundary, Lattice, Links, Parity};

/// Sizes of the context networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetSizes {
    /// Channels of the shared layers.
    pub hidden: Vec<usize>,
    /// Kernel extent of the shared layers in every direction; odd.
    pub kernel: usize,
    /// The same of each coupling's last layer.
    pub head_kernel: usize,
}

/// Initial parameters. The shared layers are always random.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PtcnStart {
    /// Weights Xavier normal with gain 0.3, biases N(0, 0.05²) [QCD Sec. 3.1]; constants zero.
    Random,
    /// Last layers zero and constants so that the couplings are those of the hopping expansion: at the ends of the chain the
    /// triangular factors of D, in quarters their part of −κ²H_eo H_oe, elsewhere one.
    Hopping {
        /// κ.
        kappa: f64,
    },
}

/// Architecture of a [`PtcnFlow`].
#[derive(Debug, Clone, PartialEq)]
pub struct PtcnShape {
    /// One mask a coupling, in the order in which `forward` applies them.
    pub masks: Vec<PtcnMask>,
    /// Layers n_PT of each network of parallel transports.
    pub depth: usize,
    /// Hidden copies H of the spinor field.
    pub copies: usize,
    /// The context networks.
    pub nets: NetSizes,
    /// Where the parameters start.
    pub start: PtcnStart,
}

impl PtcnShape {
    /// The paper's: 36 couplings, n_PT = 6, H = 4, eight channels, kernel 3.
    pub fn paper(sites: Sites) -> Self {
        Self {
            masks: PtcnMask::rotation(sites, 36),
            depth: 6,
            copies: 4,
            nets: NetSizes { hidden: vec![8, 8], kernel: 3, head_kernel: 3 },
            start: PtcnStart::Random,
        }
    }

    /// A small one that starts at the hopping expansion: quarters for two hops, one round of spin projectors, and on all sites an
    /// even/odd coupling at either end; n_PT = 2, H = 2, last layers that see one site.
    pub fn desk(sites: Sites, kappa: f64) -> Self {
        let mut masks = PtcnMask::quarters();
        masks.extend(PtcnMask::rotation(Sites::All, 11).split_off(1));
        if sites == Sites::All {
            masks.insert(0, PtcnMask::Sites(Parity::Odd));
            masks.push(PtcnMask::Sites(Parity::Even));
        }
        Self {
            masks,
            depth: 2,
            copies: 2,
            nets: NetSizes { hidden: vec![8, 8], kernel: 3, head_kernel: 1 },
            start: PtcnStart::Hopping { kappa },
        }
    }
}

/// L(U) as a bijection of pseudofermions `[B, 2, N]`, N = 12 V on all sites, 6 V on the even ones.
#[derive(Debug, Clone)]
pub struct PtcnFlow {
    lattice: Lattice,
    boundary: Boundary,
    sites: Sites,
    trunk: Trunk,
    couplings: Vec<Coupling>,
    dtype: DType,
    /// Row of each lattice site among the sites of the field, then zeros; and lattice site of each row.
    embedding: Option<[Tensor; 2]>,
    detached: bool,
}

/// Configurations at once where no gradients are recorded; bounds the memory of the networks' numbers.
const ROWS: usize = 128;

impl PtcnFlow {
    /// A flow on all sites or on the even ones; `boundary` is that of the fermions in time. The networks run in the element type
    /// of the store. Parameters are called `name/…`.
    ///
    /// # Errors
    /// When the lattice has not four dimensions, the shape has no couplings or layers, or a name is taken.
    pub fn new(
        store: &mut ParamStore,
        name: &str,
        lattice: &Lattice,
        sites: Sites,
        boundary: Boundary,
        shape: &PtcnShape,
    ) -> Result<Self> {
        let refuse = |what, expected, got: String| Err(Error::Network { what, expected, got });
        if lattice.ndim() != 4 {
            return refuse("parallel transports", "four dimensions", lattice.to_string());
        }
        if shape.masks.is_empty() || shape.depth == 0 {
            let got = format!("{} couplings of {} layers", shape.masks.len(), shape.depth);
            return refuse("parallel transports", "at least one coupling with one layer", got);
        }
        if sites == Sites::Of(Parity::Odd) {
            return refuse("sites of parallel transports", "all or the even ones", format!("{sites:?}"));
        }
        let trunk = Trunk::new(store, &format!("{name}/trunk"), lattice, &shape.nets)?;
        let couplings = shape.masks.iter().enumerate().map(|(i, &mask)| {
            Coupling::new(store, &format!("{name}/{i:02}"), lattice, sites, (i, mask), shape)
        });
        let couplings = couplings.collect::<Result<_>>()?;
        let embedding = match sites {
            Sites::All => None,
            Sites::Of(parity) => {
                let chosen = lattice.sublattice(parity);
                let mut rows = vec![chosen.len() as u32; lattice.volume()];
                chosen.iter().enumerate().for_each(|(row, &x)| rows[x] = row as u32);
                let chosen: Vec<u32> = chosen.into_iter().map(|x| x as u32).collect();
                let (v, n) = (rows.len(), chosen.len());
                Some([
                    Tensor::from_vec(rows, v, store.device())?,
                    Tensor::from_vec(chosen, n, store.device())?,
                ])
            }
        };
        let (lattice, dtype) = (lattice.clone(), store.dtype());
        Ok(Self { lattice, boundary, sites, trunk, couplings, dtype, embedding, detached: false })
    }

    /// The same flow with fixed parameters. It records no gradients, so that large batches of draws need little memory, and
    /// neighbouring configurations of a batch that are equal share their context.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self {
            trunk: self.trunk.detached(),
            couplings: self.couplings.iter().map(Coupling::detached).collect(),
            detached: true,
            ..self.clone()
        }
    }

    /// Number of couplings.
    pub fn depth(&self) -> usize {
        self.couplings.len()
    }

    fn bind(&self, links: &Links, share: bool) -> Result<Bound> {
        let antiperiodic = self.boundary == Boundary::Antiperiodic;
        let u = links.tensor().to_dtype(self.dtype)?;
        let host = u.detach().to_device(&candle_core::Device::Cpu)?;
        let packed = WilsonLinks::new(&host, self.lattice.dims(), antiperiodic)?;
        let distinct = if share { distinct(links.tensor())? } else { None };
        let (features, rows) = match distinct {
            None => (self.trunk.features(links)?, None),
            Some([chosen, rows]) => {
                let links = Links::new(links.tensor().index_select(&chosen, 0)?)?;
                (self.trunk.features(&links)?, Some(rows))
            }
        };
        Ok(Bound { links: u, packed, features, rows })
    }

    fn check(&self, phi: &Tensor, links: &Links) -> Result<()> {
        links.check(&self.lattice)?;
        let batch = links.tensor().dim(0)?;
        let expected = [batch, 2, 12 * self.sites.count(&self.lattice)];
        if phi.dims() != expected || links.colours() != 3 {
            let (expected, got) = (format!("{expected:?} and three colours"), phi.dims().to_vec());
            return Err(Error::Shape { what: "pseudofermion", expected, got });
        }
        Ok(())
    }

    /// `[B, 2, N]` → `[B, 2, V, 4, 3]`, zero where the field has no sites.
    fn embed(&self, phi: &Tensor) -> Result<Tensor> {
        let (batch, v) = (phi.dim(0)?, self.lattice.volume());
        let Some([rows, _]) = &self.embedding else { return Ok(phi.reshape((batch, 2, v, 4, 3))?) };
        let half = phi.reshape((batch, 2, v / 2, 12))?;
        let nothing = half.narrow(2, 0, 1)?.zeros_like()?;
        let full = Tensor::cat(&[half, nothing], 2)?.index_select(rows, 2)?;
        Ok(full.reshape((batch, 2, v, 4, 3))?)
    }

    fn pick(&self, phi: &Tensor) -> Result<Tensor> {
        let (batch, v) = (phi.dim(0)?, self.lattice.volume());
        let full = phi.contiguous()?.reshape((batch, 2, v, 12))?;
        match &self.embedding {
            None => Ok(full.reshape((batch, 2, 12 * v))?),
            Some([_, sites]) => Ok(full.index_select(sites, 2)?.reshape((batch, 2, 6 * v))?),
        }
    }

    fn run(&self, phi: &Tensor, links: &Links, inverse: bool) -> Result<(Tensor, Tensor)> {
        self.check(phi, links)?;
        let batch = phi.dim(0)?;
        let tracked = !self.detached || phi.track_op() || links.tensor().track_op();
        if tracked || batch <= ROWS {
            return self.run_at_once(phi, links, inverse, !tracked);
        }
        let (mut fields, mut logs) = (Vec::new(), Vec::new());
        for start in (0..batch).step_by(ROWS) {
            let n = ROWS.min(batch - start);
            let links = Links::new(links.tensor().narrow(0, start, n)?.contiguous()?)?;
            let (field, log) = self.run_at_once(&phi.narrow(0, start, n)?, &links, inverse, true)?;
            fields.push(field);
            logs.push(log);
        }
        Ok((Tensor::cat(&fields, 0)?, Tensor::cat(&logs, 0)?))
    }

    fn run_at_once(
        &self,
        phi: &Tensor,
        links: &Links,
        inverse: bool,
        share: bool,
    ) -> Result<(Tensor, Tensor)> {
        let bound = self.bind(links, share)?;
        let mut phi = self.embed(phi)?;
        let mut sum = Tensor::zeros(phi.dim(0)?, DType::F64, phi.device())?;
        let n = self.couplings.len();
        for i in 0..n {
            let (next, log) = if inverse {
                self.couplings[n - 1 - i].inverse(&phi, &bound)?
            } else {
                self.couplings[i].forward(&phi, &bound)?
            };
            phi = next;
            sum = (sum + log)?;
        }
        Ok((self.pick(&phi)?, sum))
    }
}

/// Rows of a batch without those that repeat the one before, and for each row where it went; none if nothing repeats.
fn distinct(links: &Tensor) -> Result<Option<[Tensor; 2]>> {
    let batch = links.dim(0)?;
    let host = links.detach().to_device(&candle_core::Device::Cpu)?;
    let (chosen, rows) = latflow_kernels::with_slice::<f64, _>(&host, |all| {
        let size = all.len() / batch.max(1);
        let row = |b: usize| &all[b * size..][..size];
        let mut chosen: Vec<u32> = Vec::new();
        let mut rows: Vec<u32> = Vec::with_capacity(batch);
        for b in 0..batch {
            if b == 0 || row(b) != row(b - 1) {
                chosen.push(b as u32);
            }
            rows.push(chosen.len() as u32 - 1);
        }
        (chosen, rows)
    })?;
    if chosen.len() == batch {
        return Ok(None);
    }
    let n = chosen.len();
    let device = links.device();
    Ok(Some([Tensor::from_vec(chosen, n, device)?, Tensor::from_vec(rows, batch, device)?]))
}

impl Bijection<Tensor, Links> for PtcnFlow {
    fn forward(&self, chi: &Tensor, links: &Links) -> Result<(Tensor, Tensor)> {
        self.run(chi, links, false)
    }

    fn inverse(&self, phi: &Tensor, links: &Links) -> Result<(Tensor, Tensor)> {
        self.run(phi, links, true)
    }
}
