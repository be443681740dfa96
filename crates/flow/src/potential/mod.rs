//! Convex potential flows: the gradient of a strongly convex function, computed by a convolutional network.
//!
//! ```text
//! x = ∇u(z),   log |det ∂x/∂z| = log det H_u(z),   H_u = ∂²u/∂z∂z                  [YUK (30), (31)]
//! ```
//!
//! Neither ∇u nor H_u v is obtained by differentiating twice: both are written out as forward passes over convolutions, so
//! that one automatic derivative of them, for training, is all that is ever taken.
//!
//! Three ways to the log-determinant, [`LogDetValue`] and [`LogDetGradient`]; only the dense value makes a Metropolis
//! sampler or reweighting exact.

mod determinant;
mod flow;
mod hessian;
mod lanczos;
mod network;
mod newton;
mod noise;
mod pass;
mod surrogate;
mod weights;

pub use flow::{ConvexFlow, LogDet, LogDetGradient, LogDetValue};
pub use lanczos::{LogDetEstimate, lanczos_log_det};
pub use network::{ConvexPotential, PotentialShape};
pub use newton::NewtonCg;
pub use pass::Hessian;
