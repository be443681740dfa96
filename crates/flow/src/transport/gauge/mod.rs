//! Vector fields on SU(3) links: gradients of gauge-invariant loop features.
//!
//! ```text
//! v_i = ∂F_i,     ∇·v_i = ΔF_i = Σ_j L_ij F_j + constant,     v_i·u = dF_i along u
//! ```
//!
//! The features are those of [`LoopFeatures`]: all plaquettes, pairs of plaquettes that share a link, and
//! straight loops around the lattice. Every field moves a
//! link by closed loops through it, so that the flow is gauge equivariant, and it has the symmetries of the lattice. The
//! coefficients know nothing of the lattice's size.

mod derivative;

use super::{Basis, Group};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use derivative::Derivative;
use latflow_kernels::LoopFeatures;
use latflow_lattice::{Lattice, Links};

/// The basis of loop features, on links `[B, d, V, 3, 3, 2]`.
#[derive(Debug, Clone)]
pub struct LoopBasis {
    features: LoopFeatures,
    groups: Vec<Group>,
    /// L transposed: column sums of coefficients become coefficients of F.
    laplacian: Tensor,
    /// The constants of the Laplacians, `[n]`.
    constant: Tensor,
}

impl LoopBasis {
    /// The fields on a lattice.
    ///
    /// # Errors
    /// When an extent is below 4, where loops meet a link twice.
    pub fn new(lattice: &Lattice) -> Result<Self> {
        let features = LoopFeatures::new(lattice.dims())?;
        let (l, constant) = features.laplacian();
        let n = features.count();
        let groups = features.names().into_iter().map(|name| Group { name, fields: 1 }).collect();
        let laplacian = Tensor::from_vec(l, (n, n), &Device::Cpu)?.t()?.contiguous()?;
        Ok(Self { features, groups, laplacian, constant: Tensor::from_vec(constant, n, &Device::Cpu)? })
    }

    /// ΔF_i of values F, `[B, n]`.
    fn divergences(&self, values: &Tensor) -> Result<Tensor> {
        Ok(values.matmul(&self.laplacian)?.broadcast_add(&self.constant)?)
    }
}

impl Basis<Links> for LoopBasis {
    fn groups(&self) -> &[Group] {
        &self.groups
    }

    fn combine(&self, u: &Links, coefficients: &Tensor) -> Result<(Tensor, Tensor)> {
        let n = self.features.count();
        if coefficients.dims() != [n] {
            let (expected, got) = (format!("[{n}]"), coefficients.dims().to_vec());
            return Err(Error::Shape { what: "coefficients of a velocity", expected, got });
        }
        let c = coefficients.to_vec1::<f64>()?;
        let (values, velocity) = self.features.gradient(u.tensor(), &c)?;
        let divergence = self.divergences(&values)?.matmul(&coefficients.detach().reshape((n, 1))?)?;
        if !u.tensor().track_op() && !coefficients.track_op() {
            return Ok((velocity, divergence.squeeze(1)?));
        }
        let value = Tensor::cat(&[velocity.flatten_from(1)?, divergence], 1)?;
        let numbers = value.dims()[1] - 1;
        let both = u.tensor().apply_op3(coefficients, &value, Derivative { basis: self.clone() })?;
        let moved = both.narrow(1, 0, numbers)?.reshape(velocity.shape())?;
        Ok((moved, both.narrow(1, numbers, 1)?.squeeze(1)?))
    }

    fn stein(&self, u: &Links, against: &Tensor) -> Result<Tensor> {
        let slopes = self.features.derivatives(u.tensor(), &against.detach())?;
        let values = self.features.values(u.tensor())?;
        Ok(self.divergences(&values)?.sub(&slopes)?)
    }
}
