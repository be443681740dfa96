//! Contract table of the Wilson operator: algebra, symmetries, free field, gradients, solvers.

#![allow(
    clippy::needless_range_loop,
    clippy::type_complexity,
    reason = "indices of matrices, and a table of closures"
)]

use candle_core::{DType, Device, Tensor, Var};
use latflow_fermion::check::{adjoint_defect, linearity_defect};
use latflow_fermion::{
    BiCgStab, ConjugateGradient, DenseWilson, Dirac, Error, EvenOddWilson, LinearOperator, NormalOperator,
    Shifted, Wilson, gamma, quadratic_form_of_inverse, regulated_log_det, regulated_quadratic_form,
    stochastic_log_det,
};
use latflow_kernels::wilson::{Sites, wilson_hop_composed};
use latflow_lattice::check::max_difference;
use latflow_lattice::gauge::haar_matrices;
use latflow_lattice::{
    Boundary, Lattice, Links, Manifold, Rng, Streams, normal_tensor, sum_per_configuration,
};
use num_complex::Complex64;

const CPU: Device = Device::Cpu;
const TIGHT: ConjugateGradient = ConjugateGradient { tolerance: 1e-12, max_iterations: 2000 };

fn rng(seed: u64) -> Rng {
    Streams::new(seed).stream("test", 0)
}

fn noise(seed: u64, shape: &[usize]) -> Tensor {
    normal_tensor(&mut rng(seed), 1.0, shape, DType::F64, &CPU).unwrap()
}

fn lattice(dims: &[usize]) -> Lattice {
    Lattice::new(dims).unwrap()
}

fn haar(seed: u64, lattice: &Lattice, batch: usize) -> Links {
    Links::haar(lattice, batch, 3, &mut rng(seed), &CPU).unwrap()
}

fn wilson(lattice: &Lattice, kappa: f64) -> Wilson {
    Wilson::new(lattice, kappa, Boundary::Antiperiodic).unwrap()
}

/// (extents, configurations): all ways in which lanes are filled.
const CASES: [([usize; 4], usize); 5] =
    [([4, 4, 4, 4], 9), ([4, 4, 4, 4], 1), ([8, 4, 4, 8], 1), ([2, 4, 2, 6], 3), ([2, 2, 2, 2], 2)];

#[test]
fn gamma_matrices_obey_the_clifford_algebra() {
    type M = [[Complex64; 4]; 4];
    let load = |mu: usize| -> M { gamma::matrix(mu).map(|row| row.map(|[re, im]| Complex64::new(re, im))) };
    let product = |a: &M, b: &M| -> M {
        std::array::from_fn(|i| std::array::from_fn(|j| (0..4).map(|k| a[i][k] * b[k][j]).sum()))
    };
    let all: [M; 4] = std::array::from_fn(load);
    for mu in 0..4 {
        for nu in 0..4 {
            let (ab, ba) = (product(&all[mu], &all[nu]), product(&all[nu], &all[mu]));
            for i in 0..4 {
                for j in 0..4 {
                    let expected = if mu == nu && i == j { 2.0 } else { 0.0 };
                    assert_eq!(ab[i][j] + ba[i][j], Complex64::new(expected, 0.0), "γ_{mu}γ_{nu}");
                    assert_eq!(all[mu][i][j], all[mu][j][i].conj(), "γ_{mu} is hermitian");
                }
            }
        }
    }
    let five = all[1..].iter().fold(all[0], |p, g| product(&p, g));
    for i in 0..4 {
        for j in 0..4 {
            let expected = if i == j { gamma::GAMMA5[i] } else { 0.0 };
            assert_eq!(five[i][j], Complex64::new(expected, 0.0), "γ₅");
        }
    }
}

/// (1 − κH)ψ by the composed hop.
fn composed(dirac: &Wilson, links: &Links, psi: &Tensor, adjoint: bool) -> Tensor {
    let antiperiodic = dirac.boundary() == Boundary::Antiperiodic;
    let h =
        wilson_hop_composed(links.tensor(), psi, dirac.lattice().dims(), antiperiodic, Sites::All, adjoint);
    (psi - (h.unwrap() * dirac.kappa()).unwrap()).unwrap()
}

