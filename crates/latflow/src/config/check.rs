//! Values that parse but make no sense.
//!
//! Every finding names the key, says why the value is impossible and what is allowed. What depends on the command, such as
//! the zero modes of the free operator, is in [`Needs`].

use super::{
    Config, FermionBoundary, FermionTreatment, Gradient, Hmc, Method, ModelScheme, Sample, Theory, Train,
    Yukawa,
};
use super::{check_gauge, check_model, flow, model_gauge};

/// Something that cannot be right.
pub(super) struct Finding {
    pub(super) key: String,
    pub(super) problem: String,
    pub(super) allowed: String,
}

pub(super) type Checked = Result<(), Finding>;

pub(super) fn require(
    holds: bool,
    key: &str,
    problem: impl Into<String>,
    allowed: impl Into<String>,
) -> Checked {
    if holds {
        Ok(())
    } else {
        Err(Finding { key: key.into(), problem: problem.into(), allowed: allowed.into() })
    }
}

/// What a command is about to do; decides what else a configuration must fulfil.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// D(φ) of given fields alone.
    FullOperator,
    /// The even/odd form where the configuration asks for it.
    Sampling,
    /// That, and a network that fits the lattice.
    Flow,
}

pub(super) fn check(config: &Config) -> Checked {
    require(
        config.seed <= i64::MAX as u64,
        "seed",
        "does not fit the signed 64-bit integers of TOML",
        "0 … 9223372036854775807",
    )?;
    device(&config.device)?;
    lattice(&config.lattice.dims)?;
    match &config.action {
        Theory::Yukawa(action) => {
            check_yukawa(action)?;
            check_gauge::no_links(config)?;
        }
        Theory::Qcd(action) => check_gauge::qcd(config, action)?,
    }
    flow::check(config)?;
    hmc(&config.hmc)?;
    check_model::model(&config.model)?;
    train(&config.train)?;
    sample(&config.sample)
}

fn device(device: &str) -> Checked {
    let known = device == "cpu" || device.strip_prefix("cuda:").is_some_and(|n| n.parse::<usize>().is_ok());
    require(known, "device", "names no device", "\"cpu\", \"cuda:0\", \"cuda:1\", …")
}

fn lattice(dims: &[usize]) -> Checked {
    let allowed = "one even extent of at least 2 a direction, space first and time last, such as [16, 16]";
    require(!dims.is_empty(), "lattice.dims", "has no direction", allowed)?;
    for extent in dims {
        let problem = format!(
            "extent {extent} is {}",
            if extent % 2 == 1 {
                "odd: staggered fermions and checkerboards need even extents"
            } else {
                "too small"
            }
        );
        require(*extent >= 2 && extent % 2 == 0, "lattice.dims", problem, allowed)?;
    }
    let volume = dims.iter().try_fold(1usize, |volume, extent| volume.checked_mul(*extent));
    require(
        volume.is_some_and(|volume| volume <= u32::MAX as usize),
        "lattice.dims",
        "has more sites than can be numbered",
        "a product of the extents below 2³²",
    )
}

fn check_yukawa(action: &Yukawa) -> Checked {
    let key = |name: &str| format!("action.yukawa.{name}");
    for (name, value) in
        [("m2", action.m2), ("lambda", action.lambda), ("g", action.g), ("fermion_mass", action.fermion_mass)]
    {
        require(value.is_finite(), &key(name), "is not a finite number", "finite numbers")?;
    }
    require(
        action.lambda >= 0.0,
        &key("lambda"),
        "a negative quartic coupling leaves the action unbounded below: there is no probability density",
        "lambda > 0, or lambda = 0 with m2 > 0",
    )?;
    require(
        action.lambda > 0.0 || action.m2 > 0.0,
        &key("lambda"),
        format!(
            "without quartic coupling the action is bounded below only for positive m2, found m2 = {}",
            action.m2
        ),
        "lambda > 0, or lambda = 0 with m2 > 0",
    )
}

