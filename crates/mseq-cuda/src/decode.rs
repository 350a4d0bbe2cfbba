//! Generation: tokens that stay on the device, and steps recorded as CUDA graphs.

use std::ops::Range;
use std::sync::atomic::Ordering;

use cudarc::driver::CudaGraph;
use mseq_backend::ops::{MIXER_SLICE, MixerUpdate, SampleTokens};
use mseq_backend::{Decode, Error, Result};
use mseq_kernels::{Elem, launch};

use crate::buffer::CudaBuffer;
use crate::device::Memory;
use crate::module::{Arg, For};
use crate::{CudaBackend, CudaLinear};

/// Words of a lane's state: its position (low, high), and the row of history that it writes next.
const STATE: usize = 3;

/// A step as the device replays it.
pub struct CudaTape {
    recorded: Recorded,
}

enum Recorded {
    /// The first step runs as it is: it makes what later ones find made.
    Nothing,
    /// The next is recorded.
    Warm,
    Graph(Graph),
    /// The device waits after each op, as it was asked to, and a recording can't.
    Never,
}

struct Graph(CudaGraph);

#[expect(unsafe_code, reason = "a handle of a C library")]
// SAFETY: a graph belongs to no thread, and the tape that owns it is used through `&mut`.
unsafe impl Send for Graph {}

/// Tokens of lanes, on the device.
pub struct CudaDraws {
    lanes: usize,
    steps: usize,
    /// (lanes), u32.
    ids: Memory,
    /// (steps, lanes), u32.
    history: Memory,
    /// (lanes, STATE), u32.
    state: Memory,
    position: u64,
}

impl CudaBackend {
    fn state_words(&self, lanes: usize, position: u64) -> Vec<u32> {
        let each = [position as u32, (position >> 32) as u32, 0];
        each.iter().copied().cycle().take(STATE * lanes).collect()
    }

    fn fits(&self, what: &'static str, weight: &CudaLinear, out: usize, into: usize) -> Result<()> {
        if (weight.out_features, weight.in_features) == (out, into) {
            return Ok(());
        }
        let wanted = "which is not the mixer's";
        Err(Error::OutOfRange { op: "mixer_update", what, found: weight.out_features, wanted })
    }
}

impl Decode for CudaBackend {
    type Tape = CudaTape;
    type Draws = CudaDraws;

    fn tape(&self) -> CudaTape {
        let recorded = if self.device.waits_after_each_op() { Recorded::Never } else { Recorded::Nothing };
        CudaTape { recorded }
    }

    fn run_step(&self, tape: &mut CudaTape, mut step: impl FnMut() -> Result<()>) -> Result<()> {
        let mut step = || {
            self.stepping.store(true, Ordering::Relaxed);
            let done = step();
            self.stepping.store(false, Ordering::Relaxed);
            done
        };
        match &tape.recorded {
            Recorded::Never => step(),
            Recorded::Nothing => {
                step()?;
                tape.recorded = Recorded::Warm;
                Ok(())
            }
            Recorded::Warm => {
                let graph = self.device.record(step)?;
                self.device.replay(&graph)?;
                tape.recorded = Recorded::Graph(Graph(graph));
                Ok(())
            }
            Recorded::Graph(graph) => self.device.replay(&graph.0),
        }
    }

    fn draws(&self, lanes: usize, steps: usize) -> Result<CudaDraws> {
        Ok(CudaDraws {
            lanes,
            steps,
            ids: self.device.zeros(4 * lanes)?,
            history: self.device.zeros(4 * lanes * steps)?,
            state: self.device.zeros(4 * STATE * lanes)?,
            position: 0,
        })
    }

    fn lanes(&self, draws: &CudaDraws) -> usize {
        draws.lanes
    }

    fn set_draws(&self, draws: &mut CudaDraws, ids: &[u32], position: u64) -> Result<()> {
        if ids.len() != draws.lanes {
            return Err(self.device.failure("there is not one token a lane".into()));
        }
        self.device.upload(&draws.ids, 0, ids)?;
        self.device.upload(&draws.state, 0, &self.state_words(draws.lanes, position))?;
        draws.position = position;
        Ok(())
    }

    fn take_draws(&self, draws: &mut CudaDraws, steps: usize) -> Result<Vec<u32>> {
        if steps > draws.steps {
            return Err(self.device.failure("more draws than there is room for".into()));
        }
        let mut taken = vec![0u32; steps * draws.lanes];
        self.device.download(&draws.history, 0, &mut taken)?;
        draws.position += steps as u64;
        self.device.upload(&draws.state, 0, &self.state_words(draws.lanes, draws.position))?;
        if taken.contains(&u32::MAX) {
            return Err(self.device.failure("no token can be drawn: the logits are not numbers".into()));
        }
        Ok(taken)
    }

