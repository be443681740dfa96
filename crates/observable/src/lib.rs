//! Measurements on configurations and the statistics of Markov chains.
//!
//! Observables of a batch of fields, each one value or one correlator a configuration ([`Observable`]): [`Magnetization`],
//! [`AbsMagnetization`], [`Phi2`], [`TwoPoint`], [`Condensate`], [`AbsCondensate`], [`FermionCorrelator`]; of gauge fields in
//! [`gauge`], with the Wilson flow.
//!
//! Statistics of plain f64 series, in the order in which a run needs them:
//!
//! * [`Chains`]: equal-length Markov chains of one observable;
//! * [`jackknife`]: blocking and jackknife errors of means and of functions of means, [`default_bin`];
//! * [`madras_sokal`], [`gamma_method`]: integrated autocorrelation times; [`summarize`] does all of the above;
//! * [`bootstrap`]: the same errors by resampling; [`Histogram`]: densities with bootstrap errors, weighted or not;
//!   [`ResidualDistribution`]: are the differences of two sets of histograms what their errors promise?
//! * [`LogWeights`]: ESS, log Z, reweighted means and the acceptance an independence Metropolis chain would have;
//! * [`hotelling`]: do two ensembles agree in a vector of observables?
//! * [`ValueError`]: a number with its error, written `0.0734(1)`.
//!
//! Nothing here knows an action, a flow or a sampler.

mod error;
mod fermionic;
pub mod gauge;
mod observable;
mod scalar;
mod stats;

pub use error::{Error, Result};
pub use fermionic::{AbsCondensate, Condensate, FermionCorrelator};
pub use observable::Observable;
pub use scalar::{AbsMagnetization, Magnetization, Phi2, TwoPoint};
pub use stats::{
    BOOTSTRAP_ENSEMBLES, Bins, Bootstrap, Chains, GAMMA_METHOD_S, GammaMethod, Histogram, Hotelling,
    Jackknife, LogWeights, MADRAS_SOKAL_C, MadrasSokal, Resampling, ResidualDistribution, Summary,
    ValueError, autocovariance, bootstrap, default_bin, f_survival, gamma_method, hotelling, jackknife,
    kolmogorov_survival, madras_sokal, regularized_incomplete_beta, summarize,
};
