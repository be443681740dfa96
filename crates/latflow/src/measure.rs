//! `latflow measure CFG FIELD.npy`: everything about one given field, as JSON.

use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};

use crate::config::Config;
use crate::io::read_npy;
use crate::theory::theory;

/// The measurements of the field in an NPY file of the lattice's shape, with the digits that f64 needs to come back exactly.
///
/// # Errors
/// When the file is not such a field, or the Dirac operator is singular there.
pub(crate) fn measure(config: &Config, field: &Path) -> Result<String> {
    let field_name = field.display().to_string();
    let array = read_npy(field, Some(&config.lattice.dims))?;
    let n = array.data.len();
    let phi = Tensor::from_vec(array.data, (1, n), &Device::Cpu)?;
    // Even/odd preconditioning changes nothing here and may be singular where D is not.
    let mut full = config.clone();
    let crate::config::Theory::Yukawa(parameters) = &mut full.action;
    parameters.even_odd = false;
    let values = theory(&full, &Device::Cpu)?.measure(&phi).with_context(|| field_name.clone())?;
    if let Some((name, value)) = values.iter().find(|(_, value)| value.is_null()) {
        anyhow::bail!(
            "{field_name}: {name} is not a finite number ({value}): the field is out of the range of f64"
        );
    }
    Ok(serde_json::to_string_pretty(&values)?)
}
