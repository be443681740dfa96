//! What a coupling updates: a projector Π on spin or on sites, which commutes with gauge transformations.
//!
//! ```text
//! spin:      Π = (1 ± γ_μ)/2, μ ∈ {x, y, z, t, 5}           6 complex components a site           [QCD Sec. 3.1]
//! sites:     Π = 1 on the even or on the odd sites           12 components on half of the sites    [QCD Sec. 3.1]
//! quarters:  Π = 1 on the even sites with x_1 + x_k even or odd                                     our addition
//! ```
//!
//! A field on the even sites alone, that of the even/odd operator, is embedded into the lattice with zeros on the odd ones. Spin
//! masks then act on the even sites only; masks of one parity would be all or nothing there and are refused. Quarters take their
//! place: they are to the two-hop terms of the even/odd operator what even and odd sites are to the hop. Two hops in directions
//! μ ≠ ν lead from one quarter to the other if k is one of the directions, or 1 is, but not both.

use crate::{Error, Result, Sites};
use candle_core::{DType, Tensor};
use latflow_kernels::wilson::gamma::{GAMMA, GAMMA5, power_of_i};
use latflow_lattice::{Lattice, Parity};

/// The gamma matrix of a spin projector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gamma {
    /// γ_μ, directions in the order x, y, z, t.
    Direction(usize),
    /// γ₅.
    Five,
}

/// The projector Π of a coupling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PtcnMask {
    /// (1 + γ)/2, or (1 − γ)/2 if not `plus`.
    Spin {
        /// γ.
        gamma: Gamma,
        /// The sign.
        plus: bool,
    },
    /// The sites of one parity.
    Sites(Parity),
    /// The even sites with x_1 + x_{`partner` + 1} of one parity.
    Quarter {
        /// Direction 1, 2 or 3.
        partner: usize,
        /// Parity of the two coordinates.
        parity: Parity,
    },
}

impl PtcnMask {
    /// n masks in the paper's rotation: odd sites, ten spin projectors, time first, even sites; on half of the sites two quarters
    /// take the place of the parities, with another partner in each round.
    pub fn rotation(sites: Sites, n: usize) -> Vec<Self> {
        let spins =
            [Gamma::Direction(3), Gamma::Direction(0), Gamma::Direction(1), Gamma::Direction(2), Gamma::Five];
        let mask = |i: usize| {
            let (round, place) = (i / 12, i % 12);
            let parity = if place == 0 { Parity::Odd } else { Parity::Even };
            match (place, sites) {
                (1..=10, _) => Self::Spin { gamma: spins[(place - 1) / 2], plus: place % 2 == 1 },
                (_, Sites::All) => Self::Sites(parity),
                (_, Sites::Of(_)) => Self::Quarter { partner: 1 + round % 3, parity },
            }
        };
        (0..n).map(mask).collect()
    }

    /// The six quarters.
    pub fn quarters() -> Vec<Self> {
        let pair = |partner| [Parity::Odd, Parity::Even].map(|parity| Self::Quarter { partner, parity });
        (1..4).flat_map(pair).collect()
    }

    /// Whether two steps in directions μ and ν lead out of the updated sites.
    pub(super) fn separates(self, mu: usize, nu: usize) -> bool {
        match self {
            Self::Quarter { partner, .. } => {
                let counts = |mu: usize| mu == 0 || mu == partner;
                counts(mu) != counts(nu)
            }
            _ => false,
        }
    }
}

/// Π on fields `[B, 2, V, 4, 3]`.
#[derive(Debug, Clone)]
pub(super) struct Projector {
    /// 1 on the sites where Π acts, `[V, 1, 1]`.
    sites: Tensor,
    spin: Option<Spin>,
    /// Complex components of a site that are updated.
    components: usize,
}

/// ± γ as a permutation of spins with factors.
#[derive(Debug, Clone)]
struct Spin {
    columns: Tensor,
    /// ± re i^power, `[4, 1]`; none where all are zero.
    re: Option<Tensor>,
    /// ∓ im i^power for the real part, ± for the imaginary one, `[2, 1, 4, 1]`.
    im: Option<Tensor>,
}

