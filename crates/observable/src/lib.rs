//! Measurements on configurations and the statistics of Markov chains.
//!
//! Observables of a batch of fields, each one value or one correlator a configuration ([`Observable`]): [`Magnetization`],
//! [`AbsMagnetization`], [`Phi2`], [`TwoPoint`], [`Condensate`], [`AbsCondensate`], [`FermionCorrelator`].
//!
//! Statistics of plain f64 series, in the order in which a run needs them:
//!
//! * [`Chains`]: equal-length Markov chains of one observable;
//! * [`jackknife`]: blocking and jackknife errors of means and of functions of means, [`default_bin`];
//! * [`madras_sokal`], [`gamma_method`]: integrated autocorrelation times; [`summarize`] does all of the above;
//! * [`LogWeights`]: ESS, log Z, reweighted means and the acceptance an independence Metropolis chain would have;
//! * [`hotelling`]: do two ensembles agree in a vector of observables?
//! * [`ValueError`]: a number with its error, written `0.0734(1)`.
//!
//! Nothing here knows an action, a flow or a sampler.

mod error;
mod fermionic;
mod observable;
mod scalar;
mod stats;

pub use error::{Error, Result};
pub use fermionic::{AbsCondensate, Condensate, FermionCorrelator};
pub use observable::Observable;
pub use scalar::{AbsMagnetization, Magnetization, Phi2, TwoPoint};
pub use stats::{
    Chains, GAMMA_METHOD_S, GammaMethod, Hotelling, Jackknife, LogWeights, MADRAS_SOKAL_C, MadrasSokal,
    Summary, ValueError, autocovariance, default_bin, f_survival, gamma_method, hotelling, jackknife,
    madras_sokal, regularized_incomplete_beta, summarize,
};
