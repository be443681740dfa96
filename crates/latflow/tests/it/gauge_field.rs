//! Gauge fields and files for tests, written from the definitions: random SU(N) links, loops over plaquettes, bytes.

use latflow::io::gauge::{Extents, GaugeField};
use num_complex::Complex64;

/// Numbers in (−1, 1) that are always the same (xorshift).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// A matrix of SU(N): Gram–Schmidt on the rows, then the phase of the determinant taken off the last row.
    fn matrix(&mut self, n: usize) -> Vec<Complex64> {
        let mut u: Vec<Complex64> = (0..n * n).map(|_| Complex64::new(self.next(), self.next())).collect();
        for i in 0..n {
            for j in 0..i {
                let overlap: Complex64 = (0..n).map(|k| u[i * n + k] * u[j * n + k].conj()).sum();
                for k in 0..n {
                    let other = u[j * n + k];
                    u[i * n + k] -= overlap * other;
                }
            }
            let norm = u[i * n..][..n].iter().map(|z| z.norm_sqr()).sum::<f64>().sqrt();
            u[i * n..][..n].iter_mut().for_each(|z| *z /= norm);
        }
        let phase = laplace(&u, n).conj();
        u[(n - 1) * n..].iter_mut().for_each(|z| *z *= phase);
        u
    }
}

/// The determinant by its expansion.
fn laplace(u: &[Complex64], n: usize) -> Complex64 {
    if n == 1 {
        return u[0];
    }
    let minor =
        |column: usize| -> Vec<Complex64> { (n..n * n).filter(|i| i % n != column).map(|i| u[i]).collect() };
    (0..n).map(|j| if j % 2 == 0 { u[j] } else { -u[j] } * laplace(&minor(j), n - 1)).sum()
}

/// Random links.
pub(crate) fn random_field(dims: Extents, n: usize, seed: u64) -> GaugeField {
    let mut numbers = Numbers(seed);
    let links = 4 * dims.iter().product::<usize>();
    let links = (0..links).flat_map(|_| numbers.matrix(n)).collect();
    GaugeField::new(dims, n, links).expect("the right number of links")
}

/// The site at these coordinates: time fastest.
pub(crate) fn site(dims: Extents, [x, y, z, t]: Extents) -> usize {
    ((x * dims[1] + y) * dims[2] + z) * dims[3] + t
}

/// All coordinates in the order of files, x fastest.
pub(crate) fn file_order([lx, ly, lz, lt]: Extents) -> impl Iterator<Item = Extents> {
    (0..lx * ly * lz * lt).map(move |r| [r % lx, r / lx % ly, r / lx / ly % lz, r / lx / ly / lz])
}

/// ⟨Re tr P⟩/N and ⟨Re tr U⟩/N, entry by entry.
pub(crate) fn averages(field: &GaugeField) -> (f64, f64) {
    let (dims, n) = (field.dims(), field.n_colours());
    let (mut plaquettes, mut traces) = (0.0, 0.0);
    for here in file_order(dims) {
        let step = |mu: usize| {
            let mut there = here;
            there[mu] = (there[mu] + 1) % dims[mu];
            site(dims, there)
        };
        let x = site(dims, here);
        for mu in 0..4 {
            traces += (0..n).map(|i| field.link(mu, x)[i * n + i].re).sum::<f64>();
            for nu in 0..mu {
                let (a, b) = (field.link(mu, x), field.link(nu, step(mu)));
                let (c, d) = (field.link(mu, step(nu)), field.link(nu, x));
                for (i, j, k, l) in quadruples(n) {
                    let product = a[i * n + j] * b[j * n + k] * c[l * n + k].conj() * d[i * n + l].conj();
                    plaquettes += product.re;
                }
            }
        }
    }
    let (volume, n) = (field.volume() as f64, n as f64);
    (plaquettes / (6.0 * volume * n), traces / (4.0 * volume * n))
}

fn quadruples(n: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    (0..n.pow(4)).map(move |i| (i % n, i / n % n, i / n / n % n, i / n / n / n))
}

/// The numbers of the links in the order of files, the first `rows` rows of each.
pub(crate) fn file_numbers(field: &GaugeField, rows: usize) -> Vec<f64> {
    let mut numbers = Vec::new();
    for x in file_order(field.dims()) {
        for mu in 0..4 {
            let link = field.link(mu, site(field.dims(), x));
            numbers.extend(link[..rows * field.n_colours()].iter().flat_map(|z| [z.re, z.im]));
        }
    }
    numbers
}

/// A LIME file with both message flags on every record, as some codes write them.
pub(crate) fn lime(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, data) in records {
        bytes.extend([0x45, 0x67, 0x89, 0xab, 0, 1, 0xc0, 0]);
        bytes.extend((data.len() as u64).to_be_bytes());
        bytes.extend(kind.as_bytes());
        bytes.resize(bytes.len() + 128 - kind.len(), 0);
        bytes.extend(*data);
        while !bytes.len().is_multiple_of(8) {
            bytes.push(0);
        }
    }
    bytes
}

/// The records of a LIME file: offset, type, data.
pub(crate) fn records(bytes: &[u8]) -> Vec<(usize, String, Vec<u8>)> {
    let (mut found, mut offset) = (Vec::new(), 0);
    while offset < bytes.len() {
        let length = u64::from_be_bytes(bytes[offset + 8..][..8].try_into().expect("eight bytes")) as usize;
        let kind = String::from_utf8_lossy(&bytes[offset + 16..][..128]).trim_end_matches('\0').to_owned();
        found.push((offset, kind, bytes[offset + 144..][..length].to_vec()));
        offset += 144 + length.next_multiple_of(8);
    }
    found
}

/// The bytes with one text replaced by another of the same length, which must be there once.
pub(crate) fn relabelled(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut places = (0..bytes.len() - from.len()).filter(|i| bytes[*i..].starts_with(from.as_bytes()));
    let place = places.next().unwrap_or_else(|| panic!("no {from} in the file"));
    assert!(places.next().is_none(), "{from} is there twice");
    let mut bytes = bytes.to_vec();
    bytes[place..][..to.len()].copy_from_slice(to.as_bytes());
    bytes
}
