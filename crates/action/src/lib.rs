//! Actions of lattice field theories and everything derived from them: forces, heat baths, training targets.
//!
//! An [`Action`] is written once, as differentiable tensor operations; its force and its training gradient are derived.

mod action;
pub mod check;
mod determinant;
mod error;
mod expanded;
mod force_ratio;
mod hasenbusch;
mod phi4;
mod pseudofermion;
mod target;
mod wilson_gauge;

pub use action::{Action, Sum, action_and_force};
pub use determinant::{DeterminantAction, StochasticDeterminant};
pub use error::{Error, Result};
pub use expanded::ExpandedDeterminant;
pub use force_ratio::{ForceRatios, force_ratios};
pub use hasenbusch::{Hasenbusch, HasenbuschPair, HeavyAction, RatioAction};
pub use phi4::Phi4;
pub use pseudofermion::{Pseudofermion, PseudofermionAction};
pub use target::{Exact, HeatBath, Refresh, TrainingTarget};
pub use wilson_gauge::WilsonGauge;
