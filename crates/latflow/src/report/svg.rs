//! A small plot: axes, ticks, bands, and points with error bars, as SVG text.
//!
//! Written here rather than with a plotting crate: colours must be CSS classes, so that one picture is readable on paper,
//! on a light page and on a dark one, and nothing may be loaded from elsewhere.

use std::fmt::Write as _;

use latflow_observable::ValueError;

/// Every picture carries it; the classes are its own.
pub(super) const STYLE: &str = "\
.lf{font:12px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}\
.lf text{fill:#1a1a1a}.lf .title{font-size:14px;font-weight:600}\
.lf .axis{stroke:#1a1a1a;fill:none;stroke-width:1}.lf .grid{stroke:#dddddd;stroke-width:1}\
.lf .band1{fill:#bbbbbb;opacity:.6}.lf .band2{fill:#dddddd;opacity:.6}\
.lf .bar{stroke-width:1.4;fill:none}.lf .point{stroke-width:1.4}\
.lf .s0{stroke:#1a1a1a;fill:#1a1a1a}.lf .s1{stroke:#0072b2;fill:#0072b2}.lf .s2{stroke:#d55e00;fill:#d55e00}\
.lf .s3{stroke:#009e73;fill:#009e73}.lf .s4{stroke:#b8479c;fill:#b8479c}.lf .s5{stroke:#b07d00;fill:#b07d00}\
.lf .s6{stroke:#3d9bd1;fill:#3d9bd1}\
@media (prefers-color-scheme:dark){@media screen{\
.lf text{fill:#e8e8e8}.lf .axis{stroke:#e8e8e8}.lf .grid{stroke:#3a3a3a}\
.lf .band1{fill:#6a6a6a}.lf .band2{fill:#4a4a4a}\
.lf .s0{stroke:#e8e8e8;fill:#e8e8e8}.lf .s1{stroke:#4da3dd;fill:#4da3dd}.lf .s2{stroke:#f08a3c;fill:#f08a3c}\
.lf .s3{stroke:#2fc79b;fill:#2fc79b}.lf .s4{stroke:#e08cc8;fill:#e08cc8}.lf .s5{stroke:#e6b53c;fill:#e6b53c}\
.lf .s6{stroke:#8fd0f5;fill:#8fd0f5}}}";

/// Colours and markers that can be told apart.
const SERIES: usize = 7;

/// A picture under construction, in pixels from the upper left corner.
#[derive(Debug)]
pub(super) struct Svg {
    width: f64,
    body: String,
}

/// Where a text is held.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    /// At its beginning.
    Start,
    /// In its middle.
    Middle,
    /// At its end.
    End,
}

impl Svg {
    pub(super) fn new(width: f64) -> Self {
        Self { width, body: String::new() }
    }

    /// The complete picture; `title` is what a reader without eyes is told.
    pub(super) fn finish(self, height: f64, title: &str) -> String {
        let Self { width, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"lf\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\"><title>{}</title><style>{STYLE}</style>\n{body}</svg>\n",
            escape(title)
        )
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.body.write_fmt(element);
        self.body.push('\n');
    }

