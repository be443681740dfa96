//! The ensembles of the reproduction: one row each, with its configuration and its weights.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::plan::{Plan, Scale, Scheme};
use super::{folder, shipped};
use crate::config::{Config, Needs, Override, from_text};
use crate::model::read_card;
use crate::report::Models;
use crate::session::note;

/// One ensemble of Table III, at every coupling.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sampler {
    /// Whose architecture.
    pub(super) models: Models,
    /// The word that asks for it on the command line.
    pub(super) scheme: Scheme,
    /// Name for people.
    pub(super) label: &'static str,
    /// Its folder, and the name of its weights.
    name: &'static str,
    /// Its configuration; of its own name for most.
    config: &'static str,
    /// The ensemble whose weights it uses; most use their own.
    trained_as: &'static str,
    /// The ensemble whose weights its training begins with.
    starts_from: Option<&'static str>,
    /// What differs from its configuration when it samples.
    settings: &'static [&'static str],
    /// A proposal so expensive that it has fewer chains, by this factor.
    expensive: usize,
    /// Whether Figures 4 and 5 show it.
    pub(super) in_figures: bool,
}

/// All of them, in the order of the tables. A new one is a row, and the last one: the seeds count the rows.
pub(super) const SAMPLERS: &[Sampler] = &[
    Sampler::new(Models::Ours, Scheme::Marginal, "marginal", "φ-marginal"),
    Sampler {
        settings: &[NOISE, PSEUDO_MARGINAL, "sample.draws=1"],
        ..pseudo_marginal("pseudo_marginal_1", "pseudo-marginal, 1 draw")
    },
    Sampler {
        settings: &[NOISE, PSEUDO_MARGINAL, "sample.draws=64"],
        expensive: 10,
        ..pseudo_marginal("pseudo_marginal_64", "pseudo-marginal, 64 draws")
    },
    Sampler { starts_from: Some("marginal"), ..Sampler::new(Models::Ours, Scheme::Gibbs, "gibbs", "Gibbs") },
    Sampler {
        trained_as: "marginal",
        ..Sampler::new(Models::Ours, Scheme::Autoregressive, "autoregressive", "autoregressive")
    },
    Sampler {
        starts_from: Some("marginal"),
        ..Sampler::new(Models::Ours, Scheme::Joint, "joint", "fully joint")
    },
    Sampler { expensive: 10, ..Sampler::new(Models::Paper, Scheme::Marginal, "marginal", "φ-marginal") },
    Sampler { expensive: 5, ..Sampler::new(Models::Paper, Scheme::Gibbs, "gibbs", "Gibbs") },
    Sampler::new(Models::Paper, Scheme::Autoregressive, "autoregressive", "autoregressive"),
    Sampler { expensive: 5, ..Sampler::new(Models::Paper, Scheme::Joint, "joint", "fully joint") },
    Sampler {
        settings: &["sample.method=prior_refreshment", "sample.angle=1.0"],
        expensive: 2,
        ..prior_update("prior_refreshment", "prior refreshment")
    },
    Sampler {
        settings: &["sample.method=prior_hmc", "sample.integrator_steps=2"],
        expensive: 6,
        ..prior_update("prior_hmc", "HMC of the prior")
    },
    Sampler {
        settings: &["sample.method=prior_langevin", "sample.step_size=0.5"],
        expensive: 10,
        ..prior_update("prior_langevin", "Langevin of the prior")
    },
];

/// Seeds set aside for the ensembles of each seed of a configuration.
const SEEDS: u64 = 100;

/// The paper's estimator: plain noise.
const NOISE: &str = "model.conditional.kind={ gaussian = { sigma = 1.0 } }";
const PSEUDO_MARGINAL: &str = "sample.method=pseudo_marginal";

/// Another use of our marginal flow.
const fn of_marginal(scheme: Scheme, name: &'static str, label: &'static str) -> Sampler {
    Sampler { config: "marginal", trained_as: "marginal", ..Sampler::new(Models::Ours, scheme, name, label) }
}

