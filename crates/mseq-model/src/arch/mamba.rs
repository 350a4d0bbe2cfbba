use mseq_backend::ops::{CausalConv1dFwd, LinearFwd, Norm, NormFwd, ScanShape, SelectiveScanFwd};
use mseq_backend::{Backend, LaneSpan, Result as OpResult, Rows, RowsMut};
use mseq_core::DType;

use super::front::{FrontEnd, FrontRoom, Input};
use crate::checkpoint::NormWeights;
use crate::config::{MambaShape, MixerShape};
use crate::{Checkpoint, Result};

/// A norm on a device.
pub(super) struct NormOn<B: Backend> {
    weight: B::Buffer,
    bias: Option<B::Buffer>,
}

impl<B: Backend> NormOn<B> {
    fn upload(backend: &B, host: &NormWeights) -> OpResult<Self> {
        let bias = host.bias.as_deref().map(|b| backend.upload(b)).transpose()?;
        Ok(Self { weight: backend.upload(&host.weight)?, bias })
    }

    pub(super) fn get(&self) -> Norm<'_, B> {
        match &self.bias {
            None => Norm::Rms { weight: &self.weight },
            Some(bias) => Norm::Layer { weight: &self.weight, bias },
        }
    }
}

pub(super) struct Block<B: Backend> {
    /// Pruning leaves each block its own.
    pub(super) shape: MixerShape,
    pub(super) norm: NormOn<B>,
    pub(super) in_proj: B::Linear,
    pub(super) in_proj_bias: Option<B::Buffer>,
    pub(super) conv1d: B::Buffer,
    pub(super) conv1d_bias: Option<B::Buffer>,
    pub(super) x_proj: B::Linear,
    pub(super) dt_proj: B::Linear,
    pub(super) dt_proj_bias: B::Buffer,
    /// (d_inner, d_state): -exp(A_log) * log2(e).
    pub(super) a2: B::Buffer,
    pub(super) d: B::Buffer,
    pub(super) out_proj: B::Linear,
    pub(super) out_proj_bias: Option<B::Buffer>,
}

/// A Mamba-1 model on a device (Gu and Dao 2023, figure 3; block and backbone of `mamba_ssm`).
///
/// Per block: `residual += mixer(norm(residual))`, starting from what the front end gives (a row of
/// the embedding, a frame of samples); at the end
/// `norm_f(residual)`. The residual stream is f32.
pub struct Mamba<B: Backend> {
    shape: MambaShape,
    pub(super) eps: f32,
    pub(super) front: FrontEnd<B>,
    pub(super) blocks: Vec<Block<B>>,
    pub(super) norm_f: NormOn<B>,
}

/// The recurrent state of `slots` sequences: per block, `conv_state` (slots, d_inner, d_conv - 1)
/// and `ssm_state` (slots, d_inner, d_state), f32.
pub struct MambaState<B: Backend> {
    pub(super) slots: usize,
    pub(super) conv: Vec<B::Buffer>,
    pub(super) ssm: Vec<B::Buffer>,
}

/// Activations of one step; grows to the longest step seen and is used again.
///
/// The residual stream and dt are f32: the one adds up over all blocks, the other goes into an
/// exponent a million times. All that matrix products read has the backend's type.
pub struct Workspace<B: Backend> {
    rows: usize,
    /// (rows, d_model), f32.
    residual: B::Buffer,
    /// (rows, d_model).
    normed: B::Buffer,
    /// (rows, 2 d_inner): x, z.
    xz: B::Buffer,
    /// (rows, d_inner).
    u: B::Buffer,
    /// (rows, dt_rank + 2 d_state): dt, B, C.
    dbc: B::Buffer,
    /// (rows, d_inner), f32; after the last block (rows, d_model), what the final norm gives.
    dt: B::Buffer,
    /// (rows, d_inner).
    y: B::Buffer,
    front: FrontRoom<B>,
}

impl<B: Backend> Workspace<B> {
    fn new(backend: &B, shape: &MambaShape, rows: usize) -> OpResult<Self> {
        Ok(Self {
            rows,
            residual: backend.zeros(rows * shape.d_model)?,
            normed: backend.activations(rows * shape.d_model)?,
            xz: backend.activations(rows * 2 * shape.d_inner)?,
            u: backend.activations(rows * shape.d_inner)?,
            dbc: backend.activations(rows * (shape.dt_rank + 2 * shape.d_state))?,
            dt: backend.zeros(rows * shape.d_inner.max(shape.d_model))?,
            y: backend.activations(rows * shape.d_inner)?,
            front: FrontRoom::new(),
        })
    }

    /// (rows, d_model): where the first hidden states go.
    pub(super) fn residual(&mut self) -> &mut B::Buffer {
        &mut self.residual
    }
}

