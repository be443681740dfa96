//! The joint action of scalar and pseudofermion field: value, gradients in both, exact draws, normalisation.

use candle_core::{DType, Device, Tensor, Var};
use latflow_action::{
    Action, DeterminantAction, Error, HeatBath, Phi4, Pseudofermion, TrainingTarget, action_and_force,
};
use latflow_fermion::{
    ConjugateGradient, DenseYukawa, Dirac, EvenOddYukawa, IluYukawa, LinearOperator, NormalOperator,
    StaggeredYukawa, log_abs_det, to_dense,
};
use latflow_lattice::check::max_difference;
use latflow_lattice::{Boundary, Lattice, Parity, Streams, normal_tensor, sum_per_configuration};

const CPU: Device = Device::Cpu;
const TIGHT: ConjugateGradient = ConjugateGradient { tolerance: 1e-13, max_iterations: 1000 };

fn noise(seed: u64, shape: &[usize]) -> Tensor {
    normal_tensor(&mut Streams::new(seed).stream("test", 0), 0.5, shape, DType::F64, &CPU).unwrap()
}

fn theories() -> (Pseudofermion<Phi4, StaggeredYukawa>, Pseudofermion<Phi4, EvenOddYukawa>) {
    let lattice = Lattice::new(&[4, 6]).unwrap();
    let phi4 = Phi4::new(&lattice, -1.55, 2.4).unwrap();
    let full = StaggeredYukawa::new(&lattice, 0.1, 0.6, Boundary::Antiperiodic).unwrap();
    let even_odd = EvenOddYukawa::new(&full, Parity::Even, &CPU).unwrap();
    (Pseudofermion::new(phi4.clone(), full, TIGHT), Pseudofermion::new(phi4, even_odd, TIGHT))
}

/// Value, ∂S/∂φ and ∂S/∂ϕ of the joint action against independent routes to the same numbers.
fn check_joint<D: Dirac<Field = Tensor> + Clone>(theory: &Pseudofermion<Phi4, D>, name: &str) {
    let (phi, pf) = (noise(1, &[3, 24]), noise(2, &theory.dirac.vector_shape(3)));
    let (var_phi, var_pf) = (Var::from_tensor(&phi).unwrap(), Var::from_tensor(&pf).unwrap());
    let action = theory.action(&(var_phi.as_tensor().clone(), var_pf.as_tensor().clone())).unwrap();
    let gradients = action.sum_all().unwrap().backward().unwrap();
    let by_phi = gradients.get(&var_phi).unwrap();
    let by_pf = gradients.get(&var_pf).unwrap();

    let operator = theory.dirac.bind(&phi).unwrap();
    let inverse = TIGHT.solve(&NormalOperator(operator), &pf).unwrap().x;
    let form = sum_per_configuration(&(&pf * &inverse).unwrap()).unwrap();
    let expected = (theory.bosonic.action(&phi).unwrap() + form).unwrap();
    assert!(max_difference(&action, &expected).unwrap() < 1e-11, "{name}");
    assert!(max_difference(by_pf, &(inverse * 2.0).unwrap()).unwrap() < 1e-11, "{name}: 2 (DD†)⁻¹ϕ");

    let along = |gradient: &Tensor, direction: &Tensor| -> Vec<f64> {
        sum_per_configuration(&(gradient * direction).unwrap()).unwrap().to_vec1::<f64>().unwrap()
    };
    let (d_phi, d_pf) = (noise(3, &[3, 24]), noise(4, pf.dims()));
    let at = |h: f64, d_phi: &Tensor, d_pf: &Tensor| -> Vec<f64> {
        let pair = ((&phi + (d_phi * h).unwrap()).unwrap(), (&pf + (d_pf * h).unwrap()).unwrap());
        theory.action(&pair).unwrap().to_vec1::<f64>().unwrap()
    };
    let h = 1e-3;
    let (no_phi, no_pf) = (d_phi.zeros_like().unwrap(), d_pf.zeros_like().unwrap());
    for (what, gradient, d_phi, d_pf) in
        [("φ", along(by_phi, &d_phi), &d_phi, &no_pf), ("ϕ", along(by_pf, &d_pf), &no_phi, &d_pf)]
    {
        let [p1, m1, p2, m2] = [h, -h, 2.0 * h, -2.0 * h].map(|h| at(h, d_phi, d_pf));
        for b in 0..3 {
            let difference = (8.0 * (p1[b] - m1[b]) - (p2[b] - m2[b])) / (12.0 * h);
            assert!(
                (gradient[b] - difference).abs() < 1e-8 * (1.0 + difference.abs()),
                "{name}, {what}: {} and {difference}",
                gradient[b]
            );
        }
    }
    let pair = (phi, pf);
    let surrogate = theory.surrogate_action(&pair, &mut Streams::new(5).stream("test", 0)).unwrap();
    assert_eq!(max_difference(&surrogate, &theory.action(&pair).unwrap()).unwrap(), 0.0);
}

