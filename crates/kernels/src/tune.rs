//! Settings of the libraries below us that belong to a process, not to a call.

const THREADS: &str = "RAYON_NUM_THREADS";

/// Sets up the process for many small tensor operations. Binaries call it once, first thing; no result depends on it.
///
/// Matrix products of fewer than 2²³ multiply-adds (203³) stay on the calling thread: waking another one costs tens of
/// microseconds, and a solver makes thousands of 128 × 128 products a second. With glibc, freed memory is kept: handing
/// every tensor back to the system and faulting its pages in again costs a quarter of a training step. candle asks
/// `RAYON_NUM_THREADS` for the number of threads before every matrix product, and reads /proc/cpuinfo if it is not set.
#[expect(
    clippy::disallowed_methods,
    reason = "the number of threads changes no result, unlike the switches of candle"
)]
pub fn tune_process() {
    gemm::set_threading_threshold(1 << 23);
    if std::env::var_os(THREADS).is_none() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // SAFETY: called first thing in `main`, before there is another thread that could read the environment.
        unsafe { std::env::set_var(THREADS, cores.to_string()) };
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` takes two integers and may be called at any time; a setting it refuses stays as it was.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
    }
}
