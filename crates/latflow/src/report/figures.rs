//! Figures 4 and 5: the two correlators of every scheme beside HMC, and their ratio to it.
//!
//! ```text
//! Fig. 4   C_φ(t), t = 0 … L_t/2, logarithmic        Fig. 5   C_ψ(t), t odd
//! below    C/C_HMC with one and two standard deviations of HMC as bands
//! ```
//!
//! Schemes are displaced in t, so that their error bars can be told apart. One picture for each kind of models; a scheme has
//! the same colour in all of them. Updates in the prior's space are in the tables alone.

use latflow_observable::ValueError;

use super::document::Figure;
use super::svg::{Anchor, Panel, Svg};
use super::{Coupling, Finished, Models};

/// A correlator and how it is shown.
struct Plot {
    number: u8,
    /// As in `analysis.json`.
    correlator: &'static str,
    symbol: &'static str,
    logarithmic: bool,
    shown: fn(usize, usize) -> bool,
}

const PLOTS: [Plot; 2] = [
    Plot {
        number: 4,
        correlator: "two_point",
        symbol: "C_φ(t)",
        logarithmic: true,
        shown: |t, times| t <= times / 2,
    },
    Plot {
        number: 5,
        correlator: "fermion_correlator",
        symbol: "C_ψ(t)",
        logarithmic: false,
        shown: |t, _| !t.is_multiple_of(2),
    },
];

/// Time and correlator.
type Points = Vec<(f64, ValueError)>;

/// One panel.
struct Ensembles<'a> {
    coupling: &'a str,
    hmc: Points,
    /// Colour, name and points; no points where the chains are too short.
    flows: Vec<(usize, &'a str, Points)>,
}

/// Both figures for each kind of models, of the couplings that HMC has sampled.
pub(super) fn figures(couplings: &[Coupling<'_>]) -> Vec<Figure> {
    let mut labels: Vec<&str> = Vec::new();
    for flow in couplings.iter().flat_map(|coupling| coupling.flows.iter().filter(|flow| flow.in_figures)) {
        if !labels.contains(&flow.label) {
            labels.push(flow.label);
        }
    }
    let mut figures = Vec::new();
    for (models, file, whose) in
        [(Models::Ours, "ours", "our models"), (Models::Paper, "paper", "the paper's architectures")]
    {
        for plot in &PLOTS {
            let panels: Vec<Ensembles<'_>> =
                couplings.iter().filter_map(|coupling| ensembles(coupling, models, plot, &labels)).collect();
            if panels.is_empty() {
                continue;
            }
            let caption = format!(
                "Figure {}, {whose}: {} of every scheme and of HMC; below, the ratio to HMC with one and two standard \
                 deviations of HMC. Schemes are displaced in t; chains too short for an error are left out.",
                plot.number, plot.symbol
            );
            let svg = draw(plot, &panels, &caption);
            figures.push(Figure { name: format!("figure{}_{file}", plot.number), svg, caption });
        }
    }
    figures
}

fn ensembles<'a>(
    coupling: &'a Coupling<'a>,
    models: Models,
    plot: &Plot,
    labels: &[&str],
) -> Option<Ensembles<'a>> {
    let hmc = points(coupling.hmc.as_ref()?, plot)?;
    let shown = coupling.flows.iter().filter(|flow| flow.models == models && flow.in_figures);
    let flows = shown.map(|flow| {
        // Zero is the colour of HMC.
        let colour = 1 + labels.iter().position(|label| *label == flow.label).unwrap_or(0);
        (colour, flow.label, points(&flow.sample, plot).unwrap_or_default())
    });
    let flows: Vec<_> = flows.collect();
    (!flows.is_empty()).then_some(Ensembles { coupling: coupling.published.coupling, hmc, flows })
}

fn points(run: &Finished, plot: &Plot) -> Option<Points> {
    let slices = run.trusted_correlator(plot.correlator)?;
    let times = slices.len();
    let shown = slices.into_iter().enumerate().filter(|(t, _)| (plot.shown)(*t, times));
    Some(shown.map(|(t, slice)| (t as f64, slice)).collect())
}

const PANEL: f64 = 400.0;
const LEFT: f64 = 70.0;
const UPPER: f64 = 240.0;
const LOWER: f64 = 130.0;
const GAP: f64 = 12.0;

