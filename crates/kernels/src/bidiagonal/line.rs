//! One closed line: y_h = a_h x_h + b_h x_{h+1}, x_L = σ x_0.
//!
//! ```text
//! solve:  c = x_0 from x_h = (y_h − b_h x_{h+1}) / a_h, h = L−1 … 0, with x_L = σ c:    c = u + v c,   v = σ Π(−b/a)
//! det = Πa (1 − v);   for |v| > 1 the recursion runs the other way with a and b exchanged, so that it never grows
//! ∂ log |det| / ∂a_h = 1 / (a_h (1 − v)),   ∂ log |det| / ∂b_h = −(∂v/∂b_h) / (1 − v)
//! ```

/// Coefficients of a line.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) a: &'a [f64],
    pub(super) b: &'a [f64],
    /// σ.
    pub(super) closing: f64,
}

impl Line<'_> {
    /// v = σ Π(−b/a).
    fn around(&self) -> f64 {
        self.a.iter().zip(self.b).fold(self.closing, |v, (a, b)| v * (-b / a))
    }

    pub(super) fn log_abs_det(&self) -> f64 {
        let v = self.around();
        let (larger, ratio) = if v.abs() <= 1.0 { (self.a, v) } else { (self.b, 1.0 / v) };
        larger.iter().map(|a| a.abs().ln()).sum::<f64>() + (1.0 - ratio).abs().ln()
    }

    /// Adds `scale` times the gradient of log |det|.
    pub(super) fn add_log_abs_det_gradient(&self, scale: f64, da: &mut [f64], db: &mut [f64]) {
        let v = self.around();
        // 1/(1 − v) and −v/(1 − v), which must not become ∞/∞.
        let with_a = 1.0 / (1.0 - v);
        let with_b = if v.abs() <= 1.0 { -v * with_a } else { 1.0 / (1.0 - 1.0 / v) };
        for (da, a) in da.iter_mut().zip(self.a) {
            *da += scale * with_a / a;
        }
        if v.abs() > f64::MIN_POSITIVE {
            for (db, b) in db.iter_mut().zip(self.b) {
                *db += scale * with_b / b;
            }
            return;
        }
        // Some b is zero, or the product is: leave each factor out in turn.
        for (h, db) in db.iter_mut().enumerate() {
            let others = self.a.iter().zip(self.b).enumerate().filter(|(j, _)| *j != h);
            let without = others.fold(self.closing, |v, (_, (a, b))| v * (-b / a));
            *db += scale * with_a * without / self.a[h];
        }
    }

    pub(super) fn apply(&self, x: &[f64], y: &mut [f64]) {
        let last = x.len() - 1;
        for h in 0..last {
            y[h] = self.a[h] * x[h] + self.b[h] * x[h + 1];
        }
        y[last] = self.a[last] * x[last] + self.closing * self.b[last] * x[0];
    }

    /// Wᵀ g.
    pub(super) fn apply_transposed(&self, g: &[f64], y: &mut [f64]) {
        let last = g.len() - 1;
        y[0] = self.a[0] * g[0] + self.closing * self.b[last] * g[last];
        for h in 1..=last {
            y[h] = self.a[h] * g[h] + self.b[h - 1] * g[h - 1];
        }
    }

    /// W⁻¹ y.
    pub(super) fn solve(&self, y: &[f64], x: &mut [f64]) {
        if self.around().abs() <= 1.0 {
            return recursion(self.a, self.b, y, self.closing, x);
        }
        // With z_h = x_{h+1} and the line read backwards: b z + a z_next = y.
        let backwards = |values: &[f64]| values.iter().rev().copied().collect::<Vec<f64>>();
        let mut z = vec![0.0; y.len()];
        recursion(&backwards(self.b), &backwards(self.a), &backwards(y), self.closing, &mut z);
        x[0] = self.closing * z[0];
        for (x, z) in x[1..].iter_mut().zip(z[1..].iter().rev()) {
            *x = *z;
        }
    }

    /// W⁻ᵀ y: read backwards, a_h x_h + b_{h−1} x_{h−1} = y_h is a line like any other.
    pub(super) fn solve_transposed(&self, y: &[f64], x: &mut [f64]) {
        let backwards = |values: &[f64]| values.iter().rev().copied().collect::<Vec<f64>>();
        let a = backwards(self.a);
        let mut b = backwards(self.b);
        b.rotate_left(1);
        Line { a: &a, b: &b, closing: self.closing }.solve(&backwards(y), x);
        x.reverse();
    }
}

fn recursion(a: &[f64], b: &[f64], y: &[f64], closing: f64, x: &mut [f64]) {
    let sweep = |first: f64, x: &mut [f64]| {
        let mut next = closing * first;
        for h in (0..y.len()).rev() {
            next = (y[h] - b[h] * next) / a[h];
            x[h] = next;
        }
    };
    let v = a.iter().zip(b).fold(closing, |v, (a, b)| v * (-b / a));
    sweep(0.0, x);
    sweep(x[0] / (1.0 - v), x);
}
