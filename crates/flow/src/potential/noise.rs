//! Noise vectors that belong to a configuration.
//!
//! A bijection is a function: it has no random stream to advance. The noise of a stochastic log-determinant is therefore drawn
//! from a stream whose index is a hash of the configuration it is used for. Equal configurations get equal noise, whatever the
//! rest of the batch, the number of threads or the history of the run, so an interrupted run continues bit by bit with no
//! state to save; different configurations get independent noise. Entries are ±1, which has ⟨χχᵀ⟩ = 1 and of all such noise
//! the least variance in Tr[M χχᵀ].

use crate::Result;
use candle_core::Tensor;
use latflow_kernels::with_slice;
use latflow_lattice::{Streams, uniform};

/// Streams `<purpose>`, index = hash of a configuration.
#[derive(Debug, Clone)]
pub(super) struct Noise {
    streams: Streams,
    purpose: String,
}

impl Noise {
    pub(super) fn new(streams: Streams, purpose: String) -> Self {
        Self { streams, purpose }
    }

    /// `count` vectors of ±1 for each configuration of z, each of the shape of z.
    pub(super) fn draw(&self, z: &Tensor, count: usize) -> Result<Vec<Tensor>> {
        let volume = z.dim(1)?;
        let mut probes = vec![Vec::with_capacity(z.elem_count()); count];
        with_slice::<f64, _>(&z.detach().to_device(&candle_core::Device::Cpu)?, |z| {
            for z in z.chunks_exact(volume) {
                let mut rng = self.streams.stream(&self.purpose, hash(z));
                for probe in &mut probes {
                    probe.extend((0..volume).map(|_| if uniform(&mut rng) < 0.5 { -1.0 } else { 1.0 }));
                }
            }
        })?;
        probes.into_iter().map(|p| Ok(Tensor::from_vec(p, z.shape(), z.device())?)).collect()
    }
}

/// FNV-1a over the bit patterns, a word at a time.
fn hash(z: &[f64]) -> u64 {
    z.iter().fold(0xcbf2_9ce4_8422_2325, |hash, z| {
        // The rotation lets high bits reach low ones, which a product alone does not.
        ((hash ^ z.to_bits()).wrapping_mul(0x0000_0100_0000_01b3)).rotate_left(29)
    })
}