impl Projector {
    /// # Errors
    /// When the mask has no place on these sites, or one that does not exist.
    pub(super) fn new(mask: PtcnMask, lattice: &Lattice, sites: Sites, like: &Tensor) -> Result<Self> {
        let v = lattice.volume();
        let refused = |expected: &'static str| {
            let got = format!("{mask:?} on {sites:?}");
            Error::Network { what: "mask of a pseudofermion coupling", expected, got }
        };
        let here = |x: usize| match sites {
            Sites::All => true,
            Sites::Of(parity) => lattice.parity(x) == parity,
        };
        let sum = |x: usize, k: usize| {
            let x = lattice.coordinates(x);
            if (x[0] + x[k]).is_multiple_of(2) { Parity::Even } else { Parity::Odd }
        };
        let active: Vec<bool> = match mask {
            PtcnMask::Spin { .. } => (0..v).map(here).collect(),
            PtcnMask::Sites(parity) if sites == Sites::All => {
                (0..v).map(|x| lattice.parity(x) == parity).collect()
            }
            PtcnMask::Sites(_) => return Err(refused("quarters in place of a parity on half of the sites")),
            PtcnMask::Quarter { partner, parity } => {
                if !(1..lattice.ndim()).contains(&partner) || sites == Sites::Of(Parity::Odd) {
                    return Err(refused("quarters of the even sites, with partner 1, 2 or 3"));
                }
                (0..v).map(|x| lattice.parity(x) == Parity::Even && sum(x, partner) == parity).collect()
            }
        };
        let active: Vec<f64> = active.into_iter().map(|a| f64::from(u8::from(a))).collect();
        let spin = match mask {
            PtcnMask::Spin { gamma, plus } => Some(Spin::new(gamma, plus, like)?),
            _ => None,
        };
        let components = if spin.is_some() { 6 } else { 12 };
        let sites = Tensor::from_vec(active, (v, 1, 1), like.device())?.to_dtype(like.dtype())?;
        Ok(Self { sites, spin, components })
    }

    /// Π φ.
    pub(super) fn apply(&self, phi: &Tensor) -> Result<Tensor> {
        let active = phi.broadcast_mul(&self.sites)?;
        match &self.spin {
            None => Ok(active),
            Some(spin) => Ok(((&active + spin.times(&active)?)? * 0.5)?),
        }
    }

    /// log |det| of e^s on the image of Π, `[B]`: 2 n_Π Σ_x s(x) over the sites where it acts, for s `[B, V]`.
    pub(super) fn log_det(&self, s: &Tensor) -> Result<Tensor> {
        let active = s.broadcast_mul(&self.sites.squeeze(2)?.squeeze(1)?)?;
        Ok((active.to_dtype(DType::F64)?.sum(1)? * (2 * self.components) as f64)?)
    }
}

impl Spin {
    fn new(gamma: Gamma, plus: bool, like: &Tensor) -> Result<Self> {
        let sign = if plus { 1.0 } else { -1.0 };
        let entries: [(u32, [f64; 2]); 4] = match gamma {
            Gamma::Direction(mu) if mu < 4 => GAMMA[mu].map(|e| (e.column as u32, power_of_i(e.power))),
            Gamma::Direction(mu) => {
                let got = mu.to_string();
                return Err(Error::Network { what: "direction of a gamma matrix", expected: "0 to 3", got });
            }
            Gamma::Five => [0, 1, 2, 3].map(|s| (s as u32, [GAMMA5[s], 0.0])),
        };
        let re = entries.map(|(_, z)| sign * z[0]);
        let im = entries.map(|(_, z)| sign * z[1]);
        let some = |x: [f64; 4]| x.iter().any(|x| *x != 0.0);
        let device = like.device();
        let re_tensor = Tensor::new(&re, device)?.reshape((4, 1))?.to_dtype(like.dtype())?;
        let both: Vec<f64> = im.iter().map(|x| -x).chain(im).collect();
        let im_tensor = Tensor::from_vec(both, (2, 1, 4, 1), device)?.to_dtype(like.dtype())?;
        Ok(Self {
            columns: Tensor::new(&entries.map(|(c, _)| c), device)?,
            re: some(re).then_some(re_tensor),
            im: some(im).then_some(im_tensor),
        })
    }

