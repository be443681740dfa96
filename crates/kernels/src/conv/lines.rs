//! Three taps along closed lines of four sites: five products of matrices where the definition has twelve.
//!
//! ```text
//! y_j = w₋ x_{j−1} + w₀ x_j + w₊ x_{j+1},  j mod 4      the product x(z) (w₀ + w₋ z + w₊ z³) modulo z⁴ − 1
//! z⁴ − 1 = (z − 1)(z + 1)(z² + 1):  one product modulo each of the first two, three modulo the last (Gauss)
//!
//! r = x_0 − x_2,  q = x_1 − x_3
//! m_0 = ¼(w₀ + w₋ + w₊) (x_0 + x_1 + x_2 + x_3)        m_2 =  ½ w₀ (r + q)
//! m_1 = ¼(w₀ − w₋ − w₊) (x_0 − x_1 + x_2 − x_3)        m_3 = −½(w₀ + w₋ − w₊) q
//!                                                      m_4 = −½(w₀ − w₋ + w₊) r
//! y_0 = m_0 + m_1 + m_2 + m_3                          y_1 = m_0 − m_1 + m_2 + m_4
//! y_2 = m_0 + m_1 − m_2 − m_3                          y_3 = m_0 − m_1 − m_2 − m_4
//! ```
//!
//! x and y are rows of channels, w matrices between them: the sums cost little beside the products. The transposed algorithm is
//! the same one with modes 3 and 4 exchanged, so the input gradient is this convolution with w₋ and w₊ exchanged, and the
//! gradient of the weight of m_3 pairs mode 3 of x with mode 4 of ∂y. Only m_0 reaches all four sites with the same sign: it
//! carries the bias. Nothing but sums and exact factors is added to the rounding of the definition.

use super::simd::{Element, Task, Vector};
use crate::activation::Real;
use crate::stencil::Lines;
use std::mem::MaybeUninit;

/// Products a line.
pub(super) const MODES: usize = 5;

/// The mode of ∂y that belongs to each mode of x.
pub(super) const PARTNER: [usize; MODES] = [0, 1, 2, 4, 3];

/// The weights of the five products from those of the taps behind, here and ahead.
pub(super) fn modes_of_taps<T: Real>([behind, here, ahead]: [T; 3]) -> [T; MODES] {
    let (quarter, half) = (T::from_f64(0.25), T::from_f64(0.5));
    [
        quarter * (here + behind + ahead),
        quarter * (here - behind - ahead),
        half * here,
        -half * (here + behind - ahead),
        -half * (here - behind + ahead),
    ]
}

/// The transpose of [`modes_of_taps`], for gradients.
pub(super) fn taps_of_modes<T: Real>(g: [T; MODES]) -> [T; 3] {
    let (quarter, half) = (T::from_f64(0.25), T::from_f64(0.5));
    let (even, odd) = (quarter * (g[0] - g[1]), half * (g[3] - g[4]));
    [even - odd, quarter * (g[0] + g[1]) + half * (g[2] - g[3] - g[4]), even + odd]
}

/// The five modes `[5][lines][columns]` of rows, whole registers of them.
pub(super) struct ToModes<'a, T> {
    pub(super) lines: Lines<'a>,
    pub(super) rows: &'a [T],
    pub(super) stride: usize,
    pub(super) columns: usize,
    pub(super) modes: &'a mut [T],
}