#[test]
fn all_paths_of_the_operator_are_the_composed_one() {
    for (dims, batch) in CASES {
        let lattice = lattice(&dims);
        let links = haar(1, &lattice, batch);
        for boundary in [Boundary::Antiperiodic, Boundary::Periodic] {
            let dirac = Wilson::new(&lattice, 0.13, boundary).unwrap();
            let psi = noise(2, &dirac.vector_shape(batch));
            let operator = dirac.bind(&links).unwrap();
            let tracked = Var::from_tensor(&psi).unwrap();
            for adjoint in [false, true] {
                let expected = composed(&dirac, &links, &psi, adjoint);
                let apply = |v: &Tensor| {
                    if adjoint { operator.apply_adjoint(v).unwrap() } else { operator.apply(v).unwrap() }
                };
                assert!(max_difference(&apply(&psi), &expected).unwrap() < 1e-13, "{dims:?} in lanes");
                assert!(max_difference(&apply(&tracked), &expected).unwrap() < 1e-13, "{dims:?} tracked");
            }
        }
    }
}

#[test]
fn the_even_odd_operator_is_the_schur_complement() {
    for (dims, batch) in CASES {
        let lattice = lattice(&dims);
        let links = haar(3, &lattice, batch);
        let full = wilson(&lattice, 0.12);
        let reduced = EvenOddWilson::new(&full).bind(&links).unwrap();
        let even = noise(4, &[batch, 2, 6 * lattice.volume()]);
        let tracked = Var::from_tensor(&even).unwrap();
        for adjoint in [false, true] {
            // (1 − κH)(1 + κH) = 1 − κ²H² is D̂ on either sublattice.
            let zero = even.zeros_like().unwrap();
            let whole = reduced.join(&even, &zero).unwrap();
            let other = wilson(&lattice, -0.12);
            let squared = composed(&full, &links, &composed(&other, &links, &whole, adjoint), adjoint);
            let (expected, odd) = reduced.split(&squared).unwrap();
            assert!(max_difference(&odd, &zero).unwrap() < 1e-13);
            let apply = |v: &Tensor| {
                if adjoint { reduced.apply_adjoint(v).unwrap() } else { reduced.apply(v).unwrap() }
            };
            assert!(max_difference(&apply(&even), &expected).unwrap() < 1e-13, "{dims:?} in lanes");
            assert!(max_difference(&apply(&tracked), &expected).unwrap() < 1e-13, "{dims:?} tracked");
        }
    }
}

#[test]
fn adjoints_are_adjoint_operators_linear_and_gamma5_hermitian() {
    let lattice = lattice(&[4, 2, 2, 4]);
    let links = haar(5, &lattice, 3);
    let full = wilson(&lattice, 0.15);
    let reduced = EvenOddWilson::new(&full);
    let (v, w) = (noise(6, &full.vector_shape(3)), noise(7, &full.vector_shape(3)));
    let (ve, we) = (noise(8, &reduced.vector_shape(3)), noise(9, &reduced.vector_shape(3)));
    let (d, e) = (full.bind(&links).unwrap(), reduced.bind(&links).unwrap());
    let (normal, shifted) =
        (NormalOperator(e.clone()), Shifted::new(NormalOperator(e.clone()), 0.3).unwrap());
    let rows: [(&str, &dyn LinearOperator, &Tensor, &Tensor); 4] = [
        ("full", &d, &v, &w),
        ("even/odd", &e, &ve, &we),
        ("normal", &normal, &ve, &we),
        ("shifted", &shifted, &ve, &we),
    ];
    for (name, operator, v, w) in rows {
        assert!(adjoint_defect(operator, v, w).unwrap() < 1e-11, "{name}");
        assert!(linearity_defect(operator, 0.3, v, w).unwrap() < 1e-12, "{name}");
    }
    for (name, operator, v) in [("full", rows[0].1, &v), ("even/odd", rows[1].1, &ve)] {
        let there = operator.apply(&gamma::gamma5(v).unwrap()).unwrap();
        let back = gamma::gamma5(&there).unwrap();
        assert!(max_difference(&back, &operator.apply_adjoint(v).unwrap()).unwrap() < 1e-13, "{name}");
    }
    assert!(matches!(Shifted::new(normal, -1e-5), Err(Error::Shift { .. })));
}

