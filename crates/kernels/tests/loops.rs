//! Loop features against loops multiplied out one by one, against finite differences, and against their Laplacians.

use candle_core::{Device, Tensor};
use latflow_kernels::LoopFeatures;
use latflow_kernels::unitary::rotate;
use nalgebra::{Complex, Matrix3};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

type C = Complex<f64>;
type M = Matrix3<C>;
const LOCAL: usize = 11;

fn random_tensor(rng: &mut Xoshiro256PlusPlus, shape: &[usize], size: f64) -> Tensor {
    let n = shape.iter().product();
    let data: Vec<f64> = (0..n).map(|_| rng.random_range(-size..size)).collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

fn links(rng: &mut Xoshiro256PlusPlus, dims: &[usize], batch: usize) -> Tensor {
    let (d, v) = (dims.len(), dims.iter().product::<usize>());
    let mut one = vec![0.0; batch * d * v * 18];
    one.chunks_exact_mut(18).for_each(|u| [0, 8, 16].iter().for_each(|i| u[*i] = 1.0));
    let one = Tensor::from_vec(one, (batch, d, v, 3, 3, 2), &Device::Cpu).unwrap();
    let u = rotate(&random_tensor(rng, &[batch, d, v, 8], 2.0), &one).unwrap();
    rotate(&random_tensor(rng, &[batch, d, v, 8], 2.0), &u).unwrap()
}

/// Every feature of one configuration by loops over pairs of staples.
fn naive(dims: &[usize], u: &[f64]) -> Vec<f64> {
    let (d, v) = (dims.len(), dims.iter().product::<usize>());
    let link = |mu: usize, x: usize| {
        let m = &u[(mu * v + x) * 18..];
        M::from_fn(|i, j| C::new(m[2 * (3 * i + j)], m[2 * (3 * i + j) + 1]))
    };
    let step = |x: usize, mu: usize, by: usize| {
        let stride: usize = dims[mu + 1..].iter().product();
        let c = x / stride % dims[mu];
        x - c * stride + (c + by) % dims[mu] * stride
    };
    let mut f = vec![0.0; LOCAL + d];
    for (x, mu) in (0..v).flat_map(|x| (0..d).map(move |mu| (x, mu))) {
        let mut staples: Vec<(usize, M)> = Vec::new();
        for nu in (0..d).filter(|nu| *nu != mu) {
            let (ahead, back) = (step(x, mu, 1), step(x, nu, dims[nu] - 1));
            let up = link(nu, ahead) * link(mu, step(x, nu, 1)).adjoint() * link(nu, x).adjoint();
            let below = step(ahead, nu, dims[nu] - 1);
            let down = link(nu, below).adjoint() * link(mu, back).adjoint() * link(nu, back);
            staples.extend([(nu, up), (nu, down)]);
        }
        let loops: Vec<(usize, M, M, C)> = staples
            .iter()
            .map(|(nu, a)| {
                let w = link(mu, x) * a;
                (*nu, *a, w, w.trace())
            })
            .collect();
        for (k, (nu, a, w, t)) in loops.iter().enumerate() {
            f[0] += t.re;
            f[1] += t.norm_sqr();
            f[2] += (t * t - t.conj()).re;
            for (l, (rho, b, z, s)) in loops.iter().enumerate() {
                if k != l {
                    let bent = usize::from(nu != rho);
                    f[3 + bent] += (a * b.adjoint()).trace().re;
                    f[5 + bent] += (t * s).re;
                    f[7 + bent] += (w * z).trace().re;
                    f[9 + bent] += (t * s.conj()).re;
                }
            }
        }
    }
    for (x, mu) in (0..v).flat_map(|x| (0..d).map(move |mu| (x, mu))) {
        let product = (0..dims[mu]).fold(M::identity(), |m, s| m * link(mu, step(x, mu, s)));
        f[LOCAL + mu] += product.trace().re / dims[mu] as f64;
    }
    f
}

fn rows(t: &Tensor) -> Vec<Vec<f64>> {
    t.flatten_from(1).unwrap().to_vec2().unwrap()
}

#[test]
fn values_are_those_of_loops_multiplied_one_by_one() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    for (dims, batch) in [(vec![4, 6], 3), (vec![4, 4, 6], 9), (vec![4, 4, 4, 4], 2)] {
        let u = links(&mut rng, &dims, batch);
        let names = LoopFeatures::new(&dims).unwrap().names();
        let values = rows(&LoopFeatures::new(&dims).unwrap().values(&u).unwrap());
        for (u, values) in rows(&u).iter().zip(values) {
            let expected = naive(&dims, u);
            let scale = expected.iter().fold(1.0f64, |a, x| a.max(x.abs()));
            for (i, (value, expected)) in values.iter().zip(expected).enumerate() {
                let name = &names[i];
                assert!((value - expected).abs() < 1e-12 * scale, "{dims:?} {name}: {value} {expected}");
            }
        }
    }
}

