//! `latflow measure CFG FIELD`: everything about one given field, as JSON.

use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};

use crate::config::{COLOURS, Config, Theory};
use crate::io::gauge::{ReadOptions, read_gauge};
use crate::io::read_npy;
use crate::session::note;
use crate::theory::{AnyTheory, any_theory};

/// The measurements of the field in a file, with the digits that f64 needs to come back exactly: NPY of the lattice's shape for
/// a scalar field, ILDG, SciDAC or NERSC for links.
///
/// # Errors
/// When the file is not such a field, or the Dirac operator is singular there.
pub(crate) fn measure(config: &Config, field: &Path) -> Result<String> {
    let field_name = field.display().to_string();
    let mut full = config.clone();
    if let Theory::Yukawa(parameters) = &mut full.action {
        // Even/odd preconditioning changes nothing here and may be singular where D is not.
        parameters.even_odd = false;
    }
    let values = match any_theory(&full, &Device::Cpu, None)? {
        AnyTheory::Scalar(theory) => {
            let array = read_npy(field, Some(&config.lattice.dims))?;
            let n = array.data.len();
            let phi = Tensor::from_vec(array.data, (1, n), &Device::Cpu)?;
            theory.measure(&phi)
        }
        AnyTheory::Gauge(theory) => {
            let dims = <[usize; 4]>::try_from(&config.lattice.dims[..]).context("QCD has four directions")?;
            // A file that does not say its extents has those of the configuration.
            let given = ReadOptions { dims: Some(dims), ..ReadOptions::default() };
            let file = read_gauge(field, &ReadOptions::default()).or_else(|_| read_gauge(field, &given))?;
            file.warnings.iter().for_each(|warning| note(&format!("warning: {field_name}: {warning}")));
            if file.field.dims() != dims {
                bail!("{field_name}: expected extents {dims:?} (lattice.dims), got {:?}", file.field.dims());
            }
            if file.field.n_colours() != COLOURS {
                bail!("{field_name}: expected links of SU({COLOURS}), got SU({})", file.field.n_colours());
            }
            theory.measure(&file.field.to_links(&Device::Cpu)?)
        }
    };
    let values = values.with_context(|| field_name.clone())?;
    if let Some((name, value)) = values.iter().find(|(_, value)| value.is_null()) {
        bail!("{field_name}: {name} is not a finite number ({value}): the field is out of the range of f64");
    }
    Ok(serde_json::to_string_pretty(&values)?)
}