    /// ± γ φ.
    fn times(&self, phi: &Tensor) -> Result<Tensor> {
        let moved = phi.contiguous()?.index_select(&self.columns, 3)?;
        let re = self.re.as_ref().map(|re| moved.broadcast_mul(re)).transpose()?;
        let im = match &self.im {
            None => None,
            Some(im) => {
                let swapped = Tensor::cat(&[moved.narrow(1, 1, 1)?, moved.narrow(1, 0, 1)?], 1)?;
                Some(swapped.broadcast_mul(im)?)
            }
        };
        match (re, im) {
            (Some(re), Some(im)) => Ok((re + im)?),
            (Some(one), None) | (None, Some(one)) => Ok(one),
            (None, None) => Ok(phi.zeros_like()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use latflow_lattice::check::max_difference;
    use latflow_lattice::{Streams, normal_tensor};

    fn lattice() -> Lattice {
        Lattice::new(&[4, 2, 2, 2]).unwrap()
    }

    fn noise(seed: u64) -> Tensor {
        let mut rng = Streams::new(seed).stream("test", 0);
        normal_tensor(&mut rng, 1.0, &[2, 2, 32, 4, 3], DType::F64, &Device::Cpu).unwrap()
    }

    fn projector(mask: PtcnMask, sites: Sites) -> Projector {
        Projector::new(mask, &lattice(), sites, &noise(0)).unwrap()
    }

    fn inner(a: &Tensor, b: &Tensor) -> f64 {
        (a * b).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap()
    }

    #[test]
    fn masks_are_complementary_orthogonal_projectors() {
        let (x, y) = (noise(1), noise(2));
        for mask in [PtcnMask::rotation(Sites::All, 12), PtcnMask::quarters()].concat() {
            let p = projector(mask, Sites::All);
            let (px, py) = (p.apply(&x).unwrap(), p.apply(&y).unwrap());
            assert!(max_difference(&p.apply(&px).unwrap(), &px).unwrap() < 1e-14, "{mask:?}");
            assert!((inner(&px, &y) - inner(&x, &py)).abs() < 1e-11, "{mask:?}");
            // The rank, as reported: the trace of a projector is twice the number of complex components.
            let s = Tensor::ones((1, 32), DType::F64, &Device::Cpu).unwrap();
            let rank = p.log_det(&s).unwrap().to_vec1::<f64>().unwrap()[0];
            let expected = match mask {
                PtcnMask::Spin { gamma, plus } => {
                    let other = projector(PtcnMask::Spin { gamma, plus: !plus }, Sites::All);
                    let sum = (&px + other.apply(&x).unwrap()).unwrap();
                    assert!(max_difference(&sum, &x).unwrap() < 1e-14, "{mask:?}");
                    2.0 * 6.0 * 32.0
                }
                PtcnMask::Sites(parity) => {
                    let other = projector(PtcnMask::Sites(parity.flip()), Sites::All);
                    let sum = (&px + other.apply(&x).unwrap()).unwrap();
                    assert!(max_difference(&sum, &x).unwrap() == 0.0, "{mask:?}");
                    2.0 * 12.0 * 16.0
                }
                PtcnMask::Quarter { .. } => 2.0 * 12.0 * 8.0,
            };
            assert_eq!(rank, expected, "{mask:?}");
        }
    }

    #[test]
    fn on_the_even_sites_nothing_else_is_touched() {
        let even = Sites::Of(Parity::Even);
        let x = noise(3);
        let mut sum: Option<Tensor> = None;
        for mask in PtcnMask::rotation(even, 36) {
            let p = projector(mask, even).apply(&x).unwrap();
            let odd = projector(PtcnMask::Sites(Parity::Odd), Sites::All).apply(&p).unwrap();
            assert_eq!(inner(&odd, &odd), 0.0, "{mask:?}");
            sum = Some(match sum {
                None => p,
                Some(sum) => (sum + p).unwrap(),
            });
        }
        // Five pairs of spin projectors and one of quarters in each of three rounds.
        let all = projector(PtcnMask::Sites(Parity::Even), Sites::All).apply(&x).unwrap();
        assert!(max_difference(&sum.unwrap(), &(all * 18.0).unwrap()).unwrap() < 1e-12);
        for (mask, sites) in [
            (PtcnMask::Sites(Parity::Even), even),
            (PtcnMask::Quarter { partner: 4, parity: Parity::Even }, even),
            (PtcnMask::Quarter { partner: 1, parity: Parity::Even }, Sites::Of(Parity::Odd)),
            (PtcnMask::Spin { gamma: Gamma::Direction(4), plus: true }, even),
        ] {
            assert!(
                matches!(Projector::new(mask, &lattice(), sites, &x), Err(Error::Network { .. })),
                "{mask:?}"
            );
        }
    }
}
