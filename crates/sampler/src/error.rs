//! What can go wrong with Markov chains.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A parameter of a kernel makes no sense.
    #[error("{name} = {value}: expected {expected}")]
    Parameter {
        /// Which parameter.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What is allowed.
        expected: &'static str,
    },
    /// Time scales need an action that is a sum.
    #[error(
        "{substeps} faster time scales asked for, expected an action of as many terms more; got one in one piece"
    )]
    OneTimeScale {
        /// Scales that were left when the action could not be split any more.
        substeps: usize,
    },
    /// A chain is at a configuration that it could never enter or never leave.
    #[error("chain {chain} is at a configuration with log weight {log_weight}: expected a finite number")]
    Start {
        /// Index of the chain.
        chain: usize,
        /// Its log weight.
        log_weight: f64,
    },
    /// Proposals must come one a chain.
    #[error("{got} proposals for {chains} chains")]
    Chains {
        /// Number of chains.
        chains: usize,
        /// Number of proposals.
        got: usize,
    },
    /// A flow failed.
    #[error(transparent)]
    Flow(#[from] latflow_flow::Error),
    /// An action failed.
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
