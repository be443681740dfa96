//! Tensors of small matrices as runs of lanes, and the loop over them that every operation here shares.
//!
//! ```text
//! tensor, matrix first:  [matrix][component]          lanes: [component][lane], lane = one of the next matrices
//! ```

use super::register::{Instructions, MAX_LANES};
use crate::conv::simd::{Element, Level, Task, Vector, dispatch};
use rayon::prelude::*;

/// Components of the largest matrices with kernels: N = 3.
const COMPONENTS: usize = 18;

/// Matrices a task: about a hundred kilobytes an argument.
const TASK: usize = 1024;

/// The components of as many matrices as a register has lanes.
#[repr(align(64))]
pub(super) struct Buffer<T>(pub(super) [T; COMPONENTS * MAX_LANES]);

impl<T: Element> Buffer<T> {
    #[inline(always)]
    fn zeros() -> Self {
        Self([T::default(); COMPONENTS * MAX_LANES])
    }

    /// Lane l is matrix l of the slice; idle lanes repeat the last one.
    #[inline(always)]
    fn gather(&mut self, from: &[T], size: usize, lanes: usize) {
        let count = from.len() / size;
        for l in 0..lanes {
            let matrix = &from[l.min(count - 1) * size..][..size];
            for c in 0..size {
                self.0[c * lanes + l] = matrix[c];
            }
        }
    }

    #[inline(always)]
    fn scatter(&self, to: &mut [T], size: usize, lanes: usize) {
        for (l, matrix) in to.chunks_exact_mut(size).enumerate() {
            for c in 0..size {
                matrix[c] = self.0[c * lanes + l];
            }
        }
    }
}

/// What is done to matrices, one a lane: [`ARGUMENTS`](Operation::ARGUMENTS) fields to one.
pub(super) trait Operation<const INPUTS: usize>: Copy + Sync {
    /// Numbers of an element of each input, and of the output.
    fn sizes(self) -> ([usize; INPUTS], usize);

    /// Implementations are `#[inline(always)]`. Component c starts at c · LANES.
    fn run<X: Vector>(
        self,
        isa: Instructions<X>,
        inputs: &[Buffer<X::Item>; INPUTS],
        out: &mut Buffer<X::Item>,
    );
}

/// Applies an operation to every matrix, on all threads; the number of threads changes nothing.
pub(super) fn apply<T: Element, O: Operation<INPUTS>, const INPUTS: usize>(
    operation: O,
    inputs: [&[T]; INPUTS],
) -> Vec<T> {
    apply_with(Level::detect(), operation, inputs)
}

/// The same with a given instruction set.
pub(super) fn apply_with<T: Element, O: Operation<INPUTS>, const INPUTS: usize>(
    level: Level,
    operation: O,
    inputs: [&[T]; INPUTS],
) -> Vec<T> {
    let (sizes, size) = operation.sizes();
    let count = inputs[0].len() / sizes[0];
    let mut out = vec![T::default(); count * size];
    let run = |task: usize, out: &mut [T]| {
        let mut part = inputs;
        for (part, size) in part.iter_mut().zip(sizes) {
            *part = &part[task * TASK * size..];
        }
        dispatch(level, Run { operation, inputs: part, out });
    };
    if count <= TASK {
        run(0, &mut out);
    } else {
        out.par_chunks_mut(TASK * size).enumerate().for_each(|(task, out)| run(task, out));
    }
    out
}

struct Run<'a, T, O, const INPUTS: usize> {
    operation: O,
    inputs: [&'a [T]; INPUTS],
    out: &'a mut [T],
}

impl<T: Element, O: Operation<INPUTS>, const INPUTS: usize> Task<T> for Run<'_, T, O, INPUTS> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(self) {
        // SAFETY: the instructions exist, by the caller's promise.
        let isa = unsafe { Instructions::<X>::assume() };
        let (sizes, size) = self.operation.sizes();
        let mut inputs: [Buffer<T>; INPUTS] = std::array::from_fn(|_| Buffer::zeros());
        let mut result = Buffer::zeros();
        for (block, out) in self.out.chunks_mut(X::LANES * size).enumerate() {
            let count = out.len() / size;
            for i in 0..INPUTS {
                let from = &self.inputs[i][block * X::LANES * sizes[i]..][..count * sizes[i]];
                inputs[i].gather(from, sizes[i], X::LANES);
            }
            self.operation.run(isa, &inputs, &mut result);
            result.scatter(out, size, X::LANES);
        }
    }
}
