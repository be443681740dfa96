//! `[model.gauge]` and `[model.ptcn]`: the architecture of the QCD paper [QCD Sec. 3.1], and when it makes sense.

use serde::{Deserialize, Serialize};

use super::check::{Checked, at_least_one, positive, require};
use super::{Config, Gradient, ModelScheme, Precision};

/// `[model.gauge]`: spectral couplings of the links, q(U).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gauge {
    /// Number format of the networks; densities are always f64.
    pub precision: Precision,
    /// Couplings. 16 move every link once, 48 with each of its planes.
    pub layers: usize,
    /// Channels of the hidden convolutions of each network.
    pub channels: Vec<usize>,
    /// Extent of the convolution kernel, odd.
    pub kernel: usize,
    /// Bins of the splines.
    pub bins: usize,
    /// Factor of the Xavier-normal initial weights.
    pub gain: f64,
}

impl Default for Gauge {
    fn default() -> Self {
        Self { precision: Precision::F32, layers: 48, channels: vec![32; 3], kernel: 3, bins: 16, gain: 0.5 }
    }
}

/// `[model.ptcn]`: parallel-transport couplings of a pseudofermion, q(ϕ|U).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ptcn {
    /// Number format of the networks; densities are always f64.
    pub precision: Precision,
    /// On which sites the pseudofermion lives.
    pub sites: PseudofermionSites,
    /// Couplings; their masks rotate.
    pub layers: usize,
    /// n_PT: transports by one link in a row in each coupling.
    pub depth: usize,
    /// H: copies of the field in between.
    pub copies: usize,
    /// Channels of the hidden convolutions of the networks of gauge-invariant inputs.
    pub channels: Vec<usize>,
    /// Extent of the kernel of each coupling's last convolution, odd.
    pub head_kernel: usize,
    /// Where training begins.
    pub start: PtcnStart,
}

impl Default for Ptcn {
    fn default() -> Self {
        Self {
            precision: Precision::F32,
            sites: PseudofermionSites::Even,
            layers: 36,
            depth: 6,
            copies: 4,
            channels: vec![8, 8],
            head_kernel: 3,
            start: PtcnStart::Random,
        }
    }
}

/// `sites`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PseudofermionSites {
    /// The even ones, with the preconditioned operator.
    Even,
    /// All of them.
    All,
}

/// `start`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PtcnStart {
    /// Small random numbers [QCD Sec. 3.1].
    Random,
    /// Couplings that are the lowest order of the hopping expansion.
    Hopping,
}

/// What a model of links that is going to be built must fulfil.
pub(super) fn fits(config: &Config) -> Checked {
    let (model, dims) = (&config.model, &config.lattice.dims);
    let allowed = "\"gauge\" or \"gauge_pseudofermion\"";
    require(model.scheme.of_links(), "model.scheme", "is one of scalar fields", allowed)?;
    require(
        dims.iter().all(|extent| extent.is_multiple_of(4)),
        "lattice.dims",
        "does not hold the masks of spectral couplings, which repeat every four sites",
        "multiples of 4",
    )?;
    let smallest = dims.iter().copied().min().unwrap_or(0);
    let Gauge { layers, channels, kernel, bins, gain, .. } = &model.gauge;
    at_least_one(*layers as u64, "model.gauge.layers")?;
    channels_are(channels, "model.gauge.channels")?;
    require(
        kernel % 2 == 1 && *kernel <= smallest,
        "model.gauge.kernel",
        "must be odd, to have a centre, and fit on the lattice",
        format!("1, 3, 5, … up to the smallest extent {smallest}"),
    )?;
    require((1..=64).contains(bins), "model.gauge.bins", "is no number of spline bins", "1 … 64")?;
    positive(*gain, "model.gauge.gain")?;
    if model.scheme == ModelScheme::Gauge {
        return require(
            config.train.gradient != Gradient::Determinant,
            "train.gradient",
            "the exact determinant of Wilson fermions is too much for every step",
            "\"stochastic\" or \"expansion\"",
        );
    }
    let Ptcn { layers, depth, copies, channels, head_kernel, .. } = &model.ptcn;
    at_least_one(*layers as u64, "model.ptcn.layers")?;
    at_least_one(*depth as u64, "model.ptcn.depth")?;
    at_least_one(*copies as u64, "model.ptcn.copies")?;
    require(
        matches!(head_kernel, 1 | 3),
        "model.ptcn.head_kernel",
        "must be odd, to have a centre, and fit on four sites",
        "1 or 3",
    )?;
    channels_are(channels, "model.ptcn.channels")
}

fn channels_are(channels: &[usize], key: &str) -> Checked {
    require(
        channels.iter().all(|channels| *channels >= 1),
        key,
        "has a layer without channels",
        "1, 2, 3, … each, or none at all",
    )
}
