//! What is known exactly: the theory of one plaquette, by quadrature over eigenvalues.
//!
//! ```text
//! ⟨Re tr U⟩/N in e^{(β/N) Re tr U} dU,   dU = Π_{i<j} |e^{iθ_i} − e^{iθ_j}|² Π dθ on Σ θ = 0
//! ```
//!
//! In two dimensions plaquettes are independent up to a correction of the order of ⟨P⟩^V on a torus, and a Wilson loop of area A
//! is ⟨P⟩^A.

use std::f64::consts::TAU;

/// ⟨Re tr U⟩/N of one plaquette of SU(2) or SU(3).
pub(crate) fn one_plaquette(n: usize, beta: f64) -> f64 {
    const POINTS: usize = 400;
    let angle = |i: usize| TAU * (i as f64 + 0.5) / POINTS as f64;
    let (mut norm, mut sum) = (0.0, 0.0);
    let mut add = |theta: &[f64]| {
        let trace: f64 = theta.iter().map(|t| t.cos()).sum();
        let mut weight = (beta / n as f64 * (trace - n as f64)).exp();
        for i in 0..n {
            for j in 0..i {
                weight *= (0.5 * (theta[i] - theta[j])).sin().powi(2);
            }
        }
        norm += weight;
        sum += weight * trace / n as f64;
    };
    for i in 0..POINTS {
        if n == 2 {
            add(&[angle(i), -angle(i)]);
        } else {
            (0..POINTS).for_each(|j| add(&[angle(i), angle(j), -angle(i) - angle(j)]));
        }
    }
    sum / norm
}

/// The mean plaquette ⟨Re tr P⟩/3 of SU(3) in four dimensions at strong coupling, to the order of β²; the next term is of the order
/// of β⁴.
pub(crate) fn strong_coupling(beta: f64) -> f64 {
    beta / 18.0 + beta * beta / 216.0
}

#[test]
fn one_plaquette_has_its_known_values() {
    // SU(2): I_2(β)/I_1(β) = 0.433127 at β = 2.
    assert!((one_plaquette(2, 2.0) - 0.433_127_426_0).abs() < 1e-9);
    // SU(3) at strong coupling: β/18 + β²/216 + O(β⁴).
    let beta = 0.02;
    assert!((one_plaquette(3, beta) - strong_coupling(beta)).abs() < 1e-8);
}
