//! Moves the eigenvalues of SU(3) matrices and keeps their eigenvectors, with gradients that need no derivative of either.
//!
//! ```text
//! W = X e^{iθ} X†,   θ ↔ (w, r) in the unit box,   W′ = X e^{iθ′} X†,   M = W′W† = X diag(m) X†,  m = e^{i(θ′−θ)}
//! with D = X† dW X:   dθ_i = Im(λ_i* D_ii),   (X† dM X)_ii = i m_i (dθ′_i − dθ_i),
//!                     (X† dM X)_ij = D_ij (m_i − m_j)/(λ_i − λ_j)                             (Daleckii–Krein)
//! (m_i − m_j)/(λ_i − λ_j) = e^{i(μ_i+μ_j−θ_i−θ_j)/2} sin((μ_i−μ_j)/2)/sin((θ_i−θ_j)/2),      μ = θ′ − θ
//! ```
//!
//! The quotient of sines stays finite at a wall when the map of the angles keeps walls where they are.

use super::alcove;
use super::block::{Block, Complex, LANES, Lane, NUMBERS};
use super::class::{Class, Classify};
use crate::conv::simd::{Level, Task, Vector, dispatch};
use crate::conv::with_slices;
use crate::host::{contiguous_slice, with_slice};
use crate::unitary::Instructions;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Device, Layout, Result, Shape, Tensor,
};
use rayon::prelude::*;
use std::sync::Arc;

/// Blocks handled by one task.
const TASK: usize = 16;

/// Spectra of a batch of SU(3) matrices.
#[derive(Clone)]
pub struct Spectrum {
    matrices: Tensor,
    classes: Arc<Vec<Class>>,
    device: Device,
}

impl Spectrum {
    /// Diagonalises W `[n, 3, 3, 2]`, f64. A matrix that holds NaN or ∞ has a spectrum of NaN.
    ///
    /// # Errors
    /// When the shape or type is another, or a matrix is not in SU(3) to 10⁻⁶.
    pub fn new(matrices: &Tensor) -> Result<Self> {
        if !matches!(matrices.dims(), [_, 3, 3, 2]) || matrices.dtype() != DType::F64 {
            candle_core::bail!(
                "spectrum: matrices {:?} {:?}, expected [n, 3, 3, 2] of f64",
                matrices.dims(),
                matrices.dtype()
            );
        }
        // Solved on the host; a device gets the results.
        let device = matrices.device().clone();
        let matrices = matrices.to_device(&Device::Cpu)?.contiguous()?;
        let mut classes = vec![Class::identity(); matrices.dims()[0].div_ceil(LANES)];
        let level = Level::detect();
        let bad = with_slice::<f64, _>(&matrices, |all| {
            let tasks = all.par_chunks(TASK * LANES * NUMBERS).zip(classes.par_chunks_mut(TASK)).enumerate();
            let bad = tasks.filter_map(|(task, (matrices, classes))| {
                Some(task * TASK * LANES + dispatch(level, Classify { matrices, classes })?)
            });
            bad.min()
        })?;
        if let Some(index) = bad {
            candle_core::bail!(
                "spectrum: matrix {index} of {} is not in SU(3) to 1e-6; expected unitary matrices of determinant 1",
                matrices.dims()[0]
            );
        }
        Ok(Self { matrices, classes: Arc::new(classes), device })
    }

    fn len(&self) -> usize {
        self.matrices.dims()[0]
    }

    /// Coordinates (w, r) of the conjugacy classes in the unit box, `[n]` each; differentiable in the matrices.
    ///
    /// # Errors
    /// When the tensor library fails.
    pub fn position(&self) -> Result<(Tensor, Tensor)> {
        let packed = self.matrices.apply_op1(Position(self.clone()))?.to_device(&self.device)?;
        Ok((packed.get(0)?, packed.get(1)?))
    }

