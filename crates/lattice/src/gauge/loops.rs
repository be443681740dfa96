//! Wilson loops from shifted links, as differentiable tensor operations.
//!
//! ```text
//! P_{μν}(x) = U_μ(x) U_ν(x+μ̂) U_μ(x+ν̂)† U_ν(x)†
//! ```

use super::links::site_shift;
use super::{Links, matrix};
use crate::{Lattice, Result};
use candle_core::Tensor;

/// The plaquettes of the plane (μ, ν) at every site, `[B, V, N, N, 2]`.
///
/// # Errors
/// When the links do not fit the lattice.
pub fn plaquettes(links: &Links, lattice: &Lattice, mu: usize, nu: usize) -> Result<Tensor> {
    path(links, lattice, &[(mu, 1), (nu, 1), (mu, -1), (nu, -1)])
}

/// The ordered product of links along a path that starts at every site: steps (direction, ±1), `[B, V, N, N, 2]`. A step
/// backwards takes U_μ(x − μ̂)†.
///
/// # Errors
/// When the links do not fit the lattice or the path is empty.
pub fn path(links: &Links, lattice: &Lattice, steps: &[(usize, isize)]) -> Result<Tensor> {
    links.check(lattice)?;
    // From the last step to the first: what is behind x + step is moved to x and multiplied from the left.
    let mut product: Option<Tensor> = None;
    for &(mu, step) in steps.iter().rev() {
        let u = links.direction(mu)?;
        let link = if step > 0 { u } else { matrix::adjoint(&site_shift(lattice, &u, 1, mu, -1)?)? };
        product = Some(match product {
            None => link,
            Some(rest) => matrix::product(&link, &site_shift(lattice, &rest, 1, mu, step)?)?,
        });
    }
    product.ok_or_else(|| crate::Error::Shape {
        what: "path of links",
        expected: "at least one step".into(),
        got: vec![0],
    })
}
