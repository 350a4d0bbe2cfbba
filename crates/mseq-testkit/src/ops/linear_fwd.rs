use mseq_backend::ops::LinearFwd;
use mseq_backend::{Backend, Result, Rows, RowsMut};

use crate::random::{rounded, single, stored, whole};
use crate::{Check, Close, Random, tolerance};

/// Products of columns of wider rows, with and without bias, into f32 or the backend's type, written
/// or added; columns beside the output stay as they were.
///
/// # Errors
/// What the backend refuses.
pub fn linear_fwd<B: Backend>(backend: &B, seed: u64) -> Result<Vec<Check>> {
    let mut random = Random::new(seed);
    let mut checks = Vec::new();
    // (rows, in, out, columns before x, columns after x, columns after y): those of a model, and odd ones.
    let mut shapes = vec![
        (1, 1, 1, 0, 0, 0),
        (300, 256, 1024, 0, 0, 0),
        (517, 512, 48, 0, 0, 0),
        (260, 16, 512, 0, 32, 0),
        (130, 512, 256, 0, 0, 0),
        (77, 3, 34, 0, 5, 0),
        (1025, 64, 8, 0, 0, 0),
    ];
    for _ in 0..6 {
        let mut n = |high| random.between(0, high);
        shapes.push((1 + n(150), 1 + n(130), 1 + n(140), n(5), n(5), n(5)));
    }
    for (rows, k, n, before, after, beside) in shapes {
        let (x_stride, y_stride) = (before + k + after, n + beside);
        let (x, xs) = stored(backend, &random.values(rows * x_stride, -1.0, 1.0))?;
        let w = random.values(n * k, -1.0, 1.0);
        let weight = backend.linear(&w, n, k)?;
        let ws = rounded(backend, &w)?;
        let (bias, bs) = single(backend, &random.values(n, -1.0, 1.0))?;
        let start = random.values(rows * y_stride, -1.0, 1.0);
        let sums: Vec<f64> = (0..rows * n)
            .map(|i| {
                let (row, weight) = (&xs[i / n * x_stride + before..][..k], &ws[i % n * k..][..k]);
                row.iter().zip(weight).map(|(a, b)| a * b).sum()
            })
            .collect();
        for (close, with_bias, accumulate) in [
            (Close::Stored, false, false),
            (Close::Single, false, true),
            (Close::Single, true, false),
            (Close::Stored, true, true),
            (Close::Single, true, true),
        ] {
            let run = || -> Result<(Vec<f32>, Vec<f64>)> {
                let (mut y, was) = match close {
                    Close::Stored => stored(backend, &start)?,
                    Close::Single | Close::Recurrent => single(backend, &start)?,
                };
                backend.linear_fwd(LinearFwd {
                    rows,
                    in_features: k,
                    out_features: n,
                    x: Rows::columns(&x, before, x_stride),
                    weight: &weight,
                    bias: with_bias.then_some(&bias),
                    accumulate,
                    y: RowsMut { buf: &mut y, stride: y_stride },
                })?;
                Ok((whole(backend, &y)?, was))
            };
            let (found, was) = run()?;
            let what = format!(
                "rows {rows}, {k} to {n}, strides {x_stride} and {y_stride}{}{}{}",
                if close == Close::Single { ", f32 out" } else { "" },
                if with_bias { ", bias" } else { "" },
                if accumulate { ", added" } else { "" },
            );
            let (mut inside, mut truth, mut outside) = (Vec::new(), Vec::new(), 0);
            for (i, &v) in found.iter().enumerate() {
                let (row, column) = (i / y_stride, i % y_stride);
                if column >= n {
                    outside += usize::from(f64::from(v) != was[i]);
                    continue;
                }
                inside.push(v);
                truth.push(
                    sums[row * n + column]
                        + if accumulate { was[i] } else { 0.0 }
                        + if with_bias { bs[column] } else { 0.0 },
                );
            }
            // A bias may be added to what was rounded already: one rounding more.
            let limit = tolerance(backend.dtype(), close) * if with_bias { 1.5 } else { 1.0 };
            checks.push(Check::new(&what, &inside, &truth, limit));
            checks.push(Check {
                what: format!("{what}, values changed beside the output"),
                error: outside as f64,
                limit: 0.0,
            });
            let again = run()?.0;
            checks.push(Check::twice(&what, &found, &again));
        }
    }
    Ok(checks)
}
