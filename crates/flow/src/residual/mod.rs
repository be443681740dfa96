//! Residual gauge layers ("stout"): each link turns along the gradient of loops through it, with an exact Jacobian.
//!
//! ```text
//! U′ = exp(i ω^aT^a) U,   ω^a = ∂^a φ(U)          for the links of direction μ on sites of one parity, all others are frozen
//! φ(U) = Re tr(U A) + ½ [ q_1 Re tr (U S)² + q_2 (Re tr U S)² + q_3 (Im tr U S)² ]
//! A = Σ_ν c_ν(x) A_ν,   S = Σ_ν A_ν,   A_ν the two staples in the plane (μ, ν), free of other active links
//! J = Ad(e^Z) + φ_1(ad_Z) M = Ad(e^Z) [1 + φ_1(−ad_Z) M],   Z = iω^aT^a,   M_ab = ∂^b∂^a φ,   φ_1(z) = (e^z − 1)/z
//! log |det ∂U′/∂U| = Σ_links log |det(1 + φ_1(−ad_Z) M)|,           a real matrix of N² − 1 rows a link
//! ```
//!
//! C. Morningstar, M. Peardon, Phys. Rev. D 69 (2004) 054501, read as a change of variables; one Euler step of M. Lüscher's
//! trivializing flow [Commun. Math. Phys. 293 (2010) 899], for which c = β/16 in SU(3) if one pass does it all, with no error of
//! a step: the density is that of the map. 2d sub-steps, every direction on both parities, make a pass.
//!
//! A layer is a bijection where |M| < 1, which is checked on every link of every call by the bound
//!
//! ```text
//! |M| ≤ ½ |A| + |q_1| |S|² + (|q_2| + |q_3|) ½ (√N + 1) ‖S‖_F²        |·| of a matrix: Schatten's 8-norm, above the spectral one
//! ```
//!
//! and refused where it fails. Then U ← exp(−iω(U)) U′ is a contraction: the inverse exists, is unique, and is found by it.

mod algebra;
mod layer;
mod links;
mod step;

use crate::{Bijection, Chain, Error, ParamStore, Result};
use candle_core::Tensor;
use latflow_lattice::{Lattice, Links, Parity};
use layer::ResidualLayer;

/// What layers a flow has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResidualShape {
    /// Passes of 2d layers.
    pub passes: usize,
    /// c_ν of every layer at the start.
    pub weight: f64,
    /// Whether q_1, q_2, q_3 are parameters; they start at 0.
    pub quadratic: bool,
    /// Hidden units of the network that makes c_ν depend on frozen loops; 0: constants. It starts as one.
    pub hidden: usize,
}

/// Passes of residual layers on links of SU(N) `[B, d, V, N, N, 2]`.
pub struct ResidualFlow {
    layers: Chain<Links>,
}

impl ResidualFlow {
    /// The flow with the parameters of layer l of pass p, `name.p.l.…`:
    ///
    /// ```text
    /// weights [d − 1]: c_ν      quadratic [3]: q_1, q_2, q_3
    /// c_ν(x) = c_ν + Σ_h out_h tanh(Σ_f in_{hf} F_f + bias_h)       F: frozen pairs of staples at x, in the plane, planar, bent
    /// ```
    ///
    /// # Errors
    /// When a name is taken, there is no pass, or fewer than two directions.
    pub fn new(
        store: &mut ParamStore,
        name: &str,
        lattice: &Lattice,
        n: usize,
        shape: ResidualShape,
    ) -> Result<Self> {
        let fits = [
            ("passes", shape.passes, 1),
            ("number of directions", lattice.ndim(), 2),
            ("number of colours", n, 2),
        ];
        for (name, value, least) in fits {
            if value < least {
                let expected = if least == 1 { "at least 1" } else { "at least 2" };
                return Err(Error::Parameter { name, value: value as f64, expected });
            }
        }
        let mut layers: Vec<Box<dyn Bijection<Links>>> = Vec::new();
        for pass in 0..shape.passes {
            for mu in 0..lattice.ndim() {
                for (p, parity) in [Parity::Even, Parity::Odd].into_iter().enumerate() {
                    let name = format!("{name}.{pass}.{}", 2 * mu + p);
                    layers.push(Box::new(ResidualLayer::new(store, &name, lattice, n, mu, parity, shape)?));
                }
            }
        }
        let first = layers.remove(0);
        Ok(Self { layers: Chain::new(first, layers) })
    }

    /// Number of layers.
    pub fn depth(&self) -> usize {
        self.layers.depth()
    }
}

impl Bijection<Links> for ResidualFlow {
    fn forward(&self, z: &Links, (): &()) -> Result<(Links, Tensor)> {
        self.layers.forward(z, &())
    }

    fn inverse(&self, x: &Links, (): &()) -> Result<(Links, Tensor)> {
        self.layers.inverse(x, &())
    }
}
