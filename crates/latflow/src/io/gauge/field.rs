//! One gauge configuration of SU(N) in four dimensions on the host.
//!
//! ```text
//! links[((μ V + site) N + row) N + column],   site = ((x L_y + y) L_z + z) L_t + t,   μ = x, y, z, t
//! ```
//!
//! This is the memory order of one configuration of [`Links`], so that conversion is a copy.

use candle_core::{Device, Tensor};
use latflow_lattice::{Error, Links};
use num_complex::Complex64;

/// Extents in the directions x, y, z, t.
pub type Extents = [usize; 4];

/// Names of the directions.
pub(super) const DIRECTIONS: [&str; 4] = ["x", "y", "z", "t"];

/// The links of one configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct GaugeField {
    dims: Extents,
    n_colours: usize,
    links: Vec<Complex64>,
}

impl GaugeField {
    /// A field from its links, direction by direction, time fastest.
    ///
    /// # Errors
    /// When the number of links is not that of the extents and colours.
    pub fn new(dims: Extents, n_colours: usize, links: Vec<Complex64>) -> latflow_lattice::Result<Self> {
        let expected = 4 * dims.iter().product::<usize>() * n_colours * n_colours;
        if expected == 0 || links.len() != expected {
            return Err(Error::Shape {
                what: "links of a gauge field",
                expected: format!("[4, {}, {n_colours}, {n_colours}]", extents(dims)),
                got: vec![links.len()],
            });
        }
        Ok(Self { dims, n_colours, links })
    }

    /// One configuration of a batch in four dimensions.
    ///
    /// # Errors
    /// When there is no such configuration, or the links are of another lattice.
    pub fn from_links(dims: Extents, links: &Links, configuration: usize) -> latflow_lattice::Result<Self> {
        let volume: usize = dims.iter().product();
        let batch = links.tensor().dims()[0];
        if links.ndim() != 4 || links.volume() != volume || configuration >= batch {
            return Err(Error::Shape {
                what: "links of a gauge field",
                expected: format!("[B > {configuration}, 4, {volume}, N, N, 2]"),
                got: links.tensor().dims().to_vec(),
            });
        }
        let numbers: Vec<f64> = links.tensor().get(configuration)?.flatten_all()?.to_vec1()?;
        let (pairs, _) = numbers.as_chunks::<2>();
        let links_of_one = pairs.iter().map(|[re, im]| Complex64::new(*re, *im)).collect();
        Self::new(dims, links.colours(), links_of_one)
    }

    /// A batch of one, `[1, 4, V, N, N, 2]`.
    ///
    /// # Errors
    /// When N = 1, or the device has no room.
    pub fn to_links(&self, device: &Device) -> latflow_lattice::Result<Links> {
        let numbers: Vec<f64> = self.links.iter().flat_map(|z| [z.re, z.im]).collect();
        let n = self.n_colours;
        Links::new(Tensor::from_vec(numbers, (1, 4, self.volume(), n, n, 2), device)?)
    }

    /// Extents in the directions x, y, z, t.
    pub fn dims(&self) -> Extents {
        self.dims
    }

    /// N of SU(N).
    pub fn n_colours(&self) -> usize {
        self.n_colours
    }

    /// Number of sites V.
    pub fn volume(&self) -> usize {
        self.dims.iter().product()
    }

    /// All links: direction, site, row, column.
    pub fn links(&self) -> &[Complex64] {
        &self.links
    }

    /// U_μ(site), row by row.
    pub fn link(&self, mu: usize, site: usize) -> &[Complex64] {
        let size = self.n_colours * self.n_colours;
        &self.links[(mu * self.volume() + site) * size..][..size]
    }
}

/// The coordinates of a site, time fastest.
pub(super) fn coordinates(dims: Extents, site: usize) -> Extents {
    let mut rest = site;
    let mut x = [0; 4];
    for (x, l) in x.iter_mut().zip(dims).rev() {
        *x = rest % l;
        rest /= l;
    }
    x
}

/// The site one step forwards in direction μ.
pub(super) fn forward(dims: Extents, site: usize, mu: usize) -> usize {
    let stride: usize = dims[mu + 1..].iter().product();
    let x = site / stride % dims[mu];
    if x + 1 == dims[mu] { site - x * stride } else { site + stride }
}

/// The link with this index among all links, for people.
pub(super) fn place(dims: Extents, link: usize) -> String {
    let volume: usize = dims.iter().product();
    let [x, y, z, t] = coordinates(dims, link % volume);
    format!("the link in direction {} at ({x}, {y}, {z}, {t})", DIRECTIONS[link / volume])
}

/// Extents for people.
pub(super) fn extents([x, y, z, t]: Extents) -> String {
    format!("{x}×{y}×{z}×{t}")
}
