//! What can go wrong with operators and solvers.

/// Errors of this crate. Each says what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A solver ran out of iterations.
    #[error(
        "the solver stopped after {iterations} iterations: configuration {configuration} has relative residual \
         {residual:.3e}, tolerance {tolerance:.3e}; the operator is close to singular, or allow more iterations"
    )]
    NoConvergence {
        /// Index in the batch of the worst configuration.
        configuration: usize,
        /// Its relative residual.
        residual: f64,
        /// What was asked for.
        tolerance: f64,
        /// Iterations done.
        iterations: usize,
    },
    /// The operator handed to conjugate gradients has a direction of non-positive curvature.
    #[error(
        "conjugate gradient: ⟨p, A p⟩ = {curvature:e} for configuration {configuration}, expected a positive number"
    )]
    NotPositive {
        /// Index in the batch.
        configuration: usize,
        /// The curvature found.
        curvature: f64,
    },
    /// The constant hopping block cannot be inverted.
    #[error(
        "the hopping block between even and odd sites of the {lattice} lattice is singular (smallest pivot {pivot:.1e}): with \
         periodic time the free massless operator has zero modes; use antiperiodic time, or switch even/odd preconditioning off"
    )]
    SingularHopping {
        /// The lattice.
        lattice: String,
        /// The smallest pivot of its LU decomposition.
        pivot: f64,
    },
    /// A configuration has no inverse Dirac operator.
    #[error("the Dirac operator of configuration {configuration} is singular to working precision")]
    Singular {
        /// Index in the batch.
        configuration: usize,
    },
    /// The trace of this order of an expansion has no closed form here.
    #[error("order {order} of the expanded logarithm: traces are known up to order {largest}")]
    Order {
        /// What was asked for.
        order: usize,
        /// What there is.
        largest: usize,
    },
    /// A shift that would spoil positivity.
    #[error("shift μ₀ = {shift}: expected a finite number that is not negative")]
    Shift {
        /// What was asked for.
        shift: f64,
    },
    /// A parameter is not a finite number.
    #[error("{name} = {value}: expected a finite number")]
    Parameter {
        /// Which parameter.
        name: &'static str,
        /// Its value.
        value: f64,
    },
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
    /// Geometry failed.
    #[error(transparent)]
    Lattice(#[from] latflow_lattice::Error),
    /// The tensor library failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;
