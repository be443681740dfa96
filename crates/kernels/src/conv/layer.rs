//! One convolution of a chain: which of three ways it is done, and its gradients for one sample.
//!
//! * at every site: the tiles of [`Convolve`], and the same with the inverse table for the input gradient;
//! * along lines of four sites: the five products of [`super::lines`], some lines at a time so that they stay in the first cache;
//! * at chosen sites: tiles over these only, and an input gradient that is scattered tap by tap.

use super::lines::{FromModes, MODES, PARTNER, ToModes, modes_of_taps};
use super::pack::Packed;
use super::scratch::{take, whole_lines};
use super::simd::{Level, dispatch};
use super::sums::{SumLayout, Sums};
use super::tile::Convolve;
use crate::activation::{Activation, Real};
use crate::stencil::{Lines, Sites, Stencil, Table};
use std::mem::MaybeUninit;

/// Lines at a time: rows enough for the tiles, few enough for the first cache.
const AT_ONCE: usize = 64;
const _: () = assert!(AT_ONCE <= Table::LONGEST_IDENTITY);

/// Fewest channels on either side for which the sums over lines are worth it.
const FEWEST_CHANNELS: usize = 4;

/// A convolution and the activation after it.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) stencil: Stencil,
    /// Where the output is wanted; everywhere if none.
    pub(crate) sites: Option<Sites>,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) biased: bool,
    pub(crate) activation: Activation,
}

/// Weights `[taps · inputs][outputs]` and biases `[outputs]`, or none, of one layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameters<'a, T> {
    pub(crate) weight: &'a [T],
    pub(crate) bias: &'a [T],
}

/// Rows to convolve or to correlate with.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, T> {
    pub(super) data: &'a [T],
    pub(super) stride: usize,
}

/// Rows of V sites to be written, every element of them.
pub(super) struct RowsMut<'a, T> {
    pub(super) data: &'a mut [MaybeUninit<T>],
    pub(super) stride: usize,
}

