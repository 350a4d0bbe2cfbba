use mseq_backend::LaneSpan;
use mseq_backend::ops::CausalConv1dFwd;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::CpuBackend;
use crate::math::{load, silu_simd, store};

/// Rows a task.
const BLOCK: usize = 64;

/// Blocks of rows side by side: x is only read, so a block may look back into the one before.
pub(crate) fn causal_conv1d_fwd(backend: &CpuBackend, op: CausalConv1dFwd<'_, CpuBackend>) {
    let (d_inner, d_conv) = (op.d_inner, op.d_conv);
    let (x, stride) = (&op.x.buf.0[op.x.offset..], op.x.stride);
    let row = |r: usize| &x[r * stride..][..d_inner];
    // What lies before each lane, oldest first, as rows.
    let past: Vec<Vec<f32>> = op.lanes.iter().map(|lane| history(lane, &op)).collect();
    let past = &past;
    let out = &mut op.out.0[..op.rows * d_inner];
    out.par_chunks_mut(BLOCK * d_inner).enumerate().for_each(|(i, out)| {
        let (first, last) = (i * BLOCK, (i + 1) * BLOCK);
        let from = op.lanes.partition_point(|l| l.rows.end <= first);
        for (lane, past) in op.lanes.iter().zip(past).skip(from).take_while(|(l, _)| l.rows.start < last) {
            for r in lane.rows.start.max(first)..lane.rows.end.min(last) {
                let tap = |k: usize| match (r + k + 1).checked_sub(d_conv) {
                    Some(at) if at >= lane.rows.start => row(at),
                    _ => {
                        // Column `back` of the history counts from the lane's start backward.
                        let back = lane.rows.start + d_conv - 1 - k - r;
                        &past[(d_conv - 1 - back) * d_inner..][..d_inner]
                    }
                };
                let out = &mut out[(r - first) * d_inner..][..d_inner];
                let weight = &op.weight.0[..d_conv * d_inner];
                let bias = op.bias.map(|b| &b.0[..d_inner]);
                backend.arch.dispatch(Row { tap, weight, bias, out });
            }
        }
    });
    for (lane, past) in op.lanes.iter().zip(past) {
        let Some(slot) = lane.slot else { continue };
        let keep = d_conv - 1;
        let state = &mut op.conv_state.0[slot * d_inner * keep..][..d_inner * keep];
        let len = lane.rows.len();
        for j in 0..keep {
            // Column j of the new state is position len - keep + j of the lane.
            let column = match (len + j).checked_sub(keep) {
                Some(t) => row(lane.rows.start + t),
                None => &past[(len + j) * d_inner..][..d_inner],
            };
            for (c, &v) in column.iter().enumerate() {
                state[c * keep + j] = v;
            }
        }
    }
}

/// The `d_conv - 1` rows before a lane: its state transposed, or zeros.
fn history(lane: &LaneSpan, op: &CausalConv1dFwd<'_, CpuBackend>) -> Vec<f32> {
    let keep = op.d_conv - 1;
    let mut rows = vec![0f32; keep * op.d_inner];
    if let (false, Some(slot)) = (lane.fresh, lane.slot) {
        let state = &op.conv_state.0[slot * op.d_inner * keep..][..op.d_inner * keep];
        for c in 0..op.d_inner {
            for j in 0..keep {
                rows[j * op.d_inner + c] = state[c * keep + j];
            }
        }
    }
    rows
}

/// One row: `tap(k)` gives the row that tap k reads.
struct Row<'a, F> {
    tap: F,
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    out: &'a mut [f32],
}

impl<'a, F: Fn(usize) -> &'a [f32]> WithSimd for Row<'a, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let width = self.out.len();
        let taps = self.weight.len() / width;
        match taps {
            // The usual number gets its rows looked up once, not once a vector.
            4 => run(
                s,
                &[(self.tap)(0), (self.tap)(1), (self.tap)(2), (self.tap)(3)],
                self.weight,
                self.bias,
                self.out,
            ),
            _ => {
                let rows: Vec<&[f32]> = (0..taps).map(|k| (self.tap)(k)).collect();
                run(s, &rows, self.weight, self.bias, self.out);
            }
        }
    }
}

#[inline(always)]
fn run<S: Simd>(s: S, taps: &[&[f32]], weight: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
    let width = out.len();
    let whole = width - width % S::F32_LANES;
    let mut c = 0;
    while c < whole {
        let end = c + S::F32_LANES;
        let mut acc = bias.map_or(s.splat_f32s(0.0), |b| load::<S>(&b[c..end]));
        for (k, x) in taps.iter().enumerate() {
            acc = s.mul_add_f32s(load::<S>(&weight[k * width..][c..end]), load::<S>(&x[c..end]), acc);
        }
        store::<S>(&mut out[c..end], silu_simd(s, acc));
        c = end;
    }
    if whole < width {
        let mut acc = bias.map_or(s.splat_f32s(0.0), |b| s.partial_load_f32s(&b[whole..width]));
        for (k, x) in taps.iter().enumerate() {
            let w = s.partial_load_f32s(&weight[k * width..][whole..width]);
            acc = s.mul_add_f32s(w, s.partial_load_f32s(&x[whole..width]), acc);
        }
        s.partial_store_f32s(&mut out[whole..], silu_simd(s, acc));
    }
}