/// Ω ψ for Ω `[B, V, 3, 3, 2]` and ψ `[B, 2, 12 V]`, by numbers.
fn rotate(omega: &Tensor, psi: &Tensor) -> Tensor {
    let (batch, _, n) = psi.dims3().unwrap();
    let o: Vec<f64> = omega.flatten_all().unwrap().to_vec1().unwrap();
    let p: Vec<f64> = psi.flatten_all().unwrap().to_vec1().unwrap();
    let mut out = vec![0.0; p.len()];
    for b in 0..batch {
        let at = |part: usize, i: usize| (b * 2 + part) * n + i;
        for spin in 0..n / 3 {
            let o = &o[(b * n / 12 + spin / 4) * 18..][..18];
            for i in 0..3 {
                let z: Complex64 = (0..3)
                    .map(|j| {
                        let k = 3 * spin + j;
                        let u = Complex64::new(o[2 * (3 * i + j)], o[2 * (3 * i + j) + 1]);
                        u * Complex64::new(p[at(0, k)], p[at(1, k)])
                    })
                    .sum();
                (out[at(0, 3 * spin + i)], out[at(1, 3 * spin + i)]) = (z.re, z.im);
            }
        }
    }
    Tensor::from_vec(out, psi.shape(), &CPU).unwrap()
}

#[test]
fn the_operator_is_gauge_covariant() {
    let lattice = lattice(&[2, 4, 2, 4]);
    let volume = lattice.volume();
    let links = haar(10, &lattice, 2);
    let omega = haar_matrices(2 * volume, 3, &mut rng(11), &CPU).unwrap();
    let omega = omega.reshape((2, volume, 3, 3, 2)).unwrap();
    let moved = links.gauge_transform(&lattice, &omega).unwrap();
    let dirac = wilson(&lattice, 0.14);
    let psi = noise(12, &dirac.vector_shape(2));
    let before = rotate(&omega, &dirac.bind(&links).unwrap().apply(&psi).unwrap());
    let after = dirac.bind(&moved).unwrap().apply(&rotate(&omega, &psi)).unwrap();
    assert!(max_difference(&before, &after).unwrap() < 1e-13);
    assert!(max_difference(links.tensor(), moved.tensor()).unwrap() > 0.1);
}

#[test]
fn plane_waves_diagonalise_the_free_operator() {
    // (D − a)² = −b² on a plane wave: the eigenvalues are a ± ib, a = 1 − 2κ Σ cos p, b = 2κ |sin p|.
    let lattice = lattice(&[2, 4, 6, 4]);
    let (kappa, dims) = (0.11, lattice.dims().to_vec());
    let links = Links::unit(&lattice, 1, 3, &CPU).unwrap();
    for boundary in [Boundary::Antiperiodic, Boundary::Periodic] {
        let operator = Wilson::new(&lattice, kappa, boundary).unwrap().bind(&links).unwrap();
        let half = if boundary == Boundary::Antiperiodic { 0.5 } else { 0.0 };
        for mode in 0..lattice.volume() {
            let p: Vec<f64> = lattice
                .coordinates(mode)
                .iter()
                .zip(&dims)
                .enumerate()
                .map(|(mu, (n, l))| {
                    std::f64::consts::TAU * (*n as f64 + if mu == 3 { half } else { 0.0 }) / *l as f64
                })
                .collect();
            let mut wave = vec![0.0; 24 * lattice.volume()];
            for x in 0..lattice.volume() {
                let phase: f64 = lattice.coordinates(x).iter().zip(&p).map(|(x, p)| *x as f64 * p).sum();
                for c in 0..12 {
                    // Some spin and colour dependence, the same at every site.
                    let z = Complex64::from_polar(1.0 + 0.1 * c as f64, phase + 0.3 * (c * c) as f64);
                    wave[12 * x + c] = z.re;
                    wave[12 * lattice.volume() + 12 * x + c] = z.im;
                }
            }
            let wave = Tensor::from_vec(wave, (1, 2, 12 * lattice.volume()), &CPU).unwrap();
            let a = 1.0 - 2.0 * kappa * p.iter().map(|p| p.cos()).sum::<f64>();
            let b2 = 4.0 * kappa * kappa * p.iter().map(|p| p.sin().powi(2)).sum::<f64>();
            let minus = |v: &Tensor| (operator.apply(v).unwrap() - (v * a).unwrap()).unwrap();
            let expected = (&wave * -b2).unwrap();
            assert!(max_difference(&minus(&minus(&wave)), &expected).unwrap() < 1e-13, "{p:?}");
        }
    }
}