impl<B: Backend> Mamba<B> {
    /// Reads the weights, block by block, onto a device.
    ///
    /// # Errors
    /// When a tensor can't be read, holds a NaN, or the device has no room.
    pub fn load(backend: &B, checkpoint: &Checkpoint) -> Result<Self> {
        let s = checkpoint.shape;
        let optional = |b: &Option<Vec<f32>>| b.as_deref().map(|b| backend.upload(b)).transpose();
        let mut blocks = Vec::with_capacity(s.n_layer);
        for i in 0..s.n_layer {
            let w = checkpoint.block(i)?;
            let shape = checkpoint.mixer_shape(i);
            let MixerShape { d_inner, d_state, d_conv, dt_rank } = shape;
            // Taps outermost, so that one tap of neighbouring channels is contiguous.
            let mut conv1d = vec![0f32; d_conv * d_inner];
            for (c, taps) in w.conv1d.chunks_exact(d_conv).enumerate() {
                for (k, &v) in taps.iter().enumerate() {
                    conv1d[k * d_inner + c] = v;
                }
            }
            // In f64, so that it is rounded once: the recurrence is sensitive to its decay.
            let decay = |&v: &f32| (-f64::from(v).exp() * std::f64::consts::LOG2_E) as f32;
            let a2: Vec<f32> = w.a_log.iter().map(decay).collect();
            blocks.push(Block {
                shape,
                norm: NormOn::upload(backend, &w.norm)?,
                in_proj: backend.linear(&w.in_proj, 2 * d_inner, s.d_model)?,
                in_proj_bias: optional(&w.in_proj_bias)?,
                conv1d: backend.upload(&conv1d)?,
                conv1d_bias: optional(&w.conv1d_bias)?,
                x_proj: backend.linear(&w.x_proj, dt_rank + 2 * d_state, d_inner)?,
                dt_proj: backend.linear(&w.dt_proj, d_inner, dt_rank)?,
                dt_proj_bias: backend.upload(&w.dt_proj_bias)?,
                a2: backend.upload(&a2)?,
                d: backend.upload(&w.d)?,
                out_proj: backend.linear(&w.out_proj, s.d_model, d_inner)?,
                out_proj_bias: optional(&w.out_proj_bias)?,
            });
        }
        Ok(Self {
            shape: s,
            eps: checkpoint.config.eps,
            front: FrontEnd::load(backend, checkpoint)?,
            norm_f: NormOn::upload(backend, &checkpoint.norm_f()?)?,
            blocks,
        })
    }

    /// Sizes.
    pub fn shape(&self) -> &MambaShape {
        &self.shape
    }

