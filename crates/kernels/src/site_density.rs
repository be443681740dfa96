//! Maps a normal number to the one-dimensional Boltzmann density e^{Σ_j θ_j x^{n_j}} of each site, exactly.
//!
//! ```text
//! p_i = exp Σ_j θ_j g_i^{n_j}       at the nodes g_i of a uniform grid on [−c, c]
//! q(x) = p(x)/Z                     p linear between its nodes, Z = Σ_i δ (p_i + p_{i+1})/2
//! ∫_{−c}^{x} q = Φ(z)               piecewise quadratic: solved in closed form
//! ```
//!
//! q is by definition the density of the interpolated p, so that map and density belong to each other to rounding, whatever
//! the grid; a fine grid only brings q closer to the Boltzmann density. The mass outside the cutoff c is left out: choose c
//! where the action is above 40.

use crate::host::{contiguous_slice, with_slice};
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::f64::consts::{FRAC_1_SQRT_2, LOG2_E};
use std::sync::Arc;

/// A family of densities with parameters θ_j, one a power.
#[derive(Debug, Clone)]
pub struct SiteDensity(Arc<Grid>);

#[derive(Debug)]
struct Grid {
    cutoff: f64,
    spacing: f64,
    nodes: Vec<f64>,
    /// g_i^{n_j}, one row a power.
    powers: Vec<Vec<f64>>,
}

/// Sites handled by one task.
const TASK: usize = 512;

impl SiteDensity {
    /// Densities on [−`cutoff`, `cutoff`] in `cells` cells with the given powers of x.
    ///
    /// # Errors
    /// When the cutoff is not positive and finite, there are fewer than two cells, or no power.
    pub fn new(cutoff: f64, cells: usize, powers: &[u32]) -> Result<Self> {
        if !(cutoff > 0.0 && cutoff.is_finite()) || cells < 2 || powers.is_empty() {
            candle_core::bail!(
                "site density: cutoff {cutoff}, {cells} cells, powers {powers:?}; expected a positive cutoff, at least two \
                 cells and one power"
            );
        }
        let spacing = 2.0 * cutoff / cells as f64;
        let nodes: Vec<f64> = (0..=cells).map(|i| -cutoff + spacing * i as f64).collect();
        let powers = powers.iter().map(|n| nodes.iter().map(|g| g.powi(*n as i32)).collect()).collect();
        Ok(Self(Arc::new(Grid { cutoff, spacing, nodes, powers })))
    }

    /// Number of parameters of a site.
    pub fn parameters(&self) -> usize {
        self.0.powers.len()
    }