    /// W′W† `[n, 3, 3, 2]`, where W′ has the eigenvectors of W and its class at (w, r), `[n]` each, f64. Differentiable in all
    /// three, for moves that keep the walls w = 1, r = 0 and r = 1.
    ///
    /// # Errors
    /// When the shapes or types are others.
    pub fn multiplier(&self, w: &Tensor, r: &Tensor) -> Result<Tensor> {
        check("multiplier", w, r)?;
        if w.dims() != [self.len()] {
            candle_core::bail!("multiplier: {} matrices and positions {:?}", self.len(), w.dims());
        }
        let host = |t: &Tensor| t.to_device(&Device::Cpu)?.contiguous();
        self.matrices.apply_op3(&host(w)?, &host(r)?, Multiplier(self.clone()))?.to_device(&self.device)
    }

    /// θ `[n, 3]` in ascending order with sum zero and X `[n, 3, 3, 2]` with eigenvectors as columns, without history.
    ///
    /// # Errors
    /// When the tensor library fails.
    pub fn eigen(&self) -> Result<(Tensor, Tensor)> {
        let (mut frames, mut angles) = (vec![0.0; self.len() * NUMBERS], Vec::with_capacity(3 * self.len()));
        for (class, frames) in self.classes.iter().zip(frames.chunks_mut(LANES * NUMBERS)) {
            class.frame.unpack(frames);
            (0..frames.len() / NUMBERS).for_each(|l| angles.extend(alcove::angles(class.gap(l))));
        }
        Ok((
            Tensor::from_vec(angles, (self.len(), 3), &self.device)?,
            Tensor::from_vec(frames, (self.len(), 3, 3, 2), &self.device)?,
        ))
    }

    /// The gradient in the matrices, block by block, from `gradient(block, class)`.
    fn matrix_gradient(&self, gradient: impl Fn(usize, &Class) -> Block + Sync) -> Result<Tensor> {
        let mut out = vec![0.0; self.len() * NUMBERS];
        let blocks = out.par_chunks_mut(LANES * NUMBERS).zip(self.classes.par_iter()).enumerate();
        blocks.with_min_len(TASK).for_each(|(block, (out, class))| gradient(block, class).unpack(out));
        Tensor::from_vec(out, self.matrices.shape(), &Device::Cpu)
    }
}

fn check(what: &str, w: &Tensor, r: &Tensor) -> Result<()> {
    if w.rank() != 1 || w.dims() != r.dims() || w.dtype() != DType::F64 || r.dtype() != DType::F64 {
        candle_core::bail!(
            "{what}: positions {:?} {:?} and {:?} {:?}, expected [n] of f64 twice",
            w.dims(),
            w.dtype(),
            r.dims(),
            r.dtype()
        );
    }
    Ok(())
}

/// Numbers of a block from a slice of one number a matrix; missing ones are ½.
#[inline(always)]
fn lane(values: &[f64], block: usize) -> Lane {
    let mut lane = [0.5; LANES];
    let values = &values[(block * LANES).min(values.len())..];
    lane.iter_mut().zip(values).for_each(|(lane, value)| *lane = *value);
    lane
}

struct Position(Spectrum);

/// X diag(i t λ) X† for the gradient t in the angles.
struct PositionGradient<'a> {
    class: &'a Class,
    grad: [Lane; 2],
}

impl Task<f64> for PositionGradient<'_> {
    type Output = Block;

    #[inline(always)]
    unsafe fn run<X: Vector<Item = f64>>(self) -> Block {
        // SAFETY: the instructions exist, by the caller's promise.
        let isa = unsafe { Instructions::<X>::assume() };
        let mut rates = [[0.0; LANES]; 3];
        let [to_w, to_r] = self.grad;
        for (l, grad) in to_w.into_iter().zip(to_r).enumerate() {
            let t = alcove::position_gradient(self.class.gap(l), grad.into());
            (0..3).for_each(|k| rates[k][l] = t[k]);
        }
        Block::of_diagonal(isa, &self.class.frame, &self.class.turning(&rates))
    }
}

