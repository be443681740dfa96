//! The marginal model of [QCD Sec. 3.1]: spectral couplings one after the other, each with two networks of its own.
//!
//! ```text
//! f = f_n ∘ … ∘ f_1,   f_i moves the links of mask number i of the cycle of [`LinkMask::schedule`]
//! ```
//!
//! 16 layers in four dimensions move every link once, 48 every link with each of its three planes. From one third of the
//! cycle to the next the two coordinates change places, so that every link has seen either order.

use super::{Coordinate, LoopNetwork, SpectralCoupling};
use crate::{Bijection, Chain, Error, LatticeNet, LatticeNetShape, ParamStore, Result};
use candle_core::Tensor;
use candle_nn::Module;
use latflow_kernels::Spline;
use latflow_lattice::{Lattice, LinkMask, Links};

/// Architecture of a stack of spectral couplings.
#[derive(Debug, Clone, PartialEq)]
pub struct SpectralShape {
    /// Layers; after a whole cycle of masks the first one follows again.
    pub layers: usize,
    /// Bins of each spline.
    pub bins: usize,
    /// Both networks of each layer.
    pub net: LatticeNetShape,
}

impl SpectralShape {
    /// As printed: 48 layers, 16 bins, three hidden layers of 32 channels [QCD Sec. 3.1].
    pub fn paper() -> Self {
        Self { layers: 48, bins: 16, net: LatticeNetShape::marginal() }
    }
}

/// A flow of SU(3) links.
pub struct SpectralFlow {
    lattice: Lattice,
    shape: SpectralShape,
    masks: Vec<LinkMask>,
    networks: Vec<[LatticeNet; 2]>,
    chain: Chain<Links>,
}

/// A network that is read at the active sites of its layer.
struct AtActive(LatticeNet);

impl LoopNetwork for AtActive {
    fn parameters(&self, inputs: &Tensor) -> Result<Tensor> {
        Ok(self.0.forward(inputs)?)
    }
}

impl SpectralFlow {
    /// The flow with parameters `NAME/LAYER/first` and `NAME/LAYER/second`.
    ///
    /// # Errors
    /// When the lattice has no such masks, a shape makes no sense, or a name is taken.
    pub fn new(store: &mut ParamStore, name: &str, lattice: &Lattice, shape: &SpectralShape) -> Result<Self> {
        let masks = LinkMask::schedule(lattice)?;
        let outputs = Spline::new(shape.bins)?.parameters();
        let mut networks = Vec::with_capacity(shape.layers);
        for index in 0..shape.layers {
            let active = masks[index % masks.len()].active_sites();
            let sites: Vec<u32> = active.iter().map(|x| *x as u32).collect();
            let mut network = |number: usize, which: &str| {
                let inputs = SpectralCoupling::channels(lattice, number);
                let name = format!("{name}/{index:02}/{which}");
                LatticeNet::new(store, &name, lattice, inputs, outputs, &shape.net)?.at(&sites)
            };
            networks.push([network(0, "first")?, network(1, "second")?]);
        }
        Self::with_networks(lattice, shape, masks, networks)
    }

    fn with_networks(
        lattice: &Lattice,
        shape: &SpectralShape,
        masks: Vec<LinkMask>,
        networks: Vec<[LatticeNet; 2]>,
    ) -> Result<Self> {
        let layer = |(index, networks): (usize, &[LatticeNet; 2])| -> Result<Box<dyn Bijection<Links>>> {
            let mask = &masks[index % masks.len()];
            let first = [Coordinate::Spread, Coordinate::Middle][index / (4 * lattice.ndim()) % 2];
            let boxed = networks.clone().map(|net| Box::new(AtActive(net)) as Box<dyn LoopNetwork>);
            Ok(Box::new(SpectralCoupling::new(lattice, mask, first, boxed)?.with_bins(shape.bins)?))
        };
        let mut layers = networks.iter().enumerate().map(layer);
        let none = Error::Parameter { name: "layers", value: 0.0, expected: "at least 1" };
        let first = layers.next().ok_or(none)??;
        let chain = Chain::new(first, layers.collect::<Result<_>>()?);
        Ok(Self { lattice: lattice.clone(), shape: shape.clone(), masks, networks, chain })
    }

    /// The same flow, with parameters that follow those of this one but record nothing: sampling needs no memory for gradients.
    ///
    /// # Errors
    /// As in [`SpectralFlow::new`].
    pub fn detached(&self) -> Result<Self> {
        let networks = self.networks.iter().map(|pair| pair.each_ref().map(LatticeNet::detached)).collect();
        Self::with_networks(&self.lattice, &self.shape, self.masks.clone(), networks)
    }

    /// Floating point operations of one configuration in all networks, forward, a multiply-add counted as two.
    pub fn flops_forward(&self) -> f64 {
        self.networks.iter().flatten().map(|net| net.flops_forward(1)).sum()
    }
}

impl Bijection<Links> for SpectralFlow {
    fn forward(&self, z: &Links, condition: &()) -> Result<(Links, Tensor)> {
        self.chain.forward(z, condition)
    }

    fn inverse(&self, x: &Links, condition: &()) -> Result<(Links, Tensor)> {
        self.chain.inverse(x, condition)
    }
}
