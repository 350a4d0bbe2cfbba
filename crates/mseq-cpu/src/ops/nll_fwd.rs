use mseq_backend::ops::{Before, NllFwd};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::linear_fwd::logits;
use crate::CpuBackend;
use crate::buffer::CpuLinear;
use crate::math::exp;

/// Rows a task: the logits of a task stay in the cache for the vocabularies of sequences.
const BLOCK: usize = 48;

/// Most logits that a task keeps at once.
const LOGITS: usize = 1 << 18;

/// Blocks of rows side by side, each its logits and then the sum of their exponentials.
pub(crate) fn nll_fwd(backend: &CpuBackend, op: NllFwd<'_, CpuBackend>) -> Vec<f32> {
    let (width, weight) = (op.d_model, op.weight);
    let before = op.before();
    let mut out = vec![0f32; op.rows];
    // Twelve rows are a tile of the product.
    let block = (LOGITS / op.vocab.max(1)).clamp(12, BLOCK);
    let (x, last) = (&op.x.0, &op.last.0);
    out.par_chunks_mut(block)
        .zip(before.par_chunks(block))
        .zip(op.ids[..op.rows].par_chunks(block))
        .for_each(|((out, before), ids)| {
            let mut rows = vec![0f32; before.len() * width];
            for (row, before) in rows.chunks_exact_mut(width.max(1)).zip(before) {
                match *before {
                    Before::Nothing => {}
                    Before::Row(r) => row.copy_from_slice(&x[r * width..][..width]),
                    Before::Slot(slot) => row.copy_from_slice(&last[slot * width..][..width]),
                }
            }
            backend.arch.dispatch(Block { x: &rows, width, weight, before, ids, out });
        });
    for lane in op.lanes {
        if let (Some(slot), Some(end)) = (lane.slot, lane.rows.clone().last()) {
            op.last.0[slot * width..][..width].copy_from_slice(&op.x.0[end * width..][..width]);
        }
    }
    out
}

struct Block<'a> {
    x: &'a [f32],
    width: usize,
    weight: &'a CpuLinear,
    before: &'a [Before],
    ids: &'a [u32],
    out: &'a mut [f32],
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let vocab = self.weight.out_features;
        let mut all = vec![0f32; self.out.len() * vocab];
        logits(s, self.x, self.width, self.weight, &mut all);
        let rows = self.out.iter_mut().zip(self.before).zip(self.ids);
        for ((out, before), row) in rows.zip(all.chunks_exact(vocab.max(1))) {
            let (out, before, id) = (out.0, out.1, *before);
            *out = match before {
                Before::Nothing => 0.0,
                _ => surprise(row, id as usize),
            };
        }
    }
}

/// `log(sum(exp(row))) - row[id]`: 16 partial sums by column, whatever the SIMD width.
#[inline(always)]
fn surprise(row: &[f32], id: usize) -> f32 {
    let most = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let mut sums = [0f64; 16];
    for columns in row.chunks(16) {
        for (sum, &v) in sums.iter_mut().zip(columns) {
            *sum += f64::from(exp(v - most));
        }
    }
    let sum: f64 = sums.iter().sum();
    // A NaN among the logits is passed over by max, and must still be seen.
    let odd = if row.iter().any(|v| v.is_nan()) { f64::NAN } else { 0.0 };
    (sum.ln() + f64::from(most) - f64::from(row[id]) + odd) as f32
}
