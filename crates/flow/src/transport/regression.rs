//! Marching: fit the velocity at one time, carry the samples to the next, fit again.
//!
//! ```text
//! at t_k, on samples x:   min_c Var( Σ_i c_i (∇·v_i − v_i·∇S_t) − ∂_tS_t )
//! from t_k to t_{k+1}:    predict with c continued from t_{k−1}, t_k; fit c_{k+1} there; carry again with c interpolated
//! ```
//!
//! Nothing is resampled and nothing is differentiated but the action. The result depends on the seed alone. For annealed
//! sampling the samples can be refreshed at every node by Markov chains of e^{−S_t}: [`fit_refreshed`].

use super::flow::interpolated;
use super::integrator::step;
use super::{ActionPath, Basis, Group, Ridge, RidgeSolution, StreamingMoments, TimeGrid};
use crate::{Error, ParamStore, Result, Sample};
use candle_core::Tensor;
use latflow_lattice::{Manifold, Rng};

/// How much work a fit is.
#[derive(Debug, Clone, PartialEq)]
pub struct TransportOptions {
    /// Where coefficients are fitted.
    pub grid: TimeGrid,
    /// Batches of samples that are carried along; even ones make the first fold, odd ones the second.
    pub batches: usize,
    /// Samples in a batch.
    pub batch: usize,
    /// Integration steps between two nodes while carrying.
    pub steps: usize,
    /// Strengths of the ridge to choose from.
    pub ridge: Ridge,
}

/// What the fit found at one node.
#[derive(Debug, Clone)]
pub struct NodeReport {
    /// t_k.
    pub t: f64,
    /// Var(∂_tS): the residual without any flow.
    pub variance: f64,
    /// Variance of the residual on the samples of the fit: the rate at which log w spreads.
    pub train: f64,
    /// The same on held-out samples, with coefficients of the other half.
    pub test: f64,
    /// The ridge chosen.
    pub ridge: f64,
    /// The groups of the basis with `test` after each of them has been added.
    pub groups: Vec<(Group, f64)>,
}

/// Coefficients at the nodes and how good they are.
#[derive(Debug, Clone)]
pub struct TransportFit {
    /// c_i(t_k), one row a node.
    pub coefficients: Vec<Vec<f64>>,
    /// One report a node.
    pub nodes: Vec<NodeReport>,
    /// Samples drawn.
    pub samples: usize,
}

impl TransportFit {
    /// Writes the coefficients into the parameter of a [`super::ContinuousFlow`].
    ///
    /// # Errors
    /// When the parameter has another shape.
    pub fn install(&self, store: &ParamStore, name: &str) -> Result<()> {
        store.set(name, &self.table(store.device())?)
    }

    fn table(&self, device: &candle_core::Device) -> Result<Tensor> {
        let (rows, columns) = (self.coefficients.len(), self.coefficients.first().map_or(0, Vec::len));
        Ok(Tensor::from_vec(self.coefficients.concat(), (rows, columns), device)?)
    }
}

/// Fits a velocity in the span of a basis that carries the prior along the path. The prior must be the path's e^{−S_0}.
///
/// # Errors
/// When there are fewer than two batches, or actions or fields are not finite.
pub fn fit<X: Manifold>(
    basis: &impl Basis<X>,
    path: &impl ActionPath<X>,
    prior: &impl Sample<X>,
    options: &TransportOptions,
    rng: &mut Rng,
) -> Result<TransportFit> {
    let grid = &options.grid;
    march(basis, path, prior, options, rng, |fit, samples, k, _| {
        let (from, t) = (grid.nodes()[k - 1], grid.nodes()[k]);
        let weights = |t| grid.extrapolating_weights(k - 1, t)[..k].to_vec();
        let predicted = carry(basis, samples, from, t, 1, &fit.coefficients, weights)?;
        fit.node(basis, path, &predicted, t, &options.ridge)?;
        let weights = |t| grid.causal_weights(k - 1, t)[..=k].to_vec();
        carry(basis, samples, from, t, options.steps, &fit.coefficients, weights)
    })
}

