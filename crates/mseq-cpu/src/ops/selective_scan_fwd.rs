use mseq_backend::Rows;
use mseq_backend::ops::SelectiveScanFwd;
use ndarray::{ArrayViewMut2, Axis, Slice};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::math::{exp2_product, load, silu_simd, softplus_simd};
use crate::{CpuBackend, CpuBuffer};

/// Channels a task: one AVX-512 vector, two of AVX2.
const CHANNELS: usize = 16;
/// States kept in registers at a time.
const STATES: usize = 8;
/// Steps between two loads of the states: its delta, input and output stay in the first cache.
const STEPS: usize = 64;

/// Every lane's channels in blocks, side by side; time runs in order inside a block.
pub(crate) fn selective_scan_fwd(backend: &CpuBackend, op: SelectiveScanFwd<'_, CpuBackend>) {
    let shape = op.shape;
    let (d_inner, d_state) = (shape.d_inner, shape.d_state);
    if shape.rows == 0 || d_inner == 0 {
        return;
    }
    let mut slots: Vec<Option<&mut [f32]>> = if d_state == 0 {
        (0..shape.slots).map(|_| Some(&mut [][..])).collect()
    } else {
        op.ssm_state.0.chunks_mut(d_inner * d_state).map(Some).collect()
    };
    let y = &mut op.y.0[..shape.rows * d_inner];
    let Ok(mut y) = ArrayViewMut2::from_shape((shape.rows, d_inner), y) else { return };
    let input = Input {
        u: op.u,
        dt: op.dt,
        b: op.b,
        c: op.c,
        z: op.z,
        a2: &op.a2.0,
        d: &op.d.0,
        dt_bias: &op.dt_bias.0,
    };
    let input = &input;
    let mut tasks = Vec::new();
    let mut row = 0;
    for lane in op.lanes {
        let (_, rest) = y.split_at(Axis(0), lane.rows.start - row);
        let (mine, rest) = rest.split_at(Axis(0), lane.rows.len());
        y = rest;
        row = lane.rows.end;
        if lane.rows.is_empty() {
            // Nothing to do, but a fresh lane's slot must still read as zero.
            if let (true, Some(Some(state))) = (lane.fresh, lane.slot.map(|s| slots[s].as_deref_mut())) {
                state.fill(0.0);
            }
            continue;
        }
        let state = lane.slot.and_then(|slot| slots[slot].take());
        let mut states: Vec<Option<&mut [f32]>> = match state {
            Some(state) => state.chunks_mut((CHANNELS * d_state).max(1)).map(Some).collect(),
            None => Vec::new(),
        };
        states.resize_with(d_inner.div_ceil(CHANNELS), || None);
        let mut mine = mine;
        for (block, state) in states.into_iter().enumerate() {
            let c0 = block * CHANNELS;
            let width = CHANNELS.min(d_inner - c0);
            let (y, rest) = mine.split_at(Axis(1), width);
            mine = rest;
            tasks.push(Task { input, d_state, row: lane.rows.start, c0, fresh: lane.fresh, state, y });
        }
    }
    tasks.into_par_iter().for_each(|task| backend.arch.dispatch(task));
}

struct Input<'a> {
    u: Rows<'a, CpuBuffer>,
    dt: Rows<'a, CpuBuffer>,
    b: Rows<'a, CpuBuffer>,
    c: Rows<'a, CpuBuffer>,
    z: Rows<'a, CpuBuffer>,
    a2: &'a [f32],
    d: &'a [f32],
    dt_bias: &'a [f32],
}

/// Up to 16 channels of one lane, from its first row to its last.
struct Task<'a> {
    input: &'a Input<'a>,
    d_state: usize,
    /// First row of the lane in the batch.
    row: usize,
    /// First channel.
    c0: usize,
    fresh: bool,
    /// (width, d_state), absent when the state is not kept.
    state: Option<&'a mut [f32]>,
    /// (rows of the lane, width).
    y: ArrayViewMut2<'a, f32>,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        let width = self.y.ncols();
        let mut from = 0;
        while from < width {
            let lanes = S::F32_LANES.min(width - from);
            self.channels(s, from, lanes);
            from += lanes;
        }
    }
}

/// One vector of 16 floats for each step of a tile.
type Tile = [[f32; CHANNELS]; STEPS];

