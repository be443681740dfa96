//! Gauge-invariant polynomials of loops in SU(3), their gradients and Laplacians: fields for flows of links.
//!
//! ```text
//! F_i(U) = Σ_links f_i,   f_i as in `features`           11 features: F_0, F_8, F_6, and R, XY, WW, XY*, planar and bent
//! L_μ(U), as in `lines`                                   one a direction
//! ∂^a_l F = d/ds F(e^{isT^a} U_l) at s = 0,   Δ = Σ_{l,a} ∂^a_l ∂^a_l
//! ΔF_0 = −(16/3) F_0      ΔF_8 = −12 (F_8 − n)            ΔF_6 = −(40/3) F_6            n = number of (link, staple)
//! ΔR = −8 R               ΔXY = −(31/3) XY − WW           ΔWW = −(31/3) WW − XY         ΔXY* = −11 XY* + R
//! ```
//!
//! The Laplacians follow from Σ_a T^aT^a = 4/3 and Σ_a tr(T^aA) tr(T^aB) = ½ [tr AB − ⅓ tr A tr B]; they need all links of the
//! loops to be different, and so extents of at least 4. One pass over the links gives the gradient of any linear combination
//! by reverse accumulation, and another all directional derivatives by dual numbers. One lane a configuration.

mod features;
mod lines;
mod number;
mod staples;

use crate::conv::simd::{Level, Task, Vector, dispatch};
use crate::host::with_slice;
use crate::lanes::{FieldShape, LaneField, LaneLattice, lanes_of};
use crate::unitary::{Complex, Instructions, Matrix, components, hermitian};
use candle_core::{Device, Result, Tensor};
use features::{COUNT, Link, STAPLES};
use lines::lines;
use number::{Dual, Number, Square};
use rayon::prelude::*;
use staples::{Sink, Source, spread, staples};

/// Numbers of a link, and of its tangent.
const LINK: usize = 18;
const TANGENT: usize = 8;

/// The features of SU(3) links `[B, d, V, 3, 3, 2]`, f64, on the CPU.
#[derive(Debug, Clone)]
pub struct LoopFeatures {
    dims: Vec<usize>,
}

impl LoopFeatures {
    /// Features that lie within plaquettes and pairs of them; lines follow.
    pub const LOCAL: usize = COUNT;

    /// Number of features n: those, and a line a direction.
    pub fn count(&self) -> usize {
        COUNT + self.dims.len()
    }

    /// What reports call them, in order.
    pub fn names(&self) -> Vec<String> {
        let local = ["F0", "F8", "F6", "R", "R bent", "XY", "XY bent", "WW", "WW bent", "XY*", "XY* bent"];
        let lines = (0..self.dims.len()).map(|mu| format!("line {mu}"));
        local.into_iter().map(String::from).chain(lines).collect()
    }

    /// The features on a periodic lattice.
    ///
    /// # Errors
    /// When an extent is below 4 or odd, or there are not two to four directions.
    pub fn new(dims: &[usize]) -> Result<Self> {
        if !(2..=STAPLES / 2 + 1).contains(&dims.len()) || dims.iter().any(|l| *l < 4 || l % 2 == 1) {
            candle_core::bail!(
                "loop features: expected two to four even extents of at least 4, got {dims:?}: on shorter ones a loop meets a \
                 link twice"
            );
        }
        Ok(Self { dims: dims.to_vec() })
    }