impl Needs {
    /// Checks what only some commands need.
    pub(super) fn check(self, config: &Config) -> Checked {
        let Theory::Yukawa(action) = &config.action else {
            return match self {
                Self::Flow => model_gauge::fits(config),
                Self::FullOperator | Self::Sampling => Ok(()),
            };
        };
        self.check_fermions(action)?;
        if self == Needs::Flow {
            require(
                !config.model.scheme.of_links(),
                "model.scheme",
                "is one of gauge theories",
                "\"marginal\", \"autoregressive\", \"gibbs\" or \"joint\"",
            )?;
            require(
                config.train.shift == 0.0,
                "train.shift",
                "regulates the Dirac operator of gauge theories",
                "0",
            )?;
            require(
                config.train.gradient != Gradient::Expansion,
                "train.gradient",
                "expands the determinant of Wilson fermions",
                "\"determinant\" or \"stochastic\"",
            )?;
            check_model::fits(config, action.even_odd)?;
            scheme_and_method(config)?;
        }
        Ok(())
    }

    /// Refuses massless fermions with periodic time where the operator to be used is singular.
    fn check_fermions(self, action: &Yukawa) -> Checked {
        if action.fermion_mass != 0.0 || action.fermion_boundary == FermionBoundary::Antiperiodic {
            return Ok(());
        }
        require(
            action.g != 0.0,
            "action.yukawa.fermion_mass",
            "free massless fermions with periodic time have zero modes: the Dirac operator is singular",
            "fermion_mass != 0, or fermion_boundary = \"antiperiodic\"",
        )?;
        require(
            self == Needs::FullOperator || !action.even_odd,
            "action.yukawa.fermion_boundary",
            "with fermion_mass = 0 and periodic time the hopping between even and odd sites is singular, \
             and the even/odd form divides by it",
            "fermion_boundary = \"antiperiodic\", fermion_mass != 0 with even_odd = false, or even_odd = false",
        )
    }
}

pub(super) fn positive(value: f64, key: &str) -> Checked {
    require(value > 0.0 && value.is_finite(), key, "must be positive", "finite numbers above 0")
}

pub(super) fn at_least_one(value: u64, key: &str) -> Checked {
    require(value >= 1, key, "nothing would happen", "1, 2, 3, …")
}

fn hmc(hmc: &Hmc) -> Checked {
    at_least_one(hmc.chains as u64, "hmc.chains")?;
    at_least_one(hmc.trajectories, "hmc.trajectories")?;
    at_least_one(hmc.steps as u64, "hmc.steps")?;
    at_least_one(hmc.measure_every, "hmc.measure_every")?;
    at_least_one(hmc.checkpoint_every, "hmc.checkpoint_every")?;
    require(
        hmc.substeps.len() <= 1 && hmc.substeps.iter().all(|n| *n > 0),
        "hmc.substeps",
        "is no division of a step: bosons and fermions have one time scale together or one each",
        "[] or [1], [2], [3], …",
    )?;
    require(
        hmc.substeps.is_empty() || hmc.fermions != FermionTreatment::None,
        "hmc.substeps",
        "divides the steps of fermions, and there are none",
        "[]",
    )?;
    require(
        hmc.measure_every <= hmc.trajectories,
        "hmc.measure_every",
        format!("no measurement would happen in {} trajectories", hmc.trajectories),
        "1 … hmc.trajectories",
    )?;
    positive(hmc.trajectory_length, "hmc.trajectory_length")?;
    require(
        (0.0..1.0).contains(&hmc.target_acceptance),
        "hmc.target_acceptance",
        "is not a probability that can be tuned to",
        "0 (keep hmc.steps) or a number between 0 and 1",
    )?;
    require(
        hmc.target_acceptance == 0.0 || hmc.thermalization > 0,
        "hmc.thermalization",
        "the step count is tuned during thermalization, and there is none",
        "at least 1, or hmc.target_acceptance = 0",
    )?;
    // With the determinant, too: the force norms of a pseudofermion are measured in every theory with fermions.
    if hmc.fermions != FermionTreatment::None {
        tolerance(hmc.solver_tolerance, "hmc.solver_tolerance")?;
        at_least_one(hmc.solver_iterations as u64, "hmc.solver_iterations")?;
    }
    Ok(())
}

pub(super) fn tolerance(value: f64, key: &str) -> Checked {
    require(
        value > 1e-15 && value < 1.0,
        key,
        "is out of reach of f64 or means nothing",
        "between 1e-15 and 1",
    )
}