    /// (x, log q(x)) for normal z `[…]` and θ `[…, J]`, f64; differentiable in both.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn sample(&self, z: &Tensor, theta: &Tensor) -> Result<(Tensor, Tensor)> {
        self.apply(z, theta, Direction::Sample)
    }

    /// (z, log q(x)) for x `[…]` and θ `[…, J]`, f64; differentiable in both. Outside the cutoff log q = −∞ and z = ±38.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn normalize(&self, x: &Tensor, theta: &Tensor) -> Result<(Tensor, Tensor)> {
        self.apply(x, theta, Direction::Normalize)
    }

    fn apply(&self, field: &Tensor, theta: &Tensor, direction: Direction) -> Result<(Tensor, Tensor)> {
        let mut expected = field.dims().to_vec();
        expected.push(self.parameters());
        if theta.dims() != expected || field.dtype() != DType::F64 || theta.dtype() != DType::F64 {
            candle_core::bail!(
                "site density: field {:?} {:?} and parameters {:?} {:?}, expected f64 and {expected:?}",
                field.dims(),
                field.dtype(),
                theta.dims(),
                theta.dtype()
            );
        }
        // The map is solved on the host; a device gets the result.
        let (device, host) = (field.device(), candle_core::Device::Cpu);
        let op = SiteOp { grid: self.clone(), direction };
        let (field, theta) = (field.to_device(&host)?.contiguous()?, theta.to_device(&host)?.contiguous()?);
        let packed = field.apply_op2(&theta, op)?.to_device(device)?;
        Ok((packed.get(0)?, packed.get(1)?))
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Direction {
    Sample,
    Normalize,
}

struct SiteOp {
    grid: SiteDensity,
    direction: Direction,
}

/// The tables of one site.
struct Site {
    /// p_i, up to a common factor.
    p: Vec<f64>,
    /// Z, up to the same factor and the spacing.
    total: f64,
}

/// Where a point lies: cell k, fraction s, and the mass on either side in units of the spacing, of which the smaller is exact.
#[derive(Clone, Copy)]
struct Point {
    cell: usize,
    s: f64,
    left: f64,
    right: f64,
}

impl Site {
    fn new(cells: usize) -> Self {
        Self { p: vec![0.0; cells + 1], total: 0.0 }
    }

    fn fill(&mut self, grid: &Grid, theta: &[f64]) {
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has just reported the features the function is compiled for.
            return unsafe { fill_avx512(self, grid, theta) };
        }
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            // SAFETY: the processor has just reported the features the function is compiled for.
            return unsafe { fill_avx2(self, grid, theta) };
        }
        fill(self, grid, theta);
    }

    fn cell_mass(&self, k: usize) -> f64 {
        0.5 * (self.p[k] + self.p[k + 1])
    }

    /// The point with Φ(z) of the mass to its left.
    fn locate(&self, z: f64) -> Point {
        let cells = self.p.len() - 1;
        let tail = normal_tail(z.abs()) * self.total;
        let mut sum = 0.0;
        for step in 0..cells {
            let k = if z <= 0.0 { step } else { cells - 1 - step };
            let mass = self.cell_mass(k);
            if sum + mass >= tail || step + 1 == cells {
                // The mass from the outer end of the cell to the point.
                let r = (tail - sum).clamp(0.0, mass);
                let (outer, inner) =
                    if z <= 0.0 { (self.p[k], self.p[k + 1]) } else { (self.p[k + 1], self.p[k]) };
                let root = (outer * outer + 2.0 * (inner - outer) * r).max(0.0).sqrt();
                let s = if r > 0.0 { (2.0 * r / (outer + root)).min(1.0) } else { 0.0 };
                let (s, left, right) =
                    if z <= 0.0 { (s, tail, self.total - tail) } else { (1.0 - s, self.total - tail, tail) };
                return Point { cell: k, s, left, right };
            }
            sum += mass;
        }
        Point { cell: cells - 1, s: 1.0, left: self.total, right: 0.0 }
    }

    /// The point x, which lies inside the cutoff.
    fn find(&self, grid: &Grid, x: f64) -> Point {
        let cells = self.p.len() - 1;
        let cell = (((x + grid.cutoff) / grid.spacing) as usize).min(cells - 1);
        let s = ((x - grid.nodes[cell]) / grid.spacing).clamp(0.0, 1.0);
        let (a, b) = (self.p[cell], self.p[cell + 1]);
        // Summed from the nearer end, so that a tail keeps its digits.
        let (left, right) = if 2 * cell < cells {
            let left = (0..cell).map(|k| self.cell_mass(k)).sum::<f64>() + s * (a + 0.5 * s * (b - a));
            (left, self.total - left)
        } else {
            let u = 1.0 - s;
            let right =
                (cell + 1..cells).map(|k| self.cell_mass(k)).sum::<f64>() + u * (b + 0.5 * u * (a - b));
            (self.total - right, right)
        };
        Point { cell, s, left, right }
    }

    fn density(&self, point: Point) -> f64 {
        let (a, b) = (self.p[point.cell], self.p[point.cell + 1]);
        a + (b - a) * point.s
    }
}

