use mseq_backend::ops::{GluFwd, TransposedConv1dFwd, transposed_conv1d_weight};
use mseq_backend::{Backend, LaneSpan};

use super::encoder::{Affine, EncoderRoom};
use super::front::FrontEnd;
use super::mamba::{Mamba, MambaState, Workspace};
use crate::{Checkpoint, Error, Result, UNetShape};

/// One level: 1 x 1 convolution, GLU, transposed convolution, ReLU but after the last.
struct Up<B: Backend> {
    gate: Affine<B>,
    conv: B::Linear,
    conv_bias: B::Buffer,
}

/// The whole of CleanUMamba: encoder, Mamba blocks, decoder with a sum from each encoder level.
pub struct Denoiser<B: Backend> {
    model: Mamba<B>,
    shape: UNetShape,
    join: Affine<B>,
    levels: Vec<Up<B>>,
}

/// What a denoiser carries from step to step.
pub struct DenoiserState<B: Backend> {
    mamba: MambaState<B>,
    /// Hidden states of the last frames, which the next samples still hang on.
    tail: Vec<f32>,
    workspace: Workspace<B>,
    room: Option<EncoderRoom<B>>,
    decoder: Option<DecoderRoom<B>>,
}

/// Activations of a decoder.
struct DecoderRoom<B: Backend> {
    frames: usize,
    hidden: B::Buffer,
    wide: B::Buffer,
    narrow: B::Buffer,
    up: B::Buffer,
    /// f32: what leaves the device is not rounded.
    samples: B::Buffer,
}

impl<B: Backend> Denoiser<B> {
    /// Reads all weights onto a device.
    ///
    /// # Errors
    /// [`Error::NoDecoder`] for a model of another family; when a tensor can't be read or the device
    /// has no room.
    pub fn load(backend: &B, checkpoint: &Checkpoint) -> Result<Self> {
        let shape = checkpoint.unet()?.clone();
        let model = Mamba::load(backend, checkpoint)?;
        // The decoder runs where the encoder does, whose levels it adds.
        let backend = match model.front() {
            FrontEnd::Encoder(encoder) => encoder.device(backend),
            _ => backend,
        };
        let d_model = checkpoint.shape.d_model;
        let deepest = shape.encoder.last().map_or(0, |level| level.out);
        let join = Affine::load(backend, checkpoint, "tsfm_conv2", deepest, d_model)?;
        let mut levels = Vec::new();
        let mut inputs = deepest;
        for (j, level) in shape.decoder.iter().enumerate() {
            let conv = checkpoint.tensor(&format!("decoder.{j}.2.weight"))?;
            let bias = checkpoint.tensor(&format!("decoder.{j}.2.bias"))?.repeat(shape.stride);
            let sizes = (shape.taps, shape.stride);
            let conv = transposed_conv1d_weight(&conv, (level.inner, level.out), sizes);
            let reach = shape.taps / shape.stride;
            levels.push(Up {
                gate: Affine::load(backend, checkpoint, &format!("decoder.{j}.0"), 2 * level.inner, inputs)?,
                conv: backend.linear(&conv, shape.stride * level.out, reach * level.inner)?,
                conv_bias: backend.upload(&bias)?,
            });
            inputs = level.out;
        }
        Ok(Self { model, shape, join, levels })
    }

    /// Widths, taps, stride.
    pub fn shape(&self) -> &UNetShape {
        &self.shape
    }