fn train(train: &Train) -> Checked {
    require(train.batch >= 2, "train.batch", "is too small for an effective sample size", "2, 3, 4, …")?;
    at_least_one(train.steps, "train.steps")?;
    require(train.evaluation >= 2, "train.evaluation", "judges nothing", "2, 3, 4, …")?;
    at_least_one(train.log_every, "train.log_every")?;
    at_least_one(train.checkpoint_every, "train.checkpoint_every")?;
    let allowed = "[[0, rate], [step, rate], …] with increasing steps and rates above 0";
    require(
        train.lr.first().is_some_and(|(step, _)| *step == 0),
        "train.lr",
        "does not begin at step 0",
        allowed,
    )?;
    let increasing = train.lr.windows(2).all(|pair| pair[0].0 < pair[1].0);
    require(increasing, "train.lr", "has steps that do not increase", allowed)?;
    let rates = train.lr.iter().all(|(_, rate)| *rate > 0.0 && rate.is_finite());
    require(rates, "train.lr", "has a rate that is not positive", allowed)?;
    for (key, bound) in [("train.clip.value", train.clip.value), ("train.clip.norm", train.clip.norm)] {
        require(bound > 0.0, key, "must be positive", "numbers above 0; inf for no bound")?;
    }
    positive(train.adam_epsilon, "train.adam_epsilon")?;
    require(
        train.shift >= 0.0 && train.shift.is_finite(),
        "train.shift",
        "makes DD† smaller, or is not finite",
        "0 or a small positive number such as 1e-5",
    )?;
    tolerance(train.solver_tolerance, "train.solver_tolerance")?;
    at_least_one(train.solver_iterations as u64, "train.solver_iterations")
}

fn scheme_and_method(config: &Config) -> Checked {
    let (scheme, method) = (config.model.scheme, config.sample.method);
    let allowed = match scheme {
        ModelScheme::Marginal => {
            "independence, pseudo_marginal, prior_refreshment, prior_hmc, prior_langevin"
        }
        ModelScheme::Autoregressive => "independence, pseudo_marginal",
        ModelScheme::Gibbs | ModelScheme::Joint | ModelScheme::Gauge | ModelScheme::GaugePseudofermion => {
            "independence"
        }
    };
    let possible = match method {
        Method::Independence => true,
        Method::PseudoMarginal => matches!(scheme, ModelScheme::Marginal | ModelScheme::Autoregressive),
        Method::PriorRefreshment | Method::PriorHmc | Method::PriorLangevin => {
            scheme == ModelScheme::Marginal
        }
    };
    require(possible, "sample.method", "is no way to sample with this model.scheme", allowed)
}

fn sample(sample: &Sample) -> Checked {
    at_least_one(sample.draws as u64, "sample.draws")?;
    at_least_one(sample.measure_every, "sample.measure_every")?;
    at_least_one(sample.integrator_steps as u64, "sample.integrator_steps")?;
    at_least_one(sample.solver_iterations as u64, "sample.solver_iterations")?;
    tolerance(sample.solver_tolerance, "sample.solver_tolerance")?;
    positive(sample.trajectory_length, "sample.trajectory_length")?;
    positive(sample.step_size, "sample.step_size")?;
    require(
        sample.angle > 0.0 && sample.angle <= std::f64::consts::FRAC_PI_2,
        "sample.angle",
        "is no angle between staying and an independent draw",
        "above 0, up to π/2 = 1.5707963267948966",
    )?;
    at_least_one(sample.chains as u64, "sample.chains")?;
    at_least_one(sample.batch as u64, "sample.batch")?;
    at_least_one(sample.checkpoint_every, "sample.checkpoint_every")?;
    require(
        sample.steps > sample.thermalization,
        "sample.steps",
        format!("leaves nothing to measure after {} steps of thermalization", sample.thermalization),
        "more than sample.thermalization",
    )?;
    require(
        sample.measure_every <= sample.steps - sample.thermalization,
        "sample.measure_every",
        "no measurement would happen",
        "1 … sample.steps − sample.thermalization",
    )
}
