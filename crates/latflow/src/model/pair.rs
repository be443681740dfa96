//! Densities of both fields, `[model.joint]`, and of φ given a pseudofermion, `[model.gibbs]`.
//!
//! ```text
//! decimation:  q(φ|ϕ) = q(φ_odd) q(φ_even|φ_odd, ϕ),   q(φ, ϕ) = q(φ_odd) q(ϕ|φ_odd) q(φ_even|φ_odd, ϕ)
//! couplings:   [YUK (35), (36)] and [YUK (39)]
//! ```
//!
//! A new one is one variant of [`PairKind`] and one arm in [`gibbs`] and [`joint`].

use std::rc::Rc;

use anyhow::{Context, Result};
use candle_core::Tensor;
use latflow_action::HeatBath;
use latflow_flow::decimation::{MeanField, SiteCoupling, stages};
use latflow_flow::{
    ApShape, Architecture, AverageShape, Bijection, Chain, Distribution, FlowModel, Gaussian, Independent,
    ParamStore, PseudofermionCoupling, RestrictedFlow, Sample, ScalarCoupling, UpdatePseudofermion,
    UpdateScalar,
};
use latflow_lattice::{Parity, Rng};

use super::marginal::decimation;
use super::{AnyDensity, LEAK, Pair, ScalarDensity, Shared, Site, activation, conditional, net_shape};
use crate::config::{self, Activation, Equivariance, PairCouplings, PairKind};
use crate::theory::JointTheory;

/// q(φ|ϕ).
pub(crate) struct GibbsDensity {
    /// The density.
    pub density: AnyDensity<Tensor, Tensor>,
    /// Where it is part of a joint density q(φ|ϕ) q(ϕ), which trains it.
    pub joint: Option<AnyDensity<Pair>>,
}

/// σ of unit variance, what a decimation fills the lattice from.
const UNIT: f64 = std::f64::consts::SQRT_2;

type PairLayer = Box<dyn Bijection<Pair>>;

/// q(φ|ϕ) and what the tables call it.
pub(super) fn gibbs(site: &Site<'_>, parameters: &mut ParamStore) -> Result<(GibbsDensity, String)> {
    match &site.config.model.gibbs.kind {
        PairKind::Decimation(config) => {
            let (coarse, finest) = sourced_stages(site, parameters, "gibbs/000/decimation", config)?;
            let mut layers: Vec<Box<dyn Bijection<Tensor, Tensor>>> =
                coarse.into_iter().map(|layer| Box::new(layer) as _).collect();
            layers.push(Box::new(finest));
            let first = layers.remove(0);
            let prior = Gaussian::new(UNIT, site.theory.lattice().volume(), site.device)?;
            let density = AnyDensity::new(FlowModel { prior, flow: Chain::new(first, layers) });
            Ok((GibbsDensity { density, joint: None }, "decimation".into()))
        }
        PairKind::Couplings(config) => {
            let architecture = architecture(config);
            let mut steps = Vec::with_capacity(config.layers);
            for k in 0..config.layers {
                let (scalar, pf) = coupling_names("gibbs", k);
                let h = scalar_coupling(site, parameters, &scalar, k, &architecture)?;
                let g: PseudofermionCoupling<()> = PseudofermionCoupling::new(
                    parameters,
                    &pf,
                    site.theory.lattice(),
                    parity(k),
                    site.joint.sites(),
                    &architecture,
                )?;
                steps.push((h, g));
            }
            let flow = Rc::new(RestrictedFlow { steps });
            let (scalar, pf) = priors(site, config)?;
            let joint = FlowModel {
                prior: Independent { first: scalar.clone(), second: pf },
                flow: Shared::<Pair>(flow.clone()),
            };
            let density = AnyDensity::new(FlowModel { prior: scalar, flow: Shared::<Tensor, Tensor>(flow) });
            Ok((GibbsDensity { density, joint: Some(AnyDensity::new(joint)) }, coupling_name(config)))
        }
    }
}

/// q(φ, ϕ) and what the tables call it.
pub(super) fn joint(site: &Site<'_>, parameters: &mut ParamStore) -> Result<(AnyDensity<Pair>, String)> {
    let (prior, mut layers, name) = match &site.config.model.joint.kind {
        PairKind::Decimation(config) => {
            let (pf, pf_name) = conditional::build(site, parameters)?;
            let volume = site.theory.lattice().volume();
            let prior = Independent {
                first: Gaussian::new(UNIT, volume, site.device)?,
                second: Gaussian::pseudofermion(pf.sigma, site.joint.components(), site.device)?,
            };
            let mut layers: Vec<PairLayer> = Vec::new();
            let (coarse, finest) = sourced_stages(site, parameters, "joint/000/decimation", config)?;
            layers.extend(coarse.into_iter().map(|layer| Box::new(UpdateScalar(layer)) as PairLayer));
            if let Some(flow) = pf.flow {
                let lattice = site.theory.lattice();
                let all = stages(lattice)?;
                let last = all.last().context("a decimation has a finest stage")?;
                let potential = site.theory.local_potential();
                let layer = MeanField::new(parameters, "joint/mean_field", lattice, last, potential, flow)?;
                layers.push(Box::new(UpdatePseudofermion(layer)));
            }
            layers.push(Box::new(UpdateScalar(finest)));
            (prior, layers, format!("decimation + {pf_name}"))
        }
        PairKind::Couplings(config) => {
            let architecture = architecture(config);
            let mut layers: Vec<PairLayer> = Vec::new();
            for k in 0..config.layers {
                let (scalar, pf) = coupling_names("joint", k);
                let layer = scalar_coupling(site, parameters, &scalar, k, &architecture)?;
                layers.push(Box::new(UpdateScalar(layer)));
                let layer: PseudofermionCoupling<Tensor> = PseudofermionCoupling::new(
                    parameters,
                    &pf,
                    site.theory.lattice(),
                    parity(k),
                    site.joint.sites(),
                    &architecture,
                )?;
                layers.push(Box::new(UpdatePseudofermion(layer)));
            }
            let (first, second) = priors(site, config)?;
            (Independent { first, second }, layers, coupling_name(config))
        }
    };
    let first = layers.remove(0);
    Ok((AnyDensity::new(FlowModel { prior, flow: Chain::new(first, layers) }), name))
}

