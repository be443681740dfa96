//! Contract table of the splitting into two pseudofermions.

use candle_core::{DType, Device, Tensor, Var};
use latflow_action::{Action, HasenbuschPair, Sum, action_and_force};
use latflow_fermion::{
    ConjugateGradient, Dirac, EvenOddWilson, EvenOddYukawa, LinearOperator, NormalOperator, StaggeredYukawa,
    Wilson,
};
use latflow_lattice::check::max_difference;
use latflow_lattice::{
    Boundary, Configuration, Lattice, Links, Manifold, Parity, Rng, Streams, normal_tensor,
    sum_per_configuration,
};

const CPU: Device = Device::Cpu;
const TIGHT: ConjugateGradient = ConjugateGradient { tolerance: 1e-12, max_iterations: 2000 };

fn rng(seed: u64) -> Rng {
    Streams::new(seed).stream("test", 0)
}

fn noise(seed: u64, shape: &[usize]) -> Tensor {
    normal_tensor(&mut rng(seed), 1.0, shape, DType::F64, &CPU).unwrap()
}

fn quarks() -> (HasenbuschPair<EvenOddWilson>, Links) {
    let lattice = Lattice::new(&[2, 4, 2, 4]).unwrap();
    let dirac =
        |kappa: f64| EvenOddWilson::new(&Wilson::new(&lattice, kappa, Boundary::Antiperiodic).unwrap());
    let links = Links::haar(&lattice, 3, 3, &mut rng(1), &CPU).unwrap();
    (HasenbuschPair::new(dirac(0.14), dirac(0.1), TIGHT).unwrap(), links)
}

fn numbers(t: &Tensor) -> Vec<f64> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn at_its_own_heat_bath_the_action_is_that_of_the_noise() {
    // S(ϕ₁) = ‖χ₁‖², S(ϕ₂) = ‖χ₂‖² with the χ that drew them.
    fn check<D: Dirac + Clone>(fermions: &HasenbuschPair<D>, phi: &D::Field) {
        let mut noise = rng(2);
        let shape = fermions.light().vector_shape(phi.batch().unwrap());
        let sigma = std::f64::consts::FRAC_1_SQRT_2;
        let (heavy, ratio) = fermions.heatbath(phi, &mut rng(2)).unwrap();
        for action in [&heavy as &dyn Action<D::Field>, &ratio] {
            let chi = normal_tensor(&mut noise, sigma, &shape, DType::F64, &CPU).unwrap();
            let expected = numbers(&sum_per_configuration(&chi.sqr().unwrap()).unwrap());
            for (got, expected) in numbers(&action.action(phi).unwrap()).iter().zip(expected) {
                assert!((got - expected).abs() < 1e-9 * expected, "{got} and {expected}");
            }
        }
    }
    let (fermions, links) = quarks();
    check(&fermions, &links);
    let lattice = Lattice::new(&[4, 6]).unwrap();
    let staggered = |mass: f64| {
        let full = StaggeredYukawa::new(&lattice, mass, 0.3, Boundary::Antiperiodic).unwrap();
        EvenOddYukawa::new(&full, Parity::Even, &CPU).unwrap()
    };
    let fermions = HasenbuschPair::new(staggered(0.1), staggered(0.6), TIGHT).unwrap();
    check(&fermions, &noise(3, &[2, 24]));
}

#[test]
fn the_two_weights_multiply_to_the_determinant() {
    // Both actions are quadratic forms, whose matrices must multiply to (DD†)⁻¹ in determinant: D₁†(DD†)⁻¹D₁ · D₁⁻†D₁⁻¹ as operators.
    let (fermions, links) = quarks();
    let shape = fermions.light().vector_shape(3);
    let pf = noise(4, &shape);
    let (light, heavy) = (fermions.light().bind(&links).unwrap(), fermions.heavy().bind(&links).unwrap());
    let inverse = |d: &latflow_fermion::EvenOddWilsonOperator, v: &Tensor| {
        TIGHT.solve(&NormalOperator(d.clone()), v).unwrap().x
    };
    // ϕ† D₁†(DD†)⁻¹D₁ ϕ by operators, and with ϕ = D₁⁻¹ψ the one-pseudofermion action of ψ.
    let form = |v: &Tensor| inverse(&light, &heavy.apply(v).unwrap());
    let direct = sum_per_configuration(&(heavy.apply(&pf).unwrap() * form(&pf)).unwrap()).unwrap();
    let got = fermions.ratio_action(&links, &pf).unwrap();
    assert!(max_difference(&got, &direct).unwrap() < 1e-8);
    let whole = heavy.apply_adjoint(&inverse(&heavy, &pf)).unwrap();
    let one = sum_per_configuration(&(&pf * inverse(&light, &pf)).unwrap()).unwrap();
    let two = fermions.ratio_action(&links, &whole).unwrap();
    assert!(max_difference(&one, &two).unwrap() < 1e-8);
}

#[test]
fn forces_and_gradients_agree_with_differences() {
    let (fermions, links) = quarks();
    let (heavy, ratio) = fermions.heatbath(&links, &mut rng(5)).unwrap();
    let sum = Sum(heavy, ratio);
    // Away from the heat bath's own field, where the force of the second part is not special.
    let omega = (noise(6, &links.tangent_shape()) * 0.3).unwrap();
    let links = links.exp(&omega).unwrap();
    let omega = noise(7, &links.tangent_shape());
    let (_, force) = action_and_force(&sum, &links).unwrap();
    let along = numbers(&sum_per_configuration(&(force * &omega).unwrap()).unwrap());
    let at = |h: f64| numbers(&sum.action(&links.exp(&(&omega * h).unwrap()).unwrap()).unwrap());
    let h = 1e-4;
    let (a, b, c, d) = (at(h), at(-h), at(2.0 * h), at(-2.0 * h));
    for i in 0..3 {
        let expected = -(8.0 * (a[i] - b[i]) - (c[i] - d[i])) / (12.0 * h);
        assert!((along[i] - expected).abs() < 1e-6 * expected.abs().max(1.0), "{} and {expected}", along[i]);
    }
    let pf = Var::from_tensor(&noise(8, &fermions.light().vector_shape(3))).unwrap();
    let value = fermions.ratio_action(&links, &pf).unwrap().sum_all().unwrap();
    let gradient = value.backward().unwrap().get(&pf).unwrap().clone();
    // A quadratic form: ϕ · ∂S/∂ϕ = 2 S.
    let euler = sum_per_configuration(&(gradient * pf.as_tensor()).unwrap()).unwrap();
    let twice = (fermions.ratio_action(&links, &pf).unwrap() * 2.0).unwrap();
    assert!(max_difference(&euler, &twice).unwrap() < 1e-8);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (fermions, links) = quarks();
    let lattice = Lattice::new(&[2, 4, 2, 4]).unwrap();
    let full = |kappa: f64| Wilson::new(&lattice, kappa, Boundary::Antiperiodic).unwrap();
    let other = Lattice::new(&[2, 2, 2, 4]).unwrap();
    let other = Wilson::new(&other, 0.1, Boundary::Antiperiodic).unwrap();
    assert!(HasenbuschPair::new(full(0.1), full(0.05), TIGHT).is_ok());
    assert!(HasenbuschPair::new(full(0.1), other, TIGHT).is_err());
    assert!(fermions.ratio_action(&links, &noise(1, &[3, 2, 12])).is_err());
}
