//! Figures 2 and 3 of the QCD paper: density histograms with their ratio to HMC, and how their residuals are distributed.

use latflow_observable::{Histogram, ResidualDistribution, ValueError};

use super::super::document::Figure;
use super::super::svg::{Anchor, Panel, Svg};
use super::histograms::{Compared, Comparison};

const PANEL: f64 = 400.0;
const LEFT: f64 = 70.0;
const UPPER: f64 = 210.0;
const LOWER: f64 = 110.0;
const GAP: f64 = 10.0;
/// Height of a part of the figure with its title and the numbers below.
const CELL: f64 = UPPER + GAP + LOWER + 74.0;

/// Both figures; the second only where there are residuals.
pub(super) fn figures(comparison: &Comparison) -> Vec<Figure> {
    let caption = format!(
        "Figure 2: densities of the observables on the ensembles {}. Below, the ratio to the first of them with its own error \
         as a band. Errors from 1000 bootstrap ensembles.",
        comparison.names.join(", ")
    );
    let svg = histograms(comparison, &caption);
    let mut figures = vec![Figure { name: "figure2".into(), svg, caption }];
    let residuals = comparison.residuals();
    if !residuals.is_empty() {
        let tests: Vec<String> = residuals
            .iter()
            .map(|(index, r)| {
                let name = &comparison.names[*index];
                format!("{name}: χ² = {:.1} for {} bins, p = {:.3}", r.chi_squared, r.n, r.p_value)
            })
            .collect();
        let caption = format!(
            "Figure 3: distribution of the squared residuals r² of all bins of all observables relative to {}, and that of χ² with \
             one degree of freedom (line). {}. p by Kolmogorov and Smirnov.",
            comparison.names[0],
            tests.join("; ")
        );
        let svg = distribution(&comparison.names, &residuals, &caption);
        figures.push(Figure { name: "figure3".into(), svg, caption });
    }
    figures
}

fn legend(names: &[String]) -> Vec<(usize, &str)> {
    names.iter().enumerate().map(|(index, name)| (index, name.as_str())).collect()
}

fn histograms(comparison: &Comparison, title: &str) -> String {
    let mut svg = Svg::new(2.0 * (LEFT + PANEL) + 20.0);
    let top = 20.0 + svg.legend(LEFT, 14.0, &legend(&comparison.names));
    for (place, compared) in comparison.compared.iter().enumerate() {
        let (column, row) = (place % 2, place / 2);
        part(&mut svg, compared, [LEFT + column as f64 * (LEFT + PANEL), top + row as f64 * CELL]);
    }
    svg.finish(top + comparison.compared.len().div_ceil(2) as f64 * CELL, title)
}

fn centres(h: &Histogram) -> Vec<(f64, f64)> {
    h.bins.edges().windows(2).map(|e| (0.5 * (e[0] + e[1]), e[1] - e[0])).collect()
}

fn part(svg: &mut Svg, compared: &Compared, [left, top]: [f64; 2]) {
    let Compared { quantity, reference, others } = compared;
    let edges = reference.bins.edges();
    let x = (edges[0], edges[edges.len() - 1]);
    let all = || others.iter().map(|(_, h)| h).chain([reference]).flat_map(|h| &h.density);
    let highest = all().map(|h| h.value + h.error).max_by(f64::total_cmp).unwrap_or(1.0);
    let area = [left, top + 26.0, PANEL, UPPER];
    let upper = Panel { area, x, y: (0.0, 1.06 * highest.max(f64::MIN_POSITIVE)), logarithmic: false };
    upper.axes(svg, &upper.round_x(), false);
    let own = reference.relative_to(reference).unwrap_or_default();
    let area = [left, top + 26.0 + UPPER + GAP, PANEL, LOWER];
    let half = reach(&own);
    let lower = Panel { area, x, y: (1.0 - half, 1.0 + half), logarithmic: false };
    lower.axes(svg, &lower.round_x(), true);
    let count = others.len() as f64 + 1.0;
    let displaced = |x: f64, width: f64, i: usize| x + 0.7 * width * ((i as f64 + 0.5) / count - 0.5);
    for (((x, width), h), ratio) in centres(reference).into_iter().zip(&reference.density).zip(&own) {
        upper.band(svg, x, 0.5 * width, (0.0, h.value), "band2");
        upper.point(svg, displaced(x, width, 0), *h, 0);
        if let Some(ratio) = ratio {
            lower.band(svg, x, 0.5 * width, (1.0 - ratio.error, 1.0 + ratio.error), "band1");
        }
    }
    lower.level(svg, 1.0);
    for (place, (colour, h)) in others.iter().enumerate() {
        let ratios = h.relative_to(reference).unwrap_or_default();
        for (((x, width), h), ratio) in centres(h).into_iter().zip(&h.density).zip(ratios) {
            let x = displaced(x, width, place + 1);
            upper.point(svg, x, *h, *colour);
            if let Some(ratio) = ratio {
                lower.point(svg, x, ratio, *colour);
            }
        }
    }
    let title = format!("({}) {}", quantity.letter, quantity.title);
    svg.text(left + PANEL / 2.0, top + 16.0, Anchor::Middle, "title", &title);
    svg.text(left + 4.0, top + 26.0 + UPPER + GAP + 14.0, Anchor::Start, "", "ratio");
}

