//! The series every estimator starts from: equal-length Markov chains of one real observable.
//!
//! Chains are taken to be independent of each other and stationary; cut the thermalisation first ([`Chains::discard`]).

use crate::{Error, Result};

/// Equal-length chains of one observable; all entries finite, at least one of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Chains {
    chains: Vec<Vec<f64>>,
}

impl Chains {
    /// Chains in their order, each a time series.
    ///
    /// Refuses no chain, empty chains, unequal lengths and numbers that are not finite.
    pub fn new(chains: Vec<Vec<f64>>) -> Result<Self> {
        let what = "chains";
        let length = chains.first().map_or(0, Vec::len);
        if length == 0 {
            return Err(Error::Empty { what });
        }
        for (series, chain) in chains.iter().enumerate() {
            if chain.len() != length {
                return Err(Error::UnequalLength { what, series, expected: length, got: chain.len() });
            }
            if let Some(index) = chain.iter().position(|x| !x.is_finite()) {
                return Err(Error::NotFinite { what, series, index, value: chain[index] });
            }
        }
        Ok(Self { chains })
    }

    /// The same from measurements in time order, one row `[B]` a step, as chains in lock-step produce them.
    pub fn from_steps<R: AsRef<[f64]>>(steps: &[R]) -> Result<Self> {
        let n_chains = steps.first().map_or(0, |row| row.as_ref().len());
        let mut chains = vec![Vec::with_capacity(steps.len()); n_chains];
        for (series, row) in steps.iter().enumerate() {
            let row = row.as_ref();
            if row.len() != n_chains {
                let what = "chains of one step";
                return Err(Error::UnequalLength { what, series, expected: n_chains, got: row.len() });
            }
            for (chain, x) in chains.iter_mut().zip(row) {
                chain.push(*x);
            }
        }
        Self::new(chains)
    }

    /// Number of chains.
    pub fn n_chains(&self) -> usize {
        self.chains.len()
    }

    /// Measurements in each chain.
    pub fn length(&self) -> usize {
        self.chains[0].len()
    }

    /// Measurements in all chains.
    pub fn n(&self) -> usize {
        self.n_chains() * self.length()
    }

    /// The chains, one slice each.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.chains.iter().map(Vec::as_slice)
    }

    /// Mean over all measurements.
    pub fn mean(&self) -> f64 {
        self.iter().map(|chain| chain.iter().sum::<f64>()).sum::<f64>() / self.n() as f64
    }

    /// The chains without their first `steps` measurements.
    pub fn discard(&self, steps: usize) -> Result<Self> {
        let what = "measurements of a chain after thermalisation";
        if steps >= self.length() {
            return Err(Error::TooShort { what, needed: steps + 1, got: self.length() });
        }
        Self::new(self.iter().map(|chain| chain[steps..].to_vec()).collect())
    }

    /// A function of each measurement, such as |M| of M.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Result<Self> {
        Self::new(self.iter().map(|chain| chain.iter().map(|x| f(*x)).collect()).collect())
    }

    /// The product with another observable measured on the same configurations, such as w·O.
    pub fn times(&self, other: &Self) -> Result<Self> {
        same_shape("product of observables", &[self, other])?;
        let product = |(a, b): (&[f64], &[f64])| a.iter().zip(b).map(|(x, y)| x * y).collect();
        Self::new(self.iter().zip(other.iter()).map(product).collect())
    }
}

/// Refuses an empty list, and series that were not measured on the same configurations.
pub(crate) fn same_shape(what: &'static str, series: &[&Chains]) -> Result<()> {
    let first = series.first().ok_or(Error::Empty { what })?;
    for (i, s) in series.iter().enumerate() {
        if s.n_chains() != first.n_chains() || s.length() != first.length() {
            return Err(Error::UnequalLength { what, series: i, expected: first.n(), got: s.n() });
        }
    }
    Ok(())
}
