//! One bin of a rational-quadratic spline: value, slope, inverse and all their derivatives.
//!
//! With N = s ξ² + d_0 q, D = s + e q and P = d_1 ξ² + 2 s q + d_0 (1−ξ)²: g = v + h N/D and g′ = s² P/D².

/// Left edges, extents, and slopes at both ends.
pub(super) struct Bin {
    pub(super) u: f64,
    pub(super) v: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) slopes: [f64; 2],
}

/// A gradient in the numbers of a [`Bin`].
pub(super) struct Partial {
    pub(super) u: f64,
    pub(super) v: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) slopes: [f64; 2],
}

/// How far outside the interval a point may be by rounding.
const ROUNDING: f64 = 1e-9;

/// A coordinate inside the bin; NaN outside the interval.
fn inside(point: f64, xi: f64) -> f64 {
    if (-ROUNDING..=1.0 + ROUNDING).contains(&point) { xi.clamp(0.0, 1.0) } else { f64::NAN }
}

/// N, D and P at some ξ.
struct Terms {
    s: f64,
    q: f64,
    e: f64,
    numerator: f64,
    denominator: f64,
    slope: f64,
}

impl Bin {
    fn terms(&self, xi: f64) -> Terms {
        let [d0, d1] = self.slopes;
        let (s, q, eta) = (self.height / self.width, xi * (1.0 - xi), 1.0 - xi);
        let e = d0 + d1 - 2.0 * s;
        Terms {
            s,
            q,
            e,
            numerator: s * xi * xi + d0 * q,
            denominator: s + e * q,
            slope: d1 * xi * xi + 2.0 * s * q + d0 * eta * eta,
        }
    }

    fn coordinate(&self, u: f64) -> f64 {
        inside(u, (u - self.u) / self.width)
    }

    /// (g(u), log g′(u)).
    pub(super) fn forward(&self, u: f64) -> (f64, f64) {
        let t = self.terms(self.coordinate(u));
        (self.v + self.height * t.numerator / t.denominator, t.log_slope())
    }

    /// (u, log du/dv) with g(u) = v.
    pub(super) fn inverse(&self, v: f64) -> (f64, f64) {
        let xi = self.solve(v);
        (self.u + self.width * xi, -self.terms(xi).log_slope())
    }

    /// ξ with h N = (v − v_k) D, a quadratic equation; the form of the root without cancellation.
    fn solve(&self, v: f64) -> f64 {
        let [d0, d1] = self.slopes;
        let s = self.height / self.width;
        let y = inside(v, (v - self.v) / self.height);
        let e = d0 + d1 - 2.0 * s;
        let (a, b, c) = (s - d0 + y * e, d0 - y * e, -s * y);
        let root = (b * b - 4.0 * a * c).max(0.0).sqrt();
        // b + root = 0 needs d0 = 0.
        (-2.0 * c / (b + root)).clamp(0.0, 1.0)
    }

    /// Gradient in u and in the bin from that in (g, log g′).
    pub(super) fn forward_gradient(&self, u: f64, grad: (f64, f64)) -> (f64, Partial) {
        self.gradient(self.coordinate(u), grad)
    }

    /// Gradient in v and in the bin from that in (u, log du/dv).
    pub(super) fn inverse_gradient(&self, v: f64, (grad_out, grad_log): (f64, f64)) -> (f64, Partial) {
        let xi = self.solve(v);
        // u moves by (dv − ∂g)/g′ when v and the bin move, and −log g′ with it.
        let (by_u, _) = self.gradient(xi, (0.0, 1.0));
        let to_v = (grad_out - grad_log * by_u) / self.terms(xi).log_slope().exp();
        let (_, to_bin) = self.gradient(xi, (-to_v, -grad_log));
        (to_v, to_bin)
    }

    /// Gradient in u and in the bin of `grad.0` g + `grad.1` log g′ at ξ.
    fn gradient(&self, xi: f64, (grad_g, grad_log): (f64, f64)) -> (f64, Partial) {
        let t = self.terms(xi);
        let [d0, d1] = self.slopes;
        let (eta, bend) = (1.0 - xi, 1.0 - 2.0 * xi);
        let ratio = t.numerator / t.denominator;
        // From derivatives of N, D and P in one variable, the rest fixed.
        let pull = |n: f64, d: f64, p: f64| {
            let g = self.height * (n - ratio * d) / t.denominator;
            grad_g * g + grad_log * (p / t.slope - 2.0 * d / t.denominator)
        };
        let to_xi = pull(2.0 * t.s * xi + d0 * bend, t.e * bend, 2.0 * (d1 * xi + t.s * bend - d0 * eta));
        let to_s = pull(xi * xi, 1.0 - 2.0 * t.q, 2.0 * t.q) + 2.0 * grad_log / t.s;
        let to_u = to_xi / self.width;
        let to_bin = Partial {
            u: -to_u,
            v: grad_g,
            width: -(to_u * xi + to_s * t.s / self.width),
            height: grad_g * ratio + to_s / self.width,
            slopes: [pull(t.q, t.q, eta * eta), pull(0.0, t.q, xi * xi)],
        };
        (to_u, to_bin)
    }
}

impl Terms {
    fn log_slope(&self) -> f64 {
        (self.s * self.s * self.slope / (self.denominator * self.denominator)).ln()
    }
}
