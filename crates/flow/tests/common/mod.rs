//! What the contract tests share.

use candle_core::{DType, Device, Tensor};
use latflow_flow::ParamStore;
use latflow_lattice::{Streams, normal_tensor};

/// Normal numbers of the given width.
pub(crate) fn noise(seed: u64, shape: &[usize], sigma: f64) -> Tensor {
    normal_tensor(&mut Streams::new(seed).stream("test", 0), sigma, shape, DType::F64, &Device::Cpu).unwrap()
}

/// Adds noise to every parameter, so that nothing is at its special initial value.
#[allow(dead_code, reason = "not every test binary has parameters to scramble")]
pub(crate) fn scramble(store: &ParamStore, sigma: f64) {
    let mut moved = store.snapshot().unwrap();
    for (i, value) in moved.values_mut().enumerate() {
        let shift = noise(100 + i as u64, value.dims(), sigma).to_dtype(value.dtype()).unwrap();
        *value = (&*value + shift).unwrap();
    }
    store.restore(&moved).unwrap();
}
