use mseq_backend::ops::{CausalConv1dFwd, CausalConv1dUpdate};
use mseq_backend::{Backend, LaneSpan, Result, Rows};

use super::silu;
use crate::random::{SLOTS, poison, single, stored, whole, wide};
use crate::{Check, Close, Random, tolerance};

/// What a convolution needs, on the device and as the loop sees it.
struct Setup<B: Backend> {
    d_inner: usize,
    d_conv: usize,
    x: (B::Buffer, Vec<f64>),
    x_stride: usize,
    offset: usize,
    weight: (B::Buffer, Vec<f64>),
    bias: Option<(B::Buffer, Vec<f64>)>,
    state: Vec<f32>,
    n_slots: usize,
}

impl<B: Backend> Setup<B> {
    fn new(
        backend: &B,
        random: &mut Random,
        rows: usize,
        (d_inner, d_conv, with_bias): (usize, usize, bool),
        n_slots: usize,
    ) -> Result<Self> {
        // x is the first half of (x, z), or columns at an odd place.
        let (offset, x_stride) = if d_inner.is_multiple_of(2) { (0, 2 * d_inner) } else { (3, d_inner + 5) };
        Ok(Self {
            d_inner,
            d_conv,
            x: stored(backend, &random.values(rows * x_stride, -1.0, 1.0))?,
            x_stride,
            offset,
            weight: single(backend, &random.values(d_conv * d_inner, -1.0, 1.0))?,
            bias: with_bias.then(|| single(backend, &random.values(d_inner, -1.0, 1.0))).transpose()?,
            // What was kept is x, so it has the type of x.
            state: backend_values(backend, &random.values(n_slots * d_inner * (d_conv - 1), -1.0, 1.0))?,
            n_slots,
        })
    }

    /// Output rows and the states afterwards, by the definition.
    fn truth(&self, rows: usize, lanes: &[LaneSpan]) -> (Vec<f64>, Vec<f64>) {
        let (d_inner, keep) = (self.d_inner, self.d_conv - 1);
        let (mut out, mut end) = (vec![0.0; rows * d_inner], wide(&self.state));
        for lane in lanes {
            for c in 0..d_inner {
                let mut line: Vec<f64> = (0..keep)
                    .map(|j| match (lane.fresh, lane.slot) {
                        (false, Some(s)) => f64::from(self.state[(s * d_inner + c) * keep + j]),
                        _ => 0.0,
                    })
                    .collect();
                line.extend(lane.rows.clone().map(|r| self.x.1[r * self.x_stride + self.offset + c]));
                for (t, r) in lane.rows.clone().enumerate() {
                    let taps = (0..self.d_conv).map(|k| self.weight.1[k * d_inner + c] * line[t + k]);
                    out[r * d_inner + c] =
                        silu(taps.sum::<f64>() + self.bias.as_ref().map_or(0.0, |b| b.1[c]));
                }
                if let Some(s) = lane.slot {
                    end[(s * d_inner + c) * keep..][..keep].copy_from_slice(&line[line.len() - keep..]);
                }
            }
        }
        (out, end)
    }

    fn x(&self) -> Rows<'_, B::Buffer> {
        Rows::columns(&self.x.0, self.offset, self.x_stride)
    }

    fn compare(
        &self,
        backend: &B,
        what: &str,
        (out, state): (&B::Buffer, &B::Buffer),
        truth: &(Vec<f64>, Vec<f64>),
    ) -> Result<[Check; 2]> {
        let limit = tolerance(backend.dtype(), Close::Stored);
        Ok([
            Check::new(what, &whole(backend, out)?, &truth.0, limit),
            // The state is x itself.
            Check::new(format!("{what}, conv_state"), &whole(backend, state)?, &truth.1, 0.0),
        ])
    }
}

/// Values as the backend's type holds them.
fn backend_values<B: Backend>(backend: &B, values: &[f32]) -> Result<Vec<f32>> {
    Ok(stored(backend, values)?.1.into_iter().map(|v| v as f32).collect())
}

/// Lanes of every awkward length, one to eight taps, any number of channels.
///
/// # Errors
/// What the backend refuses.
pub fn causal_conv1d_fwd<B: Backend>(backend: &B, seed: u64) -> Result<Vec<Check>> {
    let mut random = Random::new(seed);
    let mut checks = Vec::new();
    for (d_inner, d_conv) in [
        (64, 4),
        (512, 4),
        (random.between(1, 70), 4),
        (33, random.between(1, 8)),
        (8, 2),
        (130, 3),
        (128, 3),
        (1, 1),
    ] {
        let long = random.between(500, 900);
        let short = random.between(1, 20);
        let lengths = [random.between(1, 3), 2, d_conv - 1, long, 0, 1, 65, 64, short, d_conv];
        let lanes = random.lanes(&lengths);
        let rows = lengths.iter().sum();
        let with_bias = d_inner != 8;
        let setup = Setup::new(backend, &mut random, rows, (d_inner, d_conv, with_bias), SLOTS)?;
        let mut conv_state = backend.upload(&setup.state)?;
        let mut out = backend.activations(rows * d_inner)?;
        poison(backend, &mut out)?;
        backend.causal_conv1d_fwd(CausalConv1dFwd {
            rows,
            d_inner,
            d_conv,
            slots: SLOTS,
            lanes: &lanes,
            x: setup.x(),
            weight: &setup.weight.0,
            bias: setup.bias.as_ref().map(|b| &b.0),
            conv_state: &mut conv_state,
            out: &mut out,
        })?;
        let what = format!("lanes {lengths:?}, d_inner {d_inner}, d_conv {d_conv}");
        checks.extend(setup.compare(backend, &what, (&out, &conv_state), &setup.truth(rows, &lanes))?);
    }
    Ok(checks)
}

/// One step of several sequences, with states in mixed slots.
///
/// # Errors
/// What the backend refuses.
pub fn causal_conv1d_update<B: Backend>(backend: &B, seed: u64) -> Result<Vec<Check>> {
    let mut random = Random::new(seed);
    let mut checks = Vec::new();
    for (rows, d_inner, d_conv) in
        [(1, 512, 4), (9, random.between(1, 200), 4), (3, 40, 3), (5, 33, random.between(1, 8))]
    {
        let n_slots = rows + 2;
        let setup = Setup::new(backend, &mut random, rows, (d_inner, d_conv, true), n_slots)?;
        let slots: Vec<usize> = (0..rows).map(|i| (i * 2 + 1) % n_slots).collect();
        let slots = if n_slots.is_multiple_of(2) { (0..rows).rev().collect() } else { slots };
        let lane = |(i, &slot): (usize, &usize)| LaneSpan { rows: i..i + 1, fresh: false, slot: Some(slot) };
        let lanes: Vec<LaneSpan> = slots.iter().enumerate().map(lane).collect();
        let mut conv_state = backend.upload(&setup.state)?;
        let mut out = backend.activations(rows * d_inner)?;
        poison(backend, &mut out)?;
        backend.causal_conv1d_update(CausalConv1dUpdate {
            d_inner,
            d_conv,
            slots: &slots,
            n_slots: setup.n_slots,
            x: setup.x(),
            weight: &setup.weight.0,
            bias: setup.bias.as_ref().map(|b| &b.0),
            conv_state: &mut conv_state,
            out: &mut out,
        })?;
        let what = format!("{rows} sequences, d_inner {d_inner}, d_conv {d_conv}");
        checks.extend(setup.compare(backend, &what, (&out, &conv_state), &setup.truth(rows, &lanes))?);
    }
    Ok(checks)
}
