//! Hypercubic lattices of any dimension with even extents.
//!
//! ```text
//! site(x) = (…(x_1 L_2 + x_2) L_3 + …) + x_d          time is x_d, the last and fastest
//! ```

use crate::{Error, Result};
use candle_core::Tensor;
use latflow_kernels::Stencil;

/// How a field continues across the end of the time direction. Space is always periodic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// f(x, t + L_t) = f(x, t): scalar fields [YUK (23)].
    Periodic,
    /// f(x, t + L_t) = −f(x, t): fermions and pseudofermions [YUK (24), (44)].
    Antiperiodic,
}

/// A periodic hypercubic lattice with even extents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lattice {
    dims: Vec<usize>,
    volume: usize,
}

impl Lattice {
    /// A lattice with the given extents, time last.
    ///
    /// # Errors
    /// When an extent is odd or below 2, or there is none.
    pub fn new(dims: &[usize]) -> Result<Self> {
        if dims.is_empty() {
            return Err(Error::NoDirections);
        }
        if let Some((direction, &extent)) = dims.iter().enumerate().find(|(_, l)| **l < 2 || **l % 2 == 1) {
            return Err(Error::Extent { direction, extent, dims: dims.to_vec() });
        }
        Ok(Self { dims: dims.to_vec(), volume: dims.iter().product() })
    }

    /// Extents, time last.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Number of directions d.
    pub fn ndim(&self) -> usize {
        self.dims.len()
    }

    /// Number of sites V.
    pub fn volume(&self) -> usize {
        self.volume
    }

    /// Extent of the time direction L_t.
    pub fn time_extent(&self) -> usize {
        self.dims[self.dims.len() - 1]
    }

    /// Coordinates of a site.
    pub fn coordinates(&self, site: usize) -> Vec<usize> {
        let mut rest = site;
        let mut x = vec![0; self.ndim()];
        for (x, &l) in x.iter_mut().zip(&self.dims).rev() {
            *x = rest % l;
            rest /= l;
        }
        x
    }

    /// The site at the given coordinates, which must lie on the lattice.
    pub fn site(&self, x: &[usize]) -> usize {
        debug_assert!(x.len() == self.ndim() && x.iter().zip(&self.dims).all(|(x, l)| x < l));
        x.iter().zip(&self.dims).fold(0, |site, (x, l)| site * l + x)
    }

    /// The site at x + displacement and the sign a field with this boundary picks up on the way.
    pub fn displaced(&self, site: usize, displacement: &[isize], boundary: Boundary) -> (usize, f64) {
        let mut sign = 1.0;
        let last = self.ndim() - 1;
        let mut x = self.coordinates(site);
        for (mu, (x, (&l, &d))) in x.iter_mut().zip(self.dims.iter().zip(displacement)).enumerate() {
            let y = *x as isize + d;
            *x = y.rem_euclid(l as isize) as usize;
            if mu == last && boundary == Boundary::Antiperiodic && y.div_euclid(l as isize) % 2 != 0 {
                sign = -sign;
            }
        }
        (self.site(&x), sign)
    }

    /// The site one step forwards (+1) or backwards (−1) in direction μ, and the boundary sign.
    pub fn neighbour(&self, site: usize, mu: usize, step: isize, boundary: Boundary) -> (usize, f64) {
        let mut displacement = vec![0; self.ndim()];
        displacement[mu] = step;
        self.displaced(site, &displacement, boundary)
    }

    /// Translates a field: result(x) = ± field(x − displacement), for a tensor whose last axis is the site axis
    /// [YUK (23), (24)].
    ///
    /// # Errors
    /// When the last axis is not V.
    pub fn translate(&self, field: &Tensor, displacement: &[isize], boundary: Boundary) -> Result<Tensor> {
        let axis = field.rank().saturating_sub(1);
        if field.rank() == 0 || field.dims()[axis] != self.volume || displacement.len() != self.ndim() {
            return Err(Error::Shape {
                what: "field to translate",
                expected: format!("[…, {}]", self.volume),
                got: field.dims().to_vec(),
            });
        }
        let back: Vec<isize> = displacement.iter().map(|d| -d).collect();
        let (sites, signs): (Vec<u32>, Vec<f64>) = (0..self.volume)
            .map(|s| self.displaced(s, &back, boundary))
            .map(|(s, sign)| (s as u32, sign))
            .unzip();
        let sites = Tensor::from_vec(sites, self.volume, field.device())?;
        let moved = field.contiguous()?.index_select(&sites, axis)?;
        if boundary == Boundary::Periodic {
            return Ok(moved);
        }
        let signs = Tensor::from_vec(signs, self.volume, field.device())?.to_dtype(field.dtype())?;
        Ok(moved.broadcast_mul(&signs)?)
    }

    /// The gather table of a centred convolution kernel, one odd extent a direction; taps in lexicographic order.
    ///
    /// # Errors
    /// When an extent is even or larger than the lattice.
    pub fn stencil(&self, kernel: &[usize], boundary: Boundary) -> Result<Stencil> {
        let fits =
            kernel.len() == self.ndim() && kernel.iter().zip(&self.dims).all(|(k, l)| k % 2 == 1 && k <= l);
        if !fits {
            return Err(Error::Kernel { kernel: kernel.to_vec(), dims: self.dims.clone() });
        }
        let taps: usize = kernel.iter().product();
        let mut neighbours = Vec::with_capacity(taps * self.volume);
        let mut signs = Vec::with_capacity(taps * self.volume);
        for tap in 0..taps {
            let mut rest = tap;
            let mut displacement = vec![0isize; self.ndim()];
            for (d, &k) in displacement.iter_mut().zip(kernel).rev() {
                *d = (rest % k) as isize - (k / 2) as isize;
                rest /= k;
            }
            for site in 0..self.volume {
                let (n, sign) = self.displaced(site, &displacement, boundary);
                neighbours.push(n as u32);
                signs.push(sign as i8);
            }
        }
        let signs = (boundary == Boundary::Antiperiodic).then_some(signs);
        Ok(Stencil::new(self.volume, neighbours, signs)?)
    }

    /// The sites of one parity, in lexicographic order.
    pub fn sublattice(&self, parity: crate::Parity) -> Vec<usize> {
        (0..self.volume).filter(|&s| self.parity(s) == parity).collect()
    }

    /// Even or odd: the parity of x_1 + … + x_d.
    pub fn parity(&self, site: usize) -> crate::Parity {
        if self.coordinates(site).iter().sum::<usize>() % 2 == 0 {
            crate::Parity::Even
        } else {
            crate::Parity::Odd
        }
    }
}

impl std::fmt::Display for Lattice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dims: Vec<String> = self.dims.iter().map(ToString::to_string).collect();
        f.write_str(&dims.join("×"))
    }
}
