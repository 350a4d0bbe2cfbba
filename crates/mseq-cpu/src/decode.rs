//! Generation on the CPU: the single ops one after the other.

use std::ops::Range;

use mseq_backend::ops::{CausalConv1dUpdate, LinearFwd, MixerUpdate, SampleTokens, SelectiveStateUpdate};
use mseq_backend::{Backend, Decode, Error, Result, Rows, RowsMut, sampling};
use rayon::prelude::*;

use crate::CpuBackend;
use crate::buffer::CpuBuffer;

/// The tokens of lanes.
#[derive(Debug, Clone)]
pub struct CpuDraws {
    ids: Vec<u32>,
    /// (steps, lanes).
    history: Vec<u32>,
    position: u64,
}

fn device(message: &str) -> Error {
    Error::Device { device: "cpu".into(), message: message.into() }
}

impl Decode for CpuBackend {
    type Tape = ();
    type Draws = CpuDraws;

    fn tape(&self) {}

    fn run_step(&self, (): &mut (), mut step: impl FnMut() -> Result<()>) -> Result<()> {
        step()
    }

    fn draws(&self, lanes: usize, steps: usize) -> Result<CpuDraws> {
        Ok(CpuDraws { ids: vec![0; lanes], history: Vec::with_capacity(lanes * steps), position: 0 })
    }

    fn lanes(&self, draws: &CpuDraws) -> usize {
        draws.ids.len()
    }

    fn set_draws(&self, draws: &mut CpuDraws, ids: &[u32], position: u64) -> Result<()> {
        if ids.len() != draws.ids.len() {
            return Err(device("there is not one token a lane"));
        }
        draws.ids.copy_from_slice(ids);
        draws.history.clear();
        draws.position = position;
        Ok(())
    }

    fn take_draws(&self, draws: &mut CpuDraws, steps: usize) -> Result<Vec<u32>> {
        if draws.history.len() != steps * draws.ids.len() {
            return Err(device("another number of draws was taken than were made"));
        }
        let taken = draws.history.clone();
        draws.history.clear();
        if taken.contains(&u32::MAX) {
            return Err(device("no token can be drawn: the logits are not numbers"));
        }
        Ok(taken)
    }

    fn embed_draws(
        &self,
        draws: &CpuDraws,
        table: &CpuBuffer,
        vocab: usize,
        d_model: usize,
        out: &mut CpuBuffer,
    ) -> Result<()> {
        self.embed_tokens(mseq_backend::ops::EmbedTokens { ids: &draws.ids, table, vocab, d_model, out })
    }

    fn sample_tokens(&self, op: SampleTokens<'_, Self>) -> Result<()> {
        op.check(self)?;
        let SampleTokens { vocab, logits, bias, sampling, first_lane, draws } = op;
        let (position, bias) = (draws.position, bias.map(|b| &b.0[..vocab]));
        let lane = |(lane, id): (usize, &mut u32)| {
            let logits = &logits.0[lane * vocab..][..vocab];
            *id = sampling::draw(&sampling, logits, bias, first_lane + lane as u32, position)
                .unwrap_or(u32::MAX);
        };
        self.pool.install(|| draws.ids.par_iter_mut().enumerate().for_each(lane));
        draws.history.extend_from_slice(&draws.ids);
        // What can't be drawn is said when draws are taken; until then any token will do.
        draws.ids.iter_mut().filter(|id| **id == u32::MAX).for_each(|id| *id = 0);
        draws.position += 1;
        Ok(())
    }

    fn mixer_update(&self, op: MixerUpdate<'_, Self>) -> Result<()> {
        op.check(self)?;
        let MixerUpdate { rows, d_inner, d_state, d_conv, dt_rank, room, .. } = op;
        let (d_dbc, slots) = (dt_rank + 2 * d_state, (0..rows).collect::<Vec<_>>());
        self.causal_conv1d_update(CausalConv1dUpdate {
            d_inner,
            d_conv,
            slots: &slots,
            n_slots: rows,
            x: Rows::columns(op.xz, 0, 2 * d_inner),
            weight: op.conv1d,
            bias: op.conv1d_bias,
            conv_state: op.conv_state,
            out: &mut room.u,
        })?;
        self.linear_fwd(LinearFwd {
            rows,
            in_features: d_inner,
            out_features: d_dbc,
            x: Rows::whole(&room.u, d_inner),
            weight: op.x_proj,
            bias: None,
            accumulate: false,
            y: RowsMut { buf: &mut room.dbc, stride: d_dbc },
        })?;
        self.linear_fwd(LinearFwd {
            rows,
            in_features: dt_rank,
            out_features: d_inner,
            x: Rows::columns(&room.dbc, 0, d_dbc),
            weight: op.dt_proj,
            bias: None,
            accumulate: false,
            y: RowsMut { buf: &mut room.dt, stride: d_inner },
        })?;
        self.selective_state_update(SelectiveStateUpdate {
            d_inner,
            d_state,
            slots: &slots,
            n_slots: rows,
            u: Rows::whole(&room.u, d_inner),
            dt: Rows::whole(&room.dt, d_inner),
            b: Rows::columns(&room.dbc, dt_rank, d_dbc),
            c: Rows::columns(&room.dbc, dt_rank + d_state, d_dbc),
            a2: op.a2,
            d: op.d,
            dt_bias: op.dt_proj_bias,
            z: Rows::columns(op.xz, d_inner, 2 * d_inner),
            ssm_state: op.ssm_state,
            y: op.y,
        })
    }

    fn copy(&self, from: &CpuBuffer, range: Range<usize>, to: &mut CpuBuffer, at: usize) -> Result<()> {
        let outside = |found| Error::OutOfRange {
            op: "copy",
            what: "an end",
            found,
            wanted: "which is past the end of the buffer",
        };
        let values = from.0.get(range.clone()).ok_or_else(|| outside(range.end))?;
        let end = at + values.len();
        to.0.get_mut(at..end).ok_or_else(|| outside(end))?.copy_from_slice(values);
        Ok(())
    }
}
