//! The processor's multiply-add peak and the memory's copy bandwidth, measured: what the kernels' speed is to be compared with.
//!
//! Twelve independent chains a ← a·m + c in registers keep every multiply-add unit busy and touch no memory. Measure in the
//! same process as the kernel in question: clock frequencies and neighbours on a shared machine change by the minute.

use crate::conv::simd::{Element, Level, Task, Vector, dispatch};
use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// The instruction set the kernels use on this processor.
pub fn instruction_set() -> &'static str {
    Level::detect().name()
}

/// Floating point operations a second (a multiply-add is two) of f32 on `threads` threads: the best of several trials.
pub fn multiply_add_f32(threads: usize) -> f64 {
    multiply_add::<f32>(threads)
}

/// As [`multiply_add_f32`], of f64.
pub fn multiply_add_f64(threads: usize) -> f64 {
    multiply_add::<f64>(threads)
}

/// Bytes read plus bytes written a second when `threads` threads copy arrays far larger than any cache: the best of several trials.
pub fn copy_bandwidth(threads: usize) -> f64 {
    let from = vec![1.0f64; COPIED];
    let mut to = vec![0.0f64; COPIED];
    let part = COPIED.div_ceil(threads.max(1));
    let mut shortest = Duration::MAX;
    for _ in 0..COPIES {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for (from, to) in from.chunks(part).zip(to.chunks_mut(part)) {
                scope.spawn(move || to.copy_from_slice(black_box(from)));
            }
        });
        shortest = shortest.min(start.elapsed());
        black_box(&to);
    }
    (2 * COPIED * size_of::<f64>()) as f64 / shortest.as_secs_f64()
}

/// Numbers in an array that is copied: 256 MiB.
const COPIED: usize = 1 << 25;
const COPIES: usize = 20;
const CHAINS: usize = 12;
/// About a millisecond, and many of them: on a machine shared with others some find all cores free.
const STEPS: usize = 500_000;
const TRIALS: usize = 150;

fn multiply_add<T: Element>(threads: usize) -> f64 {
    let level = Level::detect();
    let operations = (2 * CHAINS * STEPS * level.registers::<T>().0 * threads) as f64;
    let shortest = (0..TRIALS).map(|_| trial::<T>(level, threads)).min().unwrap_or(Duration::MAX);
    operations / shortest.as_secs_f64()
}

/// From the moment all threads have started until the last has finished.
fn trial<T: Element>(level: Level, threads: usize) -> Duration {
    let barrier = Barrier::new(threads);
    let spans: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    let start = Instant::now();
                    black_box(dispatch::<T, _>(level, Chains { steps: black_box(STEPS) }));
                    (start, Instant::now())
                })
            })
            .collect();
        workers.into_iter().filter_map(|w| w.join().ok()).collect()
    });
    let start = spans.iter().map(|s| s.0).min();
    let end = spans.iter().map(|s| s.1).max();
    start.zip(end).map_or(Duration::MAX, |(start, end)| end - start)
}

struct Chains {
    steps: usize,
}

impl<T: Element> Task<T> for Chains {
    type Output = T;

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(self) -> T {
        // SAFETY: the instructions exist, by the caller's promise; no pointer is used.
        unsafe {
            let factor = X::splat(T::from_f64(black_box(0.999_9)));
            let shift = X::splat(T::from_f64(black_box(1e-4)));
            let mut chains = [X::splat(T::from_f64(black_box(0.5))); CHAINS];
            for _ in 0..self.steps {
                for chain in &mut chains {
                    *chain = chain.mul_add(factor, shift);
                }
            }
            let mut total = chains[0];
            for chain in &chains[1..] {
                total = total.add(*chain);
            }
            total.sum()
        }
    }
}
