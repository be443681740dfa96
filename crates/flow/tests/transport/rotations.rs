//! The engine on a group, SO(3) with the Haar measure: nothing in it knows that fields can be added.
//!
//! ```text
//! p(R) ∝ e^{β Σ_j tr A_j R}:   v = Σ c_i ∂f_i,  f = tr A R,  ∂ᵃf = tr A T_a R,  Δf = −2f          (spin 1)
//! ```

use super::{CPU, mean, noise, tune, variance};
use candle_core::{DType, Device, Tensor};
use latflow_action::Action;
use latflow_flow::transport::{
    Basis, ContinuousFlow, Group, LinearPath, Ridge, TimeGrid, TransportOptions, fit, step,
};
use latflow_flow::{Bijection, ParamStore, Result, Sample};
use latflow_lattice::{Configuration, Manifold, Rng, Streams, normal_tensor};
use std::sync::Arc;

/// Rotation matrices `[B, 3, 3]`; exp(ω) R with tangent vectors `[B, 3]`.
#[derive(Debug, Clone)]
struct Rotation(Tensor);

/// (T_a)_{bc} = −ε_{abc}, `[3, 9]`.
fn generators() -> Tensor {
    let mut t = vec![0.0; 27];
    for (a, b, c) in [(0, 1, 2), (1, 2, 0), (2, 0, 1)] {
        t[a * 9 + b * 3 + c] = -1.0;
        t[a * 9 + c * 3 + b] = 1.0;
    }
    Tensor::from_vec(t, (3, 9), &CPU).unwrap()
}

impl Configuration for Rotation {
    fn batch(&self) -> latflow_lattice::Result<usize> {
        Ok(self.0.dim(0)?)
    }
    fn select(accept: &Tensor, new: &Self, old: &Self) -> latflow_lattice::Result<Self> {
        Ok(Self(Configuration::select(accept, &new.0, &old.0)?))
    }
    fn detach(&self) -> Self {
        Self(self.0.detach())
    }
    fn map(
        &self,
        f: &mut dyn FnMut(&Tensor) -> latflow_lattice::Result<Tensor>,
    ) -> latflow_lattice::Result<Self> {
        Ok(Self(f(&self.0)?))
    }
    fn device(&self) -> &Device {
        self.0.device()
    }
}

impl Manifold for Rotation {
    fn tangent_shape(&self) -> Vec<usize> {
        vec![self.0.dims()[0], 3]
    }
    fn exp(&self, omega: &Tensor) -> latflow_lattice::Result<Self> {
        let z = omega.matmul(&generators())?.reshape((omega.dim(0)?, 3, 3))?;
        let mut term = self.0.contiguous()?;
        let mut sum = term.clone();
        for n in 1..22 {
            term = (z.matmul(&term)? / f64::from(n))?;
            sum = (sum + &term)?;
        }
        Ok(Self(sum))
    }
}

/// Haar measure: normalised quaternions.
struct Haar;

impl Sample<Rotation> for Haar {
    fn sample(&self, n: usize, (): &(), rng: &mut Rng) -> Result<Rotation> {
        let q = normal_tensor(rng, 1.0, &[n, 4], DType::F64, &CPU)?.to_vec2::<f64>()?;
        let rotate = |q: &Vec<f64>| {
            let norm = q.iter().map(|v| v * v).sum::<f64>().sqrt();
            let (w, x, y, z) = (q[0] / norm, q[1] / norm, q[2] / norm, q[3] / norm);
            [
                1.0 - 2.0 * (y * y + z * z),
                2.0 * (x * y - w * z),
                2.0 * (x * z + w * y),
                2.0 * (x * y + w * z),
                1.0 - 2.0 * (x * x + z * z),
                2.0 * (y * z - w * x),
                2.0 * (x * z - w * y),
                2.0 * (y * z + w * x),
                1.0 - 2.0 * (x * x + y * y),
            ]
        };
        let entries: Vec<f64> = q.iter().flat_map(rotate).collect();
        Ok(Rotation(Tensor::from_vec(entries, (n, 3, 3), &CPU)?))
    }
}

/// Gradients of f_i = tr A_i R and of f_i f_j, i ≤ j.
struct Gradients {
    matrices: Vec<Tensor>,
    groups: Vec<Group>,
}

impl Gradients {
    fn new(matrices: Vec<Tensor>) -> Self {
        let group = |name: &str, fields| Group { name: name.to_owned(), fields };
        let n = matrices.len();
        let groups = vec![group("linear", n), group("products", n * (n + 1) / 2)];
        Self { matrices, groups }
    }

