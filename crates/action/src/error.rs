//! What can go wrong with actions.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The Boltzmann weight cannot be normalised.
    #[error(
        "lambda = {lambda}, m2 = {m2}: e^(-S) cannot be normalised; lambda must be positive (or zero with m2 > 0)"
    )]
    Unbounded {
        /// Quartic coupling.
        lambda: f64,
        /// Bare mass squared.
        m2: f64,
    },
    /// A parameter is not a finite number.
    #[error("{name} = {value}: expected a finite number")]
    Parameter {
        /// Which parameter.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// The action does not depend on the field, so that it has no force.
    #[error("the action did not record a gradient in the field")]
    NoGradient,
    /// A tensor has the wrong shape.
    #[error("{what}: expected shape {expected}, got {got:?}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// The shape in words.
        expected: String,
        /// The shape found.
        got: Vec<usize>,
    },
    /// A change of variables failed.
    #[error("change of variables: {0}")]
    ChangeOfVariables(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Fermions failed.
    #[error(transparent)]
    Fermion(#[from] latflow_fermion::Error),
    /// Geometry failed.
    #[error(transparent)]
    Lattice(#[from] latflow_lattice::Error),
    /// The tensor library failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;
