//! What can go wrong with geometry and fields.

/// Errors of this crate. Each says what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Checkerboards and staggered fermions need even extents.
    #[error(
        "lattice extent {extent} in direction {direction} of {dims:?}: extents must be even and at least 2"
    )]
    Extent {
        /// The direction of the bad extent.
        direction: usize,
        /// The bad extent.
        extent: usize,
        /// All extents.
        dims: Vec<usize>,
    },
    /// A lattice needs at least one direction.
    #[error("a lattice needs at least one direction, got none")]
    NoDirections,
    /// A convolution kernel is centred on its site.
    #[error(
        "kernel extents {kernel:?} on a lattice {dims:?}: one odd extent a direction, none above the lattice's"
    )]
    Kernel {
        /// The kernel asked for.
        kernel: Vec<usize>,
        /// The lattice.
        dims: Vec<usize>,
    },
    /// A coupling layer of links would move a staple together with its link, or makes no sense.
    #[error("mask of links on {dims:?}: {what}")]
    LinkMask {
        /// The lattice.
        dims: Vec<usize>,
        /// What is wrong, and what was expected.
        what: String,
    },
    /// A field does not fit the lattice.
    #[error("{what}: expected shape {expected}, got {got:?}")]
    Shape {
        /// Which field.
        what: &'static str,
        /// The shape in words.
        expected: String,
        /// The shape found.
        got: Vec<usize>,
    },
    /// The tensor library failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;
