//! Continuous flows fitted by regression of the transport equation, on any manifold, without back-propagation.
//!
//! ```text
//! dx/dt = v_t(x) = Σ_i c_i(t) v_i(x)   carries p_t ∝ e^{−S_t} exactly when     ∇·v − v·∇S_t = ∂_tS_t − ⟨∂_tS_t⟩
//! d log w/dt = −⟨∂_tS_t⟩ + R,   R = (∇·v − v·∇S_t) − (∂_tS_t − ⟨∂_tS_t⟩),      w_t = e^{−S_t}/q_t
//! ```
//!
//! The left side is linear in c and has mean zero under p_t whatever v_i is (Stein's identity), so that the best c(t) is one
//! least-squares solve on samples at time t, and what it leaves is the growth of the log-weights. [`fit`] marches from the
//! prior to the target and returns a table c(t_k); [`ContinuousFlow`] is the bijection that the table defines, with a
//! measured integration error that it refuses to exceed.
//!
//! Three interfaces, none of which knows what a field is: an [`ActionPath`] gives S_t, ∇S_t and ∂_tS_t, a [`Basis`] the
//! vector fields v_i with their divergences, and positions move along tangent vectors by
//! [`latflow_lattice::Manifold::exp`]. [`ScalarBasis`] is the basis of scalar fields, [`LoopBasis`] that of SU(3) links.

mod basis;
pub(crate) mod checkpoint;
mod flow;
mod gauge;
mod grid;
mod integrator;
mod moments;
mod path;
mod regression;
mod scalar;

pub use basis::{Basis, Group};
pub use flow::ContinuousFlow;
pub use gauge::LoopBasis;
pub use grid::TimeGrid;
pub use integrator::step;
pub use moments::{Ridge, RidgeSolution, StreamingMoments};
pub use path::{ActionPath, AtTime, LinearPath, PathPoint, PriorPath};
pub use regression::{NodeReport, TransportFit, TransportOptions, fit, fit_refreshed};
pub use scalar::{Factor, Feature, Local, ScalarBasis, Wave};
