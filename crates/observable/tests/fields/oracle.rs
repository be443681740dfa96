//! The paper's formulas as loops over sites with coordinates, nothing shared with the library.

/// Coordinates, time last.
#[derive(Clone)]
pub(crate) struct Site(Vec<usize>);

impl Site {
    pub(crate) fn origin(dims: &[usize]) -> Self {
        Self(vec![0; dims.len()])
    }

    pub(crate) fn at_time(&self, t: usize) -> Self {
        let mut x = self.0.clone();
        *x.last_mut().unwrap() = t;
        Self(x)
    }

    /// Row-major index, time fastest.
    pub(crate) fn index(&self, dims: &[usize]) -> usize {
        let mut index = 0;
        for (x, l) in self.0.iter().zip(dims) {
            index = index * l + x;
        }
        index
    }

    fn all(dims: &[usize]) -> Vec<Self> {
        let mut sites = vec![Self(vec![])];
        for &l in dims {
            sites = sites
                .iter()
                .flat_map(|site| (0..l).map(|x| Self([&site.0[..], &[x]].concat())).collect::<Vec<_>>())
                .collect();
        }
        sites
    }
}

/// C_φ(t) = (1/V) Σ_x Σ_y⃗ φ(x) φ(x + (y⃗, t)) [YUK (47)].
pub(crate) fn two_point(dims: &[usize], phi: &[f64]) -> Vec<f64> {
    let last = dims.len() - 1;
    let sites = Site::all(dims);
    let mut correlator = vec![0.0; dims[last]];
    for x in &sites {
        for y in &sites {
            // y runs over all displacements; its time component is t.
            let sum: Vec<usize> = x.0.iter().zip(&y.0).zip(dims).map(|((x, y), l)| (x + y) % l).collect();
            correlator[y.0[last]] += phi[x.index(dims)] * phi[Site(sum).index(dims)] / phi.len() as f64;
        }
    }
    correlator
}

/// The matrix of D = ½ Σ_μ η_μ(x) [δ(x + μ̂ − y) − δ(x − μ̂ − y)] + (gφ + m_f) δ(x − y) with δ antiperiodic in time
/// [YUK (41)–(44)].
pub(crate) fn staggered(dims: &[usize], phi: &[f64], mass: f64, g: f64) -> Vec<Vec<f64>> {
    let last = dims.len() - 1;
    let mut matrix = vec![vec![0.0; phi.len()]; phi.len()];
    for x in Site::all(dims) {
        let row = x.index(dims);
        matrix[row][row] += g * phi[row] + mass;
        for mu in 0..dims.len() {
            let eta: f64 = x.0[..mu].iter().map(|x| if x % 2 == 0 { 1.0 } else { -1.0 }).product();
            for forwards in [true, false] {
                let mut y = x.clone();
                let wraps = if forwards { x.0[mu] == dims[mu] - 1 } else { x.0[mu] == 0 };
                y.0[mu] = (x.0[mu] + if forwards { 1 } else { dims[mu] - 1 }) % dims[mu];
                let sign = if forwards { 0.5 } else { -0.5 };
                let boundary = if wraps && mu == last { -1.0 } else { 1.0 };
                matrix[row][y.index(dims)] += sign * eta * boundary;
            }
        }
    }
    matrix
}

/// Gauss–Jordan elimination with row pivots.
pub(crate) fn inverse(mut a: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let n = a.len();
    for (i, row) in a.iter_mut().enumerate() {
        row.extend((0..n).map(|j| if i == j { 1.0 } else { 0.0 }));
    }
    for column in 0..n {
        let pivot = (column..n).max_by(|i, j| a[*i][column].abs().total_cmp(&a[*j][column].abs())).unwrap();
        a.swap(column, pivot);
        let scale = a[column][column];
        a[column].iter_mut().for_each(|x| *x /= scale);
        let pivot_row = a[column].clone();
        for (_, row) in a.iter_mut().enumerate().filter(|(i, _)| *i != column) {
            let factor = row[column];
            row.iter_mut().zip(&pivot_row).for_each(|(x, p)| *x -= factor * p);
        }
    }
    a.into_iter().map(|row| row[n..].to_vec()).collect()
}

/// (1/V) Σ_p cos(p_t t)/(m² + Σ_μ sin² p_μ), p⃗ periodic, p_t antiperiodic; any integer t.
pub(crate) fn momentum_sum(dims: &[usize], mass: f64, t: f64) -> f64 {
    let last = dims.len() - 1;
    let sites = Site::all(dims);
    let mut sum = 0.0;
    for n in &sites {
        let mut denominator = mass * mass;
        for (mu, (n, extent)) in n.0.iter().zip(dims).enumerate() {
            denominator += momentum(*n, *extent, mu == last).sin().powi(2);
        }
        sum += (momentum(n.0[last], dims[last], true) * t).cos() / denominator;
    }
    sum / sites.len() as f64
}

fn momentum(n: usize, extent: usize, antiperiodic: bool) -> f64 {
    std::f64::consts::PI * (2 * n + usize::from(antiperiodic)) as f64 / extent as f64
}
