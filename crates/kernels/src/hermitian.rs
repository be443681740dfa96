//! Determinants and inverses of complex saddle-point matrices with positive diagonal blocks, in f64.
//!
//! ```text
//! M = [[A, B], [−B†, C]],   A = A†,   C = C†
//! det M = det A · det S,    S = C + B† A⁻¹ B                    A and S positive:  M is regular and det M > 0
//! M⁻¹ = [[A⁻¹ − Z S⁻¹ Z†, −Z S⁻¹], [S⁻¹ Z†, S⁻¹]],   Z = A⁻¹ B
//! ```
//!
//! Two Cholesky factors of half the size need no pivots and are matrix products almost entirely, which a complex LU decomposition
//! of M is not. Matrices are stored by columns.

use gemm::Parallelism;
use num_complex::Complex64;

/// Rows below which a factor is computed element by element.
const BASE: usize = 24;

/// M by its blocks of `order` rows and columns each.
#[derive(Debug, Clone)]
pub struct SaddleMatrix {
    order: usize,
    a: Vec<Complex64>,
    b: Vec<Complex64>,
    c: Vec<Complex64>,
}

/// M⁻¹ = [[X, Y], [−Y†, T]].
#[derive(Debug, Clone)]
pub struct SaddleInverse {
    order: usize,
    x: Vec<Complex64>,
    y: Vec<Complex64>,
    t: Vec<Complex64>,
}

impl SaddleMatrix {
    /// A matrix of 2 `order` rows, all zero.
    pub fn zeros(order: usize) -> Self {
        let block = || vec![Complex64::default(); order * order];
        Self { order, a: block(), b: block(), c: block() }
    }

    /// Rows of a block.
    pub fn order(&self) -> usize {
        self.order
    }

    /// Adds to M_ij, for rows and columns up to twice the order. Elements of −B† are implied by those of B: do not add to them.
    ///
    /// # Panics
    /// When i or j is too large.
    #[inline]
    pub fn add(&mut self, i: usize, j: usize, z: Complex64) {
        let n = self.order;
        match (i < n, j < n) {
            (true, true) => self.a[i + j * n] += z,
            (true, false) => self.b[i + (j - n) * n] += z,
            (false, false) => self.c[i - n + (j - n) * n] += z,
            (false, true) => panic!("element ({i}, {j}) of a saddle-point matrix of order {n} is implied"),
        }
    }

    /// M_ij.
    pub fn get(&self, i: usize, j: usize) -> Complex64 {
        let n = self.order;
        match (i < n, j < n) {
            (true, true) => self.a[i + j * n],
            (true, false) => self.b[i + (j - n) * n],
            (false, true) => -self.b[j + (i - n) * n].conj(),
            (false, false) => self.c[i - n + (j - n) * n],
        }
    }

    /// log det M, and M⁻¹ if `inverse`; `None` when A or S is not positive. `parallel`: on all threads instead of the caller's.
    pub fn analyse(mut self, inverse: bool, parallel: bool) -> Option<(f64, Option<SaddleInverse>)> {
        let (n, half) = (self.order, self.order / 2);
        let threads = if parallel { Parallelism::Rayon(0) } else { Parallelism::None };
        let one = Complex64::new(1.0, 0.0);
        let mut factor = vec![Complex64::default(); n * n];
        let mut log_det = invert_factor(&mut self.a, &mut factor, n, threads)?;
        // W = L⁻¹B, whose upper half needs the upper half of B only; A is not needed any more.
        let mut w = self.a;
        let p = |v: &[Complex64]| v.as_ptr();
        // SAFETY: all matrices are n × n by columns of n, offsets stay inside, and no target overlaps an operand.
        unsafe {
            let (l, b, w) = (p(&factor), p(&self.b), w.as_mut_ptr());
            product([half, n, half], Target::set(w, n), plain(l, n), plain(b, n), one, threads);
            let (low, rows) = (l.add(half), n - half);
            product([rows, n, n], Target::set(w.add(half), n), plain(low, n), plain(b, n), one, threads);
            // S = C + W†W, its lower triangle by two columns of blocks.
            let (c, w) = (self.c.as_mut_ptr(), w.cast_const());
            product([n, half, n], Target::add(c, n), adjoint(w, n), plain(w, n), one, threads);
            let (corner, w) = (c.add(half + half * n), w.add(half * n));
            product([rows, rows, n], Target::add(corner, n), adjoint(w, n), plain(w, n), one, threads);
        }
        let mut second = vec![Complex64::default(); n * n];
        log_det += invert_factor(&mut self.c, &mut second, n, threads)?;
        if !inverse {
            return Some((log_det, None));
        }
        let (mut t, mut y) = (self.c, vec![Complex64::default(); n * n]);
        let (mut z, mut x) = (self.b, vec![Complex64::default(); n * n]);
        // SAFETY: as above.
        unsafe {
            let (l, k, size) = (p(&factor), p(&second), [n, n, n]);
            product(size, Target::set(t.as_mut_ptr(), n), adjoint(k, n), plain(k, n), one, threads);
            product(size, Target::set(z.as_mut_ptr(), n), adjoint(l, n), plain(p(&w), n), one, threads);
            product(size, Target::set(y.as_mut_ptr(), n), plain(p(&z), n), plain(p(&t), n), -one, threads);
            product(size, Target::set(x.as_mut_ptr(), n), adjoint(l, n), plain(l, n), one, threads);
            product(size, Target::add(x.as_mut_ptr(), n), plain(p(&y), n), adjoint(p(&z), n), one, threads);
        }
        Some((log_det, Some(SaddleInverse { order: n, x, y, t })))
    }
}

