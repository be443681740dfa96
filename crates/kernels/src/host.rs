//! Borrow a contiguous CPU tensor as a slice, and build tensors from vectors without a copy.

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, WithDType};

/// Calls `f` with the elements of `t` in row-major order. Copies only when `t` is not contiguous.
///
/// # Errors
/// When `t` does not live on the CPU or has another element type.
pub fn with_slice<T: WithDType, R>(t: &Tensor, f: impl FnOnce(&[T]) -> R) -> Result<R> {
    let t = t.contiguous()?;
    let (storage, layout) = t.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => Ok(f(contiguous_slice(cpu, layout)?)),
        _ => candle_core::bail!("expected a tensor on the CPU, got one on {:?}", t.device().location()),
    }
}

/// The elements a custom op was handed, which must be contiguous.
pub(crate) fn contiguous_slice<'a, T: WithDType>(
    storage: &'a CpuStorage,
    layout: &Layout,
) -> Result<&'a [T]> {
    let all = storage.as_slice::<T>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => candle_core::bail!("expected a contiguous tensor of shape {:?}", layout.shape()),
    }
}
