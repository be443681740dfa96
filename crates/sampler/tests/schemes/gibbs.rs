//! The Gibbs scheme.

use crate::{Theory, noise, quadrature, run, scalar_conditional, theory};
use candle_core::Tensor;
use latflow_sampler::GibbsFlow;

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