    /// (v_i `[B, 3]`, ∇·v_i `[B]`) of every field.
    fn fields(&self, x: &Rotation) -> Result<Vec<(Tensor, Tensor)>> {
        let batch = x.batch()?;
        let mut values = Vec::new();
        let mut fields: Vec<(Tensor, Tensor)> = Vec::new();
        for a in &self.matrices {
            let f = trace(a, &x.0)?;
            // tr A T_a R = Σ_{bc} (T_a)_{bc} (R A)_{cb}
            let ra = x.0.broadcast_matmul(a)?.transpose(1, 2)?.reshape((batch, 9))?;
            fields.push((ra.matmul(&generators().t()?)?, (&f * -2.0)?));
            values.push(f);
        }
        for i in 0..values.len() {
            for j in 0..=i {
                let (f, g) = (&values[i], &values[j]);
                let ((df, laplace_f), (dg, laplace_g)) = (&fields[i], &fields[j]);
                let gradient = (dg.broadcast_mul(&f.unsqueeze(1)?)? + df.broadcast_mul(&g.unsqueeze(1)?)?)?;
                let cross = ((df * dg)?.sum(1)? * 2.0)?;
                let laplacian = (((f * laplace_g)? + (g * laplace_f)?)? + cross)?;
                fields.push((gradient, laplacian));
            }
        }
        Ok(fields)
    }
}

fn trace(a: &Tensor, r: &Tensor) -> Result<Tensor> {
    Ok(r.broadcast_mul(&a.t()?.unsqueeze(0)?)?.flatten_from(1)?.sum(1)?)
}

impl Basis<Rotation> for Gradients {
    fn groups(&self) -> &[Group] {
        &self.groups
    }
    fn combine(&self, x: &Rotation, coefficients: &Tensor) -> Result<(Tensor, Tensor)> {
        let (mut v, mut d) = (Tensor::zeros((x.batch()?, 3), DType::F64, &CPU)?, None);
        for (i, (field, divergence)) in self.fields(x)?.iter().enumerate() {
            let c = coefficients.narrow(0, i, 1)?;
            v = (v + field.broadcast_mul(&c)?)?;
            let term = divergence.broadcast_mul(&c)?;
            d = Some(match d {
                Some(d) => (d + term)?,
                None => term,
            });
        }
        Ok((v, d.unwrap()))
    }
    fn stein(&self, x: &Rotation, u: &Tensor) -> Result<Tensor> {
        let rows = self.fields(x)?.into_iter().map(|(v, d)| Ok((d - (v * u)?.sum(1)?)?));
        Ok(Tensor::stack(&rows.collect::<Result<Vec<_>>>()?, 1)?)
    }
}

/// −Σ_j tr A_j R, and 0.
#[derive(Clone)]
struct Source(Vec<Tensor>);

impl Action<Rotation> for Source {
    fn action(&self, x: &Rotation) -> latflow_action::Result<Tensor> {
        let mut s = Tensor::zeros(x.0.dim(0)?, DType::F64, &CPU)?;
        for a in &self.0 {
            s = (s - trace(a, &x.0).unwrap())?;
        }
        Ok(s)
    }
}

fn matrices(scale: f64) -> Vec<Tensor> {
    (0..2).map(|i| noise(50 + i, &[3, 3], scale)).collect()
}

fn haar(seed: u64, n: usize) -> Rotation {
    Haar.sample(n, &(), &mut Streams::new(seed).stream("haar", 0)).unwrap()
}

fn flow(steps: usize, strength: f64) -> ContinuousFlow<Gradients> {
    let mut store = ParamStore::new(Streams::new(1), DType::F64, &CPU);
    let (basis, grid) = (Arc::new(Gradients::new(matrices(1.0))), TimeGrid::clustered(3, 1.0).unwrap());
    let flow = ContinuousFlow::new(&mut store, "c", basis, grid, steps).unwrap();
    store.set("c", &noise(60, &[4, 5], strength)).unwrap();
    flow.with_tolerance(10.0).unwrap()
}

#[test]
fn steps_do_not_commute_and_still_are_of_fourth_order() {
    tune();
    let basis = Gradients::new(matrices(1.0));
    let start = haar(2, 4);
    let run = |steps: usize| {
        let (mut x, mut log_det) = (start.clone(), Tensor::zeros(4, DType::F64, &CPU).unwrap());
        let h = 1.0 / steps as f64;
        let mut velocity = |x: &Rotation, t: f64| {
            let c = Tensor::new(&[0.6, -0.5 * t, 0.2 * t * t, 0.1, 0.3], &CPU).unwrap();
            basis.combine(x, &c)
        };
        for s in 0..steps {
            let (moved, change) = step(&mut velocity, &x, h * s as f64, h).unwrap();
            (x, log_det) = (moved, (log_det + change).unwrap());
        }
        let all = Tensor::cat(&[x.0.flatten_from(1).unwrap(), log_det.unsqueeze(1).unwrap()], 1).unwrap();
        all.flatten_all().unwrap().to_vec1::<f64>().unwrap()
    };
    let exact = run(256);
    let error = |steps| run(steps).iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let order = (error(8) / error(32)).log2() / 2.0;
    assert!(order > 3.7 && error(32) < 1e-4, "order {order}, error {:e}", error(32));
}