#[test]
fn derivatives_and_gradients_are_slopes_of_the_values() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
    for dims in [vec![4, 4], vec![4, 4, 6]] {
        let (d, v) = (dims.len(), dims.iter().product::<usize>());
        let features = LoopFeatures::new(&dims).unwrap();
        let (names, count) = (features.names(), features.count());
        let u = links(&mut rng, &dims, 2);
        let omega = random_tensor(&mut rng, &[2, d, v, 8], 1.0);
        let h = 1e-4;
        let at = |s: f64| rotate(&(&omega * s).unwrap(), &u).unwrap();
        let difference =
            |f: &dyn Fn(&Tensor) -> Tensor| rows(&((f(&at(h)) - f(&at(-h))).unwrap() / (2.0 * h)).unwrap());
        let exact = rows(&features.derivatives(&u, &omega).unwrap());
        let numeric = difference(&|u| features.values(u).unwrap());
        for (exact, numeric) in exact.iter().zip(&numeric) {
            for (i, (e, n)) in exact.iter().zip(numeric).enumerate() {
                assert!((e - n).abs() < 1e-5 * (1.0 + n.abs()), "{dims:?} {}: {e} {n}", names[i]);
            }
        }
        for i in 0..count {
            let mut c = vec![0.0; count];
            c[i] = 1.0;
            let gradient = features.gradient(&u, &c).unwrap().1;
            let along = (&gradient * &omega).unwrap().flatten_from(1).unwrap().sum(1).unwrap();
            for (a, e) in along.to_vec1::<f64>().unwrap().iter().zip(&exact) {
                let name = &names[i];
                assert!((a - e[i]).abs() < 1e-11 * (1.0 + e[i].abs()), "{dims:?} {name}: {a} {}", e[i]);
            }
            let exact = rows(&features.gradient_derivative(&u, &c, &omega).unwrap().1);
            let numeric = difference(&|u| features.gradient(u, &c).unwrap().1);
            for (e, n) in exact.iter().flatten().zip(numeric.iter().flatten()) {
                assert!((e - n).abs() < 1e-5 * (1.0 + n.abs()), "{dims:?} {}: {e} {n}", names[i]);
            }
        }
    }
}

/// Σ ∂^a∂^a F by differences of exact first derivatives, one batch row a direction.
#[test]
fn laplacians_close() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
    for dims in [vec![4, 6], vec![4, 4, 4]] {
        let (d, v) = (dims.len(), dims.iter().product::<usize>());
        let features = LoopFeatures::new(&dims).unwrap();
        let (names, count) = (features.names(), features.count());
        let u = links(&mut rng, &dims, 1);
        let values = rows(&features.values(&u).unwrap()).remove(0);
        let (h, n) = (1e-4, d * v * 8);
        let mut laplacian = vec![0.0; count];
        for start in (0..n).step_by(128) {
            let rows_here = 128.min(n - start);
            let mut unit = vec![0.0; rows_here * n];
            (0..rows_here).for_each(|i| unit[i * n + start + i] = 1.0);
            let unit = Tensor::from_vec(unit, (rows_here, d, v, 8), &Device::Cpu).unwrap();
            let many = u.broadcast_as((rows_here, d, v, 3, 3, 2)).unwrap().contiguous().unwrap();
            let slope = |s: f64| {
                let moved = rotate(&(&unit * s).unwrap(), &many).unwrap();
                rows(&features.derivatives(&moved, &unit).unwrap())
            };
            for (p, m) in slope(h).iter().zip(slope(-h)) {
                for i in 0..count {
                    laplacian[i] += (p[i] - m[i]) / (2.0 * h);
                }
            }
        }
        let (l, constant) = features.laplacian();
        for i in 0..count {
            let closed: f64 = (0..count).map(|j| l[i * count + j] * values[j]).sum::<f64>() + constant[i];
            let name = &names[i];
            assert!(
                (closed - laplacian[i]).abs() < 1e-4 * (1.0 + closed.abs()),
                "{dims:?} {name}: {closed} {}",
                laplacian[i]
            );
        }
    }
}

#[test]
fn short_extents_are_refused() {
    let message = LoopFeatures::new(&[2, 4, 4, 4]).unwrap_err().to_string();
    assert!(message.contains("at least 4"), "{message}");
    assert!(LoopFeatures::new(&[4]).is_err() && LoopFeatures::new(&[4; 5]).is_err());
    let features = LoopFeatures::new(&[4, 4]).unwrap();
    let links = Tensor::zeros((1, 2, 15, 3, 3, 2), candle_core::DType::F64, &Device::Cpu).unwrap();
    assert!(features.values(&links).unwrap_err().to_string().contains("[B, 2, 16, 3, 3, 2]"));
}
