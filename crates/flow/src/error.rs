//! What can go wrong with flows.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two parameters of the same name.
    #[error("parameter {name} exists already")]
    DuplicateParameter {
        /// The name.
        name: String,
    },
    /// A checkpoint does not fit the model.
    #[error("checkpoint does not fit the model: {what}")]
    Checkpoint {
        /// What differs.
        what: String,
    },
    /// A hyperparameter makes no sense.
    #[error("{name} = {value}: expected {expected}")]
    Parameter {
        /// Which.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What is allowed.
        expected: &'static str,
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
    /// A network cannot have the channels or activations asked for.
    #[error("{what}: expected {expected}, got {got}")]
    Network {
        /// Which part.
        what: &'static str,
        /// What would do.
        expected: &'static str,
        /// What was asked for.
        got: String,
    },
    /// Training broke down.
    #[error(
        "step {step}: the {what} is not finite; lower the learning rate or clip the gradient, and resume from the last checkpoint"
    )]
    NotFinite {
        /// The step that failed; its update was not applied.
        step: u64,
        /// Loss or gradient.
        what: &'static str,
    },
    /// The gradient of a convex potential was not inverted.
    #[error(
        "inverse of a convex potential flow: configuration {configuration} has |∇u(z) − x| = {residual:.3e}, wanted {tolerance:.3e}; \
         allow more Newton steps, or look for parameters that made the potential steep"
    )]
    Inversion {
        /// Index in the batch.
        configuration: usize,
        /// |∇u(z) − x| where the iteration stopped.
        residual: f64,
        /// What was wanted.
        tolerance: f64,
    },
    /// A Hessian that should be positive is not, to working precision.
    #[error("the Hessian of configuration {configuration} is not positive to working precision")]
    NotConvex {
        /// Index in the batch.
        configuration: usize,
    },
    /// The step of a residual gauge layer may not be invertible.
    #[error(
        "residual gauge layer: the step of a link may change {bound:.3} times as fast as the link, expected less than 1; take smaller \
         weights, or spread them over more passes"
    )]
    Steep {
        /// Bound on |∂ω/∂U| over all links.
        bound: f64,
    },
    /// The inverse of a residual gauge layer was not found.
    #[error(
        "inverse of a residual gauge layer: a link is {residual:.3e} from the one given, wanted {tolerance:.3e}"
    )]
    LinkInversion {
        /// Largest difference of a matrix element.
        residual: f64,
        /// What was wanted.
        tolerance: f64,
    },
    /// Solutions of a continuous flow with steps h and h/2 differ.
    #[error(
        "configuration {configuration} of a continuous flow: {steps} steps an interval leave an integration error of {error:.3e}, \
         tolerance {tolerance:.3e}; a density that is not that of the map would bias every mean: use more steps, or a ridge \
         that keeps the velocity smooth"
    )]
    Integration {
        /// Index in the batch.
        configuration: usize,
        /// Larger of the change of log |det| and the distance of the end points.
        error: f64,
        /// What was wanted.
        tolerance: f64,
        /// Steps of the finer solution in each interval.
        steps: usize,
    },
    /// A least-squares problem has no solution.
    #[error("regression: {what}")]
    Regression {
        /// Why.
        what: &'static str,
    },
    /// A Markov chain that should refresh samples failed.
    #[error("samples were not refreshed: {0}")]
    Refresh(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The target failed.
    #[error(transparent)]
    Action(#[from] latflow_action::Error),
    /// Geometry failed.
    #[error(transparent)]
    Lattice(#[from] latflow_lattice::Error),
    /// The tensor library failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;