#[test]
fn the_log_determinant_refers_to_the_haar_measure() {
    tune();
    // J_ab = ωᵃ of f(exp(ε e_b) R) f(R)⁻¹ over ε.
    let (flow, r) = (flow(12, 0.2), haar(3, 5));
    let (x, log_det) = flow.forward(&r, &()).unwrap();
    let (back, log_det_back) = flow.inverse(&x, &()).unwrap();
    let moved = (&back.0 - &r.0).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
    assert!(moved < 1e-6, "{moved:e}");
    let log_det = log_det.to_vec1::<f64>().unwrap();
    let log_det_back = log_det_back.to_vec1::<f64>().unwrap();
    let epsilon = 1e-4;
    let mut columns = Vec::new();
    for b in 0..3 {
        let shifted = |e: f64| {
            let mut omega = vec![0.0; 15];
            (0..5).for_each(|i| omega[3 * i + b] = e);
            let moved = r.exp(&Tensor::from_vec(omega, (5, 3), &CPU).unwrap()).unwrap();
            flow.forward(&moved, &()).unwrap().0.0
        };
        let difference = ((shifted(epsilon) - shifted(-epsilon)).unwrap() / (2.0 * epsilon)).unwrap();
        let tangent = difference.matmul(&x.0.transpose(1, 2).unwrap().contiguous().unwrap()).unwrap();
        columns.push(tangent.to_vec3::<f64>().unwrap());
    }
    for i in 0..5 {
        // ω of Z = ω·T: ω_0 = Z_21, ω_1 = Z_02, ω_2 = Z_10.
        let omega = |b: usize| [columns[b][i][2][1], columns[b][i][0][2], columns[b][i][1][0]];
        let j = nalgebra::Matrix3::from_columns(&[0, 1, 2].map(|b| nalgebra::Vector3::from(omega(b))));
        let expected = j.determinant().abs().ln();
        assert!((log_det[i] - expected).abs() < 1e-5, "{} and {expected}", log_det[i]);
        assert!((log_det[i] + log_det_back[i]).abs() < 1e-6);
    }
}

#[test]
fn a_fit_on_the_group_finds_lueschers_leading_order_and_improves_on_it() {
    tune();
    // At t = 0: Σ c_i Δf_i = −Σ f_i + const, so that c = ½ for the linear fields and 0 for the others.
    let target = Source(matrices(0.4));
    let basis = Arc::new(Gradients::new(matrices(0.4)));
    let path = LinearPath { start: Source(Vec::new()), end: target.clone() };
    let grid = TimeGrid::clustered(6, 1.0).unwrap();
    let options =
        TransportOptions { grid: grid.clone(), batches: 4, batch: 1000, steps: 1, ridge: Ridge::default() };
    let mut rng = Streams::new(4).stream("fit", 0);
    let result = fit(basis.as_ref(), &path, &Haar, &options, &mut rng).unwrap();
    let error = result.coefficients[0].iter().zip([0.5, 0.5, 0.0, 0.0, 0.0]).map(|(c, e)| (c - e).abs());
    assert!(error.fold(0.0, f64::max) < 1e-6, "{:?}", result.coefficients[0]);
    let mut store = ParamStore::new(Streams::new(5), DType::F64, &CPU);
    let flow = ContinuousFlow::new(&mut store, "c", basis, grid, 1).unwrap();
    let z = haar(6, 2000);
    let log_weights = || {
        let (x, log_det) = flow.forward(&z, &()).unwrap();
        (log_det - target.action(&x).unwrap()).unwrap().to_vec1::<f64>().unwrap()
    };
    let plain = log_weights();
    let leading: Vec<f64> = (0..7).flat_map(|_| [0.5, 0.5, 0.0, 0.0, 0.0]).collect();
    store.set("c", &Tensor::from_vec(leading, (7, 5), &CPU).unwrap()).unwrap();
    let leading = log_weights();
    result.install(&store, "c").unwrap();
    let fitted = log_weights();
    let spread = [&plain, &leading, &fitted].map(|w| variance(w));
    assert!(spread[1] < spread[0] / 3.0 && spread[2] < spread[1] / 1.5, "{spread:?}");
    // All three estimate the same normalisation ∫ e^{−S} dR.
    let normalisation = |w: &[f64]| {
        let weights: Vec<f64> = w.iter().map(|w| w.exp()).collect();
        (mean(&weights), (variance(&weights) / weights.len() as f64).sqrt())
    };
    let (a, b) = (normalisation(&plain), normalisation(&fitted));
    let z = (a.0 - b.0) / a.1.hypot(b.1);
    assert!(z.abs() < 4.0 && b.1 < a.1, "{a:?} and {b:?}");
}
