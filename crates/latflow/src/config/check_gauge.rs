//! Values of the gauge theories' sections that parse but make no sense.

use super::check::{Checked, at_least_one, positive, require, tolerance};
use super::gauge::{DETERMINANT_SITES, KAPPA_BOUND};
use super::{Config, FermionTreatment, Measure, Qcd, Update};

/// Everything that depends on the theory being QCD.
pub(super) fn qcd(config: &Config, action: &Qcd) -> Checked {
    let dims = &config.lattice.dims;
    require(
        dims.len() == 4,
        "lattice.dims",
        format!("has {} directions, and QCD lives in four", dims.len()),
        "four even extents x, y, z, t, such as [4, 4, 4, 4]",
    )?;
    require(action.beta.is_finite(), "action.qcd.beta", "is not a finite number", "finite numbers")?;
    require(
        matches!(action.n_f, 0 | 2),
        "action.qcd.n_f",
        "flavours come in degenerate pairs, and one pair is implemented",
        "0 (pure gauge theory) or 2",
    )?;
    kappa(action)?;
    hasenbusch(action)?;
    let hmc = &config.hmc;
    require(
        action.n_f == 0 || hmc.fermions != FermionTreatment::None,
        "hmc.fermions",
        format!("leaves out the {} flavours that action.qcd.n_f asks for", action.n_f),
        "pseudofermion, determinant, or action.qcd.n_f = 0",
    )?;
    require(
        hmc.method != Update::HeatBath || action.beta >= 0.0,
        "action.qcd.beta",
        "the heat bath draws from e^{β …} with β ≥ 0",
        "numbers from 0, or hmc.method = \"hmc\"",
    )?;
    let exact = [
        ("hmc.method", hmc.method == Update::HeatBath),
        (
            "hmc.fermions",
            matches!(hmc.method, Update::Hmc | Update::Transformed)
                && hmc.fermions == FermionTreatment::Determinant,
        ),
        ("flow.exact", hmc.method == Update::Flow && config.flow.exact),
    ];
    for (key, _) in exact.into_iter().filter(|(_, exact)| *exact && action.n_f > 0) {
        require(
            dims.iter().product::<usize>() <= DETERMINANT_SITES,
            key,
            format!("needs the exact determinant, which takes gigabytes on {dims:?}"),
            format!("lattices of at most {DETERMINANT_SITES} sites, or pseudofermions"),
        )?;
    }
    require(
        hmc.substeps.is_empty() || action.n_f > 0,
        "hmc.substeps",
        "divides the steps of fermions, and action.qcd.n_f is 0",
        "[]",
    )?;
    measure(&config.measure)
}

fn kappa(action: &Qcd) -> Checked {
    let key = "action.qcd.kappa";
    let allowed = "0 ≤ kappa < 0.25";
    match action.kappa {
        None => require(action.n_f == 0, key, "is missing: n_f = 2 flavours have a mass", allowed),
        Some(kappa) => require(
            (0.0..KAPPA_BOUND).contains(&kappa),
            key,
            "is no hopping parameter of a positive quark mass at any coupling",
            allowed,
        ),
    }
}

fn hasenbusch(action: &Qcd) -> Checked {
    let (heavy, light) = (action.hasenbusch, action.kappa.unwrap_or(0.0));
    require(
        heavy.is_none_or(|heavy| heavy > 0.0 && heavy < light),
        "action.qcd.hasenbusch",
        "is no hopping parameter of heavier quarks than those of action.qcd.kappa",
        "0 < hasenbusch < kappa",
    )
}

fn measure(measure: &Measure) -> Checked {
    positive(measure.flow_time, "measure.flow_time")?;
    tolerance(measure.flow_tolerance, "measure.flow_tolerance")?;
    tolerance(measure.solver_tolerance, "measure.solver_tolerance")?;
    at_least_one(measure.solver_iterations as u64, "measure.solver_iterations")
}

/// What only links have, in the configuration of another field.
pub(super) fn no_links(config: &Config) -> Checked {
    require(
        config.hmc.method == Update::Hmc,
        "hmc.method",
        "the heat bath moves links, and this theory has none",
        "\"hmc\", or [action.qcd]",
    )?;
    require(
        config.hmc.save_every == 0,
        "hmc.save_every",
        "ILDG files hold gauge fields, and this theory has none",
        "0, or [action.qcd]",
    )
}
