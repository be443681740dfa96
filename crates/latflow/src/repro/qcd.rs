//! `latflow repro-qcd`: hybrid Monte Carlo at the paper's point, and what must agree with it.
//!
//! ```text
//! OUT/hmc                           two flavours by pseudofermions
//! OUT/reweighting                   the pure gauge theory by heat bath, reweighted with the exact determinant
//! OUT/haar, OUT/flow                Haar-distributed links, and the flow of loop features, both reweighted
//! OUT/spectral/…                    the paper's architecture
//! OUT/frontier/b2, …                the flow at other couplings, masses and volumes
//! OUT/pure/b5.7/heat_bath, …/hmc    the pure gauge theory by both algorithms
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::plan::{Scale, name};
use super::shipped;
use super::spectral::{PRICED, Spectral};
use super::stages::{Files, Place, Stages};
use crate::config::{Config, Needs, Override, from_text};
use crate::report::qcd::{self as report, Qcd};
use crate::scheme::Scheme as Run;

/// Which ensembles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Scheme {
    /// Hybrid Monte Carlo with its checks: exact reweighting of pure gauge fields, heat bath against HMC.
    Hmc,
    /// Flows, beside hybrid Monte Carlo at the paper's point.
    Flow,
    /// Everything there is.
    All,
}

/// Arguments of the reproduction.
#[derive(Debug, Args)]
pub(crate) struct ReproQcd {
    /// How long to run.
    #[arg(long, value_enum, default_value = "desk")]
    scale: Scale,
    /// Which ensembles.
    #[arg(long, value_enum, default_value = "all")]
    scheme: Scheme,
    /// Directory [default: runs/repro-qcd-SCALE].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the reproduction in this directory, as it was started.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["scale", "scheme", "out", "force", "train", "device"])]
    resume: Option<PathBuf>,
    /// Delete an earlier reproduction in the directory.
    #[arg(long)]
    force: bool,
    /// Train the paper's architecture instead of using the weights that come with the program; with --scale paper as printed.
    #[arg(long)]
    train: bool,
    /// cpu, cuda:0, …
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// `repro.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    scale: Scale,
    scheme: Scheme,
    train: bool,
    device: String,
}

impl Plan {
    /// The flags that ask for it again.
    fn flags(&self) -> String {
        let mut flags = format!("--scale {}", name(&self.scale));
        if self.scheme != Scheme::All {
            flags.push_str(&format!(" --scheme {}", name(&self.scheme)));
        }
        if self.train {
            flags.push_str(" --train");
        }
        if self.device != "cpu" {
            flags.push_str(&format!(" --device {}", self.device));
        }
        flags
    }

    /// A shipped configuration of this scale with the seed of an ensemble.
    fn config(&self, file: &str, ensemble: u64, settings: &[String]) -> Result<Config> {
        let file = format!("{file}_{}", name(&self.scale));
        self.named(&file, Needs::Sampling, ensemble, settings)
    }

    fn named(&self, file: &str, needs: Needs, ensemble: u64, settings: &[String]) -> Result<Config> {
        let text = shipped::qcd_config(file).with_context(|| format!("there is no configuration {file}"))?;
        let device = format!("device={}", self.device);
        let settings: Vec<Override> =
            settings.iter().chain([&device]).map(|text| Ok(text.parse()?)).collect::<Result<_>>()?;
        let mut config = from_text(file, text, &settings, needs)?;
        // Ensembles that share a seed would fluctuate together.
        config.seed = config.seed * SEEDS + ensemble;
        Ok(config)
    }

    /// Flows at the paper's point.
    fn flows(&self) -> Result<Vec<Labelled>> {
        let haar = [
            "flow.kind=haar".to_owned(),
            "measure.flow_every=0".to_owned(),
            "measure.pion_every=0".to_owned(),
            "flow.draws=[1, 2]".to_owned(),
        ];
        Ok(vec![
            ("Haar, reweighted".into(), "haar".into(), self.config("flow", 20, &haar)?),
            ("loop flow".into(), "flow".into(), self.config("flow", 21, &[])?),
        ])
    }