    pub(super) fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{}</text>",
            escape(text)
        ));
    }

    fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, class: &str) {
        self.push(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"{class}\"/>"
        ));
    }

    /// The marker of a series, filled or not.
    pub(super) fn marker(&mut self, x: f64, y: f64, series: usize) {
        let (shape, r) = (series % SERIES, 3.2);
        let path = match shape {
            0 => format!("M{x:.1} {y:.1}m-{r} 0a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0-{d} 0z", d = 2.0 * r),
            1 => format!("M{:.1} {:.1}h{d}v{d}h-{d}z", x - 2.8, y - 2.8, d = 5.6),
            2 => format!("M{x:.1} {:.1}l4 4l-4 4l-4-4z", y - 4.0),
            3 => format!("M{x:.1} {:.1}l4 7h-8z", y - 4.4),
            4 => format!("M{x:.1} {:.1}l4-7h-8z", y + 4.4),
            5 => format!("M{:.1} {:.1}l6 6m0-6l-6 6", x - 3.0, y - 3.0),
            _ => format!("M{:.1} {y:.1}h8m-4-4v8", x - 4.0),
        };
        self.push(format_args!("<path d=\"{path}\" class=\"point s{shape}\"/>"));
    }

    /// Names of the series in a row that wraps; the height it took.
    pub(super) fn legend(&mut self, left: f64, top: f64, names: &[(usize, &str)]) -> f64 {
        let (mut x, mut y) = (left, top);
        for (series, name) in names {
            let width = 30.0 + 6.6 * name.chars().count() as f64;
            if x + width > self.width && x > left {
                (x, y) = (left, y + 18.0);
            }
            self.marker(x + 5.0, y, *series);
            self.text(x + 14.0, y + 4.0, Anchor::Start, "", name);
            x += width;
        }
        y - top + 18.0
    }
}

/// Characters with a meaning in XML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A rectangle with axes.
#[derive(Debug, Clone)]
pub(super) struct Panel {
    /// Left, top, width, height in pixels.
    pub area: [f64; 4],
    /// Range of the horizontal axis.
    pub x: (f64, f64),
    /// Range of the vertical axis, positive when it is logarithmic.
    pub y: (f64, f64),
    /// Whether the vertical axis is logarithmic.
    pub logarithmic: bool,
}

impl Panel {
    fn at_x(&self, x: f64) -> f64 {
        self.area[0] + (x - self.x.0) / (self.x.1 - self.x.0) * self.area[2]
    }

    /// Values outside the range stop at the edge.
    fn at_y(&self, y: f64) -> f64 {
        let scale = |y: f64| if self.logarithmic { y.ln() } else { y };
        let y = y.clamp(self.y.0, self.y.1);
        let share = (scale(y) - scale(self.y.0)) / (scale(self.y.1) - scale(self.y.0));
        self.area[1] + (1.0 - share) * self.area[3]
    }

    /// Grid, ticks and frame; `at` are the horizontal ticks, with or without their numbers.
    pub(super) fn axes(&self, svg: &mut Svg, at: &[f64], numbers: bool) {
        let [left, top, width, height] = self.area;
        let spacing = at.windows(2).map(|pair| pair[1] - pair[0]).min_by(f64::total_cmp);
        let decimals = decimals(spacing.unwrap_or(1.0));
        for x in at {
            let x_pixel = self.at_x(*x);
            svg.line(x_pixel, top, x_pixel, top + height, "grid");
            if numbers {
                svg.text(x_pixel, top + height + 16.0, Anchor::Middle, "", &format!("{x:.decimals$}"));
            }
        }
        let (ticks, decimals) = if self.logarithmic { decades(self.y) } else { round_numbers(self.y) };
        for tick in ticks {
            let y = self.at_y(tick);
            svg.line(left, y, left + width, y, "grid");
            svg.text(left - 6.0, y + 4.0, Anchor::End, "", &format!("{tick:.decimals$}"));
        }
        svg.push(format_args!(
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" class=\"axis\"/>"
        ));
    }

    /// A horizontal interval of half a unit around x.
    pub(super) fn band(&self, svg: &mut Svg, x: f64, half_width: f64, y: (f64, f64), class: &str) {
        let (left, right) = (self.at_x(x - half_width), self.at_x(x + half_width));
        let (top, bottom) = (self.at_y(y.1), self.at_y(y.0));
        let (width, height) = (right - left, bottom - top);
        svg.push(format_args!(
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" class=\"{class}\"/>"
        ));
    }

    /// Round numbers on the horizontal axis.
    pub(super) fn round_x(&self) -> Vec<f64> {
        round_numbers(self.x).0
    }

