//! Functions of a site's field and of the sum of its neighbours, with their derivatives.
//!
//! ```text
//! f(φ, S) = a(φ) b(S),     a(s) = s^p w(ωs),     w = 1, sin or cos
//! ```

use crate::Result;
use candle_core::Tensor;

/// The bounded part w of a factor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wave {
    /// 1.
    None,
    /// sin(ωs).
    Sin(f64),
    /// cos(ωs).
    Cos(f64),
}

/// A function s^p w(ωs) of one variable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factor {
    /// p.
    pub power: usize,
    /// w.
    pub wave: Wave,
}

impl Factor {
    /// 1.
    pub const ONE: Self = Self { power: 0, wave: Wave::None };

    /// s^p.
    pub fn power(power: usize) -> Self {
        Self { power, wave: Wave::None }
    }

    /// sin(ωs).
    pub fn sin(frequency: f64) -> Self {
        Self { power: 0, wave: Wave::Sin(frequency) }
    }

    /// cos(ωs).
    pub fn cos(frequency: f64) -> Self {
        Self { power: 0, wave: Wave::Cos(frequency) }
    }

    /// Whether f(−s) = −f(s).
    pub fn is_odd(&self) -> bool {
        (self.power % 2 == 1) != matches!(self.wave, Wave::Sin(_))
    }
}

/// A function a(φ) b(S) of a site's field and the sum of its nearest neighbours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Local {
    /// a.
    pub field: Factor,
    /// b.
    pub sum: Factor,
}

impl Local {
    /// 1.
    pub const ONE: Self = Self { field: Factor::ONE, sum: Factor::ONE };

    /// a(φ).
    pub fn field(field: Factor) -> Self {
        Self { field, sum: Factor::ONE }
    }

    /// a(φ) b(S).
    pub fn product(field: Factor, sum: Factor) -> Self {
        Self { field, sum }
    }

    /// Whether f(−φ, −S) = −f(φ, S).
    pub fn is_odd(&self) -> bool {
        self.field.is_odd() != self.sum.is_odd()
    }
}

/// f, ∂f/∂φ and ∂f/∂S at every site, `[B, V]`; no value means 1, no derivative 0.
#[derive(Debug)]
pub(super) struct Evaluated {
    pub(super) value: Option<Tensor>,
    pub(super) by_field: Option<Tensor>,
    pub(super) by_sum: Option<Tensor>,
}

/// The variables φ and S, with the sines and cosines that some functions of them need.
pub(super) struct Arguments {
    field: Variable,
    sum: Variable,
}

impl Arguments {
    pub(super) fn new<'a>(
        phi: &Tensor,
        sum: &Tensor,
        functions: impl Iterator<Item = &'a Local> + Clone,
    ) -> Result<Self> {
        let field = Variable::new(phi, functions.clone().map(|f| f.field))?;
        Ok(Self { field, sum: Variable::new(sum, functions.map(|f| f.sum))? })
    }

    pub(super) fn evaluate(&self, f: &Local) -> Result<Evaluated> {
        let ((a, a_slope), (b, b_slope)) = (self.field.evaluate(&f.field)?, self.sum.evaluate(&f.sum)?);
        let slope = |slope: Option<Tensor>, other: &Option<Tensor>| match slope {
            Some(slope) => product(Some(slope), other.clone()),
            None => Ok(None),
        };
        let (by_field, by_sum) = (slope(a_slope, &b)?, slope(b_slope, &a)?);
        Ok(Evaluated { value: product(a, b)?, by_field, by_sum })
    }
}

struct Variable {
    base: Tensor,
    /// (ω, sin ωs, cos ωs).
    waves: Vec<(f64, Tensor, Tensor)>,
}

impl Variable {
    fn new(base: &Tensor, factors: impl Iterator<Item = Factor>) -> Result<Self> {
        let mut waves: Vec<(f64, Tensor, Tensor)> = Vec::new();
        for factor in factors {
            if let Wave::Sin(w) | Wave::Cos(w) = factor.wave
                && waves.iter().all(|known| known.0 != w)
            {
                let angle = (base * w)?;
                waves.push((w, angle.sin()?, angle.cos()?));
            }
        }
        Ok(Self { base: base.clone(), waves })
    }

    /// Value and derivative of a factor.
    fn evaluate(&self, factor: &Factor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let waves = |frequency: f64| {
            let found = self.waves.iter().find(|w| w.0 == frequency);
            let (_, sin, cos) = found.expect("the waves of all functions were tabulated");
            (sin, cos)
        };
        let (wave, wave_slope) = match factor.wave {
            Wave::None => (None, None),
            Wave::Sin(w) => (Some(waves(w).0.clone()), Some((waves(w).1 * w)?)),
            Wave::Cos(w) => (Some(waves(w).1.clone()), Some((waves(w).0 * -w)?)),
        };
        let p = factor.power;
        let from_power = match p {
            0 => None,
            1 => Some(self.base.ones_like()?),
            p => self.power(p - 1)?.map(|lower| lower * p as f64).transpose()?,
        };
        let from_power = match from_power {
            Some(slope) => product(Some(slope), wave.clone())?,
            None => None,
        };
        let from_wave = match wave_slope {
            Some(slope) => product(self.power(p)?, Some(slope))?,
            None => None,
        };
        let slope = match (from_power, from_wave) {
            (Some(a), Some(b)) => Some((a + b)?),
            (a, b) => a.or(b),
        };
        Ok((product(self.power(p)?, wave)?, slope))
    }

    /// s^p, nothing for p = 0.
    fn power(&self, p: usize) -> Result<Option<Tensor>> {
        let mut power = None;
        for _ in 0..p {
            power = product(power, Some(self.base.clone()))?;
        }
        Ok(power)
    }
}

/// a b, where nothing stands for 1.
fn product(a: Option<Tensor>, b: Option<Tensor>) -> Result<Option<Tensor>> {
    Ok(match (a, b) {
        (Some(a), Some(b)) => Some((a * b)?),
        (a, b) => a.or(b),
    })
}
