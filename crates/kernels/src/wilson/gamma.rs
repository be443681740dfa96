//! Dirac matrices in the DeGrand–Rossi basis, in the order x, y, z, t.
//!
//! ```text
//! {γ_μ, γ_ν} = 2 δ_{μν},   γ_μ† = γ_μ,   γ₅ = γ_x γ_y γ_z γ_t = diag(1, 1, −1, −1)
//! ```
//!
//! Every row has one entry, a power of i, and γ_μ maps upper components to lower ones and back. So (1 ± γ_μ)ψ is known from its
//! upper half, h_s = ψ_s ± i^p ψ_c, and the lower half is ± i^−p h_s: that is what halves the work of a hop.

/// An entry i^`power` in column `column`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The column.
    pub column: usize,
    /// The power of i, 0 to 3.
    pub power: usize,
}

const fn entry(column: usize, power: usize) -> Entry {
    Entry { column, power }
}

/// `GAMMA[μ][row]`: the one entry of that row of γ_μ.
pub const GAMMA: [[Entry; 4]; 4] = [
    [entry(3, 1), entry(2, 1), entry(1, 3), entry(0, 3)],
    [entry(3, 2), entry(2, 0), entry(1, 0), entry(0, 2)],
    [entry(2, 1), entry(3, 3), entry(0, 3), entry(1, 1)],
    [entry(2, 0), entry(3, 0), entry(0, 0), entry(1, 0)],
];

/// The diagonal of γ₅.
pub const GAMMA5: [f64; 4] = [1.0, 1.0, -1.0, -1.0];

/// (re, im) of i^power.
pub const fn power_of_i(power: usize) -> [f64; 2] {
    match power % 4 {
        0 => [1.0, 0.0],
        1 => [0.0, 1.0],
        2 => [-1.0, 0.0],
        _ => [0.0, -1.0],
    }
}

/// The matrix γ_μ, `[row][column]` of (re, im).
pub fn matrix(mu: usize) -> [[[f64; 2]; 4]; 4] {
    let mut m = [[[0.0; 2]; 4]; 4];
    for (row, entry) in m.iter_mut().zip(GAMMA[mu]) {
        row[entry.column] = power_of_i(entry.power);
    }
    m
}

/// h_s = ψ_s + i^`power` ψ_`column` for the upper rows s of (1 ± γ_μ)ψ.
#[inline(always)]
pub(super) const fn projector(mu: usize, minus: bool, s: usize) -> Entry {
    let e = GAMMA[mu][s];
    Entry { column: e.column, power: (e.power + if minus { 2 } else { 0 }) % 4 }
}

/// Row `column` of (1 ± γ_μ)ψ is i^`power` h_s.
#[inline(always)]
pub(super) const fn reconstruction(mu: usize, minus: bool, s: usize) -> Entry {
    let e = GAMMA[mu][s];
    Entry { column: e.column, power: (4 - e.power + if minus { 2 } else { 0 }) % 4 }
}
