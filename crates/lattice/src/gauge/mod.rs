//! Gauge fields: links in SU(N), their algebra, and what is built of them.

pub mod fused;
mod haar;
mod links;
mod loops;
pub mod matrix;
mod su_n;

pub use haar::haar_matrices;
pub use links::Links;
pub use loops::{path, plaquettes};
pub use su_n::{algebra_element, generators};
