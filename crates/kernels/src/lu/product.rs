//! Products of blocks: the register tiles that do nearly all the arithmetic of a decomposition.
//!
//! ```text
//! C ← C − A B,   C ← C + A B,   C ← −D C  or  D C,   C ← C D          D: 8 × 8
//! ```
//!
//! Everything is stored by columns. A tile of C stays in registers while the columns of A stream by; each is loaded once for
//! all columns of the tile, and each element of B is broadcast once for all its registers.

#![allow(clippy::needless_range_loop, reason = "register tiles are indexed as in their formula")]

use super::BLOCK;
use crate::conv::simd::{Level, Task, Vector, dispatch};

/// A corner of a matrix stored by columns that are `stride` elements apart.
#[derive(Clone, Copy)]
pub(super) struct View {
    pub(super) p: *mut f64,
    pub(super) stride: usize,
}

impl View {
    pub(super) fn at(self, row: usize, column: usize) -> Self {
        Self { p: self.p.wrapping_add(row + column * self.stride), ..self }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Subtract,
    Add,
    /// C ← D C.
    Left,
    /// C ← −D C.
    NegativeLeft,
    /// C ← C D.
    Right,
}

struct Product {
    kind: Kind,
    c: View,
    a: View,
    b: View,
    rows: usize,
    inner: usize,
    columns: usize,
}

/// C ← C − A B, with A of `rows × inner`; the three blocks do not overlap.
///
/// # Safety
/// The views are valid for blocks of these sizes, which are multiples of [`BLOCK`].
pub(super) unsafe fn subtract(level: Level, c: View, a: View, b: View, shape: [usize; 3]) {
    let [rows, inner, columns] = shape;
    dispatch(level, Product { kind: Kind::Subtract, c, a, b, rows, inner, columns });
}

/// C ← C + A B.
///
/// # Safety
/// As for [`subtract`].
pub(super) unsafe fn add(level: Level, c: View, a: View, b: View, shape: [usize; 3]) {
    let [rows, inner, columns] = shape;
    dispatch(level, Product { kind: Kind::Add, c, a, b, rows, inner, columns });
}

/// C ← D C, or −D C, for C of `BLOCK × columns`.
///
/// # Safety
/// As for [`subtract`]; D does not overlap C.
pub(super) unsafe fn left(level: Level, negative: bool, c: View, d: View, columns: usize) {
    let kind = if negative { Kind::NegativeLeft } else { Kind::Left };
    dispatch(level, Product { kind, c, a: d, b: c, rows: BLOCK, inner: BLOCK, columns });
}

/// C ← C D for C of `rows × BLOCK`.
///
/// # Safety
/// As for [`left`].
pub(super) unsafe fn right(level: Level, c: View, d: View, rows: usize) {
    dispatch(level, Product { kind: Kind::Right, c, a: c, b: d, rows, inner: BLOCK, columns: BLOCK });
}

impl Task<f64> for Product {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = f64>>(self) {
        // SAFETY: the functions that make a product promise valid blocks. The kinds that overwrite an operand use tiles that
        // read all of it they need before they write: eight rows for `left`, eight columns for `right`.
        unsafe {
            match (self.kind, X::LANES) {
                (Kind::Subtract, 8) => self.sweep::<X, 3, 8, true, true>(),
                (Kind::Add, 8) => self.sweep::<X, 3, 8, false, true>(),
                (Kind::Left, 8) => self.sweep::<X, 1, 8, false, false>(),
                (Kind::NegativeLeft, 8) => self.sweep::<X, 1, 8, true, false>(),
                (Kind::Right, 8) => self.sweep::<X, 3, 8, false, false>(),
                (Kind::Subtract, _) => self.sweep::<X, 3, 4, true, true>(),
                (Kind::Add, _) => self.sweep::<X, 3, 4, false, true>(),
                (Kind::Left, 4) => self.sweep::<X, 2, 4, false, false>(),
                (Kind::NegativeLeft, 4) => self.sweep::<X, 2, 4, true, false>(),
                (Kind::Left, _) => self.sweep::<X, 4, 2, false, false>(),
                (Kind::NegativeLeft, _) => self.sweep::<X, 4, 2, true, false>(),
                (Kind::Right, _) => self.sweep::<X, 1, 8, false, false>(),
            }
        }
    }
}

impl Product {
    /// All of C in tiles of `NV` registers × `NC` columns; what is left below them in narrower ones.
    #[inline(always)]
    unsafe fn sweep<X, const NV: usize, const NC: usize, const NEGATIVE: bool, const LOAD: bool>(&self)
    where
        X: Vector<Item = f64>,
    {
        // SAFETY: rows is a multiple of eight, so of the register length, and columns of NC.
        unsafe {
            for j in (0..self.columns).step_by(NC) {
                let mut i = 0;
                while i + NV * X::LANES <= self.rows {
                    self.tile::<X, NV, NC, NEGATIVE, LOAD>(i, j);
                    i += NV * X::LANES;
                }
                match (self.rows - i) / X::LANES {
                    1 if NV > 1 => self.tile::<X, 1, NC, NEGATIVE, LOAD>(i, j),
                    2 if NV > 2 => self.tile::<X, 2, NC, NEGATIVE, LOAD>(i, j),
                    _ => {}
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<X, const NV: usize, const NC: usize, const NEGATIVE: bool, const LOAD: bool>(
        &self,
        i: usize,
        j: usize,
    ) where
        X: Vector<Item = f64>,
    {
        // SAFETY: the tile lies within C, and rows and columns of A and B within theirs.
        unsafe {
            let (c, a, b) = (self.c.at(i, j), self.a.at(i, 0), self.b.at(0, j));
            let mut sums = [[X::splat(0.0); NV]; NC];
            if LOAD {
                for l in 0..NC {
                    for v in 0..NV {
                        sums[l][v] = X::load(c.at(v * X::LANES, l).p);
                    }
                }
            }
            let mut column = a.p;
            for k in 0..self.inner {
                let mut x = [sums[0][0]; NV];
                for v in 0..NV {
                    x[v] = X::load(column.wrapping_add(v * X::LANES));
                }
                for l in 0..NC {
                    let y = X::splat(*b.at(k, l).p);
                    for v in 0..NV {
                        sums[l][v] = if NEGATIVE {
                            x[v].neg_mul_add(y, sums[l][v])
                        } else {
                            x[v].mul_add(y, sums[l][v])
                        };
                    }
                }
                column = column.wrapping_add(a.stride);
            }
            for l in 0..NC {
                for v in 0..NV {
                    sums[l][v].store(c.at(v * X::LANES, l).p);
                }
            }
        }
    }
}
