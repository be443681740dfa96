//! The marginal scheme with the exact determinant and with estimates of it.

use crate::{Theory, agrees_log_z, marginal_flow, noise, pseudofermion_conditional, quadrature, run, theory};
use candle_core::Tensor;
use latflow_fermion::Dirac;
use latflow_lattice::Streams;
use latflow_sampler::{IndependenceMetropolis, MarkovKernel, PseudoMarginal, PseudofermionEstimate};

type Estimate<D> = PseudofermionEstimate<
    latflow_action::Phi4,
    D,
    latflow_flow::FlowModel<latflow_flow::Gaussian, crate::Affine>,
>;

fn estimate<D: Dirac<Field = Tensor> + Clone>(
    theory: &latflow_action::Pseudofermion<latflow_action::Phi4, D>,
    draws: usize,
) -> Estimate<D> {
    let conditional = pseudofermion_conditional(theory.dirac.components());
    PseudofermionEstimate::new(theory.clone(), conditional, draws).unwrap()
}

#[test]
fn one_draw_and_many_sample_the_same_density() {
    let exact = quadrature();
    let Theory { marginal, full, even_odd } = theory();
    let start = || noise(1, &[300, 2], 0.5);
    let fields = |phi: &Tensor| (phi.clone(), None);
    let reference = IndependenceMetropolis::new(marginal_flow(), marginal);
    let reference = run(&reference, start(), |s| fields(&s.x), 400, 2);
    reference.agrees("exact determinant", &exact);
    let one = PseudoMarginal::new(marginal_flow(), estimate(&full, 1));
    let one = run(&one, start(), |s| fields(&s.x), 1500, 3);
    one.agrees("1 draw", &exact);
    let reduced = PseudoMarginal::new(marginal_flow(), estimate(&even_odd, 1));
    run(&reduced, start(), |s| fields(&s.x), 600, 4).agrees("1 draw, even/odd", &exact);
    let many = PseudoMarginal::new(marginal_flow(), estimate(&full, 64));
    let many = run(&many, start(), |s| fields(&s.x), 300, 5);
    many.agrees("64 draws", &exact);
    // Noise costs acceptance, and averaging wins it back.
    let (upper, one, many) = (reference.acceptance, one.acceptance, many.acceptance);
    assert!(one < 0.9 * upper, "1 draw: {one}, exact: {upper}");
    assert!(upper - many < 0.2 * (upper - one) && many < upper + 0.01, "{one}, {many}, {upper}");
}

#[test]
fn estimates_have_the_partition_function_of_the_determinant() {
    let exact = quadrature();
    let Theory { marginal, full, even_odd } = theory();
    let mut rng = Streams::new(6).stream("test", 0);
    let n = 40_000;
    let weights = IndependenceMetropolis::new(marginal_flow(), marginal).propose(n, &mut rng).unwrap();
    agrees_log_z("exact determinant", &weights.log_weight, exact.log_z);
    let weights = PseudoMarginal::new(marginal_flow(), estimate(&full, 1)).propose(n, &mut rng).unwrap();
    agrees_log_z("1 draw", &weights.log_weight, exact.log_z);
    let weights = PseudoMarginal::new(marginal_flow(), estimate(&even_odd, 4)).propose(n, &mut rng).unwrap();
    agrees_log_z("4 draws, even/odd", &weights.log_weight, exact.log_z);
}

#[test]
fn the_estimate_belongs_to_the_state() {
    let Theory { full, .. } = theory();
    let kernel = PseudoMarginal::new(marginal_flow(), estimate(&full, 1));
    let mut rng = Streams::new(7).stream("test", 0);
    let mut state = kernel.init(noise(8, &[50, 2], 0.5), &mut rng).unwrap();
    let mut rejections = 0;
    for _ in 0..20 {
        // The same stream again gives the same proposal, with the estimate that the step must have compared.
        let proposed = kernel.propose(50, &mut rng.clone()).unwrap();
        let before = state.clone();
        let (after, info) = kernel.step(state, &mut rng).unwrap();
        for (c, accepted) in info.accepted.iter().enumerate() {
            let source = if *accepted { &proposed } else { &before };
            assert_eq!(after.log_weight[c], source.log_weight[c]);
            assert_eq!(info.log_ratio[c], proposed.log_weight[c] - before.log_weight[c]);
            let row = |x: &Tensor| x.get(c).unwrap().to_vec1::<f64>().unwrap();
            assert_eq!(row(&after.x), row(&source.x));
            rejections += usize::from(!accepted);
        }
        state = after;
    }
    assert!((100..950).contains(&rejections), "{rejections} of 1000");
}
