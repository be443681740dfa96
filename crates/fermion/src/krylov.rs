//! What iterative solvers need of vectors: one recursion serves tensors and vectors in lanes.

use crate::packed::{PackedOperator, Spare};
use crate::{Error, LinearOperator, Result, Solution};
use candle_core::Tensor;
use latflow_kernels::wilson::WilsonVector;
use latflow_kernels::{add_scaled, dot};
use rayon::prelude::*;
use std::cell::RefCell;

/// (re, im).
pub(crate) type Complex = [f64; 2];

/// A batch of vector spaces with an operator on them. Every configuration has its own scalars, and none disturbs another.
pub(crate) trait Space {
    type Vector;

    /// Number of configurations.
    fn batch(&self) -> usize;

    /// Their first one's index in the whole batch.
    fn first(&self) -> usize;

    fn zeros(&self) -> Result<Self::Vector>;

    /// out ← A v.
    fn apply(&self, v: &Self::Vector, out: &mut Self::Vector) -> Result<()>;

    /// ⟨x, y⟩ = Σ x* y.
    fn inner(&self, x: &Self::Vector, y: &Self::Vector) -> Result<Vec<Complex>>;

    /// Re⟨x, y⟩.
    fn dot(&self, x: &Self::Vector, y: &Self::Vector) -> Result<Vec<f64>> {
        Ok(self.inner(x, y)?.iter().map(|z| z[0]).collect())
    }

    /// y ← a x + b y.
    fn combine(&self, a: &[Complex], x: &Self::Vector, b: &[Complex], y: &mut Self::Vector) -> Result<()>;

    /// A copy of x.
    fn copy(&self, x: &Self::Vector) -> Result<Self::Vector> {
        let mut y = self.zeros()?;
        self.combine(&self.all(1.0), x, &self.all(0.0), &mut y)?;
        Ok(y)
    }

    /// The same number for all configurations.
    fn all(&self, a: f64) -> Vec<Complex> {
        vec![[a, 0.0]; self.batch()]
    }
}

/// Real numbers as complex ones.
pub(crate) fn real(a: &[f64]) -> Vec<Complex> {
    a.iter().map(|&a| [a, 0.0]).collect()
}

/// Tensors `[B, 2, N]`, or `[B, …]` where all scalars are real.
pub(crate) struct Tensors<'a, A: ?Sized> {
    pub(crate) operator: &'a A,
    pub(crate) like: &'a Tensor,
}

/// i x for x `[B, 2, N]`.
fn times_i(x: &Tensor) -> Result<Tensor> {
    Ok(Tensor::cat(&[x.narrow(1, 1, 1)?.neg()?, x.narrow(1, 0, 1)?], 1)?)
}

impl<A: LinearOperator + ?Sized> Space for Tensors<'_, A> {
    type Vector = Tensor;

    fn batch(&self) -> usize {
        self.like.dims()[0]
    }

    fn first(&self) -> usize {
        0
    }

    fn zeros(&self) -> Result<Tensor> {
        Ok(self.like.zeros_like()?)
    }

    fn apply(&self, v: &Tensor, out: &mut Tensor) -> Result<()> {
        *out = self.operator.apply(v)?;
        Ok(())
    }

    fn inner(&self, x: &Tensor, y: &Tensor) -> Result<Vec<Complex>> {
        let (re, im) = (dot(x, y)?, dot(&times_i(x)?, y)?);
        Ok(re.into_iter().zip(im).map(|(re, im)| [re, im]).collect())
    }

    fn dot(&self, x: &Tensor, y: &Tensor) -> Result<Vec<f64>> {
        Ok(dot(x, y)?)
    }

    fn combine(&self, a: &[Complex], x: &Tensor, b: &[Complex], y: &mut Tensor) -> Result<()> {
        let part = |z: &[Complex], part: usize| -> Vec<f64> { z.iter().map(|z| z[part]).collect() };
        let mut sum = if b.iter().all(|b| *b == [1.0, 0.0]) {
            y.clone()
        } else if b.iter().all(|b| *b == [0.0, 0.0]) {
            y.zeros_like()?
        } else {
            add_scaled(&y.zeros_like()?, &part(b, 0), y)?
        };
        if b.iter().any(|b| b[1] != 0.0) {
            sum = add_scaled(&sum, &part(b, 1), &times_i(y)?)?;
        }
        sum = add_scaled(&sum, &part(a, 0), x)?;
        if a.iter().any(|a| a[1] != 0.0) {
            sum = add_scaled(&sum, &part(a, 1), &times_i(x)?)?;
        }
        *y = sum;
        Ok(())
    }

    fn copy(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.clone())
    }
}

