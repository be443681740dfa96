//! Two degenerate flavours by two pseudofermions: a heavy one, and one for what is left of the light ones.
//!
//! ```text
//! det D D† = det D₁D₁† · det (D₁⁻¹ D D† D₁⁻†)
//! S(φ, ϕ₁, ϕ₂) = ϕ₁† (D₁D₁†)⁻¹ ϕ₁ + ‖D⁻¹ D₁ ϕ₂‖²
//! ϕ₁ = D₁ χ₁,   ϕ₂ = D₁⁻¹ D χ₂,   χ ~ e^{−χ†χ}:     exact samples of p(ϕ₁, ϕ₂|φ) ∝ e^{−S}
//! ```
//!
//! D₁ is D with a larger mass (a smaller κ). Each part's force is smaller than that of one pseudofermion alone, and the expensive part
//! may take longer steps. The product of the two weights is det D D† for every D₁, so that the choice costs time, never exactness.

use crate::{Action, Error, HeatBath, Refresh, Result, Sum, TrainingTarget};
use candle_core::{DType, Tensor};
use latflow_fermion::{ConjugateGradient, Dirac, LinearOperator, NormalOperator, quadratic_form_of_inverse};
use latflow_lattice::{Configuration, Rng, normal_tensor};

/// The theory S_B(φ) + S(φ, ϕ₁, ϕ₂): an action of (φ, (ϕ₁, ϕ₂)) with gradients in all three, and of φ alone once both are drawn.
#[derive(Debug, Clone)]
pub struct Hasenbusch<A, D> {
    /// The bosonic part.
    pub bosonic: A,
    /// The pseudofermions.
    pub fermions: HasenbuschPair<D>,
}

/// D, D₁ and the solver: S(φ, ϕ₁, ϕ₂) without the bosonic part.
#[derive(Debug, Clone)]
pub struct HasenbuschPair<D> {
    light: D,
    heavy: D,
    solver: ConjugateGradient,
}

/// ϕ₁† (D₁D₁†)⁻¹ ϕ₁ at a fixed ϕ₁.
#[derive(Debug, Clone)]
pub struct HeavyAction<D> {
    fermions: HasenbuschPair<D>,
    pf: Tensor,
}

/// ‖D⁻¹ D₁ ϕ₂‖² at a fixed ϕ₂.
#[derive(Debug, Clone)]
pub struct RatioAction<D> {
    fermions: HasenbuschPair<D>,
    pf: Tensor,
}

impl<D: Dirac> HasenbuschPair<D> {
    /// The splitting of `light` by `heavy`; `solver` is for both normal operators.
    ///
    /// # Errors
    /// When the operators act on vectors of different length.
    pub fn new(light: D, heavy: D, solver: ConjugateGradient) -> Result<Self> {
        let (expected, got) = (light.components(), heavy.components());
        if expected != got {
            let expected = format!("{expected} components");
            return Err(Error::Shape { what: "vectors of the heavy operator", expected, got: vec![got] });
        }
        Ok(Self { light, heavy, solver })
    }

    /// D.
    pub fn light(&self) -> &D {
        &self.light
    }

    /// D₁.
    pub fn heavy(&self) -> &D {
        &self.heavy
    }

    fn check(&self, phi: &D::Field, pf: &Tensor) -> Result<()> {
        let shape = self.light.vector_shape(phi.batch()?);
        if pf.dims() == shape {
            return Ok(());
        }
        Err(Error::Shape { what: "pseudofermion", expected: format!("{shape:?}"), got: pf.dims().to_vec() })
    }

    /// ϕ₁† (D₁D₁†)⁻¹ ϕ₁, `[B]`, with gradients in φ and ϕ₁ `[B, 2, N]`.
    ///
    /// # Errors
    /// When a field does not fit or the solver does not converge.
    pub fn heavy_action(&self, phi: &D::Field, pf: &Tensor) -> Result<Tensor> {
        self.check(phi, pf)?;
        Ok(quadratic_form_of_inverse(&self.heavy, phi, pf, &self.solver)?.0)
    }

