//! What pseudofermions tell the finest stage of a decimation flow, and what the sites before it tell the pseudofermions.
//!
//! ```text
//! p(φ_e | φ_o, ϕ) ∝ exp Σ_x [ −V(φ_x) + φ_x (h_x(φ_o) + J_x(φ_o, ϕ)) + O(g⁴φ_e²) ]       e: even sites, o: odd sites
//! ```
//!
//! With even/odd preconditioning the pseudofermion action is 1 + O(g²φ_oφ_e), linear in φ_e to leading order: a heat bath
//! with one more field J. The other way round, ϕ can be drawn before φ_e from the density at φ_e ≈ ⟨φ_e|φ_o⟩.

use super::{LocalField, LocalPotential, Stage};
use crate::{Bijection, ParamStore, Result};
use candle_core::{DType, Tensor};
use latflow_fermion::EvenOddYukawa;
use latflow_lattice::{Boundary, Lattice, Parity, checkerboard};

/// J of [`EvenOddYukawa::first_order_field`]; the kept sites of the operator must be the active ones of the stage.
#[derive(Debug, Clone)]
pub struct PseudofermionSource(pub EvenOddYukawa);

impl LocalField for PseudofermionSource {
    fn local_field(&self, phi: &Tensor, condition: &Tensor) -> Result<Tensor> {
        Ok(self.0.first_order_field(phi, condition).map_err(latflow_action::Error::from)?)
    }
}

/// A layer on pseudofermions that is shown ⟨φ_e|φ_o⟩ in place of the even sites of φ, which are not filled yet.
///
/// ```text
/// ⟨φ_x|φ_o⟩ ≈ a tanh( b Σ_{y next to x} φ_y )
/// ```
#[derive(Debug, Clone)]
pub struct MeanField<L> {
    layer: L,
    /// (log a, log b).
    coefficients: Tensor,
    /// Adjacency, even columns only, `[V, V]`.
    neighbours: Tensor,
    odd: Tensor,
}

impl<L> MeanField<L> {
    /// Starts with the linear response of a Gaussian of the width that `potential` has on one site.
    ///
    /// # Errors
    /// When the name is taken, or `potential` is not bounded below.
    pub fn new(
        store: &mut ParamStore,
        name: &str,
        lattice: &Lattice,
        finest: &Stage,
        potential: LocalPotential,
        layer: L,
    ) -> Result<Self> {
        let (width, volume) = (potential.variance()?, lattice.volume());
        // a tanh(b Σ) has slope a b, to be hopping · ⟨φ²⟩, and saturates a little above the width.
        let saturation = 2.0 * width.sqrt();
        let slope = (potential.hopping * width / saturation).max(1e-3);
        let start = vec![saturation.ln(), slope.ln()];
        let mut table = vec![0.0; volume * volume];
        for x in finest.active_sites() {
            for mu in 0..lattice.ndim() {
                for step in [1, -1] {
                    let (y, _) = lattice.neighbour(x, mu, step, Boundary::Periodic);
                    table[y * volume + x] += 1.0;
                }
            }
        }
        let device = store.device().clone();
        Ok(Self {
            layer,
            coefficients: store.create(name, &[2], |_| start)?,
            neighbours: Tensor::from_vec(table, (volume, volume), &device)?,
            odd: checkerboard(lattice, Parity::Odd, DType::F64, &device)?,
        })
    }

    fn completed(&self, phi: &Tensor) -> Result<Tensor> {
        let c = self.coefficients.to_dtype(DType::F64)?.exp()?;
        let odd = phi.broadcast_mul(&self.odd)?;
        let field = odd.matmul(&self.neighbours)?;
        let mean = field.broadcast_mul(&c.narrow(0, 1, 1)?)?.tanh()?.broadcast_mul(&c.narrow(0, 0, 1)?)?;
        Ok((odd + mean)?)
    }
}

impl<L: Bijection<Tensor, Tensor>> Bijection<Tensor, Tensor> for MeanField<L> {
    fn forward(&self, z: &Tensor, phi: &Tensor) -> Result<(Tensor, Tensor)> {
        self.layer.forward(z, &self.completed(phi)?)
    }

    fn inverse(&self, x: &Tensor, phi: &Tensor) -> Result<(Tensor, Tensor)> {
        self.layer.inverse(x, &self.completed(phi)?)
    }
}
