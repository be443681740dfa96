//! Models that parse but make no sense, by themselves or on the lattice.

use super::check::{Checked, at_least_one, positive, require};
use super::{
    AffineCoupling, ConditionalKind, Config, ConvexPotential, Decimation, Estimator, Layer, Linear, Model,
    ModelScheme, PairCouplings, PairKind, Prior,
};

const LAYERS: &str = "model.marginal.layers";
const CONDITIONAL: &str = "model.conditional.kind";

/// What does not depend on the lattice.
pub(super) fn model(model: &Model) -> Checked {
    let Prior::Gaussian { sigma } = model.marginal.prior;
    positive(sigma, "model.marginal.prior.gaussian.sigma")?;
    layers(&model.marginal.layers, LAYERS, None)?;
    conditional(&model.conditional.kind, None)?;
    for (section, kind) in [("gibbs", &model.gibbs.kind), ("joint", &model.joint.kind)] {
        pair(kind, &format!("model.{section}.kind"), None)?;
    }
    Ok(())
}

/// What a model that is going to be built must fulfil.
pub(super) fn fits(config: &Config, even_odd: bool) -> Checked {
    let (model, dims) = (&config.model, &config.lattice.dims);
    let smallest = Some(dims.iter().copied().min().unwrap_or(0));
    match model.scheme {
        ModelScheme::Marginal => marginal_fits(&model.marginal.layers, dims, smallest),
        ModelScheme::Autoregressive => {
            marginal_fits(&model.marginal.layers, dims, smallest)?;
            conditional_fits(config, even_odd, smallest)
        }
        ModelScheme::Gibbs => pair_fits(&model.gibbs.kind, "model.gibbs.kind", dims, even_odd),
        // Refused before: those belong to gauge theories.
        ModelScheme::Gauge | ModelScheme::GaugePseudofermion => Ok(()),
        ModelScheme::Joint => {
            pair_fits(&model.joint.kind, "model.joint.kind", dims, even_odd)?;
            match model.joint.kind {
                PairKind::Decimation(_) => conditional_fits(config, even_odd, smallest),
                PairKind::Couplings(_) => Ok(()),
            }
        }
    }
}

/// `smallest` is the extent that kernels must fit on, where that matters.
fn marginal_fits(kinds: &[Layer], dims: &[usize], smallest: Option<usize>) -> Checked {
    layers(kinds, LAYERS, smallest)?;
    let decimation = kinds.iter().any(|layer| matches!(layer, Layer::Decimation(_)));
    require(dims.len() == 2 || !decimation, LAYERS, "a decimation needs two dimensions", "other layers")
}

fn conditional_fits(config: &Config, even_odd: bool, smallest: Option<usize>) -> Checked {
    let kind = &config.model.conditional.kind;
    conditional(kind, smallest)?;
    match kind {
        ConditionalKind::Gaussian { .. } => Ok(()),
        ConditionalKind::Exponential { order } => {
            let largest = if even_odd { 1 } else { 2 };
            require(
                *order <= largest,
                &format!("{CONDITIONAL}.exponential.order"),
                "no closed form of the trace is known at this order",
                format!("0 … {largest} with even_odd = {even_odd}"),
            )
        }
        ConditionalKind::Linear(linear) => {
            require(
                !even_odd,
                "action.yukawa.even_odd",
                "a deep linear flow lives on all sites, and even/odd preconditioning leaves half of them",
                "even_odd = false, or another model.conditional.kind",
            )?;
            require(
                linear.penalty == 0.0 || config.train.estimator == Estimator::Total,
                "train.estimator",
                "leaves out the penalty on the coefficients, which does not go through the samples",
                "\"total\", or model.conditional.kind.linear.penalty = 0",
            )
        }
    }
}

fn pair_fits(kind: &PairKind, key: &str, dims: &[usize], even_odd: bool) -> Checked {
    pair(kind, key, Some(dims.iter().copied().min().unwrap_or(0)))?;
    let decimation = matches!(kind, PairKind::Decimation(_));
    require(dims.len() == 2 || !decimation, key, "a decimation needs two dimensions", "couplings")?;
    require(
        even_odd || !decimation,
        "action.yukawa.even_odd",
        "a decimation of both fields needs pseudofermions on even sites alone",
        "even_odd = true, or couplings",
    )
}

