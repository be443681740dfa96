//! Configurations: what is refused, in which words, and that a complete one survives being written and read.

use latflow::config::{Config, Needs, Override, from_text};

const GOOD: &str = "\
seed = 1
[lattice]
dims = [16, 16]
[action.yukawa]
m2 = -4
lambda = 6.0
g = 0.1
fermion_mass = 0.0
";

fn read(text: &str, overrides: &[&str]) -> Result<Config, String> {
    let overrides: Result<Vec<Override>, _> = overrides.iter().map(|text| text.parse()).collect();
    let overrides = overrides.map_err(|error| error.to_string())?;
    from_text("run.toml", text, &overrides, Needs::Flow).map_err(|error| error.to_string())
}

#[test]
fn the_physics_alone_is_a_configuration() {
    let config = read(GOOD, &[]).unwrap();
    assert_eq!(config.lattice.dims, [16, 16]);
    assert_eq!(config.device, "cpu");
}

#[test]
fn a_complete_configuration_comes_back_exactly() {
    let overrides = [
        "train.lr=[[0, 0.001], [100, 1e-4]]",
        "action.yukawa.g=0.30000000000000004",
        "hmc.integrator=leapfrog",
    ];
    let config = read(GOOD, &overrides).unwrap();
    let again = read(&config.to_toml(), &[]).unwrap();
    assert_eq!(config, again);
    assert_eq!(config.hash(), again.hash());
    assert_ne!(config.hash(), read(GOOD, &[]).unwrap().hash());
    assert_eq!(config.train.lr, [(0, 1e-3), (100, 1e-4)]);
}

