//! Arithmetic on spinors in lanes: a number is a line of lanes, a spinor 24 lines.
//!
//! ```text
//! mix:        out_r ← out_r + Σ_c k_rc t_c             inner:   k_rc ← Re⟨g_r, t_c⟩
//! transport:  U f or U† f, colour by colour            rotate:  γ_μ f
//! ```

use crate::conv::simd::{Element, Vector};
use crate::lanes::{exchange, lanes_of};
use crate::wilson::gamma::GAMMA;
use crate::wilson::kernel::{LINK, SPINOR};

/// Elements of a spinor.
#[inline(always)]
pub(super) fn spinor<T>() -> usize {
    SPINOR * lanes_of::<T>()
}

/// Numbers k_rc among lines: the one of row r and column c is r · `row` + c · `column` lines after the first.
#[derive(Clone, Copy)]
pub(super) struct Stride {
    pub(super) row: usize,
    pub(super) column: usize,
}

impl Stride {
    /// Elements up to the end of the last number.
    fn extent(self, rows: usize, columns: usize, line: usize) -> usize {
        ((rows - 1) * self.row + (columns - 1) * self.column + 1) * line
    }
}

/// Calls a tile of rows × columns for all of them: pairs of rows and single ones, by fours of columns and single ones.
macro_rules! tiles {
    ($rows:expr, $columns:expr, |$r:ident, $c:ident| $tile:ident::<$x:ident>($($argument:expr),*)) => {{
        let mut $r = 0;
        while $r < $rows {
            let pair = $r + 2 <= $rows;
            let mut $c = 0;
            while $c < $columns {
                let four = $c + 4 <= $columns;
                match (pair, four) {
                    (true, true) => $tile::<$x, 2, 4>($($argument),*),
                    (true, false) => $tile::<$x, 2, 1>($($argument),*),
                    (false, true) => $tile::<$x, 1, 4>($($argument),*),
                    (false, false) => $tile::<$x, 1, 1>($($argument),*),
                }
                $c += if four { 4 } else { 1 };
            }
            $r += if pair { 2 } else { 1 };
        }
    }};
}

/// out_r ← out_r + Σ_c k_rc t_c for spinors `terms` and `out`.
///
/// # Safety
/// The instructions of X exist.
#[inline(always)]
pub(super) unsafe fn mix<X: Vector>(k: &[X::Item], stride: Stride, terms: &[X::Item], out: &mut [X::Item]) {
    let (line, spinor) = (lanes_of::<X::Item>(), spinor::<X::Item>());
    let (rows, columns) = (out.len() / spinor, terms.len() / spinor);
    assert!(k.len() >= stride.extent(rows, columns, line));
    for offset in (0..line).step_by(X::LANES) {
        // SAFETY: the instructions exist; the extent of k has just been checked, terms and out hold whole spinors, and the offset
        // leaves LANES elements of each line.
        unsafe {
            let (k, terms, out) =
                (k.as_ptr().add(offset), terms.as_ptr().add(offset), out.as_mut_ptr().add(offset));
            tiles!(rows, columns, |r, c| mix_tile::<X>(
                k.add((r * stride.row + c * stride.column) * line),
                stride,
                terms.add(c * spinor),
                out.add(r * spinor)
            ));
        }
    }
}

/// # Safety
/// The instructions exist; the pointers lead to the numbers of R rows and C columns, to C and to R spinors.
#[inline(always)]
unsafe fn mix_tile<X: Vector, const R: usize, const C: usize>(
    k: *const X::Item,
    stride: Stride,
    terms: *const X::Item,
    out: *mut X::Item,
) {
    let (line, spinor) = (lanes_of::<X::Item>(), spinor::<X::Item>());
    // SAFETY: the caller's promise.
    unsafe {
        let zero = X::splat(X::Item::default());
        let mut numbers = [[zero; C]; R];
        for (r, numbers) in numbers.iter_mut().enumerate() {
            for (c, number) in numbers.iter_mut().enumerate() {
                *number = X::load(k.add((r * stride.row + c * stride.column) * line));
            }
        }
        for n in 0..SPINOR {
            let mut t = [zero; C];
            for (c, t) in t.iter_mut().enumerate() {
                *t = X::load(terms.add(c * spinor + n * line));
            }
            for (r, numbers) in numbers.iter().enumerate() {
                let p = out.add(r * spinor + n * line);
                let mut sum = X::load(p);
                for (t, number) in t.iter().zip(numbers) {
                    sum = t.mul_add(*number, sum);
                }
                sum.store(p);
            }
        }
    }
}

