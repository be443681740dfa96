//! The sections of gauge theories: `[action.qcd]`, and `[measure]`, what is measured on links and how often.

use serde::{Deserialize, Serialize};

use super::FermionBoundary;

/// Colours of QCD.
pub(crate) const COLOURS: usize = 3;
/// Sites of the largest lattice whose Wilson determinant is computed exactly: about 4 GiB a configuration.
pub(crate) const DETERMINANT_SITES: usize = 2592;
/// At this hopping parameter the quarks of the strong coupling limit are massless; they are lighter at every other coupling.
pub(super) const KAPPA_BOUND: f64 = 0.25;

/// `[action.qcd]`: SU(3) in four dimensions with the Wilson action and two or no flavours of Wilson fermions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qcd {
    /// Inverse coupling β of S = −(β/3) Σ Re tr P.
    pub beta: f64,
    /// Flavours in the sea: 2, or 0 for the pure gauge theory.
    pub n_f: u32,
    /// Hopping parameter κ of D = 1 − κH. Without flavours it is that of the quarks that are measured, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kappa: Option<f64>,
    /// Fermion boundary condition in time.
    #[serde(default)]
    pub fermion_boundary: FermionBoundary,
    /// Sample with the even/odd preconditioned determinant; the distribution is the same.
    #[serde(default = "yes")]
    pub even_odd: bool,
    /// A smaller hopping parameter, of heavy quarks that split the determinant into two factors with a pseudofermion each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hasenbusch: Option<f64>,
}

fn yes() -> bool {
    true
}

/// `[measure]`: what hybrid Monte Carlo and heat bath measure on gauge fields. The plaquette, the Polyakov loop and the
/// topological charge as they are cost nothing and are always measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Measure {
    /// Measurements from one pion correlator to the next; 0 for none.
    pub pion_every: u64,
    /// Measurements from one Wilson flow to the next; 0 for none.
    pub flow_every: u64,
    /// Flow time t/a² at which the topological charge is taken.
    pub flow_time: f64,
    /// Largest change of a matrix element from the second to the third order in one step of the flow's integrator.
    pub flow_tolerance: f64,
    /// Relative residual of the quark propagators.
    pub solver_tolerance: f64,
    /// Iterations of their solver before it gives up.
    pub solver_iterations: usize,
}

impl Default for Measure {
    fn default() -> Self {
        Self {
            pion_every: 1,
            flow_every: 1,
            flow_time: 4.0,
            flow_tolerance: 1e-5,
            solver_tolerance: 1e-12,
            solver_iterations: 2000,
        }
    }
}

/// `method` of `[hmc]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// Trajectories of molecular dynamics.
    #[default]
    Hmc,
    /// Heat bath and overrelaxation of the pure gauge theory; with flavours, its configurations are reweighted by the exact
    /// determinant.
    HeatBath,
    /// Fresh configurations of the gauge flow of `[flow]`, reweighted.
    Flow,
    /// Trajectories of the links that the gauge flow of `[flow]` carries to those of the theory.
    Transformed,
}

impl Update {
    /// Whether it needs the flow of `[flow]`.
    pub(super) fn has_flow(self) -> bool {
        matches!(self, Self::Flow | Self::Transformed)
    }
}

/// `start` of `[hmc]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// A random field; links are uniform on the group.
    #[default]
    Hot,
    /// The field of least action; links are 1.
    Cold,
}
