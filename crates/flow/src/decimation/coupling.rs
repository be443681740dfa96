//! One stage of a decimation flow: an autoregressive coupling whose active sites follow one-dimensional Boltzmann densities.
//!
//! ```text
//! φ_x ~ q(·|θ(x)) for active x,    log q(φ|θ) = Σ_n θ_n (φ/s)^n − log z(θ),   n = 1 … N
//! θ_n(x) = base_n [n even] + δ_{n1} s [ Σ_y κ(x − y) φ_y + J(x) ] + network_n(x)       y: sites filled before
//! log |det| = Σ_active [ log N(z_x) − log q(φ_x|θ) ],   z ~ N(0, 1)
//! ```
//!
//! s is the width of the grid in units that make all powers matter alike. Odd θ_n are odd and even θ_n even under φ → −φ: the network is evaluated on φ and on −φ. κ depends on (|d_1|, |d_2|).

use super::Stage;
use crate::{Bijection, ContextNet, Error, NetShape, ParamStore, Result};
use candle_core::{DType, Tensor};
use candle_nn::Module;
use latflow_kernels::{SiteDensity, Stencil};
use latflow_lattice::{Lattice, sum_per_configuration};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a stage starts: the density of a site in an external field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LocalPotential {
    /// Coefficient of φ² in the action.
    pub quadratic: f64,
    /// Coefficient of φ⁴ in the action.
    pub quartic: f64,
    /// The finest level starts with the field `hopping` · Σ of the nearest neighbours.
    pub hopping: f64,
}

impl LocalPotential {
    /// ⟨φ²⟩ of a site on its own.
    ///
    /// # Errors
    /// When there is no density.
    pub(super) fn variance(&self) -> Result<f64> {
        let cutoff = self.cutoff(0)?;
        let weight = |x: f64| (-self.quartic * x.powi(4) - self.quadratic * x * x).exp();
        let points = (1..4000).map(|i| cutoff * f64::from(i) / 4000.0);
        let (mut norm, mut square) = (0.5 * weight(0.0), 0.0);
        for x in points {
            norm += weight(x);
            square += weight(x) * x * x;
        }
        Ok(square / norm)
    }

    /// The |φ| beyond which the one-site density is below e^{−40} of its maximum, in a field of `neighbours` sites at the
    /// same height:
    ///
    /// ```text
    /// λ φ⁴ + b φ² = min + 40,   b = a − |h| n
    /// ```
    ///
    /// Without λ φ⁴ that field may be stronger than the well; but |h| φ_x φ_y ≤ |h| (φ_x² + φ_y²)/2, so that b = a − |h| n/2
    /// bounds the joint density there.
    fn cutoff(&self, neighbours: usize) -> Result<f64> {
        let (field, quartic) = (self.hopping.abs() * neighbours as f64, self.quartic);
        let b = if quartic == 0.0 { self.quadratic - 0.5 * field } else { self.quadratic - field };
        let root = if b < 0.0 { (160.0 * quartic).sqrt() } else { (b * b + 160.0 * quartic).sqrt() };
        // Of the two forms of the solution the one without cancellation.
        let square = if b < 0.0 { (root - b) / (2.0 * quartic) } else { 80.0 / (root + b) };
        if !(quartic >= 0.0 && square > 0.0 && square.is_finite()) {
            return Err(Error::Parameter {
                name: "quartic coefficient of a local potential",
                value: quartic,
                expected: "a density: above 0, or 0 with a quadratic coefficient above half of all hopping",
            });
        }
        // Rounded up to a grid, so that the last digits of a potential do not matter.
        Ok(CUTOFF_UNIT * ((square.sqrt() / CUTOFF_UNIT).floor() + 1.0))
    }
}

/// Resolution of the cutoff in φ.
const CUTOFF_UNIT: f64 = 0.005;

/// The constants are stored in these units: they are larger than everything else that is trained, and have as far to go.
const BASE_UNIT: f64 = 4.0;

/// Where the grid ends in units of s.
const CUTOFF: f64 = 1.8;

/// Architecture of a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteShape {
    /// The context network; `None` leaves the linear field alone.
    pub net: Option<NetShape>,
    /// Largest displacement of the linear field κ in each direction, in lattice units.
    pub radius: usize,
    /// Largest power N in the exponent; even.
    pub powers: u32,
    /// Cells of the grid on which densities are interpolated.
    pub cells: usize,
}

/// A field J(x) on the active sites that depends on the sites filled before and on a condition.
pub trait LocalField: std::fmt::Debug + Send + Sync {
    /// J `[B, V]` for φ `[B, V]`, of which only the sites filled before may be used, and the condition.
    ///
    /// # Errors
    /// When the fields do not fit.
    fn local_field(&self, phi: &Tensor, condition: &Tensor) -> Result<Tensor>;
}