impl SaddleInverse {
    /// (M⁻¹)_ij.
    #[inline]
    pub fn get(&self, i: usize, j: usize) -> Complex64 {
        let n = self.order;
        match (i < n, j < n) {
            (true, true) => self.x[i + j * n],
            (true, false) => self.y[i + (j - n) * n],
            (false, true) => -self.y[j + (i - n) * n].conj(),
            (false, false) => self.t[i - n + (j - n) * n],
        }
    }
}

/// A factor of a product: stored by columns, or the adjoint of what is stored.
#[derive(Clone, Copy)]
struct Operand {
    p: *const Complex64,
    column: isize,
    row: isize,
    conjugate: bool,
}

fn plain(p: *const Complex64, stride: usize) -> Operand {
    Operand { p, column: stride as isize, row: 1, conjugate: false }
}

fn adjoint(p: *const Complex64, stride: usize) -> Operand {
    Operand { p, column: 1, row: stride as isize, conjugate: true }
}

#[derive(Clone, Copy)]
struct Target {
    p: *mut Complex64,
    stride: usize,
    add: bool,
}

impl Target {
    fn set(p: *mut Complex64, stride: usize) -> Self {
        Self { p, stride, add: false }
    }

    fn add(p: *mut Complex64, stride: usize) -> Self {
        Self { p, stride, add: true }
    }
}

/// target ← [target +] factor · left · right, for an m × n target and k columns of the left factor.
///
/// # Safety
/// All pointers are valid for their matrices, and the target overlaps no factor.
unsafe fn product(
    [m, n, k]: [usize; 3],
    target: Target,
    left: Operand,
    right: Operand,
    factor: Complex64,
    threads: Parallelism,
) {
    // SAFETY: the caller's promise.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            target.p,
            target.stride as isize,
            1,
            target.add,
            left.p,
            left.column,
            left.row,
            right.p,
            right.column,
            right.row,
            Complex64::new(1.0, 0.0),
            factor,
            false,
            left.conjugate,
            right.conjugate,
            threads,
        );
    }
}

/// x ← L⁻¹ for A = L L† given by its lower triangle, and log det A; `None` when A is not positive. A is destroyed, the upper triangle of
/// x is left as it is.
fn invert_factor(a: &mut [Complex64], x: &mut [Complex64], n: usize, threads: Parallelism) -> Option<f64> {
    assert!(a.len() == n * n && x.len() == n * n, "matrices of {n} rows");
    // SAFETY: both hold n columns of n elements.
    unsafe { invert_part(a.as_mut_ptr(), x.as_mut_ptr(), n, n, threads) }
}

