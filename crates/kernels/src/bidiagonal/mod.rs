//! Products of cyclic bidiagonal operators, their inverses and determinants, with a hand-written backward pass.
//!
//! ```text
//! (W x)(s_h) = a(s_h) x(s_h) + b(s_h) x(s_{h+1}),   x(s_L) = σ x(s_0),   σ = ±1          on every line s_0 … s_{L−1}
//! det W      = Π_h a − (−1)^L σ Π_h b                                                    line by line
//! a = softplus(ã) / ln 2,   so that a = 1 where ã = 0
//! ```
//!
//! The lines of one operator are disjoint and cover all sites; operators with different lines take turns. A whole product is
//! one op: its intermediate vectors live in a thread's own memory, and the backward pass computes them again.

mod composed;
mod fused;
mod line;

use candle_core::{Result, Tensor};
use fused::Fused;
use std::sync::Arc;

/// Closed lines of equal length that cover all sites.
#[derive(Debug, Clone)]
pub struct Cycles(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sites: Vec<u32>,
    length: usize,
    closing: f64,
}

impl Cycles {
    /// `sites[line * length + h]` is s_h of a line; `antiperiodic` says that σ = −1.
    ///
    /// # Errors
    /// When the lines are not a permutation of all sites.
    pub fn new(sites: Vec<u32>, length: usize, antiperiodic: bool) -> Result<Self> {
        let volume = sites.len();
        if length == 0 || volume == 0 || !volume.is_multiple_of(length) {
            candle_core::bail!("cycles: {volume} sites in lines of {length}");
        }
        let mut seen = vec![false; volume];
        for &site in &sites {
            match seen.get_mut(site as usize) {
                Some(seen) if !*seen => *seen = true,
                Some(_) => candle_core::bail!("cycles: site {site} occurs twice, expected a permutation"),
                None => candle_core::bail!("cycles: site {site} of {volume}"),
            }
        }
        Ok(Self(Arc::new(Inner { sites, length, closing: if antiperiodic { -1.0 } else { 1.0 } })))
    }

    fn volume(&self) -> usize {
        self.0.sites.len()
    }
}

/// W_n ∘ … ∘ W_1, where W_{k+1} runs along the lines `cycles[k % cycles.len()]`.
#[derive(Debug, Clone)]
pub struct BidiagonalProduct {
    cycles: Vec<Cycles>,
    operators: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Inverse,
}

impl BidiagonalProduct {
    /// A product of `operators` factors.
    ///
    /// # Errors
    /// When there is no factor, no kind of lines, or they cover different numbers of sites.
    pub fn new(cycles: Vec<Cycles>, operators: usize) -> Result<Self> {
        let volumes: Vec<usize> = cycles.iter().map(Cycles::volume).collect();
        if operators == 0 || volumes.is_empty() || volumes.iter().any(|v| *v != volumes[0]) {
            candle_core::bail!("product of {operators} operators with lines over {volumes:?} sites");
        }
        Ok(Self { cycles, operators })
    }

    /// Number of factors n.
    pub fn operators(&self) -> usize {
        self.operators
    }

    /// Number of sites V.
    pub fn volume(&self) -> usize {
        self.cycles[0].volume()
    }

    /// (W x, Σ_k log |det W_k|) for x `[B, C, V]` and coefficients `[B, V, 2n]`, where channels 2k and 2k + 1 hold ã and b of
    /// W_{k+1}; f64. The determinant `[B]` is that of the V × V matrices: every component of x adds it once.
    ///
    /// # Errors
    /// When a shape does not fit or a tensor is not f64.
    pub fn forward(&self, x: &Tensor, coefficients: &Tensor) -> Result<(Tensor, Tensor)> {
        self.run(x, coefficients, Direction::Forward)
    }

    /// (W⁻¹ x, −Σ_k log |det W_k|), by solving along the lines.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn inverse(&self, x: &Tensor, coefficients: &Tensor) -> Result<(Tensor, Tensor)> {
        self.run(x, coefficients, Direction::Inverse)
    }

    /// [`Self::forward`] from candle's own operations: the oracle of the tests and the path on a GPU.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_composed(&self, x: &Tensor, coefficients: &Tensor) -> Result<(Tensor, Tensor)> {
        self.check(x, coefficients)?;
        composed::forward(self, x, coefficients)
    }

    /// [`Self::inverse`] from candle's own operations.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn inverse_composed(&self, x: &Tensor, coefficients: &Tensor) -> Result<(Tensor, Tensor)> {
        self.check(x, coefficients)?;
        composed::inverse(self, x, coefficients)
    }

    fn run(&self, x: &Tensor, coefficients: &Tensor, direction: Direction) -> Result<(Tensor, Tensor)> {
        if !x.device().is_cpu() {
            return match direction {
                Direction::Forward => self.forward_composed(x, coefficients),
                Direction::Inverse => self.inverse_composed(x, coefficients),
            };
        }
        self.check(x, coefficients)?;
        let (_, components, volume) = x.dims3()?;
        let op = Fused { product: self.clone(), direction };
        // An op has one output: the determinant is its last column.
        let packed = x.contiguous()?.apply_op2(&coefficients.contiguous()?, op)?;
        let y = packed.narrow(1, 0, components * volume)?.reshape(x.shape())?;
        Ok((y, packed.narrow(1, components * volume, 1)?.squeeze(1)?))
    }

    fn check(&self, x: &Tensor, coefficients: &Tensor) -> Result<()> {
        let (batch, _, volume) = x.dims3()?;
        if volume != self.volume() || coefficients.dims() != [batch, volume, 2 * self.operators] {
            candle_core::bail!(
                "product of {} operators on {} sites: x {:?}, coefficients {:?}; expected [B, C, V], [B, V, 2n]",
                self.operators,
                self.volume(),
                x.dims(),
                coefficients.dims()
            );
        }
        let f64 = candle_core::DType::F64;
        if x.dtype() != f64 || coefficients.dtype() != f64 {
            candle_core::bail!("product: x is {:?}, coefficients {:?}", x.dtype(), coefficients.dtype());
        }
        Ok(())
    }
}