#[inline(always)]
fn fill(site: &mut Site, grid: &Grid, theta: &[f64]) {
    let p = &mut site.p[..];
    p.fill(0.0);
    for (theta, powers) in theta.iter().zip(&grid.powers) {
        for (p, power) in p.iter_mut().zip(powers) {
            *p += theta * power;
        }
    }
    // NaN is not the largest of anything, but it comes back through exp.
    let largest = p.iter().fold(f64::NEG_INFINITY, |m, x| if *x > m { *x } else { m });
    for p in p.iter_mut() {
        *p = exp_negative(*p - largest);
    }
    let ends = 0.5 * (p[0] + p[p.len() - 1]);
    let mut sums = [0.0; 8];
    let mut chunks = p.chunks_exact(8);
    for chunk in &mut chunks {
        for (sum, p) in sums.iter_mut().zip(chunk) {
            *sum += p;
        }
    }
    site.total = sums.iter().sum::<f64>() + chunks.remainder().iter().sum::<f64>() - ends;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,fma")]
fn fill_avx512(site: &mut Site, grid: &Grid, theta: &[f64]) {
    fill(site, grid, theta);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn fill_avx2(site: &mut Site, grid: &Grid, theta: &[f64]) {
    fill(site, grid, theta);
}

/// e^x for x ≤ 0, zero below −700; relative error of a few units in the last place. NaN stays NaN.
#[inline(always)]
pub(crate) fn exp_negative(x: f64) -> f64 {
    const ROUND: f64 = 1.5 * (1u64 << 52) as f64;
    let t = if x < -700.0 { -700.0 } else { x };
    let shifted = t * LOG2_E + ROUND;
    let k = shifted - ROUND;
    let scale = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    let r = (t - k * 0.693_147_180_369_123_8) - k * 1.908_214_929_270_587_7e-10;
    let mut series = 1.0 / 6_227_020_800.0;
    for factorial in [
        479_001_600.0,
        39_916_800.0,
        3_628_800.0,
        362_880.0,
        40_320.0,
        5_040.0,
        720.0,
        120.0,
        24.0,
        6.0,
        2.0,
        1.0,
        1.0,
    ] {
        series = series * r + 1.0 / factorial;
    }
    let value = scale * series;
    if x < -700.0 { 0.0 } else { value }
}

/// ∫_z^∞ of the normal density, for z ≥ 0.
fn normal_tail(z: f64) -> f64 {
    0.5 * libm::erfc(z * FRAC_1_SQRT_2)
}

const LOG_SQRT_TWO_PI: f64 = 0.918_938_533_204_672_8;

fn normal_density(z: f64) -> f64 {
    (-0.5 * z * z - LOG_SQRT_TWO_PI).exp()
}

/// The z ≥ 0 whose tail is `tail` ≤ ½: Halley's method from the first term of the asymptotic series or of Taylor's.
fn normal_quantile(tail: f64) -> f64 {
    let mut z = if tail > 0.1 {
        (0.5 - tail) / 0.398_942_280_401_432_7
    } else {
        let w = -2.0 * (tail.ln() + LOG_SQRT_TWO_PI);
        (w - w.max(1.1).ln()).max(0.5).sqrt()
    };
    for _ in 0..20 {
        let newton = (normal_tail(z) - tail) / normal_density(z);
        let step = newton / (1.0 - 0.5 * z * newton).max(0.5);
        z += step;
        if step.abs() <= 1e-15 * z.abs().max(1.0) {
            break;
        }
    }
    z.max(0.0)
}

/// What a point outside the cutoff is sent to: no normal number is ever there.
const OUTSIDE: f64 = 38.0;

impl SiteOp {
    /// (out, log q) of one site.
    fn forward(&self, site: &mut Site, field: f64, theta: &[f64]) -> (f64, f64) {
        let grid = &*self.grid.0;
        site.fill(grid, theta);
        // NaN in, NaN out: infinite parameters are none either.
        if field.is_nan() || site.total.is_nan() {
            return (f64::NAN, f64::NAN);
        }
        let log_density = |p: f64| (p / (site.total * grid.spacing)).ln();
        match self.direction {
            Direction::Sample => {
                let point = site.locate(field);
                // The last node may lie an ulp outside.
                let x = (grid.nodes[point.cell] + point.s * grid.spacing).clamp(-grid.cutoff, grid.cutoff);
                (x, log_density(site.density(point)))
            }
            Direction::Normalize if field.abs() > grid.cutoff => (OUTSIDE.copysign(field), f64::NEG_INFINITY),
            Direction::Normalize => {
                let point = site.find(grid, field);
                let z = if point.left <= point.right {
                    -normal_quantile(point.left / site.total)
                } else {
                    normal_quantile(point.right / site.total)
                };
                (z, log_density(site.density(point)))
            }
        }
    }

    /// Adds the gradient of one site to `theta_gradient` and returns that of the field.
    fn backward(
        &self,
        site: &mut Site,
        field: f64,
        theta: &[f64],
        (gradient_out, gradient_log): (f64, f64),
        theta_gradient: &mut [f64],
    ) -> f64 {
        let grid = &*self.grid.0;
        if self.direction == Direction::Normalize && field.abs() > grid.cutoff {
            return 0.0;
        }
        site.fill(grid, theta);
        if field.is_nan() || site.total.is_nan() {
            theta_gradient.fill(f64::NAN);
            return f64::NAN;
        }
        let point = match self.direction {
            Direction::Sample => site.locate(field),
            Direction::Normalize => site.find(grid, field),
        };
        let Point { cell, s, .. } = point;
        let (a, b) = (site.p[cell], site.p[cell + 1]);
        let p = site.density(point);
        // ∂ log q/∂x at fixed θ.
        let slope = (b - a) / (p * grid.spacing);
        // The derivative of the mass to one side of x, from the side where it is small.
        let from_left = point.left <= point.right;
        let (outer, sign) = if from_left { (point.left, 1.0) } else { (point.right, -1.0) };
        let fraction = outer / site.total;
        let z_density = match self.direction {
            Direction::Sample => normal_density(field),
            Direction::Normalize => normal_density(normal_quantile(fraction)),
        };
        for (gradient, power) in theta_gradient.iter_mut().zip(&grid.powers) {
            let moment = moment(&site.p, power);
            let (ta, tb) = (a * power[cell], b * power[cell + 1]);
            let side = if from_left {
                trapezoid(&site.p[..=cell], &power[..=cell]) + s * (ta + 0.5 * s * (tb - ta))
            } else {
                let u = 1.0 - s;
                trapezoid(&site.p[cell + 1..], &power[cell + 1..]) + u * (tb + 0.5 * u * (ta - tb))
            };
            // ∂/∂θ of the cumulated q at fixed x, and of log q at fixed x.
            let cumulated = sign * (side - fraction * moment) / site.total;
            let log_q = (ta + (tb - ta) * s) / p - moment / site.total;
            *gradient += match self.direction {
                Direction::Sample => {
                    let dx = -cumulated * site.total * grid.spacing / p;
                    gradient_out * dx + gradient_log * (log_q + slope * dx)
                }
                Direction::Normalize => gradient_out * cumulated / z_density + gradient_log * log_q,
            };
        }
        let q = p / (site.total * grid.spacing);
        match self.direction {
            Direction::Sample => (gradient_out + gradient_log * slope) * z_density / q,
            Direction::Normalize => gradient_out * q / z_density + gradient_log * slope,
        }
    }

    fn sites(&self, layout: &Layout) -> Vec<usize> {
        let mut shape = vec![2];
        shape.extend(layout.dims());
        shape
    }
}

/// Σ_i p_i T_i with the trapezoid's half weights at the ends.
fn trapezoid(p: &[f64], power: &[f64]) -> f64 {
    let last = p.len() - 1;
    if last == 0 {
        return 0.0;
    }
    moment(p, power)
}

fn moment(p: &[f64], power: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (mut ps, mut powers) = (p.chunks_exact(8), power.chunks_exact(8));
    for (p, power) in (&mut ps).zip(&mut powers) {
        for i in 0..8 {
            sums[i] += p[i] * power[i];
        }
    }
    let rest: f64 = ps.remainder().iter().zip(powers.remainder()).map(|(p, power)| p * power).sum();
    let last = p.len() - 1;
    sums.iter().sum::<f64>() + rest - 0.5 * (p[0] * power[0] + p[last] * power[last])
}

impl CustomOp2 for SiteOp {
    fn name(&self) -> &'static str {
        "site-density"
    }

    fn cpu_fwd(
        &self,
        field: &CpuStorage,
        field_layout: &Layout,
        theta: &CpuStorage,
        theta_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let field = contiguous_slice::<f64>(field, field_layout)?;
        let theta = contiguous_slice::<f64>(theta, theta_layout)?;
        let parameters = self.grid.parameters();
        let mut packed = vec![0.0; 2 * field.len()];
        let (out, log_q) = packed.split_at_mut(field.len());
        let cells = self.grid.0.nodes.len() - 1;
        let tasks = out.par_chunks_mut(TASK).zip(log_q.par_chunks_mut(TASK)).zip(field.par_chunks(TASK));
        tasks.zip(theta.par_chunks(TASK * parameters)).for_each(|(((out, log_q), field), theta)| {
            let mut site = Site::new(cells);
            for (i, theta) in theta.chunks_exact(parameters).enumerate() {
                (out[i], log_q[i]) = self.forward(&mut site, field[i], theta);
            }
        });
        Ok((CpuStorage::F64(packed), Shape::from(self.sites(field_layout))))
    }

    fn bwd(
        &self,
        field: &Tensor,
        theta: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let parameters = self.grid.parameters();
        let cells = self.grid.0.nodes.len() - 1;
        let n = field.elem_count();
        let (mut to_field, mut to_theta) = (vec![0.0; n], vec![0.0; n * parameters]);
        with_slice::<f64, _>(field, |field| {
            with_slice::<f64, _>(theta, |theta| {
                with_slice::<f64, _>(gradient, |gradient| {
                    let (out, log_q) = gradient.split_at(n);
                    let tasks = to_field.par_chunks_mut(TASK).zip(to_theta.par_chunks_mut(TASK * parameters));
                    tasks.enumerate().for_each(|(task, (to_field, to_theta))| {
                        let mut site = Site::new(cells);
                        for (i, to_theta) in to_theta.chunks_exact_mut(parameters).enumerate() {
                            let j = task * TASK + i;
                            let theta = &theta[j * parameters..][..parameters];
                            to_field[i] =
                                self.backward(&mut site, field[j], theta, (out[j], log_q[j]), to_theta);
                        }
                    });
                })
            })
        })???;
        Ok((
            Some(Tensor::from_vec(to_field, field.shape(), field.device())?),
            Some(Tensor::from_vec(to_theta, theta.shape(), theta.device())?),
        ))
    }
}
