use std::ops::Range;

use mseq_backend::ops::{EmbedTokens, GluFwd, LinearFwd, StridedConv1dFwd, strided_conv1d_weight};
use mseq_backend::{Backend, Result as OpResult, Rows, RowsMut};

use super::front::widened;
use crate::{Checkpoint, Result, UNetShape};

/// A matrix with its bias.
pub(super) struct Affine<B: Backend> {
    pub(super) weight: B::Linear,
    pub(super) bias: B::Buffer,
}

impl<B: Backend> Affine<B> {
    /// A 1 x 1 convolution, (outputs, inputs, 1) in the checkpoint.
    pub(super) fn load(
        backend: &B,
        checkpoint: &Checkpoint,
        name: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<Self> {
        let weight = checkpoint.tensor(&format!("{name}.weight"))?;
        Ok(Self {
            weight: backend.linear(&weight, outputs, inputs)?,
            bias: backend.upload(&checkpoint.tensor(&format!("{name}.bias"))?)?,
        })
    }

    /// `y = W x + b`, or added to y, for whole rows.
    pub(super) fn run(
        &self,
        backend: &B,
        rows: usize,
        (x, inputs): (&B::Buffer, usize),
        (y, outputs): (&mut B::Buffer, usize),
        accumulate: bool,
    ) -> OpResult<()> {
        backend.linear_fwd(LinearFwd {
            rows,
            in_features: inputs,
            out_features: outputs,
            x: Rows::whole(x, inputs),
            weight: &self.weight,
            bias: Some(&self.bias),
            accumulate,
            y: RowsMut { buf: y, stride: outputs },
        })
    }
}

/// One level: convolution, ReLU, 1 x 1 convolution, GLU.
struct Down<B: Backend> {
    conv: B::Linear,
    conv_bias: B::Buffer,
    gate: Affine<B>,
}

/// The encoder of CleanUMamba (Groot et al. 2025): samples to frames, each level a stride shorter.
///
/// All lanes go through as one sequence. A lane of n frames has (n + slack) * hop samples there, zeros
/// where it has none of its own: then each level has a whole number of rows a lane, every valid row
/// sees its own lane alone, and the few rows between two lanes are never looked at.
pub(super) struct Encoder<B: Backend> {
    shape: UNetShape,
    d_model: usize,
    levels: Vec<Down<B>>,
    out: Affine<B>,
    /// Where it runs, if not where the blocks do.
    wide: Option<B>,
}

/// Activations of an encoder.
pub(super) struct EncoderRoom<B: Backend> {
    /// Frames that there is room for, slack included.
    frames: usize,
    /// Samples with the zeros between lanes, on the host.
    padded: Vec<f32>,
    samples: B::Buffer,
    conv: B::Buffer,
    wide: B::Buffer,
    /// What each level gives: input of the next, and of the decoder.
    pub(super) skips: Vec<B::Buffer>,
    /// (frames, d_model), f32.
    out: B::Buffer,
    of_step: usize,
}

impl<B: Backend> EncoderRoom<B> {
    /// Picks frames by their places.
    pub(super) fn frames(
        &self,
        backend: &B,
        places: &[u32],
        d_model: usize,
        out: &mut B::Buffer,
    ) -> OpResult<()> {
        backend.embed_tokens(EmbedTokens { ids: places, table: &self.out, vocab: self.of_step, d_model, out })
    }
}

impl<B: Backend> Encoder<B> {
    pub(super) fn load(backend: &B, checkpoint: &Checkpoint) -> Result<Self> {
        let shape = checkpoint.unet()?.clone();
        let d_model = checkpoint.shape.d_model;
        let wide = widened(backend)?;
        let backend = wide.as_ref().unwrap_or(backend);
        let mut levels = Vec::new();
        let mut inputs = 1;
        for (i, level) in shape.encoder.iter().enumerate() {
            let conv = checkpoint.tensor(&format!("encoder.{i}.0.weight"))?;
            let conv = strided_conv1d_weight(&conv, inputs, shape.taps);
            levels.push(Down {
                conv: backend.linear(&conv, level.inner, shape.taps * inputs)?,
                conv_bias: backend.upload(&checkpoint.tensor(&format!("encoder.{i}.0.bias"))?)?,
                gate: Affine::load(
                    backend,
                    checkpoint,
                    &format!("encoder.{i}.2"),
                    2 * level.out,
                    level.inner,
                )?,
            });
            inputs = level.out;
        }
        let out = Affine::load(backend, checkpoint, "tsfm_conv1", d_model, inputs)?;
        Ok(Self { shape, d_model, levels, out, wide })
    }

