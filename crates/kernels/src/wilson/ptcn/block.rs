//! The whole network, block by block: one block of configurations is one thread's work.

use super::backward::Backward;
use super::forward::{Forward, Place};
use super::lines::spinor;
use super::{TransportLayer, TransportNet};
use crate::conv::scratch::{take, with_scratch};
use crate::conv::simd::{Element, Level, dispatch};
use crate::host::with_slice;
use crate::lanes::{FieldShape, LaneField, lanes_of};
use crate::wilson::geometry::Sites;
use crate::wilson::kernel::LINK;
use crate::wilson::links::{Packing, WilsonLinks, change_sign};
use crate::wilson::vector;
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

/// Gradients: (ψ, numbers), and in the links if they were asked for.
pub(super) struct Gradients {
    pub(super) fields: [Tensor; 2],
    pub(super) links: Option<Tensor>,
}

/// One block: its links and the configurations of its lanes.
struct Block<'a, T> {
    packing: &'a Packing<'a, T>,
    index: usize,
    links: &'a [T],
    owners: Vec<(usize, usize)>,
    net: &'a TransportNet,
    level: Level,
}

impl<'a, T: Element> Block<'a, T> {
    fn new(packing: &'a Packing<'a, T>, index: usize, net: &'a TransportNet) -> Self {
        let lattice = &packing.geometry.lattice;
        let last = |lane: usize| (lattice.batch() - 1, lane % lattice.nodes());
        let owners =
            (0..lattice.lanes()).map(|lane| lattice.lane(index, lane).unwrap_or(last(lane))).collect();
        Self { packing, index, links: packing.block(index), owners, net, level: Level::detect() }
    }

    fn place(&self, layer: TransportLayer) -> Place<'_> {
        let total = self.net.coefficients();
        Place { geometry: self.packing.geometry, owners: &self.owners, total, layer }
    }

    /// Elements of n spinor fields of the block.
    fn fields(&self, n: usize) -> usize {
        n * self.packing.geometry.lattice.node_volume() * spinor::<T>()
    }

    fn layer(&self, layer: TransportLayer, numbers: &[T], source: &[T], out: &mut [T]) {
        let (place, links) = (self.place(layer), self.links);
        with_scratch::<T, _>(place.forward_room::<T>(), |room| {
            dispatch(self.level, Forward { place, links, numbers, source, out, room });
        });
    }

    fn pack(&self, field: &[T], out: &mut [T]) {
        vector::pack(self.packing.geometry, Sites::All, self.index, field, out);
    }

    fn unpack(&self, lanes: &[T], out: &mut [T]) {
        vector::unpack(self.packing.geometry, Sites::All, self.index, lanes, out);
    }

    /// ψ of the block's configurations → the network's output.
    fn forward(&self, psi: &[T], numbers: &[T], out: &mut [T]) {
        let widest = self.net.layers().iter().map(|l| l.inputs.max(l.outputs)).max().unwrap_or(1);
        let len = self.fields(widest);
        with_scratch::<T, _>(2 * len, |room| {
            let (mut now, mut next) = room.split_at_mut(len);
            self.pack(psi, &mut now[..self.fields(1)]);
            for &layer in self.net.layers() {
                let (from, to) = (self.fields(layer.inputs), self.fields(layer.outputs));
                self.layer(layer, numbers, &now[..from], &mut next[..to]);
                std::mem::swap(&mut now, &mut next);
            }
            self.unpack(&now[..self.fields(1)], out);
        });
    }

    fn backward(&self, (psi, numbers, grad): (&[T], &[T], &[T]), out: BlockGradients<'_, T>) {
        let layers = self.net.layers();
        let widest = layers.iter().map(|l| l.inputs.max(l.outputs)).max().unwrap_or(1);
        let kept: usize = layers.iter().map(|l| self.fields(l.inputs)).sum();
        with_scratch::<T, _>(kept + 2 * self.fields(widest), |mut room| {
            let mut inputs: Vec<&mut [T]> =
                layers.iter().map(|l| take(&mut room, self.fields(l.inputs))).collect();
            self.pack(psi, inputs[0]);
            for (l, pair) in layers.iter().zip(1..layers.len()) {
                let (before, after) = inputs.split_at_mut(pair);
                self.layer(*l, numbers, before[pair - 1], after[0]);
            }
            let (mut now, mut next) = room.split_at_mut(self.fields(widest));
            self.pack(grad, &mut now[..self.fields(1)]);
            let mut links = out.links;
            for (layer, source) in layers.iter().zip(inputs).rev() {
                let place = self.place(*layer);
                with_scratch::<T, _>(place.backward_room::<T>(), |room| {
                    let task = Backward {
                        place,
                        links: self.links,
                        numbers,
                        source,
                        grad: &now[..self.fields(layer.outputs)],
                        own: self.own(),
                        d_numbers: &mut *out.numbers,
                        d_source: &mut next[..self.fields(layer.inputs)],
                        d_links: links.as_deref_mut(),
                        room,
                    };
                    dispatch(self.level, task);
                });
                std::mem::swap(&mut now, &mut next);
            }
            self.unpack(&now[..self.fields(1)], out.psi);
        });
    }

    /// The first configuration, and the lanes that are not idle.
    fn own(&self) -> (usize, usize) {
        let lattice = &self.packing.geometry.lattice;
        let first = self.index * lattice.configurations();
        (first, (lattice.batch() - first).min(lattice.configurations()) * lattice.nodes())
    }
}