    fn embed_draws(
        &self,
        draws: &CudaDraws,
        table: &CudaBuffer,
        vocab: usize,
        d_model: usize,
        out: &mut CudaBuffer,
    ) -> Result<()> {
        let too_short = |what, found, needed| Error::TooShort { op: "embed_draws", what, found, needed };
        if table.len < vocab * d_model {
            return Err(too_short("table", table.len, vocab * d_model));
        }
        if out.len < draws.lanes * d_model {
            return Err(too_short("out", out.len, draws.lanes * d_model));
        }
        self.kernels.launch(
            &self.device,
            "embed_tokens",
            launch::embed_tokens(draws.lanes, d_model),
            &[
                Arg::Ptr(Elem::U32, draws.ids.ptr()),
                table.arg(),
                out.arg(),
                Arg::I64(draws.lanes),
                Arg::I32(d_model),
            ],
        )
    }

    fn sample_tokens(&self, op: SampleTokens<'_, Self>) -> Result<()> {
        op.check(self)?;
        let SampleTokens { vocab, logits, bias, sampling, first_lane, draws } = op;
        self.kernels.launch(
            &self.device,
            "sample_tokens",
            launch::sample_tokens(draws.lanes),
            &[
                logits.arg(),
                bias.map_or(Arg::Null, |bias| bias.arg()),
                Arg::Ptr(Elem::U32, draws.ids.ptr()),
                Arg::Ptr(Elem::U32, draws.history.ptr()),
                Arg::Ptr(Elem::U32, draws.state.ptr()),
                Arg::I32(draws.lanes),
                Arg::I32(vocab),
                Arg::I32(draws.steps),
                Arg::I32(sampling.is_greedy().into()),
                Arg::F32(sampling.scale()),
                Arg::I32((sampling.top_k as usize).min(i32::MAX as usize)),
                Arg::F32(sampling.top_p),
                Arg::I64(sampling.seed as usize),
                Arg::I32(first_lane as usize),
            ],
        )
    }

    fn mixer_update(&self, op: MixerUpdate<'_, Self>) -> Result<()> {
        const OP: &str = "mixer_update";
        op.check(self)?;
        let MixerUpdate { rows, d_inner, d_state, d_conv, dt_rank, room, .. } = op;
        let d_dbc = dt_rank + 2 * d_state;
        crate::ops::check_taps(OP, d_conv)?;
        self.fits("x_proj", op.x_proj, d_dbc, d_inner)?;
        self.fits("dt_proj", op.dt_proj, d_inner, dt_rank)?;
        if d_dbc > launch::MIXER_MAX_DBC {
            let wanted = "and CUDA has up to 1024 for dt, B and C; use --device cpu";
            return Err(Error::OutOfRange { op: OP, what: "dt_rank + 2 d_state", found: d_dbc, wanted });
        }
        let linear = |weight: &CudaLinear| Arg::Buffer(weight.dtype, weight.memory.ptr());
        let sizes = For { d_state: Some(d_state), d_conv: Some(d_conv) };
        self.kernels.launch_for(
            &self.device,
            "mixer_conv_x_proj",
            sizes,
            launch::mixer_conv_x_proj(rows, d_inner),
            &[
                op.xz.arg(),
                op.conv1d.arg(),
                op.conv1d_bias.map_or(Arg::Null, |bias| bias.arg()),
                linear(op.x_proj),
                op.conv_state.arg(),
                room.u.arg(),
                room.partials.arg(),
                Arg::I32(rows),
                Arg::I32(d_inner),
                Arg::I32(d_conv),
                Arg::I32(d_dbc),
            ],
        )?;
        self.kernels.launch_for(
            &self.device,
            "mixer_scan_update",
            sizes,
            launch::mixer_scan_update(rows, d_inner),
            &[
                op.xz.arg(),
                room.u.arg(),
                room.partials.arg(),
                linear(op.dt_proj),
                op.dt_proj_bias.arg(),
                op.a2.arg(),
                op.d.arg(),
                op.ssm_state.arg(),
                op.y.arg(),
                Arg::I32(rows),
                Arg::I32(d_inner),
                Arg::I32(d_state),
                Arg::I32(dt_rank),
                Arg::I32(d_inner.div_ceil(MIXER_SLICE)),
            ],
        )
    }

    fn copy(&self, from: &CudaBuffer, range: Range<usize>, to: &mut CudaBuffer, at: usize) -> Result<()> {
        if from.dtype != to.dtype {
            let wanted = "and must be that of the other";
            return Err(Error::Type { op: "copy", what: "the target", found: to.dtype, wanted });
        }
        let width = from.dtype.bytes();
        self.device.copy_range(&from.memory, width * range.start, &to.memory, width * at, width * range.len())
    }
}
