use std::ops::Range;

use crate::ops::{MixerUpdate, SampleTokens};
use crate::{Backend, Result};

/// A backend that can also generate: tokens stay on the device from one step to the next, and a step
/// that launches the same work each time may be recorded once and replayed.
pub trait Decode: Backend {
    /// What a recorded step is replayed from.
    type Tape: Send;
    /// The current token of every lane, and those drawn since they were last taken.
    type Draws: Send;

    /// A tape without a recording.
    fn tape(&self) -> Self::Tape;

    /// Runs a step. It must launch the same ops on the same buffers each time: what a tape recorded is
    /// replayed, and `step` then not called.
    ///
    /// # Errors
    /// When an op fails.
    fn run_step(&self, tape: &mut Self::Tape, step: impl FnMut() -> Result<()>) -> Result<()>;

    /// Room for `lanes` lanes, and for `steps` draws of each before they must be taken.
    ///
    /// # Errors
    /// When the device has no room.
    fn draws(&self, lanes: usize, steps: usize) -> Result<Self::Draws>;

    /// Lanes.
    fn lanes(&self, draws: &Self::Draws) -> usize;

    /// Sets the current token of every lane, and how many each has drawn so far; forgets draws that
    /// were not taken.
    ///
    /// # Errors
    /// When there is not one token a lane, or the device fails.
    fn set_draws(&self, draws: &mut Self::Draws, ids: &[u32], position: u64) -> Result<()>;

    /// The draws of the last `steps` steps, (steps, lanes), which are all since the last call.
    ///
    /// # Errors
    /// When the device fails.
    fn take_draws(&self, draws: &mut Self::Draws, steps: usize) -> Result<Vec<u32>>;

    /// `out[i] = table[current token of lane i]`.
    ///
    /// # Errors
    /// When shapes disagree.
    fn embed_draws(
        &self,
        draws: &Self::Draws,
        table: &Self::Buffer,
        vocab: usize,
        d_model: usize,
        out: &mut Self::Buffer,
    ) -> Result<()>;

    /// Draws the next token of every lane.
    ///
    /// # Errors
    /// When shapes disagree.
    fn sample_tokens(&self, op: SampleTokens<'_, Self>) -> Result<()>;

    /// One step of a mixer for many sequences.
    ///
    /// # Errors
    /// When shapes disagree.
    fn mixer_update(&self, op: MixerUpdate<'_, Self>) -> Result<()>;

    /// Copies values of one buffer to another of the same type, without the host.
    ///
    /// # Errors
    /// When a range leaves its buffer, or the types differ.
    fn copy(&self, from: &Self::Buffer, range: Range<usize>, to: &mut Self::Buffer, at: usize) -> Result<()>;
}
