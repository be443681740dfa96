//! Shipped configurations: every one can be read, and those of the paper say what the paper prints.

use std::fs;
use std::path::{Path, PathBuf};

use latflow::config::{
    Activation, ConditionalKind, Config, Equivariance, Gradient, Layer, ModelScheme, Needs, PairKind, Prior,
    Theory, load,
};

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/yukawa")
}

fn read(name: &str) -> Config {
    load(&configs().join(name), &[], Needs::Flow).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn all_can_be_read_and_have_the_papers_couplings() {
    let mut count = 0;
    for folder in ["", "paper", "ours"] {
        for entry in fs::read_dir(configs().join(folder)).expect("configurations") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let needs = if folder.is_empty() { Needs::Sampling } else { Needs::Flow };
            let config = load(&path, &[], needs).unwrap_or_else(|error| panic!("{error}"));
            let name = path.file_name().expect("a name").to_str().expect("plain text");
            let Theory::Yukawa(action) = &config.action else { panic!("{:?}", config.action) };
            let expected = if name.contains("g0.1") { (-4.0, 6.0, 0.1) } else { (-1.55, 2.4, 0.3) };
            assert_eq!((action.m2, action.lambda, action.g), expected, "{name}");
            assert_eq!((action.fermion_mass, config.lattice.dims.as_slice()), (0.0, &[16, 16][..]), "{name}");
            // Only the autoregressive model does without even/odd preconditioning (caption of Table III).
            assert_eq!(action.even_odd, folder != "paper" || !name.starts_with("autoregressive"), "{name}");
            count += 1;
        }
    }
    assert_eq!(count, 6 + 16 + 8);
}

/// [QCD Sec. 3.1], typed from the paper; 16 bins are 49 numbers.
#[test]
fn the_qcd_papers_model_is_as_printed() {
    let read = |name: &str| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/qcd").join(name);
        load(&file, &[], Needs::Flow).unwrap_or_else(|error| panic!("{error}"))
    };
    let config = read("spectral_paper.toml");
    assert_eq!(config.model.scheme, ModelScheme::Gauge);
    let gauge = &config.model.gauge;
    assert_eq!(
        (gauge.layers, &gauge.channels[..], gauge.kernel, gauge.gain),
        (48, &[32, 32, 32][..], 3, 0.5)
    );
    assert_eq!(3 * gauge.bins + 1, 49);
    let train = &config.train;
    assert_eq!((train.batch, train.steps, train.gradient), (512, 21_000, Gradient::Stochastic));
    assert_eq!(train.lr, [(0, 1e-3), (10_000, 8e-4), (20_000, 0.8 * 8e-4)]);

    let config = read("spectral_pseudofermion_paper.toml");
    assert_eq!((config.model.scheme, &config.model.gauge), (ModelScheme::GaugePseudofermion, gauge));
    let ptcn = &config.model.ptcn;
    assert_eq!((ptcn.layers, ptcn.depth, ptcn.copies, ptcn.channels.last()), (36, 6, 4, Some(&8)));
    assert_eq!((config.train.batch, config.train.steps), (640, 16_000 + 28_000 + 17_000));
    assert_eq!(config.train.lr, [(0, 1e-4), (16_000, 5e-5), (16_000 + 20_000, 2.5e-5)]);
    for train in [train, &config.train] {
        assert_eq!((train.clip.value, train.clip.norm), (0.1, 10.0));
        assert_eq!((train.adam_epsilon, train.shift), (1e-2, 1e-5));
    }
}

/// A section that no command reads looks like a setting and is none: HMC has no flow, flows have no HMC.
#[test]
fn every_section_has_a_reader() {
    for (folder, sections) in [
        ("", &["hmc"][..]),
        ("paper", &["model", "train", "sample"]),
        ("ours", &["model", "train", "sample"]),
    ] {
        for entry in fs::read_dir(configs().join(folder)).expect("configurations") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                continue;
            }
            let text = fs::read_to_string(&path).expect("a configuration");
            let table: toml::Table = toml::from_str(&text).expect("TOML");
            let known = |key: &str| ["seed", "lattice", "action"].contains(&key) || sections.contains(&key);
            let unread: Vec<&String> = table.keys().filter(|key| !known(key)).collect();
            assert!(unread.is_empty(), "{}: {unread:?}", path.display());
        }
    }
}

/// Layers, convolutions, channels, σ_ζ, σ_χ (NaN where there is none).
type Printed = (usize, usize, usize, f64, f64);

