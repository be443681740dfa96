//! Building blocks that know the boundary conditions of two fields: networks, couplings and linear operators.
//!
//! A *P-field* is periodic in time, like φ [YUK (23)], an *AP-field* antiperiodic, like a pseudofermion [YUK (24)]. They
//! form a superalgebra: P·P and AP·AP are P, P·AP is AP [YUK App. D 1].

mod average;
mod convolution;
mod coupling;
mod joint;
mod layer;
mod linear;
mod network;
mod sites;
mod squeeze;

pub use average::{AverageShape, GroupAverage};
pub use convolution::{ApNet, ApShape};
pub use coupling::{PseudofermionCoupling, ScalarContext, ScalarCoupling};
pub use joint::{RestrictedFlow, UpdatePseudofermion, UpdateScalar};
pub use linear::{LinearFlow, LinearShape};
pub use network::{Architecture, Channels, FieldNetwork, Fields};
pub use sites::Sites;
pub use squeeze::Squeeze;
