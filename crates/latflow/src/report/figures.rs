//! Figures 4 and 5: the two correlators of every scheme beside HMC, and their ratio to it.
//!
//! ```text
//! Fig. 4   C_φ(t), t = 0 … L_t/2, logarithmic        Fig. 5   C_ψ(t), t odd
//! below    C/C_HMC with one and two standard deviations of HMC as bands
//! ```
//!
//! Schemes are displaced in t, so that their error bars can be told apart. One picture for each kind of models.

use anyhow::Result;

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

/// Time, mean and error.
type Points = Vec<(usize, f64, Option<f64>)>;

/// One coupling's correlator, HMC first.
struct Ensembles<'a> {
    coupling: &'a str,
    names: Vec<&'a str>,
    points: Vec<Points>,
}

/// Both figures for each kind of models, of the couplings that HMC has sampled.
///
/// # Errors
/// None at present; reading measurements is part of making figures.
pub(super) fn figures(couplings: &[Coupling<'_>]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (models, file, whose) in
        [(Models::Ours, "ours", "our models"), (Models::Paper, "paper", "the paper's architectures")]
    {
        for plot in &PLOTS {
            let ensembles: Vec<Ensembles<'_>> =
                couplings.iter().filter_map(|coupling| ensembles(coupling, models, plot)).collect();
            if ensembles.is_empty() {
                continue;
            }
            let caption = format!(
                "Figure {}, {whose}: {} of every scheme and of HMC; below, the ratio to HMC with one and two standard \
                 deviations of HMC. Schemes are displaced in t.",
                plot.number, plot.symbol
            );
            let svg = draw(plot, &ensembles, &caption);
            figures.push(Figure { name: format!("figure{}_{file}", plot.number), svg, caption });
        }
    }
    Ok(figures)
}

fn ensembles<'a>(coupling: &'a Coupling<'a>, models: Models, plot: &Plot) -> Option<Ensembles<'a>> {
    let hmc = points(coupling.hmc.as_ref()?, plot)?;
    let (mut names, mut all) = (vec!["HMC"], vec![hmc]);
    for flow in coupling.flows.iter().filter(|flow| flow.models == models) {
        names.push(flow.label);
        all.push(points(&flow.sample, plot).unwrap_or_default());
    }
    (names.len() > 1).then_some(Ensembles { coupling: coupling.published.coupling, names, points: all })
}

fn points(run: &Finished, plot: &Plot) -> Option<Points> {
    let slices = run.analysis.correlators.get(plot.correlator)?;
    let shown = slices.iter().enumerate().filter(|(t, _)| (plot.shown)(*t, slices.len()));
    Some(shown.map(|(t, (mean, error))| (t, *mean, *error)).collect())
}

const PANEL: f64 = 400.0;
const LEFT: f64 = 70.0;
const UPPER: f64 = 240.0;
const LOWER: f64 = 130.0;

fn draw(plot: &Plot, all: &[Ensembles<'_>], title: &str) -> String {
    let gap = 12.0;
    let mut svg = Svg::new(all.len() as f64 * (LEFT + PANEL) + 20.0);
    let longest = all.iter().max_by_key(|ensembles| ensembles.names.len());
    let top = 44.0 + svg.legend(LEFT, 14.0, longest.map_or(&[], |ensembles| ensembles.names.as_slice()));
    for (column, ensembles) in all.iter().enumerate() {
        let left = LEFT + column as f64 * (LEFT + PANEL);
        let middle = left + PANEL / 2.0;
        svg.text(middle, top - 10.0, Anchor::Middle, "title", &format!("g = {}", ensembles.coupling));
        let times: Vec<f64> = ensembles.points[0].iter().map(|(t, ..)| *t as f64).collect();
        let (first, last) = (times.first().copied().unwrap_or(0.0), times.last().copied().unwrap_or(1.0));
        let spacing = times.get(1).map_or(1.0, |second| second - first);
        let x = (first - 0.6 * spacing, last + 0.6 * spacing);

        let area = [left, top, PANEL, UPPER];
        let upper = Panel { area, x, y: range(plot, &ensembles.points), logarithmic: plot.logarithmic };
        upper.axes(&mut svg, &times, false);
        let ratios = ratios(&ensembles.points);
        let area = [left, top + UPPER + gap, PANEL, LOWER];
        let lower = Panel { area, x, y: ratio_range(&ratios), logarithmic: false };
        lower.axes(&mut svg, &times, true);
        for (t, _, error) in &ratios[0] {
            for (class, factor) in [("band2", 2.0), ("band1", 1.0)] {
                if let Some(error) = error {
                    let y = (1.0 - factor * error, 1.0 + factor * error);
                    lower.band(&mut svg, *t as f64, 0.45 * spacing, y, class);
                }
            }
        }
        lower.level(&mut svg, 1.0);
        let count = ensembles.points.len();
        let displaced =
            |t: usize, i: usize| t as f64 + spacing * 0.7 * ((i as f64 + 0.5) / count as f64 - 0.5);
        for (series, points) in ensembles.points.iter().enumerate() {
            for (t, mean, error) in points {
                upper.point(&mut svg, displaced(*t, series), *mean, *error, series);
            }
        }
        for (series, points) in ratios.iter().enumerate().skip(1) {
            for (t, ratio, error) in points {
                lower.point(&mut svg, displaced(*t, series), *ratio, *error, series);
            }
        }
        svg.text(left, top - 10.0, Anchor::Start, "", plot.symbol);
        svg.text(left + 4.0, top + UPPER + gap + 14.0, Anchor::Start, "", "ratio to HMC");
        svg.text(middle, top + UPPER + gap + LOWER + 36.0, Anchor::Middle, "", "t");
    }
    svg.finish(top + UPPER + gap + LOWER + 44.0, title)
}

/// Each ensemble over HMC's mean, with its own error; HMC's own is the band.
fn ratios(all: &[Points]) -> Vec<Points> {
    let hmc = &all[0];
    let over = |points: &Points| {
        let pairs = points.iter().zip(hmc);
        pairs.map(|((t, mean, error), (_, h, _))| (*t, mean / h, error.map(|e| (e / h).abs()))).collect()
    };
    all.iter().map(over).collect()
}

/// All means with a margin; error bars may be cut off on a logarithmic axis.
fn range(plot: &Plot, all: &[Points]) -> (f64, f64) {
    let means = || all.iter().flatten().map(|(_, mean, _)| *mean).filter(|m| !plot.logarithmic || *m > 0.0);
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
fn ratio_range(ratios: &[Points]) -> (f64, f64) {
    let errors = ratios[0].iter().filter_map(|(_, _, error)| *error);
    let band = 3.0 * errors.max_by(f64::total_cmp).unwrap_or(0.01);
    let reach = |(_, ratio, error): &(usize, f64, Option<f64>)| (ratio - 1.0).abs() + error.unwrap_or(0.0);
    let points = ratios[1..].iter().flatten().map(reach).filter(|x| x.is_finite());
    let half = points.max_by(f64::total_cmp).unwrap_or(band).clamp(band, 6.0 * band).max(1e-9);
    (1.0 - 1.05 * half, 1.0 + 1.05 * half)
}