/// The marginal flow with estimated determinants.
const fn pseudo_marginal(name: &'static str, label: &'static str) -> Sampler {
    of_marginal(Scheme::PseudoMarginal, name, label)
}

/// Chains that move in the prior's space of the marginal flow [YUK Sec. VI]: most of their time goes into gradients through
/// the flow, so that they are short, and the figures would show little but their errors.
const fn prior_update(name: &'static str, label: &'static str) -> Sampler {
    Sampler { in_figures: false, ..of_marginal(Scheme::Prior, name, label) }
}

impl Sampler {
    const fn new(models: Models, scheme: Scheme, name: &'static str, label: &'static str) -> Self {
        Self {
            models,
            scheme,
            label,
            name,
            config: name,
            trained_as: name,
            starts_from: None,
            settings: &[],
            expensive: 1,
            in_figures: true,
        }
    }

    /// Its folder under the directory of the reproduction.
    pub(super) fn folder(&self, coupling: &str) -> PathBuf {
        PathBuf::from(folder(coupling)).join(self.models_name()).join(self.name)
    }

    fn models_name(&self) -> &'static str {
        match self.models {
            Models::Ours => "ours",
            Models::Paper => "paper",
        }
    }

    fn weights_name(&self, coupling: &str) -> String {
        format!("{}_{}_g{coupling}", self.models_name(), self.name)
    }

    fn sibling(&self, name: &str) -> &'static Sampler {
        let mut all = SAMPLERS.iter().filter(|other| other.models == self.models);
        all.find(|other| other.name == name).expect("a test follows every name of this table")
    }

    /// The ensemble whose weights it uses.
    pub(super) fn trained_as(&self) -> &'static Sampler {
        self.sibling(self.trained_as)
    }

    /// The ensemble whose weights its training begins with.
    pub(super) fn starts_from(&self) -> Option<&'static Sampler> {
        self.starts_from.map(|name| self.sibling(name))
    }

    /// Its complete configuration for training.
    ///
    /// # Errors
    /// When none is shipped, or it makes no sense.
    pub(super) fn training(&self, plan: &Plan, coupling: &str) -> Result<Config> {
        let folder = self.models_name();
        // The paper's architectures as printed only where their training is asked for as printed.
        let desk = match self.models {
            Models::Paper if !(plan.scale == Scale::Paper && plan.train) => "_desk",
            _ => "",
        };
        let mut settings = if plan.scale == Scale::Smoke { SMOKE.to_vec() } else { Vec::new() };
        if plan.scale == Scale::Smoke && self.models == Models::Paper {
            // No handful of steps makes a difference to them, and theirs are slower.
            settings.extend(["train.steps=4", "train.batch=32"]);
        }
        config(&format!("{folder}/{}_g{coupling}{desk}", self.config), plan, &settings, Needs::Flow)
    }

    /// Its complete configuration for sampling.
    ///
    /// # Errors
    /// When none is shipped, or it makes no sense.
    pub(super) fn sampling(&self, plan: &Plan, coupling: &str) -> Result<Config> {
        let settings: Vec<&str> = self.settings.iter().chain(plan.scale.statistics()).copied().collect();
        let training = self.training(plan, coupling)?;
        let mut config = from_text("training", &training.to_toml(), &overrides(&settings)?, Needs::Flow)?;
        // Ensembles that share a seed would share their proposals, and fluctuate together; the couplings' seeds are neighbours.
        let index = SAMPLERS.iter().position(|other| other == self).unwrap_or(0);
        config.seed = config.seed * SEEDS + 1 + index as u64;
        config.sample.chains = (config.sample.chains / self.expensive).max(2);
        Ok(config)
    }

    /// The weights that come with the program, where they are to be used: not where everything is to be trained.
    ///
    /// # Errors
    /// When they are weights of another architecture.
    pub(super) fn weights(&self, plan: &Plan, config: &Config, coupling: &str) -> Result<Option<Vec<u8>>> {
        if plan.train || plan.scale == Scale::Smoke {
            return Ok(None);
        }
        let name = self.weights_name(coupling);
        let Some(bytes) = shipped::weights(&name) else {
            note(&format!("no weights {name} come with this program: training them"));
            return Ok(None);
        };
        let card = read_card(bytes).with_context(|| name.clone())?;
        let card = card.with_context(|| format!("the weights {name} have no model card"))?;
        if let Some(section) = card.other_than(config) {
            anyhow::bail!(
                "the weights {name} were trained with another {section} than their configuration has"
            );
        }
        Ok(Some(bytes.to_vec()))
    }
}