fn layers(kinds: &[Layer], key: &str, smallest: Option<usize>) -> Checked {
    require(!kinds.is_empty(), key, "a flow needs at least one layer", "a list of layers")?;
    for (index, layer) in kinds.iter().enumerate() {
        let key = |kind: &str, name: &str| format!("{key}.{index}.{kind}.{name}");
        match layer {
            Layer::ExponentialConvolution(_) => {}
            Layer::CubicRoot(layer) => positive(layer.cubic, &key("cubic_root", "cubic"))?,
            Layer::ConvexPotential(layer) => convex(layer, |name| key("convex_potential", name), smallest)?,
            Layer::AffineCoupling(layer) => affine(layer, |name| key("affine_coupling", name), smallest)?,
            Layer::Decimation(layer) => decimation(layer, |name| key("decimation", name))?,
            Layer::Repeat(layer) => {
                at_least_one(layer.times as u64, &key("repeat", "times"))?;
                layers(&layer.layers, &key("repeat", "layers"), smallest)?;
            }
        }
    }
    Ok(())
}

fn convolutions(
    [convs, channels, kernel]: [usize; 3],
    key: &impl Fn(&str) -> String,
    smallest: Option<usize>,
) -> Checked {
    at_least_one(convs as u64, &key("convs"))?;
    at_least_one(channels as u64, &key("channels"))?;
    require(kernel % 2 == 1, &key("kernel"), "must be odd, to have a centre", "1, 3, 5, …")?;
    let smallest = smallest.unwrap_or(kernel);
    let allowed = format!("1, 3, 5, … up to the smallest extent {smallest}");
    require(kernel <= smallest, &key("kernel"), "does not fit on the lattice", allowed)
}

fn convex(layer: &ConvexPotential, key: impl Fn(&str) -> String, smallest: Option<usize>) -> Checked {
    at_least_one(layer.count as u64, &key("count"))?;
    convolutions([layer.convs, layer.channels, layer.kernel], &key, smallest)?;
    require(layer.convs >= 2, &key("convs"), "leaves nothing between field and sum", "2, 3, 4, …")?;
    positive(layer.nonlinear, &key("nonlinear"))?;
    positive(layer.quadratic, &key("quadratic"))?;
    at_least_one(layer.probes as u64, &key("probes"))?;
    at_least_one(layer.lanczos_steps as u64, &key("lanczos_steps"))
}

fn affine(layer: &AffineCoupling, key: impl Fn(&str) -> String, smallest: Option<usize>) -> Checked {
    at_least_one(layer.count as u64, &key("count"))?;
    convolutions([layer.convs, layer.channels, layer.kernel], &key, smallest)
}

fn decimation(layer: &Decimation, key: impl Fn(&str) -> String) -> Checked {
    let channels = layer.channels.iter().all(|channels| *channels >= 1);
    require(channels, &key("channels"), "has a layer without channels", "1, 2, 3, … each, or none at all")?;
    require(layer.kernel % 2 == 1, &key("kernel"), "must be odd, to have a centre", "1, 3, 5, …")?;
    let even = layer.powers >= 4 && layer.powers.is_multiple_of(2);
    require(even, &key("powers"), "is no density on the whole line with a quartic term", "4, 6, 8, …")?;
    require(layer.cells >= 8, &key("cells"), "is too coarse to interpolate a density", "8, 9, 10, …")
}

fn conditional(kind: &ConditionalKind, smallest: Option<usize>) -> Checked {
    match kind {
        ConditionalKind::Gaussian { sigma } => positive(*sigma, &format!("{CONDITIONAL}.gaussian.sigma")),
        ConditionalKind::Exponential { .. } => Ok(()),
        ConditionalKind::Linear(Linear { sigma, operators, squeeze, penalty, convs, channels, kernel }) => {
            let key = |name: &str| format!("{CONDITIONAL}.linear.{name}");
            positive(*sigma, &key("sigma"))?;
            at_least_one(*operators as u64, &key("operators"))?;
            at_least_one(*squeeze as u64, &key("squeeze"))?;
            let allowed = "0 or a finite number above it";
            require(*penalty >= 0.0 && penalty.is_finite(), &key("penalty"), "is no weight", allowed)?;
            convolutions([*convs, *channels, *kernel], &key, smallest)
        }
    }
}

fn pair(kind: &PairKind, key: &str, smallest: Option<usize>) -> Checked {
    match kind {
        PairKind::Decimation(layer) => decimation(layer, |name| format!("{key}.decimation.{name}")),
        PairKind::Couplings(PairCouplings { sigma, sigma_pf, layers, convs, channels, kernel, .. }) => {
            let key = |name: &str| format!("{key}.couplings.{name}");
            positive(*sigma, &key("sigma"))?;
            positive(*sigma_pf, &key("sigma_pf"))?;
            at_least_one(*layers as u64, &key("layers"))?;
            convolutions([*convs, *channels, *kernel], &key, smallest)
        }
    }
}
