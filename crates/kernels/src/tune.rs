//! Settings of the libraries below us that belong to a process, not to a call.

/// Keeps matrix products of fewer than 2²³ multiply-adds (203³) on the calling thread, for the whole process.
///
/// Waking a second thread costs tens of microseconds; a solver that multiplies 128 × 128 matrices thousands of times a second
/// is a third faster without. The result does not depend on it. Binaries call this once at their start.
pub fn keep_small_products_on_one_thread() {
    gemm::set_threading_threshold(1 << 23);
}