#[test]
fn the_joint_action_is_differentiable_in_both_fields() {
    let (full, even_odd) = theories();
    check_joint(&full, "full");
    check_joint(&even_odd, "even/odd");
    let wrong = (noise(1, &[3, 24]), noise(2, &[3, 2, 24]));
    assert!(matches!(even_odd.action(&wrong), Err(Error::Shape { what: "pseudofermion", .. })));
}

#[test]
fn joint_and_conditional_action_are_the_same_theory() {
    let (_, theory) = theories();
    let phi = noise(6, &[3, 24]);
    let heatbath = theory.heatbath(&phi, &mut Streams::new(7).stream("test", 0)).unwrap();
    let pf = HeatBath::draw(&theory, &phi, &mut Streams::new(7).stream("test", 0)).unwrap();
    assert_eq!(max_difference(&pf, heatbath.pf()).unwrap(), 0.0);
    let elsewhere = noise(8, &[3, 24]);
    let (conditional, force) = action_and_force(&heatbath, &elsewhere).unwrap();
    let alone = theory.pseudofermion_action(&elsewhere, &pf).unwrap();
    assert_eq!(max_difference(&conditional, &alone).unwrap(), 0.0);
    assert!(force.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap() > 1e-3);
}

#[test]
fn the_integral_over_the_pseudofermion_is_the_determinant() {
    // ∫dϕ e^{−S_PF} = π^N det DD†, for every operator the same function of φ up to the constant it reports.
    fn defect<D: Dirac<Field = Tensor>>(
        theory: &Pseudofermion<Phi4, D>,
        phi: &Tensor,
        action: &Tensor,
    ) -> f64 {
        let n = theory.dirac.components();
        let operator: &dyn LinearOperator = &theory.dirac.bind(phi).unwrap();
        let log_det = log_abs_det(&to_dense(operator, 3, n, phi).unwrap()).unwrap();
        let integral = log_det.affine(2.0, n as f64 * std::f64::consts::PI.ln()).unwrap();
        let reported = action.affine(-1.0, theory.log_normalisation()).unwrap();
        max_difference(&integral, &reported).unwrap()
    }
    let (full, even_odd) = theories();
    let ilu = Pseudofermion::new(even_odd.bosonic.clone(), IluYukawa::new(even_odd.dirac.clone()), TIGHT);
    let phi = noise(9, &[3, 24]);
    let action = DeterminantAction(DenseYukawa::full(&full.dirac)).action(&phi).unwrap();
    assert!(defect(&full, &phi, &action) < 1e-11);
    assert!(defect(&even_odd, &phi, &action) < 1e-11);
    assert!(defect(&ilu, &phi, &action) < 1e-11);
    // The constant is not zero here, so that the test would see it missing.
    assert!(even_odd.dirac.log_abs_det_constant().abs() > 0.1);
}
