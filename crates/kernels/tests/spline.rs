//! Rational-quadratic splines: against their definition in candle's operations, there and back, and by differences.

mod common;

use candle_core::{D, DType, Device, Result, Tensor, Var};
use common::{deviation, pull_back, stream, uniform, values};
use latflow_kernels::Spline;

const BINS: usize = 16;

fn spline() -> Spline {
    Spline::new(BINS).unwrap()
}

/// Points of (0, 1) that lie in every bin, away from the knots only by chance, and parameters of order two.
fn case(n: usize, dtype: DType) -> (Tensor, Tensor) {
    let raw = uniform(&[n, 3 * BINS + 1], dtype, &mut stream(5)).affine(2.0, 0.0).unwrap();
    let u = uniform(&[n], DType::F64, &mut stream(6)).affine(0.5, 0.5).unwrap();
    (u, raw)
}

/// Both outputs stacked, as the definition says: every bin evaluated, the right one kept.
fn composed(u: &Tensor, raw: &Tensor) -> Result<Tensor> {
    let k = BINS;
    let sizes = |from: usize| -> Result<(Tensor, Tensor)> {
        let e = raw.narrow(1, from, k)?.exp()?;
        let size = e.broadcast_div(&e.sum_keepdim(1)?)?.affine(1.0 - 1e-3 * k as f64, 1e-3)?;
        let left = (size.cumsum(1)? - &size)?;
        Ok((size, left))
    };
    let ((w, x), (h, y)) = (sizes(0)?, sizes(k)?);
    let offset = (1f64 - 1e-3).exp_m1().ln();
    let d = ((raw.narrow(1, 2 * k, k + 1)? + offset)?.exp()? + 1.0)?.log()?.affine(1.0, 1e-3)?;
    let (d0, d1) = (d.narrow(1, 0, k)?, d.narrow(1, 1, k)?);
    let s = (&h / &w)?;
    let all = u.unsqueeze(1)?.broadcast_as(w.shape())?;
    let here = (all.ge(&x)? * all.lt(&(&x + &w)?)?)?.to_dtype(DType::F64)?;
    let xi = ((all - x)? / &w)?;
    let eta = (1.0 - &xi)?;
    let q = (&xi * &eta)?;
    let e = ((&d0 + &d1)? - (&s * 2.0)?)?;
    let below = (&s + (e * &q)?)?;
    let value = (y + ((&h * ((&s * xi.sqr()?)? + (&d0 * &q)?)?)? / &below)?)?;
    let top = (((&d1 * xi.sqr()?)? + ((&s * &q)? * 2.0)?)? + (&d0 * eta.sqr()?)?)?;
    let slope = ((s.sqr()? * top)? / below.sqr()?)?;
    let pick = |t: Tensor| (t * &here)?.sum(D::Minus1);
    Tensor::stack(&[pick(value)?, pick(slope)?.log()?], 0)
}

#[test]
fn it_is_its_definition_with_all_gradients() {
    let (u, raw) = case(400, DType::F64);
    let fused = |a: &[Tensor]| {
        let (value, slope) = spline().forward(&a[0], &a[1])?;
        Tensor::stack(&[value, slope], 0)
    };
    let ours = pull_back(fused, &[&u, &raw], 1);
    let theirs = pull_back(|a| composed(&a[0], &a[1]), &[&u, &raw], 1);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert!(deviation(ours, theirs) < 1e-11, "{:e}", deviation(ours, theirs));
    }
}

#[test]
fn zero_parameters_are_the_identity() {
    let u = Tensor::from_slice(&[0.0, 1e-12, 0.3, 0.5, 0.999, 1.0], 6, &Device::Cpu).unwrap();
    let raw = Tensor::zeros((6, 3 * BINS + 1), DType::F32, &Device::Cpu).unwrap();
    for (value, slope) in [spline().forward(&u, &raw).unwrap(), spline().inverse(&u, &raw).unwrap()] {
        assert!(values(&value).iter().zip(values(&u)).all(|(a, b)| (a - b).abs() < 1e-15));
        assert!(values(&slope).iter().all(|s| s.abs() < 1e-14));
    }
}

