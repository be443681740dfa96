//! Spectral coupling of SU(3) links: each active link turns its loop W to W′ with the same eigenvectors and new eigenvalues.
//!
//! ```text
//! W = P_{μν}(x) = X e^{iθ} X†,   θ ↔ (w, r) in the unit box                          one active link, one loop
//! w′ = g(w | frozen plaquettes),   r′ = h(r | frozen plaquettes, w′)                  rational-quadratic splines, or r first
//! U′ = W′ W† U_μ(x),   all other links stay
//! log |det| = Σ_active log [ρ(w′, r′)/ρ(w, r)] + log g′(w) + log h′(r)                ρ: the Haar measure in (w, r)
//! ```
//!
//! W and W′ turn with the gauge transformation at x, the networks see traces only: the layer is gauge equivariant. Staples of
//! active links are frozen, so that the Haar measure of U′ is that of W′. w′ of a link knows its own w, and r′ its own r and
//! the w′ of all links: a triangular Jacobian. The second network sees the new value of the first coordinate, so that the
//! inverse runs the same networks on the same inputs.

use crate::{Bijection, Error, Result};
use candle_core::Tensor;
use latflow_kernels::{LinkLoops, Spectrum, Spline, haar_log_density, multiply_links};
use latflow_lattice::{Lattice, LinkMask, Links, PlaquetteClass, plaquette_links, sum_per_configuration};

/// Bins of a spline unless other numbers are asked for: 49 parameters [QCD Sec. 3.1].
const BINS: usize = 16;

/// What parametrises the splines of a layer from frozen plaquettes.
pub trait LoopNetwork {
    /// Raw spline parameters `[B, n, 3K + 1]` of the n active links, in ascending order of their sites, from `[B, V, C]`, f64;
    /// K bins, 16 unless [`SpectralCoupling::with_bins`] says otherwise.
    ///
    /// # Errors
    /// When the inputs do not fit.
    fn parameters(&self, inputs: &Tensor) -> Result<Tensor>;
}

impl<F: Fn(&Tensor) -> Result<Tensor>> LoopNetwork for F {
    fn parameters(&self, inputs: &Tensor) -> Result<Tensor> {
        self(inputs)
    }
}

/// One of the two coordinates of a conjugacy class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinate {
    /// w: how far apart the outer angles are.
    Spread,
    /// r: where the middle one lies between them.
    Middle,
}

/// One coupling layer on SU(3) links.
pub struct SpectralCoupling {
    lattice: Lattice,
    first: Coordinate,
    spline: Spline,
    /// The loops of the active links.
    active: LinkLoops,
    /// Numbers of the active links.
    links: Vec<u32>,
    /// Plaquettes of all planes, site by site, those that are not frozen left out.
    frozen: LinkLoops,
    /// For each site its place among the active ones, or one behind the last.
    places: Tensor,
    networks: [Box<dyn LoopNetwork>; 2],
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Forward,
    Inverse,
}

impl SpectralCoupling {
    /// Channels that network number 0 or 1 sees: real and imaginary part of tr P/3 of each plane of a site, zero where P is not
    /// frozen; the second one also the first coordinate of the active loop at the site.
    pub fn channels(lattice: &Lattice, network: usize) -> usize {
        lattice.ndim() * (lattice.ndim() - 1) + network
    }

    /// Numbers a network returns for each active link with 16 bins.
    pub const PARAMETERS: usize = 3 * BINS + 1;

    /// The layer that moves the links of `mask`, `first` before the other coordinate. Parameters of zero make it the identity.
    ///
    /// # Errors
    /// When the mask belongs to another lattice.
    pub fn new(
        lattice: &Lattice,
        mask: &LinkMask,
        first: Coordinate,
        networks: [Box<dyn LoopNetwork>; 2],
    ) -> Result<Self> {
        let volume = lattice.volume();
        if mask.classes(0).len() != volume || mask.planes().len() * 2 != lattice.ndim() * (lattice.ndim() - 1)
        {
            return Err(Error::Shape {
                what: "mask of a spectral coupling",
                expected: format!("that of the lattice {lattice}"),
                got: vec![mask.planes().len(), mask.classes(0).len()],
            });
        }
        let numbers = |mu: usize, nu: usize, site: usize| {
            plaquette_links(lattice, mu, nu, site).map(|(rho, x)| (rho * volume + x) as u32)
        };
        let active: Vec<_> =
            mask.active_sites().iter().map(|x| numbers(mask.direction(), mask.partner(), *x)).collect();
        let mut frozen = Vec::with_capacity(volume * mask.planes().len());
        for site in 0..volume {
            for (plane, &(m, n)) in mask.planes().iter().enumerate() {
                let is_frozen = mask.classes(plane)[site] == PlaquetteClass::Frozen;
                frozen.push(is_frozen.then(|| numbers(m, n, site)));
            }
        }
        let mut places = vec![active.len() as u32; volume];
        mask.active_sites().iter().enumerate().for_each(|(place, site)| places[*site] = place as u32);
        let all = lattice.ndim() * volume;
        Ok(Self {
            lattice: lattice.clone(),
            first,
            spline: Spline::new(BINS)?,
            links: active.iter().map(|one| one[0]).collect(),
            active: LinkLoops::new(all, active.into_iter().map(Some).collect())?,
            frozen: LinkLoops::new(all, frozen)?,
            places: Tensor::from_vec(places, volume, &candle_core::Device::Cpu)?,
            networks,
        })
    }