    /// Δ F = L F + constant: the matrix L `[n, n]`, row by row, and the constant.
    pub fn laplacian(&self) -> (Vec<f64>, Vec<f64>) {
        use features::index::{F0, F6, F8, R, WW, XY, XY_STAR};
        let n = self.count();
        let (mut l, mut constant) = (vec![0.0; n * n], vec![0.0; n]);
        let mut set = |i: usize, j: usize, x: f64| l[i * n + j] = x;
        set(F0, F0, -16.0 / 3.0);
        set(F8, F8, -12.0);
        set(F6, F6, -40.0 / 3.0);
        let d = self.dims.len();
        constant[F8] = 12.0 * (self.dims.iter().product::<usize>() * d * 2 * (d - 1)) as f64;
        for bent in 0..2 {
            let [r, xy, ww, xy_star] = [R, XY, WW, XY_STAR].map(|i| i + bent);
            set(r, r, -8.0);
            set(xy, xy, -31.0 / 3.0);
            set(xy, ww, -1.0);
            set(ww, ww, -31.0 / 3.0);
            set(ww, xy, -1.0);
            set(xy_star, xy_star, -11.0);
            set(xy_star, r, 1.0);
        }
        for (mu, extent) in self.dims.iter().enumerate() {
            set(COUNT + mu, COUNT + mu, -4.0 / 3.0 * *extent as f64);
        }
        (l, constant)
    }

    /// F_i of each configuration, `[B, n]`.
    ///
    /// # Errors
    /// When the links do not fit.
    pub fn values(&self, links: &Tensor) -> Result<Tensor> {
        Ok(self.run(links, None, None)?.0)
    }

    /// dF_i along `omega` `[B, d, V, 8]`, `[B, n]`.
    ///
    /// # Errors
    /// When links or tangent do not fit.
    pub fn derivatives(&self, links: &Tensor, omega: &Tensor) -> Result<Tensor> {
        Ok(self.run(links, Some(omega), None)?.0)
    }

    /// F_i, `[B, n]`, and ∂^a Σ_i c_i F_i, `[B, d, V, 8]`.
    ///
    /// # Errors
    /// When links or coefficients do not fit.
    pub fn gradient(&self, links: &Tensor, c: &[f64]) -> Result<(Tensor, Tensor)> {
        self.run(links, None, Some(c))
    }

    /// The derivatives of both parts of [`LoopFeatures::gradient`] along `omega`.
    ///
    /// # Errors
    /// When links, coefficients or tangent do not fit.
    pub fn gradient_derivative(&self, links: &Tensor, c: &[f64], omega: &Tensor) -> Result<(Tensor, Tensor)> {
        self.run(links, Some(omega), Some(c))
    }

    fn run(&self, links: &Tensor, omega: Option<&Tensor>, c: Option<&[f64]>) -> Result<(Tensor, Tensor)> {
        let (d, volume) = (self.dims.len(), self.dims.iter().product::<usize>());
        let batch = match links.dims() {
            &[batch, dd, v, 3, 3, 2] if (dd, v) == (d, volume) => batch,
            got => {
                candle_core::bail!("loop features: expected links [B, {d}, {volume}, 3, 3, 2], got {got:?}")
            }
        };
        if let Some(omega) = omega
            && omega.dims() != [batch, d, volume, TANGENT]
        {
            let expected = [batch, d, volume, TANGENT];
            candle_core::bail!("loop features: expected a tangent {expected:?}, got {:?}", omega.dims());
        }
        let count = self.count();
        if c.is_some_and(|c| c.len() != count) {
            candle_core::bail!(
                "loop features: expected {count} coefficients, got {}",
                c.map_or(0, <[f64]>::len)
            );
        }
        let lattice = LaneLattice::whole(&self.dims, batch, lanes_of::<f64>())?;
        let pack = |t: &Tensor, shape: &FieldShape| {
            with_slice::<f64, _>(t, |t| LaneField::pack(&lattice, shape, t)).and_then(|packed| packed)
        };
        let links = pack(links, &FieldShape::directions(d, volume, LINK))?;
        let tangent = FieldShape::directions(d, volume, TANGENT);
        let omega = omega.map(|omega| pack(omega, &tangent)).transpose()?;
        let block = |data: &[f64], block: usize| {
            let size = data.len() / lattice.blocks();
            block * size..(block + 1) * size
        };
        let level = Level::detect();
        let lanes = lattice.lanes();
        let mut sums = vec![0.0; lattice.blocks() * count * lanes];
        let components = if c.is_some() { d * TANGENT } else { 0 };
        let mut field = LaneField::zeros(&lattice, components);
        let mut fields: Vec<&mut [f64]> = match components {
            0 => (0..lattice.blocks()).map(|_| &mut [][..]).collect(),
            n => field.as_mut_slice().chunks_exact_mut(volume * n * lanes).collect(),
        };
        sums.par_chunks_exact_mut(count * lanes).zip(fields.par_iter_mut()).enumerate().for_each(
            |(b, (sums, field))| {
                let links = &links.as_slice()[block(links.as_slice(), b)];
                let omega = omega.as_ref().map(|omega| &omega.as_slice()[block(omega.as_slice(), b)]);
                dispatch(level, Block { lattice: &lattice, links, omega, c, sums, field });
            },
        );
        let value = |b: usize, i: usize| sums[(b / lanes * count + i) * lanes + b % lanes];
        let values: Vec<f64> = (0..batch * count).map(|k| value(k / count, k % count)).collect();
        let values = Tensor::from_vec(values, (batch, count), &Device::Cpu)?;
        let mut out = vec![0.0; if c.is_some() { batch * tangent.configuration } else { 0 }];
        if c.is_some() {
            field.unpack(&lattice, &tangent, &mut out)?;
        }
        let directions = if c.is_some() { d } else { 0 };
        Ok((values, Tensor::from_vec(out, (batch, directions, volume, TANGENT), &Device::Cpu)?))
    }
}

