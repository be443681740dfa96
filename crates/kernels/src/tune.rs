//! Settings of the libraries below us that belong to a process, not to a call.

const THREADS: &str = "RAYON_NUM_THREADS";
/// Threads of candle's own pool, which does elementwise operations.
const CANDLE_THREADS: &str = "CANDLE_NUM_THREADS";

/// Sets up the process for many small tensor operations. Binaries call it once, first thing; no result depends on it.
///
/// Matrix products of fewer than 2²³ multiply-adds (203³) stay on the calling thread: waking another one costs tens of
/// microseconds, and a solver makes thousands of 128 × 128 products a second. With glibc, freed memory is kept: handing
/// every tensor back to the system and faulting its pages in again costs a quarter of a training step. candle asks
/// `RAYON_NUM_THREADS` for the number of threads before every matrix product, and reads /proc/cpuinfo if it is not set.
/// Elementwise operations stay on the calling thread, too: candle's threads wait for each other spinning, and where another
/// process has one of the cores, an operation lasts until the system takes it away from that one.
#[expect(
    clippy::disallowed_methods,
    reason = "the number of threads changes no result, unlike the switches of candle"
)]
pub fn tune_process() {
    gemm::set_threading_threshold(1 << 23);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for (name, threads) in [(THREADS, cores), (CANDLE_THREADS, 1)] {
        if std::env::var_os(name).is_none() {
            // SAFETY: called first thing in `main`, before there is another thread that could read the environment.
            unsafe { std::env::set_var(name, threads.to_string()) };
        }
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` takes two integers and may be called at any time; a setting it refuses stays as it was.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
    }
}