/// # Safety
/// `a` and `x` point to n × n blocks of different matrices whose columns are `stride` apart.
unsafe fn invert_part(
    a: *mut Complex64,
    x: *mut Complex64,
    n: usize,
    stride: usize,
    threads: Parallelism,
) -> Option<f64> {
    if n <= BASE {
        // SAFETY: the caller's promise.
        return unsafe { invert_small(a, x, n, stride) };
    }
    let (h, rest, one) = (n / 2, n - n / 2, Complex64::new(1.0, 0.0));
    // SAFETY: the blocks lie inside those of the caller, and those of one product do not overlap.
    unsafe {
        let (a21, a22) = (a.add(h), a.add(h + h * stride));
        let (x21, x22) = (x.add(h), x.add(h + h * stride));
        let mut log_det = invert_part(a, x, h, stride, threads)?;
        // L₂₁ = A₂₁ L₁₁⁻†, A₂₂ ← A₂₂ − L₂₁ L₂₁†.
        product([rest, h, h], Target::set(x21, stride), plain(a21, stride), adjoint(x, stride), one, threads);
        let l21 = x21.cast_const();
        let target = Target::add(a22, stride);
        product([rest, rest, h], target, plain(l21, stride), adjoint(l21, stride), -one, threads);
        log_det += invert_part(a22, x22, rest, stride, threads)?;
        // (L⁻¹)₂₁ = −L₂₂⁻¹ L₂₁ L₁₁⁻¹.
        product([rest, h, h], Target::set(a21, stride), plain(l21, stride), plain(x, stride), one, threads);
        product(
            [rest, h, rest],
            Target::set(x21, stride),
            plain(x22, stride),
            plain(a21, stride),
            -one,
            threads,
        );
        Some(log_det)
    }
}

/// # Safety
/// As [`invert_part`].
unsafe fn invert_small(a: *mut Complex64, x: *mut Complex64, n: usize, stride: usize) -> Option<f64> {
    let mut log_det = 0.0;
    // SAFETY: i and j stay below n.
    unsafe {
        let a = |i: usize, j: usize| a.add(i + j * stride);
        let x = |i: usize, j: usize| x.add(i + j * stride);
        for j in 0..n {
            let pivot = (*a(j, j)).re;
            // Also false for NaN.
            if !(pivot > 0.0 && pivot.is_finite()) {
                return None;
            }
            log_det += pivot.ln();
            let root = pivot.sqrt();
            *a(j, j) = root.into();
            for i in j + 1..n {
                *a(i, j) /= root;
            }
            for k in j + 1..n {
                let factor = (*a(k, j)).conj();
                for i in k..n {
                    let l = *a(i, j);
                    *a(i, k) -= l * factor;
                }
            }
        }
        for j in 0..n {
            *x(j, j) = (*a(j, j)).inv();
            for i in j + 1..n {
                let mut sum = Complex64::default();
                for k in j..i {
                    sum += *a(i, k) * *x(k, j);
                }
                *x(i, j) = -sum / (*a(i, i)).re;
            }
        }
    }
    Some(log_det)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nalgebra::DMatrix;
    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    /// A = 1 + small, B of order one, C = 1 + small; `shift` added to C.
    fn example(n: usize, shift: f64) -> SaddleMatrix {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(n as u64);
        let mut z =
            |scale: f64| Complex64::new(rng.random_range(-scale..scale), rng.random_range(-scale..scale));
        let mut m = SaddleMatrix::zeros(n);
        let small = 0.5 / (n as f64).sqrt();
        for i in 0..n {
            for j in 0..n {
                m.add(i, n + j, z(1.0));
            }
            for offset in [0, n] {
                let level = if offset == 0 { 1.5 } else { 1.5 + shift };
                m.add(offset + i, offset + i, level.into());
                for j in 0..i {
                    let z = z(small);
                    m.add(offset + i, offset + j, z);
                    m.add(offset + j, offset + i, z.conj());
                }
            }
        }
        m
    }

    #[test]
    fn determinants_and_inverses_are_those_of_the_whole_matrix() {
        for n in [1, 5, 24, 25, 48, 67, 130] {
            let m = example(n, 0.0);
            let dense = DMatrix::from_fn(2 * n, 2 * n, |i, j| m.get(i, j));
            let det = dense.clone().lu().determinant();
            for parallel in [false, true] {
                let (log_det, inverse) = m.clone().analyse(true, parallel).unwrap();
                assert!((log_det - det.norm().ln()).abs() < 1e-10, "{n}: {log_det} and {det}");
                assert!(det.arg().abs() < 1e-9);
                let inverse = inverse.unwrap();
                let inverse = DMatrix::from_fn(2 * n, 2 * n, |i, j| inverse.get(i, j));
                let unit = &dense * inverse - DMatrix::identity(2 * n, 2 * n);
                let largest = unit.iter().map(|z| z.norm()).fold(0.0, f64::max);
                assert!(largest < 1e-11, "{n}: {largest:e}");
                let alone = m.clone().analyse(false, parallel).unwrap();
                assert!(alone.0 == log_det && alone.1.is_none());
            }
        }
    }

    #[test]
    fn what_is_not_positive_is_refused() {
        assert!(example(40, -200.0).analyse(false, false).is_none());
        let mut m = example(40, 0.0);
        m.add(3, 3, f64::NAN.into());
        assert!(m.analyse(true, false).is_none());
    }
}