/// The layer on fields `[B, V]`, f64. Active sites should come from N(0, 1): a prior of σ = √2 in the paper's convention.
#[derive(Debug, Clone)]
pub struct SiteCoupling {
    density: SiteDensity,
    powers: u32,
    /// s
    scale: f64,
    base: Tensor,
    linear: Option<Linear>,
    net: Option<ContextNet>,
    source: Option<Arc<dyn LocalField>>,
    /// Sites of the sublattice, of the active ones among them, and of all in the lattice.
    sublattice: Tensor,
    active_positions: Tensor,
    active: Tensor,
    /// Where each site comes from in [field, new active values].
    merge: Tensor,
    visible: Tensor,
}

/// κ, one number a class of displacements.
#[derive(Debug, Clone)]
struct Linear {
    coefficients: Tensor,
    /// Which pairs (visible position, active) belong to which class: `[classes, sublattice · active]`.
    classes: Tensor,
    shape: (usize, usize),
}

impl SiteCoupling {
    /// The layer of one stage; the parameters are called `name`. It starts with the density of `potential`: on the finest
    /// level the heat bath of the action, on the others independent sites.
    ///
    /// # Errors
    /// When the network does not fit, the name is taken, `powers` is odd or below 4, or `potential` is not bounded below.
    pub fn new(
        store: &mut ParamStore,
        name: &str,
        lattice: &Lattice,
        stage: &Stage,
        shape: &SiteShape,
        potential: LocalPotential,
    ) -> Result<Self> {
        if shape.powers < 4 || !shape.powers.is_multiple_of(2) {
            return Err(Error::Parameter {
                name: "powers",
                value: f64::from(shape.powers),
                expected: "an even number of at least 4",
            });
        }
        let powers: Vec<u32> = (1..=shape.powers).collect();
        let cutoff = potential.cutoff(2 * lattice.ndim())?;
        let scale = cutoff / CUTOFF;
        let density = SiteDensity::new(CUTOFF, shape.cells, &powers)?;
        // Even powers only: a constant odd one would break φ → −φ.
        let base = store.create(&format!("{name}/base"), &[powers.len() / 2], |_| {
            let mut base = vec![0.0; powers.len() / 2];
            (base[0], base[1]) = (-potential.quadratic * scale.powi(2), -potential.quartic * scale.powi(4));
            base.iter_mut().for_each(|b| *b /= BASE_UNIT);
            base
        })?;
        let device = store.device().clone();
        let any_visible = stage.visible.contains(&true);
        let linear = match any_visible {
            true => Linear::new(store, name, lattice, stage, shape.radius, potential.hopping)?,
            false => None,
        };
        let net = match &shape.net {
            Some(net) if any_visible => {
                let radius = (net.kernel / 2) as isize;
                let stencil = Stencil::new(stage.sublattice.len(), stage.neighbours(lattice, radius), None)?;
                Some(ContextNet::on_stencil(store, &format!("{name}/net"), stencil, 1, powers.len(), net)?)
            }
            _ => None,
        };
        let index = |sites: &[usize]| -> Result<Tensor> {
            let sites: Vec<u32> = sites.iter().map(|&s| s as u32).collect();
            let n = sites.len();
            Ok(Tensor::from_vec(sites, n, &device)?)
        };
        let active_sites = stage.active_sites();
        let mut merge: Vec<usize> = (0..lattice.volume()).collect();
        for (i, &site) in active_sites.iter().enumerate() {
            merge[site] = lattice.volume() + i;
        }
        let visible: Vec<f64> = stage.visible.iter().map(|v| f64::from(u8::from(*v))).collect();
        Ok(Self {
            density,
            powers: shape.powers,
            scale,
            base,
            linear,
            net,
            source: None,
            sublattice: index(&stage.sublattice)?,
            active_positions: index(&stage.active)?,
            active: index(&active_sites)?,
            merge: index(&merge)?,
            visible: Tensor::from_vec(visible, stage.visible.len(), &device)?,
        })
    }

    /// Adds J to θ_1 whenever the layer is used with a condition.
    #[must_use]
    pub fn with_source(mut self, source: Arc<dyn LocalField>) -> Self {
        self.source = Some(source);
        self
    }

    /// θ on the active sites, `[B, active, N]`.
    fn parameters(&self, x: &Tensor, condition: Option<&Tensor>) -> Result<Tensor> {
        let (batch, active) = (x.dim(0)?, self.active.dim(0)?);
        let visible = x.index_select(&self.sublattice, 1)?.broadcast_mul(&self.visible)?;
        let n = self.powers as usize;
        let even = (self.base.to_dtype(DType::F64)?.unsqueeze(1)? * BASE_UNIT)?;
        let base = Tensor::cat(&[&even.zeros_like()?, &even], 1)?.flatten_all()?;
        let mut theta = base.broadcast_as((batch, active, n))?;
        if let Some(net) = &self.net {
            let both = Tensor::cat(&[&visible, &visible.neg()?], 0)?.unsqueeze(2)?;
            let out = net.forward(&both)?.to_dtype(DType::F64)?.index_select(&self.active_positions, 1)?;
            let (plus, minus) = (out.narrow(0, 0, batch)?, out.narrow(0, batch, batch)?);
            let parity: Vec<f64> = (1..=n).map(|n| if n % 2 == 1 { -0.5 } else { 0.5 }).collect();
            let parity = Tensor::from_vec(parity, n, x.device())?;
            theta = ((theta + (plus * 0.5)?)? + minus.broadcast_mul(&parity)?)?;
        }
        let mut field = match &self.linear {
            Some(linear) => Some(visible.matmul(&linear.matrix()?)?),
            None => None,
        };
        if let (Some(source), Some(condition)) = (&self.source, condition) {
            let j = source.local_field(x, condition)?.index_select(&self.active, 1)?;
            field = Some(match field {
                Some(field) => (field + j)?,
                None => j,
            });
        }
        if let Some(field) = field {
            let field = (field * self.scale)?.unsqueeze(2)?;
            let rest = Tensor::zeros((batch, active, n - 1), DType::F64, x.device())?;
            theta = (theta + Tensor::cat(&[&field, &rest], 2)?)?;
        }
        Ok(theta.contiguous()?)
    }

