//! Two degenerate flavours by a truncated logarithm of their operator.
//!
//! ```text
//! S_n(φ) = −2 [ log |det D_0| + Re tr A_n(φ) ],   A_n = Σ_{k=1..n} (−1)^{k+1}/k X^k          D = D_0 (1 + X)
//! ```
//!
//! An approximation of −log det DD† made of closed traces: what a flow is fitted to where the determinant itself would cost too
//! much. Weights are made with the determinant or with pseudofermions.

use crate::{Action, Error, Result};
use candle_core::{DType, Tensor};
use latflow_fermion::LogarithmicExpansion;
use latflow_lattice::Configuration;

/// S_n of an expansion.
#[derive(Debug, Clone)]
pub struct ExpandedDeterminant<D> {
    expansion: D,
    order: usize,
}

impl<D: LogarithmicExpansion> ExpandedDeterminant<D> {
    /// The action to order n.
    ///
    /// # Errors
    /// When no closed form of the trace is known at this order.
    pub fn new(expansion: D, order: usize) -> Result<Self> {
        let largest = expansion.largest_order();
        if order > largest {
            return Err(Error::from(latflow_fermion::Error::Order { order, largest }));
        }
        Ok(Self { expansion, order })
    }
}

impl<D: LogarithmicExpansion> Action<D::Field> for ExpandedDeterminant<D> {
    fn action(&self, field: &D::Field) -> Result<Tensor> {
        let constant = -2.0 * self.expansion.constant_log_abs_det();
        let mut sum = Tensor::full(constant, field.batch()?, field.device())?.to_dtype(DType::F64)?;
        for k in 1..=self.order {
            let sign = if k % 2 == 1 { -2.0 } else { 2.0 };
            sum = (sum + (self.expansion.trace(field, k)? * (sign / k as f64))?)?;
        }
        Ok(sum)
    }
}