fn draw(plot: &Plot, panels: &[Ensembles<'_>], title: &str) -> String {
    let mut svg = Svg::new(panels.len() as f64 * (LEFT + PANEL) + 20.0);
    let mut names = vec![(0, "HMC")];
    for (colour, label, _) in panels.iter().flat_map(|panel| &panel.flows) {
        if !names.contains(&(*colour, *label)) {
            names.push((*colour, *label));
        }
    }
    let top = 44.0 + svg.legend(LEFT, 14.0, &names);
    for (column, ensembles) in panels.iter().enumerate() {
        panel(&mut svg, plot, ensembles, [LEFT + column as f64 * (LEFT + PANEL), top]);
    }
    svg.finish(top + UPPER + GAP + LOWER + 44.0, title)
}

fn panel(svg: &mut Svg, plot: &Plot, ensembles: &Ensembles<'_>, [left, top]: [f64; 2]) {
    let times: Vec<f64> = ensembles.hmc.iter().map(|(t, _)| *t).collect();
    let (first, last) = (times.first().copied().unwrap_or(0.0), times.last().copied().unwrap_or(1.0));
    let spacing = times.get(1).map_or(1.0, |second| second - first);
    let x = (first - 0.6 * spacing, last + 0.6 * spacing);
    let area = [left, top, PANEL, UPPER];
    let upper = Panel { area, x, y: range(plot, ensembles), logarithmic: plot.logarithmic };
    upper.axes(svg, &times, false);
    let ratios: Vec<Points> =
        ensembles.flows.iter().map(|(_, _, points)| ratio(points, &ensembles.hmc)).collect();
    let own = ratio(&ensembles.hmc, &ensembles.hmc);
    let area = [left, top + UPPER + GAP, PANEL, LOWER];
    let lower = Panel { area, x, y: ratio_range(&own, &ratios), logarithmic: false };
    lower.axes(svg, &times, true);
    for (t, ValueError { error, .. }) in &own {
        for (class, factor) in [("band2", 2.0), ("band1", 1.0)] {
            lower.band(svg, *t, 0.45 * spacing, (1.0 - factor * error, 1.0 + factor * error), class);
        }
    }
    lower.level(svg, 1.0);

    let count = ensembles.flows.len() as f64 + 1.0;
    let displaced = |t: f64, i: usize| t + spacing * 0.7 * ((i as f64 + 0.5) / count - 0.5);
    for (t, value) in &ensembles.hmc {
        upper.point(svg, displaced(*t, 0), *value, 0);
    }
    for (i, ((colour, _, points), ratios)) in ensembles.flows.iter().zip(&ratios).enumerate() {
        for (panel, points) in [(&upper, points), (&lower, ratios)] {
            for (t, value) in points {
                panel.point(svg, displaced(*t, i + 1), *value, *colour);
            }
        }
    }
    let middle = left + PANEL / 2.0;
    svg.text(middle, top - 10.0, Anchor::Middle, "title", &format!("g = {}", ensembles.coupling));
    svg.text(left, top - 10.0, Anchor::Start, "", plot.symbol);
    svg.text(left + 4.0, top + UPPER + GAP + 14.0, Anchor::Start, "", "ratio to HMC");
    svg.text(middle, top + UPPER + GAP + LOWER + 36.0, Anchor::Middle, "", "t");
}

/// An ensemble over HMC's mean, with its own error.
fn ratio(points: &Points, hmc: &Points) -> Points {
    let over = |((t, value), (_, hmc)): (&(f64, ValueError), &(f64, ValueError))| {
        (*t, ValueError::new(value.value / hmc.value, (value.error / hmc.value).abs()))
    };
    points.iter().zip(hmc).map(over).collect()
}

/// All means with a margin; error bars may be cut off on a logarithmic axis.
fn range(plot: &Plot, ensembles: &Ensembles<'_>) -> (f64, f64) {
    let means = || {
        let flows = ensembles.flows.iter().flat_map(|(_, _, points)| points);
        let all = ensembles.hmc.iter().chain(flows).map(|(_, value)| value.value);
        all.filter(|mean| !plot.logarithmic || *mean > 0.0)
    };
    let low = means().min_by(f64::total_cmp).unwrap_or(0.1);
    let high = means().max_by(f64::total_cmp).unwrap_or(1.0);
    if plot.logarithmic {
        let margin = (high / low).powf(0.08).max(1.05);
        (low / margin, high * margin)
    } else {
        let margin = (0.08 * (high - low)).max(1e-9 * high.abs()).max(f64::MIN_POSITIVE);
        (low - margin, high + margin)
    }
}

/// Around 1, to three of HMC's standard deviations and all points with their bars, within reason.
fn ratio_range(own: &Points, ratios: &[Points]) -> (f64, f64) {
    let band = own.iter().map(|(_, value)| 3.0 * value.error).max_by(f64::total_cmp).unwrap_or(0.01);
    let reach = ratios.iter().flatten().map(|(_, value)| (value.value - 1.0).abs() + value.error);
    let reach = reach.filter(|x| x.is_finite());
    let half = reach.max_by(f64::total_cmp).unwrap_or(band).clamp(band, 6.0 * band).max(1e-9);
    (1.0 - 1.05 * half, 1.0 + 1.05 * half)
}
