//! Statistics of correlated series: errors, autocorrelation times, weights, comparisons. Plain f64, no fields.

mod autocorrelation;
mod bootstrap;
mod chains;
mod gamma_method;
mod histogram;
mod hotelling;
mod jackknife;
mod log_weights;
mod residuals;
mod special;
mod summary;
mod value_error;

pub use autocorrelation::{MADRAS_SOKAL_C, MadrasSokal, autocovariance, madras_sokal};
pub use bootstrap::{BOOTSTRAP_ENSEMBLES, Bootstrap, bootstrap};
pub use chains::Chains;
pub use gamma_method::{GAMMA_METHOD_S, GammaMethod, gamma_method};
pub use histogram::{Bins, Histogram, Resampling};
pub use hotelling::{Hotelling, hotelling};
pub use jackknife::{Jackknife, default_bin, jackknife};
pub use log_weights::LogWeights;
pub use residuals::ResidualDistribution;
pub use special::{f_survival, kolmogorov_survival, regularized_incomplete_beta};
pub use summary::{Summary, summarize};
pub use value_error::ValueError;
