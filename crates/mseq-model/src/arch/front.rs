use std::ops::Range;

use mseq_backend::ops::{EmbedTokens, LinearFwd};
use mseq_backend::{Backend, LaneSpan, Result as OpResult, Rows, RowsMut};
use mseq_core::DType;

use super::encoder::{Encoder, EncoderRoom};
use crate::{Checkpoint, Encoding, Result};

/// What goes into a model.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// One token id a row.
    Ids(&'a [u32]),
    /// Samples, of which each lane has a range: row t of a lane of N samples is made of samples
    /// [t * hop, t * hop + reach) there, zeros beyond N.
    Samples {
        /// Of all lanes.
        samples: &'a [f32],
        /// One a lane.
        lanes: &'a [Range<usize>],
    },
}

impl<'a> From<&'a [u32]> for Input<'a> {
    fn from(ids: &'a [u32]) -> Self {
        Self::Ids(ids)
    }
}

impl<'a> From<&'a Vec<u32>> for Input<'a> {
    fn from(ids: &'a Vec<u32>) -> Self {
        Self::Ids(ids)
    }
}

impl Input<'_> {
    /// Rows that the model makes of it.
    pub fn rows(&self, lanes: &[LaneSpan]) -> usize {
        match self {
            Self::Ids(ids) => ids.len(),
            Self::Samples { .. } => lanes.last().map_or(0, |lane| lane.rows.end),
        }
    }
}

/// What turns the input into the first hidden states.
pub(super) enum FrontEnd<B: Backend> {
    /// A row of a table for each id.
    Embedding { table: B::Buffer, vocab: usize },
    /// A linear map of `hop` samples.
    Frames { weight: B::Linear, bias: B::Buffer, hop: usize, wide: Option<B> },
    /// Strided convolutions.
    Encoder(Encoder<B>),
}

/// Activations of a front end; grows with the steps.
pub(super) struct FrontRoom<B: Backend> {
    /// Samples with the zeros behind each record's end: on the host, and where the model is.
    frames: Option<(Vec<f32>, B::Buffer)>,
    encoder: Option<EncoderRoom<B>>,
}

impl<B: Backend> FrontRoom<B> {
    pub(super) const fn new() -> Self {
        Self { frames: None, encoder: None }
    }
}

/// Where a front end of samples runs, when `backend` rounds more than f32 does. Samples span many orders
/// of magnitude, a quiet one lies on a bias that is not, and what is normalised later brings all up to one
/// size: rounded to bf16 in the encoder, CleanUMamba's frames are 7 % off over a minute of speech.
pub(super) fn widened<B: Backend>(backend: &B) -> OpResult<Option<B>> {
    match backend.dtype() {
        DType::F32 => Ok(None),
        _ => backend.wide().map(Some),
    }
}

impl<B: Backend> FrontEnd<B> {
    pub(super) fn load(backend: &B, checkpoint: &Checkpoint) -> Result<Self> {
        let d_model = checkpoint.shape.d_model;
        Ok(match checkpoint.audio.as_ref().map(|audio| audio.encoding) {
            None | Some(Encoding::Mulaw8) => Self::Embedding {
                table: backend.upload(&checkpoint.embedding()?)?,
                vocab: checkpoint.shape.vocab,
            },
            Some(Encoding::Frames { hop }) => {
                let wide = widened(backend)?;
                let on = wide.as_ref().unwrap_or(backend);
                Self::Frames {
                    weight: on.linear(&checkpoint.tensor("frame_proj.weight")?, d_model, hop)?,
                    bias: on.upload(&checkpoint.tensor("frame_proj.bias")?)?,
                    hop,
                    wide,
                }
            }
            Some(Encoding::CleanUMamba) => Self::Encoder(Encoder::load(backend, checkpoint)?),
        })
    }

    /// The table of token embeddings, where there is one.
    pub(super) fn embedding(&self) -> Option<&B::Buffer> {
        match self {
            Self::Embedding { table, .. } => Some(table),
            _ => None,
        }
    }

    /// Writes the first hidden states of all lanes to `out`, (rows, d_model).
    pub(super) fn run(
        &self,
        backend: &B,
        input: Input<'_>,
        lanes: &[LaneSpan],
        d_model: usize,
        (room, out): (&mut FrontRoom<B>, &mut B::Buffer),
    ) -> OpResult<()> {
        let refuse = |what, found| mseq_backend::Error::OutOfRange {
            op: "front",
            what,
            found,
            wanted: "and the model reads something else",
        };
        match (self, input) {
            (&Self::Embedding { ref table, vocab }, Input::Ids(ids)) => {
                backend.embed_tokens(EmbedTokens { ids, table, vocab, d_model, out })
            }
            (
                &Self::Frames { ref weight, ref bias, hop, ref wide },
                Input::Samples { samples, lanes: of_lanes },
            ) => {
                let backend = wide.as_ref().unwrap_or(backend);
                let rows = input.rows(lanes);
                let (padded, x) = match &mut room.frames {
                    Some((padded, x)) if padded.len() >= rows * hop => (padded, x),
                    small => {
                        // The old one is let go first.
                        *small = None;
                        let (padded, x) =
                            small.insert((vec![0.0; rows * hop], backend.activations(rows * hop)?));
                        (padded, x)
                    }
                };
                let padded = &mut padded[..rows * hop];
                padded.fill(0.0);
                for (lane, range) in lanes.iter().zip(of_lanes) {
                    let from = samples.get(range.clone()).unwrap_or_default();
                    let to = &mut padded[lane.rows.start * hop..lane.rows.end * hop];
                    let len = from.len().min(to.len());
                    to[..len].copy_from_slice(&from[..len]);
                }
                backend.write(x, 0, padded)?;
                backend.linear_fwd(LinearFwd {
                    rows,
                    in_features: hop,
                    out_features: d_model,
                    x: Rows::whole(x, hop),
                    weight,
                    bias: Some(bias),
                    accumulate: false,
                    y: RowsMut { buf: out, stride: d_model },
                })
            }
            (Self::Encoder(encoder), Input::Samples { samples, lanes: of_lanes }) => {
                let pieces: Vec<(usize, &[f32])> = lanes
                    .iter()
                    .zip(of_lanes)
                    .map(|(lane, range)| (lane.rows.len(), samples.get(range.clone()).unwrap_or_default()))
                    .collect();
                let on = encoder.device(backend);
                let room = encoder.room(on, &mut room.encoder, &pieces)?;
                encoder.encode(on, &pieces, room)?;
                let ids: Vec<u32> = encoder.places(&pieces).flatten().map(|at| at as u32).collect();
                room.frames(backend, &ids, d_model, out)
            }
            (_, Input::Ids(ids)) => Err(refuse("the number of token ids", ids.len())),
            (_, Input::Samples { samples, .. }) => Err(refuse("the number of samples", samples.len())),
        }
    }
}
