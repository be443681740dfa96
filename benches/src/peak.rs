//! What this machine can do, measured now: the yardstick printed beside every bench.
//!
//! *FMA peak*: multiply-adds in registers, the ceiling of any kernel. *GEMM*: candle's matrix product, what a well-tuned library
//! makes of it. Both for one thread and for all, because clock frequency and shared caches depend on how many are busy.

use candle_core::{DType, Device, Result, Tensor};
use latflow_kernels::peak;
use std::time::{Duration, Instant};

/// Floating point operations a second.
#[derive(Debug, Clone, Copy)]
pub struct Peak {
    /// Threads of the kernels' pool.
    pub threads: usize,
    /// Multiply-adds of f32 on one thread.
    pub fma_f32_one: f64,
    /// Multiply-adds of f32 on all threads.
    pub fma_f32: f64,
    /// Multiply-adds of f64 on one thread.
    pub fma_f64_one: f64,
    /// Multiply-adds of f64 on all threads.
    pub fma_f64: f64,
}

impl Peak {
    /// Takes about a second.
    pub fn measure() -> Self {
        let threads = rayon::current_num_threads();
        Self {
            threads,
            fma_f32_one: peak::multiply_add_f32(1),
            fma_f32: peak::multiply_add_f32(threads),
            fma_f64_one: peak::multiply_add_f64(1),
            fma_f64: peak::multiply_add_f64(threads),
        }
    }

    /// The multiply-add peak of all threads for an element type.
    pub fn of(&self, dtype: DType) -> f64 {
        if dtype == DType::F64 { self.fma_f64 } else { self.fma_f32 }
    }

    /// Prints the peaks and the heading of the rows that follow.
    ///
    /// # Errors
    /// Those of the matrix products.
    pub fn print_heading(&self) -> Result<()> {
        println!("instruction set {}, {} threads", peak::instruction_set(), self.threads);
        println!("{:<52} {:>10} {:>9} {:>9} {:>9}", "kernel", "GFLOP", "ms", "GF/s", "of FMA");
        for (name, one, all) in
            [("f32", self.fma_f32_one, self.fma_f32), ("f64", self.fma_f64_one, self.fma_f64)]
        {
            println!("{:<52} {:>10} {:>9} {:>9.1}", format!("FMA peak {name}, 1 thread"), "", "", one / 1e9);
            println!(
                "{:<52} {:>10} {:>9} {:>9.1}",
                format!("FMA peak {name}, all threads"),
                "",
                "",
                all / 1e9
            );
        }
        for dtype in [DType::F32, DType::F64] {
            for n in [1024, 2048] {
                let a = Tensor::ones((n, n), dtype, &Device::Cpu)?;
                let name = format!("candle matmul {n}×{n}, {dtype:?}");
                self.print_row(&name, dtype, 2.0 * (n as f64).powi(3), || a.matmul(&a))?;
            }
        }
        Ok(())
    }

    /// Times `f`, which does `flops` operations, and prints the rate and the fraction of the multiply-add peak.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn print_row<R>(
        &self,
        name: &str,
        dtype: DType,
        flops: f64,
        f: impl FnMut() -> Result<R>,
    ) -> Result<()> {
        let seconds = shortest(f)?;
        let rate = flops / seconds;
        println!(
            "{name:<52} {:>10.3} {:>9.3} {:>9.1} {:>8.0}%",
            flops / 1e9,
            seconds * 1e3,
            rate / 1e9,
            100.0 * rate / self.of(dtype)
        );
        Ok(())
    }
}

/// Shortest of repeated runs of `f`, in seconds: after one to warm up, at least five, and half a second's worth.
///
/// # Errors
/// Those of `f`.
pub fn shortest<R>(mut f: impl FnMut() -> Result<R>) -> Result<f64> {
    f()?;
    let begin = Instant::now();
    let mut best = Duration::MAX;
    let mut runs = 0;
    while runs < 5 || begin.elapsed() < Duration::from_millis(500) {
        let start = Instant::now();
        let result = f()?;
        best = best.min(start.elapsed());
        drop(result);
        runs += 1;
    }
    Ok(best.as_secs_f64())
}
