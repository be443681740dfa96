//! The product from candle's own operations.
//!
//! ```text
//! y = a x + b S x,    S the step along the line with its sign
//! inverse: x = u + r S x with u = y/a, r = −b/a. Substituting into itself, x = U_m + R_m S^m x with
//!          U_{i+j} = U_i + R_i S^i U_j,   R_{i+j} = R_i S^i R_j;   S^L = σ, so x = U_L / (1 − σ R_L)
//! ```
//!
//! R_L is the product around the line, the same on all its sites: it gives the determinant, too.

use super::{BidiagonalProduct, Cycles};
use candle_core::{D, Result, Tensor};
use std::f64::consts::LN_2;

pub(super) fn forward(
    product: &BidiagonalProduct,
    x: &Tensor,
    coefficients: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let mut x = x.clone();
    let mut sum = coefficients.narrow(2, 0, 1)?.zeros_like()?.sum((1, 2))?;
    for k in 0..product.operators {
        let (cycles, a, b) = factor(product, coefficients, k)?;
        sum = (sum + log_abs_det(cycles, &a, &b)?)?;
        let next = cycles.shift(&x, 1)?;
        x = (x.broadcast_mul(&a.unsqueeze(1)?)? + next.broadcast_mul(&b.unsqueeze(1)?)?)?;
    }
    Ok((x, sum))
}

pub(super) fn inverse(
    product: &BidiagonalProduct,
    y: &Tensor,
    coefficients: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let mut y = y.clone();
    let mut sum = coefficients.narrow(2, 0, 1)?.zeros_like()?.sum((1, 2))?;
    for k in (0..product.operators).rev() {
        let (cycles, a, b) = factor(product, coefficients, k)?;
        sum = (sum - log_abs_det(cycles, &a, &b)?)?;
        let ratio = (b / &a)?.neg()?.unsqueeze(1)?;
        let start = y.broadcast_div(&a.unsqueeze(1)?)?;
        let (u, around) = cycles.around(&ratio, Some(&start))?;
        let closed = around.affine(-cycles.0.closing, 1.0)?;
        y = match u {
            Some(u) => u.broadcast_div(&closed)?,
            None => start,
        };
    }
    Ok((y, sum))
}

/// The lines, a and b of factor k: `[B, V]`.
fn factor<'a>(
    product: &'a BidiagonalProduct,
    coefficients: &Tensor,
    k: usize,
) -> Result<(&'a Cycles, Tensor, Tensor)> {
    let raw = coefficients.narrow(2, 2 * k, 1)?.squeeze(2)?.contiguous()?;
    // ln(1 + e^x) = (x + |x|)/2 + ln(1 + e^{−|x|}) with one |x|, whatever its derivative at zero.
    let abs = raw.abs()?;
    let softplus = (((&raw + &abs)? * 0.5)? + (abs.neg()?.exp()? + 1.0)?.log()?)?;
    let b = coefficients.narrow(2, 2 * k + 1, 1)?.squeeze(2)?.contiguous()?;
    Ok((&product.cycles[k % product.cycles.len()], (softplus / LN_2)?, b))
}

/// Σ_lines log |det|, `[B]`: with a and b exchanged on lines where the product of b is the larger one.
fn log_abs_det(cycles: &Cycles, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let around = |ratio: &Tensor| -> Result<Tensor> { Ok(cycles.around(ratio, None)?.1) };
    let exchange = around(&(b.detach() / a.detach())?)?.abs()?.gt(1.0)?;
    let larger = exchange.where_cond(b, a)?;
    let ratio = (exchange.where_cond(a, b)? / &larger)?.neg()?;
    let closed = around(&ratio)?.affine(-cycles.0.closing, 1.0)?.abs()?.log()?;
    (larger.abs()?.log()?.sum(D::Minus1)? + (closed.sum(D::Minus1)? / cycles.0.length as f64)?)?.contiguous()
}

impl Cycles {
    /// S^m x along the last axis.
    fn shift(&self, x: &Tensor, m: usize) -> Result<Tensor> {
        let (volume, length) = (self.volume(), self.0.length);
        let (mut sites, mut signs) = (vec![0_u32; volume], vec![0.0; volume]);
        for (j, &site) in self.0.sites.iter().enumerate() {
            let (line, h) = (j / length, j % length + m);
            sites[site as usize] = self.0.sites[line * length + h % length];
            signs[site as usize] = self.0.closing.powi((h / length) as i32);
        }
        let sites = Tensor::from_vec(sites, volume, x.device())?;
        let signs = Tensor::from_vec(signs, volume, x.device())?;
        x.contiguous()?.index_select(&sites, x.rank() - 1)?.broadcast_mul(&signs)
    }

    /// U_L, if there is a u to start from, and R_L, by doubling. Products of ratios change sign where S does, but every
    /// R multiplies fields: shifts of R itself carry no sign.
    fn around(&self, ratio: &Tensor, start: Option<&Tensor>) -> Result<(Option<Tensor>, Tensor)> {
        let periodic = Cycles::new(self.0.sites.clone(), self.0.length, false)?;
        type Power = (usize, Option<Tensor>, Tensor);
        let join = |(i, u, r): &Power, (j, w, s): &Power| -> Result<Power> {
            let u = match (u, w) {
                (Some(u), Some(w)) => Some((u + self.shift(w, *i)?.broadcast_mul(r)?)?),
                _ => None,
            };
            Ok((i + j, u, (r * periodic.shift(s, *i)?)?))
        };
        let mut power: Power = (1, start.cloned(), ratio.clone());
        let mut result: Option<Power> = None;
        let mut rest = self.0.length;
        loop {
            if rest % 2 == 1 {
                result = Some(match &result {
                    None => power.clone(),
                    Some(so_far) => join(so_far, &power)?,
                });
            }
            rest /= 2;
            if rest == 0 {
                break;
            }
            power = join(&power, &power)?;
        }
        let (_, u, r) = result.unwrap_or(power);
        Ok((u, r))
    }
}