    /// Where it runs: what its rooms are made on.
    pub(super) fn device<'b>(&'b self, backend: &'b B) -> &'b B {
        self.wide.as_ref().unwrap_or(backend)
    }

    /// Where the frames of each lane lie among all, by lanes of so many frames.
    pub(super) fn places<'a>(
        &self,
        pieces: &'a [(usize, &[f32])],
    ) -> impl Iterator<Item = Range<usize>> + use<'a, B> {
        let slack = self.shape.slack();
        let mut at = 0;
        pieces.iter().map(move |&(frames, _)| {
            let from = at;
            at += frames + slack;
            from..from + frames
        })
    }

    /// Room for lanes of so many frames.
    pub(super) fn room<'r>(
        &self,
        backend: &B,
        room: &'r mut Option<EncoderRoom<B>>,
        pieces: &[(usize, &[f32])],
    ) -> OpResult<&'r mut EncoderRoom<B>> {
        let frames = pieces.iter().map(|(frames, _)| frames + self.shape.slack()).sum();
        if room.as_ref().is_none_or(|had| had.frames < frames) {
            // The old one is let go first.
            *room = None;
            let s = &self.shape;
            let rows = |i: usize| frames * s.rows_a_frame(i + 1);
            let levels = || s.encoder.iter().enumerate();
            let most = |widths: &mut dyn Iterator<Item = usize>| widths.max().unwrap_or(0);
            let conv = most(&mut levels().map(|(i, level)| rows(i) * level.inner));
            let wide = most(&mut levels().map(|(i, level)| rows(i) * 2 * level.out));
            let skips = levels().map(|(i, level)| backend.activations(rows(i) * level.out));
            *room = Some(EncoderRoom {
                frames,
                padded: vec![0.0; frames * s.hop()],
                samples: backend.activations(frames * s.hop())?,
                conv: backend.activations(conv)?,
                wide: backend.activations(wide)?,
                skips: skips.collect::<OpResult<_>>()?,
                out: backend.zeros(frames * self.d_model)?,
                of_step: 0,
            });
        }
        match room {
            Some(room) => {
                room.of_step = frames;
                Ok(room)
            }
            None => Err(mseq_backend::Error::Device {
                device: backend.name(),
                message: "an encoder without room".into(),
            }),
        }
    }

    /// Runs all levels over lanes of (frames, samples).
    pub(super) fn encode(
        &self,
        backend: &B,
        pieces: &[(usize, &[f32])],
        room: &mut EncoderRoom<B>,
    ) -> OpResult<()> {
        let s = &self.shape;
        let hop = s.hop();
        let padded = &mut room.padded[..room.of_step * hop];
        padded.fill(0.0);
        for (&(frames, samples), place) in pieces.iter().zip(self.places(pieces)) {
            let to = &mut padded[place.start * hop..(place.start + frames + s.slack()) * hop];
            let len = samples.len().min(to.len());
            to[..len].copy_from_slice(&samples[..len]);
        }
        backend.write(&mut room.samples, 0, padded)?;
        let mut inputs = 1;
        for (i, (down, level)) in self.levels.iter().zip(&s.encoder).enumerate() {
            let all = room.of_step * s.rows_a_frame(i + 1);
            // The taps of the last rows would reach beyond the last sample: these rows are slack.
            let rows = all.saturating_sub((s.taps - s.stride).div_ceil(s.stride));
            let (before, rest) = room.skips.split_at_mut(i);
            let (x, out) = match (before.last(), rest.first_mut()) {
                (Some(x), Some(out)) => (x, out),
                (None, Some(out)) => (&room.samples, out),
                (_, None) => continue,
            };
            backend.strided_conv1d_fwd(StridedConv1dFwd {
                rows,
                in_channels: inputs,
                out_channels: level.inner,
                taps: s.taps,
                stride: s.stride,
                x,
                weight: &down.conv,
                bias: &down.conv_bias,
                relu: true,
                y: &mut room.conv,
            })?;
            let wide = (&mut room.wide, 2 * level.out);
            down.gate.run(backend, rows, (&room.conv, level.inner), wide, false)?;
            backend.glu_fwd(GluFwd { rows, width: level.out, x: &room.wide, out })?;
            inputs = level.out;
        }
        let Some(last) = room.skips.last() else { return Ok(()) };
        self.out.run(backend, room.of_step, (last, inputs), (&mut room.out, self.d_model), false)
    }
}
