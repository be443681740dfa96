//! The checksums of gauge configuration files.
//!
//! ```text
//! SciDAC:  w_r = crc32(bytes of site r),   r = ((t L_z + z) L_y + y) L_x + x
//!          suma = ⊕_r rotl(w_r, r mod 29),   sumb = ⊕_r rotl(w_r, r mod 31)
//! NERSC:   Σ of all 32-bit words of the payload, mod 2³²
//! ```
//!
//! The SciDAC sums are over the bytes as they stand in the file; the words of NERSC are those of the numbers, so that they do
//! not depend on the byte order.

use rayon::prelude::*;

use super::payload::{Endian, Layout};

/// The checksum a file states, or that of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksum {
    Scidac { suma: u32, sumb: u32 },
    Nersc(u32),
}

impl Checksum {
    /// The checksum of the same kind of a payload.
    pub(super) fn of(self, payload: &[u8], layout: &Layout) -> Self {
        match self {
            Self::Scidac { .. } => {
                let (suma, sumb) = scidac(payload, layout.site_bytes());
                Self::Scidac { suma, sumb }
            }
            Self::Nersc(_) => Self::Nersc(nersc(payload, layout.endian)),
        }
    }
}

impl std::fmt::Display for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Scidac { suma, sumb } => write!(f, "suma {suma:08x}, sumb {sumb:08x}"),
            Self::Nersc(sum) => write!(f, "{sum:x}"),
        }
    }
}

/// suma and sumb of a payload.
pub(super) fn scidac(payload: &[u8], site_bytes: usize) -> (u32, u32) {
    let site = |(rank, bytes): (usize, &[u8])| {
        let crc = crc32fast::hash(bytes);
        (crc.rotate_left((rank % 29) as u32), crc.rotate_left((rank % 31) as u32))
    };
    let sites = payload.par_chunks(site_bytes).enumerate().map(site);
    sites.reduce(|| (0, 0), |a, b| (a.0 ^ b.0, a.1 ^ b.1))
}

/// The NERSC checksum of a payload.
pub(super) fn nersc(payload: &[u8], endian: Endian) -> u32 {
    let word = |bytes: &[u8; 4]| match endian {
        Endian::Big => u32::from_be_bytes(*bytes),
        Endian::Little => u32::from_le_bytes(*bytes),
    };
    let (words, _) = payload.as_chunks::<4>();
    words.par_iter().map(word).reduce(|| 0, u32::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::{Endian, nersc, scidac};

    /// crc32("123456789") is the check value of the polynomial's definition, cbf43926.
    #[test]
    fn sites_are_rotated_by_their_rank() {
        let payload = b"123456789".repeat(33);
        let (mut suma, mut sumb) = (0, 0);
        for rank in 0..33 {
            suma ^= 0xcbf4_3926_u32.rotate_left(rank % 29);
            sumb ^= 0xcbf4_3926_u32.rotate_left(rank % 31);
        }
        assert_eq!(scidac(&payload, 9), (suma, sumb));
    }

    #[test]
    fn words_are_those_of_the_numbers() {
        let numbers = [1.0_f64, -0.375, 1e300];
        let words: u32 = numbers
            .iter()
            .fold(0, |sum, x| sum.wrapping_add((x.to_bits() >> 32) as u32).wrapping_add(x.to_bits() as u32));
        let big: Vec<u8> = numbers.iter().flat_map(|x| x.to_be_bytes()).collect();
        let little: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(nersc(&big, Endian::Big), words);
        assert_eq!(nersc(&little, Endian::Little), words);
    }
}
