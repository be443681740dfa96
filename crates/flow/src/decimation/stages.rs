//! The order in which a decimation flow fills a two-dimensional lattice.
//!
//! ```text
//! Λ_{2j}   square lattice of spacing u = 2^j,        basis (u, 0), (0, u)
//! Λ_{2j+1} its sites of odd parity, rotated by 45°,  basis (u, u), (u, −u)
//! stages of level k ≥ 1: Λ_k \ Λ_{k+1} in interleaved parts, a before b, no two sites of which are neighbours
//! ```
//!
//! Sites of one stage are drawn independently of each other, so that what couples them through sites not filled yet is lost:
//! half of the variance of log w, were levels 1 to 3 not divided once more (aa, ab, …). Only part b of level 1 needs no
//! division: it is exactly independent given what is before.

use crate::{Error, Result};
use latflow_lattice::{Boundary, Lattice, Parity};
use std::collections::BTreeSet;

/// Sites that are filled together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// `top`, or the level with `a` or `b`: what its parameters are called. Counted from the finest level, so that the same
    /// stage has the same name on every lattice.
    pub name: String,
    /// k: 0 is the finest.
    pub level: usize,
    /// The sites of Λ_k.
    pub sublattice: Vec<usize>,
    /// Whether each site of Λ_k is filled before.
    pub visible: Vec<bool>,
    /// Positions in Λ_k of the sites to be filled.
    pub active: Vec<usize>,
    /// The two shortest displacements within Λ_k.
    pub basis: [[isize; 2]; 2],
}

impl Stage {
    /// The sites to be filled, numbered in the lattice.
    pub fn active_sites(&self) -> Vec<usize> {
        self.active.iter().map(|&i| self.sublattice[i]).collect()
    }

    /// Neighbour table of the (2r+1)² displacements n_1 e_1 + n_2 e_2 within Λ_k, tap by tap.
    pub(super) fn neighbours(&self, lattice: &Lattice, radius: isize) -> Vec<u32> {
        let mut position = vec![0; lattice.volume()];
        for (i, &site) in self.sublattice.iter().enumerate() {
            position[site] = i as u32;
        }
        let mut table = Vec::new();
        for n1 in -radius..=radius {
            for n2 in -radius..=radius {
                let d = [0, 1].map(|mu| n1 * self.basis[0][mu] + n2 * self.basis[1][mu]);
                table.extend(self.sublattice.iter().map(|&site| {
                    let (neighbour, _) = lattice.displaced(site, &d, Boundary::Periodic);
                    position[neighbour]
                }));
            }
        }
        table
    }
}

/// All stages, coarsest first. The halving stops where an extent in units of the spacing is odd; what is left is one stage.
///
/// # Errors
/// When the lattice is not two-dimensional.
pub fn stages(lattice: &Lattice) -> Result<Vec<Stage>> {
    if lattice.ndim() != 2 {
        return Err(Error::Parameter {
            name: "dimensions of a decimation flow",
            value: lattice.ndim() as f64,
            expected: "2",
        });
    }
    let mut stages = Vec::new();
    // Finest first; turned round at the end.
    let (mut origin, mut unit, mut level) = ([0, 0], 1usize, 0);
    loop {
        let extents: Vec<usize> = lattice.dims().iter().map(|l| l / unit).collect();
        let site = |a: usize, b: usize| {
            let x = [a, b].map(|n| n * unit);
            lattice.site(&[0, 1].map(|mu| (origin[mu] + x[mu]) % lattice.dims()[mu]))
        };
        let pairs = || (0..extents[0]).flat_map(|a| (0..extents[1]).map(move |b| (a, b)));
        if extents.iter().any(|l| l % 2 == 1) {
            let sublattice: Vec<usize> = pairs().map(|(a, b)| site(a, b)).collect();
            let n = sublattice.len();
            stages.push(Stage {
                name: "top".into(),
                level,
                sublattice,
                visible: vec![false; n],
                active: (0..n).collect(),
                basis: [[unit as isize, 0], [0, unit as isize]],
            });
            break;
        }
        let u = unit as isize;
        // Level 2j: one parity goes; a has both coordinates even, b both odd.
        let square: Vec<(usize, usize)> = pairs().collect();
        let goes = |a: usize, b: usize| (a + b).is_multiple_of(2);
        let divisible = extents.iter().all(|l| l % 4 == 0);
        let quarter = |a: usize, b: usize| (a / 2 + b / 2) % 2;
        let part = |a: usize, b: usize| match (level, divisible && level <= DIVIDED) {
            (0, _) => "",
            (_, false) => ["a", "b"][a % 2],
            (_, true) => ["aa", "ab", "ba", "bb"][2 * (a % 2) + quarter(a, b)],
        };
        add_level(&mut stages, level, &square, site, |a, b| goes(a, b).then(|| part(a, b)), [[u, 0], [0, u]]);
        // Level 2j + 1: of the other parity, the sites of even a; they are a square lattice of spacing 2u.
        let rotated: Vec<(usize, usize)> = square.into_iter().filter(|&(a, b)| !goes(a, b)).collect();
        let part = |a: usize, b: usize| {
            let half = quarter(a, b);
            match (divisible, level < DIVIDED && (half == 0 || level > 0)) {
                (false, _) => "",
                (true, false) => ["a", "b"][half],
                (true, true) => ["aa", "ab", "ba", "bb"][2 * half + (a / 2) % 2],
            }
        };
        let part = |a: usize, b: usize| a.is_multiple_of(2).then(|| part(a, b));
        add_level(&mut stages, level + 1, &rotated, site, part, [[u, u], [u, -u]]);
        origin = [origin[0] + unit, origin[1]];
        unit *= 2;
        level += 2;
    }
    stages.reverse();
    debug_assert!(lattice.parity(stages[stages.len() - 1].active_sites()[0]) == Parity::Even);
    Ok(stages)
}