/// `(change of the good file or override, words that the error must contain)`
#[test]
fn every_bad_input_is_named_with_file_key_value_and_remedy() {
    let replaced = |from: &str, to: &str| {
        assert!(GOOD.contains(from));
        GOOD.replace(from, to)
    };
    let files: &[(String, &[&str])] = &[
        (
            replaced("lambda = 6.0", "lamda = 6.0"),
            &["run.toml:6", "action.yukawa.lamda = 6.0", "unknown key", "did you mean `lambda`"],
        ),
        (replaced("lambda = 6.0\n", ""), &["run.toml", "action.yukawa.lambda", "missing"]),
        (
            replaced("lambda = 6.0", "lambda = -1.0"),
            &["run.toml:6", "action.yukawa.lambda = -1.0", "unbounded below", "lambda > 0"],
        ),
        (replaced("lambda = 6.0", "lambda = 0.0"), &["run.toml:6", "action.yukawa.lambda", "m2 = -4"]),
        (
            replaced("lambda = 6.0", "lambda = \"six\""),
            &["run.toml:6", "lambda = \"six\"", "wrong type", "a number"],
        ),
        (replaced("lambda = 6.0", "lambda = nan"), &["run.toml:6", "lambda = nan", "finite"]),
        (replaced("m2 = -4", "m2 = inf"), &["run.toml:5", "m2 = inf", "finite"]),
        (
            replaced("[16, 16]", "[16, 15]"),
            &["run.toml:3", "lattice.dims = [16, 15]", "15 is odd", "even extent"],
        ),
        (replaced("[16, 16]", "[0, 16]"), &["run.toml:3", "lattice.dims", "0 is too small"]),
        (replaced("[16, 16]", "[]"), &["run.toml:3", "lattice.dims = []", "no direction"]),
        (replaced("[16, 16]", "[16, -16]"), &["run.toml:3", "lattice.dims", "-16", "not negative"]),
        (replaced("[16, 16]", "16"), &["run.toml:3", "lattice.dims = 16", "wrong type", "a list"]),
        (replaced("[16, 16]", "[16.0, 16]"), &["run.toml:3", "lattice.dims", "wrong type", "whole number"]),
        (replaced("[16, 16]", "[65536, 65536]"), &["run.toml:3", "lattice.dims", "more sites"]),
        (replaced("seed = 1", "seed = -1"), &["run.toml:1", "seed = -1", "not negative"]),
        (replaced("seed = 1\n", ""), &["run.toml", "seed", "missing from the top level"]),
        (replaced("seed = 1", "seed = 1\nsede = 2"), &["run.toml:2", "sede = 2", "did you mean `seed`"]),
        (replaced("[action.yukawa]", "[action.yukava]"), &["run.toml:4", "yukava", "did you mean `yukawa`"]),
        (replaced("[lattice]", "[latice]"), &["run.toml:2", "latice", "did you mean `lattice`"]),
        (replaced("seed = 1", "seed = "), &["run.toml:1", "not valid TOML"]),
        (replaced("m2 = -4", "m2 = -4\nm2 = -4"), &["run.toml:6", "not valid TOML", "duplicate"]),
        (format!("{GOOD}fermion_boundary = \"open\"\n"), &["run.toml:9", "`open`", "antiperiodic, periodic"]),
        (
            format!("{GOOD}fermion_boundary = \"periodic\"\n"),
            &["run.toml:9", "action.yukawa.fermion_boundary = \"periodic\"", "singular", "even_odd = false"],
        ),
    ];
    for (text, words) in files {
        let error = read(text, &[]).expect_err(&format!("must be refused:\n{text}"));
        for word in *words {
            assert!(error.contains(word), "expected `{word}` in:\n{error}\nfor\n{text}");
        }
    }
    let overrides: &[(&str, &[&str])] = &[
        ("hmc.steps=0", &["--set hmc.steps=0", "hmc.steps = 0", "1, 2, 3"]),
        ("hmc.integrator=euler", &["--set hmc.integrator=euler", "hmc.integrator", "leapfrog, omelyan"]),
        ("hmc.fermions=pseudofermions", &["did you mean `pseudofermion`"]),
        ("hmc.chains=0", &["hmc.chains = 0"]),
        ("hmc.trajectory_length=-1", &["--set", "hmc.trajectory_length = -1", "positive"]),
        ("hmc.trajectory_length=inf", &["hmc.trajectory_length = inf"]),
        ("hmc.target_acceptance=1.5", &["hmc.target_acceptance = 1.5", "probability"]),
        ("hmc.solver_tolerance=0", &["hmc.solver_tolerance = 0"]),
        ("hmc.trajectory=10", &["did you mean `trajectories`"]),
        ("train.steps=0", &["train.steps = 0"]),
        ("train.batch=many", &["train.batch = \"many\"", "wrong type", "whole number"]),
        ("train.lr=[[10, 1e-3]]", &["train.lr", "does not begin at step 0"]),
        ("train.lr=[[0, 1e-3], [0, 1e-4]]", &["train.lr", "do not increase"]),
        ("train.lr=[[0, -1e-3]]", &["train.lr", "not positive"]),
        ("train.lr=0.001", &["train.lr = 0.001", "wrong type"]),
        ("train.clip.norm=0", &["--set train.clip.norm=0", "train.clip.norm = 0"]),
        ("train.gradient=exact", &["train.gradient", "determinant, stochastic"]),
        ("sample.steps=10", &["sample.steps", "nothing to measure", "100"]),
        ("model.marginal.prior.gaussian.sigma=0", &["model.marginal.prior.gaussian.sigma = 0"]),
        (
            "model.marginal.layers=[{ cubic_root = { cubic = 1 } }, { affine_coupling = { kernel = 2 } }]",
            &["model.marginal.layers[1].affine_coupling.kernel = 2", "odd"],
        ),
        (
            "model.marginal.layers=[{ affine_coupling = { kernel = 17 } }]",
            &["kernel = 17", "smallest extent 16"],
        ),
        (
            "model.marginal.layers=[{ spline = { knots = 8 } }]",
            &["model.marginal.layers[0].spline", "`spline`", "cubic_root"],
        ),
        (
            "model.marginal.layers=[{ repeat = { times = 2, layers = [{ cubic_root = { cubik = 1 } }] } }]",
            &["model.marginal.layers[0].repeat.layers[0].cubic_root.cubik = 1", "did you mean `cubic`"],
        ),
        ("model.marginal.layers=[{ repeat = { times = 0, layers = [] } }]", &["repeat.times = 0"]),
        ("model.marginal.layers=[]", &["model.marginal.layers = []", "at least one"]),
        ("train.estimator=score", &["train.estimator", "total, path"]),
        ("model.scheme=conditional", &["model.scheme", "marginal, autoregressive, gibbs, joint"]),
        (
            "model.marginal.layers=[{ decimation = { powers = 5 } }]",
            &["model.marginal.layers[0].decimation.powers = 5", "4, 6, 8"],
        ),
        (
            "model.marginal.layers=[{ convex_potential = { convs = 1 } }]",
            &["convex_potential.convs = 1", "2, 3, 4"],
        ),
        (
            "model.conditional.kind={ linear = { operators = 0 } }",
            &["model.conditional.kind.linear.operators = 0"],
        ),
        ("model.gibbs.kind={ couplings = { kernel = 2 } }", &["gibbs.kind.couplings.kernel = 2", "odd"]),
        ("model.joint.kind={ couplings = { sigma_pf = 0 } }", &["joint.kind.couplings.sigma_pf = 0"]),
        ("sample.method=metropolis", &["sample.method", "prior_langevin"]),
        ("sample.draws=0", &["sample.draws = 0"]),
        ("sample.angle=2", &["sample.angle = 2", "π/2"]),
        ("sample.measure_every=100000", &["sample.measure_every", "no measurement"]),
        ("sample.solver_tolerance=0", &["sample.solver_tolerance = 0"]),
        ("device=gpu", &["device = \"gpu\"", "cuda:0"]),
        ("action.yukawa.lambda=-2", &["--set action.yukawa.lambda=-2", "action.yukawa.lambda = -2"]),
        ("lattice.dims=[3, 4]", &["--set lattice.dims=[3, 4]", "3 is odd"]),
        ("seed.x=1", &["--set seed.x=1", "is a value, not a section"]),
        ("seed", &["--set seed", "no '='"]),
        ("seed=", &["the value is empty"]),
        ("a..b=1", &["empty"]),
        ("lattice.dims=[3", &["not valid TOML"]),
        ("seed=1\nother = 2", &["--set"]),
    ];
    for (text, words) in overrides {
        let error = read(GOOD, &[text]).expect_err(&format!("must be refused: --set {text}"));
        for word in *words {
            assert!(error.contains(word), "expected `{word}` in:\n{error}\nfor --set {text}");
        }
    }
}