/// One block of configurations: features, or the gradient of a combination of them; with a direction, their derivatives.
struct Block<'a> {
    lattice: &'a LaneLattice,
    links: &'a [f64],
    omega: Option<&'a [f64]>,
    c: Option<&'a [f64]>,
    sums: &'a mut [f64],
    field: &'a mut [f64],
}

impl Task<f64> for Block<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = f64>>(self) {
        // SAFETY: the caller vouches for the instructions of X.
        let isa = unsafe { Instructions::<X>::assume() };
        let (lattice, lanes) = (self.lattice, self.lattice.lanes());
        let slopes = match self.omega {
            Some(omega) => Some(slopes::<X>(isa, self.links, omega, lanes)),
            None => None,
        };
        for lane in (0..lanes).step_by(X::LANES) {
            let values = Stored { isa, numbers: self.links, directions: lattice.ndim(), lanes, lane };
            match &slopes {
                None => pass(isa, lattice, lane, &values, self.c, (self.sums, self.field)),
                Some(slopes) => {
                    let both = Both { values, slopes: Stored { numbers: slopes, ..values } };
                    pass(isa, lattice, lane, &both, self.c, (self.sums, self.field));
                }
            }
        }
    }
}

/// Matrices of some lanes, `[site][direction][component][lane]`.
#[derive(Clone, Copy)]
struct Stored<'a, X> {
    isa: Instructions<X>,
    numbers: &'a [f64],
    directions: usize,
    lanes: usize,
    lane: usize,
}

impl<X: Vector<Item = f64>> Source<Complex<X>> for Stored<'_, X> {
    #[inline(always)]
    fn link(&self, direction: usize, site: usize) -> Square<Complex<X>> {
        let start = (site * self.directions + direction) * LINK * self.lanes + self.lane;
        Square(Matrix::<X, 3>::load(self.isa, &self.numbers[start..], self.lanes).0)
    }
}

/// Links with their derivatives.
struct Both<'a, X> {
    values: Stored<'a, X>,
    slopes: Stored<'a, X>,
}

impl<X: Vector<Item = f64>> Source<Dual<X>> for Both<'_, X> {
    #[inline(always)]
    fn link(&self, direction: usize, site: usize) -> Square<Dual<X>> {
        let (v, s) = (self.values.link(direction, site), self.slopes.link(direction, site));
        let mut both = Square::<Dual<X>>::zero(self.values.isa);
        for i in 0..3 {
            for j in 0..3 {
                both.0[i][j] = Dual { value: v.0[i][j], slope: s.0[i][j] };
            }
        }
        both
    }
}

