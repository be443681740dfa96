//! How sites and configurations are distributed over lanes, and who is whose neighbour.

use candle_core::Result;

/// A hypercubic lattice (time, the last direction, fastest) distributed over lanes for a batch of configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LaneLattice {
    dims: Vec<usize>,
    batch: usize,
    lanes: usize,
    /// Nodes of one configuration: a power of two.
    nodes: usize,
    /// Extents of a node.
    node_dims: Vec<usize>,
    /// Lane bit of each direction, 0 where it is not halved.
    masks: Vec<usize>,
    /// `[site of the node][node]` → site of the lattice.
    sites: Vec<u32>,
    /// `[site of the node][direction]`
    forward: Vec<Neighbour>,
    backward: Vec<Neighbour>,
}

/// The neighbour of a site of the node: the same in all lanes, up to an exchange of lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Neighbour {
    /// The site of the node.
    pub(crate) site: u32,
    /// Lane l finds it in lane l ^ mask.
    pub(crate) mask: u32,
}

impl LaneLattice {
    /// The distribution of a batch over blocks of `lanes` (a power of two) that leaves the fewest lanes idle.
    ///
    /// # Errors
    /// When an extent is odd or zero, or there is no direction or no configuration.
    pub(crate) fn new(dims: &[usize], batch: usize, lanes: usize) -> Result<Self> {
        Self::with_nodes(dims, batch, lanes, lanes / batch.next_power_of_two().min(lanes))
    }

    /// One lane a configuration, whatever the batch: no step leaves a lane.
    ///
    /// # Errors
    /// As [`LaneLattice::new`].
    pub(crate) fn whole(dims: &[usize], batch: usize, lanes: usize) -> Result<Self> {
        Self::with_nodes(dims, batch, lanes, 1)
    }

    fn with_nodes(dims: &[usize], batch: usize, lanes: usize, wanted: usize) -> Result<Self> {
        if dims.is_empty() || batch == 0 || dims.iter().any(|l| *l == 0 || l % 2 == 1) {
            candle_core::bail!("lanes: expected even extents and a batch, got {dims:?} and {batch}");
        }
        if !lanes.is_power_of_two() {
            candle_core::bail!("lanes: expected a power of two, got {lanes}");
        }
        let (mut node_dims, mut masks, mut nodes) = (dims.to_vec(), vec![0; dims.len()], 1);
        while nodes < wanted {
            // The longest direction that can be halved into even parts and has not been; the first of equals is the slowest.
            let halved = (0..dims.len())
                .filter(|&mu| masks[mu] == 0 && dims[mu].is_multiple_of(4))
                .max_by_key(|&mu| (dims[mu], std::cmp::Reverse(mu)));
            let Some(mu) = halved else { break };
            masks[mu] = nodes;
            node_dims[mu] /= 2;
            nodes *= 2;
        }
        let volume: usize = node_dims.iter().product();
        let mut lattice = Self {
            dims: dims.to_vec(),
            batch,
            lanes,
            nodes,
            node_dims,
            masks,
            sites: Vec::with_capacity(volume * nodes),
            forward: Vec::with_capacity(volume * dims.len()),
            backward: Vec::with_capacity(volume * dims.len()),
        };
        for site in 0..volume {
            let x = lattice.coordinates(site);
            for node in 0..nodes {
                lattice.sites.push(lattice.global(&x, node) as u32);
            }
            for mu in 0..dims.len() {
                let (forward, backward) = (lattice.step(&x, mu, true), lattice.step(&x, mu, false));
                lattice.forward.push(forward);
                lattice.backward.push(backward);
            }
        }
        Ok(lattice)
    }

    fn coordinates(&self, site: usize) -> Vec<usize> {
        let (mut rest, mut x) = (site, vec![0; self.dims.len()]);
        for (x, l) in x.iter_mut().zip(&self.node_dims).rev() {
            *x = rest % l;
            rest /= l;
        }
        x
    }

    fn global(&self, x: &[usize], node: usize) -> usize {
        let shifted = |mu: usize| x[mu] + if node & self.masks[mu] == 0 { 0 } else { self.node_dims[mu] };
        (0..x.len()).fold(0, |site, mu| site * self.dims[mu] + shifted(mu))
    }

    fn step(&self, x: &[usize], mu: usize, forwards: bool) -> Neighbour {
        let (mut y, l) = (x.to_vec(), self.node_dims[mu]);
        y[mu] = (x[mu] + if forwards { 1 } else { l - 1 }) % l;
        let leaves = if forwards { y[mu] == 0 } else { x[mu] == 0 };
        let site = y.iter().zip(&self.node_dims).fold(0, |site, (y, l)| site * l + y);
        Neighbour { site: site as u32, mask: if leaves { self.masks[mu] as u32 } else { 0 } }
    }

    /// Extents of the lattice.
    pub(crate) fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Number of directions d.
    pub(crate) fn ndim(&self) -> usize {
        self.dims.len()
    }

    /// Configurations.
    pub(crate) fn batch(&self) -> usize {
        self.batch
    }

    /// Sites of the lattice.
    pub(crate) fn volume(&self) -> usize {
        self.sites.len()
    }

    /// Sites of a node.
    pub(crate) fn node_volume(&self) -> usize {
        self.sites.len() / self.nodes
    }

    /// Nodes of one configuration.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes
    }

    /// Lanes of a block.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes
    }

    /// Configurations of a block.
    pub(crate) fn configurations(&self) -> usize {
        self.lanes / self.nodes
    }

    /// Blocks of the batch; the last one may have idle lanes.
    pub(crate) fn blocks(&self) -> usize {
        self.batch.div_ceil(self.configurations())
    }

    /// The lattice site of a site of the node on the given node.
    pub(crate) fn lattice_site(&self, site: usize, node: usize) -> usize {
        self.sites[site * self.nodes + node] as usize
    }

    /// The configuration and the node of a lane; `None` for an idle lane.
    pub(crate) fn lane(&self, block: usize, lane: usize) -> Option<(usize, usize)> {
        let configuration = block * self.configurations() + lane / self.nodes;
        (configuration < self.batch).then_some((configuration, lane % self.nodes))
    }

    /// x + μ̂.
    #[inline(always)]
    pub(crate) fn forward(&self, site: usize, mu: usize) -> Neighbour {
        self.forward[site * self.dims.len() + mu]
    }

    /// x − μ̂.
    #[inline(always)]
    pub(crate) fn backward(&self, site: usize, mu: usize) -> Neighbour {
        self.backward[site * self.dims.len() + mu]
    }

    /// Whether the coordinates of a site of the node have an odd sum; the same on every node.
    pub(crate) fn odd(&self, site: usize) -> bool {
        self.coordinates(site).iter().sum::<usize>() % 2 == 1
    }
}
