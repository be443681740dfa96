//! Windowed matrices against candle's own operations and against dense matrices.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use candle_core::{Device, Tensor};
use common::{deviation, pull_back, stream, uniform, values};
use latflow_kernels::window::{Windows, gram, gram_trace, widen, widen_composed};

const DTYPE: candle_core::DType = candle_core::DType::F64;

/// On a ring of `volume` sites, the `size` sites from every site onwards.
fn ring(volume: usize, size: usize) -> Windows {
    let sites = (0..volume).flat_map(|x| (0..size).map(move |d| ((x + 2 * volume - d) % volume) as u32));
    Windows::new(volume, sites.collect()).unwrap()
}

/// c, a and l for B, V, D, C.
fn arguments([batch, volume, size, channels]: [usize; 4]) -> [Tensor; 3] {
    let mut rng = stream((1000 * volume + 100 * size + channels) as u64);
    let shapes: [&[usize]; 3] =
        [&[batch, volume, channels], &[batch, volume * size, channels], &[size, channels]];
    shapes.map(|shape| uniform(shape, DTYPE, &mut rng))
}

/// H and Tr[G H] from candle's operations, differentiable.
fn plain_trace(t: &[Tensor], g: &Tensor, windows: &Windows) -> candle_core::Result<Tensor> {
    let (c, a, l) = (&t[0], &t[1], &t[2]);
    let ((batch, volume, channels), size) = (c.dims3()?, windows.size());
    let alpha = a.reshape((batch, volume, size, channels))?.broadcast_add(l)?;
    let mut trace = Tensor::zeros(batch, DTYPE, &Device::Cpu)?;
    for x in 0..volume {
        let sites = Tensor::new(&windows.sites()[x * size..][..size], &Device::Cpu)?;
        let block = g.index_select(&sites, 1)?.index_select(&sites, 2)?;
        let alpha = alpha.narrow(1, x, 1)?.squeeze(1)?;
        let scaled = alpha.broadcast_mul(&c.narrow(1, x, 1)?)?;
        trace = (trace + (block.contiguous()?.matmul(&alpha.contiguous()?)? * scaled)?.sum((1, 2))?)?;
    }
    Ok(trace)
}

const CASES: [[usize; 4]; 5] = [[3, 7, 4, 5], [1, 12, 12, 16], [5, 6, 1, 1], [2, 30, 25, 8], [4, 9, 5, 2]];

#[test]
fn widening_is_its_composed_twin() {
    for case in CASES {
        let t = arguments(case);
        let wide = 2 * case[2] + 1;
        let place: Vec<u32> = (0..case[2]).map(|d| (wide - 1 - 2 * d) as u32).collect();
        let arguments = [&t[0], &t[1], &t[2]];
        let fused = pull_back(|t| widen(&t[0], &t[1], &t[2], &place, wide), &arguments, 1);
        let composed = pull_back(|t| widen_composed(&t[0], &t[1], &t[2], &place, wide), &arguments, 1);
        for (fused, composed) in fused.iter().zip(&composed) {
            assert!(deviation(fused, composed) < 1e-13, "{case:?}");
        }
    }
}

#[test]
fn traces_have_the_derivatives_of_candles_operations() {
    for case in CASES {
        let (windows, t) = (ring(case[1], case[2]), arguments(case));
        let g = uniform(&[case[0], case[1], case[1]], DTYPE, &mut stream(3));
        let g = (&g + g.t().unwrap()).unwrap();
        let arguments = [&t[0], &t[1], &t[2]];
        let fused = pull_back(|t| gram_trace(&t[0], &t[1], &t[2], &g, &windows), &arguments, 1);
        let plain = pull_back(|t| plain_trace(t, &g, &windows), &arguments, 1);
        for (fused, plain) in fused.iter().zip(&plain) {
            assert!(deviation(fused, plain) < 1e-13, "{case:?}");
        }
    }
}

#[test]
fn gram_matrices_are_sums_over_sites_and_channels() {
    for case in CASES {
        let [batch, volume, size, channels] = case;
        let (windows, t) = (ring(volume, size), arguments(case));
        let [c, a, l] = [&t[0], &t[1], &t[2]].map(values);
        let mut h = vec![0.0; batch * volume * volume];
        for b in 0..batch {
            for x in 0..volume {
                let alpha = |d: usize, i: usize| {
                    a[((b * volume + x) * size + d) * channels + i] + l[d * channels + i]
                };
                for (d, e) in (0..size).flat_map(|d| (0..size).map(move |e| (d, e))) {
                    let site = |d: usize| windows.sites()[x * size + d] as usize;
                    h[(b * volume + site(d)) * volume + site(e)] += (0..channels)
                        .map(|i| c[(b * volume + x) * channels + i] * alpha(d, i) * alpha(e, i))
                        .sum::<f64>();
                }
            }
        }
        let expected = Tensor::from_vec(h, (batch, volume, volume), &Device::Cpu).unwrap();
        let got = gram(&t[0], &t[1], &t[2], &windows).unwrap();
        assert!(deviation(&got, &expected) < 1e-13, "{case:?}");
    }
}

#[test]
fn bad_tables_are_refused() {
    assert!(Windows::new(4, vec![]).is_err());
    assert!(Windows::new(2, vec![0, 1, 0]).is_err());
    assert!(Windows::new(2, vec![0, 0, 1, 0]).is_err());
    assert!(Windows::new(2, vec![0, 2]).is_err());
    let t = arguments([1, 4, 2, 3]);
    assert!(widen(&t[0], &t[1], &t[2], &[1, 1], 3).is_err());
    assert!(widen(&t[0], &t[1], &t[2], &[0, 3], 3).is_err());
    assert!(gram(&t[0], &t[1], &t[2], &ring(4, 3)).is_err());
}
