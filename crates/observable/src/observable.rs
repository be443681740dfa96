//! What a measurement is.

use crate::Result;
use candle_core::Tensor;

/// A function of one configuration, measured on a batch of them. `X` is the kind of configuration: `Tensor` for scalar
/// fields `[B, V]`.
pub trait Observable<X> {
    /// The name used in every output: snake_case, one word of the field.
    fn name(&self) -> &'static str;

    /// One number `[B]` or one correlator `[B, T]` a configuration, f64, in lattice units. Records no gradient.
    ///
    /// # Errors
    /// When the field does not fit, or the observable does not exist on one of the configurations.
    fn measure(&self, x: &X) -> Result<Tensor>;
}
