//! What the reproduction of the Yukawa paper is asked for: the command line, and `repro.json`, which remembers it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::samplers::Sampler;
use crate::report;

/// How long to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scale {
    /// A minute or two: does everything work?
    Smoke,
    /// A quarter of an hour on two cores, with the weights that come with latflow.
    Desk,
    /// The statistics of the paper. With --train, its architectures as printed.
    Paper,
}

/// Which samplers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scheme {
    /// Hybrid Monte Carlo alone.
    Hmc,
    /// φ-marginal with the exact determinant.
    Marginal,
    /// φ-marginal with estimated determinants.
    #[value(name = "pseudo_marginal")]
    PseudoMarginal,
    /// φ given a pseudofermion, a pseudofermion given φ, in turn.
    Gibbs,
    /// φ first, then a pseudofermion given φ.
    Autoregressive,
    /// Both fields together.
    Joint,
    /// Updates of the marginal flow's prior field: refreshment, HMC, Langevin.
    Prior,
    /// All of them.
    All,
}

/// Whose architectures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Models {
    /// Flows that start near the answer.
    Ours,
    /// The paper's flows.
    Paper,
    /// Both.
    All,
}

/// Which row of Table II.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(super) enum Couplings {
    /// g = 0.1
    #[value(name = "0.1")]
    #[serde(rename = "0.1")]
    Weak,
    /// g = 0.3
    #[value(name = "0.3")]
    #[serde(rename = "0.3")]
    Strong,
    /// Both.
    #[value(name = "all")]
    #[serde(rename = "all")]
    All,
}

/// Arguments of the reproduction.
#[derive(Debug, Args)]
pub(crate) struct Repro {
    /// How long to run.
    #[arg(long, value_enum, default_value = "desk")]
    scale: Scale,
    /// Which samplers.
    #[arg(long, value_enum, default_value = "all")]
    scheme: Scheme,
    /// Whose architectures.
    #[arg(long, value_enum, default_value = "all")]
    models: Models,
    /// Which row of Table II.
    #[arg(long, value_enum, default_value = "all")]
    coupling: Couplings,
    /// Train from scratch instead of using the weights that come with latflow.
    #[arg(long)]
    train: bool,
    /// Directory [default: runs/repro-yukawa-SCALE].
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Go on with the reproduction in this directory, as it was started.
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["scale", "scheme", "models", "coupling", "train", "out", "force", "device"]
    )]
    pub(super) resume: Option<PathBuf>,
    /// Delete an earlier reproduction in the directory.
    #[arg(long)]
    pub(super) force: bool,
    /// cpu, cuda:0, …
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// `repro.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    pub(super) scale: Scale,
    pub(super) scheme: Scheme,
    pub(super) models: Models,
    pub(super) coupling: Couplings,
    pub(super) train: bool,
    pub(super) device: String,
}

impl Repro {
    /// What is to be done.
    pub(super) fn plan(&self) -> Plan {
        let Self { scale, scheme, models, coupling, train, ref device, .. } = *self;
        Plan { scale, scheme, models, coupling, train, device: device.clone() }
    }
}

impl Plan {
    /// Whether an ensemble belongs to it.
    pub(super) fn includes(&self, sampler: &Sampler) -> bool {
        let scheme = self.scheme == Scheme::All || self.scheme == sampler.scheme;
        let models = match self.models {
            Models::All => true,
            Models::Ours => sampler.models == report::Models::Ours,
            Models::Paper => sampler.models == report::Models::Paper,
        };
        scheme && models
    }

    /// The flags that ask for it again.
    pub(super) fn flags(&self) -> String {
        let mut flags = format!("--scale {}", self.scale.name());
        for (flag, value) in [
            ("scheme", name(&self.scheme)),
            ("models", name(&self.models)),
            ("coupling", name(&self.coupling)),
        ] {
            if value != "all" {
                flags.push_str(&format!(" --{flag} {value}"));
            }
        }
        if self.train {
            flags.push_str(" --train");
        }
        if self.device != "cpu" {
            flags.push_str(&format!(" --device {}", self.device));
        }
        flags
    }
}

impl Scale {
    /// As on the command line.
    pub(super) fn name(self) -> String {
        name(&self)
    }
}

impl Scheme {
    /// Whether hybrid Monte Carlo is asked for.
    pub(super) fn hmc(self) -> bool {
        matches!(self, Self::Hmc | Self::All)
    }
}

impl Couplings {
    /// Whether a row of Table II is asked for.
    pub(super) fn includes(self, coupling: &str) -> bool {
        self == Self::All || name(&self) == coupling
    }
}

/// A value as on the command line.
pub(super) fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Plan, Repro};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        repro: Repro,
    }

    fn plan(text: &str) -> Plan {
        Line::parse_from(std::iter::once("test").chain(text.split_whitespace())).repro.plan()
    }

    #[test]
    fn a_plan_says_how_to_ask_for_it_again() {
        for text in [
            "--scale desk",
            "--scale smoke --scheme pseudo_marginal --coupling 0.3",
            "--scale desk --scheme prior",
            "--scale paper --scheme joint --models paper --coupling 0.1 --train --device cuda:1",
        ] {
            let plan = plan(text);
            assert_eq!(plan.flags(), text);
            let json = serde_json::to_string(&plan).unwrap();
            assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan, "{json}");
        }
    }

    #[test]
    fn a_resumed_reproduction_cannot_be_changed() {
        for text in ["--resume a --scale desk", "--resume a --models ours", "--resume a --train"] {
            assert!(Line::try_parse_from(std::iter::once("test").chain(text.split_whitespace())).is_err());
        }
        assert!(Line::try_parse_from(["test", "--resume", "a"]).is_ok());
    }
}