/// One block of configurations in lanes.
pub(crate) struct Block<'a> {
    operator: &'a dyn PackedOperator,
    block: usize,
    spare: RefCell<Spare>,
}

impl Space for Block<'_> {
    type Vector = WilsonVector;

    fn batch(&self) -> usize {
        self.operator.links().configurations(self.block).len()
    }

    fn first(&self) -> usize {
        self.operator.links().configurations(self.block).start
    }

    fn zeros(&self) -> Result<WilsonVector> {
        Ok(self.operator.links().zeros(self.operator.sites()))
    }

    fn apply(&self, v: &WilsonVector, out: &mut WilsonVector) -> Result<()> {
        self.operator.apply(self.block, v, false, out, &mut self.spare.borrow_mut())
    }

    fn inner(&self, x: &WilsonVector, y: &WilsonVector) -> Result<Vec<Complex>> {
        Ok(self.operator.links().inner(self.block, x, y)?)
    }

    fn combine(&self, a: &[Complex], x: &WilsonVector, b: &[Complex], y: &mut WilsonVector) -> Result<()> {
        Ok(self.operator.links().combine(self.block, (a, x), (b, y))?)
    }
}

/// The result of a recursion on some configurations.
pub(crate) struct Solved<V> {
    pub(crate) x: V,
    pub(crate) iterations: Vec<usize>,
    pub(crate) relative_residual: Vec<f64>,
}

/// A recursion, written once for all kinds of vectors.
pub(crate) trait Recursion: Sync {
    fn run<S: Space>(&self, space: &S, b: &S::Vector) -> Result<Solved<S::Vector>>;
}

/// Solves A x = b on packed vectors if A offers it.
pub(crate) fn solve<A: LinearOperator + ?Sized>(
    a: &A,
    b: &Tensor,
    recursion: &impl Recursion,
) -> Result<Solution> {
    let b = b.detach();
    let Some(packed) = a.packed() else {
        let Solved { x, iterations, relative_residual } =
            recursion.run(&Tensors { operator: a, like: &b }, &b)?;
        return Ok(Solution { x, iterations, relative_residual });
    };
    let (operator, links) = (&*packed, packed.links());
    let blocks = links.pack(&b.to_device(&candle_core::Device::Cpu)?, packed.sites())?;
    let solved: Vec<Result<Solved<WilsonVector>>> = blocks
        .par_iter()
        .enumerate()
        .map(|(block, b)| recursion.run(&Block { operator, block, spare: RefCell::default() }, b))
        .collect();
    let (mut x, mut iterations, mut relative_residual) = (Vec::new(), Vec::new(), Vec::new());
    for block in solved {
        let block = block?;
        x.push(block.x);
        iterations.extend(block.iterations);
        relative_residual.extend(block.relative_residual);
    }
    Ok(Solution { x: links.unpack(&x)?.to_device(b.device())?, iterations, relative_residual })
}

/// ‖r‖/‖b‖ of each configuration, or the error that one of them is finite and above the tolerance.
pub(crate) fn checked_residuals(
    space: &impl Space,
    (r2, norm2): (&[f64], &[f64]),
    tolerance: f64,
    iterations: usize,
) -> Result<Vec<f64>> {
    let relative: Vec<f64> =
        r2.iter().zip(norm2).map(|(r, n)| if *n == 0.0 { 0.0 } else { (r / n).sqrt() }).collect();
    let missed = |i: usize| r2[i] > tolerance * tolerance * norm2[i];
    match (0..relative.len()).find(|&i| missed(i)) {
        Some(i) => Err(Error::NoConvergence {
            configuration: space.first() + i,
            residual: relative[i],
            tolerance,
            iterations,
        }),
        None => Ok(relative),
    }
}
