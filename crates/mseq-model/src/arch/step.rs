//! The recurrent form: one token of every lane a step.

use mseq_backend::ops::{LinearFwd, MixerRoom, MixerUpdate, NormFwd};
use mseq_backend::{Decode, Rows, RowsMut};

use super::{HeadState, LmHead, Mamba, MambaState};
use crate::Result;

/// Activations of a step: a row a lane.
pub struct StepWorkspace<B: Decode> {
    rows: usize,
    /// (rows, d_model), f32.
    residual: B::Buffer,
    /// (rows, d_model).
    normed: B::Buffer,
    /// (rows, 2 d_inner).
    xz: B::Buffer,
    /// (rows, d_inner).
    y: B::Buffer,
    room: MixerRoom<B>,
}

impl<B: Decode> Mamba<B> {
    /// Room for a step of `rows` lanes.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn step_workspace(&self, backend: &B, rows: usize) -> Result<StepWorkspace<B>> {
        let s = self.shape();
        Ok(StepWorkspace {
            rows,
            residual: backend.zeros(rows * s.d_model)?,
            normed: backend.activations(rows * s.d_model)?,
            xz: backend.activations(rows * 2 * s.d_inner)?,
            y: backend.activations(rows * s.d_inner)?,
            room: MixerRoom::new(backend, rows, s.d_inner, s.dt_rank + 2 * s.d_state)?,
        })
    }

    /// Takes the current token of every lane one position on, lane i in slot i of `state`, and gives
    /// what the final norm gives: (lanes, d_model), in the backend's type.
    ///
    /// The same values as [`Mamba::forward`] on lanes of one token. The host gives no token and waits
    /// for none, so a step can be recorded.
    ///
    /// # Errors
    /// When there are other numbers of lanes than the workspace has rows and the state slots, or the
    /// device fails.
    pub fn step<'w>(
        &self,
        backend: &B,
        draws: &B::Draws,
        state: &mut MambaState<B>,
        ws: &'w mut StepWorkspace<B>,
    ) -> mseq_backend::Result<&'w B::Buffer> {
        let s = *self.shape();
        let (rows, d_model, d_inner) = (backend.lanes(draws), s.d_model, s.d_inner);
        for (what, found) in [("rows of the workspace", ws.rows), ("slots of the state", state.slots)] {
            if found != rows {
                let wanted = "and must be the number of lanes";
                return Err(mseq_backend::Error::OutOfRange { op: "step", what, found, wanted });
            }
        }
        let Some(table) = self.embedding() else {
            let (what, wanted) = ("rows of the embedding", "but single steps are for models of tokens");
            return Err(mseq_backend::Error::OutOfRange { op: "step", what, found: 0, wanted });
        };
        backend.embed_draws(draws, table, s.vocab, d_model, &mut ws.residual)?;
        for (i, block) in self.blocks.iter().enumerate() {
            let (norm, out) = (block.norm.get(), &mut ws.normed);
            backend.norm_fwd(NormFwd { rows, width: d_model, norm, eps: self.eps, x: &ws.residual, out })?;
            backend.linear_fwd(LinearFwd {
                rows,
                in_features: d_model,
                out_features: 2 * d_inner,
                x: Rows::whole(&ws.normed, d_model),
                weight: &block.in_proj,
                bias: block.in_proj_bias.as_ref(),
                accumulate: false,
                y: RowsMut { buf: &mut ws.xz, stride: 2 * d_inner },
            })?;
            backend.mixer_update(MixerUpdate {
                rows,
                d_inner,
                d_state: s.d_state,
                d_conv: s.d_conv,
                dt_rank: s.dt_rank,
                xz: &ws.xz,
                conv1d: &block.conv1d,
                conv1d_bias: block.conv1d_bias.as_ref(),
                x_proj: &block.x_proj,
                dt_proj: &block.dt_proj,
                dt_proj_bias: &block.dt_proj_bias,
                a2: &block.a2,
                d: &block.d,
                conv_state: &mut state.conv[i],
                ssm_state: &mut state.ssm[i],
                room: &mut ws.room,
                y: &mut ws.y,
            })?;
            backend.linear_fwd(LinearFwd {
                rows,
                in_features: d_inner,
                out_features: d_model,
                x: Rows::whole(&ws.y, d_inner),
                weight: &block.out_proj,
                bias: block.out_proj_bias.as_ref(),
                accumulate: true,
                y: RowsMut { buf: &mut ws.residual, stride: d_model },
            })?;
        }
        let (norm, out) = (self.norm_f.get(), &mut ws.normed);
        backend.norm_fwd(NormFwd { rows, width: d_model, norm, eps: self.eps, x: &ws.residual, out })?;
        Ok(&ws.normed)
    }
}

impl<B: Decode> MambaState<B> {
    /// Copies the state of one sequence from another set of slots, without the host.
    ///
    /// # Errors
    /// When a slot does not exist or the device fails.
    pub fn copy_slot(&mut self, backend: &B, from: &Self, slot: usize, to: usize) -> Result<()> {
        let own = self.slots;
        let pairs = self.conv.iter_mut().zip(&from.conv).chain(self.ssm.iter_mut().zip(&from.ssm));
        for (into, of) in pairs {
            let width = backend.len(of) / from.slots.max(1);
            debug_assert_eq!(width, backend.len(into) / own.max(1));
            backend.copy(of, slot * width..(slot + 1) * width, into, to * width)?;
        }
        Ok(())
    }
}

impl<B: Decode> MambaState<B> {
    /// Copies the state of every slot of a state that has as many.
    ///
    /// # Errors
    /// When it has others or the device fails.
    pub fn copy_all(&mut self, backend: &B, from: &Self) -> Result<()> {
        let pairs = self.conv.iter_mut().zip(&from.conv).chain(self.ssm.iter_mut().zip(&from.ssm));
        for (into, of) in pairs {
            backend.copy(of, 0..backend.len(of), into, 0)?;
        }
        Ok(())
    }
}

impl<B: Decode> LmHead<B> {
    /// Logits of `rows` rows of what [`Mamba::step`] gave, to (rows, vocab) f32.
    ///
    /// # Errors
    /// When a buffer is too short or the device fails.
    pub fn logits(
        &self,
        backend: &B,
        rows: usize,
        x: &B::Buffer,
        logits: &mut B::Buffer,
    ) -> mseq_backend::Result<()> {
        backend.linear_fwd(LinearFwd {
            rows,
            in_features: self.d_model(),
            out_features: self.vocab(),
            x: Rows::whole(x, self.d_model()),
            weight: self.weight(),
            bias: None,
            accumulate: false,
            y: RowsMut { buf: logits, stride: self.vocab() },
        })
    }
}

impl<B: Decode> HeadState<B> {
    /// Copies the last row of one sequence from another set of slots, without the host.
    ///
    /// # Errors
    /// When a slot does not exist or the device fails.
    pub fn copy_slot(&mut self, backend: &B, from: &Self, slot: usize, to: usize) -> Result<()> {
        let width = backend.len(&from.last) / from.slots.max(1);
        Ok(backend.copy(&from.last, slot * width..(slot + 1) * width, &mut self.last, to * width)?)
    }
}
