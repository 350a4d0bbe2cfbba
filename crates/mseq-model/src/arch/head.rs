use mseq_backend::ops::NllFwd;
use mseq_backend::{Backend, LaneSpan};

use crate::{Checkpoint, Result};

/// The language-model head on a device: hidden states to a likelihood of the next token.
pub struct LmHead<B: Backend> {
    weight: B::Linear,
    vocab: usize,
    d_model: usize,
}

/// The last hidden state of each of several sequences: what the first token of the next chunk is
/// predicted from. (slots, d_model), f32.
pub struct HeadState<B: Backend> {
    pub(super) last: B::Buffer,
    pub(super) slots: usize,
}

impl<B: Backend> LmHead<B> {
    /// Reads the head of a model onto a device.
    ///
    /// # Errors
    /// When the model has none, it can't be read, or the device has no room.
    pub fn load(backend: &B, checkpoint: &Checkpoint) -> Result<Self> {
        let (vocab, d_model) = (checkpoint.shape.vocab, checkpoint.shape.d_model);
        let weight = backend.linear(&checkpoint.lm_head()?, vocab, d_model)?;
        Ok(Self { weight, vocab, d_model })
    }

    /// (vocab, d_model), as [`Backend::linear_fwd`] takes it: for logits of a few rows.
    pub fn weight(&self) -> &B::Linear {
        &self.weight
    }

    /// Width of a row.
    pub fn d_model(&self) -> usize {
        self.d_model
    }

    /// Tokens that it predicts.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// Room for `slots` sequences.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn state(&self, backend: &B, slots: usize) -> Result<HeadState<B>> {
        Ok(HeadState { last: backend.zeros(slots * self.d_model)?, slots })
    }

    /// Negative log-likelihood, in nats, of each of `ids` given all to its left in its lane; 0 for
    /// the first of a fresh lane, which has nothing there.
    ///
    /// `x` is (ids, d_model), what the final norm gives for the same ids and lanes.
    ///
    /// # Errors
    /// When lanes are broken, an id is outside the vocabulary, or the device fails.
    pub fn nll(
        &self,
        backend: &B,
        ids: &[u32],
        lanes: &[LaneSpan],
        x: &B::Buffer,
        state: &mut HeadState<B>,
    ) -> Result<Vec<f32>> {
        Ok(backend.nll_fwd(NllFwd {
            rows: ids.len(),
            d_model: self.d_model,
            vocab: self.vocab,
            slots: state.slots,
            ids,
            lanes,
            x,
            weight: &self.weight,
            last: &mut state.last,
        })?)
    }
}

impl<B: Backend> HeadState<B> {
    /// All slots, on the host.
    ///
    /// # Errors
    /// When the device fails.
    pub fn download(&self, backend: &B) -> Result<Vec<f32>> {
        Ok(backend.download(&self.last, 0..backend.len(&self.last))?)
    }

    /// Overwrites it with what [`HeadState::download`] gave.
    ///
    /// # Errors
    /// When the length differs or the device fails.
    pub fn upload(&mut self, backend: &B, host: &[f32]) -> Result<()> {
        Ok(backend.write(&mut self.last, 0, host)?)
    }
}
