//! Stabilised bi-conjugate gradients for a batch of systems D_b x_b = b_b in lock-step: D itself, not D D†.
//!
//! ```text
//! ρ = ⟨r̂, r⟩,  p ← r + β (p − ω v),  v = D p,  α = ρ / ⟨r̂, v⟩,  s = r − α v,  t = D s,  ω = ⟨t, s⟩ / ⟨t, t⟩
//! x ← x + α p + ω s,   r ← s − ω t,   β' = (ρ'/ρ)(α/ω)
//! ```
//!
//! Every configuration has its own scalars. One whose recursion breaks down (ρ or ω vanish), or whose residual turns out larger than
//! the recursion said, starts again from b − D x. A configuration that is not finite gets NaN and does not disturb the others;
//! one that is finite but not solved to the tolerance is an error.

use crate::krylov::{self, Complex, Recursion, Solved, Space, checked_residuals};
use crate::{LinearOperator, Result, Solution};
use candle_core::Tensor;

/// Parameters of the solver.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BiCgStab {
    /// Stop a configuration once ‖b − D x‖ ≤ tolerance · ‖b‖.
    pub tolerance: f64,
    /// Give up after this many iterations, of two applications each.
    pub max_iterations: usize,
}

impl Default for BiCgStab {
    fn default() -> Self {
        Self { tolerance: 1e-10, max_iterations: 2000 }
    }
}

fn times([a, b]: Complex, [c, d]: Complex) -> Complex {
    [a * c - b * d, a * d + b * c]
}

fn ratio(a: Complex, [c, d]: Complex) -> Complex {
    let n = c * c + d * d;
    times(a, [c / n, -d / n])
}

fn negative(z: &[Complex]) -> Vec<Complex> {
    z.iter().map(|[a, b]| [-a, -b]).collect()
}

fn norm2([a, b]: Complex) -> f64 {
    a * a + b * b
}

impl BiCgStab {
    /// Solves D x = b, starting from zero. f64, shape `[B, 2, N]`. The residuals of the solution are computed from x.
    ///
    /// # Errors
    /// [`crate::Error::NoConvergence`] when a configuration does not reach the tolerance.
    pub fn solve(&self, d: &dyn LinearOperator, b: &Tensor) -> Result<Solution> {
        krylov::solve(d, b, self)
    }
}

impl Recursion for BiCgStab {
    fn run<S: Space>(&self, space: &S, b: &S::Vector) -> Result<Solved<S::Vector>> {
        let b2 = space.dot(b, b)?;
        let batch = b2.len();
        let goal: Vec<f64> = b2.iter().map(|n| self.tolerance * self.tolerance * n).collect();
        let one = space.all(1.0);
        let mut x = space.zeros()?;
        let (mut r, mut shadow, mut p) = (space.copy(b)?, space.copy(b)?, space.copy(b)?);
        let (mut v, mut t) = (space.zeros()?, space.zeros()?);
        let mut r2 = b2.clone();
        let mut rho: Vec<Complex> = krylov::real(&r2);
        let mut iterations = vec![0; batch];
        // Whether r is b − D x and not what the recursion says.
        let mut fresh = true;
        for _ in 0..self.max_iterations {
            // False for NaN: a configuration that is not finite is given up.
            let wanted = |r2: &[f64]| -> Vec<bool> {
                r2.iter().zip(&goal).map(|(r, g)| r > g && r.is_finite()).collect()
            };
            let mut active = wanted(&r2);
            if !active.contains(&true) {
                if fresh {
                    break;
                }
                r2 = self.renew(space, b, &x, (&mut r, &mut shadow, &mut p))?;
                (rho, fresh, active) = (krylov::real(&r2), true, wanted(&r2));
                if !active.contains(&true) {
                    break;
                }
            }
            let chosen = |f: &dyn Fn(usize) -> Complex| -> Vec<Complex> {
                (0..batch).map(|i| if active[i] { f(i) } else { [0.0; 2] }).collect()
            };
            space.apply(&p, &mut v)?;
            let projection = space.inner(&shadow, &v)?;
            // Without a projection only the step along r is left.
            let alpha = chosen(&|i| {
                if norm2(projection[i]) == 0.0 { [0.0; 2] } else { ratio(rho[i], projection[i]) }
            });
            space.combine(&negative(&alpha), &v, &one, &mut r)?;
            space.apply(&r, &mut t)?;
            let (ts, tt) = (space.inner(&t, &r)?, space.dot(&t, &t)?);
            let omega = chosen(&|i| if tt[i] == 0.0 { [0.0; 2] } else { ts[i].map(|z| z / tt[i]) });
            space.combine(&alpha, &p, &one, &mut x)?;
            space.combine(&omega, &r, &one, &mut x)?;
            space.combine(&negative(&omega), &t, &one, &mut r)?;
            fresh = false;
            let (next, next2) = (space.inner(&shadow, &r)?, space.dot(&r, &r)?);
            let beta = chosen(&|i| times(ratio(next[i], rho[i]), ratio(alpha[i], omega[i])));
            // p ← r + β (p − ω v).
            let drift: Vec<Complex> =
                beta.iter().zip(&omega).map(|(b, w)| times(*b, *w)).map(|[a, b]| [-a, -b]).collect();
            space.combine(&drift, &v, &beta, &mut p)?;
            space.combine(&one, &r, &one, &mut p)?;
            (0..batch).filter(|&i| active[i]).for_each(|i| iterations[i] += 1);
            // Where r is finite but its projection is lost in rounding, the next step would not be.
            let lost = |i: usize| {
                let small = f64::EPSILON * f64::EPSILON * next2[i] * b2[i];
                next2[i].is_finite() && (norm2(next[i]) <= small || !norm2(beta[i]).is_finite())
            };
            let broken = (0..batch).any(|i| active[i] && next2[i] > goal[i] && lost(i));
            (rho, r2) = (next, next2);
            if broken {
                r2 = self.renew(space, b, &x, (&mut r, &mut shadow, &mut p))?;
                (rho, fresh) = (krylov::real(&r2), true);
            }
        }
        if !fresh {
            r2 = self.renew(space, b, &x, (&mut r, &mut shadow, &mut p))?;
        }
        let relative_residual = checked_residuals(space, (&r2, &b2), self.tolerance, self.max_iterations)?;
        Ok(Solved { x, iterations, relative_residual })
    }
}

impl BiCgStab {
    /// r, r̂, p ← b − D x; its norms squared.
    fn renew<S: Space>(
        &self,
        space: &S,
        b: &S::Vector,
        x: &S::Vector,
        (r, shadow, p): (&mut S::Vector, &mut S::Vector, &mut S::Vector),
    ) -> Result<Vec<f64>> {
        space.apply(x, r)?;
        space.combine(&space.all(1.0), b, &space.all(-1.0), r)?;
        // Copies, because p may not be finite any more.
        (*shadow, *p) = (space.copy(r)?, space.copy(r)?);
        space.dot(r, r)
    }
}
