use super::*;

fn site(dims: &[usize], x: &[usize]) -> usize {
    x.iter().zip(dims).fold(0, |s, (x, l)| s * l + x)
}

fn coordinates(dims: &[usize], mut site: usize) -> Vec<usize> {
    let mut x = vec![0; dims.len()];
    for (x, l) in x.iter_mut().zip(dims).rev() {
        *x = site % l;
        site /= l;
    }
    x
}

/// (extents, configurations): lanes of configurations, of nodes, of both, and with idle ones.
const CASES: [(&[usize], usize); 7] = [
    (&[4, 4, 4, 4], 8),
    (&[4, 4, 4, 4], 3),
    (&[8, 8, 8, 8], 1),
    (&[8, 4, 4, 12], 2),
    (&[2, 6, 4], 5),
    (&[2, 2], 1),
    (&[4, 8], 17),
];

#[test]
fn packing_comes_back_and_fills_idle_lanes() {
    for (dims, batch) in CASES {
        let volume: usize = dims.iter().product();
        for shape in [FieldShape::directions(dims.len(), volume, 3), FieldShape::complex(volume, 5)] {
            let lattice = LaneLattice::new(dims, batch, 8).unwrap();
            let source: Vec<f64> = (0..batch * shape.configuration).map(|i| i as f64 + 1.0).collect();
            let packed = LaneField::pack(&lattice, &shape, &source).unwrap();
            assert!(packed.as_slice().iter().all(|x| *x > 0.0), "idle lanes must hold a configuration");
            let mut back = vec![0.0; source.len()];
            packed.unpack(&lattice, &shape, &mut back).unwrap();
            assert_eq!(source, back);
        }
    }
}

#[test]
fn neighbours_are_those_of_the_lattice_in_every_lane() {
    for (dims, batch) in CASES {
        let volume: usize = dims.iter().product();
        let lattice = LaneLattice::new(dims, batch, 8).unwrap();
        let shape = FieldShape::complex(volume, 1);
        let source: Vec<f64> = (0..batch * 2 * volume).map(|i| i as f64).collect();
        let packed = LaneField::pack(&lattice, &shape, &source).unwrap();
        let at = |block: usize, s: usize| &packed.as_slice()[(block * lattice.node_volume() + s) * 16..][..8];
        for (block, s, mu) in (0..lattice.blocks()).flat_map(|b| {
            (0..lattice.node_volume()).flat_map(move |s| (0..dims.len()).map(move |mu| (b, s, mu)))
        }) {
            for (step, neighbour) in [(1, lattice.forward(s, mu)), (dims[mu] - 1, lattice.backward(s, mu))] {
                let mut found = [0.0; 8];
                exchange(at(block, neighbour.site as usize), &mut found, neighbour.mask as usize);
                for (lane, found) in found.iter().enumerate() {
                    let Some((configuration, node)) = lattice.lane(block, lane) else { continue };
                    let mut x = coordinates(dims, lattice.lattice_site(s, node));
                    assert_eq!(x.iter().sum::<usize>() % 2 == 1, lattice.odd(s));
                    x[mu] = (x[mu] + step) % dims[mu];
                    assert_eq!(*found, (configuration * 2 * volume + site(dims, &x)) as f64);
                }
            }
        }
    }
}

#[test]
fn a_single_large_lattice_fills_all_lanes() {
    assert_eq!(LaneLattice::new(&[8, 8, 8, 8], 1, 8).unwrap().nodes(), 8);
    assert_eq!(LaneLattice::new(&[8, 8, 8, 8], 1, 16).unwrap().nodes(), 16);
    assert_eq!(LaneLattice::new(&[4, 4, 4, 4], 8, 8).unwrap().nodes(), 1);
    assert_eq!(LaneLattice::new(&[6, 6, 6, 8], 1, 8).unwrap().nodes(), 2);
}

#[test]
fn fields_on_one_sublattice_leave_the_other_sites_alone() {
    let dims = [4usize, 4];
    let even: Vec<Option<u32>> = {
        let mut n = 0;
        (0..16)
            .map(|s| {
                (coordinates(&dims, s).iter().sum::<usize>() % 2 == 0).then(|| {
                    n += 1;
                    n - 1
                })
            })
            .collect()
    };
    let shape = FieldShape::complex(8, 3).on(even);
    let lattice = LaneLattice::new(&dims, 2, 8).unwrap();
    let source: Vec<f64> = (0..2 * shape.configuration).map(|i| i as f64 + 1.0).collect();
    let packed = LaneField::pack(&lattice, &shape, &source).unwrap();
    assert_eq!(packed.as_slice().iter().filter(|x| **x == 0.0).count(), packed.as_slice().len() / 2);
    let mut back = vec![0.0; source.len()];
    packed.unpack(&lattice, &shape, &mut back).unwrap();
    assert_eq!(source, back);
}