/// Sums of Z_V, `[site][direction][component][lane]` for the lanes of one register.
struct Sums<X> {
    isa: Instructions<X>,
    directions: usize,
    z: Vec<f64>,
}

impl<X: Vector<Item = f64>, Z: Number<Vector = X>> Sink<Z> for Sums<X> {
    #[inline(always)]
    fn add(&mut self, direction: usize, site: usize, by: &Square<Z>) {
        let target = &mut self.z[(site * self.directions + direction) * LINK * X::LANES..];
        let mut sum = Matrix::<X, 3>::load(self.isa, target, X::LANES);
        for i in 0..3 {
            for j in 0..3 {
                sum.0[i][j] = sum.0[i][j] + by.0[i][j].result();
            }
        }
        sum.store(target, X::LANES);
    }
}

/// iY U for every link, Y = Σ_a ω^aT^a.
#[inline(always)]
fn slopes<X: Vector<Item = f64>>(
    isa: Instructions<X>,
    links: &[f64],
    omega: &[f64],
    lanes: usize,
) -> Vec<f64> {
    let mut out = vec![0.0; links.len()];
    let all = links.chunks_exact(LINK * lanes).zip(omega.chunks_exact(TANGENT * lanes));
    for ((u, omega), out) in all.zip(out.chunks_exact_mut(LINK * lanes)) {
        for lane in (0..lanes).step_by(X::LANES) {
            let y: Matrix<X, 3> = hermitian(isa, &omega[lane..], lanes);
            let yu = y.times(isa, &Matrix::load(isa, &u[lane..], lanes));
            yu.over_i(isa).scaled(isa.number(-1.0)).store(&mut out[lane..], lanes);
        }
    }
    out
}

/// All links of some lanes of a block.
#[inline(always)]
fn pass<X: Vector<Item = f64>, Z: Number<Vector = X>>(
    isa: Instructions<X>,
    lattice: &LaneLattice,
    lane: usize,
    links: &impl Source<Z>,
    c: Option<&[f64]>,
    (sums, field): (&mut [f64], &mut [f64]),
) {
    let (d, lanes, volume) = (lattice.ndim(), lattice.lanes(), lattice.node_volume());
    let numbers = if c.is_some() { volume * d * LINK * X::LANES } else { 0 };
    let mut gradient = Sums { isa, directions: d, z: vec![0.0; numbers] };
    let local = match c {
        Some(c) => {
            let mut local = [0.0; COUNT];
            local.copy_from_slice(&c[..COUNT]);
            Some(local)
        }
        None => None,
    };
    let mut totals = [Z::constant(isa, 0.0, 0.0); COUNT];
    for at in 0..volume * d {
        let (site, mu) = (at / d, at % d);
        let (a, count) = staples(isa, lattice, (mu, site), links);
        let neighbourhood = Link::new(isa, links.link(mu, site), count, a);
        let f = neighbourhood.features(isa);
        for i in 0..COUNT {
            totals[i] = totals[i].plus(f[i]);
        }
        if let Some(c) = &local {
            let back = neighbourhood.pull_back(isa, c);
            gradient.add(mu, site, &back.own);
            spread(isa, lattice, (mu, site), (&a, &back.of_staple), links, &mut gradient);
        }
    }
    for mu in 0..d {
        let coefficient = c.map(|c| c[COUNT + mu]);
        let sum = lines(isa, lattice, mu, links, coefficient, &mut gradient);
        sum.result().re.store(&mut sums[(COUNT + mu) * lanes + lane..]);
    }
    for i in 0..COUNT {
        totals[i].result().re.store(&mut sums[i * lanes + lane..]);
    }
    for (z, out) in gradient.z.chunks_exact(LINK * X::LANES).zip(field.chunks_exact_mut(TANGENT * lanes)) {
        // Re tr(iT^a Z) = −Re tr(T^a Z/i)
        let z = Matrix::<X, 3>::load(isa, z, X::LANES).over_i(isa);
        components(isa, &z, -1.0, &mut out[lane..], lanes);
    }
}