/// `(what is asked for together, words that the error must contain)`
#[test]
fn combinations_that_cannot_be_are_refused() {
    let linear = "model.conditional.kind={ linear = { penalty = 1e-5 } }";
    let autoregressive = "model.scheme=autoregressive";
    let full = "action.yukawa.even_odd=false";
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["model.scheme=gibbs", "sample.method=prior_hmc"],
            &["sample.method = \"prior_hmc\"", "independence"],
        ),
        (&["model.scheme=joint", "sample.method=pseudo_marginal"], &["sample.method"]),
        (&[autoregressive, linear], &["action.yukawa.even_odd", "all sites"]),
        (&[autoregressive, linear, full, "train.estimator=path"], &["train.estimator", "penalty"]),
        (
            &[autoregressive, "model.conditional.kind={ exponential = { order = 2 } }"],
            &["exponential.order = 2", "0 … 1"],
        ),
        (
            &[autoregressive, full, "model.conditional.kind={ exponential = { order = 3 } }"],
            &["exponential.order = 3", "0 … 2"],
        ),
        (&["model.scheme=gibbs", full], &["action.yukawa.even_odd", "couplings"]),
        (&["model.scheme=joint", "lattice.dims=[4, 4, 4]"], &["model.joint.kind", "two dimensions"]),
    ];
    for (overrides, words) in cases {
        let error = read(GOOD, overrides).expect_err(&format!("must be refused: {overrides:?}"));
        for word in *words {
            assert!(error.contains(word), "expected `{word}` in:\n{error}\nfor {overrides:?}");
        }
    }
    assert!(read(GOOD, &[autoregressive, linear, full, "train.estimator=total"]).is_ok());
    // A solver that nothing asks for may be anything.
    for (fermions, used) in [("pseudofermion", true), ("determinant", true), ("none", false)] {
        let fermions = format!("hmc.fermions={fermions}");
        assert_eq!(read(GOOD, &[&fermions, "hmc.solver_tolerance=0"]).is_err(), used, "{fermions}");
    }
}

#[test]
fn commands_ask_for_no_more_than_they_need() {
    let periodic = format!("{GOOD}fermion_boundary = \"periodic\"\n");
    let accepts = |overrides: &[&str], needs: Needs| {
        let overrides: Vec<Override> = overrides.iter().map(|text| text.parse().unwrap()).collect();
        from_text("run.toml", &periodic, &overrides, needs).is_ok()
    };
    assert!(!accepts(&[], Needs::Sampling));
    assert!(accepts(&["action.yukawa.even_odd=false"], Needs::Sampling));
    assert!(accepts(&["action.yukawa.fermion_mass=0.1"], Needs::Sampling));
    let couplings = "model.marginal.layers=[{ affine_coupling = {} }]";
    let tiny = ["lattice.dims=[2, 4]", "action.yukawa.fermion_mass=1", couplings];
    assert!(
        accepts(&tiny, Needs::Sampling) && !accepts(&tiny, Needs::Flow),
        "a 3×3 network needs three sites"
    );
    assert!(accepts(&[], Needs::FullOperator), "D(φ) of a given field may be regular");
    assert!(!accepts(&["action.yukawa.g=0"], Needs::FullOperator), "the free operator never is");
}
