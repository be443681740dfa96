//! Masks of links: one loop a link, no staple that moves, every link in its turn.

use latflow_lattice::{Error, Lattice, LinkMask, PlaquetteClass, plaquette_links};
use std::collections::BTreeMap;

fn lattices() -> Vec<Lattice> {
    [&[4, 4][..], &[6, 8], &[2, 2], &[4, 4, 4], &[4, 4, 4, 4], &[2, 4, 6, 4], &[2, 2, 2, 2]]
        .iter()
        .map(|dims| Lattice::new(dims).unwrap())
        .collect()
}

/// Written from the definition, link by link.
fn active_links(mask: &LinkMask) -> Vec<(usize, usize)> {
    mask.active_sites().iter().map(|x| (mask.direction(), *x)).collect()
}

#[test]
fn every_active_link_has_its_loop_and_staples_stay() {
    for lattice in lattices() {
        for mask in LinkMask::schedule(&lattice).unwrap() {
            let active = active_links(&mask);
            assert_eq!(4 * active.len(), lattice.volume(), "{lattice}");
            let mut loops = Vec::new();
            for (plane, &(m, n)) in mask.planes().iter().enumerate() {
                for (site, class) in mask.classes(plane).iter().enumerate() {
                    let links = plaquette_links(&lattice, m, n, site);
                    let held = links.iter().filter(|link| active.contains(link)).count();
                    assert!(held < 2, "{lattice}: plaquette ({m}, {n}) at {site} holds {held} active links");
                    match class {
                        PlaquetteClass::Frozen => assert_eq!(held, 0),
                        PlaquetteClass::Passive => assert_eq!(held, 1),
                        PlaquetteClass::Active => {
                            assert_eq!(held, 1);
                            loops.push(plaquette_links(&lattice, mask.direction(), mask.partner(), site)[0]);
                        }
                    }
                }
            }
            loops.sort_unstable();
            assert_eq!(loops, active, "one loop a link, and no other");
        }
    }
}

#[test]
fn a_round_touches_each_link_once_and_a_cycle_each_plane_of_it() {
    for lattice in lattices() {
        let (d, v) = (lattice.ndim(), lattice.volume());
        let schedule = LinkMask::schedule(&lattice).unwrap();
        assert_eq!(schedule.len(), 4 * d * (d - 1));
        for round in schedule.chunks(4 * d) {
            let mut touched: Vec<_> = round.iter().flat_map(active_links).collect();
            touched.sort_unstable();
            let all: Vec<_> = (0..d).flat_map(|mu| (0..v).map(move |x| (mu, x))).collect();
            assert_eq!(touched, all, "{lattice}");
        }
        let mut pairs = BTreeMap::new();
        for mask in &schedule {
            for link in active_links(mask) {
                *pairs.entry((link, mask.partner())).or_insert(0) += 1;
            }
        }
        assert_eq!(pairs.len(), d * (d - 1) * v);
        assert!(pairs.values().all(|n| *n == 1));
    }
}

#[test]
fn counts_in_four_dimensions() {
    let lattice = Lattice::new(&[4, 4, 4, 4]).unwrap();
    let schedule = LinkMask::schedule(&lattice).unwrap();
    assert_eq!(schedule.len(), 48);
    for mask in schedule {
        let counts =
            [PlaquetteClass::Active, PlaquetteClass::Passive, PlaquetteClass::Frozen].map(|c| mask.count(c));
        assert_eq!(counts, [64, 320, 384 + 768]);
        let in_planes_of_mu: usize = (0..6)
            .filter(|p| [mask.planes()[*p].0, mask.planes()[*p].1].contains(&mask.direction()))
            .map(|p| mask.classes(p).iter().filter(|c| **c == PlaquetteClass::Frozen).count())
            .sum();
        assert_eq!(in_planes_of_mu, 384);
    }
}

#[test]
fn patterns_that_do_not_fit_say_why() {
    let lattice = Lattice::new(&[4, 4, 4, 4]).unwrap();
    let order = [0, 1, 2, 3];
    for shifts in [[1, 0, 1, 1], [1, 4, 1, 1], [1, 2, 1, 8]] {
        let error = LinkMask::new(&lattice, &order, &shifts, 0).unwrap_err();
        assert!(matches!(error, Error::LinkMask { .. }));
        assert!(error.to_string().contains("2 active links on the plaquette"), "{error}");
    }
    for (order, shifts, phase) in [
        (&[0, 1, 2][..], &[1, 2, 1, 1][..], 0),
        (&[0, 1, 2, 2], &[1, 2, 1, 1], 0),
        (&order, &[1, 2, 1], 0),
        (&order, &[1, 2, 1, 1], 4),
    ] {
        let error = LinkMask::new(&lattice, order, shifts, phase).unwrap_err();
        assert!(error.to_string().contains("expected a permutation of 4"), "{error}");
    }
    let line = Lattice::new(&[8]).unwrap();
    assert!(LinkMask::schedule(&line).is_err());
}
