//! Gradients through a long computation whose intermediate values are not kept: they are made again on the way back.
//!
//! A flow of hundreds of Runge–Kutta stages would otherwise hold every stage in memory, sampling included, because its
//! coefficients are trainable.

use crate::Result;
use candle_core::{CustomOp3, Tensor, Var};

/// A differentiable function of a state and parameters, both single tensors.
pub(crate) trait Segment: Send + Sync + 'static {
    /// The state after the segment.
    fn run(&self, state: &Tensor, parameters: &Tensor) -> Result<Tensor>;
}

/// The tensor `value`, which must be `segment.run(state, parameters)`, with the derivatives of that computation.
pub(crate) fn checkpointed(
    segment: impl Segment,
    state: &Tensor,
    parameters: &Tensor,
    value: &Tensor,
) -> Result<Tensor> {
    Ok(state.apply_op3(parameters, &value.detach(), Checkpoint(segment))?)
}

struct Checkpoint<S>(S);

impl<S: Segment> CustomOp3 for Checkpoint<S> {
    crate::value_op::value_is_the_third_argument!("checkpoint");

    fn bwd(
        &self,
        state: &Tensor,
        parameters: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (x, c) = (Var::from_tensor(&state.detach())?, Var::from_tensor(&parameters.detach())?);
        let value = self.0.run(x.as_tensor(), c.as_tensor()).map_err(candle_core::Error::wrap)?;
        let mut gradients = (value * gradient.detach())?.sum_all()?.backward()?;
        let mut take = |var: &Var| gradients.remove(var).map(|g| g.detach());
        Ok((take(&x), take(&c), None))
    }
}
