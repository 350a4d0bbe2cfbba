use mseq_backend::ops::LinearFwd;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::CpuBackend;
use crate::buffer::{CpuLinear, HALF_PANEL, PANEL};
use crate::math::load;

/// Values of one row read at a time: a fixed-size array needs no bounds check in the inner loop.
const KB: usize = 16;

/// Rows of x that one pass over the weights serves; the product of this and in_features should
/// stay in the second-level cache beside a panel.
const X_BYTES: usize = 256 << 10;

/// `y = x W^T`: blocks of rows side by side, each against every panel of the packed weight.
pub(crate) fn linear_fwd(backend: &CpuBackend, op: LinearFwd<'_, CpuBackend>) {
    if op.rows == 0 {
        return;
    }
    let product = Product {
        x: &op.x.buf.0[op.x.offset..],
        stride_x: op.x.stride,
        weight: op.weight,
        bias: op.bias.map(|b| &b.0[..op.out_features]),
        accumulate: op.accumulate,
        y: &mut op.y.buf.0[..op.rows * op.y.stride],
        stride_y: op.y.stride,
    };
    product.run(backend, |_, _| {});
}

/// A product of rows with a matrix. Rows of x may overlap: windows of a convolution are such rows.
pub(super) struct Product<'a> {
    pub(super) x: &'a [f32],
    pub(super) stride_x: usize,
    pub(super) weight: &'a CpuLinear,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) accumulate: bool,
    /// As many rows as are to be computed.
    pub(super) y: &'a mut [f32],
    pub(super) stride_y: usize,
}

impl Product<'_> {
    /// Computes y; `then` gets each block of its rows, with the number of the first, while it is in
    /// the cache.
    pub(super) fn run(self, backend: &CpuBackend, then: impl Fn(usize, &mut [f32]) + Sync) {
        let Self { x, stride_x, weight, bias, accumulate, y, stride_y } = self;
        let rows = y.len() / stride_y;
        let by_cache = (X_BYTES / (4 * weight.in_features.max(1))).clamp(12, 384);
        let by_share = rows.div_ceil(4 * backend.threads());
        let block = by_cache.min(by_share).next_multiple_of(12);
        y.par_chunks_mut(block * stride_y).enumerate().for_each(|(i, y)| {
            let x = &x[i * block * stride_x..];
            let out = &mut *y;
            backend.arch.dispatch(Block { x, stride_x, weight, bias, accumulate, y: out, stride_y });
            then(i * block, y);
        });
    }
}

/// `y = x W^T` on the thread that calls, for an op that goes on with the product.
#[inline(always)]
pub(super) fn logits<S: Simd>(s: S, x: &[f32], stride_x: usize, weight: &CpuLinear, y: &mut [f32]) {
    let stride_y = weight.out_features;
    Block { x, stride_x, weight, bias: None, accumulate: false, y, stride_y }.with_simd(s);
}

/// Some rows against the whole weight.
struct Block<'a> {
    x: &'a [f32],
    stride_x: usize,
    weight: &'a CpuLinear,
    bias: Option<&'a [f32]>,
    accumulate: bool,
    y: &'a mut [f32],
    stride_y: usize,
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        // Rows x vectors of accumulators: 24 of 32 registers with AVX-512, 12 of 16 with AVX2,
        // 24 of 32 with NEON.
        match S::F32_LANES {
            16 => self.run::<S, 12, 2, 1>(s),
            8 => self.run::<S, 3, 4, 2>(s),
            4 => self.run::<S, 3, 8, 4>(s),
            _ => self.run::<S, 1, 32, 16>(s),
        }
    }
}