/// The same for an annealed flow: `refresh(k, x, rng)` moves samples that have been carried to t_k by a Markov chain that
/// leaves e^{−S_{t_k}} invariant, before c(t_k) is fitted on them. What the flow missed so far is forgotten on the way, as it is
/// when the annealed flow samples.
///
/// # Errors
/// As [`fit`]; [`Error::Refresh`] when the chain fails.
pub fn fit_refreshed<X: Manifold, E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    basis: &impl Basis<X>,
    path: &impl ActionPath<X>,
    prior: &impl Sample<X>,
    options: &TransportOptions,
    mut refresh: impl FnMut(usize, X, &mut Rng) -> std::result::Result<X, E>,
    rng: &mut Rng,
) -> Result<TransportFit> {
    let grid = &options.grid;
    march(basis, path, prior, options, rng, |fit, samples, k, rng| {
        let (from, t) = (grid.nodes()[k - 1], grid.nodes()[k]);
        let weights = |t| grid.extrapolating_weights(k - 1, t)[..k].to_vec();
        let carried = carry(basis, samples, from, t, options.steps, &fit.coefficients, weights)?;
        let refreshed = carried.into_iter().map(|x| refresh(k, x, rng).map_err(|e| Error::Refresh(e.into())));
        let refreshed = refreshed.collect::<Result<Vec<X>>>()?;
        fit.node(basis, path, &refreshed, t, &options.ridge)?;
        Ok(refreshed)
    })
}

/// From node to node: `next(fit, samples at t_{k−1}, k, rng)` adds the coefficients at t_k and returns the samples there.
fn march<X: Manifold>(
    basis: &impl Basis<X>,
    path: &impl ActionPath<X>,
    prior: &impl Sample<X>,
    options: &TransportOptions,
    rng: &mut Rng,
    mut next: impl FnMut(&mut TransportFit, &[X], usize, &mut Rng) -> Result<Vec<X>>,
) -> Result<TransportFit> {
    if options.batches < 2 || options.batch == 0 || options.steps == 0 {
        return Err(Error::Parameter {
            name: "batches",
            value: options.batches as f64,
            expected: "at least 2, none of them empty, and at least one step",
        });
    }
    let draw = |_| Ok(prior.sample(options.batch, &(), rng)?.detach());
    let mut samples: Vec<X> = (0..options.batches).map(draw).collect::<Result<_>>()?;
    let mut fit = TransportFit {
        coefficients: Vec::new(),
        nodes: Vec::new(),
        samples: options.batches * options.batch,
    };
    fit.node(basis, path, &samples, options.grid.nodes()[0], &options.ridge)?;
    for k in 1..=options.grid.intervals() {
        samples = next(&mut fit, &samples, k, rng)?;
    }
    Ok(fit)
}

impl TransportFit {
    /// The least-squares problem at one time.
    fn node<X>(
        &mut self,
        basis: &impl Basis<X>,
        path: &impl ActionPath<X>,
        samples: &[X],
        t: f64,
        ridge: &Ridge,
    ) -> Result<()> {
        let mut folds = [StreamingMoments::new(basis.count()), StreamingMoments::new(basis.count())];
        for (i, x) in samples.iter().enumerate() {
            let point = path.at(x, t)?;
            folds[i % 2].add(&basis.stein(x, &point.gradient)?, &point.rate)?;
        }
        let groups = basis.groups();
        let sizes: Vec<usize> = groups
            .iter()
            .scan(0, |size, group| {
                *size += group.fields;
                Some(*size)
            })
            .collect();
        let RidgeSolution { coefficients, ridge, variance, train, test, partial } =
            ridge.solve(&folds, &sizes)?;
        let groups = groups.iter().cloned().zip(partial).collect();
        self.coefficients.push(coefficients);
        self.nodes.push(NodeReport { t, variance, train, test, ridge, groups });
        Ok(())
    }
}

/// Moves all samples along Σ_k w_k(t) c(t_k), one row of coefficients a known node.
fn carry<X: Manifold>(
    basis: &impl Basis<X>,
    samples: &[X],
    from: f64,
    to: f64,
    steps: usize,
    coefficients: &[Vec<f64>],
    weights: impl Fn(f64) -> Vec<f64>,
) -> Result<Vec<X>> {
    let h = (to - from) / steps as f64;
    let move_batch = |x: &X| {
        let shape = (coefficients.len(), basis.count());
        let c = Tensor::from_vec(coefficients.concat(), shape, x.device())?;
        let mut velocity = |x: &X, t: f64| basis.combine(x, &interpolated(&c, &weights(t))?);
        let mut x = x.clone();
        for s in 0..steps {
            x = step(&mut velocity, &x, from + h * s as f64, h)?.0;
        }
        Ok(x)
    };
    samples.iter().map(move_batch).collect()
}