impl CustomOp1 for Position {
    fn name(&self) -> &'static str {
        "spectral-position"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let n = self.0.len();
        let mut packed = vec![0.0; 2 * n];
        let (w, r) = packed.split_at_mut(n);
        for (i, (w, r)) in w.iter_mut().zip(r).enumerate() {
            [*w, *r] = alcove::position(self.0.classes[i / LANES].gap(i % LANES));
        }
        Ok((CpuStorage::F64(packed), (2, n).into()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let level = Level::detect();
        let gradient = with_slice::<f64, _>(grad, |grad| {
            let (w, r) = grad.split_at(self.0.len());
            self.0.matrix_gradient(|block, class| {
                dispatch(level, PositionGradient { class, grad: [lane(w, block), lane(r, block)] })
            })
        })??;
        Ok(Some(gradient))
    }
}

struct Multiplier(Spectrum);

/// μ and m of one matrix.
#[inline(always)]
fn turn(gaps: [f64; 2], position: [f64; 2]) -> ([f64; 3], [Complex; 3]) {
    let (old, new) = (alcove::angles(gaps), alcove::angles(alcove::gaps(position)));
    let mu: [f64; 3] = std::array::from_fn(|k| new[k] - old[k]);
    let m = mu.map(|mu| {
        let (sin, cos) = mu.sin_cos();
        Complex::new(cos, sin)
    });
    (mu, m)
}

struct MultiplierForward<'a> {
    class: &'a Class,
    position: [Lane; 2],
}

impl Task<f64> for MultiplierForward<'_> {
    type Output = Block;

    #[inline(always)]
    unsafe fn run<X: Vector<Item = f64>>(self) -> Block {
        // SAFETY: the instructions exist, by the caller's promise.
        let isa = unsafe { Instructions::<X>::assume() };
        let mut diagonal = [[[0.0; LANES]; 2]; 3];
        let [w, r] = self.position;
        for (l, position) in w.into_iter().zip(r).enumerate() {
            let (_, m) = turn(self.class.gap(l), position.into());
            (0..3).for_each(|k| (diagonal[k][0][l], diagonal[k][1][l]) = (m[k].re, m[k].im));
        }
        Block::of_diagonal(isa, &self.class.frame, &diagonal)
    }
}

/// Gradients in W and in (w, r).
struct MultiplierBackward<'a> {
    class: &'a Class,
    position: [Lane; 2],
    grad: Block,
}

impl Task<f64> for MultiplierBackward<'_> {
    type Output = (Block, [Lane; 2]);

    #[inline(always)]
    unsafe fn run<X: Vector<Item = f64>>(self) -> (Block, [Lane; 2]) {
        // SAFETY: the instructions exist, by the caller's promise.
        let isa = unsafe { Instructions::<X>::assume() };
        let Self { class, position, grad } = self;
        // Γ = X†GX, which becomes the gradient in D.
        let mut inner = grad.in_frame(isa, &class.frame);
        let (mut rates, mut to_position) = ([[0.0; LANES]; 3], [[0.0; LANES]; 2]);
        for l in 0..LANES {
            let (gaps, at) = (class.gap(l), [position[0][l], position[1][l]]);
            let (theta, (mu, m)) = (alcove::angles(gaps), turn(gaps, at));
            for (i, j) in [(0, 1), (0, 2), (1, 2)] {
                let (sin, cos) = (0.5 * (mu[i] + mu[j] - theta[i] - theta[j])).sin_cos();
                let ratio = (0.5 * (mu[i] - mu[j])).sin() / (0.5 * (theta[i] - theta[j])).sin();
                // The conjugate of the quotient, symmetric in i and j.
                let quotient = Complex::new(ratio * cos, -ratio * sin);
                inner.set(i, j, l, inner.at(i, j, l).times::<X>(quotient));
                inner.set(j, i, l, inner.at(j, i, l).times::<X>(quotient));
            }
            // ∂L/∂θ′_k = Im(Γ_kk m_k*); only differences of angles can change.
            let mut t = [0.0; 3];
            for k in 0..3 {
                t[k] = inner.at(k, k, l).times::<X>(m[k].conj()).im;
            }
            let mean = (t[0] + t[1] + t[2]) / 3.0;
            (0..3).for_each(|k| rates[k][l] = mean - t[k]);
            [to_position[0][l], to_position[1][l]] = alcove::angles_gradient(at, t);
        }
        for (k, d) in class.turning(&rates).into_iter().enumerate() {
            *inner.entry_mut(k, k) = d;
        }
        (inner.out_of_frame(isa, &class.frame), to_position)
    }
}

