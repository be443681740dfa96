//! Monotone rational-quadratic splines on the unit interval, one a point.
//!
//! ```text
//! raw a[3K+1]:  widths w_k = ε + (1 − Kε) softmax(a[..K])_k,  heights h_k alike from a[K..2K],
//!               slopes d_k = ε + log(1 + e^{a[2K+k] + c}),  c so that d(0) = 1                       ε = 10⁻³
//! in bin k, ξ = (u − u_k)/w_k, s = h_k/w_k, q = ξ(1−ξ), e = d_k + d_{k+1} − 2s:
//!     g(u)  = v_k + h_k (s ξ² + d_k q)/(s + e q)
//!     g′(u) = s² (d_{k+1} ξ² + 2 s q + d_k (1−ξ)²)/(s + e q)²
//! ```
//!
//! g(0) = 0, g(1) = 1, all slopes are positive, those at the ends are free: with a = 0 it is the identity. Points are f64,
//! parameters f32 or f64. A point outside [0, 1], beyond rounding, is sent to NaN.

mod bin;

use crate::activation::Real;
use crate::conv::simd::{Level, Task, Vector, dispatch};
use crate::conv::unsupported;
use crate::host::{contiguous_slice, with_slice};
use crate::site_density::exp_negative;
use bin::{Bin, Partial};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, DType, Device, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Smallest width, height and slope ε.
const SMALLEST: f64 = 1e-3;

/// log(e^{1−ε} − 1): the raw slope of 1.
const SLOPE_OFFSET: f64 = 0.539_742_417_236_952;

/// Points handled by one task.
const TASK: usize = 256;

/// Splines with a given number of bins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spline {
    bins: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Inverse,
}

impl Spline {
    /// Splines of `bins` bins.
    ///
    /// # Errors
    /// When there is no bin or the smallest widths do not fit into the interval.
    pub fn new(bins: usize) -> Result<Self> {
        if bins == 0 || bins as f64 * SMALLEST >= 1.0 {
            candle_core::bail!("spline of {bins} bins, expected 1 to {}", (1.0 / SMALLEST) as usize - 1);
        }
        Ok(Self { bins })
    }

    /// Numbers a spline has: 3K + 1.
    pub fn parameters(&self) -> usize {
        3 * self.bins + 1
    }

    /// (g(u), log g′(u)) for u `[…]` in [0, 1], f64, and parameters `[…, 3K + 1]`, f32 or f64; differentiable in both.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward(&self, u: &Tensor, raw: &Tensor) -> Result<(Tensor, Tensor)> {
        self.apply(u, raw, Direction::Forward)
    }

    /// (u, log du/dv) with g(u) = v, else as [`Spline::forward`].
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn inverse(&self, v: &Tensor, raw: &Tensor) -> Result<(Tensor, Tensor)> {
        self.apply(v, raw, Direction::Inverse)
    }

    fn apply(&self, point: &Tensor, raw: &Tensor, direction: Direction) -> Result<(Tensor, Tensor)> {
        let mut expected = point.dims().to_vec();
        expected.push(self.parameters());
        let known = matches!(raw.dtype(), DType::F32 | DType::F64);
        if raw.dims() != expected || point.dtype() != DType::F64 || !known {
            candle_core::bail!(
                "spline: points {:?} {:?} and parameters {:?} {:?}, expected f64 and f32 or f64 {expected:?}",
                point.dims(),
                point.dtype(),
                raw.dims(),
                raw.dtype()
            );
        }
        // Evaluated on the host; a device gets the result.
        let host = |t: &Tensor| t.to_device(&Device::Cpu)?.contiguous();
        let op = SplineOp { spline: *self, direction };
        let packed = host(point)?.apply_op2(&host(raw)?, op)?.to_device(point.device())?;
        Ok((packed.get(0)?, packed.get(1)?))
    }
}

/// Softmax weights and raw slopes of one spline.
struct Knots {
    bins: usize,
    /// Widths, then heights.
    softmax: Vec<f64>,
}

impl Knots {
    fn new(bins: usize) -> Self {
        Self { bins, softmax: vec![0.0; 2 * bins] }
    }

