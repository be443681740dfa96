//! Pure gauge theory: heat bath and HMC against solvable models, strong coupling and each other.

mod heat_bath;
mod hmc;
mod oracle;

use candle_core::{DType, Device, Tensor};
use latflow_action::WilsonGauge;
use latflow_lattice::gauge::{matrix, path};
use latflow_lattice::{Lattice, Links, Rng, Streams, normal_tensor};
use latflow_sampler::MarkovKernel;

const CPU: Device = Device::Cpu;

fn rng(seed: u64) -> Rng {
    Streams::new(seed).stream("test", 0)
}

fn noise(shape: &[usize], rng: &mut Rng) -> Tensor {
    normal_tensor(rng, 1.0, shape, DType::F64, &CPU).unwrap()
}

fn theory(dims: &[usize], n: usize, beta: f64) -> WilsonGauge {
    WilsonGauge::new(&Lattice::new(dims).unwrap(), n, beta).unwrap()
}

fn haar(action: &WilsonGauge, chains: usize, seed: u64) -> Links {
    Links::haar(action.lattice(), chains, action.colours(), &mut rng(seed), &CPU).unwrap()
}

/// Mean of Re tr W/N over sites and planes of the R × 1 loop of each chain.
fn loops(action: &WilsonGauge, links: &Links, long: usize) -> Vec<f64> {
    let (lattice, d) = (action.lattice(), action.lattice().ndim());
    let mut sum: Option<Tensor> = None;
    for mu in 0..d {
        for nu in mu + 1..d {
            let mut steps = vec![(mu, 1); long];
            steps.push((nu, 1));
            steps.extend(vec![(mu, -1); long]);
            steps.push((nu, -1));
            let traces = matrix::re_trace(&path(links, lattice, &steps).unwrap()).unwrap().mean(1).unwrap();
            sum = Some(match sum {
                Some(sum) => (sum + traces).unwrap(),
                None => traces,
            });
        }
    }
    let scale = 2.0 / (d * (d - 1) * action.colours()) as f64;
    (sum.unwrap() * scale).unwrap().to_vec1::<f64>().unwrap()
}

/// Mean and error of independent chains.
fn over_chains(rows: &[Vec<f64>]) -> (f64, f64) {
    let chains = rows[0].len();
    let means: Vec<f64> =
        (0..chains).map(|c| rows.iter().map(|r| r[c]).sum::<f64>() / rows.len() as f64).collect();
    let mean = means.iter().sum::<f64>() / chains as f64;
    let variance = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / (chains * (chains - 1)) as f64;
    (mean, variance.sqrt())
}

/// Plaquettes and 2 × 1 loops of all chains after each kept step, and e^{log ratio} of each.
struct Series {
    plaquette: Vec<Vec<f64>>,
    two_by_one: Vec<Vec<f64>>,
    ratio: Vec<Vec<f64>>,
    acceptance: f64,
}

fn run<K: MarkovKernel<State = Links>>(
    kernel: &K,
    action: &WilsonGauge,
    start: Links,
    seed: u64,
    [discard, keep]: [usize; 2],
) -> Series {
    let mut rng = rng(seed);
    let mut series =
        Series { plaquette: Vec::new(), two_by_one: Vec::new(), ratio: Vec::new(), acceptance: 0.0 };
    let mut links = start;
    for step in 0..discard + keep {
        let (next, info) = kernel.step(links, &mut rng).unwrap();
        links = next;
        assert_eq!(info.nonfinite, 0);
        if step >= discard {
            series.plaquette.push(loops(action, &links, 1));
            series.two_by_one.push(loops(action, &links, 2));
            series.ratio.push(info.log_ratio.iter().map(|r| r.exp()).collect());
            series.acceptance += info.acceptance() / keep as f64;
        }
    }
    assert!(links.unitarity_deviation().unwrap() < 2e-15);
    series
}

/// Whether the minutes-long versions were asked for.
fn slow() -> bool {
    let slow = std::env::var_os("RUN_SLOW_TESTS").is_some();
    if !slow {
        eprintln!("skipped: set RUN_SLOW_TESTS=1");
    }
    slow
}
