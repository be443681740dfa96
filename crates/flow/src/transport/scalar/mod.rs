//! Vector fields on scalar fields: local functions, smeared by symmetric kernels and multiplied by local gates.
//!
//! ```text
//! v_x(φ) = g(φ_x, S_x) Σ_y K_r(x − y) h(φ_y, S_y),        S_y = Σ of the 2d nearest neighbours of φ_y
//! ∇·v = Σ_x ∂g_x (K_r h)_x + K_r(0) Σ_x g_x ∂h_x + Σ_μ K_r(μ̂) Σ_y ∂_S h_y (g_{y+μ̂} + g_{y−μ̂})
//! K_r(d) = 1 when (|d_1|, …, |d_D|) is the class r, else 0
//! ```
//!
//! A row of the table is a pair (g, h) and a radius: one field v for every class of displacements with |d_μ| ≤ R. Odd rows keep
//! φ → −φ, and every row the translations and reflections of the lattice. The coefficients know nothing of the lattice's size.

mod feature;
mod kernels;
mod local;

pub use feature::Feature;
pub use local::{Factor, Local, Wave};

use super::{Basis, Group};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use kernels::Kernels;
use latflow_lattice::{Lattice, sum_per_configuration};
use local::{Arguments, Evaluated};

/// The basis of a table of features, on fields `[B, V]`, f64.
#[derive(Debug, Clone)]
pub struct ScalarBasis {
    kernels: Kernels,
    groups: Vec<Group>,
    rows: Vec<Row>,
    /// Distinct local functions: gates, and sources.
    gates: Vec<Local>,
    sources: Vec<Local>,
    /// Which coefficient each row has for each class of displacements, `[rows · classes]`; n for none.
    layout: Tensor,
}

/// One feature: which gate and source, and the fields it owns.
#[derive(Debug, Clone)]
struct Row {
    gate: usize,
    source: usize,
    /// Number of its first field, and how many it has.
    first: usize,
    fields: usize,
    /// Which of its fields have the kernels of the origin and of the unit vectors.
    places: Vec<Option<usize>>,
    /// Eigenvalues of its kernels, `[V, fields]`.
    spectra: Tensor,
}

impl ScalarBasis {
    /// The fields of the given features on a lattice, in the order of the table.
    ///
    /// # Errors
    /// When the table is empty or the device fails.
    pub fn new(lattice: &Lattice, features: &[Feature], device: &Device) -> Result<Self> {
        let radius = features.iter().map(|f| f.radius).max();
        let radius = radius.ok_or(Error::Network {
            what: "features of a scalar basis",
            expected: "at least one",
            got: "none".into(),
        })?;
        let kernels = Kernels::new(lattice, radius, device)?;
        let (mut gates, mut sources): (Vec<Local>, Vec<Local>) = (Vec::new(), Vec::new());
        let (mut groups, mut rows): (Vec<Group>, Vec<Row>) = (Vec::new(), Vec::new());
        let (mut first, mut layout) = (0, Vec::new());
        for feature in features {
            let classes = kernels.within(feature.radius);
            let fields = classes.len();
            rows.push(Row {
                gate: position(&mut gates, feature.gate),
                source: position(&mut sources, feature.source),
                first,
                fields,
                places: kernels.nearby().map(|near| classes.iter().position(|c| Some(*c) == near)).collect(),
                spectra: kernels.spectra_of(&classes)?.t()?.contiguous()?,
            });
            match groups.last_mut() {
                Some(group) if group.name == feature.group => group.fields += fields,
                _ => groups.push(Group { name: feature.group.clone(), fields }),
            }
            layout.push(classes);
            first += fields;
        }
        let class_of = |row: &Row, classes: &[usize], class: usize| {
            classes.iter().position(|c| *c == class).map_or(first, |i| row.first + i) as u32
        };
        let layout: Vec<u32> = rows
            .iter()
            .zip(&layout)
            .flat_map(|(row, classes)| (0..kernels.classes()).map(move |c| class_of(row, classes, c)))
            .collect();
        let layout = Tensor::from_vec(layout, rows.len() * kernels.classes(), device)?;
        Ok(Self { kernels, groups, rows, gates, sources, layout })
    }

    fn evaluate(&self, phi: &Tensor) -> Result<(Vec<Evaluated>, Vec<Evaluated>)> {
        if phi.rank() != 2 || phi.dim(1)? != self.kernels.volume() {
            return Err(Error::Shape {
                what: "scalar field",
                expected: format!("[B, {}]", self.kernels.volume()),
                got: phi.dims().to_vec(),
            });
        }
        let sums = self.kernels.neighbours(phi)?;
        let arguments = Arguments::new(phi, &sums, self.gates.iter().chain(&self.sources))?;
        let all =
            |functions: &[Local]| functions.iter().map(|f| arguments.evaluate(f)).collect::<Result<_>>();
        Ok((all(&self.gates)?, all(&self.sources)?))
    }

    /// H h for every distinct source, `[B, V]` each.
    fn transformed(&self, phi: &Tensor, sources: &[Evaluated]) -> Result<Vec<Tensor>> {
        let value = |s: &Evaluated| s.value.clone().map_or_else(|| Ok(phi.ones_like()?), Ok);
        let values = sources.iter().map(value).collect::<Result<Vec<_>>>()?;
        let all = self.kernels.hartley(&Tensor::stack(&values, 0)?)?;
        (0..sources.len()).map(|s| Ok(all.get(s)?)).collect()
    }