/// (f(e^{hω}U) − f(e^{−hω}U)) / 2h.
fn difference(links: &Links, omega: &Tensor, f: &dyn Fn(&Links) -> Tensor) -> Vec<f64> {
    let h = 1e-4;
    let at = |h: f64| f(&links.exp(&(omega * h).unwrap()).unwrap()).to_vec1::<f64>().unwrap();
    // Fourth order: 8 (f(h) − f(−h)) − (f(2h) − f(−2h)) over 12 h.
    let (a, b, c, d) = (at(h), at(-h), at(2.0 * h), at(-2.0 * h));
    (0..a.len()).map(|i| (8.0 * (a[i] - b[i]) - (c[i] - d[i])) / (12.0 * h)).collect()
}

/// Σ_a ω_a ∂^a f of each configuration by autodiff.
fn along(links: &Links, omega: &Tensor, f: &dyn Fn(&Links) -> Tensor) -> Vec<f64> {
    let tangent = Var::zeros(links.tangent_shape(), DType::F64, &CPU).unwrap();
    let value = f(&links.exp(tangent.as_tensor()).unwrap()).sum_all().unwrap();
    let gradient = value.backward().unwrap().get(&tangent).unwrap().clone();
    sum_per_configuration(&(gradient * omega).unwrap()).unwrap().to_vec1().unwrap()
}

#[test]
fn gradients_in_links_and_spinors_agree_with_differences() {
    for (dims, batch) in [([2, 2, 2, 4], 3), ([4, 4, 4, 4], 1)] {
        let lattice = lattice(&dims);
        let full = wilson(&lattice, 0.13);
        let reduced = EvenOddWilson::new(&full);
        let links = haar(13, &lattice, batch);
        let omega = noise(14, &links.tangent_shape());
        let (v, w) = (noise(15, &full.vector_shape(batch)), noise(16, &full.vector_shape(batch)));
        let (ve, we) = (noise(17, &reduced.vector_shape(batch)), noise(18, &reduced.vector_shape(batch)));
        let form = |d: &dyn LinearOperator, v: &Tensor, w: &Tensor, adjoint: bool| {
            let dv = if adjoint { d.apply_adjoint(v) } else { d.apply(v) };
            sum_per_configuration(&(dv.unwrap() * w).unwrap()).unwrap()
        };
        for adjoint in [false, true] {
            let forms: [(&str, Box<dyn Fn(&Links) -> Tensor>); 4] = [
                ("full", Box::new(|u: &Links| form(&full.bind(u).unwrap(), &v, &w, adjoint))),
                ("even/odd", Box::new(|u: &Links| form(&reduced.bind(u).unwrap(), &ve, &we, adjoint))),
                (
                    "regulated",
                    Box::new(|u: &Links| regulated_quadratic_form(&reduced, u, &ve, 0.2, &TIGHT).unwrap().0),
                ),
                (
                    "pseudofermion action",
                    Box::new(|u: &Links| quadratic_form_of_inverse(&reduced, u, &ve, &TIGHT).unwrap().0),
                ),
            ];
            for (name, f) in &forms {
                let (got, expected) = (along(&links, &omega, f), difference(&links, &omega, f));
                for (got, expected) in got.iter().zip(&expected) {
                    let scale = expected.abs().max(1.0);
                    assert!((got - expected).abs() < 1e-7 * scale, "{name}: {got} and {expected}");
                }
            }
            // Linear in ψ: the gradient is the adjoint, whatever the path.
            let operator = reduced.bind(&links).unwrap();
            let x = Var::from_tensor(&ve).unwrap();
            let sum = form(&operator, &x, &we, adjoint).sum_all().unwrap();
            let gradient = sum.backward().unwrap().get(&x).unwrap().clone();
            let expected = if adjoint { operator.apply(&we) } else { operator.apply_adjoint(&we) };
            assert!(max_difference(&gradient, &expected.unwrap()).unwrap() < 1e-12);
        }
    }
}

/// ‖b − A x‖ / ‖b‖ of each configuration.
fn residuals(a: impl Fn(&Tensor) -> Tensor, x: &Tensor, b: &Tensor) -> Vec<f64> {
    let norms = |v: &Tensor| sum_per_configuration(&v.sqr().unwrap()).unwrap().to_vec1::<f64>().unwrap();
    let r = norms(&(b - a(x)).unwrap());
    r.iter().zip(norms(b)).map(|(r, b)| (r / b).sqrt()).collect()
}

