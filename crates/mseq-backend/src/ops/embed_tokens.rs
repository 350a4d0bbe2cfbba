use crate::error::at_least;
use crate::{Backend, Error, Result};

/// `out[i] = table[ids[i]]`.
pub struct EmbedTokens<'a, B: Backend> {
    /// Token ids on the host, one a row.
    pub ids: &'a [u32],
    /// (vocab, d_model).
    pub table: &'a B::Buffer,
    /// Rows of the table.
    pub vocab: usize,
    /// Width of a row.
    pub d_model: usize,
    /// (rows, d_model).
    pub out: &'a mut B::Buffer,
}

impl<B: Backend> EmbedTokens<'_, B> {
    /// # Errors
    /// When a buffer is too short or an id is not in the table.
    pub fn check(&self, backend: &B) -> Result<()> {
        const OP: &str = "embed_tokens";
        at_least(OP, "table", backend.len(self.table), self.vocab * self.d_model)?;
        at_least(OP, "out", backend.len(self.out), self.ids.len() * self.d_model)?;
        match self.ids.iter().find(|&&id| id as usize >= self.vocab) {
            Some(&id) => Err(Error::OutOfRange {
                op: OP,
                what: "a token id",
                found: id as usize,
                wanted: "which is not a row of the embedding",
            }),
            None => Ok(()),
        }
    }
}
