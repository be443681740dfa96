//! Densities of a pseudofermion given φ, `[model.conditional]`.
//!
//! A new one is one variant of [`ConditionalKind`] and one arm in [`build`].

use std::rc::Rc;

use anyhow::Result;
use candle_core::{DType, Tensor};
use latflow_action::{Action, TrainingTarget};
use latflow_flow::{FlowModel, Gaussian, LinearFlow, LinearShape, ParamStore};
use latflow_lattice::Rng;

use super::{AnyDensity, Pair, Shared, Site, net_shape};
use crate::config::{Activation, ConditionalKind, Linear};
use crate::theory::JointTheory;

/// q(ϕ|φ).
#[derive(Clone)]
pub(crate) struct ConditionalDensity {
    /// The density.
    pub density: AnyDensity<Tensor, Tensor>,
    /// ϕ = W(φ)χ, where there is such a flow.
    pub flow: Option<Shared<Tensor, Tensor>>,
    /// σ_χ.
    pub sigma: f64,
    /// What training may keep small, with a weight.
    pub penalty: Option<Penalty>,
}

/// A linear flow and the weight of its coefficients' mean square.
pub(crate) type Penalty = (Rc<LinearFlow>, f64);

/// The density and what the tables call it.
pub(super) fn build(
    site: &Site<'_>,
    parameters: &mut ParamStore,
) -> Result<(ConditionalDensity, &'static str)> {
    let components = site.joint.components();
    let density = |sigma: f64, flow: Option<Shared<Tensor, Tensor>>, penalty| -> Result<_> {
        let prior = Gaussian::pseudofermion(sigma, components, site.device)?;
        let density = match &flow {
            None => AnyDensity::new(prior),
            Some(flow) => AnyDensity::new(FlowModel { prior, flow: flow.clone() }),
        };
        Ok(ConditionalDensity { density, flow, sigma, penalty })
    };
    Ok(match &site.config.model.conditional.kind {
        ConditionalKind::Gaussian { sigma } => (density(*sigma, None, None)?, "gaussian"),
        ConditionalKind::Exponential { order } => {
            let flow = Shared(Rc::from(site.joint.exponential(*order, site.device)?));
            (density(1.0, Some(flow), None)?, "exponential")
        }
        ConditionalKind::Linear(config) => {
            let flow = Rc::new(linear(site, parameters, config)?);
            let penalty = (config.penalty > 0.0).then(|| (flow.clone(), config.penalty));
            (density(config.sigma, Some(Shared(flow)), penalty)?, "linear")
        }
    })
}

fn linear(site: &Site<'_>, parameters: &mut ParamStore, config: &Linear) -> Result<LinearFlow> {
    let shape = LinearShape {
        operators: config.operators,
        squeeze: config.squeeze,
        net: net_shape(
            [config.convs, config.channels, config.kernel],
            Activation::LeakyRelu,
            Activation::Identity,
        ),
    };
    Ok(LinearFlow::new(parameters, "conditional/linear", site.theory.lattice(), &shape)?)
}

/// The joint theory with a penalty on the coefficients of a linear flow [YUK App. A]: its gradient alone, so that the value
/// remains the action.
pub(crate) struct PenalizedTheory {
    /// The theory.
    pub theory: JointTheory,
    /// Whose coefficients, and how much.
    pub penalty: Option<Penalty>,
}

impl TrainingTarget<Pair> for PenalizedTheory {
    fn surrogate_action(&self, pair: &Pair, _: &mut Rng) -> latflow_action::Result<Tensor> {
        let action = self.theory.action(pair)?;
        let Some((flow, weight)) = &self.penalty else { return Ok(action) };
        let changed = |error| latflow_action::Error::ChangeOfVariables(Box::new(error));
        let coefficients = flow.coefficients(&pair.0).map_err(changed)?.to_dtype(DType::F64)?;
        let squares = (coefficients.sqr()?.mean_all()? * *weight)?;
        Ok(action.broadcast_add(&(&squares - squares.detach())?)?)
    }
}