/// k_rc ← Re⟨g_r, t_c⟩, lane by lane.
///
/// # Safety
/// The instructions of X exist.
#[inline(always)]
pub(super) unsafe fn inner<X: Vector>(g: &[X::Item], terms: &[X::Item], k: &mut [X::Item], stride: Stride) {
    let (line, spinor) = (lanes_of::<X::Item>(), spinor::<X::Item>());
    let (rows, columns) = (g.len() / spinor, terms.len() / spinor);
    assert!(k.len() >= stride.extent(rows, columns, line));
    for offset in (0..line).step_by(X::LANES) {
        // SAFETY: as in `mix`.
        unsafe {
            let (g, terms, k) =
                (g.as_ptr().add(offset), terms.as_ptr().add(offset), k.as_mut_ptr().add(offset));
            tiles!(rows, columns, |r, c| inner_tile::<X>(
                g.add(r * spinor),
                terms.add(c * spinor),
                k.add((r * stride.row + c * stride.column) * line),
                stride
            ));
        }
    }
}

/// # Safety
/// As `mix_tile`.
#[inline(always)]
unsafe fn inner_tile<X: Vector, const R: usize, const C: usize>(
    g: *const X::Item,
    terms: *const X::Item,
    k: *mut X::Item,
    stride: Stride,
) {
    let (line, spinor) = (lanes_of::<X::Item>(), spinor::<X::Item>());
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[X::splat(X::Item::default()); C]; R];
        for n in 0..SPINOR {
            for (r, sums) in sums.iter_mut().enumerate() {
                let g = X::load(g.add(r * spinor + n * line));
                for (c, sum) in sums.iter_mut().enumerate() {
                    *sum = X::load(terms.add(c * spinor + n * line)).mul_add(g, *sum);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (c, sum) in sums.into_iter().enumerate() {
                sum.store(k.add((r * stride.row + c * stride.column) * line));
            }
        }
    }
}

/// out ← U f, or U† f, for every spinor of f.
///
/// # Safety
/// The instructions of X exist.
#[inline(always)]
pub(super) unsafe fn transport<X: Vector>(
    link: &[X::Item],
    adjoint: bool,
    f: &[X::Item],
    out: &mut [X::Item],
) {
    let (line, spinor) = (lanes_of::<X::Item>(), spinor::<X::Item>());
    assert!(link.len() >= LINK * line && out.len() == f.len());
    for (f, out) in f.chunks_exact(spinor).zip(out.chunks_exact_mut(spinor)) {
        for offset in (0..line).step_by(X::LANES) {
            // SAFETY: the instructions exist; a link and two spinors of whole lines, an offset that leaves LANES elements of each.
            unsafe {
                let (link, f) = (link.as_ptr().add(offset), f.as_ptr().add(offset));
                let out = out.as_mut_ptr().add(offset);
                if adjoint {
                    matrix_times::<X, true>(link, f, out);
                } else {
                    matrix_times::<X, false>(link, f, out);
                }
            }
        }
    }
}

