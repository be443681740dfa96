//! Progress for people: a bar with ETA on a terminal, a plain line now and then everywhere else.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::session::{note, terminal};

/// Between two lines of a run nobody watches.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// The progress of one task.
#[derive(Debug)]
pub(crate) struct Progress {
    name: String,
    total: u64,
    start: u64,
    started: Instant,
    /// The last status worth showing; not every step has one.
    status: String,
    style: Style,
}

#[derive(Debug)]
enum Style {
    Bar(ProgressBar),
    Lines { last: Instant },
}

impl Progress {
    /// Starts at `done` of `total` steps.
    pub(crate) fn new(name: &str, total: u64, done: u64) -> Self {
        let style = if terminal() {
            let bar = ProgressBar::new(total).with_position(done);
            let template = "{prefix} {wide_bar} {pos}/{len} ETA {eta} {msg}";
            bar.set_style(
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.set_prefix(name.to_owned());
            bar.reset_eta();
            Style::Bar(bar)
        } else {
            Style::Lines { last: Instant::now() }
        };
        Self {
            name: name.to_owned(),
            total,
            start: done,
            started: Instant::now(),
            status: String::new(),
            style,
        }
    }

    /// Shows how far the task is; `status` is what is worth watching, such as loss and ESS, empty for no news.
    pub(crate) fn update(&mut self, done: u64, status: &str) {
        let finished = done >= self.total;
        if !status.is_empty() {
            status.clone_into(&mut self.status);
        }
        let status = &self.status;
        match &mut self.style {
            Style::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(status.clone());
            }
            Style::Lines { last } => {
                if last.elapsed() < LINE_EVERY && !finished {
                    return;
                }
                *last = Instant::now();
                let each = self.started.elapsed().as_secs_f64() / (done - self.start).max(1) as f64;
                let left = each * (self.total - done) as f64;
                let name = &self.name;
                note(&format!("{name} {done}/{} ETA {} {status}", self.total, duration(left)));
            }
        }
    }

    /// Leaves the last state of the bar on the screen.
    pub(crate) fn close(self) {
        if let Style::Bar(bar) = self.style {
            bar.abandon();
        }
    }
}

/// Seconds as `1h02m`, `3m05s` or `12s`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(12.4), "12s");
        assert_eq!(duration(185.0), "3m05s");
        assert_eq!(duration(3725.0), "1h02m");
        assert_eq!(duration(-1.0), "0s");
    }
}
