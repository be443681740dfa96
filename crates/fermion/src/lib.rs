//! Dirac operators, iterative solvers and determinants.
//!
//! A family D(φ) is a [`Dirac`] value; `bind` gives the operator of one batch of background fields. Bound to a tracked
//! field it records gradients, bound to a detached one it does not: one `apply` serves solver, force and training.
//! No force is written by hand here and nothing differentiates a gradient.

mod bicgstab;
mod cg;
pub mod check;
mod dense;
mod determinant;
mod error;
mod even_odd;
pub mod gamma;
mod ilu;
mod krylov;
mod log_det;
mod logarithm;
mod operator;
mod packed;
mod staggered;
mod wilson;

pub use bicgstab::BiCgStab;
pub use cg::{ConjugateGradient, Solution};
pub use dense::{log_abs_det, to_dense};
pub use determinant::DenseYukawa;
pub use error::{Error, Result};
pub use even_odd::{EvenOddOperator, EvenOddYukawa};
pub use ilu::{IluOperator, IluYukawa};
pub use log_det::{
    quadratic_form_of_inverse, regulated_log_det, regulated_quadratic_form, stochastic_log_det,
};
pub use logarithm::{EvenOddExpansion, FullExpansion, LogarithmicExpansion, Perturbation};
pub use operator::{Dirac, ExactDeterminant, HermitianPositive, LinearOperator, NormalOperator, Shifted};
pub use packed::{PackedOperator, Spare};
pub use staggered::{StaggeredOperator, StaggeredYukawa};
pub use wilson::{
    DenseWilson, EvenOddWilson, EvenOddWilsonOperator, Wilson, WilsonExpansion, WilsonOperator,
};