#[test]
fn solvers_reach_their_tolerance_in_every_layout() {
    for (dims, batch) in CASES {
        let lattice = lattice(&dims);
        let full = wilson(&lattice, 0.11);
        let reduced = EvenOddWilson::new(&full);
        let links = haar(19, &lattice, batch);
        let operator = reduced.bind(&links).unwrap();
        // The oracle: D̂ from the composed hop, as in the test of the Schur complement.
        let oracle = |v: &Tensor, adjoint: bool| {
            let whole = reduced_join(&reduced, &links, v);
            let other = wilson(&lattice, -0.11);
            let squared = composed(&full, &links, &composed(&other, &links, &whole, adjoint), adjoint);
            operator.split(&squared).unwrap().0
        };
        let b = noise(20, &reduced.vector_shape(batch));
        for shift in [0.0, 0.05] {
            let a = Shifted::new(NormalOperator(operator.clone()), shift).unwrap();
            let solution = TIGHT.solve(&a, &b).unwrap();
            let apply = |v: &Tensor| (oracle(&oracle(v, true), false) + (v * shift).unwrap()).unwrap();
            let found = residuals(apply, &solution.x, &b);
            assert!(found.iter().all(|r| *r < 2e-12), "CG on {dims:?}: {found:?}");
            assert_eq!((solution.iterations.len(), solution.relative_residual.len()), (batch, batch));
        }
        let solver = BiCgStab { tolerance: 1e-12, max_iterations: 500 };
        let solution = solver.solve(&operator, &b).unwrap();
        let found = residuals(|v| oracle(v, false), &solution.x, &b);
        for (found, claimed) in found.iter().zip(&solution.relative_residual) {
            assert!(*found < 2e-12 && (found - claimed).abs() < 1e-13, "{found} and {claimed} on {dims:?}");
        }
        let b = noise(21, &full.vector_shape(batch));
        let solution = operator.solve_full(&b, &solver).unwrap();
        let found = residuals(|v| composed(&full, &links, v, false), &solution.x, &b);
        assert!(found.iter().all(|r| *r < 3e-12), "all sites of {dims:?}: {found:?}");
    }
}

fn reduced_join(reduced: &EvenOddWilson, links: &Links, even: &Tensor) -> Tensor {
    reduced.bind(links).unwrap().join(even, &even.zeros_like().unwrap()).unwrap()
}

/// The operator without its packed form: solvers must do the same on tensors.
struct OnTensors<A>(A);

impl<A: LinearOperator> LinearOperator for OnTensors<A> {
    fn apply(&self, v: &Tensor) -> latflow_fermion::Result<Tensor> {
        self.0.apply(v)
    }

    fn apply_adjoint(&self, v: &Tensor) -> latflow_fermion::Result<Tensor> {
        self.0.apply_adjoint(v)
    }
}

impl<A: LinearOperator> latflow_fermion::HermitianPositive for OnTensors<A> {}

#[test]
fn solvers_do_the_same_on_tensors_and_in_lanes() {
    let lattice = lattice(&[4, 2, 4, 4]);
    let reduced = EvenOddWilson::new(&wilson(&lattice, 0.12));
    let operator = reduced.bind(&haar(22, &lattice, 11)).unwrap();
    let b = noise(23, &reduced.vector_shape(11));
    let normal = NormalOperator(operator.clone());
    let solver = BiCgStab { tolerance: 1e-10, max_iterations: 500 };
    let pairs = [
        (TIGHT.solve(&normal, &b).unwrap(), TIGHT.solve(&OnTensors(normal.clone()), &b).unwrap()),
        (solver.solve(&operator, &b).unwrap(), solver.solve(&OnTensors(operator.clone()), &b).unwrap()),
    ];
    for (lanes, tensors) in pairs {
        assert_eq!(lanes.iterations, tensors.iterations);
        assert!(max_difference(&lanes.x, &tensors.x).unwrap() < 1e-10);
    }
}