    /// The paper's architecture, as printed where its training is asked for as printed.
    fn spectral(&self) -> Result<Spectral> {
        let scale = match self.scale {
            Scale::Smoke => Scale::Smoke,
            Scale::Paper if self.train => Scale::Paper,
            Scale::Desk | Scale::Paper => Scale::Desk,
        };
        let config = |stage: &str, scale: &Scale, ensemble: u64, settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
            self.named(&format!("{stage}_{}", name(scale)), Needs::Flow, ensemble, &settings)
        };
        let (links, both) = ("spectral", "spectral_pseudofermion");
        Ok(Spectral {
            links: config(links, &scale, 22, &[])?,
            pseudofermions: config(both, &scale, 23, &[])?,
            sample: config(both, &scale, 24, &[])?,
            exponential: config(links, &scale, 27, if scale == Scale::Smoke { &CHEAP[..2] } else { &CHEAP })?,
            full: [config(links, &Scale::Paper, 25, &PRICED)?, config(both, &Scale::Paper, 26, &PRICED)?],
            train: self.train,
        })
    }

    /// Flows beyond it.
    fn frontier(&self) -> Result<Vec<Labelled>> {
        let quiet = ["measure.flow_every=0", "measure.pion_every=0", "flow.exact=false", "flow.draws=[1, 8]"];
        let run = |(index, (label, folder, settings)): (usize, &(&str, &str, &[&str]))| {
            let settings: Vec<String> = quiet.iter().chain(*settings).map(|s| (*s).to_owned()).collect();
            let config = self.config("flow", 30 + index as u64, &settings)?;
            Ok(((*label).to_owned(), Path::new("frontier").join(folder), config))
        };
        // A smoke run has seen everything that it needs in the others.
        let count = if self.scale == Scale::Smoke { 0 } else { FRONTIER.len() };
        FRONTIER.iter().take(count).enumerate().map(run).collect()
    }

    /// Every run: its folder and its configuration.
    fn runs(&self) -> Result<Runs> {
        let pure = BETAS.iter().enumerate().map(|(index, beta)| {
            let settings = |method: &str| [format!("action.qcd.beta={beta}"), format!("hmc.method={method}")];
            let run = |method: &str, ensemble| -> Result<(PathBuf, Config)> {
                let folder = Path::new("pure").join(format!("b{beta}")).join(method);
                Ok((folder, self.config("pure", ensemble, &settings(method))?))
            };
            let ensemble = 3 + 2 * index as u64;
            Ok([run("heat_bath", ensemble)?, run("hmc", ensemble + 1)?])
        });
        Ok(Runs {
            hmc: ("hmc".into(), self.config("hmc", 1, &[])?),
            reweighting: ("reweighting".into(), self.config("reweighting", 2, &[])?),
            flows: self.flows()?,
            spectral: self.spectral()?,
            frontier: self.frontier()?,
            pure: pure.collect::<Result<_>>()?,
        })
    }
}

/// Folders and configurations.
struct Runs {
    hmc: (PathBuf, Config),
    reweighting: (PathBuf, Config),
    flows: Vec<Labelled>,
    spectral: Spectral,
    frontier: Vec<Labelled>,
    pure: Vec<[(PathBuf, Config); 2]>,
}

/// A run with its name for people.
type Labelled = (String, PathBuf, Config);

/// Without exact determinants and hundreds of draws a configuration costs milliseconds.
const CHEAP: [&str; 4] = ["flow.exact=false", "flow.draws=[1, 8]", "hmc.chains=32", "hmc.trajectories=100"];
/// Seeds set aside for the ensembles of each seed of a configuration.
const SEEDS: u64 = 100;
/// Beyond the paper's point: name, folder and what is changed. Coefficients for 8⁴ are fitted on 4⁴.
const FRONTIER: [(&str, &str, &[&str]); 6] = [
    ("κ = 0.13", "k0.13", &["action.qcd.kappa=0.13"]),
    ("β = 2", "b2", &["action.qcd.beta=2.0", "flow.intervals=9"]),
    ("β = 2, annealed", "b2_annealed", &["action.qcd.beta=2.0", "flow.intervals=9", "flow.sweeps=1"]),
    ("β = 3", "b3", &["action.qcd.beta=3.0", "flow.intervals=9"]),
    ("β = 3, annealed", "b3_annealed", &["action.qcd.beta=3.0", "flow.intervals=18", "flow.sweeps=1"]),
    (
        "8⁴, fitted on 4⁴",
        "l8",
        &[
            "lattice.dims=[8, 8, 8, 8]",
            "flow.fit_dims=[4, 4, 4, 4]",
            "hmc.chains=8",
            "hmc.trajectories=8",
            "flow.draws=[1, 8]",
            "flow.exact=false",
        ],
    ),
];
/// Couplings of the pure gauge theory: two of strong coupling, and one with published numbers.
const BETAS: [f64; 3] = [1.0, 2.0, 5.7];

