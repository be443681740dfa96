//! One sub-step: the links of one direction on sites of one parity.

use super::ResidualShape;
use super::algebra::Algebra;
use super::links::{ActiveLinks, FEATURES, Plane, frozen_features, total};
use super::step::Frozen;
use crate::transport::checkpoint::{Segment, checkpointed};
use crate::{Bijection, Error, ParamStore, Result};
use candle_core::{DType, Tensor};
use latflow_lattice::{Configuration, Lattice, Links, Parity};
use rand_distr::{Distribution, StandardNormal};
use std::sync::Arc;

/// The layer and its parameters.
pub(super) struct ResidualLayer {
    map: Arc<Map>,
    lattice: Lattice,
    /// Pieces of the flat parameter vector, in the order of `Map::parameters`.
    parameters: Vec<Tensor>,
}

/// Everything but the parameters.
struct Map {
    links: ActiveLinks,
    algebra: Algebra,
    n: usize,
    planes: usize,
    quadratic: bool,
    hidden: usize,
}

impl ResidualLayer {
    pub(super) fn new(
        store: &mut ParamStore,
        name: &str,
        lattice: &Lattice,
        n: usize,
        mu: usize,
        parity: Parity,
        shape: ResidualShape,
    ) -> Result<Self> {
        let (planes, hidden, device) = (lattice.ndim() - 1, shape.hidden, store.device().clone());
        let mut parameters =
            vec![store.create(&format!("{name}.weights"), &[planes], |_| vec![shape.weight; planes])?];
        if shape.quadratic {
            parameters.push(store.create(&format!("{name}.quadratic"), &[3], |_| vec![0.0; 3])?);
        }
        if hidden > 0 {
            let inputs = hidden * FEATURES;
            parameters.push(store.create(&format!("{name}.in"), &[hidden, FEATURES], |rng| {
                (0..inputs).map(|_| Distribution::<f64>::sample(&StandardNormal, rng)).collect()
            })?);
            parameters.push(store.create(&format!("{name}.bias"), &[hidden], |_| vec![0.0; hidden])?);
            parameters.push(store.create(&format!("{name}.out"), &[hidden], |_| vec![0.0; hidden])?);
        }
        let map = Map {
            links: ActiveLinks::new(lattice, mu, parity, &device)?,
            algebra: Algebra::new(n, &device)?,
            n,
            planes,
            quadratic: shape.quadratic,
            hidden,
        };
        Ok(Self { map: Arc::new(map), lattice: lattice.clone(), parameters })
    }

    fn run(&self, links: &Links, forward: bool) -> Result<(Links, Tensor)> {
        links.check(&self.lattice)?;
        if links.colours() != self.map.n {
            return Err(Error::Shape {
                what: "links of a residual flow",
                expected: format!("[B, {}, {}, {n}, {n}, 2]", links.ndim(), links.volume(), n = self.map.n),
                got: links.tensor().dims().to_vec(),
            });
        }
        let flat =
            self.parameters.iter().map(Tensor::flatten_all).collect::<candle_core::Result<Vec<_>>>()?;
        let parameters = Tensor::cat(&flat, 0)?;
        let shape = links.tensor().dims().to_vec();
        let (d, v, n) = (shape[1], shape[2], self.map.n);
        let state = links.tensor().flatten_from(1)?;
        let pass = Pass { map: self.map.clone(), links: [d * v, n], forward };
        let value = pass.run(&state.detach(), &parameters.detach())?;
        let packed = checkpointed(pass, &state, &parameters, &value)?;
        let numbers = state.dims()[1];
        let moved = packed.narrow(1, 0, numbers)?.contiguous()?.reshape(shape)?;
        Ok((Links::new(moved)?, packed.narrow(1, numbers, 1)?.squeeze(1)?))
    }
}

impl Bijection<Links> for ResidualLayer {
    fn forward(&self, z: &Links, (): &()) -> Result<(Links, Tensor)> {
        self.run(z, true)
    }

    fn inverse(&self, x: &Links, (): &()) -> Result<(Links, Tensor)> {
        self.run(x, false)
    }
}

impl Map {
    /// What the active links see.
    fn frozen(&self, planes: &[Plane], parameters: &Tensor) -> Result<Frozen> {
        let mut used = 0;
        let mut take = |count: usize| -> Result<Tensor> {
            used += count;
            Ok(parameters.narrow(0, used - count, count)?)
        };
        let weights = take(self.planes)?;
        let q = if self.quadratic { Some(take(3)?) } else { None };
        let network = match self.hidden {
            0 => None,
            h => Some((take(h * FEATURES)?.reshape((h, FEATURES))?, take(h)?, take(h)?.reshape((h, 1))?)),
        };
        let features = if network.is_some() { frozen_features(planes)? } else { Vec::new() };
        let mut a = planes[0][0].zeros_like()?;
        for (nu, [ahead, behind]) in planes.iter().enumerate() {
            let mut c = weights.narrow(0, nu, 1)?.reshape((1, 1))?;
            if let Some((input, bias, out)) = &network {
                let hidden = features[nu].matmul(&input.t()?)?.broadcast_add(bias)?.tanh()?;
                c = hidden.matmul(out)?.broadcast_add(&c)?;
            }
            a = (a + (ahead + behind)?.broadcast_mul(&c.unsqueeze(2)?.unsqueeze(3)?)?)?;
        }
        let quadratic = match q {
            None => None,
            Some(q) => Some((total(planes)?, [q.get(0)?, q.get(1)?, q.get(2)?])),
        };
        Ok(Frozen { a, quadratic })
    }
}

/// One way through the layer.
struct Pass {
    map: Arc<Map>,
    /// Links d V and colours N.
    links: [usize; 2],
    forward: bool,
}

impl Segment for Pass {
    /// Links `[B, d V N² 2]` → the same with log |det| behind.
    fn run(&self, state: &Tensor, parameters: &Tensor) -> Result<Tensor> {
        let ([links, n], map) = (self.links, &self.map);
        let batch = state.batch()?;
        let u = state.reshape((batch, links, n, n, 2))?;
        let frozen = map.frozen(&map.links.staples(&u)?, &parameters.to_dtype(DType::F64)?)?;
        frozen.check(n)?;
        let active = map.links.active(&u)?;
        let (active, log_det) = if self.forward {
            frozen.forward(&map.algebra, &active)?
        } else {
            let start = frozen.inverse(&map.algebra, &active)?;
            let log_det = frozen.forward(&map.algebra, &start)?.1.neg()?;
            (start, log_det)
        };
        let log_det = log_det.reshape((batch, map.links.count()))?.sum_keepdim(1)?;
        let moved = map.links.merge(&u, &active)?.flatten_from(1)?;
        Ok(Tensor::cat(&[moved, log_det], 1)?)
    }
}
