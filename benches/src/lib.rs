//! Shared helpers of the benches.

pub mod peak;

use criterion::Criterion;
use std::time::Duration;

/// An error of any of our crates as one of candle's.
pub fn tensor_error(error: impl std::error::Error + Send + Sync + 'static) -> candle_core::Error {
    candle_core::Error::wrap(error)
}

/// Criterion with the settings of all benches and the filter of the command line.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args()
}
