//! Annealed flows: exact sampling where a flow alone is not good enough.
//!
//! ```text
//! x_0 ~ e^{−S_0};   y_k = f_k(x_k) carries t_k to t_{k+1};   x_{k+1} ~ T_{k+1}(y_k → ·),  T_k leaves e^{−S_{t_k}} invariant
//! log w = Σ_k [ S_{t_k}(x_k) − S_{t_{k+1}}(y_k) + log |det ∂f_k| ],      E[w O(x)] = ∫ O e^{−S_1}     for any f_k and T_k
//! ```
//!
//! Jarzynski's equality, annealed importance sampling with deterministic pieces (Neal, Stat. Comput. 11 (2001) 125; Vaikuntanathan and
//! Jarzynski, J. Chem. Phys. 134 (2011) 054107). The sweeps T_k forget what the flow has missed so far: errors of K intervals add up in
//! variance, not in amplitude. w belongs to the whole trajectory; it cannot be found again from x. Averages weighted by w are
//! exact, and so is the Metropolis test min(1, w′/w) between independent trajectories.

use crate::kernel::check_start;
use crate::{Error, IndependenceState, MarkovKernel, Result, StepInfo};
use candle_core::{DType, Tensor};
use latflow_action::Action;
use latflow_flow::Distribution;
use latflow_flow::transport::{ActionPath, Basis, ContinuousFlow, PriorPath, TimeGrid};
use latflow_lattice::{Manifold, Rng};

/// Markov chains that rest at the nodes of a path: a number of steps of the kernel of S_{t_k} at each.
#[derive(Debug, Clone)]
pub struct Sweeps<M> {
    /// Those of t_1 … t_K.
    kernels: Vec<M>,
    steps: usize,
}

impl<M> Sweeps<M> {
    /// `steps` steps of `kernel(t)` at every node t > 0, a kernel that leaves e^{−S_t} invariant. If it does not, every mean is
    /// biased, and nothing but a test can tell.
    ///
    /// # Errors
    /// When a kernel cannot be made.
    pub fn new(grid: &TimeGrid, steps: usize, kernel: impl FnMut(f64) -> Result<M>) -> Result<Self> {
        let kernels = grid.nodes()[1..].iter().copied().map(kernel).collect::<Result<_>>()?;
        Ok(Self { kernels, steps })
    }

    /// Steps at each node.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Moves configurations by the chain of node k ≥ 1.
    ///
    /// # Errors
    /// When there is no such node or the kernel fails.
    pub fn apply<X: Clone>(&self, k: usize, x: X, rng: &mut Rng) -> Result<X>
    where
        M: MarkovKernel<Position = X>,
    {
        let kernel = k.checked_sub(1).and_then(|k| self.kernels.get(k)).ok_or(Error::Parameter {
            name: "node of the time grid",
            value: k as f64,
            expected: "one with a kernel",
        })?;
        if self.steps == 0 {
            return Ok(x);
        }
        let mut state = kernel.init(x, rng)?;
        for _ in 0..self.steps {
            state = kernel.step(state, rng)?.0;
        }
        Ok(kernel.position(&state).clone())
    }
}

/// The sampler: a path from a prior, a flow along it and sweeps at the nodes in between.
#[derive(Debug, Clone)]
pub struct AnnealedFlow<P, A, B, M> {
    path: PriorPath<P, A>,
    flow: ContinuousFlow<B>,
    sweeps: Sweeps<M>,
}

impl<P, A, B, M> AnnealedFlow<P, A, B, M> {
    /// From the prior to `path.end` along the flow, with sweeps at t_1 … t_{K−1}.
    ///
    /// # Errors
    /// When the sweeps are not those of the flow's grid.
    pub fn new(path: PriorPath<P, A>, flow: ContinuousFlow<B>, sweeps: Sweeps<M>) -> Result<Self> {
        if sweeps.kernels.len() != flow.grid().intervals() {
            return Err(Error::Parameter {
                name: "kernels of the sweeps",
                value: sweeps.kernels.len() as f64,
                expected: "one for each interval of the flow's grid",
            });
        }
        Ok(Self { path, flow, sweeps })
    }

    /// The flow.
    pub fn flow(&self) -> &ContinuousFlow<B> {
        &self.flow
    }

    /// The sweeps.
    pub fn sweeps(&self) -> &Sweeps<M> {
        &self.sweeps
    }

    /// n independent trajectories: their ends and log w, with the mean of w ∫ e^{−S_1}. They can be reweighted, or start
    /// [`crate::IndependenceChains`] and be proposed to them.
    ///
    /// # Errors
    /// When the flow exceeds its integration error, or an action or a kernel fails.
    pub fn propose<X>(&self, n: usize, rng: &mut Rng) -> Result<IndependenceState<X>>
    where
        X: Manifold + Send + Sync + 'static,
        P: Distribution<X>,
        A: Action<X>,
        B: Basis<X> + 'static,
        M: MarkovKernel<Position = X>,
    {
        let nodes = self.flow.grid().nodes();
        let last = nodes.len() - 1;
        let mut x = self.path.prior.sample(n, &(), rng)?.detach();
        let action = |x: &X, k: usize| -> Result<Tensor> {
            Ok(self.path.action(x, nodes[k])?.detach().to_dtype(DType::F64)?)
        };
        let mut before = action(&x, 0)?;
        let mut log_weight = before.zeros_like()?;
        for k in 0..last {
            let (moved, log_det) = self.flow.between(&x, k, k + 1)?;
            x = moved.detach();
            let after = action(&x, k + 1)?;
            log_weight = (log_weight + ((before - &after)? + log_det.detach())?)?;
            before = after;
            if k + 1 < last && self.sweeps.steps > 0 {
                x = self.sweeps.apply(k + 1, x, rng)?;
                before = action(&x, k + 1)?;
            }
        }
        Ok(IndependenceState { x, log_weight: log_weight.to_vec1::<f64>()? })
    }

    /// Chains at trajectories of their own.
    ///
    /// # Errors
    /// As [`AnnealedFlow::propose`]; [`Error::Start`] when a log weight is not finite.
    pub fn start<X>(&self, chains: usize, rng: &mut Rng) -> Result<IndependenceState<X>>
    where
        X: Manifold + Send + Sync + 'static,
        P: Distribution<X>,
        A: Action<X>,
        B: Basis<X> + 'static,
        M: MarkovKernel<Position = X>,
    {
        let state = self.propose(chains, rng)?;
        check_start(&state.log_weight)?;
        Ok(state)
    }

    /// One step of independence Metropolis on (x, w): a new trajectory a chain, accepted with min(1, w′/w).
    ///
    /// # Errors
    /// As [`AnnealedFlow::propose`].
    pub fn step<X>(
        &self,
        state: IndependenceState<X>,
        rng: &mut Rng,
    ) -> Result<(IndependenceState<X>, StepInfo)>
    where
        X: Manifold + Send + Sync + 'static,
        P: Distribution<X>,
        A: Action<X>,
        B: Basis<X> + 'static,
        M: MarkovKernel<Position = X>,
    {
        let proposed = self.propose(state.log_weight.len(), rng)?;
        state.step(&proposed, rng)
    }
}