impl CustomOp3 for Multiplier {
    fn name(&self) -> &'static str {
        "spectral-multiplier"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        matrices: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
        r: &CpuStorage,
        r_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (w, r) = (contiguous_slice::<f64>(w, w_layout)?, contiguous_slice::<f64>(r, r_layout)?);
        let (level, mut out) = (Level::detect(), vec![0.0; self.0.len() * NUMBERS]);
        let blocks = out.par_chunks_mut(LANES * NUMBERS).zip(self.0.classes.par_iter()).enumerate();
        blocks.with_min_len(TASK).for_each(|(block, (out, class))| {
            let position = [lane(w, block), lane(r, block)];
            dispatch(level, MultiplierForward { class, position }).unpack(out);
        });
        Ok((CpuStorage::F64(out), matrices.shape().clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        w: &Tensor,
        r: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (n, level) = (self.0.len(), Level::detect());
        let (mut to_matrices, mut to_w, mut to_r) = (vec![0.0; n * NUMBERS], vec![0.0; n], vec![0.0; n]);
        with_slices::<f64, _>(&[w, r, grad], |s| {
            let gradients = s[2].par_chunks(LANES * NUMBERS).zip(self.0.classes.par_iter()).enumerate();
            let outputs = to_matrices.par_chunks_mut(LANES * NUMBERS);
            let outputs = outputs.zip(to_w.par_chunks_mut(LANES).zip(to_r.par_chunks_mut(LANES)));
            gradients.zip(outputs).with_min_len(TASK).for_each(
                |((block, (grad, class)), (to_matrices, (to_w, to_r)))| {
                    let (grad, position) = (Block::pack(grad), [lane(s[0], block), lane(s[1], block)]);
                    let (matrices, at) = dispatch(level, MultiplierBackward { class, position, grad });
                    matrices.unpack(to_matrices);
                    to_w.copy_from_slice(&at[0][..to_w.len()]);
                    to_r.copy_from_slice(&at[1][..to_r.len()]);
                },
            );
        })?;
        Ok((
            Some(Tensor::from_vec(to_matrices, (n, 3, 3, 2), &Device::Cpu)?),
            Some(Tensor::from_vec(to_w, n, &Device::Cpu)?),
            Some(Tensor::from_vec(to_r, n, &Device::Cpu)?),
        ))
    }
}

/// log of the density of the Haar measure in (w, r), `[n]` each, f64, up to a constant; differentiable.
///
/// ```text
/// log [sin²(πwr) sin²(πw(1−r)) sin²(πw) w]
/// ```
///
/// # Errors
/// When the shapes or types are others.
pub fn haar_log_density(w: &Tensor, r: &Tensor) -> Result<Tensor> {
    check("Haar density", w, r)?;
    let host = |t: &Tensor| t.to_device(&Device::Cpu)?.contiguous();
    host(w)?.apply_op2(&host(r)?, HaarDensity)?.to_device(w.device())
}

struct HaarDensity;

impl CustomOp2 for HaarDensity {
    fn name(&self) -> &'static str {
        "spectral-haar-density"
    }

    fn cpu_fwd(
        &self,
        w: &CpuStorage,
        w_layout: &Layout,
        r: &CpuStorage,
        r_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (w, r) = (contiguous_slice::<f64>(w, w_layout)?, contiguous_slice::<f64>(r, r_layout)?);
        let values = w.par_iter().zip(r).with_min_len(TASK * LANES);
        let values = values.map(|(w, r)| alcove::log_density(*w, *r)).collect();
        Ok((CpuStorage::F64(values), w_layout.shape().clone()))
    }

    fn bwd(
        &self,
        w: &Tensor,
        r: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (to_w, to_r): (Vec<f64>, Vec<f64>) = with_slices::<f64, _>(&[w, r, grad], |s| {
            let points = s[0].par_iter().zip(s[1]).zip(s[2]).with_min_len(TASK * LANES);
            points
                .map(|((w, r), grad)| {
                    let [to_w, to_r] = alcove::log_density_gradient(*w, *r);
                    (grad * to_w, grad * to_r)
                })
                .unzip()
        })?;
        let n = to_w.len();
        Ok((Some(Tensor::from_vec(to_w, n, &Device::Cpu)?), Some(Tensor::from_vec(to_r, n, &Device::Cpu)?)))
    }
}