/// Runs all stages that are not finished yet and writes the report.
///
/// # Errors
/// When a stage fails; what is finished stays.
pub(crate) fn repro_qcd(arguments: &ReproQcd) -> Result<ExitCode> {
    let ReproQcd { scale, scheme, train, device, .. } = arguments;
    let default = || PathBuf::from("runs").join(format!("repro-qcd-{}", name(scale)));
    let place = Place {
        command: "repro-qcd",
        resume: arguments.resume.as_deref(),
        out: arguments.out.clone().unwrap_or_else(default),
        force: arguments.force,
        device,
    };
    let (stages, plan) =
        Stages::open(place, Plan { scale: *scale, scheme: *scheme, train: *train, device: device.clone() })?;
    let mut qcd = Qcd::default();
    let Runs { hmc, reweighting, flows, spectral, frontier, pure } = plan.runs()?;
    let only_flows = plan.scheme == Scheme::Flow;
    let only_hmc = plan.scheme == Scheme::Hmc;
    let run = |(folder, config): (PathBuf, Config)| stages.run(Run::Hmc, &folder, config, Files::new());
    for pair in pure.into_iter().filter(|_| !only_flows) {
        let [heat_bath, hmc] = pair;
        let Some(heat_bath) = run(heat_bath)? else { return Ok(stages.interrupted()) };
        let Some(hmc) = run(hmc)? else { return Ok(stages.interrupted()) };
        qcd.pure.push([heat_bath, hmc]);
    }
    let Some(finished) = run(hmc)? else { return Ok(stages.interrupted()) };
    qcd.hmc = Some(finished);
    if !only_flows {
        let Some(finished) = run(reweighting)? else { return Ok(stages.interrupted()) };
        qcd.schemes.push(report::Scheme { label: "pure gauge, reweighted".into(), run: finished });
    }
    for (label, folder, config) in flows.into_iter().filter(|_| !only_hmc) {
        let Some(run) = run((folder, config))? else { return Ok(stages.interrupted()) };
        qcd.schemes.push(report::Scheme { label, run });
    }
    if !only_hmc {
        let Some(found) = spectral.run(&stages, plan.scale)? else { return Ok(stages.interrupted()) };
        for (label, run) in
            ["the paper's architecture", "its links, our pseudofermions"].iter().zip(found.samples)
        {
            qcd.schemes.push(report::Scheme { label: (*label).into(), run });
        }
        qcd.cost = found.cost;
    }
    for (label, folder, config) in frontier.into_iter().filter(|_| !only_hmc) {
        let Some(run) = run((folder, config))? else { return Ok(stages.interrupted()) };
        qcd.frontier.push(report::Scheme { label, run });
    }
    let tables = report::write(stages.root(), &plan.flags(), &qcd)?;
    let schemes = qcd.schemes.iter().chain(&qcd.frontier).map(|scheme| &scheme.run);
    stages.conclude(qcd.hmc.iter().chain(schemes).chain(qcd.pure.iter().flatten()), &tables)
}

#[cfg(test)]
mod tests {
    use clap::{Parser, ValueEnum};