    #[inline(always)]
    fn fill<T: Real>(&mut self, raw: &[T]) {
        for (weights, raw) in self.softmax.chunks_exact_mut(self.bins).zip(raw.chunks_exact(self.bins)) {
            // NaN is not the largest of anything, but it comes back through exp.
            let mut largest = f64::NEG_INFINITY;
            for (weight, raw) in weights.iter_mut().zip(raw) {
                *weight = raw.to_f64();
                largest = if *weight > largest { *weight } else { largest };
            }
            for weight in weights.iter_mut() {
                *weight = exp_negative(*weight - largest);
            }
            let scale = 1.0 / weights.iter().sum::<f64>();
            weights.iter_mut().for_each(|weight| *weight *= scale);
        }
    }

    /// Σ_{j<k} of the widths or heights, of which the weights are given.
    fn edge(&self, weights: &[f64], k: usize) -> f64 {
        k as f64 * SMALLEST + self.free() * weights[..k].iter().sum::<f64>()
    }

    /// What is left to share out.
    fn free(&self) -> f64 {
        1.0 - self.bins as f64 * SMALLEST
    }

    /// The bin that holds a point, by its left edge among widths or heights.
    fn locate(&self, weights: &[f64], point: f64) -> usize {
        let (mut edge, mut k) = (0.0, 0);
        while k + 1 < self.bins {
            edge += SMALLEST + self.free() * weights[k];
            if point < edge {
                break;
            }
            k += 1;
        }
        k
    }

    fn bin<T: Real>(&self, raw: &[T], point: f64, direction: Direction) -> (usize, Bin) {
        let (widths, heights) = self.softmax.split_at(self.bins);
        let k = self.locate(if direction == Direction::Forward { widths } else { heights }, point);
        let slope = |k: usize| SMALLEST + softplus(raw[2 * self.bins + k].to_f64() + SLOPE_OFFSET);
        let bin = Bin {
            u: self.edge(widths, k),
            v: self.edge(heights, k),
            width: SMALLEST + self.free() * widths[k],
            height: SMALLEST + self.free() * heights[k],
            slopes: [slope(k), slope(k + 1)],
        };
        (k, bin)
    }

    /// Spreads the gradient in the numbers of bin k over the parameters.
    fn scatter<T: Real>(&self, raw: &[T], k: usize, to_bin: &Partial, to_raw: &mut [T]) {
        let ends = [(to_bin.u, to_bin.width), (to_bin.v, to_bin.height)];
        for (part, (to_edge, to_size)) in ends.into_iter().enumerate() {
            let weights = &self.softmax[part * self.bins..][..self.bins];
            let to_weight = |j: usize| {
                if j < k {
                    to_edge
                } else if j == k {
                    to_size
                } else {
                    0.0
                }
            };
            let mean: f64 = weights.iter().enumerate().map(|(j, weight)| weight * to_weight(j)).sum();
            for (j, weight) in weights.iter().enumerate() {
                to_raw[part * self.bins + j] = T::from_f64(self.free() * weight * (to_weight(j) - mean));
            }
        }
        for (k, to_slope) in [k, k + 1].into_iter().zip(to_bin.slopes) {
            let sigmoid = 1.0 / (1.0 + (-raw[2 * self.bins + k].to_f64() - SLOPE_OFFSET).exp());
            to_raw[2 * self.bins + k] = T::from_f64(to_slope * sigmoid);
        }
    }
}

fn softplus(x: f64) -> f64 {
    // log1p(e^x) overflows only where it is x.
    if x > 40.0 { x } else { x.exp().ln_1p() }
}

struct SplineOp {
    spline: Spline,
    direction: Direction,
}

/// A piece of the points with their parameters.
struct Forward<'a, T> {
    op: &'a SplineOp,
    points: &'a [f64],
    raw: &'a [T],
    out: &'a mut [f64],
    log_slope: &'a mut [f64],
}

impl<T: Real> Task<T> for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(self) {
        let Self { op, points, raw, out, log_slope } = self;
        let mut knots = Knots::new(op.spline.bins);
        for (i, raw) in raw.chunks_exact(op.spline.parameters()).enumerate() {
            knots.fill(raw);
            let (_, bin) = knots.bin(raw, points[i], op.direction);
            (out[i], log_slope[i]) = match op.direction {
                Direction::Forward => bin.forward(points[i]),
                Direction::Inverse => bin.inverse(points[i]),
            };
        }
    }
}

