//! Normalizing flows on lattice fields: distributions, bijections, networks and training.
//!
//! A flow is data: a [`Chain`] of boxed [`Bijection`]s built from a [`ParamStore`]. Fields stay f64 throughout; networks may
//! run in f32, because a coupling is exactly invertible, and its log-determinant exact, whatever its network returns.

mod bijection;
pub mod check;
mod context;
mod coupling;
mod distribution;
mod error;
mod exponential;
mod params;
mod pointwise;
mod prior;
pub mod train;

pub use bijection::{Bijection, Chain};
pub use context::{ContextNet, NetShape};
pub use coupling::AffineCoupling;
pub use distribution::{Autoregressive, Distribution, FlowModel, Independent, Sample};
pub use error::{Error, Result};
pub use exponential::ExponentialConvolution;
pub use latflow_kernels::Activation;
pub use params::ParamStore;
pub use pointwise::CubicRoot;
pub use prior::{Gaussian, PartialRefresh};