/// # Safety
/// The instructions exist; the pointers lead to a link and to two spinors.
#[inline(always)]
unsafe fn matrix_times<X: Vector, const ADJOINT: bool>(
    link: *const X::Item,
    f: *const X::Item,
    out: *mut X::Item,
) {
    let line = lanes_of::<X::Item>();
    // SAFETY: the caller's promise.
    unsafe {
        for i in 0..3 {
            let mut sum = [[X::splat(X::Item::default()); 2]; 4];
            for k in 0..3 {
                let at = if ADJOINT { k * 3 + i } else { i * 3 + k };
                let (re, im) = (X::load(link.add(2 * at * line)), X::load(link.add((2 * at + 1) * line)));
                for (s, sum) in sum.iter_mut().enumerate() {
                    let p = f.add(2 * (3 * s + k) * line);
                    let (fr, fi) = (X::load(p), X::load(p.add(line)));
                    sum[0] = re.mul_add(fr, sum[0]);
                    sum[1] = re.mul_add(fi, sum[1]);
                    if ADJOINT {
                        sum[0] = im.mul_add(fi, sum[0]);
                        sum[1] = im.neg_mul_add(fr, sum[1]);
                    } else {
                        sum[0] = im.neg_mul_add(fi, sum[0]);
                        sum[1] = im.mul_add(fr, sum[1]);
                    }
                }
            }
            for (s, [re, im]) in sum.into_iter().enumerate() {
                let p = out.add(2 * (3 * s + i) * line);
                re.store(p);
                im.store(p.add(line));
            }
        }
    }
}

/// out_ij ← out_ij + Σ a_i b_j*, summed over all spins of all spinors.
///
/// # Safety
/// The instructions of X exist.
#[inline(always)]
pub(super) unsafe fn outer<X: Vector>(a: &[X::Item], b: &[X::Item], out: &mut [X::Item]) {
    let (line, spinor) = (lanes_of::<X::Item>(), spinor::<X::Item>());
    assert!(out.len() >= LINK * line);
    for (a, b) in a.chunks_exact(spinor).zip(b.chunks_exact(spinor)) {
        for offset in (0..line).step_by(X::LANES) {
            for i in 0..3 {
                for j in 0..3 {
                    // SAFETY: as in `transport`.
                    unsafe {
                        let p = out.as_mut_ptr().add(2 * (3 * i + j) * line + offset);
                        let (mut re, mut im) = (X::load(p), X::load(p.add(line)));
                        for s in 0..4 {
                            let a = a.as_ptr().add(2 * (3 * s + i) * line + offset);
                            let b = b.as_ptr().add(2 * (3 * s + j) * line + offset);
                            let (ar, ai) = (X::load(a), X::load(a.add(line)));
                            let (br, bi) = (X::load(b), X::load(b.add(line)));
                            re = ar.mul_add(br, ai.mul_add(bi, re));
                            im = ai.mul_add(br, ar.neg_mul_add(bi, im));
                        }
                        re.store(p);
                        im.store(p.add(line));
                    }
                }
            }
        }
    }
}

/// out ← γ_μ f for every spinor of f.
#[inline(always)]
pub(super) fn rotate<T: Element>(mu: usize, f: &[T], out: &mut [T]) {
    let (line, spinor) = (lanes_of::<T>(), spinor::<T>());
    for (f, out) in f.chunks_exact(spinor).zip(out.chunks_exact_mut(spinor)) {
        let colours = out.chunks_exact_mut(6 * line);
        for (out, entry) in colours.zip(GAMMA[mu]) {
            let f = &f[entry.column * 6 * line..][..6 * line];
            for (out, f) in out.chunks_exact_mut(2 * line).zip(f.chunks_exact(2 * line)) {
                let (or, oi) = out.split_at_mut(line);
                let (fr, fi) = f.split_at(line);
                // i^power (re, im)
                let (re, im) = if entry.power % 2 == 0 { (fr, fi) } else { (fi, fr) };
                copy(re, or, matches!(entry.power, 1 | 2));
                copy(im, oi, matches!(entry.power, 2 | 3));
            }
        }
    }
}

#[inline(always)]
fn copy<T: Element>(from: &[T], to: &mut [T], negative: bool) {
    if negative {
        for (to, from) in to.iter_mut().zip(from) {
            *to = -*from;
        }
    } else {
        to.copy_from_slice(from);
    }
}

/// `lines`, or their copy in `room` with the lanes of each exchanged.
#[inline(always)]
pub(super) fn exchanged<'a, T: Element>(lines: &'a [T], mask: u32, room: &'a mut [T]) -> &'a [T] {
    if mask == 0 {
        return lines;
    }
    let to = &mut room[..lines.len()];
    exchange(lines, to, mask as usize);
    to
}