/// How a layer is computed.
#[derive(Clone, Copy)]
pub(super) enum Way<'a> {
    Everywhere,
    Lines(Lines<'a>),
    At(&'a Sites),
}

/// A layer's weights, packed: one for all taps, one a mode, or one a tap.
pub(super) type Packs<T> = Vec<Packed<T>>;

impl Layer {
    pub(super) fn way(&self) -> Way<'_> {
        match (&self.sites, self.stencil.lines()) {
            (Some(sites), _) => Way::At(sites),
            (None, Some(lines)) if self.inputs.min(self.outputs) >= FEWEST_CHANNELS => Way::Lines(lines),
            _ => Way::Everywhere,
        }
    }

    /// Rows of the output.
    pub(crate) fn sites(&self) -> usize {
        self.sites.as_ref().map_or(self.stencil.volume(), |s| s.sites().len())
    }

    /// Elements a gradient buffer of the output has, doubled when the input gradient reads −∂y.
    pub(super) fn gradient_rows(&self) -> usize {
        if self.sites.is_some() { self.sites() } else { self.stencil.rows() }
    }

    pub(super) fn doubles_gradient(&self) -> bool {
        self.sites.is_none() && self.stencil.is_signed()
    }

    pub(super) fn pack<T: Real>(&self, level: Level, p: &Parameters<'_, T>) -> Packs<T> {
        let [taps, inputs, outputs] = self.shape();
        let weight = |t: usize, i: usize, o: usize| p.weight[(t * inputs + i) * outputs + o];
        match self.way() {
            Way::Everywhere | Way::At(_) => vec![Packed::new(level, [taps, inputs, outputs], weight, p.bias)],
            Way::Lines(_) => (0..MODES)
                .map(|k| {
                    let weight = |_, i, o| modes_of_taps([0, 1, 2].map(|t| weight(t, i, o)))[k];
                    Packed::new(level, [1, inputs, outputs], weight, if k == 0 { p.bias } else { &[] })
                })
                .collect(),
        }
    }

    /// The convolutions of the input gradients: channels exchanged, no bias.
    pub(super) fn pack_backward<T: Real>(&self, level: Level, p: &Parameters<'_, T>) -> Packs<T> {
        let [taps, inputs, outputs] = self.shape();
        let weight = |t: usize, o: usize, i: usize| p.weight[(t * inputs + i) * outputs + o];
        match self.way() {
            Way::Everywhere => vec![Packed::new(level, [taps, outputs, inputs], weight, &[])],
            Way::Lines(_) => (0..MODES)
                .map(|k| {
                    let weight = |_, o, i| modes_of_taps([2, 1, 0].map(|t| weight(t, o, i)))[k];
                    Packed::new(level, [1, outputs, inputs], weight, &[])
                })
                .collect(),
            Way::At(_) => (0..taps)
                .map(|t| Packed::new(level, [1, outputs, inputs], |_, o, i| weight(t, o, i), &[]))
                .collect(),
        }
    }

    /// Elements of an input row the kernels read; beyond the channels there must be zeros.
    pub(super) fn reads<T: Real>(&self, level: Level, packs: &Packs<T>) -> usize {
        match self.way() {
            Way::Lines(_) => level.pad::<T>(self.inputs),
            _ => packs.iter().map(Packed::reads).max().unwrap_or(0),
        }
    }

    /// Elements of working memory that [`Self::forward`] and [`Self::backward`] want.
    pub(super) fn space<T: Real>(&self, level: Level) -> usize {
        match self.way() {
            Way::Everywhere => 0,
            Way::Lines(_) => {
                let modes = |channels| whole_lines::<T>(MODES * AT_ONCE * level.pad::<T>(channels));
                2 * modes(self.inputs.max(self.outputs))
            }
            Way::At(sites) => whole_lines::<T>(sites.sites().len() * level.pad::<T>(self.inputs)),
        }
    }

    /// The convolution, without the activation.
    pub(super) fn forward<T: Real>(
        &self,
        level: Level,
        packs: &Packs<T>,
        input: Rows<'_, T>,
        out: RowsMut<'_, T>,
        space: &mut [T],
    ) {
        match self.way() {
            Way::Everywhere => convolve(level, &packs[0], self.stencil.forward(), input, out),
            Way::At(sites) => convolve(level, &packs[0], sites.forward(), input, out),
            Way::Lines(lines) => {
                let (from, to) = (level.pad::<T>(self.inputs), level.pad::<T>(self.outputs));
                for lines in lines.chunks(AT_ONCE) {
                    let mut space = &mut *space;
                    let (x, y) = (take_modes(&mut space, lines, from), take_modes(&mut space, lines, to));
                    to_modes(level, lines, input, x);
                    products(level, packs, lines, (x, from), (y, to));
                    let (rows, stride) = (&mut *out.data, out.stride);
                    dispatch(level, FromModes { lines, modes: y, columns: to, rows, stride });
                }
            }
        }
    }

    /// Adds the parameters' gradients to `sums` and writes the input's to `dx`, whichever are wanted.
    pub(super) fn backward<T: Real>(
        &self,
        level: Level,
        packs: &Packs<T>,
        [input, grad]: [Rows<'_, T>; 2],
        mut sums: Option<Sums<'_, T>>,
        dx: Option<RowsMut<'_, T>>,
        space: &mut [T],
    ) {
        match self.way() {
            Way::Everywhere => {
                if let Some(sums) = &mut sums {
                    let (forward, inverse) = (self.stencil.forward(), self.stencil.inverse());
                    sums.add(level, 0, [input, grad], forward, Some(inverse));
                    if self.biased {
                        sums.add_bias(level, &grad.data[..self.sites() * grad.stride]);
                    }
                }
                if let Some(dx) = dx {
                    convolve(level, &packs[0], self.stencil.inverse(), grad, dx);
                }
            }
            Way::At(sites) => {
                if let Some(sums) = &mut sums {
                    sums.add(level, 0, [input, grad], sites.forward(), None);
                    if self.biased {
                        sums.add_bias(level, &grad.data[..self.sites() * grad.stride]);
                    }
                }
                if let Some(dx) = dx {
                    self.scatter(level, packs, sites, grad, dx, space);
                }
            }
            Way::Lines(lines) => self.backward_along(level, packs, lines, [input, grad], sums, dx, space),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "those of `backward` and the lines")]
    fn backward_along<T: Real>(
        &self,
        level: Level,
        packs: &Packs<T>,
        lines: Lines<'_>,
        [input, grad]: [Rows<'_, T>; 2],
        mut sums: Option<Sums<'_, T>>,
        mut dx: Option<RowsMut<'_, T>>,
        space: &mut [T],
    ) {
        let (inputs, outputs) = (level.pad::<T>(self.inputs), level.pad::<T>(self.outputs));
        for lines in lines.chunks(AT_ONCE) {
            let n = lines.lines().len();
            let mut space = &mut *space;
            let (g, x) = (take_modes(&mut space, lines, outputs), take_modes(&mut space, lines, inputs));
            to_modes(level, lines, grad, g);
            if let Some(sums) = &mut sums {
                to_modes(level, lines, input, x);
                let row = Table::identity(n);
                for (k, partner) in PARTNER.into_iter().enumerate() {
                    let x = Rows { data: &x[k * n * inputs..][..n * inputs], stride: inputs };
                    let g = Rows { data: &g[partner * n * outputs..][..n * outputs], stride: outputs };
                    sums.add(level, k, [x, g], row, Some(row));
                }
                if self.biased {
                    sums.add_bias(level, &g[..n * outputs]);
                }
            }
            if let Some(dx) = &mut dx {
                products(level, packs, lines, (g, outputs), (x, inputs));
                let (rows, stride) = (&mut *dx.data, dx.stride);
                dispatch(level, FromModes { lines, modes: x, columns: inputs, rows, stride });
            }
        }
    }

    /// ∂x(n_t(s)) += sign_t(s) ∂y(s) w_tᵀ, tap by tap.
    fn scatter<T: Real>(
        &self,
        level: Level,
        packs: &Packs<T>,
        sites: &Sites,
        grad: Rows<'_, T>,
        dx: RowsMut<'_, T>,
        mut space: &mut [T],
    ) {
        let volume = self.stencil.volume();
        let table = sites.forward();
        let width = level.pad::<T>(self.inputs);
        let part = take(&mut space, table.volume() * width);
        let stride = dx.stride;
        let dx = zeroed(dx.data);
        for (pack, rows) in packs.iter().zip(table.indices().chunks_exact(table.volume())) {
            for (first, rows) in (0..).step_by(AT_ONCE).zip(rows.chunks(AT_ONCE)) {
                let grad = Rows { data: &grad.data[first * grad.stride..], stride: grad.stride };
                let out = RowsMut { data: uninitialised(&mut part[..rows.len() * width]), stride: width };
                convolve(level, pack, Table::identity(rows.len()), grad, out);
                for (part, &row) in part.chunks_exact(width).zip(rows) {
                    let (row, negative) = (row as usize % volume, row as usize >= volume);
                    for (dx, &part) in dx[row * stride..][..stride].iter_mut().zip(part) {
                        *dx += if negative { -part } else { part };
                    }
                }
            }
        }
    }

    pub(super) fn shape(&self) -> [usize; 3] {
        [self.stencil.taps(), self.inputs, self.outputs]
    }

    pub(super) fn sum_layout<T: Real>(&self, level: Level, start: usize) -> SumLayout {
        let matrices = match self.way() {
            Way::Everywhere | Way::At(_) => self.stencil.taps(),
            Way::Lines(_) => MODES,
        };
        SumLayout::new::<T>(level, [matrices, self.inputs, self.outputs], self.sites.is_none(), start)
    }
}

fn convolve<T: Real>(
    level: Level,
    packed: &Packed<T>,
    table: Table<'_>,
    x: Rows<'_, T>,
    out: RowsMut<'_, T>,
) {
    let RowsMut { data, stride } = out;
    dispatch(level, Convolve { packed, table, x: x.data, x_stride: x.stride, out: data, out_stride: stride });
}

/// The products of all modes, `[5][lines]` rows each.
fn products<T: Real>(
    level: Level,
    packs: &Packs<T>,
    lines: Lines<'_>,
    (x, from): (&[T], usize),
    (y, to): (&mut [T], usize),
) {
    let n = lines.lines().len();
    let table = Table::identity(n);
    for ((pack, x), y) in packs.iter().zip(x.chunks_exact(n * from)).zip(y.chunks_exact_mut(n * to)) {
        let (x, y) = (Rows { data: x, stride: from }, RowsMut { data: uninitialised(y), stride: to });
        convolve(level, pack, table, x, y);
    }
}

fn to_modes<T: Real>(level: Level, lines: Lines<'_>, rows: Rows<'_, T>, modes: &mut [T]) {
    let columns = modes.len() / (MODES * lines.lines().len());
    dispatch(level, ToModes { lines, rows: rows.data, stride: rows.stride, columns, modes });
}

fn take_modes<'s, T: Real>(space: &mut &'s mut [T], lines: Lines<'_>, columns: usize) -> &'s mut [T] {
    take(space, MODES * lines.lines().len() * columns)
}

/// The view kernels write through; they only ever write initialised elements into it.
pub(super) fn uninitialised<T: Real>(x: &mut [T]) -> &mut [MaybeUninit<T>] {
    // SAFETY: same layout, and the callees, `Convolve` and `FromModes`, write whole elements.
    unsafe { &mut *(std::ptr::from_mut(x) as *mut [MaybeUninit<T>]) }
}

fn zeroed<T: Real>(x: &mut [MaybeUninit<T>]) -> &mut [T] {
    x.fill(MaybeUninit::new(T::default()));
    // SAFETY: every element has just been written.
    unsafe { initialised(x) }
}

/// # Safety
/// Every element of `x` has been written.
pub(super) unsafe fn initialised<T: Real>(x: &mut [MaybeUninit<T>]) -> &mut [T] {
    // SAFETY: same layout, initialised by the caller's promise.
    unsafe { &mut *(std::ptr::from_mut(x) as *mut [T]) }
}