impl Block<'_> {
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize, const FULL: usize, const HALF: usize>(&mut self, s: S) {
        let k = self.weight.in_features;
        let n_full = self.weight.full.len().checked_div(k).unwrap_or(0);
        for p in 0..n_full {
            let panel = &self.weight.full[p * k..(p + 1) * k];
            self.panel::<S, PANEL, ROWS, FULL>(s, panel, p * PANEL);
        }
        if !self.weight.half.is_empty() {
            let weight = self.weight;
            self.panel::<S, HALF_PANEL, ROWS, HALF>(s, &weight.half, n_full * PANEL);
        }
    }

    /// Every row against one panel, whose first output is `n0`.
    #[inline(always)]
    fn panel<S: Simd, const N: usize, const ROWS: usize, const VECS: usize>(
        &mut self,
        s: S,
        panel: &[[f32; N]],
        n0: usize,
    ) {
        let k = panel.len();
        let rows = self.y.len() / self.stride_y;
        let mut r = 0;
        while r < rows {
            let m = ROWS.min(rows - r);
            // A short last tile repeats its last row: one kernel, and no sum depends on it.
            let x: [&[f32]; ROWS] =
                std::array::from_fn(|i| &self.x[(r + i.min(m - 1)) * self.stride_x..][..k]);
            let acc = kernel::<S, N, ROWS, VECS>(s, &x, panel);
            for (i, acc) in acc.iter().enumerate().take(m) {
                let row = &mut self.y[(r + i) * self.stride_y..][..self.weight.out_features];
                let row = &mut row[n0..];
                finish::<S, N, VECS>(s, acc, self.bias.map(|b| &b[n0..]), self.accumulate, row);
            }
            r += ROWS;
        }
    }
}

/// `acc[i][n] = sum over k of x[i][k] * panel[k][n]`: 16 terms at a time in registers, each block
/// of 16 then added to the total. The order is fixed, and the blocks keep rounding small: a plain
/// chain of 512 terms is off by up to twice as much.
#[inline(always)]
fn kernel<S: Simd, const N: usize, const ROWS: usize, const VECS: usize>(
    s: S,
    x: &[&[f32]; ROWS],
    panel: &[[f32; N]],
) -> [[S::f32s; VECS]; ROWS] {
    let mut acc = [[s.splat_f32s(0.0); VECS]; ROWS];
    let (blocks, rest) = panel.as_chunks::<KB>();
    for (kb, block) in blocks.iter().enumerate() {
        let x: [&[f32; KB]; ROWS] = std::array::from_fn(|i| &x[i].as_chunks::<KB>().0[kb]);
        let mut part = [[s.splat_f32s(0.0); VECS]; ROWS];
        for kk in 0..KB {
            let w = S::as_simd_f32s(&block[kk]).0;
            for i in 0..ROWS {
                let a = s.splat_f32s(x[i][kk]);
                for j in 0..VECS {
                    part[i][j] = s.mul_add_f32s(a, w[j], part[i][j]);
                }
            }
        }
        for i in 0..ROWS {
            for j in 0..VECS {
                acc[i][j] = s.add_f32s(acc[i][j], part[i][j]);
            }
        }
    }
    let done = blocks.len() * KB;
    for (kk, w) in rest.iter().enumerate() {
        let w = S::as_simd_f32s(w).0;
        for i in 0..ROWS {
            let a = s.splat_f32s(x[i][done + kk]);
            for j in 0..VECS {
                acc[i][j] = s.mul_add_f32s(a, w[j], acc[i][j]);
            }
        }
    }
    acc
}

/// Writes one row of a panel: the sum, then the bias, then what was there.
#[inline(always)]
fn finish<S: Simd, const N: usize, const VECS: usize>(
    s: S,
    acc: &[S::f32s; VECS],
    bias: Option<&[f32]>,
    accumulate: bool,
    row: &mut [f32],
) {
    let lanes = S::F32_LANES;
    for (j, &acc) in acc.iter().enumerate() {
        let at = j * lanes;
        if at >= row.len() {
            return;
        }
        let end = (at + lanes).min(row.len());
        let whole = end - at == lanes;
        let mut v = acc;
        if let Some(bias) = bias {
            v = s.add_f32s(
                v,
                if whole { load::<S>(&bias[at..end]) } else { s.partial_load_f32s(&bias[at..end]) },
            );
        }
        let y = &mut row[at..end];
        if accumulate {
            v = s.add_f32s(v, if whole { load::<S>(y) } else { s.partial_load_f32s(y) });
        }
        if whole {
            crate::math::store::<S>(y, v);
        } else {
            s.partial_store_f32s(y, v);
        }
    }
}
