//! Which sites a vector has, and where a hop finds its neighbours.

use crate::lanes::LaneLattice;
use candle_core::Result;

/// The sites a vector lives on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sites {
    /// All V, in lexicographic order.
    All,
    /// Those with an even sum of coordinates, in lexicographic order.
    Even,
    /// Those with an odd sum of coordinates, in lexicographic order.
    Odd,
}

impl Sites {
    /// The sites from which one hop leads here, and to which it leads.
    #[must_use]
    pub fn neighbours(self) -> Self {
        match self {
            Self::All => Self::All,
            Self::Even => Self::Odd,
            Self::Odd => Self::Even,
        }
    }

    /// Number of these sites among V.
    pub fn count(self, volume: usize) -> usize {
        if self == Self::All { volume } else { volume / 2 }
    }

    fn has(self, odd: bool) -> bool {
        match self {
            Self::All => true,
            Self::Even => !odd,
            Self::Odd => odd,
        }
    }
}

/// One of the eight terms of a hop into a site.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tap {
    /// The neighbour among the sites of the source vector.
    pub(super) source: u32,
    /// The link, as (site of the node, direction): site · 4 + μ.
    pub(super) link: u32,
    /// Lane l finds the neighbour in lane l ^ mask; also the link, where the step is backwards.
    pub(super) mask: u32,
}

/// What a hop must know about a lattice for one kind of target.
#[derive(Debug)]
pub(super) struct Table {
    /// Eight a target: x + μ̂ in four directions, then x − μ̂.
    pub(super) taps: Vec<[Tap; 8]>,
    /// The sites of the node that the vector has, in its order.
    pub(super) sites: Vec<u32>,
}

/// The lattice in lanes with the tables of all kinds of targets.
#[derive(Debug)]
pub(super) struct Geometry {
    pub(super) lattice: LaneLattice,
    /// Position of each lattice site in a vector on the sites of its own parity.
    rank: Vec<u32>,
    /// Position of each site of the node among those of its own parity.
    node_rank: Vec<u32>,
    tables: [Table; 3],
}

impl Geometry {
    pub(super) fn new(dims: &[usize], batch: usize, lanes: usize) -> Result<Self> {
        if dims.len() != 4 {
            candle_core::bail!("Wilson fermions: expected four extents, got {dims:?}");
        }
        let lattice = LaneLattice::new(dims, batch, lanes)?;
        let odd = |mut site: usize| {
            let mut sum = 0;
            for l in dims.iter().rev() {
                sum += site % l;
                site /= l;
            }
            sum % 2 == 1
        };
        let rank = ranks((0..lattice.volume()).map(odd));
        let node_rank = ranks((0..lattice.node_volume()).map(|s| lattice.odd(s)));
        let tables = [Sites::All, Sites::Even, Sites::Odd].map(|s| Table::new(&lattice, &node_rank, s));
        Ok(Self { lattice, rank, node_rank, tables })
    }

    pub(super) fn table(&self, targets: Sites) -> &Table {
        &self.tables[targets as usize]
    }

    /// Position of a lattice site along the site axis of a batch-first vector that has it.
    pub(super) fn position(&self, sites: Sites, site: usize) -> usize {
        if sites == Sites::All { site } else { self.rank[site] as usize }
    }

    /// Position of a site of the node in a vector in lanes; `None` if the vector does not have it.
    pub(super) fn index(&self, sites: Sites, site: usize) -> Option<usize> {
        match sites {
            Sites::All => Some(slot(&self.lattice, &self.node_rank, site) as usize),
            _ => sites.has(self.lattice.odd(site)).then(|| self.node_rank[site] as usize),
        }
    }
}

fn ranks(odd: impl Iterator<Item = bool>) -> Vec<u32> {
    let mut counts = [0; 2];
    odd.map(|odd| {
        counts[usize::from(odd)] += 1;
        counts[usize::from(odd)] - 1
    })
    .collect()
}

impl Table {
    fn new(lattice: &LaneLattice, node_rank: &[u32], targets: Sites) -> Self {
        let volume = lattice.node_volume();
        // The even sites first: beyond the cache, a pass over half of the sites finds what it needs sooner than one over all.
        let of = |odd: bool| (0..volume).filter(move |&s| targets.has(odd) && lattice.odd(s) == odd);
        let sites: Vec<u32> = of(false).chain(of(true)).map(|s| s as u32).collect();
        let source = |site: u32| match targets {
            Sites::All => slot(lattice, node_rank, site as usize),
            _ => node_rank[site as usize],
        };
        let tap = |site: u32, tap: usize| {
            let mu = tap % 4;
            let neighbour = if tap < 4 {
                lattice.forward(site as usize, mu)
            } else {
                lattice.backward(site as usize, mu)
            };
            let owner = if tap < 4 { site } else { neighbour.site };
            Tap { source: source(neighbour.site), link: owner * 4 + mu as u32, mask: neighbour.mask }
        };
        let taps = sites.iter().map(|&s| std::array::from_fn(|t| tap(s, t))).collect();
        Self { taps, sites }
    }
}

/// Place of a site of the node among all, even ones first.
fn slot(lattice: &LaneLattice, node_rank: &[u32], site: usize) -> u32 {
    node_rank[site] + if lattice.odd(site) { lattice.node_volume() as u32 / 2 } else { 0 }
}