    /// The terms of a row's divergence that come from ∂h/∂φ: the number of a field of the row and what it adds, `[B]`.
    fn contact(&self, row: &Row, gates: &[Evaluated], sources: &[Evaluated]) -> Result<Vec<(usize, Tensor)>> {
        let (gate, source) = (&gates[row.gate].value, &sources[row.source]);
        let mut terms = Vec::new();
        for (place, field) in row.places.iter().enumerate() {
            let Some(field) = *field else { continue };
            let term = match (place.checked_sub(1), &source.by_field, &source.by_sum) {
                (None, Some(by_field), _) => sum_per_configuration(&times(gate, by_field)?)?,
                (Some(mu), _, Some(by_sum)) => match gate {
                    Some(gate) => sum_per_configuration(&(by_sum * self.kernels.both_sides(gate, mu)?)?)?,
                    None => (sum_per_configuration(by_sum)? * 2.0)?,
                },
                _ => continue,
            };
            terms.push((field, term));
        }
        Ok(terms)
    }
}

impl Basis<Tensor> for ScalarBasis {
    fn groups(&self) -> &[Group] {
        &self.groups
    }

    fn combine(&self, phi: &Tensor, coefficients: &Tensor) -> Result<(Tensor, Tensor)> {
        if coefficients.dims() != [self.count()] {
            return Err(Error::Shape {
                what: "coefficients of a velocity",
                expected: format!("[{}]", self.count()),
                got: coefficients.dims().to_vec(),
            });
        }
        let (gates, sources) = self.evaluate(phi)?;
        let transformed = self.transformed(phi, &sources)?;
        // One sum in momentum space for every distinct gate.
        let mut smeared: Vec<Option<Tensor>> = vec![None; gates.len()];
        let mut divergence = Tensor::zeros(phi.dim(0)?, DType::F64, phi.device())?;
        let padded = Tensor::cat(&[coefficients, &coefficients.zeros_like()?.narrow(0, 0, 1)?], 0)?;
        let table = padded.index_select(&self.layout, 0)?;
        let spectra = self.kernels.spectra(&table.reshape((self.rows.len(), self.kernels.classes()))?)?;
        for (r, row) in self.rows.iter().enumerate() {
            let term = transformed[row.source].broadcast_mul(&spectra.get(r)?)?;
            smeared[row.gate] = Some(match smeared[row.gate].take() {
                Some(sum) => (sum + term)?,
                None => term,
            });
            for (field, term) in self.contact(row, &gates, &sources)? {
                let c = coefficients.narrow(0, row.first + field, 1)?;
                divergence = (divergence + term.broadcast_mul(&c)?)?;
            }
        }
        let smeared = Tensor::stack(&smeared.into_iter().flatten().collect::<Vec<_>>(), 0)?;
        let smeared = self.kernels.hartley(&smeared)?;
        let mut velocity = phi.zeros_like()?;
        for (g, gate) in gates.iter().enumerate() {
            let field = smeared.get(g)?;
            if let Some(slope) = &gate.by_field {
                divergence = (divergence + sum_per_configuration(&(slope * &field)?)?)?;
            }
            velocity = (velocity + times(&gate.value, &field)?)?;
        }
        Ok((velocity, divergence))
    }

    fn stein(&self, phi: &Tensor, u: &Tensor) -> Result<Tensor> {
        let (phi, against) = (phi.detach(), u.detach().neg()?);
        let (gates, sources) = self.evaluate(&phi)?;
        let transformed = self.transformed(&phi, &sources)?;
        let against = gates.iter().map(|gate| {
            let projected = times(&gate.value, &against)?;
            Ok(match &gate.by_field {
                Some(slope) => (projected + slope)?,
                None => projected,
            })
        });
        let against = self.kernels.hartley(&Tensor::stack(&against.collect::<Result<Vec<_>>>()?, 0)?)?;
        let mut columns = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let correlated = (against.get(row.gate)? * &transformed[row.source])?;
            let mut column = correlated.matmul(&row.spectra)?;
            for (field, term) in self.contact(row, &gates, &sources)? {
                let unit: Vec<f64> = (0..row.fields).map(|f| f64::from(u8::from(f == field))).collect();
                let unit = Tensor::from_vec(unit, (1, row.fields), phi.device())?;
                column = (column + term.unsqueeze(1)?.broadcast_mul(&unit)?)?;
            }
            columns.push(column);
        }
        Ok(Tensor::cat(&columns, 1)?)
    }
}

/// f t, where no f is 1.
fn times(f: &Option<Tensor>, t: &Tensor) -> Result<Tensor> {
    match f {
        Some(f) => Ok((f * t)?),
        None => Ok(t.clone()),
    }
}

/// Where a function stands in a list, at the end if it was not there.
fn position(list: &mut Vec<Local>, function: Local) -> usize {
    list.iter().position(|f| *f == function).unwrap_or_else(|| {
        list.push(function);
        list.len() - 1
    })
}
