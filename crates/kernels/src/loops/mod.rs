//! Gauge-invariant polynomials of loops in SU(3), their gradients and Laplacians: fields for flows of links.
//!
//! ```text
//! F_i(U) = Σ_links f_i,   f_i as in `features`           11 features: F_0, F_8, F_6, and R, XY, WW, XY*, planar and bent
//! ∂^a_l F = d/ds F(e^{isT^a} U_l) at s = 0,   Δ = Σ_{l,a} ∂^a_l ∂^a_l
//! ΔF_0 = −(16/3) F_0      ΔF_8 = −12 (F_8 − n)            ΔF_6 = −(40/3) F_6            n = number of (link, staple)
//! ΔR = −8 R               ΔXY = −(31/3) XY − WW           ΔWW = −(31/3) WW − XY         ΔXY* = −11 XY* + R
//! ```
//!
//! The Laplacians follow from Σ_a T^aT^a = 4/3 and Σ_a tr(T^aA) tr(T^aB) = ½ [tr AB − ⅓ tr A tr B]; they need all links of the
//! loops to be different, and so extents of at least 4. One pass over the links gives the gradient of any linear combination
//! by reverse accumulation, and another all directional derivatives by dual numbers. One lane a configuration.

mod features;
mod number;
mod staples;

use crate::conv::simd::{Level, Task, Vector, dispatch};
use crate::host::with_slice;
use crate::lanes::{FieldShape, LaneField, LaneLattice, lanes_of};
use crate::unitary::{Instructions, Matrix, components, hermitian};
use candle_core::{Device, Result, Tensor};
use features::{COUNT, Link, STAPLES};
use number::{Dual, Number, Square};
use rayon::prelude::*;
use staples::{spread, staples};

/// Numbers of a link, and of its tangent.
const LINK: usize = 18;
const TANGENT: usize = 8;

/// The features of SU(3) links `[B, d, V, 3, 3, 2]`, f64, on the CPU.
#[derive(Debug, Clone)]
pub struct LoopFeatures {
    dims: Vec<usize>,
}

impl LoopFeatures {
    /// Number of features.
    pub const COUNT: usize = COUNT;