/// The last level whose parts are divided once more.
const DIVIDED: usize = 3;

/// Pushes the stages of one level, the last part, which sees all others, first. `part` is `None` for the sites of Λ_{k+1}.
fn add_level(
    stages: &mut Vec<Stage>,
    level: usize,
    points: &[(usize, usize)],
    site: impl Fn(usize, usize) -> usize,
    part: impl Fn(usize, usize) -> Option<&'static str>,
    basis: [[isize; 2]; 2],
) {
    let sublattice: Vec<usize> = points.iter().map(|&(a, b)| site(a, b)).collect();
    let parts: Vec<Option<&str>> = points.iter().map(|&(a, b)| part(a, b)).collect();
    let names: BTreeSet<&str> = parts.iter().copied().flatten().collect();
    for name in names.into_iter().rev() {
        stages.push(Stage {
            name: format!("{level}{name}"),
            level,
            sublattice: sublattice.clone(),
            visible: parts.iter().map(|p| p.is_none_or(|p| p < name)).collect(),
            active: parts.iter().enumerate().filter(|(_, p)| **p == Some(name)).map(|(i, _)| i).collect(),
            basis,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::stages;
    use latflow_lattice::Lattice;

    #[test]
    fn every_site_is_filled_once_and_sees_only_what_is_there() {
        for dims in [[2, 2], [4, 4], [8, 8], [16, 16], [4, 6], [8, 16], [6, 6]] {
            let lattice = Lattice::new(&dims).unwrap();
            let mut filled = vec![false; lattice.volume()];
            for stage in stages(&lattice).unwrap() {
                for (i, &site) in stage.sublattice.iter().enumerate() {
                    assert!(!stage.visible[i] || filled[site], "{dims:?} {}: sees an empty site", stage.name);
                }
                for site in stage.active_sites() {
                    assert!(!filled[site], "{dims:?} {}: fills a site again", stage.name);
                }
                for site in stage.active_sites() {
                    filled[site] = true;
                }
            }
            assert!(filled.iter().all(|f| *f), "{dims:?}: sites are left out");
        }
    }

    #[test]
    fn sixteen_squared_ends_with_one_half_of_the_checkerboard() {
        let stages = stages(&Lattice::new(&[16, 16]).unwrap()).unwrap();
        let sizes: Vec<usize> = stages.iter().map(|s| s.active.len()).collect();
        assert_eq!(sizes, [1, 1, 1, 1, 2, 2, 4, 4, 4, 4, 4, 4, 8, 8, 8, 8, 16, 16, 32, 128]);
        let names: Vec<&str> = stages.iter().map(|s| s.name.as_str()).collect();
        assert_eq!((names[0], names[18], names[19]), ("top", "1b", "0"));
    }
}
