//! Links distributed by the Haar measure: the prior of gauge flows.
//!
//! ```text
//! r(U) = Π_links 1        with respect to the normalised Haar measure                    [QCD Sec. 3.1]
//! ```

use crate::{Distribution, Result, Sample};
use candle_core::{DType, Device, Tensor};
use latflow_lattice::{Configuration, Lattice, Links, Rng};

/// Independent Haar-distributed SU(N) links.
#[derive(Debug, Clone)]
pub struct HaarUniform {
    lattice: Lattice,
    n: usize,
    device: Device,
}

impl HaarUniform {
    /// The prior of SU(N) links on a lattice.
    pub fn new(lattice: &Lattice, n: usize, device: &Device) -> Self {
        Self { lattice: lattice.clone(), n, device: device.clone() }
    }
}

impl<C> Sample<Links, C> for HaarUniform {
    fn sample(&self, n: usize, _: &C, rng: &mut Rng) -> Result<Links> {
        Ok(Links::haar(&self.lattice, n, self.n, rng, &self.device)?)
    }
}

impl<C> Distribution<Links, C> for HaarUniform {
    fn log_prob(&self, links: &Links, _: &C) -> Result<Tensor> {
        links.check(&self.lattice)?;
        Ok(Tensor::zeros(links.batch()?, DType::F64, links.device())?)
    }
}
