//! What can go wrong in a measurement or an error analysis; every variant carries its numbers.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // === Input ===
    /// There is nothing to average.
    #[error("{what}: empty input")]
    Empty {
        /// The quantity that was asked for.
        what: &'static str,
    },
    /// A measurement, weight or result is NaN or infinite.
    #[error("{what}: {value} at index {index} of series {series} is not finite")]
    NotFinite {
        /// The quantity it was found in.
        what: &'static str,
        /// Chain or component.
        series: usize,
        /// Position within the chain.
        index: usize,
        /// The offending number.
        value: f64,
    },
    /// Series that must be equally long are not.
    #[error("{what}: series {series} has length {got}, expected {expected}")]
    UnequalLength {
        /// The quantity that was asked for.
        what: &'static str,
        /// Chain or component with the wrong length.
        series: usize,
        /// Length of the first series.
        expected: usize,
        /// Length of this one.
        got: usize,
    },
    /// Not enough data for the question.
    #[error("{what}: needs at least {needed}, got {got}")]
    TooShort {
        /// The quantity that was asked for, and the unit of the two numbers.
        what: &'static str,
        /// The least that would do.
        needed: usize,
        /// What is there.
        got: usize,
    },
    /// A parameter outside its domain.
    #[error("{what} must be {expected}, got {got}")]
    Parameter {
        /// The parameter.
        what: &'static str,
        /// Its domain.
        expected: &'static str,
        /// The value given.
        got: f64,
    },
    /// Text that is not in the `0.0734(1)` notation.
    #[error("cannot read {text:?} as a value with an error like 0.0734(1): {reason}")]
    Notation {
        /// The text.
        text: String,
        /// Which part is wrong.
        reason: &'static str,
    },

    // === Fields ===
    /// A field of the wrong shape.
    #[error("{what}: expected a field of shape {expected}, got {got:?}")]
    Shape {
        /// The observable.
        what: &'static str,
        /// The shape in words.
        expected: String,
        /// The shape found.
        got: Vec<usize>,
    },
    /// D⁻¹ is too large to be known.
    #[error(
        "{what}: the Dirac operator of configuration {configuration} is nearly singular (|D⁻¹| reaches {largest:e}: \
         most of its digits are lost)"
    )]
    NearlySingular {
        /// The observable.
        what: &'static str,
        /// Index in the batch.
        configuration: usize,
        /// Largest element of D⁻¹ that was computed; NaN if the field is not finite.
        largest: f64,
    },
    /// A flow in the space of gauge fields cannot be integrated.
    #[error(
        "Wilson flow: configuration {configuration} is not finite or not smooth at flow time {time} with a step of {step:e}"
    )]
    FlowDiverged {
        /// Index in the batch.
        configuration: usize,
        /// Flow time that was reached, in units of a².
        time: f64,
        /// The step tried from there.
        step: f64,
    },
    /// A fermion operator failed.
    #[error(transparent)]
    Fermion(#[from] latflow_fermion::Error),
    /// A field does not fit the lattice.
    #[error(transparent)]
    Lattice(#[from] latflow_lattice::Error),
    /// The tensor library failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),

    // === Statistics ===
    /// A series that never changes has no autocorrelation function.
    #[error("{what}: chain {chain} is constant, its autocorrelation is undefined")]
    ZeroVariance {
        /// The quantity that was asked for.
        what: &'static str,
        /// The chain; 0 also stands for the pooled chains.
        chain: usize,
    },
    /// The summation window of an autocorrelation time does not fit into the chain.
    #[error(
        "{method}: no window up to lag {max_lag} (chain {chain}, length {length}); \
         τ_int is at least about {tau_int:.3}, the chain is too short to measure it"
    )]
    NoWindow {
        /// Which windowing rule.
        method: &'static str,
        /// The chain; 0 also stands for the pooled chains.
        chain: usize,
        /// Its length.
        length: usize,
        /// Largest lag that was tried.
        max_lag: usize,
        /// The running estimate there.
        tau_int: f64,
    },
    /// The variance estimate at the chosen window is not positive.
    #[error("{method}: variance of the mean is {variance:e} at window {window}; the chain is too short")]
    NonPositiveVariance {
        /// Which estimator.
        method: &'static str,
        /// The window.
        window: usize,
        /// The estimate.
        variance: f64,
    },
    /// Components are linearly dependent, so that T² does not exist.
    #[error(
        "Hotelling: the covariance of {components} components is singular (component {component} is, to \
         {pivot:e} of its variance, a linear combination of those before it)"
    )]
    SingularCovariance {
        /// Number of components.
        components: usize,
        /// The first dependent one.
        component: usize,
        /// Fraction of its variance that the earlier components leave unexplained.
        pivot: f64,
    },
    /// A special function did not converge.
    #[error("{function}: no convergence after {iterations} terms")]
    SpecialFunction {
        /// Which one.
        function: &'static str,
        /// Terms summed.
        iterations: usize,
    },
}

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