/// Half the range of the ratios: a few typical errors of the reference.
fn reach(own: &[Option<ValueError>]) -> f64 {
    let mut errors: Vec<f64> = own.iter().flatten().map(|ratio| ratio.error).collect();
    errors.sort_by(f64::total_cmp);
    (6.0 * errors.get(errors.len() / 2).copied().unwrap_or(0.1)).clamp(0.02, 1.0)
}

fn distribution(names: &[String], residuals: &[(usize, ResidualDistribution)], title: &str) -> String {
    let mut svg = Svg::new(LEFT + PANEL + 20.0);
    let mut names = legend(names);
    names.remove(0);
    let top = 30.0 + svg.legend(LEFT, 14.0, &names);
    let points = |r: &ResidualDistribution| -> Vec<(f64, ValueError, f64)> {
        let roots = r.bins.edges().windows(2).map(|e| 0.5 * (e[0].sqrt() + e[1].sqrt()));
        let measured = r.densities().zip(&r.counts).map(|((density, theory), count)| {
            (ValueError::new(density, density / (*count as f64).max(1.0).sqrt()), theory)
        });
        roots.zip(measured).map(|(x, (density, theory))| (x, density, theory)).collect()
    };
    let all: Vec<_> = residuals.iter().flat_map(|(_, r)| points(r)).collect();
    let values = || all.iter().flat_map(|(_, density, theory)| [density.value, *theory]).filter(|y| *y > 0.0);
    let low = values().min_by(f64::total_cmp).unwrap_or(0.1);
    let high = values().max_by(f64::total_cmp).unwrap_or(1.0);
    let edges = residuals.first().map_or(&[][..], |(_, r)| r.bins.edges());
    let x = (0.0, edges.last().map_or(1.0, |edge| edge.sqrt()));
    let panel = Panel { area: [LEFT, top, PANEL, UPPER], x, y: (0.7 * low, 1.4 * high), logarithmic: true };
    panel.axes(&mut svg, &panel.round_x(), true);
    if let Some((_, r)) = residuals.first() {
        let theory: Vec<(f64, f64)> = points(r).iter().map(|(x, _, theory)| (*x, *theory)).collect();
        panel.path(&mut svg, &theory, 0);
    }
    let count = residuals.len() as f64;
    for (place, (colour, r)) in residuals.iter().enumerate() {
        let width = x.1 / r.counts.len() as f64;
        for (x, density, _) in points(r).iter().filter(|(_, density, _)| density.value > 0.0) {
            let x = x + 0.6 * width * ((place as f64 + 0.5) / count - 0.5);
            panel.point(&mut svg, x, *density, *colour);
        }
    }
    svg.text(LEFT, top - 6.0, Anchor::Start, "", "density of r²");
    svg.text(LEFT + PANEL / 2.0, top + UPPER + 36.0, Anchor::Middle, "", "|r|");
    svg.finish(top + UPPER + 50.0, title)
}