    /// Room for the state of `slots` sequences.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn state(&self, backend: &B, slots: usize) -> Result<MambaState<B>> {
        let each = |width: fn(&MixerShape) -> usize| -> OpResult<Vec<B::Buffer>> {
            let sizes = self.blocks.iter().map(|b| slots * b.shape.d_inner * width(&b.shape));
            sizes.map(|len| backend.zeros(len)).collect()
        };
        Ok(MambaState { slots, conv: each(|s| s.d_conv - 1)?, ssm: each(|s| s.d_state)? })
    }

    /// What turns the input into hidden states.
    pub(super) fn front(&self) -> &FrontEnd<B> {
        &self.front
    }

    /// (vocab, d_model), where the model reads tokens.
    pub fn embedding(&self) -> Option<&B::Buffer> {
        self.front.embedding()
    }

    /// A workspace for steps of up to `rows` rows.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn workspace(&self, backend: &B, rows: usize) -> Result<Workspace<B>> {
        Ok(Workspace::new(backend, &self.shape, rows)?)
    }

    /// Bytes of workspace that one row takes where activations have that type.
    pub fn workspace_bytes_per_row(shape: &MambaShape, dtype: DType) -> usize {
        let &MambaShape { d_model, d_inner, d_state, dt_rank, front, .. } = shape;
        4 * (d_model + d_inner.max(d_model))
            // The front end is f32.
            + 4 * front
            + dtype.bytes() * (d_model + 4 * d_inner + dt_rank + 2 * d_state)
    }

    /// Runs the first `blocks` blocks, and the final norm when `norm_f`, over the rows of all
    /// lanes, and leaves each kept lane's state in its slot.
    ///
    /// Gives (rows, d_model): with `blocks` 0 and no norm that is what the front end gives.
    ///
    /// # Errors
    /// When lanes are broken, an id is outside the vocabulary, the input is of another kind, or the
    /// device fails.
    pub fn forward<'w, 'i>(
        &self,
        backend: &B,
        input: impl Into<Input<'i>>,
        lanes: &[LaneSpan],
        upto: (usize, bool),
        state: &mut MambaState<B>,
        ws: &'w mut Workspace<B>,
    ) -> Result<&'w B::Buffer> {
        let input = input.into();
        let rows = input.rows(lanes);
        self.make_room(backend, rows, ws)?;
        let to = (&mut ws.front, &mut ws.residual);
        self.front.run(backend, input, lanes, self.shape.d_model, to)?;
        self.blocks(backend, lanes, rows, upto, state, ws)
    }

    /// Grows a workspace to `rows` rows.
    pub(super) fn make_room(&self, backend: &B, rows: usize, ws: &mut Workspace<B>) -> Result<()> {
        if rows > ws.rows {
            let front = std::mem::replace(&mut ws.front, FrontRoom::new());
            *ws = Workspace { front, ..Workspace::new(backend, &self.shape, rows)? };
        }
        Ok(())
    }

    /// As [`Mamba::forward`], from the hidden states in the workspace on.
    pub(super) fn blocks<'w>(
        &self,
        backend: &B,
        lanes: &[LaneSpan],
        rows: usize,
        (blocks, norm_f): (usize, bool),
        state: &mut MambaState<B>,
        ws: &'w mut Workspace<B>,
    ) -> Result<&'w B::Buffer> {
        let d_model = self.shape.d_model;
        for (i, block) in self.blocks.iter().take(blocks).enumerate() {
            let (norm, out) = (block.norm.get(), &mut ws.normed);
            backend.norm_fwd(NormFwd { rows, width: d_model, norm, eps: self.eps, x: &ws.residual, out })?;
            self.mixer(
                backend,
                rows,
                lanes,
                block,
                (state.slots, &mut state.conv[i], &mut state.ssm[i]),
                ws,
            )?;
        }
        if !norm_f {
            return Ok(&ws.residual);
        }
        // Into an f32 buffer: no one reads dt any more, and rows leave the device unrounded.
        let (norm, out) = (self.norm_f.get(), &mut ws.dt);
        backend.norm_fwd(NormFwd { rows, width: d_model, norm, eps: self.eps, x: &ws.residual, out })?;
        Ok(&ws.dt)
    }

    /// `residual += out_proj(scan(conv(x)) * silu(z))`, x and z from `in_proj(normed)`.
    fn mixer(
        &self,
        backend: &B,
        rows: usize,
        lanes: &[LaneSpan],
        block: &Block<B>,
        (slots, conv_state, ssm_state): (usize, &mut B::Buffer, &mut B::Buffer),
        ws: &mut Workspace<B>,
    ) -> OpResult<()> {
        let d_model = self.shape.d_model;
        let MixerShape { d_inner, d_state, d_conv, dt_rank } = block.shape;
        let d_dbc = dt_rank + 2 * d_state;
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
        backend.causal_conv1d_fwd(CausalConv1dFwd {
            rows,
            d_inner,
            d_conv,
            slots,
            lanes,
            x: Rows::columns(&ws.xz, 0, 2 * d_inner),
            weight: &block.conv1d,
            bias: block.conv1d_bias.as_ref(),
            conv_state,
            out: &mut ws.u,
        })?;
        backend.linear_fwd(LinearFwd {
            rows,
            in_features: d_inner,
            out_features: d_dbc,
            x: Rows::whole(&ws.u, d_inner),
            weight: &block.x_proj,
            bias: None,
            accumulate: false,
            y: RowsMut { buf: &mut ws.dbc, stride: d_dbc },
        })?;
        backend.linear_fwd(LinearFwd {
            rows,
            in_features: dt_rank,
            out_features: d_inner,
            x: Rows::columns(&ws.dbc, 0, d_dbc),
            weight: &block.dt_proj,
            bias: None,
            accumulate: false,
            y: RowsMut { buf: &mut ws.dt, stride: d_inner },
        })?;
        backend.selective_scan_fwd(SelectiveScanFwd {
            shape: ScanShape { rows, d_inner, d_state, slots },
            lanes,
            u: Rows::whole(&ws.u, d_inner),
            dt: Rows::whole(&ws.dt, d_inner),
            b: Rows::columns(&ws.dbc, dt_rank, d_dbc),
            c: Rows::columns(&ws.dbc, dt_rank + d_state, d_dbc),
            a2: &block.a2,
            d: &block.d,
            dt_bias: &block.dt_proj_bias,
            z: Rows::columns(&ws.xz, d_inner, 2 * d_inner),
            ssm_state,
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
        })
    }
}

impl<B: Backend> MambaState<B> {
    /// Sequences that it has room for.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// `conv_state` and `ssm_state` of each block, all slots, on the host.
    ///
    /// # Errors
    /// When the device fails.
    pub fn download(&self, backend: &B) -> Result<Vec<(Vec<f32>, Vec<f32>)>> {
        let whole = |buf: &B::Buffer| backend.download(buf, 0..backend.len(buf));
        self.conv.iter().zip(&self.ssm).map(|(c, s)| Ok((whole(c)?, whole(s)?))).collect()
    }

    /// Overwrites the state of each block with what [`MambaState::download`] gave.
    ///
    /// # Errors
    /// When a length differs or the device fails.
    pub fn upload(&mut self, backend: &B, host: &[(Vec<f32>, Vec<f32>)]) -> Result<()> {
        for ((conv, ssm), (host_conv, host_ssm)) in self.conv.iter_mut().zip(&mut self.ssm).zip(host) {
            backend.write(conv, 0, host_conv)?;
            backend.write(ssm, 0, host_ssm)?;
        }
        Ok(())
    }
}