struct Backward<'a, T> {
    op: &'a SplineOp,
    points: &'a [f64],
    raw: &'a [T],
    grad_out: &'a [f64],
    grad_log: &'a [f64],
    to_points: &'a mut [f64],
    to_raw: &'a mut [T],
}

impl<T: Real> Task<T> for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(self) {
        let parameters = self.op.spline.parameters();
        let mut knots = Knots::new(self.op.spline.bins);
        let pieces = self.raw.chunks_exact(parameters).zip(self.to_raw.chunks_exact_mut(parameters));
        for (i, (raw, to_raw)) in pieces.enumerate() {
            knots.fill(raw);
            let (point, grad) = (self.points[i], (self.grad_out[i], self.grad_log[i]));
            let (k, bin) = knots.bin(raw, point, self.op.direction);
            let (to_point, to_bin) = match self.op.direction {
                Direction::Forward => bin.forward_gradient(point, grad),
                Direction::Inverse => bin.inverse_gradient(point, grad),
            };
            self.to_points[i] = to_point;
            knots.scatter(raw, k, &to_bin, to_raw);
        }
    }
}

impl SplineOp {
    fn run_forward<T: Real>(&self, points: &[f64], raw: &[T]) -> CpuStorage {
        let (level, parameters) = (Level::detect(), self.spline.parameters());
        let mut packed = vec![0.0; 2 * points.len()];
        let (out, log_slope) = packed.split_at_mut(points.len());
        let outputs = out.par_chunks_mut(TASK).zip(log_slope.par_chunks_mut(TASK));
        let inputs = points.par_chunks(TASK).zip(raw.par_chunks(TASK * parameters));
        outputs.zip(inputs).for_each(|((out, log_slope), (points, raw))| {
            dispatch(level, Forward { op: self, points, raw, out, log_slope });
        });
        CpuStorage::F64(packed)
    }

    fn run_backward<T: Real>(&self, points: &Tensor, raw: &Tensor, grad: &Tensor) -> Result<[Tensor; 2]> {
        let (level, parameters) = (Level::detect(), self.spline.parameters());
        let n = points.elem_count();
        let (mut to_points, mut to_raw) = (vec![0.0; n], vec![T::default(); n * parameters]);
        with_slice::<f64, _>(points, |points| {
            with_slice::<T, _>(raw, |raw| {
                with_slice::<f64, _>(grad, |grad| {
                    let (grad_out, grad_log) = grad.split_at(n);
                    let inputs = points.par_chunks(TASK).zip(raw.par_chunks(TASK * parameters));
                    let grads = grad_out.par_chunks(TASK).zip(grad_log.par_chunks(TASK));
                    let outputs =
                        to_points.par_chunks_mut(TASK).zip(to_raw.par_chunks_mut(TASK * parameters));
                    inputs.zip(grads).zip(outputs).for_each(
                        |(((points, raw), (grad_out, grad_log)), (to_points, to_raw))| {
                            let op = self;
                            let task = Backward { op, points, raw, grad_out, grad_log, to_points, to_raw };
                            dispatch(level, task);
                        },
                    );
                })
            })
        })???;
        Ok([
            Tensor::from_vec(to_points, points.shape(), &Device::Cpu)?,
            Tensor::from_vec(to_raw, raw.shape(), &Device::Cpu)?,
        ])
    }
}

impl CustomOp2 for SplineOp {
    fn name(&self) -> &'static str {
        "spline"
    }

    fn cpu_fwd(
        &self,
        points: &CpuStorage,
        points_layout: &Layout,
        raw: &CpuStorage,
        raw_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let points = contiguous_slice::<f64>(points, points_layout)?;
        let mut shape = vec![2];
        shape.extend(points_layout.dims());
        let packed = match raw.dtype() {
            DType::F32 => self.run_forward::<f32>(points, contiguous_slice(raw, raw_layout)?),
            DType::F64 => self.run_forward::<f64>(points, contiguous_slice(raw, raw_layout)?),
            dtype => unsupported(dtype)?,
        };
        Ok((packed, shape.into()))
    }

    fn bwd(
        &self,
        points: &Tensor,
        raw: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [to_points, to_raw] = match raw.dtype() {
            DType::F32 => self.run_backward::<f32>(points, raw, grad)?,
            DType::F64 => self.run_backward::<f64>(points, raw, grad)?,
            dtype => unsupported(dtype)?,
        };
        Ok((Some(to_points), Some(to_raw)))
    }
}
