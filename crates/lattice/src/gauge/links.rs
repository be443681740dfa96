//! Gauge fields: one SU(N) matrix U_μ(x) a link.
//!
//! ```text
//! U → exp(i ω^a T^a) U                        the tangent of a link is ω ∈ su(N), N² − 1 real numbers
//! U_μ(x) → Ω(x) U_μ(x) Ω(x + μ̂)†              a gauge transformation
//! ```

use crate::gauge::haar::orthonormalised;
use crate::gauge::{algebra_element, haar_matrices, matrix, su_n};
use crate::{Boundary, Configuration, Error, Lattice, Manifold, Result, Rng};
use candle_core::{DType, Device, Tensor};
use latflow_kernels::unitary;

/// A batch of gauge fields, `[B, d, V, N, N, 2]` (direction, site, row, column, re/im), f64; periodic.
#[derive(Debug, Clone)]
pub struct Links {
    u: Tensor,
}

impl Links {
    /// The links of a tensor `[B, d, V, N, N, 2]`, f64. That the matrices are in SU(N) is not checked here: see
    /// [`Links::unitarity_deviation`].
    ///
    /// # Errors
    /// When the shape or the element type is another.
    pub fn new(u: Tensor) -> Result<Self> {
        let fits = matches!(u.dims(), [_, _, _, n, m, 2] if n == m && *n >= 2) && u.dtype() == DType::F64;
        if !fits {
            return Err(Error::Shape {
                what: "links",
                expected: "[B, d, V, N, N, 2] of f64".into(),
                got: u.dims().to_vec(),
            });
        }
        Ok(Self { u })
    }

    /// All links 1.
    ///
    /// # Errors
    /// When the device refuses the upload.
    pub fn unit(lattice: &Lattice, batch: usize, n: usize, device: &Device) -> Result<Self> {
        Self::new(matrix::identity(&[batch, lattice.ndim(), lattice.volume()], n, device)?)
    }

    /// Independent Haar-distributed links.
    ///
    /// # Errors
    /// When the device refuses the upload.
    pub fn haar(lattice: &Lattice, batch: usize, n: usize, rng: &mut Rng, device: &Device) -> Result<Self> {
        let (d, v) = (lattice.ndim(), lattice.volume());
        Self::new(haar_matrices(batch * d * v, n, rng, device)?.reshape((batch, d, v, n, n, 2))?)
    }

    /// `[B, d, V, N, N, 2]`.
    pub fn tensor(&self) -> &Tensor {
        &self.u
    }

    /// Number of colours N.
    pub fn colours(&self) -> usize {
        self.u.dims()[3]
    }

    /// Number of directions d.
    pub fn ndim(&self) -> usize {
        self.u.dims()[1]
    }

    /// Number of sites V.
    pub fn volume(&self) -> usize {
        self.u.dims()[2]
    }

    /// Checks that the field lives on this lattice.
    ///
    /// # Errors
    /// When directions or sites differ.
    pub fn check(&self, lattice: &Lattice) -> Result<()> {
        if (self.ndim(), self.volume()) == (lattice.ndim(), lattice.volume()) {
            return Ok(());
        }
        let expected = format!("[B, {}, {}, N, N, 2]", lattice.ndim(), lattice.volume());
        Err(Error::Shape { what: "links", expected, got: self.u.dims().to_vec() })
    }

    /// The links of one direction, `[B, V, N, N, 2]`.
    ///
    /// # Errors
    /// When there is no such direction.
    pub fn direction(&self, mu: usize) -> Result<Tensor> {
        Ok(self.u.narrow(1, mu, 1)?.squeeze(1)?)
    }

    /// max |U U† − 1| over all matrix elements and links.
    ///
    /// # Errors
    /// When the tensor library fails.
    pub fn unitarity_deviation(&self) -> Result<f64> {
        let u = self.u.detach();
        let one = matrix::identity(&u.dims()[..3], self.colours(), u.device())?;
        let deviation = (matrix::product(&u, &matrix::adjoint(&u)?)? - one)?;
        Ok(deviation.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()?)
    }

    /// U_μ(x) → Ω(x) U_μ(x) Ω(x + μ̂)† for Ω `[B, V, N, N, 2]`, differentiable in both.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn gauge_transform(&self, lattice: &Lattice, omega: &Tensor) -> Result<Self> {
        self.check(lattice)?;
        let moved = (0..self.ndim()).map(|mu| {
            let ahead = site_shift(lattice, omega, 1, mu, 1)?;
            matrix::product(&matrix::product(omega, &self.direction(mu)?)?, &matrix::adjoint(&ahead)?)
        });
        Self::new(Tensor::stack(&moved.collect::<Result<Vec<_>>>()?, 1)?)
    }
}

/// result(x) = field(x + step μ̂) along the site axis `axis`, periodic.
///
/// # Errors
/// When the axis is not V.
pub(crate) fn site_shift(
    lattice: &Lattice,
    field: &Tensor,
    axis: usize,
    mu: usize,
    step: isize,
) -> Result<Tensor> {
    let sites: Vec<u32> =
        (0..lattice.volume()).map(|x| lattice.neighbour(x, mu, step, Boundary::Periodic).0 as u32).collect();
    let sites = Tensor::from_vec(sites, lattice.volume(), field.device())?;
    Ok(field.contiguous()?.index_select(&sites, axis)?)
}

impl Configuration for Links {
    fn batch(&self) -> Result<usize> {
        self.u.batch()
    }

    fn select(accept: &Tensor, new: &Self, old: &Self) -> Result<Self> {
        Ok(Self { u: Tensor::select(accept, &new.u, &old.u)? })
    }

    fn detach(&self) -> Self {
        Self { u: self.u.detach() }
    }

    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Self::new(f(&self.u)?)
    }

    fn device(&self) -> &Device {
        self.u.device()
    }
}

impl Manifold for Links {
    fn tangent_shape(&self) -> Vec<usize> {
        let mut shape = self.u.dims()[..3].to_vec();
        shape.push(su_n::dimension(self.colours()));
        shape
    }

    fn exp(&self, omega: &Tensor) -> Result<Self> {
        if unitary::fused(&self.u) {
            return Self::new(unitary::rotate(omega, &self.u)?);
        }
        let step = matrix::exponential(&algebra_element(omega, self.colours())?)?;
        Self::new(matrix::product(&step, &self.u)?)
    }

    /// Back on SU(N): every link must be within 0.1 of it.
    fn restored(&self) -> Result<Self> {
        let u = self.u.detach();
        if unitary::fused(&u) {
            return Self::new(unitary::project_to_su_n(&u)?);
        }
        let deviation = self.unitarity_deviation()?;
        if !matches!(deviation.partial_cmp(&0.1), Some(std::cmp::Ordering::Less)) {
            let message =
                format!("links: expected unitary matrices within 0.1, got a deviation of {deviation:e}");
            return Err(candle_core::Error::Msg(message).into());
        }
        Self::new(orthonormalised(&u)?)
    }
}
