//! Normalizing flows on lattice fields: distributions, bijections, networks and training.
//!
//! A flow is data: a [`Chain`] of boxed [`Bijection`]s built from a [`ParamStore`]. Fields stay f64 throughout; networks may
//! run in f32, because a coupling is exactly invertible, and its log-determinant exact, whatever its network returns.

mod bijection;
pub mod check;
mod context;
mod coupling;
pub mod decimation;
mod distribution;
mod equivariant;
mod error;
mod exponential;
mod exponential_pseudofermion;
mod haar;
mod lattice_net;
mod params;
mod pointwise;
pub mod potential;
mod prior;
mod ptcn;
pub mod residual;
pub mod spectral;
pub mod train;
pub mod transport;
mod value_op;

pub use bijection::{Bijection, Chain};
pub use context::{ContextNet, NetShape};
pub use coupling::AffineCoupling;
pub use distribution::{Autoregressive, Distribution, Fixed, FlowModel, Independent, Sample};
pub use equivariant::{
    ApNet, ApShape, Architecture, AverageShape, Channels, FieldNetwork, Fields, GroupAverage, LinearFlow,
    LinearShape, PseudofermionCoupling, RestrictedFlow, ScalarContext, ScalarCoupling, Sites, Squeeze,
    UpdatePseudofermion, UpdateScalar,
};
pub use error::{Error, Result};
pub use exponential::ExponentialConvolution;
pub use exponential_pseudofermion::ExponentialPseudofermion;
pub use haar::HaarUniform;
pub use latflow_kernels::Activation;
pub use lattice_net::{Convolutions, LatticeNet, LatticeNetShape, Xavier};
pub use params::ParamStore;
pub use pointwise::CubicRoot;
pub use prior::{Gaussian, PartialRefresh};
pub use ptcn::{Gamma, NetSizes, PtcnFlow, PtcnMask, PtcnShape, PtcnStart};