    /// ‖D⁻¹ D₁ ϕ₂‖², `[B]`, with gradients in φ and ϕ₂ `[B, 2, N]`.
    ///
    /// # Errors
    /// When a field does not fit or the solver does not converge.
    pub fn ratio_action(&self, phi: &D::Field, pf: &Tensor) -> Result<Tensor> {
        self.check(phi, pf)?;
        let source = self.heavy.bind(phi)?.apply(pf)?;
        Ok(quadratic_form_of_inverse(&self.light, phi, &source, &self.solver)?.0)
    }

    /// (ϕ₁, ϕ₂), one exact draw for each φ, without autodiff history.
    ///
    /// # Errors
    /// When φ does not fit or the solver does not converge.
    pub fn draw(&self, phi: &D::Field, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        let (phi, shape) = (phi.detach(), self.light.vector_shape(phi.batch()?));
        let sigma = std::f64::consts::FRAC_1_SQRT_2;
        let mut chi = || normal_tensor(rng, sigma, &shape, DType::F64, phi.device());
        let heavy = self.heavy.bind(&phi)?;
        let first = heavy.apply(&chi()?)?;
        let light = self.light.bind(&phi)?.apply(&chi()?)?;
        // D₁⁻¹ = D₁† (D₁D₁†)⁻¹.
        let solved = self.solver.solve(&NormalOperator(heavy.clone()), &light)?.x;
        Ok((first, heavy.apply_adjoint(&solved)?))
    }

    /// log ∫dϕ₁dϕ₂ e^{−S} − 2 log |det D_theory(φ)|, the same for every φ: 2 N log π − 2c with c that of D.
    pub fn log_normalisation(&self) -> f64 {
        let pi = std::f64::consts::PI.ln();
        2.0 * (self.light.components() as f64 * pi - self.light.log_abs_det_constant())
    }
}

impl<D: Dirac + Clone> HasenbuschPair<D> {
    /// Both pseudofermions drawn anew, and their actions as functions of φ: parts of an integrator with several time scales.
    ///
    /// # Errors
    /// When φ does not fit or the solver does not converge.
    pub fn heatbath(&self, phi: &D::Field, rng: &mut Rng) -> Result<(HeavyAction<D>, RatioAction<D>)> {
        let (first, second) = self.draw(phi, rng)?;
        Ok((
            HeavyAction { fermions: self.clone(), pf: first },
            RatioAction { fermions: self.clone(), pf: second },
        ))
    }
}

impl<D: Dirac> Action<D::Field> for HeavyAction<D> {
    fn action(&self, phi: &D::Field) -> Result<Tensor> {
        self.fermions.heavy_action(phi, &self.pf)
    }
}

impl<D: Dirac> Action<D::Field> for RatioAction<D> {
    fn action(&self, phi: &D::Field) -> Result<Tensor> {
        self.fermions.ratio_action(phi, &self.pf)
    }
}

impl<A: Action<D::Field>, D: Dirac> Action<(D::Field, (Tensor, Tensor))> for Hasenbusch<A, D> {
    fn action(&self, (phi, (first, second)): &(D::Field, (Tensor, Tensor))) -> Result<Tensor> {
        let fermions =
            (self.fermions.heavy_action(phi, first)? + self.fermions.ratio_action(phi, second)?)?;
        Ok((self.bosonic.action(phi)? + fermions)?)
    }
}

impl<A: Action<D::Field>, D: Dirac> TrainingTarget<(D::Field, (Tensor, Tensor))> for Hasenbusch<A, D> {
    /// The joint action itself: nothing about it is stochastic.
    fn surrogate_action(&self, fields: &(D::Field, (Tensor, Tensor)), _: &mut Rng) -> Result<Tensor> {
        self.action(fields)
    }
}

impl<A: Action<D::Field>, D: Dirac> HeatBath<D::Field, (Tensor, Tensor)> for Hasenbusch<A, D> {
    fn draw(&self, phi: &D::Field, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        self.fermions.draw(phi, rng)
    }
}

impl<A: Action<D::Field> + Clone, D: Dirac + Clone> Refresh<D::Field> for Hasenbusch<A, D> {
    type Conditional = Sum<A, Sum<HeavyAction<D>, RatioAction<D>>>;

    fn refresh(&self, phi: &D::Field, rng: &mut Rng) -> Result<Self::Conditional> {
        let (heavy, ratio) = self.fermions.heatbath(phi, rng)?;
        Ok(Sum(self.bosonic.clone(), Sum(heavy, ratio)))
    }
}
