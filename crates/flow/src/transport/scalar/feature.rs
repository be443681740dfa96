//! Rows of the table of scalar features, and a table to start from.

use super::{Factor, Local};

/// v_x = g(φ_x, S_x) Σ_y K_r(x − y) h(φ_y, S_y), one vector field a class of displacements r with |d_μ| ≤ R.
#[derive(Debug, Clone, PartialEq)]
pub struct Feature {
    /// Which group of a report it counts in; neighbouring rows of one name share a group.
    pub group: String,
    /// g.
    pub gate: Local,
    /// h.
    pub source: Local,
    /// R.
    pub radius: usize,
}

impl Feature {
    /// A row.
    pub fn new(group: &str, gate: Local, source: Local, radius: usize) -> Self {
        Self { group: group.to_owned(), gate, source, radius }
    }

    /// Whether v(−φ) = −v(φ).
    pub fn is_odd(&self) -> bool {
        self.gate.is_odd() != self.source.is_odd()
    }

    /// A table of odd features for fields of typical size `width` = √⟨φ²⟩. A linear feature and bounded functions of one site
    /// are smeared up to `radius`, some of them gated by the site they act on; whatever knows the sum of a site's neighbours,
    /// in source or gate, up to `composite_radius`. For φ⁴ theory each group lowers the residual that those before it leave.
    pub fn standard(width: f64, radius: usize, composite_radius: usize) -> Vec<Self> {
        let (sin, cos) = (|w: f64| Factor::sin(w / width), |w: f64| Factor::cos(w / width));
        let mut table = Vec::new();
        let mut rows = |group: &str, radius: usize, pairs: &[(Local, Local)]| {
            table.extend(pairs.iter().map(|(gate, source)| Self::new(group, *gate, *source, radius)));
        };
        let (one, field, product) = (Local::ONE, Local::field, Local::product);
        let phi = field(Factor::power(1));
        rows("linear", radius, &[(one, phi)]);
        rows("sine", radius, &[0.8, 1.6, 2.4].map(|w| (one, field(sin(w)))));
        rows("gated", radius, &[(field(cos(0.8)), phi), (field(cos(1.6)), phi)]);
        rows("gated", radius, &[(field(cos(0.8)), field(sin(1.6))), (field(sin(0.8)), field(cos(0.8)))]);
        // S is about twice as wide as φ: half the frequencies.
        let pairs = [
            product(Factor::ONE, sin(0.4)),
            product(cos(0.8), sin(0.4)),
            product(sin(0.8), cos(0.4)),
            product(Factor::ONE, sin(0.8)),
            product(cos(1.6), sin(0.4)),
            product(sin(1.6), cos(0.4)),
            product(sin(0.8), cos(0.8)),
        ];
        rows("composite", composite_radius, &pairs.map(|source| (one, source)));
        let environments =
            [product(Factor::ONE, cos(0.4)), product(cos(0.8), cos(0.4)), product(sin(0.8), sin(0.4))];
        rows("environment", composite_radius, &environments.map(|gate| (gate, phi)));
        for gate in [cos(0.8), cos(1.6)] {
            let gated = [pairs[0], pairs[1], pairs[2]].map(|source| (field(gate), source));
            rows("gated composite", composite_radius, &gated);
        }
        table
    }
}