    /// The same layer with splines of another number of bins K: 3K + 1 parameters each.
    ///
    /// # Errors
    /// When there is no bin, or too many for their least width.
    pub fn with_bins(mut self, bins: usize) -> Result<Self> {
        self.spline = Spline::new(bins)?;
        Ok(self)
    }

    /// Traces of the frozen plaquettes, `[B, V, C]`, for links `[B, dV, 3, 3, 2]`.
    fn invariants(&self, links: &Tensor) -> Result<Tensor> {
        let traces = self.frozen.traces(links)?;
        let shape = (links.dim(0)?, self.lattice.volume(), Self::channels(&self.lattice, 0));
        Ok((traces.reshape(shape)? / 3.0)?)
    }

    /// One number an active link, `[B, n]`, as a channel `[B, V, 1]`, zero elsewhere.
    fn at_sites(&self, values: &Tensor) -> Result<Tensor> {
        let padded = values.pad_with_zeros(1, 0, 1)?;
        Ok(padded.contiguous()?.index_select(&self.places, 1)?.unsqueeze(2)?)
    }

    /// The spline of one network applied to one coordinate `[B n]`.
    fn bend(&self, network: usize, inputs: &Tensor, at: &Tensor, way: Way) -> Result<(Tensor, Tensor)> {
        let raw = self.networks[network].parameters(inputs)?;
        let expected = [inputs.dim(0)?, self.links.len(), self.spline.parameters()];
        if raw.dims() != expected {
            return Err(Error::Shape {
                what: "spline parameters of a spectral coupling",
                expected: format!("{expected:?}"),
                got: raw.dims().to_vec(),
            });
        }
        let raw = raw.flatten(0, 1)?;
        Ok(match way {
            Way::Forward => self.spline.forward(at, &raw)?,
            Way::Inverse => self.spline.inverse(at, &raw)?,
        })
    }

    fn transform(&self, field: &Links, way: Way) -> Result<(Links, Tensor)> {
        field.check(&self.lattice)?;
        let shape = field.tensor().shape();
        let (batch, n) = (shape.dims()[0], self.links.len());
        let links = field.tensor().flatten(1, 2)?;
        let spectrum = Spectrum::new(&self.active.matrices(&links)?.flatten(0, 1)?)?;
        let (w, r) = spectrum.position()?;
        let (first, second) = match self.first {
            Coordinate::Spread => (&w, &r),
            Coordinate::Middle => (&r, &w),
        };
        let invariants = self.invariants(&links)?;
        let (first_moved, first_slope) = self.bend(0, &invariants, first, way)?;
        // On the side of the output of `forward`, in both directions.
        let seen = if way == Way::Forward { &first_moved } else { first };
        let inputs = Tensor::cat(&[&invariants, &self.at_sites(&seen.reshape((batch, n))?)?], 2)?;
        let (second_moved, second_slope) = self.bend(1, &inputs, second, way)?;
        let (w_moved, r_moved) = match self.first {
            Coordinate::Spread => (first_moved, second_moved),
            Coordinate::Middle => (second_moved, first_moved),
        };
        let haar = (haar_log_density(&w_moved, &r_moved)? - haar_log_density(&w, &r)?)?;
        let log_det = ((haar + first_slope)? + second_slope)?.reshape((batch, n))?;
        let multiplier = spectrum.multiplier(&w_moved, &r_moved)?.reshape((batch, n, 3, 3, 2))?;
        let moved = multiply_links(&links, &self.links, &multiplier)?.reshape(shape)?;
        Ok((Links::new(moved)?, sum_per_configuration(&log_det)?))
    }
}

impl Bijection<Links> for SpectralCoupling {
    fn forward(&self, z: &Links, (): &()) -> Result<(Links, Tensor)> {
        self.transform(z, Way::Forward)
    }

    fn inverse(&self, x: &Links, (): &()) -> Result<(Links, Tensor)> {
        self.transform(x, Way::Inverse)
    }
}