fn same(printed: Printed, found: Printed, what: &str) {
    assert_eq!((printed.0, printed.1, printed.2, printed.3), (found.0, found.1, found.2, found.3), "{what}");
    assert!(printed.4 == found.4 || printed.4.is_nan() && found.4.is_nan(), "{what}: {}", found.4);
}

/// Table IV, column by column, typed from the paper.
#[test]
fn the_papers_models_are_those_of_table_four() {
    for g in ["0.1", "0.3"] {
        let config = read(&format!("paper/marginal_g{g}.toml"));
        assert_eq!(config.model.scheme, ModelScheme::Marginal);
        let Prior::Gaussian { sigma } = config.model.marginal.prior;
        let [Layer::ConvexPotential(layer)] = &config.model.marginal.layers[..] else {
            panic!("marginal: {:?}", config.model.marginal.layers)
        };
        let found = (layer.count, layer.convs, layer.channels, sigma, f64::NAN);
        same((3, 4, 16, 0.34, f64::NAN), found, "marginal");
        // [YUK App. A]
        assert_eq!((layer.kernel, layer.nonlinear, layer.quadratic), (3, 5e-3, 1.0));
        assert_eq!(config.train.gradient, Gradient::Stochastic);
        train(&config, 500_000, 3072, &[(0, 1e-3), (80_000, 1e-4)], (10.0, 32.0));

        let config = read(&format!("paper/gibbs_g{g}.toml"));
        assert_eq!(config.model.scheme, ModelScheme::Gibbs);
        let PairKind::Couplings(c) = &config.model.gibbs.kind else { panic!("{:?}", config.model.gibbs) };
        same((16, 3, 32, 0.1, 0.1), (c.layers, c.convs, c.channels, c.sigma, c.sigma_pf), "gibbs");
        assert_eq!((c.kernel, c.final_activation), (3, Activation::Tanh));
        assert_eq!(c.equivariance, Equivariance::GroupAverage);
        train(&config, 30_000, 2000, &[(0, 1e-3), (20_000, 1e-5)], (f64::INFINITY, f64::INFINITY));

        let config = read(&format!("paper/autoregressive_g{g}.toml"));
        assert_eq!(config.model.scheme, ModelScheme::Autoregressive);
        let Prior::Gaussian { sigma } = config.model.marginal.prior;
        let [Layer::AffineCoupling(layer)] = &config.model.marginal.layers[..] else {
            panic!("autoregressive: {:?}", config.model.marginal.layers)
        };
        let ConditionalKind::Linear(linear) = &config.model.conditional.kind else {
            panic!("autoregressive: {:?}", config.model.conditional)
        };
        let found = (layer.count, layer.convs, layer.channels, sigma, linear.sigma);
        same((12, 10, 64, 0.34, 0.15), found, "autoregressive");
        assert_eq!((layer.kernel, layer.activation), (3, Activation::LeakyRelu));
        assert_eq!(layer.final_activation, Activation::Identity);
        // [YUK App. A]: 128 operators, 10 hidden layers of 64 channels and the one with 256.
        assert_eq!((linear.operators, linear.convs - 1, linear.channels), (128, 10, 64));
        assert_eq!((linear.kernel, linear.penalty), (3, 1e-5));
        train(&config, 200_000, 3072, &[(0, 1e-4), (60_000, 2e-5), (120_000, 1e-5)], (10.0, 32.0));

        let config = read(&format!("paper/joint_g{g}.toml"));
        assert_eq!(config.model.scheme, ModelScheme::Joint);
        let PairKind::Couplings(c) = &config.model.joint.kind else { panic!("{:?}", config.model.joint) };
        same((12, 6, 64, 0.34, 0.15), (c.layers, c.convs, c.channels, c.sigma, c.sigma_pf), "joint");
        assert_eq!((c.kernel, c.final_activation), (3, Activation::Tanh));
        assert_eq!(c.equivariance, Equivariance::Convolutions);
        train(&config, 50_000, 3072, &[(0, 3e-4), (30_000, 6e-5)], (10.0, 1000.0));
    }
}

/// The training of Table IV and the chains of Table III.
fn train(config: &Config, steps: u64, batch: usize, lr: &[(u64, f64)], clip: (f64, f64)) {
    let train = &config.train;
    assert_eq!((train.steps, train.batch, train.lr.as_slice()), (steps, batch, lr));
    assert_eq!((train.clip.value, train.clip.norm), clip);
    let sample = &config.sample;
    assert_eq!((sample.chains, sample.steps, sample.thermalization), (100, 10_000, 1000));
}
