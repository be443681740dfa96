//! Loops of links and links with new factors, against gathers and products in candle's operations.

mod common;

use candle_core::{DType, Device, Result, Tensor};
use common::{deviation, pull_back, stream, uniform, values};
use latflow_kernels::{LinkLoops, multiply_links};

const LINKS: usize = 12;

/// Any numbers: nothing here needs unitary matrices.
fn links(batch: usize) -> Tensor {
    uniform(&[batch, LINKS, 3, 3, 2], DType::F64, &mut stream(1))
}

fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let part = |t: &Tensor, k: usize| t.narrow(3, k, 1)?.squeeze(3)?.contiguous();
    let (ar, ai, br, bi) = (part(a, 0)?, part(a, 1)?, part(b, 0)?, part(b, 1)?);
    let re = (ar.matmul(&br)? - ai.matmul(&bi)?)?;
    Tensor::stack(&[re, (ar.matmul(&bi)? + ai.matmul(&br)?)?], 3)
}

fn adjoint(a: &Tensor) -> Result<Tensor> {
    let t = a.transpose(1, 2)?;
    Tensor::cat(&[t.narrow(3, 0, 1)?, t.narrow(3, 1, 1)?.neg()?], 3)
}

fn link(links: &Tensor, i: u32) -> Result<Tensor> {
    links.narrow(1, i as usize, 1)?.squeeze(1)
}

fn loops() -> Vec<Option<[u32; 4]>> {
    vec![Some([0, 1, 2, 3]), None, Some([11, 3, 7, 0]), Some([5, 6, 4, 8]), Some([3, 0, 1, 2])]
}

fn composed(links: &Tensor) -> Result<Tensor> {
    let all = loops().into_iter().map(|one| match one {
        None => link(links, 0)?.zeros_like(),
        Some([a, b, c, d]) => {
            let there = product(&link(links, a)?, &link(links, b)?)?;
            product(&there, &adjoint(&product(&link(links, d)?, &link(links, c)?)?)?)
        }
    });
    Tensor::stack(&all.collect::<Result<Vec<_>>>()?, 1)
}

#[test]
fn loops_are_products_of_their_links_with_all_gradients() {
    let ours = LinkLoops::new(LINKS, loops()).unwrap();
    for batch in [1, 8, 21] {
        let u = links(batch);
        let pairs = [
            (pull_back(|a| ours.matrices(&a[0]), &[&u], 7), pull_back(|a| composed(&a[0]), &[&u], 7)),
            (
                pull_back(|a| ours.traces(&a[0]), &[&u], 7),
                pull_back(
                    |a| {
                        let w = composed(&a[0])?;
                        let d = |k: usize| w.narrow(2, k, 1)?.narrow(3, k, 1)?.squeeze(3)?.squeeze(2);
                        (d(0)? + d(1)?)? + d(2)?
                    },
                    &[&u],
                    7,
                ),
            ),
        ];
        for (ours, theirs) in pairs {
            assert!(ours.iter().zip(&theirs).all(|(a, b)| deviation(a, b) < 1e-14));
        }
    }
}

#[test]
fn some_links_get_a_factor_and_others_stay() {
    let at: Vec<u32> = vec![9, 0, 4, 2, 11, 1, 3, 7, 10];
    let (u, m) = (links(3), uniform(&[3, at.len(), 3, 3, 2], DType::F64, &mut stream(2)));
    let composed = |a: &[Tensor]| {
        let all = (0..LINKS as u32).map(|i| match at.iter().position(|k| *k == i) {
            None => link(&a[0], i),
            Some(k) => product(&link(&a[1], k as u32)?, &link(&a[0], i)?),
        });
        Tensor::stack(&all.collect::<Result<Vec<_>>>()?, 1)
    };
    let ours = pull_back(|a| multiply_links(&a[0], &at, &a[1]), &[&u, &m], 3);
    let theirs = pull_back(composed, &[&u, &m], 3);
    assert!(ours.iter().zip(&theirs).all(|(a, b)| deviation(a, b) < 1e-14));
    let none = multiply_links(&u, &[], &Tensor::zeros((3, 0, 3, 3, 2), DType::F64, &Device::Cpu).unwrap());
    assert_eq!(values(&none.unwrap()), values(&u));
}

#[test]
fn numbers_that_are_no_links_are_refused() {
    assert!(LinkLoops::new(4, vec![Some([0, 1, 2, 4])]).is_err());
    assert!(LinkLoops::new(4, vec![Some([0, 1, 2, 1])]).is_err());
    let u = links(2);
    assert!(LinkLoops::new(5, vec![Some([0, 1, 2, 4])]).unwrap().traces(&u).is_err());
    let m = uniform(&[2, 2, 3, 3, 2], DType::F64, &mut stream(2));
    for at in [[0, 0], [0, LINKS as u32]] {
        assert!(multiply_links(&u, &at, &m).is_err());
    }
    assert!(multiply_links(&u, &[1], &m).is_err());
}