impl Scale {
    /// Chains and their steps, where they are not those of the configuration.
    fn statistics(self) -> &'static [&'static str] {
        match self {
            Self::Smoke => {
                &["sample.chains=16", "sample.steps=150", "sample.thermalization=20", "sample.batch=256"]
            }
            Self::Desk => &[],
            // [YUK Tab. III]
            Self::Paper => &["sample.chains=100", "sample.steps=10000", "sample.thermalization=1000"],
        }
    }
}

/// Enough training to see that it works.
const SMOKE: &[&str] = &[
    "train.steps=40",
    "train.batch=64",
    "train.log_every=2",
    "train.lr=[[0, 5e-4], [8, 2e-3], [16, 3e-3], [30, 1e-3]]",
];

/// The configuration of hybrid Monte Carlo.
///
/// # Errors
/// When none is shipped, or it makes no sense.
pub(super) fn hmc(plan: &Plan, coupling: &str) -> Result<Config> {
    config(&format!("g{coupling}_{}", plan.scale.name()), plan, &[], Needs::Sampling)
}

fn config(name: &str, plan: &Plan, settings: &[&str], needs: Needs) -> Result<Config> {
    let text = shipped::config(name).with_context(|| format!("there is no configuration {name}"))?;
    let device = format!("device={}", plan.device);
    let settings: Vec<&str> = settings.iter().copied().chain([device.as_str()]).collect();
    Ok(from_text(name, text, &overrides(&settings)?, needs)?)
}

