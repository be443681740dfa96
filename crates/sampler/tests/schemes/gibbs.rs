//! The Gibbs scheme.

use crate::{CPU, Theory, noise, quadrature, run, scalar_conditional, theory};
use candle_core::{DType, Tensor};
use latflow_flow::{Distribution, Sample};
use latflow_lattice::{Rng, Streams, normal_tensor};
use latflow_sampler::{Error, GibbsFlow, MarkovKernel};

#[test]
fn the_gibbs_scheme_is_exact() {
    let exact = quadrature();
    let Theory { full, even_odd, .. } = theory();
    let start = || noise(1, &[400, 2], 0.5);
    let fields = |phi: &Tensor| (phi.clone(), None);
    let runs = [
        ("full", run(&GibbsFlow::new(scalar_conditional(), full), start(), fields, 1600, 2)),
        ("even/odd", run(&GibbsFlow::new(scalar_conditional(), even_odd), start(), fields, 1600, 3)),
    ];
    for (name, run) in runs {
        run.agrees(name, &exact);
        assert!((0.05..0.8).contains(&run.acceptance), "{name}: {}", run.acceptance);
    }
}

/// Proposals around zero and nowhere else, as from a flow whose grid ends too early.
struct Bounded;

impl Sample<Tensor, Tensor> for Bounded {
    fn sample(&self, n: usize, _: &Tensor, rng: &mut Rng) -> latflow_flow::Result<Tensor> {
        Ok(normal_tensor(rng, 0.1, &[n, 2], DType::F64, &CPU)?.clamp(-0.5, 0.5)?)
    }
}

impl Distribution<Tensor, Tensor> for Bounded {
    fn log_prob(&self, x: &Tensor, _: &Tensor) -> latflow_flow::Result<Tensor> {
        let inside = x.abs()?.max(1)?.le(0.5)?;
        let (zero, nothing) = (Tensor::zeros(x.dim(0)?, DType::F64, &CPU)?, f64::NEG_INFINITY);
        Ok(inside.where_cond(&zero, &Tensor::full(nothing, x.dim(0)?, &CPU)?)?)
    }
}

#[test]
fn a_chain_that_could_never_move_is_an_error() {
    let kernel = GibbsFlow::new(Bounded, theory().full);
    let mut rng = Streams::new(5).stream("test", 0);
    let step = |phi: f64, rng: &mut Rng| {
        let start = Tensor::new(&[[0.1, 0.2], [0.1, phi]], &CPU).unwrap();
        kernel.step(start, rng)
    };
    assert!(step(0.3, &mut rng).is_ok());
    assert!(matches!(step(0.6, &mut rng), Err(Error::Start { chain: 1, .. })));
}