    use super::{Plan, ReproQcd, Scale, Scheme, Spectral};
    use crate::config::{Config, FermionTreatment, Integrator, Theory, Update};
    use crate::paper::qcd::PUBLISHED;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        repro: ReproQcd,
    }

    fn plan(scale: Scale) -> Plan {
        Plan { scale, scheme: Scheme::All, train: false, device: "cpu".into() }
    }

    fn action(config: &Config) -> (f64, Option<f64>, u32) {
        let Theory::Qcd(action) = &config.action else { panic!("{:?}", config.action) };
        (action.beta, action.kappa, action.n_f)
    }

    #[test]
    fn every_scale_is_at_the_papers_point_with_the_papers_trajectories() {
        for scale in Scale::value_variants() {
            let runs = plan(*scale).runs().unwrap();
            for (_, config) in [&runs.hmc, &runs.reweighting] {
                assert_eq!(action(config), (PUBLISHED.beta, Some(PUBLISHED.kappa), 2));
                assert_eq!(config.lattice.dims, PUBLISHED.dims);
            }
            let hmc = &runs.hmc.1.hmc;
            assert_eq!((hmc.trajectory_length, hmc.steps), (PUBLISHED.trajectory_length, PUBLISHED.steps));
            assert_eq!((hmc.integrator, hmc.target_acceptance), (Integrator::Leapfrog, 0.0));
            assert_eq!(hmc.fermions, FermionTreatment::Pseudofermion);
            assert_eq!(runs.reweighting.1.hmc.method, Update::HeatBath);
            for [heat_bath, hmc] in &runs.pure {
                assert_eq!(action(&heat_bath.1), action(&hmc.1));
                assert_eq!(action(&hmc.1).2, 0);
                assert_eq!((heat_bath.1.hmc.method, hmc.1.hmc.method), (Update::HeatBath, Update::Hmc));
            }
        }
    }

    /// The weights that come with the program are of the architecture that is sampled, trained at the paper's point.
    #[test]
    fn shipped_weights_fit() {
        let spectral = plan(Scale::Desk).spectral().unwrap();
        let bytes = super::shipped::qcd_weights("spectral_desk").expect("weights");
        let card = crate::model::read_card(bytes).unwrap().expect("a model card");
        for config in [&spectral.sample, &spectral.exponential] {
            assert_eq!(card.other_than(config), None);
        }
        assert_eq!((&card.action["beta"], &card.action["kappa"]), (&1.0.into(), &0.1.into()));
    }

    /// 8 streams, 500 trajectories dropped, every tenth kept: 6.5 thousand configurations of 65 thousand.
    #[test]
    fn the_papers_statistics() {
        let config = plan(Scale::Paper).runs().unwrap().hmc.1;
        assert_eq!((config.hmc.chains, config.hmc.thermalization, config.hmc.measure_every), (8, 500, 10));
        let all = config.hmc.chains as u64 * config.hmc.trajectories;
        assert!((65_000..66_000).contains(&all), "{all}");
    }

    #[test]
    fn no_two_ensembles_share_a_seed_or_a_folder() {
        let runs = plan(Scale::Desk).runs().unwrap();
        let Spectral { links, pseudofermions, sample, exponential, full: [first, second], .. } =
            runs.spectral;
        let spectral = [links, pseudofermions, sample, exponential, first, second];
        let named =
            spectral.into_iter().enumerate().map(|(k, config)| (format!("spectral/{k}").into(), config));
        let flows = runs.flows.into_iter().chain(runs.frontier).map(|(_, folder, config)| (folder, config));
        let pure = runs.pure.into_iter().flatten();
        let all: Vec<(std::path::PathBuf, Config)> =
            [runs.hmc, runs.reweighting].into_iter().chain(pure).chain(flows).chain(named).collect();
        for (index, (folder, config)) in all.iter().enumerate() {
            assert!(all[..index].iter().all(|(other, theirs)| other != folder && theirs.seed != config.seed));
        }
    }

    #[test]
    fn a_plan_says_how_to_ask_for_it_again() {
        for text in ["--scale desk", "--scale smoke --scheme hmc", "--scale paper --train --device cuda:1"] {
            let words = std::iter::once("test").chain(text.split_whitespace());
            let ReproQcd { scale, scheme, train, device, .. } = Line::parse_from(words).repro;
            let plan = Plan { scale, scheme, train, device };
            assert_eq!(plan.flags(), text);
        }
    }
}
