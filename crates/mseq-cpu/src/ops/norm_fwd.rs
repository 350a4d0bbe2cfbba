use mseq_backend::ops::{Norm, NormFwd};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::CpuBackend;

/// Rows a task.
const BLOCK: usize = 64;

/// Normalises blocks of rows side by side.
pub(crate) fn norm_fwd(backend: &CpuBackend, op: NormFwd<'_, CpuBackend>) {
    let (width, eps) = (op.width, op.eps);
    let x = &op.x.0[..op.rows * width];
    let out = &mut op.out.0[..op.rows * width];
    let (weight, bias) = match &op.norm {
        Norm::Rms { weight } => (&weight.0[..width], None),
        Norm::Layer { weight, bias } => (&weight.0[..width], Some(&bias.0[..width])),
    };
    out.par_chunks_mut(BLOCK * width).zip(x.par_chunks(BLOCK * width)).for_each(|(out, x)| {
        backend.arch.dispatch(Block { x, weight, bias, eps, out });
    });
}

struct Block<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    eps: f32,
    out: &'a mut [f32],
}

/// Sum of `f(x)` over a row: 16 partial sums by column, joined as a tree. The order is the
/// machine's on no level: 16 is a constant, not the SIMD width.
#[inline(always)]
fn sum(row: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let (blocks, rest) = row.as_chunks::<16>();
    let mut acc = [0f32; 16];
    for block in blocks {
        for j in 0..16 {
            acc[j] = f(block[j], acc[j]);
        }
    }
    for (j, &x) in rest.iter().enumerate() {
        acc[j] = f(x, acc[j]);
    }
    let mut half = 8;
    while half > 0 {
        for j in 0..half {
            acc[j] += acc[j + half];
        }
        half /= 2;
    }
    acc[0]
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.weight.len();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            let n = width as f32;
            match self.bias {
                None => {
                    let scale = 1.0 / (sum(x, |x, acc| x.mul_add(x, acc)) / n + self.eps).sqrt();
                    for ((y, &x), &w) in out.iter_mut().zip(x).zip(self.weight) {
                        *y = x * scale * w;
                    }
                }
                Some(bias) => {
                    let mean = sum(x, |x, acc| x + acc) / n;
                    let variance = sum(x, |x, acc| (x - mean).mul_add(x - mean, acc)) / n;
                    let scale = 1.0 / (variance + self.eps).sqrt();
                    for (((y, &x), &w), &b) in out.iter_mut().zip(x).zip(self.weight).zip(bias) {
                        *y = ((x - mean) * scale).mul_add(w, b);
                    }
                }
            }
        }
    }
}