#[test]
fn a_configuration_that_is_not_finite_does_not_disturb_the_others() {
    let lattice = lattice(&[2, 2, 2, 2]);
    let reduced = EvenOddWilson::new(&wilson(&lattice, 0.1));
    let good = haar(24, &lattice, 3);
    let broken = Tensor::cat(
        &[
            good.tensor().narrow(0, 0, 1).unwrap(),
            (good.tensor().narrow(0, 1, 1).unwrap() * f64::NAN).unwrap(),
            good.tensor().narrow(0, 2, 1).unwrap(),
        ],
        0,
    );
    let operator = reduced.bind(&Links::new(broken.unwrap()).unwrap()).unwrap();
    let fine = reduced.bind(&good).unwrap();
    let b = noise(25, &reduced.vector_shape(3));
    let solver = BiCgStab { tolerance: 1e-10, max_iterations: 100 };
    let pairs = [
        (
            TIGHT.solve(&NormalOperator(operator.clone()), &b).unwrap(),
            TIGHT.solve(&NormalOperator(fine.clone()), &b).unwrap(),
        ),
        (solver.solve(&operator, &b).unwrap(), solver.solve(&fine, &b).unwrap()),
    ];
    for (got, expected) in pairs {
        for row in [0, 2] {
            let row = |s: &Tensor| s.narrow(0, row, 1).unwrap();
            assert!(max_difference(&row(&got.x), &row(&expected.x)).unwrap() < 1e-10);
        }
        let lost = got.x.narrow(0, 1, 1).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert!(lost.iter().all(|x| x.is_nan()) && got.relative_residual[1].is_nan());
    }
}

#[test]
fn what_cannot_be_done_is_an_error() {
    let lattice4 = lattice(&[2, 2, 2, 2]);
    assert!(matches!(
        Wilson::new(&lattice4, f64::NAN, Boundary::Periodic),
        Err(Error::Parameter { name: "kappa", .. })
    ));
    assert!(matches!(Wilson::new(&lattice(&[4, 4]), 0.1, Boundary::Periodic), Err(Error::Shape { .. })));
    let dirac = wilson(&lattice4, 0.1);
    let two_colours = Links::haar(&lattice4, 1, 2, &mut rng(1), &CPU).unwrap();
    assert!(matches!(dirac.bind(&two_colours), Err(Error::Shape { .. })));
    assert!(dirac.bind(&haar(1, &lattice(&[2, 2, 2, 4]), 1)).is_err());
    let operator = dirac.bind(&haar(1, &lattice4, 1)).unwrap();
    assert!(operator.apply(&noise(1, &[1, 2, 96])).is_err());
    let b = noise(2, &dirac.vector_shape(1));
    let hasty = ConjugateGradient { tolerance: 1e-12, max_iterations: 2 };
    let failed = hasty.solve(&NormalOperator(operator.clone()), &b);
    assert!(matches!(failed, Err(Error::NoConvergence { configuration: 0, iterations: 2, .. })));
    let hasty = BiCgStab { tolerance: 1e-12, max_iterations: 2 };
    assert!(matches!(hasty.solve(&operator, &b), Err(Error::NoConvergence { configuration: 0, .. })));
}

#[test]
fn stochastic_gradients_of_the_determinant_scatter_around_the_exact_one() {
    // Independent draws along one direction: the mean must be the derivative of 2 log |det D|, and with a shift that of
    // log det (DD† + μ₀), from differences of the quadratic form's own normalisation on a small lattice.
    let lattice = lattice(&[2, 2, 2, 2]);
    let full = wilson(&lattice, 0.13);
    let reduced = EvenOddWilson::new(&full);
    let links = haar(27, &lattice, 1);
    let omega = noise(28, &links.tangent_shape());
    let exact = along(&links, &omega, &|u| (DenseWilson::new(&full).log_abs_det(u).unwrap() * 2.0).unwrap());
    let mut noise = rng(29);
    for shift in [0.0, 1e-5] {
        let draws: Vec<f64> = (0..400)
            .map(|_| {
                let tangent = Var::zeros(links.tangent_shape(), DType::F64, &CPU).unwrap();
                let moved = links.exp(tangent.as_tensor()).unwrap();
                let value = if shift == 0.0 {
                    stochastic_log_det(&reduced, &moved, &TIGHT, 1, &mut noise)
                } else {
                    regulated_log_det(&reduced, &moved, shift, &TIGHT, 1, &mut noise)
                };
                let gradients = value.unwrap().sum_all().unwrap().backward().unwrap();
                let gradient = (gradients.get(&tangent).unwrap() * &omega).unwrap();
                gradient.sum_all().unwrap().to_scalar::<f64>().unwrap()
            })
            .collect();
        let n = draws.len() as f64;
        let mean = draws.iter().sum::<f64>() / n;
        let variance = draws.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let z = (mean - exact[0]) / (variance / n).sqrt();
        assert!(z.abs() < 4.0, "shift {shift}: {mean} and {}, z = {z}", exact[0]);
    }
}