struct BlockGradients<'a, T> {
    psi: &'a mut [T],
    numbers: &'a mut [T],
    links: Option<&'a mut [T]>,
}

/// The network of a batch.
pub(super) fn forward<T: Element>(
    net: &TransportNet,
    links: &WilsonLinks,
    psi: &[T],
    numbers: &[T],
) -> Result<Vec<T>> {
    let packing = links.packing::<T>()?;
    let configurations = packing.geometry.lattice.configurations();
    let volume = packing.geometry.lattice.volume();
    let mut out = vec![T::default(); psi.len()];
    out.par_chunks_mut(configurations * 24 * volume)
        .enumerate()
        .for_each(|(index, out)| Block::new(&packing, index, net).forward(psi, numbers, out));
    Ok(out)
}

/// The gradients of Σ grad · output.
pub(super) fn backward<T: Element>(
    net: &TransportNet,
    links: &WilsonLinks,
    psi: &Tensor,
    numbers: &Tensor,
    grad: &Tensor,
    with_links: bool,
) -> Result<Gradients> {
    let packing = links.packing::<T>()?;
    let (geometry, lattice) = (packing.geometry, &packing.geometry.lattice);
    let (configurations, volume) = (lattice.configurations(), lattice.volume());
    let mut d_psi = vec![T::default(); psi.elem_count()];
    let mut d_numbers = vec![T::default(); numbers.elem_count()];
    let mut d_links = LaneField::<T>::zeros(lattice, if with_links { 4 * LINK } else { 0 });
    let site = d_links.components() * lanes_of::<T>();
    let link_block = site * lattice.node_volume();
    let mut run = |psi: &[T], numbers: &[T], grad: &[T]| {
        let chunk = configurations * volume;
        let fields =
            d_psi.par_chunks_mut(24 * chunk).zip(d_numbers.par_chunks_mut(net.coefficients() * chunk));
        let one = |index: usize, psi_out: &mut [T], numbers_out: &mut [T], links: Option<&mut [T]>| {
            let out = BlockGradients { psi: psi_out, numbers: numbers_out, links };
            Block::new(&packing, index, net).backward((psi, numbers, grad), out);
        };
        if with_links {
            let all = fields.zip(d_links.as_mut_slice().par_chunks_mut(link_block)).enumerate();
            all.for_each(|(i, ((p, n), u))| one(i, p, n, Some(u)));
        } else {
            fields.enumerate().for_each(|(i, (p, n))| one(i, p, n, None));
        }
    };
    with_slice::<T, _>(psi, |psi| {
        with_slice::<T, _>(numbers, |numbers| with_slice::<T, _>(grad, |grad| run(psi, numbers, grad)))
    })???;
    let tensor = |data: Vec<T>, like: &Tensor| Tensor::from_vec(data, like.shape(), &Device::Cpu);
    let links = if with_links {
        if links.antiperiodic() {
            change_sign(geometry, &mut d_links);
        }
        let shape = FieldShape::directions(4, volume, LINK);
        let mut out = vec![T::default(); lattice.batch() * shape.configuration];
        d_links.unpack(lattice, &shape, &mut out)?;
        Some(Tensor::from_vec(out, (lattice.batch(), 4, volume, 3, 3, 2), &Device::Cpu)?)
    } else {
        None
    };
    Ok(Gradients { fields: [tensor(d_psi, psi)?, tensor(d_numbers, numbers)?], links })
}
