//! Which links a coupling layer of gauge fields moves, by which loops, and which plaquettes it leaves alone.
//!
//! ```text
//! order: a permutation of the directions, μ = order_1, ν = order_2;   shifts s = (1, 2, 1, …, 1)
//! phase(x) = Σ_k s_k x_{order_k} mod 4
//! U_μ(x) is active when phase(x) is that of the layer; its loop is P_{μν}(x)         [QCD Sec. 3.1], in our reading
//! ```
//!
//! A plaquette is *active* when it is the loop of an active link, *passive* when it holds an active link without being its
//! loop, *frozen* otherwise. None holds two active links: staples of active links do not move, and the Jacobian is diagonal.
//! In two dimensions this is the mask of width four used for the Schwinger model.

use crate::{Boundary, Error, Lattice, Result};

/// Width of the pattern.
const WIDTH: usize = 4;

/// What a layer does to a plaquette.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaquetteClass {
    /// The loop of an active link: what the layer transforms.
    Active,
    /// Changed in passing; the layer may not look at it.
    Passive,
    /// Unchanged: what the layer's networks see.
    Frozen,
}

/// The active links of one layer and the classes of all plaquettes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkMask {
    direction: usize,
    partner: usize,
    active: Vec<usize>,
    /// `[plane][site]`.
    classes: Vec<Vec<PlaquetteClass>>,
    planes: Vec<(usize, usize)>,
}

/// The links of P_{μν}(x) in order, as (direction, site); the last two are adjoint.
pub fn plaquette_links(lattice: &Lattice, mu: usize, nu: usize, site: usize) -> [(usize, usize); 4] {
    let ahead = |rho| lattice.neighbour(site, rho, 1, Boundary::Periodic).0;
    [(mu, site), (nu, ahead(mu)), (mu, ahead(nu)), (nu, site)]
}

impl LinkMask {
    /// The mask whose first two directions are μ, ν = `order[0]`, `order[1]`, with `shifts` s along `order`.
    ///
    /// # Errors
    /// When `order` is no permutation of at least two directions, a shift is missing, the phase is not below 4, or some
    /// plaquette of this lattice would hold two active links.
    pub fn new(lattice: &Lattice, order: &[usize], shifts: &[usize], phase: usize) -> Result<Self> {
        let d = lattice.ndim();
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        if d < 2 || sorted != (0..d).collect::<Vec<_>>() || shifts.len() != d || phase >= WIDTH {
            return Err(Error::LinkMask {
                dims: lattice.dims().to_vec(),
                what: format!(
                    "order {order:?}, shifts {shifts:?}, phase {phase}; expected a permutation of {d} ≥ 2 directions, {d} \
                     shifts and a phase below {WIDTH}"
                ),
            });
        }
        let is_active = |site: usize| {
            let x = lattice.coordinates(site);
            order.iter().zip(shifts).map(|(k, s)| x[*k] * s).sum::<usize>() % WIDTH == phase
        };
        let on: Vec<bool> = (0..lattice.volume()).map(is_active).collect();
        let (direction, partner) = (order[0], order[1]);
        let planes: Vec<(usize, usize)> = (0..d).flat_map(|m| (m + 1..d).map(move |n| (m, n))).collect();
        let mut classes = Vec::with_capacity(planes.len());
        for &(m, n) in &planes {
            let mut plane = Vec::with_capacity(lattice.volume());
            for site in 0..lattice.volume() {
                let links = plaquette_links(lattice, m, n, site);
                let active = links.iter().filter(|(mu, x)| *mu == direction && on[*x]).count();
                let is_loop = on[site] && [(direction, partner), (partner, direction)].contains(&(m, n));
                plane.push(match active {
                    0 => PlaquetteClass::Frozen,
                    1 if is_loop => PlaquetteClass::Active,
                    1 => PlaquetteClass::Passive,
                    _ => {
                        return Err(Error::LinkMask {
                            dims: lattice.dims().to_vec(),
                            what: format!(
                                "shifts {shifts:?} along {order:?} put {active} active links on the plaquette ({m}, {n}) at \
                                 {:?}; expected s (L − 1) to be no multiple of {WIDTH} in any direction",
                                lattice.coordinates(site)
                            ),
                        });
                    }
                });
            }
            classes.push(plane);
        }
        let active = (0..lattice.volume()).filter(|x| on[*x]).collect();
        Ok(Self { direction, partner, active, classes, planes })
    }

    /// The layers of one cycle, in order: with r = 1 … d−1 outermost, phases 0, 2, 1, 3, and μ innermost, ν = μ + r mod d. Every
    /// link is active once with each of the d − 1 planes it lies in; 4d layers in a row move each link once. 48 in four
    /// dimensions, 8 in two.
    ///
    /// # Errors
    /// When there is only one direction.
    pub fn schedule(lattice: &Lattice) -> Result<Vec<Self>> {
        let d = lattice.ndim();
        let mut shifts = vec![1; d];
        if let Some(second) = shifts.get_mut(1) {
            *second = 2;
        }
        let mut layers = Vec::with_capacity(4 * d * d.saturating_sub(1));
        for r in 1..d.max(2) {
            for phase in [0, 2, 1, 3] {
                for mu in 0..d {
                    let nu = (mu + r) % d;
                    let mut order = vec![mu, nu];
                    order.extend((0..d).filter(|k| *k != mu && *k != nu));
                    layers.push(Self::new(lattice, &order, &shifts, phase)?);
                }
            }
        }
        Ok(layers)
    }

    /// μ, the direction of the active links.
    pub fn direction(&self) -> usize {
        self.direction
    }

    /// ν: the loop of U_μ(x) is P_{μν}(x).
    pub fn partner(&self) -> usize {
        self.partner
    }

    /// Sites of the active links, ascending.
    pub fn active_sites(&self) -> &[usize] {
        &self.active
    }

    /// All planes (m, n), m < n.
    pub fn planes(&self) -> &[(usize, usize)] {
        &self.planes
    }

    /// Classes of the plaquettes P_{mn}(x) of a plane, one a site; planes numbered as in [`LinkMask::planes`].
    ///
    /// # Panics
    /// When there is no such plane.
    pub fn classes(&self, plane: usize) -> &[PlaquetteClass] {
        &self.classes[plane]
    }

    /// Plaquettes of a class.
    pub fn count(&self, class: PlaquetteClass) -> usize {
        self.classes.iter().flatten().filter(|c| **c == class).count()
    }
}