    /// log s of all active sites.
    fn log_scale(&self) -> f64 {
        self.scale.ln() * self.active.elem_count() as f64
    }

    fn merged(&self, x: &Tensor, active: &Tensor) -> Result<Tensor> {
        Ok(Tensor::cat(&[x, active], 1)?.index_select(&self.merge, 1)?)
    }

    fn fill(&self, z: &Tensor, condition: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let theta = self.parameters(z, condition)?;
        let normal = z.index_select(&self.active, 1)?;
        let (x, log_q) = self.density.sample(&normal, &theta)?;
        let log_det_jacobian = sum_per_configuration(&(log_normal(&normal)? - log_q)?)?;
        Ok((self.merged(z, &(x * self.scale)?)?, (log_det_jacobian + self.log_scale())?))
    }

    fn empty(&self, x: &Tensor, condition: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let theta = self.parameters(x, condition)?;
        let active = x.index_select(&self.active, 1)?;
        let (normal, log_q) = self.density.normalize(&(active / self.scale)?, &theta)?;
        let log_det_jacobian = sum_per_configuration(&(log_q - log_normal(&normal)?)?)?;
        Ok((self.merged(x, &normal)?, (log_det_jacobian - self.log_scale())?))
    }
}

/// log N(z; 0, 1).
fn log_normal(z: &Tensor) -> Result<Tensor> {
    Ok(z.sqr()?.affine(-0.5, -0.5 * (2.0 * std::f64::consts::PI).ln())?)
}

impl Linear {
    /// `None` when no visible site is within the radius.
    fn new(
        store: &mut ParamStore,
        name: &str,
        lattice: &Lattice,
        stage: &Stage,
        radius: usize,
        hopping: f64,
    ) -> Result<Option<Self>> {
        let (n, m) = (stage.sublattice.len(), stage.active.len());
        let mut classes: BTreeMap<[usize; 2], Vec<usize>> = BTreeMap::new();
        for (j, &a) in stage.active.iter().enumerate() {
            let to = lattice.coordinates(stage.sublattice[a]);
            for (i, _) in stage.visible.iter().enumerate().filter(|(_, visible)| **visible) {
                let from = lattice.coordinates(stage.sublattice[i]);
                let class = [0, 1].map(|mu| {
                    let d = to[mu].abs_diff(from[mu]);
                    d.min(lattice.dims()[mu] - d)
                });
                if class.iter().all(|d| *d <= radius) {
                    classes.entry(class).or_default().push(i * m + j);
                }
            }
        }
        if classes.is_empty() {
            return Ok(None);
        }
        let start: Vec<f64> = classes
            .keys()
            .map(|d| if stage.level == 0 && d[0] + d[1] == 1 { hopping } else { 0.0 })
            .collect();
        let count = classes.len();
        let mut table = vec![0.0; count * n * m];
        for (row, members) in table.chunks_exact_mut(n * m).zip(classes.values()) {
            members.iter().for_each(|&i| row[i] = 1.0);
        }
        let coefficients = store.create(&format!("{name}/linear"), &[count], |_| start)?;
        let classes = Tensor::from_vec(table, (count, n * m), store.device())?;
        Ok(Some(Self { coefficients, classes, shape: (n, m) }))
    }

    /// κ as a matrix from the sublattice to the active sites.
    fn matrix(&self) -> Result<Tensor> {
        let c = self.coefficients.to_dtype(DType::F64)?.unsqueeze(0)?;
        Ok(c.matmul(&self.classes)?.reshape(self.shape)?)
    }
}

impl Bijection<Tensor> for SiteCoupling {
    fn forward(&self, z: &Tensor, (): &()) -> Result<(Tensor, Tensor)> {
        self.fill(z, None)
    }

    fn inverse(&self, x: &Tensor, (): &()) -> Result<(Tensor, Tensor)> {
        self.empty(x, None)
    }
}

impl Bijection<Tensor, Tensor> for SiteCoupling {
    fn forward(&self, z: &Tensor, condition: &Tensor) -> Result<(Tensor, Tensor)> {
        self.fill(z, Some(condition))
    }

    fn inverse(&self, x: &Tensor, condition: &Tensor) -> Result<(Tensor, Tensor)> {
        self.empty(x, Some(condition))
    }
}
