use mseq_backend::ops::{
    GluFwd, StridedConv1dFwd, TransposedConv1dFwd, strided_conv1d_weight, transposed_conv1d_weight,
};
use mseq_backend::{Backend, Result};

use crate::random::{poison, rounded, single, stored, whole};
use crate::{Check, Close, Random, tolerance};

/// Rows of y or x, channels in and out, taps, stride.
type Shape = (usize, usize, usize, usize, usize);

/// The layers of CleanUMamba, pruned ones, and others.
fn shapes(random: &mut Random) -> Vec<Shape> {
    let mut shapes = vec![
        (1, 1, 1, 1, 1),
        (1000, 1, 32, 4, 2),
        (700, 32, 64, 4, 2),
        (513, 64, 64, 4, 2),
        (301, 32, 1, 4, 2),
        (65, 37, 29, 4, 2),
        (3, 5, 70, 8, 2),
    ];
    for _ in 0..6 {
        let stride = random.between(1, 4);
        let taps = stride * random.between(1, 4);
        let mut n = |high| random.between(1, high);
        shapes.push((n(200), n(40), n(90), taps, stride));
    }
    shapes
}

/// Convolutions with and without ReLU, by their definition.
///
/// # Errors
/// What the backend refuses.
pub fn strided_conv1d_fwd<B: Backend>(backend: &B, seed: u64) -> Result<Vec<Check>> {
    let mut random = Random::new(seed);
    let mut checks = Vec::new();
    for (rows, in_channels, out_channels, taps, stride) in shapes(&mut random) {
        let (x, xs) = stored(backend, &random.values(((rows - 1) * stride + taps) * in_channels, -1.0, 1.0))?;
        let w = random.values(out_channels * in_channels * taps, -1.0, 1.0);
        let ws = rounded(backend, &w)?;
        let laid_out = strided_conv1d_weight(&w, in_channels, taps);
        let weight = backend.linear(&laid_out, out_channels, taps * in_channels)?;
        let (bias, bs) = single(backend, &random.values(out_channels, -1.0, 1.0))?;
        let mut truth = Vec::with_capacity(rows * out_channels);
        for t in 0..rows {
            for o in 0..out_channels {
                let mut sum = bs[o];
                for c in 0..in_channels {
                    for k in 0..taps {
                        sum += ws[(o * in_channels + c) * taps + k] * xs[(t * stride + k) * in_channels + c];
                    }
                }
                truth.push(sum);
            }
        }
        for relu in [false, true] {
            let run = || -> Result<Vec<f32>> {
                let mut y = backend.activations(rows * out_channels)?;
                poison(backend, &mut y)?;
                backend.strided_conv1d_fwd(StridedConv1dFwd {
                    rows,
                    in_channels,
                    out_channels,
                    taps,
                    stride,
                    x: &x,
                    weight: &weight,
                    bias: &bias,
                    relu,
                    y: &mut y,
                })?;
                whole(backend, &y)
            };
            let truth: Vec<f64> = truth.iter().map(|v| if relu { v.max(0.0) } else { *v }).collect();
            let what = format!(
                "rows {rows}, {in_channels} to {out_channels}, taps {taps}, stride {stride}, ReLU {relu}"
            );
            let found = run()?;
            checks.push(Check::new(&what, &found, &truth, tolerance(backend.dtype(), Close::Stored)));
            checks.push(Check::twice(&what, &found, &run()?));
        }
    }
    Ok(checks)
}