fn overrides(settings: &[&str]) -> Result<Vec<Override>> {
    settings.iter().map(|setting| Ok(setting.parse::<Override>()?)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::ValueEnum;

    use super::{SAMPLERS, Sampler, hmc, shipped};
    use crate::config::{Config, Method, Theory};
    use crate::model::read_card;
    use crate::paper::{DIMS, PUBLISHED, Published};
    use crate::repro::plan::{Couplings, Models, Plan, Scale, Scheme};

    fn plan(scale: Scale) -> Plan {
        let device = "cpu".into();
        Plan {
            scale,
            scheme: Scheme::All,
            models: Models::All,
            coupling: Couplings::All,
            train: false,
            device,
        }
    }

    fn has_the_papers_parameters(config: &Config, published: &Published) {
        let Theory::Yukawa(action) = &config.action else { panic!("{:?}", config.action) };
        assert_eq!((action.m2, action.lambda, action.g), (published.m2, published.lambda, published.g));
        assert_eq!((action.fermion_mass, config.lattice.dims.as_slice()), (0.0, &DIMS[..]));
    }

    #[test]
    fn no_two_ensembles_share_a_seed() {
        assert!(SAMPLERS.len() < super::SEEDS as usize);
        let plan = plan(Scale::Desk);
        let all = PUBLISHED
            .iter()
            .flat_map(|p| SAMPLERS.iter().map(|s| s.sampling(&plan, p.coupling).unwrap().seed));
        let mut seeds: Vec<u64> = all.collect();
        let n = seeds.len();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), n);
    }

    /// The seed is the number of the row: a row that moves would change the results of its ensemble.
    #[test]
    fn ensembles_keep_their_seeds() {
        let ours =
            ["marginal", "pseudo_marginal_1", "pseudo_marginal_64", "gibbs", "autoregressive", "joint"];
        let paper = ["marginal", "gibbs", "autoregressive", "joint"];
        let updates = ["prior_refreshment", "prior_hmc", "prior_langevin"];
        let parts = [("ours", &ours[..]), ("paper", &paper), ("ours", &updates)];
        let names = parts.iter().flat_map(|(models, names)| names.iter().map(move |name| (models, name)));
        let rows: Vec<_> = names.collect();
        assert_eq!(rows.len(), SAMPLERS.len());
        for ((seed, (models, name)), sampler) in (2021060601..).zip(rows).zip(SAMPLERS) {
            assert_eq!(sampler.folder("0.1"), Path::new("g0.1").join(models).join(name));
            assert_eq!(sampler.sampling(&plan(Scale::Desk), "0.1").unwrap().seed, seed, "{models} {name}");
        }
    }

    #[test]
    fn the_scheme_of_the_prior_is_every_update_of_it_with_our_marginal_weights() {
        let desk = Plan { scheme: Scheme::Prior, ..plan(Scale::Desk) };
        let included: Vec<_> = SAMPLERS.iter().filter(|sampler| desk.includes(sampler)).collect();
        let sample = |sampler: &&Sampler| sampler.sampling(&desk, "0.3").unwrap().sample;
        let found: Vec<_> =
            included.iter().map(|sampler| (sample(sampler).method, sample(sampler).chains)).collect();
        let expected = [(Method::PriorRefreshment, 50), (Method::PriorHmc, 16), (Method::PriorLangevin, 10)];
        assert_eq!(found, expected);
        for sampler in included {
            assert_eq!(sampler.trained_as().weights_name("0.3"), "ours_marginal_g0.3");
            assert!(!sampler.in_figures && plan(Scale::Desk).includes(sampler), "{}", sampler.label);
        }
    }

    #[test]
    fn every_configuration_has_the_papers_parameters() {
        for scale in Scale::value_variants() {
            for published in &PUBLISHED {
                for train in [false, true] {
                    let plan = Plan { train, ..plan(*scale) };
                    has_the_papers_parameters(&hmc(&plan, published.coupling).unwrap(), published);
                    for sampler in SAMPLERS {
                        let training = sampler.training(&plan, published.coupling).unwrap();
                        let sampling = sampler.sampling(&plan, published.coupling).unwrap();
                        has_the_papers_parameters(&training, published);
                        has_the_papers_parameters(&sampling, published);
                        assert_ne!(training.seed, sampling.seed);
                    }
                }
            }
        }
    }

    #[test]
    fn every_ensemble_has_its_own_folder_and_somebody_who_trains_for_it() {
        for (index, sampler) in SAMPLERS.iter().enumerate() {
            assert_eq!(sampler.trained_as().trained_as(), sampler.trained_as(), "{}", sampler.label);
            assert!(sampler.starts_from().is_none_or(|first| first.starts_from().is_none()));
            let earlier = &SAMPLERS[..index];
            assert!(earlier.iter().all(|other| other.folder("0.1") != sampler.folder("0.1")));
            assert!(
                earlier.iter().all(|other| (other.models, other.label) != (sampler.models, sampler.label))
            );
        }
    }

    /// Weights are used, and fit every configuration that uses them, at the coupling in their name.
    #[test]
    fn shipped_weights_fit() {
        for (name, bytes) in shipped::all_weights() {
            let card = read_card(bytes).unwrap().expect("a model card");
            let mut users = 0;
            for published in &PUBLISHED {
                for sampler in SAMPLERS {
                    if sampler.trained_as().weights_name(published.coupling) == *name {
                        let config = sampler.sampling(&plan(Scale::Desk), published.coupling).unwrap();
                        assert_eq!(card.other_than(&config), None, "{name}, {}", sampler.label);
                        assert_eq!(card.action["g"], published.g, "{name}");
                        users += 1;
                    }
                }
            }
            assert!(users > 0, "nobody uses {name}");
        }
    }
}
