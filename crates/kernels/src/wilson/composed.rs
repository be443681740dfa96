//! The hop from candle's own operations: the oracle of the tests and the path on a GPU.

#![allow(clippy::needless_range_loop, reason = "indices of spin and colour, as in the formulas")]

use super::gamma;
use super::geometry::Sites;
use candle_core::{D, Result, Tensor};

/// H or H† applied to ψ; see [`super::wilson_hop`].
///
/// # Errors
/// When the shapes do not fit.
pub fn wilson_hop_composed(
    links: &Tensor,
    psi: &Tensor,
    dims: &[usize],
    antiperiodic: bool,
    targets: Sites,
    adjoint: bool,
) -> Result<Tensor> {
    let volume: usize = dims.iter().product();
    let (batch, device) = (links.dim(0)?, links.device());
    let sources = targets.neighbours();
    let to = positions(dims, targets);
    let from = positions(dims, sources);
    let chosen: Vec<u32> = (0..volume as u32).filter(|&x| to[x as usize].is_some()).collect();
    let sites = chosen.len();
    let index = |v: Vec<u32>| Tensor::from_vec(v, sites, device);
    let sign = |v: Vec<f64>| Tensor::from_vec(v, (sites, 1, 1), device)?.to_dtype(links.dtype());
    // [B, sites, 12] → [B, sites, 4, 3], real and imaginary part.
    let n = psi.dim(2)? / 12;
    let part = |k: usize| psi.narrow(1, k, 1)?.reshape((batch, n, 4, 3));
    let psi = [part(0)?, part(1)?];
    let mut sum: Option<[Tensor; 2]> = None;
    for mu in 0..4 {
        let u = links.narrow(1, mu, 1)?.squeeze(1)?;
        let u = [0, 1].map(|k| u.narrow(D::Minus1, k, 1).and_then(|u| u.squeeze(D::Minus1)));
        let [ur, ui] = u;
        let (ur, ui) = (ur?, ui?);
        for step in [1, -1] {
            let (neighbours, signs): (Vec<u32>, Vec<f64>) =
                chosen.iter().map(|&x| neighbour(dims, x as usize, mu, step, antiperiodic)).unzip();
            let source: Vec<u32> = neighbours.iter().filter_map(|&y| from[y as usize]).collect();
            let (source, sign) = (index(source)?, sign(signs)?);
            let owner = index(if step > 0 { chosen.clone() } else { neighbours })?;
            let (ur, ui) =
                (ur.contiguous()?.index_select(&owner, 1)?, ui.contiguous()?.index_select(&owner, 1)?);
            // U as a matrix that multiplies rows of colour from the right: Uᵀ forwards, (U†)ᵀ = U* backwards.
            let (ur, ui) = if step > 0 {
                (ur.transpose(2, 3)?.contiguous()?, ui.transpose(2, 3)?.contiguous()?)
            } else {
                (ur, ui.neg()?)
            };
            let minus = (step > 0) != adjoint;
            let mut p = Vec::with_capacity(2);
            for k in 0..2 {
                p.push(psi[k].contiguous()?.index_select(&source, 1)?.broadcast_mul(&sign)?);
            }
            let projected = project([&p[0], &p[1]], mu, minus)?;
            let (pr, pi) = (&projected[0], &projected[1]);
            let re = (pr.matmul(&ur)? - pi.matmul(&ui)?)?;
            let im = (pr.matmul(&ui)? + pi.matmul(&ur)?)?;
            sum = Some(match sum {
                None => [re, im],
                Some([a, b]) => [(a + re)?, (b + im)?],
            });
        }
    }
    let [re, im] = sum.expect("four directions");
    Tensor::stack(&[re, im], 1)?.reshape((batch, 2, 12 * sites))
}

/// (1 ± γ_μ)ψ for ψ `[B, sites, 4, 3]`.
fn project([re, im]: [&Tensor; 2], mu: usize, minus: bool) -> Result<[Tensor; 2]> {
    let mut matrix = gamma::matrix(mu);
    let sign = if minus { -1.0 } else { 1.0 };
    for (s, row) in matrix.iter_mut().enumerate() {
        row.iter_mut().for_each(|z| *z = [sign * z[0], sign * z[1]]);
        row[s][0] += 1.0;
    }
    let part = |k: usize| {
        let flat: Vec<f64> = matrix.iter().flatten().map(|z| z[k]).collect();
        Tensor::from_vec(flat, (1, 1, 4, 4), re.device())?.to_dtype(re.dtype())
    };
    let (mr, mi) = (part(0)?, part(1)?);
    let times = |m: &Tensor, v: &Tensor| m.broadcast_matmul(v);
    Ok([(times(&mr, re)? - times(&mi, im)?)?, (times(&mr, im)? + times(&mi, re)?)?])
}

/// Position of each lattice site in a vector on `sites`.
fn positions(dims: &[usize], sites: Sites) -> Vec<Option<u32>> {
    let volume: usize = dims.iter().product();
    let mut count = 0;
    (0..volume)
        .map(|x| {
            let odd = coordinates(dims, x).iter().sum::<usize>() % 2 == 1;
            let has = sites == Sites::All || (sites == Sites::Odd) == odd;
            count += u32::from(has);
            has.then(|| count - 1)
        })
        .collect()
}

fn coordinates(dims: &[usize], mut site: usize) -> Vec<usize> {
    let mut x = vec![0; dims.len()];
    for (x, l) in x.iter_mut().zip(dims).rev() {
        *x = site % l;
        site /= l;
    }
    x
}

/// The site at x ± μ̂ and the sign a spinor picks up on the way.
pub(super) fn neighbour(
    dims: &[usize],
    site: usize,
    mu: usize,
    step: isize,
    antiperiodic: bool,
) -> (u32, f64) {
    let mut x = coordinates(dims, site);
    let moved = x[mu] as isize + step;
    let wraps = moved < 0 || moved == dims[mu] as isize;
    x[mu] = moved.rem_euclid(dims[mu] as isize) as usize;
    let sign = if wraps && antiperiodic && mu + 1 == dims.len() { -1.0 } else { 1.0 };
    (x.iter().zip(dims).fold(0, |s, (x, l)| s * l + x) as u32, sign)
}
