//! The network from candle's own operations: the oracle of the tests and the path on a GPU.

use super::{TERMS, TransportLayer, TransportNet};
use crate::wilson::composed::neighbour;
use crate::wilson::gamma;
use candle_core::{D, DType, Device, Result, Tensor};

/// Real and imaginary part.
type Complex = [Tensor; 2];

/// Links and neighbours of one of the eight steps.
struct Step {
    mu: usize,
    /// The site each site reads from.
    source: Tensor,
    /// The boundary sign, `[V, 1, 1]`.
    sign: Tensor,
    /// The matrix that multiplies rows of colours from the right, `[B, V, 3, 3]`.
    link: Complex,
}

impl TransportNet {
    /// [`Self::forward`] layer by layer from candle's own operations, on a lattice with extents `dims`; differentiable in everything.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_composed(
        &self,
        links: &Tensor,
        psi: &Tensor,
        coefficients: &Tensor,
        dims: &[usize],
        antiperiodic: bool,
    ) -> Result<Tensor> {
        self.check(links, psi, coefficients)?;
        let (batch, _, components) = psi.dims3()?;
        let volume = components / 12;
        let steps = steps(links, dims, antiperiodic)?;
        let part = |k: usize| psi.narrow(1, k, 1)?.reshape((batch, volume, 1, 12));
        let mut f = [part(0)?, part(1)?];
        for layer in self.layers() {
            let numbers = coefficients.narrow(2, layer.start, layer.count())?;
            let numbers = numbers.reshape((batch, volume, layer.outputs, TERMS, layer.inputs))?;
            f = apply(layer, &numbers, &steps, &f)?;
        }
        Tensor::stack(&f.map(|f| f.reshape((batch, components))).into_iter().collect::<Result<Vec<_>>>()?, 1)
    }
}

/// One layer of f `[B, V, inputs, 12]` with numbers `[B, V, outputs, 17, inputs]`.
fn apply(layer: &TransportLayer, numbers: &Tensor, steps: &[Step], f: &Complex) -> Result<Complex> {
    let number = |term: usize| numbers.narrow(3, term, 1)?.squeeze(3)?.contiguous();
    let own = number(0)?;
    let mut sum = [own.matmul(&f[0])?, own.matmul(&f[1])?];
    for (tap, step) in steps.iter().enumerate() {
        let moved = transport(step, layer.inputs, f)?;
        let rotated = rotate(step.mu, &moved)?;
        for (term, g) in [(1 + 2 * tap, &moved), (2 + 2 * tap, &rotated)] {
            let k = number(term)?;
            sum = [(&sum[0] + k.matmul(&g[0])?)?, (&sum[1] + k.matmul(&g[1])?)?];
        }
    }
    Ok(sum)
}

fn transport(step: &Step, copies: usize, f: &Complex) -> Result<Complex> {
    let (batch, volume, ..) = f[0].dims4()?;
    let rows = |f: &Tensor| -> Result<Tensor> {
        let f = f.contiguous()?.index_select(&step.source, 1)?.broadcast_mul(&step.sign)?;
        f.reshape((batch, volume, 4 * copies, 3))
    };
    let (re, im) = (rows(&f[0])?, rows(&f[1])?);
    let [ur, ui] = &step.link;
    let real = (re.matmul(ur)? - im.matmul(ui)?)?;
    let imaginary = (re.matmul(ui)? + im.matmul(ur)?)?;
    let shape = (batch, volume, copies, 12);
    Ok([real.reshape(shape)?, imaginary.reshape(shape)?])
}

/// γ_μ f.
fn rotate(mu: usize, [re, im]: &Complex) -> Result<Complex> {
    let (batch, volume, copies, _) = re.dims4()?;
    let matrix = gamma::matrix(mu);
    let part = |k: usize| {
        let flat: Vec<f64> = matrix.iter().flatten().map(|z| z[k]).collect();
        Tensor::from_vec(flat, (1, 4, 4), re.device())?.to_dtype(re.dtype())
    };
    let (mr, mi) = (part(0)?, part(1)?);
    let times = |m: &Tensor, v: &Tensor| -> Result<Tensor> {
        m.broadcast_matmul(&v.reshape((batch * volume * copies, 4, 3))?)?.reshape(v.shape())
    };
    Ok([(times(&mr, re)? - times(&mi, im)?)?, (times(&mr, im)? + times(&mi, re)?)?])
}

fn steps(links: &Tensor, dims: &[usize], antiperiodic: bool) -> Result<Vec<Step>> {
    let volume: usize = dims.iter().product();
    let (device, dtype) = (links.device(), links.dtype());
    let mut steps = Vec::with_capacity(8);
    for forwards in [true, false] {
        for mu in 0..4 {
            let (source, signs): (Vec<u32>, Vec<f64>) = (0..volume)
                .map(|x| neighbour(dims, x, mu, if forwards { 1 } else { -1 }, antiperiodic))
                .unzip();
            let source = Tensor::from_vec(source, volume, device)?;
            let u = links.narrow(1, mu, 1)?.squeeze(1)?;
            let part = |k: usize| -> Result<Tensor> {
                let part = u.narrow(D::Minus1, k, 1)?.squeeze(D::Minus1)?.contiguous()?;
                if forwards { part.transpose(2, 3)?.contiguous() } else { part.index_select(&source, 1) }
            };
            // Rows of colours: Uᵀ forwards, (U†)ᵀ = U* backwards.
            let (re, im) = (part(0)?, part(1)?);
            let link = [re, if forwards { im } else { im.neg()? }];
            let sign = sign(signs, dtype, device)?;
            steps.push(Step { mu, source, sign, link });
        }
    }
    Ok(steps)
}

fn sign(signs: Vec<f64>, dtype: DType, device: &Device) -> Result<Tensor> {
    let volume = signs.len();
    Tensor::from_vec(signs, (volume, 1, 1), device)?.to_dtype(dtype)
}