#[test]
fn there_and_back_for_either_type_of_parameters() {
    for dtype in [DType::F32, DType::F64] {
        let (u, raw) = case(2000, dtype);
        let (v, slope) = spline().forward(&u, &raw).unwrap();
        let (back, inverse) = spline().inverse(&v, &raw).unwrap();
        // A slope of 1e-3 in g costs three digits of u.
        assert!(deviation(&back, &u) < 1e-11, "{:e}", deviation(&back, &u));
        assert!(deviation(&inverse.neg().unwrap(), &slope) < 1e-9);
        assert!(values(&v).iter().all(|v| (0.0..=1.0).contains(v)));
    }
}

#[test]
fn gradients_of_the_inverse_are_those_of_differences() {
    let (v, raw) = case(50, DType::F64);
    let run = |v: &Tensor, raw: &Tensor| {
        let (u, slope) = spline().inverse(v, raw).unwrap();
        Tensor::stack(&[u, slope], 0).unwrap()
    };
    let [_, by_v, by_raw] =
        <[Tensor; 3]>::try_from(pull_back(|a| Ok(run(&a[0], &a[1])), &[&v, &raw], 3)).unwrap();
    let g = uniform(&[2, 50], DType::F64, &mut stream(3));
    let loss = |v: &Tensor, raw: &Tensor| values(&(run(v, raw) * &g).unwrap()).iter().sum::<f64>();
    let h = 1e-6;
    let check = |gradient: &Tensor, direction: &Tensor, up: f64, down: f64| {
        let along: f64 = values(&(gradient * direction).unwrap()).iter().sum();
        let difference = (up - down) / (2.0 * h);
        assert!((along - difference).abs() < 1e-4 * (1.0 + difference.abs()), "{along} {difference}");
    };
    for seed in 0..20 {
        let dv = uniform(&[50], DType::F64, &mut stream(100 + seed)).affine(1e-2, 0.0).unwrap();
        let dr = uniform(&[50, 3 * BINS + 1], DType::F64, &mut stream(200 + seed));
        let moved = |t: &Tensor, d: &Tensor, h: f64| (t + (d * h).unwrap()).unwrap();
        check(&by_v, &dv, loss(&moved(&v, &dv, h), &raw), loss(&moved(&v, &dv, -h), &raw));
        check(&by_raw, &dr, loss(&v, &moved(&raw, &dr, h)), loss(&v, &moved(&raw, &dr, -h)));
    }
}

#[test]
fn what_cannot_be_is_refused_or_nan() {
    assert!(Spline::new(0).is_err() && Spline::new(1000).is_err());
    let (u, raw) = case(4, DType::F64);
    assert!(spline().forward(&u, &raw.narrow(1, 0, 48).unwrap()).is_err());
    assert!(spline().forward(&u.to_dtype(DType::F32).unwrap(), &raw).is_err());
    let outside = Tensor::from_slice(&[-0.1, 1.1, f64::NAN, 0.5], 4, &Device::Cpu).unwrap();
    for (value, slope) in
        [spline().forward(&outside, &raw).unwrap(), spline().inverse(&outside, &raw).unwrap()]
    {
        for t in [value, slope] {
            let nan: Vec<bool> = values(&t).iter().map(|x| x.is_nan()).collect();
            assert_eq!(nan, [true, true, true, false]);
        }
    }
    let var = Var::from_tensor(&Tensor::full(f64::NAN, (4, 3 * BINS + 1), &Device::Cpu).unwrap()).unwrap();
    let (value, _) = spline().forward(&u, var.as_tensor()).unwrap();
    assert!(values(&value).iter().all(|x| x.is_nan()));
}