    /// The state at the start of a recording.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn state(&self, backend: &B) -> Result<DenoiserState<B>> {
        Ok(DenoiserState {
            mamba: self.model.state(backend, 1)?,
            tail: Vec::new(),
            workspace: self.model.workspace(backend, 0)?,
            room: None,
            decoder: None,
        })
    }

    /// Frames before the next one that [`Denoiser::run`] wants the samples of.
    pub fn behind(&self, state: &DenoiserState<B>) -> usize {
        state.tail.len() / self.model.shape().d_model.max(1)
    }

    /// Denoises the next `frames` frames of a recording.
    ///
    /// `samples` begin [`Denoiser::behind`] frames before the first of these and reach to the end of
    /// the last, or to the end of the recording. Gives the samples from the first frame's start on: the
    /// `frames * hop` that do not hang on later frames, and after them those that are right when the
    /// recording ends here.
    ///
    /// # Errors
    /// When the device fails.
    pub fn run(
        &self,
        backend: &B,
        samples: &[f32],
        frames: usize,
        state: &mut DenoiserState<B>,
    ) -> Result<Vec<f32>> {
        let FrontEnd::Encoder(encoder) = self.model.front() else {
            return Err(Error::NoDecoder { model: "the model".into() });
        };
        let (d_model, behind) = (self.model.shape().d_model, self.behind(state));
        let all = behind + frames;
        if frames == 0 {
            return Ok(Vec::new());
        }
        let pieces = [(all, samples)];
        let wide = encoder.device(backend);
        let room = encoder.room(wide, &mut state.room, &pieces)?;
        encoder.encode(wide, &pieces, room)?;
        let places: Vec<u32> = (behind..all).map(|at| at as u32).collect();
        self.model.make_room(backend, frames, &mut state.workspace)?;
        room.frames(backend, &places, d_model, state.workspace.residual())?;
        let lane = LaneSpan { rows: 0..frames, fresh: behind == 0, slot: Some(0) };
        let whole = (self.model.shape().n_layer, true);
        let hidden =
            self.model.blocks(backend, &[lane], frames, whole, &mut state.mamba, &mut state.workspace)?;
        let mut rows = std::mem::take(&mut state.tail);
        rows.extend(backend.download(hidden, 0..frames * d_model)?);
        let out = self.decode(wide, &rows, all, &mut room.skips, &mut state.decoder)?;
        let keep = self.shape.behind().min(all);
        state.tail = rows.split_off((all - keep) * d_model);
        Ok(out[behind * self.shape.hop()..].to_vec())
    }

    /// (frames, d_model) and what the encoder's levels gave, to samples.
    fn decode(
        &self,
        backend: &B,
        hidden: &[f32],
        frames: usize,
        skips: &mut [B::Buffer],
        room: &mut Option<DecoderRoom<B>>,
    ) -> Result<Vec<f32>> {
        let s = &self.shape;
        let d_model = self.model.shape().d_model;
        if room.as_ref().is_none_or(|room| room.frames < frames) {
            *room = None;
            // Rows of a level's input: those of the encoder's level beside it.
            let rows = |j: usize| s.rows(s.decoder.len() - j, frames);
            let levels = || s.decoder.iter().enumerate();
            let most = |widths: &mut dyn Iterator<Item = usize>| widths.max().unwrap_or(0);
            let narrow = most(&mut levels().map(|(j, level)| rows(j) * level.inner));
            let up = most(&mut levels().map(|(j, level)| rows(j + 1) * level.out));
            *room = Some(DecoderRoom {
                frames,
                hidden: backend.activations(frames * d_model)?,
                wide: backend.activations(2 * narrow)?,
                narrow: backend.activations(narrow)?,
                up: backend.activations(up)?,
                samples: backend.zeros(s.rows(0, frames))?,
            });
        }
        let (Some(room), Some(deepest)) = (room, s.encoder.last()) else { return Ok(Vec::new()) };
        backend.write(&mut room.hidden, 0, hidden)?;
        let mut skips = skips.iter_mut().rev();
        let Some(first) = skips.next() else { return Ok(Vec::new()) };
        self.join.run(backend, frames, (&room.hidden, d_model), (first, deepest.out), true)?;
        let mut inputs = deepest.out;
        for (j, (up, level)) in self.levels.iter().zip(&s.decoder).enumerate() {
            let rows = s.rows(s.decoder.len() - j, frames);
            let x = if j == 0 { &*first } else { &room.up };
            up.gate.run(backend, rows, (x, inputs), (&mut room.wide, 2 * level.inner), false)?;
            backend.glu_fwd(GluFwd { rows, width: level.inner, x: &room.wide, out: &mut room.narrow })?;
            let add = skips.next().map(|skip| &*skip);
            backend.transposed_conv1d_fwd(TransposedConv1dFwd {
                rows,
                in_channels: level.inner,
                out_channels: level.out,
                taps: s.taps,
                stride: s.stride,
                x: &room.narrow,
                weight: &up.conv,
                bias: &up.conv_bias,
                relu: add.is_some(),
                add,
                y: if add.is_some() { &mut room.up } else { &mut room.samples },
            })?;
            inputs = level.out;
        }
        Ok(backend.download(&room.samples, 0..s.rows(0, frames))?)
    }
}
