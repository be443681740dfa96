//! Shared helpers of the benches.

pub mod peak;
