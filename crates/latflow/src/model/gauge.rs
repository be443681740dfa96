//! Densities of links and of their pseudofermions: `[model.gauge]` and `[model.ptcn]` [QCD Sec. 3.1].
//!
//! ```text
//! gauge                 q(U)                     trained first
//! gauge_pseudofermion   q(U) q(ϕ|U)              q(ϕ|U) trained, q(U) as it was
//! ```

use anyhow::Result;
use candle_core::{Device, Tensor};
use latflow_flow::spectral::{SpectralFlow, SpectralShape};
use latflow_flow::{
    Activation, Convolutions, FlowModel, Gaussian, HaarUniform, LatticeNetShape, NetSizes, ParamStore,
    PtcnFlow, PtcnMask, PtcnShape, Sites, Xavier,
};
use latflow_lattice::{Boundary, Lattice, Links, Parity};

use super::{LEAK, Shared, Trained, store};
use crate::config::{COLOURS, Config, ModelScheme, PseudofermionSites, Ptcn, PtcnStart, Theory};

/// q(U).
pub(crate) type LinkDensity = FlowModel<HaarUniform, Shared<Links>>;
/// q(ϕ|U).
pub(crate) type PseudofermionDensity = FlowModel<Gaussian, Shared<Tensor, Links>>;

/// A density for training, and the same without history for sampling.
#[derive(Clone)]
pub(crate) struct Both<D> {
    pub training: D,
    pub sampling: D,
}

/// A model of links with its parameters.
pub(crate) struct GaugeModel {
    /// q(U)
    pub links: Both<LinkDensity>,
    /// q(ϕ|U), for `gauge_pseudofermion`.
    pub pseudofermion: Option<Both<PseudofermionDensity>>,
    /// What training changes.
    pub parameters: ParamStore,
    /// What it leaves as it is.
    pub fixed: Option<ParamStore>,
    /// The architecture, for the tables.
    pub name: String,
    /// Floating point operations of one configuration in the networks of q(U), forward.
    pub flops_forward: f64,
}

impl GaugeModel {
    /// The model of a configuration at its seeded start.
    ///
    /// # Errors
    /// When a layer does not fit the lattice.
    pub(crate) fn new(config: &Config, device: &Device) -> Result<Self> {
        let lattice = Lattice::new(&config.lattice.dims)?;
        let model = &config.model;
        let mut first = store(config, model.gauge.precision, device);
        let flow = SpectralFlow::new(&mut first, "gauge", &lattice, &spectral_shape(&model.gauge))?;
        let flops_forward = flow.flops_forward();
        let density = |flow: SpectralFlow| FlowModel {
            prior: HaarUniform::new(&lattice, COLOURS, device),
            flow: Shared::new(flow),
        };
        let links = Both { sampling: density(flow.detached()?), training: density(flow) };
        let layers = model.gauge.layers;
        let name = format!("{layers} spectral couplings");
        if model.scheme != ModelScheme::GaugePseudofermion {
            return Ok(Self {
                links,
                pseudofermion: None,
                parameters: first,
                fixed: None,
                name,
                flops_forward,
            });
        }
        let mut second = store(config, model.ptcn.precision, device);
        let pseudofermion = pseudofermion(config, &lattice, &mut second, device)?;
        let name = format!("{name} + {} parallel-transport couplings", model.ptcn.layers);
        Ok(Self {
            links,
            pseudofermion: Some(pseudofermion),
            parameters: second,
            fixed: Some(first),
            name,
            flops_forward,
        })
    }

    /// Takes every parameter from a weights file.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub(crate) fn restore(&self, weights: &Trained) -> Result<()> {
        self.stores().try_for_each(|store| weights.restore(store))
    }

    /// All parameters, those that training changes first.
    pub(crate) fn stores(&self) -> impl Iterator<Item = &ParamStore> {
        std::iter::once(&self.parameters).chain(&self.fixed)
    }
}

fn spectral_shape(gauge: &crate::config::Gauge) -> SpectralShape {
    SpectralShape {
        layers: gauge.layers,
        bins: gauge.bins,
        net: LatticeNetShape {
            hidden: gauge.channels.clone(),
            kernel: gauge.kernel,
            convolutions: Convolutions::Separable,
            activation: Activation::LeakyRelu(LEAK),
            final_activation: Activation::Identity,
            initial: Xavier { gain: gauge.gain, bias: 0.0 },
        },
    }
}

fn pseudofermion(
    config: &Config,
    lattice: &Lattice,
    store: &mut ParamStore,
    device: &Device,
) -> Result<Both<PseudofermionDensity>> {
    let Theory::Qcd(action) = &config.action else {
        anyhow::bail!("scalar fields have no parallel transport")
    };
    let Ptcn { sites, layers, depth, copies, channels, head_kernel, start, .. } = &config.model.ptcn;
    let sites = match sites {
        PseudofermionSites::Even => Sites::Of(Parity::Even),
        PseudofermionSites::All => Sites::All,
    };
    let kappa = action.kappa.unwrap_or_default();
    let (masks, start) = match start {
        PtcnStart::Random => (PtcnMask::rotation(sites, *layers), latflow_flow::PtcnStart::Random),
        PtcnStart::Hopping => {
            let PtcnShape { masks, start, .. } = PtcnShape::desk(sites, kappa);
            (masks.into_iter().cycle().take(*layers).collect(), start)
        }
    };
    let nets = NetSizes { hidden: channels.clone(), kernel: 3, head_kernel: *head_kernel };
    let shape = PtcnShape { masks, depth: *depth, copies: *copies, nets, start };
    let boundary = match action.fermion_boundary {
        crate::config::FermionBoundary::Antiperiodic => Boundary::Antiperiodic,
        crate::config::FermionBoundary::Periodic => Boundary::Periodic,
    };
    let flow = PtcnFlow::new(store, "pseudofermion", lattice, sites, boundary, &shape)?;
    let components = components(config, lattice);
    let density = |flow: PtcnFlow| -> Result<PseudofermionDensity> {
        Ok(FlowModel { prior: Gaussian::pseudofermion(1.0, components, device)?, flow: Shared::new(flow) })
    };
    Ok(Both { sampling: density(flow.detached())?, training: density(flow)? })
}

/// Complex components of a pseudofermion.
fn components(config: &Config, lattice: &Lattice) -> usize {
    let all = 4 * COLOURS * lattice.volume();
    match config.model.ptcn.sites {
        PseudofermionSites::Even => all / 2,
        PseudofermionSites::All => all,
    }
}