    /// What reports call them, in order.
    pub const NAMES: [&'static str; COUNT] =
        ["F0", "F8", "F6", "R", "R bent", "XY", "XY bent", "WW", "WW bent", "XY*", "XY* bent"];

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

    /// Δ F = L F + constant: the matrix L, row by row, and the constant.
    pub fn laplacian(&self) -> ([[f64; COUNT]; COUNT], [f64; COUNT]) {
        use features::index::{F0, F6, F8, R, WW, XY, XY_STAR};
        let (mut l, mut constant) = ([[0.0; COUNT]; COUNT], [0.0; COUNT]);
        l[F0][F0] = -16.0 / 3.0;
        l[F8][F8] = -12.0;
        l[F6][F6] = -40.0 / 3.0;
        let d = self.dims.len();
        constant[F8] = 12.0 * (self.dims.iter().product::<usize>() * d * 2 * (d - 1)) as f64;
        for bent in 0..2 {
            let [r, xy, ww, xy_star] = [R, XY, WW, XY_STAR].map(|i| i + bent);
            l[r][r] = -8.0;
            (l[xy][xy], l[xy][ww]) = (-31.0 / 3.0, -1.0);
            (l[ww][ww], l[ww][xy]) = (-31.0 / 3.0, -1.0);
            (l[xy_star][xy_star], l[xy_star][r]) = (-11.0, 1.0);
        }
        (l, constant)
    }

    /// F_i of each configuration, `[B, 11]`.
    ///
    /// # Errors
    /// When the links do not fit.
    pub fn values(&self, links: &Tensor) -> Result<Tensor> {
        self.run(links, None, None)
    }

    /// dF_i along `omega` `[B, d, V, 8]`, `[B, 11]`.
    ///
    /// # Errors
    /// When links or tangent do not fit.
    pub fn derivatives(&self, links: &Tensor, omega: &Tensor) -> Result<Tensor> {
        self.run(links, Some(omega), None)
    }

    /// ∂^a Σ_i c_i F_i, `[B, d, V, 8]`.
    ///
    /// # Errors
    /// When the links do not fit.
    pub fn gradient(&self, links: &Tensor, c: &[f64; COUNT]) -> Result<Tensor> {
        self.run(links, None, Some(c))
    }

    /// The derivative of [`LoopFeatures::gradient`] along `omega`.
    ///
    /// # Errors
    /// When links or tangent do not fit.
    pub fn gradient_derivative(&self, links: &Tensor, c: &[f64; COUNT], omega: &Tensor) -> Result<Tensor> {
        self.run(links, Some(omega), Some(c))
    }

    fn run(&self, links: &Tensor, omega: Option<&Tensor>, c: Option<&[f64; COUNT]>) -> Result<Tensor> {
        let (d, volume) = (self.dims.len(), self.dims.iter().product::<usize>());
        let batch = match links.dims() {
            &[batch, dd, v, 3, 3, 2] if (dd, v) == (d, volume) => batch,
            got => candle_core::bail!("loop features: expected links [B, {d}, {volume}, 3, 3, 2], got {got:?}"),
        };
        if let Some(omega) = omega
            && omega.dims() != [batch, d, volume, TANGENT]
        {
            let expected = [batch, d, volume, TANGENT];
            candle_core::bail!("loop features: expected a tangent {expected:?}, got {:?}", omega.dims());
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
        let work = |b: usize, out: &mut [f64]| {
            let links = &links.as_slice()[block(links.as_slice(), b)];
            let omega = omega.as_ref().map(|omega| &omega.as_slice()[block(omega.as_slice(), b)]);
            dispatch(level, Block { lattice: &lattice, links, omega, c, out });
        };
        let lanes = lattice.lanes();
        if c.is_none() {
            let mut sums = vec![0.0; lattice.blocks() * COUNT * lanes];
            sums.par_chunks_exact_mut(COUNT * lanes).enumerate().for_each(|(b, out)| work(b, out));
            let value = |b: usize, i: usize| sums[(b / lanes * COUNT + i) * lanes + b % lanes];
            let out: Vec<f64> = (0..batch * COUNT).map(|k| value(k / COUNT, k % COUNT)).collect();
            return Tensor::from_vec(out, (batch, COUNT), &Device::Cpu);
        }
        let mut field = LaneField::zeros(&lattice, d * TANGENT);
        let size = volume * d * TANGENT * lanes;
        field.as_mut_slice().par_chunks_exact_mut(size).enumerate().for_each(|(b, out)| work(b, out));
        let mut out = vec![0.0; batch * tangent.configuration];
        field.unpack(&lattice, &tangent, &mut out)?;
        Tensor::from_vec(out, (batch, d, volume, TANGENT), &Device::Cpu)
    }
}

/// One block of configurations: features, or the gradient of a combination of them; with a direction, their derivatives.
struct Block<'a> {
    lattice: &'a LaneLattice,
    links: &'a [f64],
    omega: Option<&'a [f64]>,
    c: Option<&'a [f64; COUNT]>,
    out: &'a mut [f64],
}

impl Task<f64> for Block<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<X: Vector<Item = f64>>(self) {
        // SAFETY: the caller vouches for the instructions of X.
        let isa = unsafe { Instructions::<X>::assume() };
        let (lattice, lanes) = (self.lattice, self.lattice.lanes());
        let d = lattice.ndim();
        let place = |direction: usize, site: usize, numbers: usize| (site * d + direction) * numbers * lanes;
        let slopes = self.omega.map(|omega| slopes::<X>(isa, self.links, omega, lanes));
        for lane in (0..lanes).step_by(X::LANES) {
            let load = |from: &[f64], direction: usize, site: usize| {
                Square(Matrix::<X, 3>::load(isa, &from[place(direction, site, LINK) + lane..], lanes).0)
            };
            let value = |direction: usize, site: usize| load(self.links, direction, site);
            match &slopes {
                None => pass(isa, lattice, lane, value, self.c, self.out),
                Some(slopes) => {
                    let dual = |direction: usize, site: usize| {
                        let (v, s) = (value(direction, site), load(slopes, direction, site));
                        let mut both = Square::<Dual<X>>::zero(isa);
                        for i in 0..3 {
                            for j in 0..3 {
                                both.0[i][j] = Dual { value: v.0[i][j], slope: s.0[i][j] };
                            }
                        }
                        both
                    };
                    pass(isa, lattice, lane, dual, self.c, self.out);
                }
            }
        }
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
    link: impl Fn(usize, usize) -> Square<Z>,
    c: Option<&[f64; COUNT]>,
    out: &mut [f64],
) {
    let (d, lanes, volume) = (lattice.ndim(), lattice.lanes(), lattice.node_volume());
    let neighbourhood = |mu: usize, site: usize| {
        let (a, count) = staples(isa, lattice, (mu, site), &link);
        (Link::new(isa, link(mu, site), count, a), a)
    };
    let all = (0..volume).flat_map(|site| (0..d).map(move |mu| (mu, site)));
    let Some(c) = c else {
        let mut sums = [Z::constant(isa, 0.0, 0.0); COUNT];
        for (mu, site) in all {
            let features = neighbourhood(mu, site).0.features(isa);
            for (sum, f) in sums.iter_mut().zip(features) {
                *sum = sum.plus(f);
            }
        }
        for (i, sum) in sums.iter().enumerate() {
            sum.result().re.store(&mut out[i * lanes + lane..]);
        }
        return;
    };
    let mut z = vec![0.0; volume * d * LINK * X::LANES];
    let mut add = |direction: usize, site: usize, by: &Square<Z>| {
        let target = &mut z[(site * d + direction) * LINK * X::LANES..];
        let mut sum = Matrix::<X, 3>::load(isa, target, X::LANES);
        for i in 0..3 {
            for j in 0..3 {
                sum.0[i][j] = sum.0[i][j] + by.0[i][j].result();
            }
        }
        sum.store(target, X::LANES);
    };
    for (mu, site) in all {
        let (neighbourhood, a) = neighbourhood(mu, site);
        let back = neighbourhood.pull_back(isa, c);
        add(mu, site, &back.own);
        spread(isa, lattice, (mu, site), (&a, &back.of_staple), &link, &mut add);
    }
    for (z, out) in z.chunks_exact(LINK * X::LANES).zip(out.chunks_exact_mut(TANGENT * lanes)) {
        // Re tr(iT^a Z) = −Re tr(T^a Z/i)
        let z = Matrix::<X, 3>::load(isa, z, X::LANES).over_i(isa);
        components(isa, &z, -1.0, &mut out[lane..], lanes);
    }
}