    /// Lines from point to point; what lies outside the range stops at the edge.
    pub(super) fn path(&self, svg: &mut Svg, points: &[(f64, f64)], series: usize) {
        for pair in points.windows(2) {
            let [(x1, y1), (x2, y2)] = [pair[0], pair[1]].map(|(x, y)| (self.at_x(x), self.at_y(y)));
            svg.line(x1, y1, x2, y2, &format!("bar s{}", series % SERIES));
        }
    }

    /// A horizontal line through the panel.
    pub(super) fn level(&self, svg: &mut Svg, y: f64) {
        let y = self.at_y(y);
        svg.line(self.area[0], y, self.area[0] + self.area[2], y, "axis");
    }

    /// A point with its error bar. A marker outside the range is left out; its bar may still reach in.
    pub(super) fn point(&self, svg: &mut Svg, x: f64, y: ValueError, series: usize) {
        let (x_pixel, ValueError { value: y, error }) = (self.at_x(x), y);
        let (low, high) = (self.at_y(y - error), self.at_y(y + error));
        svg.line(x_pixel, low, x_pixel, high, &format!("bar s{}", series % SERIES));
        if (self.y.0..=self.y.1).contains(&y) {
            svg.marker(x_pixel, self.at_y(y), series);
        }
    }
}

/// Multiples of 1, 2 or 5 times a power of ten, three to seven of them, and the decimals that tell them apart.
fn round_numbers((low, high): (f64, f64)) -> (Vec<f64>, usize) {
    let raw = (high - low) / 5.0;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= raw);
    let step = step.unwrap_or(10.0 * power);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    ((first..=last).map(|k| k as f64 * step).collect(), decimals(step))
}

/// Decimals that tell multiples of a step apart.
fn decimals(step: f64) -> usize {
    (-(step * 1.000_001).log10().floor()).max(0.0) as usize
}

/// 1, 2 and 5 times the powers of ten in the range.
fn decades((low, high): (f64, f64)) -> (Vec<f64>, usize) {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let multiples: &[f64] = if last - first > 3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let ticks = (first..=last).flat_map(|e| multiples.iter().map(move |m| m * 10f64.powi(e)));
    let ticks: Vec<f64> = ticks.filter(|tick| (low..=high).contains(tick)).collect();
    let smallest = ticks.first().map_or(1.0, |tick| *tick);
    (ticks, decimals(smallest))
}

#[cfg(test)]
mod tests {
    use latflow_observable::ValueError;

    use super::{Panel, Svg, decades, escape, round_numbers};

    #[test]
    fn ticks_are_round() {
        let (ticks, decimals) = round_numbers((0.9996, 1.0003));
        let shown: Vec<String> = ticks.iter().map(|tick| format!("{tick:.decimals$}")).collect();
        assert_eq!(shown, ["0.9996", "0.9998", "1.0000", "1.0002"]);
        let (ticks, decimals) = decades((0.02, 0.6));
        let shown: Vec<String> = ticks.iter().map(|tick| format!("{tick:.decimals$}")).collect();
        assert_eq!(shown, ["0.02", "0.05", "0.10", "0.20", "0.50"]);
    }

    #[test]
    fn what_is_outside_stays_outside() {
        let panel =
            Panel { area: [0.0, 0.0, 100.0, 100.0], x: (0.0, 1.0), y: (1.0, 100.0), logarithmic: true };
        assert!((panel.at_y(10.0) - 50.0).abs() < 1e-9);
        assert_eq!(
            panel.at_y(-3.0),
            100.0,
            "a bar that reaches below zero ends at the edge of a logarithmic axis"
        );
        let mut svg = Svg::new(100.0);
        panel.point(&mut svg, 0.5, ValueError::new(200.0, 150.0), 0);
        let text = svg.finish(100.0, "a < b");
        assert!(text.contains("<line") && !text.contains("<path") && text.contains("a &lt; b"), "{text}");
        assert_eq!(escape("⟨|M|⟩ & \"x\""), "⟨|M|⟩ &amp; &quot;x&quot;");
    }
}
