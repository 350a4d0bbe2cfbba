use mseq_backend::ops::{Norm, NormFwd};
use mseq_backend::{Backend, Result};

use crate::random::{poison, single, whole};
use crate::{Check, Close, Random, tolerance};

/// RMSNorm and LayerNorm of f32 rows, into f32 and into the backend's type.
///
/// # Errors
/// What the backend refuses.
pub fn norm_fwd<B: Backend>(backend: &B, seed: u64) -> Result<Vec<Check>> {
    let mut random = Random::new(seed);
    let mut checks = Vec::new();
    let shapes = [
        (3, 1),
        (random.between(1, 40), random.between(2, 100)),
        (70, 256),
        (33, 768),
        (5, random.between(1000, 3000)),
    ];
    for (rows, width) in shapes {
        let (x, xs) = single(backend, &random.values(rows * width, -3.0, 3.0))?;
        let (weight, ws) = single(backend, &random.values(width, 0.5, 1.5))?;
        let (bias, bs) = single(backend, &random.values(width, -1.0, 1.0))?;
        let eps = 1e-5f32;
        let (mut rms, mut layer) = (Vec::new(), Vec::new());
        for row in xs.chunks(width) {
            let n = width as f64;
            let mean = row.iter().sum::<f64>() / n;
            let square = row.iter().map(|v| v * v).sum::<f64>() / n;
            let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
            for (c, v) in row.iter().enumerate() {
                rms.push(v / (square + f64::from(eps)).sqrt() * ws[c]);
                layer.push((v - mean) / (variance + f64::from(eps)).sqrt() * ws[c] + bs[c]);
            }
        }
        for (close, what) in [(Close::Stored, "stored"), (Close::Single, "f32")] {
            for (is_layer, truth) in [(false, &rms), (true, &layer)] {
                let mut out = match close {
                    Close::Stored => backend.activations(rows * width)?,
                    Close::Single | Close::Recurrent => backend.zeros(rows * width)?,
                };
                poison(backend, &mut out)?;
                let norm = if is_layer {
                    Norm::Layer { weight: &weight, bias: &bias }
                } else {
                    Norm::Rms { weight: &weight }
                };
                backend.norm_fwd(NormFwd { rows, width, norm, eps, x: &x, out: &mut out })?;
                // A row of few values may have a small variance, which the mean's rounding is part of.
                let limit =
                    tolerance(backend.dtype(), close) * if is_layer && width < 8 { 100.0 } else { 1.0 };
                let name = if is_layer { "layer" } else { "rms" };
                checks.push(Check::new(
                    format!("{name}, {what}, rows {rows}, width {width}"),
                    &whole(backend, &out)?,
                    truth,
                    limit,
                ));
            }
        }
    }
    Ok(checks)
}