/// The stages of a decimation without the finest, and the finest, which feels the pseudofermion.
fn sourced_stages(
    site: &Site<'_>,
    parameters: &mut ParamStore,
    name: &str,
    config: &config::Decimation,
) -> Result<(Vec<SiteCoupling>, SiteCoupling)> {
    let mut layers = decimation(site, parameters, name, config)?;
    let finest = layers.pop().context("a decimation has a finest stage")?;
    Ok((layers, finest.with_source(site.joint.source()?)))
}

fn parity(k: usize) -> Parity {
    if k.is_multiple_of(2) { Parity::Even } else { Parity::Odd }
}

fn coupling_names(section: &str, k: usize) -> (String, String) {
    (format!("{section}/{k:03}/scalar"), format!("{section}/{k:03}/pseudofermion"))
}

fn coupling_name(config: &PairCouplings) -> String {
    match config.equivariance {
        Equivariance::Convolutions => "couplings (convolutions)".into(),
        Equivariance::GroupAverage => "couplings (group average)".into(),
    }
}

fn scalar_coupling(
    site: &Site<'_>,
    parameters: &mut ParamStore,
    name: &str,
    k: usize,
    architecture: &Architecture,
) -> Result<ScalarCoupling> {
    let (lattice, sites) = (site.theory.lattice(), site.joint.sites());
    Ok(ScalarCoupling::new(parameters, name, lattice, parity(k), sites, architecture)?)
}

fn priors(site: &Site<'_>, config: &PairCouplings) -> Result<(Gaussian, Gaussian)> {
    let scalar = Gaussian::new(config.sigma, site.theory.lattice().volume(), site.device)?;
    let pf = Gaussian::pseudofermion(config.sigma_pf, site.joint.components(), site.device)?;
    Ok((scalar, pf))
}

fn architecture(config: &PairCouplings) -> Architecture {
    let squeeze = (config.squeeze > 0).then_some(config.squeeze);
    match config.equivariance {
        Equivariance::Convolutions => Architecture::Convolutions(ApShape {
            squeeze,
            hidden: vec![config.channels; config.convs - 1],
            kernel: config.kernel,
            slope: LEAK,
            final_activation: activation(config.final_activation),
        }),
        Equivariance::GroupAverage => Architecture::GroupAverage(AverageShape {
            squeeze,
            net: net_shape(
                [config.convs, config.channels, config.kernel],
                Activation::LeakyRelu,
                config.final_activation,
            ),
            // The action knows the even translations alone, and half of them cost half.
            step: 2,
        }),
    }
}

/// (φ, ϕ) with ϕ from the heat bath at a φ of a marginal flow, φ from q(φ|ϕ): what trains and judges q(φ|ϕ) without a model of
/// ϕ. Its density is q(φ|ϕ) alone, up to one of ϕ that no parameter of q(φ|ϕ) changes.
pub(crate) struct GivenPseudofermion {
    /// Nearly p(φ), fixed.
    pub marginal: ScalarDensity,
    /// p(ϕ|φ)
    pub theory: JointTheory,
    /// q(φ|ϕ)
    pub density: AnyDensity<Tensor, Tensor>,
}

impl GivenPseudofermion {
    /// φ from the marginal flow and ϕ given it.
    ///
    /// # Errors
    /// When a density fails.
    pub(crate) fn start(&self, n: usize, rng: &mut Rng) -> latflow_flow::Result<Pair> {
        let phi: Tensor = self.marginal.sample(n, &(), rng)?;
        let phi = phi.detach();
        let pf = self.theory.draw(&phi, rng)?;
        Ok((phi, pf))
    }
}

impl Sample<Pair> for GivenPseudofermion {
    fn sample(&self, n: usize, condition: &(), rng: &mut Rng) -> latflow_flow::Result<Pair> {
        Ok(self.sample_with_log_prob(n, condition, rng)?.0)
    }
}

impl Distribution<Pair> for GivenPseudofermion {
    fn log_prob(&self, (phi, pf): &Pair, (): &()) -> latflow_flow::Result<Tensor> {
        self.density.log_prob(phi, pf)
    }

    fn sample_with_log_prob(&self, n: usize, (): &(), rng: &mut Rng) -> latflow_flow::Result<(Pair, Tensor)> {
        let (_, pf) = self.start(n, rng)?;
        let (phi, log_q) = self.density.sample_with_log_prob(n, &pf, rng)?;
        Ok(((phi, pf), log_q))
    }
}