/// Transposed convolutions with and without ReLU and a sum, into the backend's type and into f32: each
/// row of x is added where its taps fall.
///
/// # Errors
/// What the backend refuses.
pub fn transposed_conv1d_fwd<B: Backend>(backend: &B, seed: u64) -> Result<Vec<Check>> {
    let mut random = Random::new(seed);
    let mut checks = Vec::new();
    for (rows, in_channels, out_channels, taps, stride) in shapes(&mut random) {
        let out_rows = (rows - 1) * stride + taps;
        let (x, xs) = stored(backend, &random.values(rows * in_channels, -1.0, 1.0))?;
        let w = random.values(in_channels * out_channels * taps, -1.0, 1.0);
        let ws = rounded(backend, &w)?;
        let laid_out = transposed_conv1d_weight(&w, (in_channels, out_channels), (taps, stride));
        let weight = backend.linear(&laid_out, stride * out_channels, taps / stride * in_channels)?;
        let b = random.values(out_channels, -1.0, 1.0);
        let (bias, _) = single(backend, &b.repeat(stride))?;
        let (add, adds) = stored(backend, &random.values(out_rows * out_channels, -1.0, 1.0))?;
        let mut sums: Vec<f64> =
            (0..out_rows * out_channels).map(|i| f64::from(b[i % out_channels])).collect();
        for t in 0..rows {
            for c in 0..in_channels {
                for o in 0..out_channels {
                    for k in 0..taps {
                        sums[(t * stride + k) * out_channels + o] +=
                            ws[(c * out_channels + o) * taps + k] * xs[t * in_channels + c];
                    }
                }
            }
        }
        for (relu, with_add, close) in [
            (false, false, Close::Single),
            (true, false, Close::Stored),
            (true, true, Close::Stored),
            (false, true, Close::Single),
        ] {
            let run = || -> Result<Vec<f32>> {
                let mut y = match close {
                    Close::Stored => backend.activations(out_rows * out_channels)?,
                    Close::Single | Close::Recurrent => backend.zeros(out_rows * out_channels)?,
                };
                poison(backend, &mut y)?;
                backend.transposed_conv1d_fwd(TransposedConv1dFwd {
                    rows,
                    in_channels,
                    out_channels,
                    taps,
                    stride,
                    x: &x,
                    weight: &weight,
                    bias: &bias,
                    relu,
                    add: with_add.then_some(&add),
                    y: &mut y,
                })?;
                whole(backend, &y)
            };
            let truth: Vec<f64> = sums
                .iter()
                .zip(&adds)
                .map(|(&v, add)| if relu { v.max(0.0) } else { v } + if with_add { *add } else { 0.0 })
                .collect();
            let what = format!(
                "rows {rows}, {in_channels} to {out_channels}, taps {taps}, stride {stride}, ReLU {relu}, added {with_add}{}",
                if close == Close::Single { ", f32 out" } else { "" },
            );
            let found = run()?;
            checks.push(Check::new(&what, &found, &truth, tolerance(backend.dtype(), close)));
            checks.push(Check::twice(&what, &found, &run()?));
        }
    }
    Ok(checks)
}

/// Gates over all magnitudes that a sigmoid tells apart, and beyond.
///
/// # Errors
/// What the backend refuses.
pub fn glu_fwd<B: Backend>(backend: &B, seed: u64) -> Result<Vec<Check>> {
    let mut random = Random::new(seed);
    let mut checks = Vec::new();
    for (rows, width) in [(1, 1), (999, 32), (400, 64), (random.between(1, 300), random.between(1, 90))] {
        for high in [4.0, 200.0] {
            let (x, xs) = stored(backend, &random.values(2 * rows * width, -high, high))?;
            let mut out = backend.activations(rows * width)?;
            poison(backend, &mut out)?;
            backend.glu_fwd(GluFwd { rows, width, x: &x, out: &mut out })?;
            let mut truth = Vec::with_capacity(rows * width);
            for row in xs.chunks_exact(2 * width) {
                let (a, b) = row.split_at(width);
                truth.extend(a.iter().zip(b).map(|(a, b)| a / (1.0 + (-b).exp())));
            }
            let what = format!("rows {rows}, width {width}, up to {high}");
            let limit = tolerance(backend.dtype(), Close::Stored);
            checks.push(Check::new(what, &whole(backend, &out)?, &truth, limit));
        }
    }
    Ok(checks)
}