impl<T: Element> Task<T> for ToModes<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(self) {
        let Self { lines, rows, stride, columns, modes } = self;
        let sites = lines.lines();
        let mode = sites.len() * columns;
        assert!(columns.is_multiple_of(X::LANES) && columns <= stride);
        assert!(rows.len() >= (lines.volume() - 1) * stride + columns && modes.len() == MODES * mode);
        for (line, sites) in sites.iter().enumerate() {
            let x = sites.map(|s| rows.as_ptr().wrapping_add(s as usize * stride));
            let m = modes.as_mut_ptr().wrapping_add(line * columns);
            for c in (0..columns).step_by(X::LANES) {
                // SAFETY: sites lie below the volume, and the lengths were checked above.
                unsafe {
                    let [x0, x1, x2, x3] = x.map(|x| X::load(x.wrapping_add(c)));
                    let (even, odd) = (x0.add(x2), x1.add(x3));
                    let (r, q) = (x0.sub(x2), x1.sub(x3));
                    let m = m.wrapping_add(c);
                    even.add(odd).store(m);
                    even.sub(odd).store(m.wrapping_add(mode));
                    r.add(q).store(m.wrapping_add(2 * mode));
                    q.store(m.wrapping_add(3 * mode));
                    r.store(m.wrapping_add(4 * mode));
                }
            }
        }
    }
}

/// The rows of the sites on the lines, `width` elements each, from the modes of the result.
pub(super) struct FromModes<'a, T> {
    pub(super) lines: Lines<'a>,
    pub(super) modes: &'a [T],
    pub(super) columns: usize,
    /// Rows of all sites; those on the lines are written.
    pub(super) rows: &'a mut [MaybeUninit<T>],
    pub(super) stride: usize,
}

impl<T: Element> Task<T> for FromModes<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = T>>(self) {
        let Self { lines, modes, columns, rows, stride } = self;
        let sites = lines.lines();
        let mode = sites.len() * columns;
        let width = columns.min(stride);
        assert!(columns.is_multiple_of(X::LANES) && modes.len() == MODES * mode);
        assert!(rows.len() >= (lines.volume() - 1) * stride + width);
        for (line, sites) in sites.iter().enumerate() {
            let y = sites.map(|s| rows.as_mut_ptr().cast::<T>().wrapping_add(s as usize * stride));
            let m = modes.as_ptr().wrapping_add(line * columns);
            for c in (0..width).step_by(X::LANES) {
                // SAFETY: sites lie below the volume, and the lengths were checked above; a register that does not fit
                // the row is stored element by element.
                unsafe {
                    let m = m.wrapping_add(c);
                    let load = |k: usize| X::load(m.wrapping_add(k * mode));
                    let (m0, m1, m2) = (load(0), load(1), load(2));
                    let (even, odd) = (m0.add(m1), m0.sub(m1));
                    let (real, imaginary) = (m2.add(load(3)), m2.add(load(4)));
                    let sums = [even.add(real), odd.add(imaginary), even.sub(real), odd.sub(imaginary)];
                    for (y, sum) in y.into_iter().zip(sums) {
                        if c + X::LANES <= width {
                            sum.store(y.wrapping_add(c));
                        } else {
                            sum.store_first(width - c, y.wrapping_add(c));
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MODES, PARTNER, modes_of_taps, taps_of_modes};

    fn modes(x: [f64; 4]) -> [f64; MODES] {
        let (r, q) = (x[0] - x[2], x[1] - x[3]);
        [x[0] + x[1] + x[2] + x[3], x[0] - x[1] + x[2] - x[3], r + q, q, r]
    }

    #[test]
    fn five_products_have_the_gradient_of_twelve() {
        // Small integers: no sum rounds, a quarter and a half are exact.
        let (x, g) = ([3.0, -2.0, 5.0, 1.0], [2.0, 7.0, -1.0, 4.0]);
        let expected: Vec<f64> = (0..3).map(|t| (0..4).map(|j| g[j] * x[(j + t + 3) % 4]).sum()).collect();
        let (mx, mg) = (modes(x), modes(g));
        let products = std::array::from_fn(|k| mx[k] * mg[PARTNER[k]]);
        assert_eq!(taps_of_modes(products).to_vec(), expected);
        let w = [2.0, -3.0, 5.0];
        let along: f64 = modes_of_taps(w).iter().zip(products).map(|(w, p)| w * p).sum();
        assert_eq!(along, w.iter().zip(&expected).map(|(w, e)| w * e).sum::<f64>());
    }
}
