use crate::error::at_least;
use crate::sampling::Sampling;
use crate::{Decode, Result};

/// Draws the next token of every lane from its logits, and makes it the lane's current one.
pub struct SampleTokens<'a, B: Decode> {
    /// Tokens of a row.
    pub vocab: usize,
    /// (lanes, vocab), f32.
    pub logits: &'a B::Buffer,
    /// (vocab), f32, added to the logits: minus infinity for a token that may not be drawn.
    pub bias: Option<&'a B::Buffer>,
    /// How.
    pub sampling: Sampling,
    /// Number of the first lane: lane i draws as lane `first_lane + i` of all.
    pub first_lane: u32,
    /// The lanes' tokens.
    pub draws: &'a mut B::Draws,
}

impl<B: Decode> SampleTokens<'_, B> {
    /// # Errors
    /// When a buffer is too short.
    pub fn check(&self, backend: &B) -> Result<()> {
        const OP: &str = "sample_tokens";
        at_least(OP, "vocab", self.vocab, 1)?;
        at_least(OP, "logits", backend.len(self.logits), backend.lanes(self.draws) * self.vocab)?;
        match self.bias {
            Some(bias) => at_least(OP, "bias", backend.len(bias), self.vocab),
            None => Ok(()),
        }
    }
}