impl Task<'_> {
    /// `lanes` channels from `from` on, at most one vector of them.
    #[inline(always)]
    fn channels<S: Simd>(&mut self, s: S, from: usize, lanes: usize) {
        let groups = self.d_state.div_ceil(STATES);
        let channel = self.c0 + from;
        // (groups, STATES, lanes): the decay rates and the states, one vector a state; padding states
        // have A = B = C = 0, so they stay 0 and add 0.
        let mut a2 = vec![[[0f32; CHANNELS]; STATES]; groups];
        let mut h = vec![[[0f32; CHANNELS]; STATES]; groups];
        for n in 0..self.d_state {
            for l in 0..lanes {
                a2[n / STATES][n % STATES][l] = self.input.a2[(channel + l) * self.d_state + n];
                if let (false, Some(state)) = (self.fresh, &self.state) {
                    h[n / STATES][n % STATES][l] = state[(from + l) * self.d_state + n];
                }
            }
        }
        let skip = s.partial_load_f32s(&self.input.d[channel..][..lanes]);
        let dt_bias = s.partial_load_f32s(&self.input.dt_bias[channel..][..lanes]);
        let (mut delta, mut du, mut acc): (Tile, Tile, Tile) =
            ([[0.0; CHANNELS]; STEPS], [[0.0; CHANNELS]; STEPS], [[0.0; CHANNELS]; STEPS]);
        let rows = self.y.nrows();
        let mut t0 = 0;
        while t0 < rows {
            let steps = STEPS.min(rows - t0);
            let row = self.row + t0;
            for t in 0..steps {
                let dt = softplus_simd(
                    s,
                    s.add_f32s(self.vector(s, &self.input.dt, row + t, channel, lanes), dt_bias),
                );
                let u = self.vector(s, &self.input.u, row + t, channel, lanes);
                crate::math::store::<S>(&mut delta[t], dt);
                crate::math::store::<S>(&mut du[t], s.mul_f32s(dt, u));
                crate::math::store::<S>(&mut acc[t], s.mul_f32s(skip, u));
            }
            for (g, (a2, h)) in a2.iter().zip(&mut h).enumerate() {
                self.states(s, g, row, steps, a2, h, (&delta, &du, &mut acc));
            }
            let mut tile = self.y.slice_axis_mut(Axis(0), Slice::from(t0..t0 + steps));
            for (t, mut out) in tile.rows_mut().into_iter().enumerate() {
                let z = &self.input.z;
                let z = load_lanes(s, &z.buf.0[(row + t) * z.stride + z.offset + channel..], lanes);
                let v = s.mul_f32s(load::<S>(&acc[t]), silu_simd(s, z));
                if let Some(out) = out.as_slice_mut().and_then(|row| row.get_mut(from..from + lanes)) {
                    if lanes == S::F32_LANES {
                        crate::math::store::<S>(out, v)
                    } else {
                        s.partial_store_f32s(out, v)
                    }
                }
            }
            t0 += steps;
        }
        if let Some(state) = &mut self.state {
            for n in 0..self.d_state {
                for l in 0..lanes {
                    state[(from + l) * self.d_state + n] = h[n / STATES][n % STATES][l];
                }
            }
        }
    }

    #[inline(always)]
    fn vector<S: Simd>(
        &self,
        s: S,
        x: &Rows<'_, CpuBuffer>,
        row: usize,
        channel: usize,
        lanes: usize,
    ) -> S::f32s {
        load_lanes(s, &x.buf.0[row * x.stride + x.offset + channel..], lanes)
    }

    /// Eight states over the steps of a tile, in registers.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "one caller; a struct would only rename them")]
    fn states<S: Simd>(
        &self,
        s: S,
        group: usize,
        row: usize,
        steps: usize,
        a2: &[[f32; CHANNELS]; STATES],
        h: &mut [[f32; CHANNELS]; STATES],
        (delta, du, acc): (&Tile, &Tile, &mut Tile),
    ) {
        let a2: [S::f32s; STATES] = std::array::from_fn(|n| load::<S>(&a2[n]));
        let mut hv: [S::f32s; STATES] = std::array::from_fn(|n| load::<S>(&h[n]));
        let n0 = group * STATES;
        for t in 0..steps {
            let b = states_of(&self.input.b, row + t, n0, self.d_state);
            let c = states_of(&self.input.c, row + t, n0, self.d_state);
            let dt = load::<S>(&delta[t]);
            let du = load::<S>(&du[t]);
            // Each group sums by itself: shorter chains, smaller rounding with many states.
            let mut y = s.splat_f32s(0.0);
            for n in 0..STATES {
                let decay = exp2_product(s, dt, a2[n]);
                hv[n] = s.mul_add_f32s(decay, hv[n], s.mul_f32s(du, s.splat_f32s(b[n])));
                y = s.mul_add_f32s(hv[n], s.splat_f32s(c[n]), y);
            }
            y = s.add_f32s(load::<S>(&acc[t]), y);
            crate::math::store::<S>(&mut acc[t], y);
        }
        for n in 0..STATES {
            crate::math::store::<S>(&mut h[n], hv[n]);
        }
    }
}

#[inline(always)]
fn load_lanes<S: Simd>(s: S, x: &[f32], lanes: usize) -> S::f32s {
    if lanes == S::F32_LANES { load::<S>(&x[..lanes]) } else { s.partial_load_f32s(&x[..lanes]) }
}

/// States `n0..n0 + 8` of B or C at a row, zeros beyond `d_state`.
#[inline(always)]
fn states_of(x: &Rows<'_, CpuBuffer>, row: usize, n0: usize, d_state: usize) -> [f32; STATES] {
    let at = row * x.stride + x.offset;
    match x.buf.0[at..at + d_state][n0..].first_chunk::<STATES>() {
        Some(whole) => *whole,
        None => {
            let mut padded = [0f32; STATES];
            let rest = &x.buf.0[at + n0..at + d_state];
            padded[..rest.len()].copy_from_slice(rest);
            padded
        }
    }
}
